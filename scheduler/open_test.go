package scheduler

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/perrin-mesh/perrin/workload"
)

// TestRankIsAsIfAllWereSorted compares whom a lot calls and whom its notes name
// with a full sort.
func TestRankIsAsIfAllWereSorted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := NewDesk(DefaultConfig(), workload.PeerID{}, workload.CellID{}, 1)
		var fit []candidate
		for i := range rapid.IntRange(0, 90).Draw(t, "nodes") {
			e := &entry{}
			e.offer.Node[0] = byte(i * 37)
			fit = append(fit, candidate{entry: e, slots: rapid.Uint32Range(1, 3).Draw(t, "slots"), floor: rapid.Int64Range(0, 9).Draw(t, "floor")})
		}
		wanted := rapid.Uint32Range(1, 40).Draw(t, "wanted")
		sorted := slices.Clone(fit)
		slices.SortFunc(sorted, cheaper)
		want := d.choose(sorted, wanted)
		got := d.rank(fit, wanted)
		named := min(want+maxNotCalled, len(fit))
		if got != want || !slices.Equal(fit[:named], sorted[:named]) {
			t.Errorf("%d wanted of %d nodes: %d are called, a full sort calls %d", wanted, len(fit), got, want)
		}
	})
}

// TestOneIdleRuleIsKept wants lots that come one after another to find what the
// desk knew of their machines, and no more rules than that to stay.
func TestOneIdleRuleIsKept(t *testing.T) {
	d := NewDesk(DefaultConfig(), workload.PeerID{}, workload.CellID{}, 1)
	lot := Lot{Shape: workload.DefaultResources(), Kind: workload.Process, Wanted: 1}
	want := func(id byte, where string, n uint32) {
		lot.Workload.Random[0], lot.Where, lot.Wanted = id, where, n
		d.Step(1, Input{Lot: &lot})
	}
	want(1, "", 1)
	first := d.rules[keyOf(&lot).rule]
	want(1, "", 0)
	want(2, "", 1)
	if d.rules[keyOf(&lot).rule] != first {
		t.Error("the rule was made again")
	}
	want(2, "", 0)
	for i := range byte(9) {
		want(10+i, `arch == "`+string('a'+rune(i))+`"`, 1)
		want(10+i, `arch == "`+string('a'+rune(i))+`"`, 0)
	}
	if len(d.rules) != 1 {
		t.Errorf("%d rules stay", len(d.rules))
	}
}
