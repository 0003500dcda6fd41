package ledger

import (
	"reflect"
	"testing"

	"github.com/perrin-mesh/perrin/workload"
)

// TestProspectIsTheLot: what is called for while an ACCEPT is being committed is
// what the workload then wants.
func TestProspectIsTheLot(t *testing.T) {
	for name, edit := range map[string]func(*workload.Spec){
		"one task":    func(*workload.Spec) {},
		"many":        func(s *workload.Spec) { s.Tasks.Count = 70 },
		"few at once": func(s *workload.Spec) { s.Tasks.Count, s.MaxParallel = 70, 4 },
		"verified":    func(s *workload.Spec) { s.Tasks.Count, s.VerifyBy = 5, &workload.VerifyBy{Agree: 2, Of: 3} },
		"verified, few": func(s *workload.Spec) {
			s.Tasks.Count, s.MaxParallel, s.VerifyBy = 5, 3, &workload.VerifyBy{Agree: 2, Of: 3}
		},
		"more than tasks": func(s *workload.Spec) { s.Tasks.Count, s.MaxParallel = 3, 9 },
	} {
		w := newWorld()
		w.found(t, "n1")
		res := w.accept("w", "alice", edit)
		if res.Reject != nil {
			t.Fatalf("%s: %v", name, res.Reject)
		}
		lot, ok := w.Lot(loadID("w"))
		early, now := Prospect(loadID("w"), peer("alice"), lot.Spec, res.At)
		early.Seq = lot.Seq // which only the log knows
		if !ok || !now || !reflect.DeepEqual(early, lot) {
			t.Errorf("%s: %t, %t\nearly %+v\nthen  %+v", name, ok, now, early, lot)
		}
	}
}
