package dcap

import (
	"crypto/x509"

	"github.com/perrin-mesh/perrin/mesh/attest"
	"github.com/perrin-mesh/perrin/workload"
)

// VerifyBelow is Verify with another root than Intel's. It is for tests of what lies
// around the verifier, whose made-up machines have a maker of their own; a test of the
// repository keeps it out of production code.
func VerifyBelow(e *attest.Evidence, x *attest.Expect, root *x509.Certificate) *workload.Appraisal {
	f := attest.Begin(e, x)
	verify(f, e, x, root, x.Binding.ReportData())
	return f.End()
}
