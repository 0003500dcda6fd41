package leader

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/scheduler"
	"github.com/perrin-mesh/perrin/workload"
)

// callPatience bounds one call for bids; the desk closes the auction earlier.
const callPatience = 2 * time.Second

// call sends a call for bids and feeds the answer to the desk.
func (l *Leader) call(out *scheduler.CallOut) {
	l.count(func(s *Stats) { s.Calls++ })
	decline := func(code workload.Code, note string) {
		l.feed(scheduler.Input{Decline: &workload.Decline{
			Auction: out.Call.Auction, Node: out.Node,
			Reasons: []workload.Reason{{Code: code, Note: workload.Cut(note, 256)}},
		}})
	}
	proved, code, note := l.prove(out)
	if code != "" {
		decline(code, note)
		return
	}
	ctx, cancel := context.WithTimeout(l.ctx, callPatience)
	defer cancel()
	var answer wire.CallAnswer
	err := l.cfg.Caller.Call(ctx, out.Node, wire.ProtoCall, &wire.CallMsg{Call: out.Call}, &answer)
	switch {
	case err != nil:
		decline(workload.NotReached, err.Error())
	case answer.Decline != nil:
		d := *answer.Decline
		d.Auction, d.Node = out.Call.Auction, out.Node
		if len(d.Reasons) == 0 {
			d.Reasons = []workload.Reason{{Code: workload.Refused}}
		}
		l.feed(scheduler.Input{Decline: &d})
	case answer.Bid != nil:
		bid, err := OpenBid(l.cfg.Memo, *answer.Bid)
		if err != nil || bid.Node != out.Node || bid.Auction != out.Call.Auction || bid.Workload != out.Call.Workload {
			decline(workload.Refused, "its bid is not valid")
			return
		}
		l.feed(scheduler.Input{Bid: &scheduler.BidIn{Bid: bid, Signed: *answer.Bid, Proved: proved}})
	default:
		decline(workload.Refused, "its answer is neither bid nor decline")
	}
}

// provePatience is how long a call waits for evidence: an auction with a
// requirement is open for 1.5 s. What comes later serves the next.
const provePatience = 1200 * time.Millisecond

// prove has a node prove what the lot requires, before it is called. It returns
// what did, or why the node is not called; nothing where nothing is required.
func (l *Leader) prove(out *scheduler.CallOut) (proved *workload.Proved, code workload.Code, note string) {
	switch {
	case out.Require == nil:
		return nil, "", ""
	case l.cfg.Prover == nil:
		return nil, workload.NotProved, "the leader appraises no evidence"
	}
	ctx, cancel := context.WithTimeout(l.ctx, provePatience)
	defer cancel()
	proved, err := l.cfg.Prover.Prove(ctx, out.Node, out.Call.Workload, out.Call.Auction, out.Require)
	switch {
	case err == nil:
		return proved, "", ""
	case errors.Is(err, workload.ErrNotProved):
		return nil, workload.NotProved, strings.TrimPrefix(err.Error(), workload.ErrNotProved.Error()+": ")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, wire.Busy):
		return nil, workload.Busy, "its evidence is still being made"
	}
	return nil, workload.NotReached, err.Error()
}

// OpenBid verifies and decodes a signed bid. It is pure.
func OpenBid(memo *workload.Memo, s workload.Signed) (workload.Bid, error) {
	var bid workload.Bid
	if err := memo.Verify(workload.DomainBid, s); err != nil {
		return bid, err
	}
	if err := wire.Unmarshal(s.Payload, &bid); err != nil {
		return bid, err
	}
	if bid.Node != s.By {
		return bid, errors.New("the bid names another node than its signer")
	}
	return bid, nil
}

// award commits an award and tells the winners.
func (l *Leader) award(a *scheduler.Award) {
	defer l.feed(scheduler.Input{Committed: &a.Workload})
	out := &ledger.Award{
		Workload: a.Workload, Auction: a.Auction, Wanted: a.Wanted, MaxPrice: a.MaxPrice,
		Bids: a.Bids, Scores: a.Scores, Slots: a.Slots, Declines: a.Declines, First: 1, Proofs: l.signProved(a.Proved),
	}
	if a.Countersign {
		var err error
		if out.Countersigned, err = l.countersigned(out); err != nil {
			l.uncounted(out, err)
			l.giveBack(a, nil)
			l.wait(pause)
			return
		}
	}
	res, err := l.proposeAward(out)
	if err != nil {
		l.cfg.Log.Warn("award not committed", "workload", a.Workload.Short(), "err", err)
		l.giveBack(a, nil)
		l.refresh(a.Workload)
		if errors.Is(err, wire.NoSpace) {
			l.wait(pause)
		}
		return
	}
	l.count(func(s *Stats) { s.Awards += uint64(len(res.Slots)) })
	winners := byNode(res.Slots)
	l.giveBack(a, winners)
	for node, slots := range winners {
		l.group.Go(func() { l.tell(node, out, res.Index, slots) })
	}
}

// pause is how long a lot waits whose award the full disk did not take, or the
// voters did not countersign.
const pause = time.Second

// wait lets time pass, or the term end.
func (l *Leader) wait(d time.Duration) {
	select {
	case <-time.After(d):
	case <-l.ctx.Done():
	}
}

// giveBack releases the holds of nodes whose slots of an award were not given:
// it was not committed, or too few tasks were open by then.
func (l *Leader) giveBack(a *scheduler.Award, winners map[workload.PeerID][]ledger.SlotGrant) {
	l.post(func(int64) {
		for _, s := range a.Slots {
			if winners[s.Node] == nil && !slices.Contains(l.pending[s.Node], a.Auction) {
				l.pending[s.Node] = append(l.pending[s.Node], a.Auction)
			}
		}
	})
}

func byNode(slots []ledger.SlotGrant) map[workload.PeerID][]ledger.SlotGrant {
	out := map[workload.PeerID][]ledger.SlotGrant{}
	for _, s := range slots {
		out[s.Node] = append(out[s.Node], s)
	}
	return out
}

// tell pushes committed slots to their worker until it has answered or the
// first lease, which counts from its bid, has run out. Slots that it refuses
// are undone, and the lot goes back on the desk, where the runner-up wins.
func (l *Leader) tell(node workload.PeerID, a *ledger.Award, index uint64, slots []ledger.SlotGrant) {
	id := a.Workload
	ctx, cancel := context.WithTimeout(l.ctx, time.Duration(l.cfg.Lease.TTL)*time.Millisecond)
	defer cancel()
	var grant int64
	l.freshen()
	lost := func(err error) bool { return !errors.Is(err, wire.Unavailable) && !errors.Is(err, wire.Busy) }
	err := patient(ctx, func() error { return l.grant(ctx, node, slots[0].Fence.Epoch, &grant) }, lost)
	if err != nil {
		l.cfg.Log.Warn("award not told: no lease to give", "node", node.Short(), "err", err)
		for _, s := range slots { // the node has never heard of them
			l.refused(id, s.Slot, slots, []workload.Reason{{Code: workload.LeaseTooLate, Note: "the leader had no lease to give"}})
		}
		return
	}
	msg, err := l.awardMessage(a, index, grant, slots)
	if err != nil {
		l.cfg.Log.Error("award not told", "workload", id.Short(), "err", err)
		return
	}
	var answer wire.AwardAnswer
	err = patient(ctx, func() error {
		each, stop := context.WithTimeout(ctx, callPatience)
		defer stop()
		return l.cfg.Caller.Call(each, node, wire.ProtoAward, msg, &answer)
	}, refusesForGood)
	if refusesForGood(err) {
		answer = wire.AwardAnswer{Reasons: []workload.Reason{{Code: workload.Refused, Note: err.Error()}}}
		for _, s := range slots {
			answer.Refused = append(answer.Refused, s.Slot)
		}
	} else if err != nil {
		l.cfg.Log.Warn("award not answered; the lease will run out", "node", node.Short(), "err", err)
		return
	}
	for _, slot := range answer.Refused {
		l.refused(id, slot, slots, answer.Reasons)
	}
}

// refusesForGood reports whether a worker answered and will not take an award.
func refusesForGood(err error) bool {
	for _, kind := range []wire.Kind{wire.Refused, wire.Malformed, wire.Unauthorized, wire.Version, wire.NotFound} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

func (l *Leader) refused(id workload.ID, slot workload.SlotID, slots []ledger.SlotGrant, reasons []workload.Reason) {
	for _, s := range slots {
		if s.Slot != slot {
			continue
		}
		l.count(func(s *Stats) { s.Refused++ })
		l.feed(scheduler.Input{Decline: &workload.Decline{Node: s.Node, Reasons: reasons}})
		_, err := l.propose(l.ctx, &ledger.Command{Refuse: &ledger.Refuse{
			Workload: id, Slot: slot, Fence: s.Fence, Reasons: reasons[:min(len(reasons), 16)],
		}})
		if err != nil {
			l.cfg.Log.Warn("refusal not recorded", "workload", id.Short(), "slot", slot, "err", err)
		}
	}
}

// awardMessage signs what the worker needs to start.
func (l *Leader) awardMessage(a *ledger.Award, index uint64, grant int64, slots []ledger.SlotGrant) (*wire.SignedAward, error) {
	id := a.Workload
	msg := wire.AwardMsg{
		Cell: l.cfg.Cell.ID(), Term: l.term, Workload: id, Auction: a.Auction, Index: index, GrantMs: grant,
	}
	for _, s := range slots {
		msg.Slots = append(msg.Slots, wire.Awarded{Slot: s.Slot, Fence: s.Fence, Rate: s.Rate, Ranges: s.Ranges})
	}
	var spec workload.Signed
	err := l.withOutline(id, func(s *ledger.State, v *ledger.View, _ int) {
		spec = v.Signed
		msg.Home, msg.Payer, msg.Last = v.Home, v.Payer, v.Waiting == 0
		msg.Holders = holders(l.cfg.Cell.Voters(), v.Home)
		msg.After = afterOutputs(s, v, l.cfg.Cell.Voters())
	})
	if err != nil {
		return nil, err
	}
	out := &wire.SignedAward{Award: l.cfg.Memo.Sign(workload.DomainAward, wire.MustMarshal(msg), l.cfg.Key), Spec: spec}
	if len(a.Countersigned) > 0 {
		out.Countersigned = &wire.Countersigned{Slots: a.Slots, Sigs: a.Countersigned}
	}
	return out, nil
}

func holders(voters []workload.PeerID, home workload.PeerID) []workload.PeerID {
	out := append([]workload.PeerID{}, voters[:min(len(voters), 15)]...)
	return append(out, home)
}

// afterOutputs lists where the outputs lie that a workload comes after.
func afterOutputs(s *ledger.State, v *ledger.View, voters []workload.PeerID) []wire.AfterOutputs {
	var out []wire.AfterOutputs
	for _, a := range v.Spec.After {
		dep, ok := s.Workload(a.Workload)
		if !ok {
			continue
		}
		outs := wire.AfterOutputs{Name: a.Name, Holders: append([]workload.PeerID{}, voters...)}
		seen := map[workload.PeerID]bool{}
		for _, seg := range s.Segments(dep.ID) {
			outs.Segments = append(outs.Segments, seg.Ref)
			if !seen[seg.Node] && len(outs.Holders) < 128 {
				seen[seg.Node] = true
				outs.Holders = append(outs.Holders, seg.Node)
			}
		}
		out = append(out, outs)
	}
	return out
}

// askSiblings looks for nodes outside of the cell that fit a lot.
func (l *Leader) askSiblings(lot *scheduler.Lot) {
	ctx, cancel := context.WithTimeout(l.ctx, 5*time.Second)
	defer cancel()
	offers, dht := l.cfg.Siblings.Suited(ctx, lot)
	in := &scheduler.SiblingsIn{Workload: lot.Workload, DHT: dht}
	for _, o := range offers {
		in.Offers = append(in.Offers, scheduler.OfferIn{Offer: o, RTTMicros: l.cfg.Caller.RTT(o.Node).Microseconds(), RiskPPM: l.risk(o.Node)})
	}
	if len(in.Offers) > 0 {
		l.feed(scheduler.Input{Siblings: in})
	}
}

// HandleSuited answers a sibling cell's leader with offers that fit its lot.
func (l *Leader) HandleSuited(ctx context.Context, m *wire.SuitedMsg) ([]workload.PeerID, error) {
	lot := scheduler.Lot{
		Owner: m.Owner, Shape: m.Shape, Kind: m.Kind, Where: m.Where, MaxPrice: m.MaxPrice, Wanted: m.Wanted,
		Require: m.Require,
	}
	if err := m.Shape.Validate(); err != nil {
		return nil, wire.Errorf(wire.Malformed, "shape: %v", err)
	}
	if _, err := workload.ParseWhere(m.Where); err != nil {
		return nil, wire.Errorf(wire.Malformed, "where: %v", err)
	}
	if err := m.Require.Validate(); err != nil {
		return nil, wire.Errorf(wire.Malformed, "%v", err)
	}
	return ask(ctx, l, func(now int64) (nodes []workload.PeerID) {
		for _, o := range l.desk.Suited(&lot, now, 16) {
			nodes = append(nodes, o.Node)
		}
		return nodes
	})
}
