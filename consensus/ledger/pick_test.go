package ledger

import (
	"fmt"
	"slices"
	"testing"
)

// An award looks at each open replica once a node, however many slots it has, and
// not at all for a node that asked in vain before.
func TestLooksAreBounded(t *testing.T) {
	const tasks = 10_000
	w := verified(t, "5of9", tasks, 0, "a1", "b1", "c1")
	given := 0
	for k, max := range []uint64{4096, 8192, 5 * tasks, 5 * tasks} {
		before := w.looked
		given += len(w.award(slices.Repeat([]string{"a1"}, 4096)...).Slots)
		if looks := w.looked - before; looks > max {
			t.Errorf("award %d: %d looks, want at most %d", k, looks, max)
		}
	}
	if given != tasks {
		t.Errorf("a1 got %d replicas, want one of each of %d tasks", given, tasks)
	}
	id := loadID("a")
	slots, _ := w.Workload(id)
	take := func(i int, seq uint32) Result {
		sl := slots.Slots[i]
		return w.apply(func(c *Command) { c.Take = &Take{Workload: id, Slot: sl.ID, Fence: sl.Fence, Count: 1, Seq: seq} })
	}
	before := w.looked
	for i := range 20 {
		if r := take(i, 1); r.Reject != nil || len(r.Ranges) > 0 {
			t.Fatalf("a1 got %v twice, %v", r.Ranges, r.Reject)
		}
	}
	if looks := w.looked - before; looks > 5*tasks {
		t.Errorf("%d looks for one node that asked 20 times, want %d", looks, 4*tasks)
	}
	// What it gives back it may run again.
	last := slots.Slots[25]
	w.apply(func(c *Command) {
		c.Return = &Return{Workload: id, Slot: last.ID, Fence: last.Fence, Ranges: w.loads[id].shown(last.Open)}
	})
	if r := take(0, 2); len(r.Ranges) != 1 {
		t.Errorf("took %v after a replica was returned, %v", r.Ranges, r.Reject)
	}
	w.checkInvariants(t)
}

// However many nodes bid that may run nothing, an award ends.
func TestLooksOfManyNodes(t *testing.T) {
	nodes := []string{"b1"}
	for i := range 30 {
		nodes = append(nodes, fmt.Sprint("a", i))
	}
	w := verified(t, "5of9", 10_000, 0, nodes...)
	for range 3 {
		w.award(slices.Repeat([]string{"a0"}, 4096)...)
	}
	before := w.looked
	r := w.award(append(nodes[1:], "b1")...) // b bid: no other node of a may have what a0 has
	if looks := w.looked - before; looks > maxLooks || r.Reject != nil {
		t.Errorf("%d looks, want at most %d; %v", looks, maxLooks, r.Reject)
	}
	if r = w.award("b1"); len(r.Slots) != 1 {
		t.Errorf("b1 got %v, %v", r.Slots, r.Reject)
	}
}
