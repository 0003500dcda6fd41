package specfile

import (
	"strings"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/specfile/document"
)

const hintRequire = "write tpm, sgx, tdx or snp, or {level: tpm, measurements: [pcr7=HEX], evidence_age: 10m}"

// verifyBy reads how many nodes run each task and must agree.
func (r *reader) verifyBy(spec *workload.Spec) func(*document.Node) {
	return func(n *document.Node) {
		var text string
		before := len(r.errs)
		if r.text("verify_by", 16, &text)(n); len(r.errs) > before {
			return
		}
		by, err := workload.ParseVerifyBy(text)
		if err != nil {
			r.fail(n.Pos, "write 2of3, or adaptive:2of3", "%s", strings.Replace(err.Error(), "verify-by", "verify_by", 1))
			return
		}
		spec.VerifyBy = by
	}
}

// require reads what nodes must prove: a level, or a map of level, measurements
// and how old evidence may be.
func (r *reader) require(spec *workload.Spec) func(*document.Node) {
	return func(n *document.Node) {
		want, level, fresh := &workload.Require{MaxAge: workload.DefaultEvidenceAge.Milliseconds()}, "", false
		switch n.Kind {
		case document.String:
			level = n.Text
		case document.Map:
			r.fields(n, "of require", map[string]func(*document.Node){
				"level":        r.text("level", 8, &level),
				"measurements": r.texts("measurements", workload.MaxRequired, &want.Measurements),
				"evidence_age": r.duration("evidence_age", workload.MaxEvidenceAge, &want.MaxAge),
				"fresh":        r.flag("fresh", &fresh),
			})
		default:
			r.fail(n.Pos, hintRequire, "require: want a level, got %s", n.Kind)
			return
		}
		if fresh {
			want.MaxAge = 0
		}
		want.Level = workload.Level(level)
		if err := want.Validate(); err != nil {
			r.fail(n.Pos, hintRequire, "%s", err)
		}
		spec.Require = want
	}
}
