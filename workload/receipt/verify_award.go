package receipt

import (
	"fmt"
	"slices"

	"github.com/perrin-mesh/perrin/workload"
)

// bids: each is its bidder's, for its auction.
func (c *check) bids() (string, error) {
	n := 0
	for i := range c.rec.Awards {
		if _, err := c.openBids(i); err != nil {
			return "", err
		}
		n += len(c.rec.Awards[i].Bids)
	}
	return fmt.Sprintf("%s in %s, each signed by its bidder", workload.Counted(n, "bid"), workload.Counted(len(c.rec.Awards), "auction")), nil
}

func (c *check) openBids(i int) ([]workload.Bid, error) {
	a := &c.rec.Awards[i]
	out := make([]workload.Bid, len(a.Bids))
	for j, signed := range a.Bids {
		bid, err := c.rules.OpenBid(signed)
		if err != nil {
			return nil, fmt.Errorf("award %d, bid %d: %w", i, j, err)
		}
		if bid.Auction != workload.AuctionID(a.Auction) {
			return nil, fmt.Errorf("award %d, bid %d: made for another auction", i, j)
		}
		if bid.Workload != c.rec.Workload {
			return nil, fmt.Errorf("award %d, bid %d: made for another workload", i, j)
		}
		out[j] = bid
	}
	return out, nil
}

// clearing: the bids and scores give the slots that were cleared.
func (c *check) clearing() (string, error) {
	if c.specErr != nil {
		return "", c.specErr
	}
	seen := map[Auction]bool{}
	for i := range c.rec.Awards {
		a := &c.rec.Awards[i]
		switch {
		case len(a.Scores) != len(a.Bids):
			return "", fmt.Errorf("award %d: %d scores for %d bids", i, len(a.Scores), len(a.Bids))
		case a.MaxPrice != c.spec.MaxPrice:
			return "", fmt.Errorf("award %d: cleared at a limit of %d, the owner's is %d", i, a.MaxPrice, c.spec.MaxPrice)
		case seen[a.Auction]:
			return "", fmt.Errorf("award %d: its auction is there twice", i)
		}
		seen[a.Auction] = true
		if err := c.rules.Replay(c.rec.Workload, a); err != nil {
			return "", fmt.Errorf("award %d: %w", i, err)
		}
	}
	if len(c.rec.Awards) == 0 {
		return "no auction gave a slot", nil
	}
	return "the recorded bids and scores give the same winners and prices: the cheapest won", nil
}

// award: the slots that returned results were awarded before, to the nodes that
// ran them, at those rates.
func (c *check) award() (string, error) {
	awards := c.rec.Awards
	for i := range awards {
		a := &awards[i]
		switch {
		case int(a.Granted) > len(a.Slots) || a.Granted == 0 || a.First == 0:
			return "", fmt.Errorf("award %d: %d slots given from %d on, %d cleared", i, a.Granted, a.First, len(a.Slots))
		case a.At < c.rec.Accepted:
			return "", fmt.Errorf("award %d: decided before the workload was accepted", i)
		case i > 0 && (a.At < awards[i-1].At || a.Index <= awards[i-1].Index || a.First < awards[i-1].First+workload.SlotID(awards[i-1].Granted)):
			return "", fmt.Errorf("award %d: out of order", i)
		}
	}
	missing := 0
	for i := range c.file.Segments {
		g := &c.file.Segments[i]
		a, slot, ok := c.awarded(g.Slot)
		switch {
		case !ok && c.rec.Dropped > 0:
			missing++
		case !ok:
			return "", fmt.Errorf("segment %d: no award of slot %d", i, g.Slot)
		case slot.Node != g.Node:
			return "", fmt.Errorf("segment %d: slot %d was awarded to %s, and %s ran it", i, g.Slot, c.name(slot.Node), c.name(g.Node))
		case slot.Rate != g.Rate:
			return "", fmt.Errorf("segment %d: slot %d was awarded at %d, and paid at %d", i, g.Slot, slot.Rate, g.Rate)
		case g.At < a.At:
			return "", fmt.Errorf("segment %d: slot %d returned results before it was awarded", i, g.Slot)
		}
	}
	if missing > 0 {
		return "", lacking("the awards of %d of %d segments are not kept: the cell dropped the %d oldest", missing, len(c.file.Segments), c.rec.Dropped)
	}
	return fmt.Sprintf("%s to %s", workload.Counted(c.slots(), "slot"), c.names(c.nodes())), nil
}

func (c *check) slots() (n uint32) {
	for i := range c.rec.Awards {
		n += c.rec.Awards[i].Granted
	}
	return n
}

// awarded returns the award of a slot and what it said of it.
func (c *check) awarded(slot workload.SlotID) (*Award, workload.AwardSlot, bool) {
	i, found := slices.BinarySearchFunc(c.rec.Awards, slot, func(a Award, s workload.SlotID) int {
		switch {
		case s < a.First:
			return 1
		case uint64(s) >= uint64(a.First)+uint64(a.Granted):
			return -1
		}
		return 0
	})
	if !found {
		return nil, workload.AwardSlot{}, false
	}
	a := &c.rec.Awards[i]
	if at := int(slot - a.First); at < len(a.Slots) {
		return a, a.Slots[at], true
	}
	return nil, workload.AwardSlot{}, false
}

// cell: a majority of the voters made the same record from their own ledgers, of
// those that the user gave too.
func (c *check) cell() (string, error) {
	if len(c.rec.Voters) == 0 {
		return "", fmt.Errorf("the statement names no voters")
	}
	var agree []workload.PeerID
	for _, s := range c.file.Signatures {
		if slices.Contains(c.rec.Voters, s.KeyID) && !slices.Contains(agree, s.KeyID) {
			agree = append(agree, s.KeyID)
		}
	}
	if len(agree)*2 <= len(c.rec.Voters) {
		return "", fmt.Errorf("%d of the cell's %d voters signed it, which is no majority", len(agree), len(c.rec.Voters))
	}
	if len(c.opt.Voters) == 0 {
		return "", lacking("%d of %s made the same statement: %s; that these were the cell's voters is the file's own word: give --voters",
			len(agree), workload.Counted(len(c.rec.Voters), "voter"), c.names(agree))
	}
	if err := c.amongGiven(c.rec.Voters); err != nil {
		return "", err
	}
	if err := c.majorityGiven(agree, "signed it"); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d of the cell's %s made the same statement from their own ledgers: %s", len(agree), workload.Counted(len(c.rec.Voters), "voter"), c.names(agree)), nil
}
