package ledger

import (
	"testing"

	"github.com/perrin-mesh/perrin/workload"
)

// TestOverdue: a slot is overdue an hour after all that it holds could have run
// into its timeout, counted from the award, its last close, or who asks.
func TestOverdue(t *testing.T) {
	const hour, timeout = 3_600_000, 5000
	for _, class := range []workload.Class{workload.Core, workload.Spare} {
		w := newWorld()
		w.found(t, "n1")
		w.accept("w", "alice", func(s *workload.Spec) {
			s.Tasks.Count, s.Timeout, s.MaxParallel, s.Resources.Class = 5, timeout, 1, class
		})
		award := w.apply(func(c *Command) { c.Award = awardTo(loadID("w"), 1, 3, 5, "n1") })
		if award.Reject != nil {
			t.Fatal(award.Reject)
		}
		slot, at := award.Slots[0], award.At
		late := func(node string, now, from int64) bool {
			refs := w.Overdue(peer(node), now, from)
			if len(refs) > 1 || len(refs) == 1 && refs[0] != (SlotRef{loadID("w"), slot.Slot, peer(node)}) {
				t.Errorf("%+v are overdue", refs)
			}
			return len(refs) > 0
		}
		if late("n1", at+hour+3*timeout, 0) || late("n2", at+99*hour, 0) || late("n1", at+99*hour, at+98*hour) {
			t.Errorf("%s: overdue too early", class)
		}
		if late("n1", at+hour+3*timeout+1, 0) != (class == workload.Core) {
			t.Errorf("%s: three tasks are out for three timeouts and an hour", class)
		}
		closed := w.apply(func(c *Command) {
			c.Close = &Close{Workload: loadID("w"), Slot: slot.Slot, Fence: slot.Fence, Segment: segmentRef(1), Done: []workload.Range{{Count: 1, Attempt: 1}}}
		})
		if closed.Reject != nil {
			t.Fatal(closed.Reject)
		}
		if at = closed.At; late("n1", at+hour+2*timeout, 0) || late("n1", at+hour+2*timeout+1, 0) != (class == workload.Core) {
			t.Errorf("%s: after a close", class)
		}
	}
}
