package scheduler

import (
	"errors"
	"strings"
	"testing"

	"github.com/perrin-mesh/perrin/workload"
)

// TestReplay: an award that the clearing gives is taken, and each change to it is not.
func TestReplay(t *testing.T) {
	auction := workload.AuctionID{1}
	bids := map[byte]workload.Bid{}
	award := func() *Award {
		a := &Award{Auction: auction, Wanted: 2, MaxPrice: 5000}
		var open []workload.Bid
		for n := byte(1); n <= 3; n++ {
			bids[n] = workload.Bid{Auction: auction, Node: workload.PeerID{n}, Asks: []int64{1000 * int64(n)}}
			open = append(open, bids[n])
			a.Bids = append(a.Bids, workload.Signed{By: workload.PeerID{n}})
			a.Scores = append(a.Scores, workload.Score{})
		}
		a.Slots = Clear(a.Wanted, a.MaxPrice, open, a.Scores)
		return a
	}
	open := func(s workload.Signed) (workload.Bid, error) {
		b, ok := bids[s.By[0]]
		if !ok {
			return b, errors.New("a forged bid")
		}
		return b, nil
	}
	for name, c := range map[string]struct {
		change func(*Award)
		want   string // of the error; "" is none
	}{
		"as cleared":       {func(*Award) {}, ""},
		"a dearer friend":  {func(a *Award) { a.Slots[0].Node = workload.PeerID{3} }, "slot 0: the clearing gives"},
		"a better price":   {func(a *Award) { a.Slots[1].Rate++ }, "slot 1: the clearing gives"},
		"one slot more":    {func(a *Award) { a.Slots = append(a.Slots, a.Slots[0]) }, "gives 2 slots, the award 3"},
		"a score left out": {func(a *Award) { a.Scores = a.Scores[:2] }, "3 bids, 2 scores"},
		"a forged bid":     {func(a *Award) { a.Bids[1].By = workload.PeerID{9} }, "a forged bid"},
		"a bid hidden":     {func(a *Award) { a.Bids[1] = a.Bids[0] }, "bids twice"},
		"another workload": {func(a *Award) { a.Workload.Random[0] = 1 }, "for another workload"},
		"another auction":  {func(a *Award) { a.Auction = workload.AuctionID{2} }, "for another auction"},
	} {
		a := award()
		c.change(a)
		err := Replay(a, open, Clear)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
