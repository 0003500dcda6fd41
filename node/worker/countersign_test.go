package worker

import (
	"context"
	"crypto/ed25519"
	"slices"
	"strings"
	"testing"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/fuzzpeers"
	"github.com/perrin-mesh/perrin/workload"
)

// cellOf are Leaders that know the voters of every cell.
type cellOf []workload.PeerID

func (c cellOf) Voters(workload.CellID) []workload.PeerID { return c }
func (c cellOf) MayLead(_ workload.CellID, p workload.PeerID) bool {
	return slices.Contains(c, p)
}
func (c cellOf) CallLeader(context.Context, workload.CellID, string, any, any) error { return nil }

// TestWorkerWaitsForAMajority: an award that is to be countersigned begins nothing
// unless a majority of the voters that the worker knows signed what it is given.
func TestWorkerWaitsForAMajority(t *testing.T) {
	var voters cellOf
	var keys []ed25519.PrivateKey
	for i := range 3 {
		keys, voters = append(keys, fuzzpeers.Key(i)), append(voters, fuzzpeers.ID(i))
	}
	self := fuzzpeers.ID(5)
	w := &Worker{cfg: Config{Self: self, Leaders: voters}}
	clearing := &wire.Clearing{Workload: workload.ID{Random: [16]byte{1}}, Auction: workload.AuctionID{2}, Slots: []workload.AwardSlot{
		{Node: self, Rate: 7, Ask: 6}, {Node: fuzzpeers.ID(4), Rate: 9, Ask: 9},
	}}
	sign := func(c *wire.Clearing, by ...int) *wire.Countersigned {
		out := &wire.Countersigned{Slots: c.Slots}
		for _, i := range by {
			payload := wire.MustMarshal(c.Countersign(workload.CellID{3}, voters))
			out.Sigs = append(out.Sigs, workload.Sign(workload.DomainCountersign, payload, keys[i]))
		}
		return out
	}
	award := func(rates ...int64) *wire.AwardMsg {
		m := &wire.AwardMsg{Cell: workload.CellID{3}, Workload: clearing.Workload, Auction: clearing.Auction}
		for i, rate := range rates {
			m.Slots = append(m.Slots, wire.Awarded{Slot: workload.SlotID(i + 1), Rate: rate})
		}
		return m
	}
	other := *clearing
	other.Auction[1]++
	swapped := sign(clearing, 0, 1)
	swapped.Slots = []workload.AwardSlot{{Node: self, Rate: 70, Ask: 6}}
	for name, tt := range map[string]struct {
		award *wire.AwardMsg
		c     *wire.Countersigned
		want  string
	}{
		"two of three":    {award(7), sign(clearing, 0, 2), ""},
		"nothing":         {award(7), nil, "0 of 3"},
		"one of three":    {award(7), sign(clearing, 1), "1 of the cell's 3"},
		"one twice":       {award(7), sign(clearing, 1, 1), "1 of the cell's 3"},
		"another auction": {award(7), sign(&other, 0, 1), "another award"},
		"a better rate":   {award(8), sign(clearing, 0, 1), "none that the voters countersigned"},
		"another's slot":  {award(7, 9), sign(clearing, 0, 1), "none that the voters countersigned"},
		"a slot twice":    {award(7, 7), sign(clearing, 0, 1), "none that the voters countersigned"},
		"slots exchanged": {award(70), swapped, "another award"},
	} {
		err := w.countersigned(tt.award, tt.c)
		if (tt.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	w.cfg.Leaders = cellOf(nil)
	if err := w.countersigned(award(7), sign(clearing, 0, 1)); err == nil {
		t.Error("a worker that knows no voters began")
	}
}
