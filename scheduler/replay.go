package scheduler

import (
	"errors"
	"fmt"

	"github.com/perrin-mesh/perrin/workload"
)

// Clearing decides a lot, as Clear does.
type Clearing func(wanted uint32, maxPrice int64, bids []workload.Bid, scores []workload.Score) []workload.AwardSlot

// Replay clears again and returns an error unless an award is what comes out. It is
// pure: every replica does it before it applies the award, and whoever has the award
// can. open reads a bid that is signed, and refuses it when the signature is not its
// node's. Declines of a do not count. An award in which a node bids twice is refused:
// the clearing passes over such a node, so a leader could hide a cheap bid.
func Replay(a *Award, open func(workload.Signed) (workload.Bid, error), clearing Clearing) error {
	if len(a.Scores) != len(a.Bids) {
		return fmt.Errorf("%d bids, %d scores", len(a.Bids), len(a.Scores))
	}
	bids, seen := make([]workload.Bid, len(a.Bids)), make(map[workload.PeerID]bool, len(a.Bids))
	for i, signed := range a.Bids {
		bid, err := open(signed)
		if err != nil {
			return err
		}
		if bid.Auction != a.Auction {
			return errors.New("a bid is for another auction")
		}
		if bid.Workload != a.Workload {
			return errors.New("a bid is for another workload")
		}
		if seen[bid.Node] {
			return fmt.Errorf("%s bids twice", bid.Node.Short())
		}
		seen[bid.Node], bids[i] = true, bid
	}
	slots := clearing(a.Wanted, a.MaxPrice, bids, a.Scores)
	if len(slots) != len(a.Slots) {
		return fmt.Errorf("the clearing gives %d slots, the award %d", len(slots), len(a.Slots))
	}
	for i := range slots {
		if slots[i] != a.Slots[i] {
			return fmt.Errorf("slot %d: the clearing gives %s at %d, the award %s at %d", i,
				slots[i].Node.Short(), slots[i].Rate, a.Slots[i].Node.Short(), a.Slots[i].Rate)
		}
	}
	return nil
}
