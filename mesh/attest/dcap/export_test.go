package dcap

import (
	"crypto/x509"

	"github.com/perrin-mesh/perrin/mesh/attest"
	"github.com/perrin-mesh/perrin/workload"
)

// VerifyOf is Verify with a test's root, or with nil Intel's, and where data is
// not nil, with that report data instead of the binding's.
func VerifyOf(e *attest.Evidence, x *attest.Expect, data *[64]byte, root *x509.Certificate) *workload.Appraisal {
	if root == nil {
		var err error
		if root, err = intelRoot(); err != nil {
			panic(err)
		}
	}
	f := attest.Begin(e, x)
	want := x.Binding.ReportData()
	if data != nil {
		want = *data
	}
	verify(f, e, x, root, want)
	return f.End()
}

// RootName names the built-in root.
func RootName() string {
	root, err := intelRoot()
	if err != nil {
		return err.Error()
	}
	return root.Subject.CommonName
}
