package ledger

import (
	"slices"

	"github.com/perrin-mesh/perrin/workload"
)

// award gives slots of a workload to nodes, with their first tasks. It gives
// fewer than it names when fewer tasks are open or max-parallel leaves fewer;
// without any slot it only records the auction for Why.
func (s *State) award(e *entry, c *Award, leader workload.PeerID) *Reject {
	e.res.ID = c.Workload
	l := s.loads[c.Workload]
	switch {
	case l == nil:
		return rejectf(UnknownWorkload, "%s", c.Workload)
	case l.Phase.Ended():
		return rejectf(Ended, "%s has ended as %s", c.Workload, l.Phase)
	case l.Phase == workload.Waiting:
		return rejectf(WaitingFor, "%s waits for %d workloads", c.Workload, l.left)
	case s.bytes > MaxGrown:
		return s.grown()
	case slices.Contains(l.Used, c.Auction):
		return rejectf(AuctionUsed, "%x", c.Auction)
	}
	if rej := s.rules.Check(leader, l.Spec, c); rej != nil {
		return rej
	}
	if l.Spec.Countersign && len(c.Slots) > 0 && s.rules.Countersigned != nil {
		if err := s.rules.Countersigned(s.cell, c); err != nil {
			return rejectf(NotCountersigned, "%v", err)
		}
	}
	if l.verified() {
		s.grantReplicas(e, l, c)
	} else {
		s.grant(e, l, c)
	}
	s.settle(e, l)
	return nil
}

// Check returns why an award that a leader proposed for a workload of this spec is
// none; nil when its clearing replays and each winner proved to it what the spec requires. It is what each
// replica checks before it applies an award, and a voter before it countersigns one.
func (r *Rules) Check(leader workload.PeerID, spec *workload.Spec, c *Award) *Reject {
	if rej := sound(spec, c); rej != nil {
		return rej
	}
	if rej := r.proved(spec, c); rej != nil {
		return rej
	}
	if rej := r.ownProofs(leader, spec, c); rej != nil {
		return rej
	}
	if err := r.Replay(c); err != nil {
		return rejectf(DoesNotReplay, "%v", err)
	}
	return nil
}

// ownProofs checks that a leader signed the proofs itself: anybody can sign one.
func (r *Rules) ownProofs(leader workload.PeerID, spec *workload.Spec, c *Award) *Reject {
	if spec.Require == nil || r.OpenProved == nil {
		return nil
	}
	for i, p := range c.Proofs {
		if p.By != leader {
			return rejectf(NotProved, "proof %d: signed by %s, proposed by %s", i, p.By.Short(), leader.Short())
		}
	}
	return nil
}

// sound checks what the clearing does not look at.
func sound(spec *workload.Spec, c *Award) *Reject {
	switch {
	case len(c.Scores) != len(c.Bids):
		return rejectf(Malformed, "%d scores for %d bids", len(c.Scores), len(c.Bids))
	case uint64(len(c.Slots)) > uint64(c.Wanted):
		return rejectf(Malformed, "%d slots, %d wanted", len(c.Slots), c.Wanted)
	case c.First < 1:
		return rejectf(Malformed, "a first range of no task")
	case c.MaxPrice != spec.MaxPrice:
		return rejectf(Malformed, "cleared at a limit of %d, the owner's is %d", c.MaxPrice, spec.MaxPrice)
	}
	for i, score := range c.Scores {
		if score.RiskPPM < 0 || score.RiskPPM > MaxStandingPPM {
			return rejectf(Malformed, "score %d: a risk of %d ppm, a record gives 0 to %d", i, score.RiskPPM, MaxStandingPPM)
		}
	}
	bidders := make(map[workload.PeerID]bool, len(c.Bids))
	for _, b := range c.Bids {
		bidders[b.By] = true
	}
	for i, sl := range c.Slots {
		switch {
		case !bidders[sl.Node]:
			return rejectf(DoesNotReplay, "slot %d: %s did not bid", i, sl.Node)
		case sl.Rate < 0:
			return rejectf(Malformed, "slot %d: rate %d", i, sl.Rate)
		case spec.MaxPrice > 0 && sl.Rate > spec.MaxPrice:
			return rejectf(OverPrice, "slot %d: rate %d, the owner's limit is %d", i, sl.Rate, spec.MaxPrice)
		}
	}
	return nil
}

// proved checks that the leader has signed, of each node with slots, that its
// evidence met what the owner requires. Whether it did is the leader's word.
func (r *Rules) proved(spec *workload.Spec, c *Award) *Reject {
	if spec.Require == nil || r.OpenProved == nil {
		return nil
	}
	met := make(map[workload.PeerID]bool, len(c.Proofs))
	for i, signed := range c.Proofs {
		p, err := r.OpenProved(signed)
		if err == nil {
			err = p.Meet(spec.Require)
		}
		switch {
		case err != nil:
			return rejectf(NotProved, "proof %d: %v", i, err)
		case p.Workload != c.Workload || p.Auction != c.Auction:
			return rejectf(NotProved, "proof %d: of another award", i)
		}
		met[p.Node] = true
	}
	for i, sl := range c.Slots {
		if !met[sl.Node] {
			return rejectf(NotProved, "slot %d: no proof of %s, the owner requires %s", i, sl.Node, spec.Require.Level)
		}
	}
	return nil
}

// grant makes the slots. Their first ranges share what is open evenly, up to
// First tasks each.
func (s *State) grant(e *entry, l *load, c *Award) {
	n := min(uint32(len(c.Slots)), l.open(), l.Spec.Slots()-min(l.Spec.Slots(), uint32(len(l.slots))))
	e.res.Short = uint32(len(c.Slots)) - n
	first := uint32(0)
	if n > 0 {
		first = max(1, min(c.First, l.open()/n))
		if l.Started == 0 {
			l.Started = e.at
		}
	}
	l.recordAuction(e, c, n, nil)
	tallies := map[workload.PeerID]uint32{}
	for _, as := range c.Slots[:n] {
		tally, ok := tallies[as.Node]
		if !ok {
			tally = l.tally(as.Node)
			tallies[as.Node] = tally
		}
		l.LastSlot++
		e.res.Slots = append(e.res.Slots, s.grantOne(e, l, c, as, tally, l.popOpen(first, MaxTakeRuns)))
	}
}

// grantReplicas makes the slots of a workload that is verified, each with its first
// replica. A slot whose node may run none of those that are open is not made; its
// number stays unused.
func (s *State) grantReplicas(e *entry, l *load, c *Award) {
	room := l.Spec.Slots() - min(l.Spec.Slots(), uint32(len(l.slots)))
	p := s.picker(l)
	p.bid(e, c.Bids)
	first := make([][]Run, len(c.Slots))
	granted, last := uint32(0), uint32(0)
	for i, as := range c.Slots {
		if granted == room {
			break
		}
		if first[i] = p.pick(as.Node, 1); len(first[i]) > 0 {
			granted, last = granted+1, uint32(i)+1
		}
	}
	s.looked += uint64(p.looks)
	e.res.Short = uint32(len(c.Slots)) - granted
	if granted > 0 && l.Started == 0 {
		l.Started = e.at
	}
	var skipped []uint32
	for i := range first[:last] {
		if len(first[i]) == 0 {
			skipped = append(skipped, uint32(i))
		}
	}
	l.recordAuction(e, c, last, skipped)
	for i, as := range c.Slots[:last] {
		l.LastSlot++
		if len(first[i]) > 0 {
			e.res.Slots = append(e.res.Slots, s.grantOne(e, l, c, as, l.tally(as.Node), first[i]))
		}
	}
}

// grantOne makes the slot that has the workload's last number.
func (s *State) grantOne(e *entry, l *load, c *Award, as AwardSlot, tally uint32, runs []Run) SlotGrant {
	n := s.lease(as.Node)
	sl := &slot{Slot: Slot{
		ID: l.LastSlot, Node: as.Node, Rate: as.Rate, Ask: as.Ask, Auction: c.Auction, Awarded: e.at, Since: e.at, Tally: tally,
		Fence: workload.Fence{Generation: l.Generation, Epoch: n.epoch},
	}}
	l.Tallies[tally].award(as.Rate)
	l.slots[sl.ID] = sl
	n.slots[slotKey{l.Seq, sl.ID}] = l
	s.slots++
	sl.hold(runs)
	l.mark(sl)
	return SlotGrant{Slot: sl.ID, Node: as.Node, Fence: sl.Fence, Rate: as.Rate, Ranges: l.shown(runs)}
}

// tally returns the position of the node's tally, a new one at need.
func (l *load) tally(peer workload.PeerID) uint32 {
	for i := range l.Tallies {
		if l.Tallies[i].Node == peer {
			return uint32(i)
		}
	}
	switch len(l.Tallies) {
	case maxTallies:
		return maxTallies - 1
	case maxTallies - 1:
		peer = workload.PeerID{}
	}
	l.Tallies = append(l.Tallies, Tally{Node: peer})
	return uint32(len(l.Tallies) - 1)
}

func (t *Tally) award(rate int64) {
	if t.Slots == 0 || rate < t.Low {
		t.Low = rate
	}
	t.High = max(t.High, rate)
	t.Slots++
}

// fenced returns the workload and its slot when the fence is the slot's own.
func (s *State) fenced(e *entry, id workload.ID, slotID workload.SlotID, f workload.Fence) (*load, *slot, *Reject) {
	e.res.ID = id
	l := s.loads[id]
	if l == nil {
		return nil, nil, rejectf(UnknownWorkload, "%s", id)
	}
	sl := l.slots[slotID]
	switch {
	case slotID == 0 || slotID > l.LastSlot:
		return nil, nil, rejectf(UnknownSlot, "slot %d of %s", slotID, id)
	case sl == nil:
		return nil, nil, rejectf(StaleFence, "slot %d of %s has ended", slotID, id)
	case sl.Fence != f:
		return nil, nil, rejectf(StaleFence, "slot %d of %s has generation %d and epoch %d, the message %d and %d",
			slotID, id, sl.Fence.Generation, sl.Fence.Epoch, f.Generation, f.Epoch)
	}
	return l, sl, nil
}

// refuse undoes a slot that its worker did not take.
func (s *State) refuse(e *entry, c *Refuse) *Reject {
	l, sl, rej := s.fenced(e, c.Workload, c.Slot, c.Fence)
	switch {
	case rej != nil:
		return rej
	case sl.Closed > 0:
		return rejectf(AlreadyStarted, "slot %d of %s closed %d tasks", c.Slot, c.Workload, sl.Closed)
	}
	l.note(Step{
		At: e.at, Index: e.index, Kind: StepRefused, Slot: sl.ID, Node: sl.Node, Reasons: clipReasons(c.Reasons),
		Count: sl.open.n, Ranges: clipRanges(l.shown(sl.open.runs)),
	})
	l.gone(sl.Node, sl.open.runs)
	l.reopen(sl.open.runs)
	s.free(e, l, sl)
	s.settle(e, l)
	return nil
}
