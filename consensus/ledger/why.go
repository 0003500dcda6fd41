package ledger

import (
	"slices"

	"github.com/perrin-mesh/perrin/workload"
)

// Why explains where a workload, or one of its tasks, is and how it came there.
type Why struct {
	ID       workload.ID    `json:"id"`
	Phase    workload.Phase `json:"phase"`
	Reason   string         `json:"reason,omitempty"`
	Waits    []workload.ID  `json:"waits_for,omitempty"`
	Wanted   uint32         `json:"wanted"` // slots that it could use now
	Task     *Task          `json:"task,omitempty"`
	Steps    []Step         `json:"steps"`    // of a task: its own and the workload's
	Auctions []AuctionView  `json:"auctions"` // the last four, oldest first
	Gone     Gone           `json:"gone"`
}

// Gone is the part of a workload's story that its record no longer has.
type Gone struct {
	Steps   bool   `json:"steps"`   // there were more before the first: a trail keeps the last KeptSteps
	Retries uint64 `json:"retries"` // attempts that were tried again, and that no step tells of
	Results uint64 `json:"results"` // attempts that were tried again, and whose results no segment lists
}

// KeptSteps is how many steps a trail keeps.
const KeptSteps = keptSteps

// forgotten compares what a workload counts with what it lists.
func (l *load) forgotten() Gone {
	g := Gone{Steps: len(l.Steps) > 0 && l.Steps[0].Kind != StepAccepted, Retries: l.Retries, Results: l.Retries}
	for i := range l.Steps {
		if l.Steps[i].Kind == StepRetried {
			g.Retries -= uint64(l.Steps[i].Count)
		}
	}
	for i := range l.Segments {
		for _, r := range l.Segments[i].Retried {
			g.Results -= uint64(r.Count)
		}
	}
	return g
}

// AuctionView is an auction as people read it.
type AuctionView struct {
	At       int64         `json:"at_ms"`
	Index    uint64        `json:"index"`
	Wanted   uint32        `json:"wanted"`
	MaxPrice int64         `json:"max_price"`
	Bids     []BidView     `json:"bids"`
	Winners  []Winner      `json:"winners"`
	Short    uint32        `json:"short,omitempty"` // cleared and not given: too few tasks were open
	Declines []DeclineNote `json:"declines,omitempty"`
}

// BidView is one bid with what the leader added. Asks are empty where the
// Rules have no OpenBid.
type BidView struct {
	Node    workload.PeerID `json:"node"`
	Asks    []int64         `json:"asks,omitempty"`
	StartMs int64           `json:"start_ms,omitempty"`
	Data    int64           `json:"data,omitempty"`
	Speed   int64           `json:"speed,omitempty"` // of the bid's slowest core, permille of its machine's fastest
	Score   Score           `json:"score"`
	Won     uint32          `json:"won"` // slots
}

// Winner is one slot that an auction gave.
type Winner struct {
	Slot workload.SlotID `json:"slot"`
	Node workload.PeerID `json:"node"`
	Rate int64           `json:"rate"`
	Ask  int64           `json:"ask"`
}

// Why explains a workload; false when it is not known.
func (s *State) Why(id workload.ID) (Why, bool) {
	l := s.loads[id]
	if l == nil {
		return Why{}, false
	}
	w := Why{ID: id, Phase: l.Phase, Reason: l.Reason, Waits: s.waitsFor(l), Wanted: l.wanted(), Steps: slices.Clone(l.Steps), Gone: l.forgotten()}
	for i := range l.Auctions {
		w.Auctions = append(w.Auctions, s.viewAuction(&l.Auctions[i]))
	}
	return w, true
}

// WhyTask explains one task; false when it is not known.
func (s *State) WhyTask(id workload.ID, index uint32) (Why, bool) {
	t, ok := s.Task(id, index)
	if !ok {
		return Why{}, false
	}
	w, _ := s.Why(id)
	w.Task = &t
	w.Steps = slices.DeleteFunc(w.Steps, func(step Step) bool { return !step.concerns(index) })
	return w, true
}

// concerns reports whether a step may be about a task: one of its ranges holds
// it, or it has none or not all.
func (t *Step) concerns(index uint32) bool {
	if len(t.Ranges) == 0 || len(t.Ranges) == stepRanges {
		return true
	}
	return slices.ContainsFunc(t.Ranges, func(r workload.Range) bool { return r.From <= index && index < r.End() })
}

// waitsFor returns the workloads that l still waits for.
func (s *State) waitsFor(l *load) []workload.ID {
	if l.Phase != workload.Waiting {
		return nil
	}
	return slices.DeleteFunc(l.after(), func(id workload.ID) bool {
		dep := s.loads[id]
		return dep != nil && dep.Phase == workload.Succeeded
	})
}

func (s *State) viewAuction(a *Auction) AuctionView {
	v := AuctionView{
		At: a.At, Index: a.Index, Wanted: a.Wanted, MaxPrice: a.MaxPrice,
		Short: uint32(len(a.Slots)) - a.Granted, Declines: a.Declines,
	}
	won := map[workload.PeerID]uint32{}
	for i, sl := range a.Slots[:a.Granted] {
		if slices.Contains(a.Skipped, uint32(i)) {
			continue
		}
		v.Winners = append(v.Winners, Winner{a.First + workload.SlotID(i), sl.Node, sl.Rate, sl.Ask})
		won[sl.Node]++
	}
	for i, signed := range a.Bids {
		b := BidView{Node: signed.By, Score: a.Scores[i], Won: won[signed.By]}
		if s.rules.OpenBid != nil {
			if bid, err := s.rules.OpenBid(signed); err == nil {
				b.Asks, b.StartMs, b.Data, b.Speed = bid.Asks, bid.StartMs, bid.Data, bid.Speed
			}
		}
		v.Bids = append(v.Bids, b)
	}
	return v
}
