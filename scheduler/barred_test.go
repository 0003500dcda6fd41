package scheduler

import (
	"testing"

	"github.com/perrin-mesh/perrin/workload"
)

// A node that a lot bars is not called for it, even when nobody else fits, and no
// other lot of the same shape waits because of that. Once it is barred no more it is.
func TestBarredNodesAreNotCalled(t *testing.T) {
	d := NewDesk(DefaultConfig(), peer("leader"), workload.CellID{1}, 1)
	calls := func(out []Output) (n int) {
		for _, o := range out {
			if o.Call != nil {
				n++
			}
		}
		return n
	}
	in := offerOf(args{plain: []string{"a"}, named: map[string]string{"free": "4"}}, 1)
	d.Step(0, Input{Offer: &in})
	lot := lotOf(args{plain: []string{"v"}}, 1)
	lot.Own, lot.Barred = true, []workload.PeerID{peer("a")}
	if n := calls(d.Step(1, Input{Lot: &lot})); n != 0 {
		t.Errorf("%d calls, all who fit are barred", n)
	}
	round := d.Last(lot.Workload)
	if round == nil || len(round.Declines) != 1 || round.Declines[0].Reasons[0].Code != workload.RanBefore {
		t.Errorf("it waits for no stated reason: %+v", round)
	}
	other := lotOf(args{plain: []string{"w"}}, 2)
	if n := calls(d.Step(2, Input{Lot: &other})); n != 1 {
		t.Errorf("%d calls for another lot", n)
	}
	lot.Barred = nil
	if n := calls(d.Step(3, Input{Lot: &lot})); n != 1 {
		t.Errorf("%d calls once nobody is barred", n)
	}
}
