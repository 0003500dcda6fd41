package ledger

import (
	"testing"

	"github.com/perrin-mesh/perrin/workload"
)

// TestAnIDIsThatOfItsSpec has a leader take a workload on under the ID of another spec:
// an award of it would be held against that other spec.
func TestAnIDIsThatOfItsSpec(t *testing.T) {
	r := testRules()
	r.IDOf = func(cell workload.CellID, s workload.Signed) workload.ID {
		if cell != testCell || s.By != peer("alice") {
			t.Errorf("asked for a spec of %s in cell %s", s.By, cell)
		}
		return loadID("job")
	}
	w := &world{State: New(r)}
	w.found(t, "n1")
	if res := w.accept("other", "alice", nil); res.Reject == nil || res.Reject.Code != BadSpec || w.live != 0 {
		t.Errorf("under another ID: %v", res.Reject)
	}
	if res := w.accept("job", "alice", nil); res.Reject != nil || res.ID != loadID("job") {
		t.Errorf("under its own: %v", res.Reject)
	}
}
