package dcap

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/perrin-mesh/perrin/mesh/attest"
	"github.com/perrin-mesh/perrin/workload"
)

// issued is what each document that Intel signs begins with.
type issued struct {
	ID         string    `json:"id"`
	Version    int       `json:"version"`
	Issued     time.Time `json:"issueDate"`
	Next       time.Time `json:"nextUpdate"`
	Evaluation uint32    `json:"tcbEvaluationDataNumber"`
}

// tcbInfo says what each version of the firmware of a kind of machine is worth
// (PCS API version 4, "TCB Info V3").
type tcbInfo struct {
	issued
	FMSPC   string      `json:"fmspc"`
	PCEID   string      `json:"pceId"`
	Type    int         `json:"tcbType"`
	Module  *tdxModule  `json:"tdxModule"`
	Modules []tdxModule `json:"tdxModuleIdentities"`
	Levels  []tcbLevel  `json:"tcbLevels"`
}

// tcbLevel is one version and what it is worth; a document has the newest first.
type tcbLevel struct {
	TCB struct {
		SGX    []component `json:"sgxtcbcomponents"`
		TDX    []component `json:"tdxtcbcomponents"`
		PCESVN int         `json:"pcesvn"`
		ISVSVN int         `json:"isvsvn"` // of enclaves and modules
	} `json:"tcb"`
	Status     string   `json:"tcbStatus"`
	Advisories []string `json:"advisoryIDs"`
}

type component struct {
	SVN int `json:"svn"`
}

// tdxModule says which module of the processor may run TDX machines.
type tdxModule struct {
	ID             string     `json:"id"`
	Signer         hexBytes   `json:"mrsigner"`
	Attributes     hexBytes   `json:"attributes"`
	AttributesMask hexBytes   `json:"attributesMask"`
	Levels         []tcbLevel `json:"tcbLevels"`
}

// identity says which enclave may sign quotes (PCS API version 4, "Enclave Identity V2").
type identity struct {
	issued
	Misc           hexBytes   `json:"miscselect"`
	MiscMask       hexBytes   `json:"miscselectMask"`
	Attributes     hexBytes   `json:"attributes"`
	AttributesMask hexBytes   `json:"attributesMask"`
	Signer         hexBytes   `json:"mrsigner"`
	Product        int        `json:"isvprodid"`
	Levels         []tcbLevel `json:"tcbLevels"`
}

// hexBytes are bytes in hexadecimal digits.
type hexBytes []byte

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *hexBytes) UnmarshalText(b []byte) (err error) {
	*h, err = hex.DecodeString(string(b))
	return err
}

// readSigned checks the signature of a document that came along and reads it into
// to; field is the name of the signed part.
func readSigned(e *attest.Evidence, item, field string, signers chain, to any) error {
	raw := e.Item(item)
	if raw == nil {
		return fmt.Errorf("%w: no %s came along, without which nobody knows what its firmware is worth", attest.ErrStale, item)
	}
	var outer map[string]json.RawMessage
	var signature hexBytes
	if err := json.Unmarshal(raw, &outer); err != nil || len(outer) != 2 {
		return fmt.Errorf("%s: want a document with %s and signature", item, field)
	}
	if err := json.Unmarshal(outer["signature"], &signature); err != nil {
		return fmt.Errorf("%s: its signature does not read", item)
	}
	key, err := signers.key()
	if err != nil {
		return fmt.Errorf("%s: %w", item, err)
	}
	if !signedBy(key, outer[field], signature) {
		return fmt.Errorf("%s: its signature does not verify", item)
	}
	if err := json.Unmarshal(outer[field], to); err != nil {
		return fmt.Errorf("%s: %w", item, err)
	}
	return nil
}

// current checks name, version and dates of a document.
func (d *issued) current(x *attest.Expect, item, id string, version int) error {
	if d.ID != id || d.Version != version {
		return fmt.Errorf("%s is of %.10q version %d, want %q version %d", item, d.ID, d.Version, id, version)
	}
	if err := x.Current(d.Issued, d.Next); err != nil {
		return fmt.Errorf("%s: %w", item, err)
	}
	return nil
}

// errNoLevel is returned when a version is below all that a document lists.
var errNoLevel = errors.New("is older than every version that Intel lists")

// level finds what a machine's firmware is worth: the first that is not above it.
// tdx is the TD report's version of the module and firmware, or nil.
func (t *tcbInfo) level(p *platform, tdx []byte) (*tcbLevel, error) {
	for i := range t.Levels {
		l := &t.Levels[i]
		if len(l.TCB.SGX) != 16 || tdx != nil && len(l.TCB.TDX) != 16 {
			return nil, errors.New("TCB information has a level that does not read")
		}
		if p.reaches(l) && (tdx == nil || reachesTDX(l, tdx)) {
			if tdx != nil && tdx[1] == 0 && l.TCB.TDX[1].SVN != 0 {
				return nil, errors.New("TCB information is not for this version of the TDX module")
			}
			return l, nil
		}
	}
	return nil, fmt.Errorf("its firmware %w", errNoLevel)
}

func (p *platform) reaches(l *tcbLevel) bool {
	for i, c := range l.TCB.SGX {
		if p.svn[i] < c.SVN {
			return false
		}
	}
	return p.pceSVN >= l.TCB.PCESVN
}

// reachesTDX compares a TD's versions. Of a module of version 1 and later the
// first two are the module's own, which its identity judges.
func reachesTDX(l *tcbLevel, tdx []byte) bool {
	from := 0
	if tdx[1] > 0 {
		from = 2
	}
	for i := from; i < 16; i++ {
		if int(tdx[i]) < l.TCB.TDX[i].SVN {
			return false
		}
	}
	return true
}

// judged finds what a version of an enclave or module is worth.
func judged(levels []tcbLevel, svn int) (*tcbLevel, error) {
	for i := range levels {
		if svn >= levels[i].TCB.ISVSVN {
			return &levels[i], nil
		}
	}
	return nil, errNoLevel
}

// module finds what the TDX module is worth, whose identity must be Intel's. A
// module of version 0 is judged with the platform, and has no level of its own.
func (t *tcbInfo) module(g guest) (*tcbLevel, error) {
	version := g.tcb()[1]
	m := t.Module
	if version > 0 {
		m = nil
		for i := range t.Modules {
			if strings.EqualFold(t.Modules[i].ID, fmt.Sprintf("TDX_%02X", version)) {
				m = &t.Modules[i]
			}
		}
	}
	if m == nil {
		return nil, fmt.Errorf("TCB information does not know version %d of the TDX module", version)
	}
	if !bytes.Equal(m.Signer, g.moduleSigner()) || !masked(g.moduleAttribs(), m.AttributesMask, m.Attributes) {
		return nil, errors.New("its TDX module is not Intel's")
	}
	if version == 0 {
		return nil, nil
	}
	l, err := judged(m.Levels, int(g.tcb()[0]))
	if err != nil {
		return nil, fmt.Errorf("its TDX module %w", err)
	}
	return l, nil
}

// masked reports whether what a mask leaves of has is want.
func masked(has, mask, want []byte) bool {
	if len(mask) != len(has) || len(want) != len(has) {
		return false
	}
	for i := range has {
		if has[i]&mask[i] != want[i] {
			return false
		}
	}
	return true
}

// level checks that an enclave is the one, and finds what its version is worth.
func (d *identity) level(e enclave) (*tcbLevel, error) {
	switch {
	case !bytes.Equal(d.Signer, e.mrSigner()) || d.Product != int(e.product()):
		return nil, errors.New("the enclave that signed the quote is not Intel's quoting enclave")
	case !masked(e.miscSelect(), d.MiscMask, d.Misc) || !masked(e.attributes(), d.AttributesMask, d.Attributes):
		return nil, errors.New("the enclave that signed the quote does not run as Intel's quoting enclave does: is it in debug mode?")
	}
	l, err := judged(d.Levels, int(e.version()))
	if err != nil {
		return nil, fmt.Errorf("the quoting enclave %w", err)
	}
	return l, nil
}

// judge grades what Intel says of one part, and notes its advisories.
func judge(f *attest.Finding, p *attest.IntelPolicy, kind workload.Level, part string, l *tcbLevel) {
	take := p.Status
	if len(take) == 0 {
		take = attest.DefaultStatus
	}
	if len(l.Advisories) > 0 {
		f.Note("Intel's advisories on its %s: %s", part, strings.Join(l.Advisories[:min(len(l.Advisories), 16)], ", "))
	}
	for _, s := range take {
		if s != l.Status {
			continue
		}
		if s != "UpToDate" && f.Trust.Hardware < attest.HardwareFlawed {
			f.Trust.Hardware = attest.HardwareFlawed
		}
		return
	}
	f.Trust.Hardware = attest.HardwareRefused
	f.Fail("its %s is %.40s, and the policy takes %s (%s.status)", part, l.Status, strings.Join(take, ", "), kind)
}
