package model

import (
	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/scheduler"
	"github.com/perrin-mesh/perrin/workload"
)

// leaderGets handles a message for the leader of a cell. Who does not lead does
// not answer: the sender tries again.
func (w *World) leaderGets(to int32, m *message) {
	c := &w.cells[m.cell]
	if c.leader != to {
		return
	}
	switch m.kind {
	case msgSubmit:
		w.accepts(c, m)
	case msgBid:
		w.step(c, scheduler.Input{Bid: m.body.(*scheduler.BidIn)})
	case msgDecline:
		w.declines++
		w.step(c, scheduler.Input{Decline: m.body.(*workload.Decline)})
	case msgRefused:
		w.refused(c, m)
	case msgTake:
		w.takes(c, m)
	case msgClose:
		w.closes(c, m)
	case msgDone:
		w.doneWith(c, m)
	case msgRenew:
		w.renews(c, m)
	case msgOffer:
		if w.omits(c, m.from) {
			return
		}
		w.step(c, scheduler.Input{Offer: w.offered(m.from, to, m.body.(*news))})
	case msgSuited:
		w.suited(c, m)
	case msgDisclaim:
		w.disclaims(c, m)
	case msgHeld:
		w.held(c, m)
	}
}

// award proposes what the desk has cleared.
func (w *World) award(c *cell, a *scheduler.Award) {
	a = w.forge(c, a)
	w.propose(c, proposal{desk: a, load: w.loadOf(a.Workload), from: -1, cmd: ledger.Command{Award: &ledger.Award{
		Workload: a.Workload, Auction: a.Auction, Wanted: a.Wanted, MaxPrice: a.MaxPrice,
		Bids: a.Bids, Scores: a.Scores, Slots: a.Slots, Declines: a.Declines, First: 1,
	}}})
}

// settle goes on with what a committed command was for.
func (w *World) settle(c *cell, p *proposal, res *ledger.Result) {
	switch {
	case p.desk != nil:
		w.awardCommitted(c, p.desk, p.load, res)
	case p.cmd.Accept != nil:
		if !w.rejected(res) {
			w.send(message{kind: msgAck, from: c.leader, to: p.from, cell: c.at, load: p.load})
			w.acknowledged(c, p.load)
		} else {
			w.refresh(c, p.cmd.Accept.ID)
		}
	case p.cmd.Take != nil:
		w.rejected(res)
		w.answer(c, p, msgTaken, 0, res.Ranges)
	case p.cmd.Close != nil:
		w.closeCommitted(c, p, res)
	case p.cmd.Release != nil && p.from >= 0: // who has forgotten a slot waits for no answer
		w.slotFreed(c, p)
		w.answer(c, p, msgDoneAck, 0, nil)
	case p.cmd.Expire != nil:
		w.expired(c, p, res)
	}
}

// answer answers a slot's message.
func (w *World) answer(c *cell, p *proposal, k msgKind, n int64, body any) {
	w.send(message{kind: k, from: c.leader, to: p.from, cell: c.at, load: p.load, slot: p.slot, gen: p.gen, seq: p.seq, n: n, body: body})
}

// awardCommitted tells the winners, with a lease, and gives back the holds of who
// won and was not given a slot.
func (w *World) awardCommitted(c *cell, a *scheduler.Award, load int32, res *ledger.Result) {
	if w.rejected(res) {
		w.refresh(c, a.Workload)
	}
	winners := map[workload.PeerID]*award{}
	var order []workload.PeerID
	for i, g := range res.Slots { // in the order of the clearing
		if winners[g.Node] == nil {
			winners[g.Node] = &award{auction: a.Auction}
			order = append(order, g.Node)
		}
		winners[g.Node].slots = append(winners[g.Node].slots, g)
		if w.tracing != nil {
			w.note("a slot on peer %d at %d µcr/s, its ask was %d", indexOf(g.Node), g.Rate, a.Slots[i].Ask)
		}
		w.placed(load, g, a.Slots[i].Ask)
	}
	for _, s := range a.Slots {
		if winners[s.Node] == nil {
			w.release(c, s.Node, a.Auction)
			winners[s.Node] = &award{}
		}
	}
	w.sendReleases(c)
	last := true
	if v, ok := c.state.Lot(a.Workload); ok {
		last = v.Open == 0
	}
	for _, node := range order {
		w.tellWinner(c, node, load, winners[node], last)
	}
	w.step(c, scheduler.Input{Committed: &a.Workload})
}

// tellWinner grants a lease and sends the award. Without a lease to give the
// slots are undone.
func (w *World) tellWinner(c *cell, node workload.PeerID, load int32, a *award, last bool) {
	w.verified(c)
	grant, err := c.leases.Grant(w.clock(c.leader), node, a.slots[0].Fence.Epoch)
	w.watchLeases(c)
	if err != nil {
		w.undo(c, load, node, a, workload.Reason{Code: workload.LeaseTooLate, Note: "the leader had no lease to give"})
		return
	}
	a.grant, a.last = grant, last
	sent := w.leaves
	w.leaves = max(w.now, w.leaves) + w.sc.Costs.Sign
	w.send(message{kind: msgAward, from: c.leader, to: indexOf(node), cell: c.at, load: load, body: a})
	w.leaves = sent
}

// verified tells the lease desk that a majority has confirmed the leader: it asks
// all the time while leases are out.
func (w *World) verified(c *cell) {
	if c.quorum >= 0 {
		c.leases.Verified(w.clockAt(c.leader, max(w.now-c.quorum, 0)))
	}
}

// undo refuses slots in the name of a node.
func (w *World) undo(c *cell, load int32, node workload.PeerID, a *award, reason workload.Reason) {
	reasons := []workload.Reason{reason}
	w.refusals++
	w.step(c, scheduler.Input{Decline: &workload.Decline{Node: node, Reasons: reasons}})
	for _, g := range a.slots {
		w.propose(c, proposal{load: load, from: -1, cmd: ledger.Command{Refuse: &ledger.Refuse{
			Workload: w.loads[load].id, Slot: g.Slot, Fence: g.Fence, Reasons: reasons,
		}}})
	}
}

func (w *World) refused(c *cell, m *message) {
	r := m.body.(*refusal)
	w.undo(c, m.load, w.peers[m.from].id, r.award, r.reason)
}

// takes gives a slot its next tasks, or says that there are none.
func (w *World) takes(c *cell, m *message) {
	id, ref := w.loads[m.load].id, m.body.(slotRef)
	sl, ok := c.state.Slot(id, ref.id)
	p := proposal{load: m.load, from: m.from, slot: m.slot, gen: m.gen, seq: m.seq}
	lot, wants := c.state.Workload(id)
	if !ok || sl.Fence != ref.fence || !wants || lot.Phase.Ended() || lot.Tasks.Open == 0 {
		w.answer(c, &p, msgTaken, 0, []workload.Range(nil))
		return
	}
	p.cmd.Take = &ledger.Take{
		Workload: id, Slot: sl.ID, Fence: ref.fence, Seq: m.seq,
		Count: scheduler.RangeSize(lot.Tasks.Open, len(lot.Slots), m.n),
	}
	w.propose(c, p)
}

// closes records results.
func (w *World) closes(c *cell, m *message) {
	r := m.body.(*report)
	size := int64(200 * (len(r.done) + len(r.failed)))
	var name [20]byte
	copy(name[:], w.loads[m.load].id.Random[:])
	name[16], name[17], name[18], name[19] = byte(r.slot), byte(r.slot>>8), byte(r.seq), byte(r.seq>>8)
	w.propose(c, proposal{
		load: m.load, from: m.from, slot: m.slot, gen: m.gen, seq: m.seq, freed: r.freed,
		cmd: ledger.Command{Close: &ledger.Close{
			Workload: w.loads[m.load].id, Slot: r.slot, Fence: r.fence, Done: r.done, Failed: r.failed, Held: true,
			Vote:    r.vote,
			Segment: workload.Ref{Digest: segmentName(name), Size: size},
			Usage:   workload.Usage{WallMs: r.wall, CPUMs: r.wall * int64(w.specs[w.loads[m.load].stream].Resources.CPUs)}, Sig: workload.Signed{By: w.peers[m.from].id},
		}},
	})
}

// segmentName is a digest that no other segment has; hashing would tell no more.
func segmentName(name [20]byte) (d workload.Digest) {
	copy(d[:], name[:])
	return d
}

func (w *World) closeCommitted(c *cell, p *proposal, res *ledger.Result) {
	w.rejected(res)
	_, still := c.state.Slot(p.cmd.Close.Workload, p.cmd.Close.Slot)
	over := int64(0)
	if !still {
		over = 1
		w.slotFreed(c, p)
	}
	w.answer(c, p, msgClosed, over, nil)
}

// slotFreed tells the desk that a node sells a slot's capacity again.
func (w *World) slotFreed(c *cell, p *proposal) {
	if p.freed == 0 {
		return
	}
	w.step(c, scheduler.Input{Freed: &scheduler.Freed{
		Node: w.peers[p.from].id, Shape: w.specs[w.loads[p.load].stream].Resources, Seq: p.freed,
	}})
}

// doneWith ends a slot.
func (w *World) doneWith(c *cell, m *message) {
	id, ref := w.loads[m.load].id, m.body.(slotRef)
	p := proposal{load: m.load, from: m.from, slot: m.slot, gen: m.gen, freed: uint64(m.n)}
	sl, ok := c.state.Slot(id, ref.id)
	if !ok || sl.Fence != ref.fence {
		w.answer(c, &p, msgDoneAck, 0, nil)
		return
	}
	w.endSlot(c, p, id, &sl, ref.preempted)
}

// endSlot proposes a slot's end: nobody knows whether tasks that it has taken and not
// closed have begun, so they open again in the next attempt.
func (w *World) endSlot(c *cell, p proposal, id workload.ID, sl *ledger.Slot, preempted bool) {
	if len(sl.Open) > 0 {
		ranges := make([]workload.Range, len(sl.Open))
		for i, r := range sl.Open {
			ranges[i] = workload.Range{From: r.From, Count: r.Count, Attempt: r.Attempt}
		}
		w.propose(c, proposal{load: p.load, from: -1, cmd: ledger.Command{Return: &ledger.Return{
			Workload: id, Slot: sl.ID, Fence: sl.Fence, Ranges: ranges, Lost: true, Preempted: preempted,
		}}})
	}
	p.cmd.Release = &ledger.Release{Workload: id, Slot: sl.ID, Fence: sl.Fence}
	w.propose(c, p)
}

// watchLeases looks at the leases again when the first may be over.
func (w *World) watchLeases(c *cell) {
	if c.leaseAt != 0 {
		return // it looks for the next by itself
	}
	if next, any := c.leases.Next(); any {
		c.leaseAt = max(w.whenClock(c.leader, next), w.now+millisecond)
		w.push(c.leaseAt, event{kind: leaseDesk, a: c.at})
	}
}

// expire gives up the nodes whose every lease is over for certain.
func (w *World) expire(c *cell) {
	if until, put := w.later(c, event{kind: leaseDesk, a: c.at}); put {
		c.leaseAt = until
		return
	}
	c.leaseAt = 0
	if c.leader < 0 {
		return
	}
	for _, held := range c.leases.Due(w.clock(c.leader)) {
		n, ok := c.state.Node(held.Node)
		if !ok || len(n.Slots) == 0 || n.Epoch != held.Epoch {
			c.leases.Settled(held.Node, held.Epoch)
			continue
		}
		w.propose(c, proposal{from: -1, slot: indexOf(held.Node), cmd: ledger.Command{Expire: &ledger.Expire{Node: held.Node, Epoch: held.Epoch}}})
	}
	w.watchLeases(c)
}

// expired goes on after an EXPIRE: the node's slots are open again.
func (w *World) expired(c *cell, p *proposal, res *ledger.Result) {
	node := p.cmd.Expire.Node
	c.leases.Expired(node, p.cmd.Expire.Epoch)
	if w.rejected(res) {
		return
	}
	w.expiries++
	if p.from >= 0 { // the node itself had said that it runs nothing
		w.send(message{kind: msgDisclaimed, from: c.leader, to: p.from, boot: p.gen, cell: c.at})
		return
	}
	w.step(c, scheduler.Input{Gone: &node})
}

// disclaims gives a node up at once that has just started and runs nothing.
func (w *World) disclaims(c *cell, m *message) {
	if p := &w.peers[m.from]; p.fresh || p.boot != m.gen {
		return // it comes late: what it is about, slots of an earlier boot, is given up
	}
	node := w.peers[m.from].id
	n, ok := c.state.Node(node)
	if !ok || len(n.Slots) == 0 {
		w.send(message{kind: msgDisclaimed, from: c.leader, to: m.from, boot: m.gen, cell: c.at})
		return
	}
	w.propose(c, proposal{from: m.from, gen: m.gen, cmd: ledger.Command{Expire: &ledger.Expire{Node: node, Epoch: n.Epoch}}})
}
