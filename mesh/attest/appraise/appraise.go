// Package appraise picks the verifier of a piece of evidence and holds what
// came along against what was expected. It is pure.
package appraise

import (
	"github.com/perrin-mesh/perrin/mesh/attest"
	"github.com/perrin-mesh/perrin/mesh/attest/dcap"
	"github.com/perrin-mesh/perrin/mesh/attest/snp"
	"github.com/perrin-mesh/perrin/mesh/attest/tpm"
	"github.com/perrin-mesh/perrin/workload"
)

// Appraise says what evidence proves. It returns an appraisal in any case; one
// that proves nothing says why.
func Appraise(e *attest.Evidence, x *attest.Expect) *workload.Appraisal {
	switch e.Kind {
	case workload.LevelTPM:
		return tpm.Verify(e, x)
	case workload.LevelSNP:
		return snp.Verify(e, x)
	case workload.LevelSGX, workload.LevelTDX:
		return dcap.Verify(e, x)
	}
	f := attest.Begin(e, x)
	f.Fail("evidence of kind %.10q has no verifier here", e.Kind)
	return f.End()
}
