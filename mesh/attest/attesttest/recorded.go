package attesttest

import (
	"crypto/x509"
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/mesh/attest"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// Recorded is evidence that was once made, with what is needed to appraise it again.
type Recorded struct {
	Note     string            `json:"note"`
	Evidence []byte            `json:"evidence"` // encoded
	Binding  []byte            `json:"binding"`  // encoded
	Root     []byte            `json:"root"`     // the chip's maker, DER
	Files    []workload.Digest `json:"files"`    // those that the machine may run
	At       time.Time         `json:"at"`
}

// Load reads recorded evidence.
func Load(tb testing.TB, path string) *Recorded {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	r := new(Recorded)
	if err := json.Unmarshal(b, r); err != nil {
		tb.Fatal(err)
	}
	return r
}

// Save writes it.
func (r *Recorded) Save(tb testing.TB, path string) {
	tb.Helper()
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(path, append(b, '\n'), 0o600); err != nil {
		tb.Fatal(err)
	}
}

// Open returns the evidence, and what an asker that trusts the maker, lists the files
// and had the chip activated holds it against.
func (r *Recorded) Open(tb testing.TB) (*attest.Evidence, *attest.Expect) {
	tb.Helper()
	e, err := attest.Decode(r.Evidence)
	if err != nil {
		tb.Fatal(err)
	}
	root, err := x509.ParseCertificate(r.Root)
	if err != nil {
		tb.Fatal(err)
	}
	b := new(attest.Binding)
	if err := wire.Unmarshal(r.Binding, b); err != nil {
		tb.Fatal(err)
	}
	p := &attest.Policy{TPMRoots: []*x509.Certificate{root}, TPMFiles: map[workload.Digest]bool{}}
	for _, d := range r.Files {
		p.TPMFiles[d] = true
	}
	return e, &attest.Expect{Binding: b, Policy: p, Now: r.At, Activated: func(attest.Pair) bool { return true }}
}
