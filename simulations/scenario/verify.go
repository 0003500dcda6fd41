package scenario

import (
	"strings"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/specfile/document"
)

// verifyBy reads how many nodes run each task of a stream and must agree: "2of3".
func (r *reader) verifyBy(w *Workloads) field {
	return func(n *document.Node) {
		v, err := workload.ParseVerifyBy(n.Text)
		if err != nil {
			r.fail(n.Pos, "write verify_by: 2of3", "workloads.verify_by: %s", strings.TrimPrefix(err.Error(), "verify-by: "))
			return
		}
		if v.Adaptive {
			r.fail(n.Pos, "write verify_by: 2of3", "workloads.verify_by: the draws of an owner are not simulated, so that every task is checked")
			return
		}
		w.VerifyBy = v
	}
}
