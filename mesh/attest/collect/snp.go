package collect

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"

	"github.com/perrin-mesh/perrin/mesh/attest"
	"github.com/perrin-mesh/perrin/mesh/attest/snp"
	"github.com/perrin-mesh/perrin/workload"
)

// SEVDevice is what a kernel before 6.7 has instead of TSMFolder.
const SEVDevice = "/dev/sev-guest"

// SNP makes reports of the SEV-SNP virtual machine that it runs in.
type SNP struct{ files Files }

// NewSNP returns the source of a machine.
func NewSNP(f Files) *SNP { return &SNP{files: f} }

// Kind implements Source.
func (s *SNP) Kind() workload.Level { return workload.LevelSNP }

// Probe implements Source.
func (s *SNP) Probe() error {
	if by, err := s.provider(); err == nil && by == "sev_guest" {
		return nil
	} else if err != nil && !errors.Is(err, errNoTSM) {
		return fmt.Errorf("whether this is an SEV-SNP machine is not known: %w", err)
	}
	if s.files.SEV == nil {
		return errors.New("no SEV-SNP is configured")
	}
	_, _, err := s.files.SEV([64]byte{})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("this is not an AMD SEV-SNP virtual machine, or its kernel lacks the module sev-guest (neither %s nor %s is there)", TSMFolder, SEVDevice)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("this user may not open %s; run the daemon as root", SEVDevice)
	case err != nil:
		return fmt.Errorf("%s: %w", SEVDevice, err)
	}
	return nil
}

func (s *SNP) provider() (string, error) {
	if s.files.TSM == nil {
		return "", errNoTSM
	}
	return provider(s.files.TSM)
}

// Collect implements Source.
func (s *SNP) Collect(ctx context.Context, b *attest.Binding) (*attest.Evidence, error) {
	report, aux, err := s.report(b.ReportData())
	if err != nil {
		return nil, fmt.Errorf("SEV-SNP report: %w", err)
	}
	e := &attest.Evidence{Version: attest.Version, Kind: workload.LevelSNP, Report: report}
	about, err := snp.Describe(report)
	if err != nil {
		return nil, err
	}
	table := certTable(aux)
	cert, list := table[about.Key], table["crl"]
	if cert == nil {
		if d := s.files.Collateral.get(ctx, about.CertFile(), about.CertURL()); d != nil {
			cert = d.Body
		}
	}
	if cert == nil {
		return nil, fmt.Errorf("the host gave no certificate of the chip's key along, and there is no %s", s.files.Collateral.missing(about.CertFile(), about.CertURL()))
	}
	e.Chain = []attest.Blob{{Data: cert}}
	if d := s.files.Collateral.get(ctx, about.ListFile(), about.ListURL()); d != nil {
		list = d.Body
	}
	if list != nil {
		e.Extra = []attest.Item{{Name: snp.ListItem, Data: list}}
	}
	return e, nil
}

// report asks the folder of reports, or the device where there is none.
func (s *SNP) report(data [64]byte) (report, aux []byte, err error) {
	if s.files.TSM != nil {
		if report, aux, err = tsmReport(s.files.TSM, data); !errors.Is(err, errNoTSM) {
			return report, aux, err
		}
	}
	if s.files.SEV == nil {
		return nil, nil, errNoTSM
	}
	return s.files.SEV(data)
}

// The names of what a host gives along (AMD 56421, the GUIDs of the certificate table).
var tableNames = map[string]string{
	"\x63\xda\x75\x8d\xe6\x64\x45\x64\xad\xc5\xf4\xb9\x3b\xe8\xac\xcd": snp.KeyOfChip,
	"\xa8\x07\x4b\xc2\xa2\x5a\x48\x3e\xaa\xe6\x39\xc0\x45\xa0\xb8\xa1": snp.KeyOfCloud,
	"\x92\xf8\x1b\xc3\x58\x11\x4d\x3d\x97\xff\xd1\x9f\x88\xdc\x67\xea": "crl",
}

// maxTable bounds the entries of a table.
const maxTable = 16

// certTable reads what the host gave along: entries of 16 bytes of name, and
// offset and length of what it is in the same bytes. What does not read is left
// out: the host is not trusted, and can as well send nothing.
func certTable(b []byte) map[string][]byte {
	out := map[string][]byte{}
	for i := range maxTable {
		at := 24 * i
		if at+24 > len(b) || [16]byte(b[at:]) == [16]byte{} {
			break
		}
		from, size := uint64(binary.LittleEndian.Uint32(b[at+16:])), uint64(binary.LittleEndian.Uint32(b[at+20:]))
		if name := tableNames[string(b[at:at+16])]; name != "" && size > 0 && from+size <= uint64(len(b)) && size <= maxCollateral {
			out[name] = b[from : from+size]
		}
	}
	return out
}
