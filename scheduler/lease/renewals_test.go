package lease

import (
	"slices"
	"testing"
)

// TestSlotIsForgottenOnlyAfterAWhile: a node that leaves a slot out of a renewal may
// have its award on the way.
func TestSlotIsForgottenOnlyAfterAWhile(t *testing.T) {
	node, other := peer(1), peer(2)
	r := NewRenewals[int](Config{TTL: 100})
	held := []int{1, 2}
	for i, step := range []struct {
		at          int64
		named, want []int
		other       bool
	}{
		{at: 1000},
		{at: 1100, named: []int{2}},               // 2 has arrived
		{at: 1190, other: true},                   // another node's renewals are another matter
		{at: 1200},                                // 1 is out for 200, 2 since now
		{at: 1201, want: []int{1}},                //
		{at: 1300, named: []int{1}},               // late, and there
		{at: 1401, want: []int{2}},                //
		{at: 1500, named: []int{1, 2}},            //
		{at: 2000},                                // everything anew
		{at: 2100, named: []int{1, 2}},            //
		{at: 2101, named: []int{2}, want: nil},    //
		{at: 2302, named: nil, want: []int{1}},    // since 2101
		{at: 2303, named: []int{1, 2}, want: nil}, //
	} {
		from := node
		if step.other {
			from = other
		}
		if got := r.Read(step.at, from, step.named, held, nil).Forgotten; !slices.Equal(got, step.want) {
			t.Errorf("step %d: forgot %v, want %v", i, got, step.want)
		}
	}
	if r.Read(3000, node, nil, nil, nil); len(r.unnamed.since[node]) != 0 {
		t.Errorf("a node without slots is still noted: %v", r.unnamed.since)
	}
}

func TestReadingSaysWhatANodeHasNot(t *testing.T) {
	got := NewRenewals[int](Default()).Read(0, peer(1), []int{1, 2, 3}, []int{2}, nil)
	if !slices.Equal(got.Gone, []int{1, 3}) {
		t.Errorf("gone are %v, want 1 and 3", got.Gone)
	}
}

// TestWhoIgnoresThatASlotIsOverdue is granted no lease after a while.
func TestWhoIgnoresThatASlotIsOverdue(t *testing.T) {
	r := NewRenewals[int](Config{TTL: 100})
	for _, at := range []int64{0, 100, 200} {
		if got := r.Read(at, peer(1), []int{1}, []int{1}, []int{1}); got.Ignored != nil {
			t.Errorf("at %d: ignored %v, and it was told %d ms ago", at, got.Ignored, at)
		}
	}
	if got := r.Read(201, peer(1), []int{1}, []int{1}, []int{1}); !slices.Equal(got.Ignored, []int{1}) {
		t.Errorf("ignored %v, want 1", got.Ignored)
	}
}
