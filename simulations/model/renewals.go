package model

import (
	"errors"
	"slices"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/scheduler"
	"github.com/perrin-mesh/perrin/scheduler/lease"
	"github.com/perrin-mesh/perrin/workload"
)

// heldSlot names a slot in a RENEW.
type heldSlot struct {
	load  int32
	id    workload.SlotID
	fence workload.Fence
}

// renewing is a RENEW: what a peer has of a cell.
type renewing []heldSlot

// namesOf lists what a peer has of a cell, slots that it is telling the end of
// among them.
func (w *World) namesOf(p *peer, cell int32) (out renewing) {
	for _, i := range p.slots {
		if s := &w.slots[i]; s.cell == cell {
			out = append(out, heldSlot{s.load, s.id, s.fence})
		}
	}
	return out
}

// renewal is the leader's answer to a RENEW.
type renewal struct {
	grant int64
	epoch uint64
	gone  []heldSlot // the peer has them no more
}

// renews answers a RENEW with the length of the next lease, and makes what the peer has
// and what the ledger gives it the same, by the product's rules (lease.Renewals).
func (w *World) renews(c *cell, m *message) {
	node := w.peers[m.from].id
	v, ok := c.state.Node(node)
	if !ok {
		return
	}
	held, late := w.heldBy(c, &v), w.lateOf(c, node)
	read := c.renewals.Read(w.clock(c.leader), node, m.body.(renewing), held, late)
	if len(read.Ignored) > 0 { // who withholds does not end a slot that it is told to end
		return
	}
	w.undoForgotten(c, m.from, &v, held, read.Forgotten)
	r := renewal{epoch: v.Epoch, gone: read.Gone}
	if len(v.Slots) > 0 {
		w.verified(c)
		grant, err := c.leases.Grant(w.clock(c.leader), node, v.Epoch)
		if errors.Is(err, lease.ErrUnverified) || errors.Is(err, lease.ErrGivenUp) {
			return
		}
		r.grant = grant
		w.watchLeases(c)
	}
	w.send(message{kind: msgRenewed, from: c.leader, to: m.from, boot: m.gen, cell: c.at, n: m.n, body: r})
}

// heldBy names what the ledger gives to a node, in the order of its slots there.
func (w *World) heldBy(c *cell, v *ledger.NodeView) []heldSlot {
	out := make([]heldSlot, len(v.Slots))
	for i, ref := range v.Slots {
		sl, _ := c.state.Slot(ref.Workload, ref.Slot)
		out[i] = heldSlot{w.loadOf(ref.Workload), ref.Slot, sl.Fence}
	}
	return out
}

// lateOf names what of it is overdue.
func (w *World) lateOf(c *cell, node workload.PeerID) (out []heldSlot) {
	for _, ref := range c.state.Overdue(node, ms(w.now), 0) {
		sl, _ := c.state.Slot(ref.Workload, ref.Slot)
		out = append(out, heldSlot{w.loadOf(ref.Workload), ref.Slot, sl.Fence})
	}
	return out
}

// undoForgotten undoes slots that a node does not know of.
func (w *World) undoForgotten(c *cell, on int32, v *ledger.NodeView, held, over []heldSlot) {
	for i, ref := range v.Slots {
		if !slices.Contains(over, held[i]) {
			continue
		}
		sl, ok := c.state.Slot(ref.Workload, ref.Slot)
		if !ok {
			continue
		}
		if w.tracing != nil {
			w.note("slot %d of workload %d is undone: peer %d does not know of it", ref.Slot, held[i].load, on)
		}
		if sl.Closed == 0 {
			w.refusals++
			w.step(c, scheduler.Input{Decline: &workload.Decline{Node: v.Node, Reasons: []workload.Reason{
				{Code: workload.LeaseTooLate, Note: "the node does not know of the award"},
			}}})
		}
		w.endSlot(c, proposal{load: held[i].load, from: -1}, ref.Workload, &sl, false)
	}
}
