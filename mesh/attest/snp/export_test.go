package snp

import (
	"github.com/perrin-mesh/perrin/mesh/attest"
	"github.com/perrin-mesh/perrin/workload"
)

// Fake is a maker that a test trusts.
type Fake = Maker

// VerifyOf is Verify with the makers of a test besides AMD, and where data is
// not nil, with that report data instead of the binding's.
func VerifyOf(e *attest.Evidence, x *attest.Expect, data *[64]byte, fakes ...Fake) *workload.Appraisal {
	from, err := makers()
	if err != nil {
		panic(err)
	}
	more, err := parseMakers(fakes)
	if err != nil {
		panic(err)
	}
	from = append(from[:len(from):len(from)], more...)
	f := attest.Begin(e, x)
	want := x.Binding.ReportData()
	if data != nil {
		want = *data
	}
	verify(f, e, x, from, want)
	return f.End()
}

// TCBOf exports tcbOf.
var TCBOf = tcbOf

// MakerNames lists the built-in makers.
func MakerNames(t interface{ Fatal(...any) }) (out []string) {
	all, err := makers()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		out = append(out, m.issuer.Subject.CommonName+"<"+m.root.Subject.CommonName)
	}
	return out
}
