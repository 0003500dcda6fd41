package collect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/perrin-mesh/perrin/mesh/attest"
	"github.com/perrin-mesh/perrin/workload"
)

// The guest devices have never been tried on real hardware by us: they follow
// the kernel's documents and run in tests against files that act as the kernel.

// reportDir is the kernel's one interface to the reports of confidential
// virtual machines (Documentation/ABI/testing/configfs-tsm-report, Linux 6.7).
const reportDir = "sys/kernel/config/tsm/report"

// maxReport bounds what is read of an attribute, in bytes.
const maxReport = 64 << 10

// tsm makes reports through configfs.
type tsm struct {
	root     string
	kind     workload.Level
	provider string // as the kernel names it
	what     string // for people
	collect  func(e *attest.Evidence, out, aux []byte) error
}

func newSNP(f Files) Source {
	return &tsm{root: f.Root, kind: workload.LevelSNP, provider: "sev_guest", what: "an AMD SEV-SNP virtual machine", collect: fillSNP}
}

func newTDX(f Files) Source {
	return &tsm{root: f.Root, kind: workload.LevelTDX, provider: "tdx_guest", what: "an Intel TDX virtual machine", collect: fillTDX}
}

func fillSNP(e *attest.Evidence, out, aux []byte) error {
	e.Report = out
	if len(aux) > 0 {
		e.Extra = append(e.Extra, attest.Item{Name: attest.SNPTable, Data: aux})
	}
	return nil
}

func fillTDX(e *attest.Evidence, out, _ []byte) error {
	e.Report = out
	return nil
}

// Kind implements Source.
func (t *tsm) Kind() workload.Level { return t.kind }

// Probe implements Source.
func (t *tsm) Probe() error {
	_, _, err := t.report(make([]byte, 64))
	return err
}

// Collect implements Source.
func (t *tsm) Collect(_ context.Context, b *attest.Binding) (*attest.Evidence, error) {
	data := b.ReportData()
	out, aux, err := t.report(data[:])
	if err != nil {
		return nil, err
	}
	e := &attest.Evidence{Version: attest.Version, Kind: t.kind}
	return e, t.collect(e, out, aux)
}

// report has the kernel make one: a folder of our own, the data into it, the
// report out of it. The generation tells whether somebody else wrote meanwhile.
func (t *tsm) report(data []byte) (out, aux []byte, err error) {
	parent := filepath.Join(t.root, reportDir)
	if _, err := os.Stat(parent); err != nil {
		return nil, nil, fmt.Errorf("this is not %s, or its kernel is older than 6.7 (%s is missing)", t.what, "/"+reportDir)
	}
	dir, err := os.MkdirTemp(parent, "perrin-")
	if err != nil {
		return nil, nil, fmt.Errorf("ask the kernel for a report: %w", err)
	}
	defer func() { err = errors.Join(err, ignoreMissing(os.Remove(dir))) }()
	provider, err := attribute(dir, "provider")
	if err != nil {
		return nil, nil, err
	}
	if got := strings.TrimSpace(string(provider)); got != t.provider {
		return nil, nil, fmt.Errorf("this is not %s: the kernel's reports are by %.20q", t.what, got)
	}
	if err := os.WriteFile(filepath.Join(dir, "inblob"), data, 0o200); err != nil {
		return nil, nil, fmt.Errorf("ask the kernel for a report: %w", err)
	}
	before, err := attribute(dir, "generation")
	if err != nil {
		return nil, nil, err
	}
	if out, err = attribute(dir, "outblob"); err != nil {
		return nil, nil, err
	}
	aux, _ = attribute(dir, "auxblob") // optional: certificates, where the host gave some
	after, err := attribute(dir, "generation")
	if err != nil {
		return nil, nil, err
	}
	if !bytes.Equal(before, after) {
		return nil, nil, errors.New("somebody else wrote into the report that was asked for")
	}
	return out, aux, nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func attribute(dir, name string) ([]byte, error) {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return nil, fmt.Errorf("ask the kernel for a report: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxReport+1))
	if err != nil || len(b) > maxReport {
		return nil, fmt.Errorf("the kernel's %s: %d bytes: %w", name, len(b), err)
	}
	return b, nil
}

// sgx makes quotes where the daemon itself runs in an enclave whose library
// offers files for it, as Gramine does; the library speaks to Intel's quoting
// service. A process outside of an enclave has nothing to quote.
type sgx struct{ root string }

func newSGX(f Files) Source { return &sgx{root: f.Root} }

const enclaveDir = "dev/attestation"

// Kind implements Source.
func (s *sgx) Kind() workload.Level { return workload.LevelSGX }

// Probe implements Source.
func (s *sgx) Probe() error {
	if _, err := os.Stat(filepath.Join(s.root, enclaveDir, "quote")); err != nil {
		return errors.New("this daemon does not run in an SGX enclave (under Gramine, /dev/attestation would be there)")
	}
	return nil
}

// Collect implements Source.
func (s *sgx) Collect(_ context.Context, b *attest.Binding) (*attest.Evidence, error) {
	data := b.ReportData()
	dir := filepath.Join(s.root, enclaveDir)
	if err := os.WriteFile(filepath.Join(dir, "user_report_data"), data[:], 0o600); err != nil {
		return nil, fmt.Errorf("ask the enclave for a quote: %w", err)
	}
	out, err := attribute(dir, "quote")
	if err != nil {
		return nil, err
	}
	return &attest.Evidence{Version: attest.Version, Kind: workload.LevelSGX, Report: out}, nil
}
