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

// TestReturnsDoNotRestartTheHour: a slot that gives its tasks back and takes
// others has held tasks all the same, but not while it had none.
func TestReturnsDoNotRestartTheHour(t *testing.T) {
	const hour, timeout = 3_600_000, 5000
	w := newWorld()
	w.found(t, "n1")
	w.accept("w", "alice", func(s *workload.Spec) { s.Tasks.Count, s.Timeout, s.MaxParallel = 5, timeout, 1 })
	award := w.apply(func(c *Command) { c.Award = awardTo(loadID("w"), 1, 1, 5, "n1") })
	if award.Reject != nil {
		t.Fatal(award.Reject)
	}
	slot, held, at := award.Slots[0], int64(0), award.At
	do := func(fill func(c *Command)) Result {
		t.Helper()
		r := w.apply(fill)
		if r.Reject != nil {
			t.Fatal(r.Reject)
		}
		return r
	}
	ranges := slot.Ranges
	for range 3 {
		w.at += hour / 4
		back := do(func(c *Command) {
			c.Return = &Return{Workload: loadID("w"), Slot: slot.Slot, Fence: slot.Fence, Ranges: ranges}
		})
		held += back.At - at
		w.at += 10 * hour // with nothing
		took := do(func(c *Command) { c.Take = &Take{Workload: loadID("w"), Slot: slot.Slot, Fence: slot.Fence, Count: 1} })
		ranges, at = took.Ranges, took.At
	}
	end := at - held + hour + timeout
	if late := w.Overdue(peer("n1"), end, 0); len(late) != 0 {
		t.Errorf("overdue too early: %+v", late)
	}
	if late := w.Overdue(peer("n1"), end+1, 0); len(late) != 1 {
		t.Error("whoever gives back and takes again is never overdue")
	}
	closed := do(func(c *Command) {
		c.Close = &Close{Workload: loadID("w"), Slot: slot.Slot, Fence: slot.Fence, Segment: segmentRef(1), Done: ranges}
	})
	took := do(func(c *Command) { c.Take = &Take{Workload: loadID("w"), Slot: slot.Slot, Fence: slot.Fence, Count: 1} })
	if late := w.Overdue(peer("n1"), took.At+hour+timeout, 0); len(late) != 0 || took.At < closed.At {
		t.Errorf("what was held before a close counts: %+v", late)
	}
}
