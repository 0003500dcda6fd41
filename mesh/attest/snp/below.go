package snp

import (
	"strings"

	"github.com/perrin-mesh/perrin/mesh/attest"
	"github.com/perrin-mesh/perrin/workload"
)

// Maker is who signs keys of a product's chips or of clouds, with its root, as PEM.
type Maker struct {
	Product string // such as milan
	Cloud   bool
	PEM     []byte
}

// VerifyBelow is Verify with other makers than AMD. It is for tests of what lies around
// the verifier, whose made-up machines have makers of their own; a test of the repository
// keeps it out of production code.
func VerifyBelow(e *attest.Evidence, x *attest.Expect, makers ...Maker) *workload.Appraisal {
	f := attest.Begin(e, x)
	from, err := parseMakers(makers)
	if err != nil {
		f.Fail("the makers: %v", err)
		return f.End()
	}
	verify(f, e, x, from, x.Binding.ReportData())
	return f.End()
}

func parseMakers(list []Maker) (out []maker, err error) {
	for _, k := range list {
		m := maker{product: strings.ToLower(k.Product)}
		if k.Cloud {
			m.signer = signedByCloud
		}
		if m.issuer, m.root, err = parseMaker(k.PEM); err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}
