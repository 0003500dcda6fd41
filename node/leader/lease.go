package leader

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/scheduler"
	"github.com/perrin-mesh/perrin/scheduler/lease"
	"github.com/perrin-mesh/perrin/workload"
)

// HandleRenew renews every lease of a node with the cell, and reconciles what
// the node runs with what the ledger says.
func (l *Leader) HandleRenew(ctx context.Context, from workload.PeerID, m *wire.RenewMsg) (*wire.Renewed, error) {
	var node ledger.NodeView
	var slots []ledger.Slot
	var late []ledger.SlotRef
	now, first := l.time.patient(time.Now().UnixMilli(), l.now())
	l.cfg.Cell.Read(func(s *ledger.State) {
		node, _ = s.Node(from)
		late = s.Overdue(from, now, first)
		for _, ref := range node.Slots {
			if slot, ok := s.Slot(ref.Workload, ref.Slot); ok {
				slots = append(slots, slot)
			}
		}
	})
	if len(m.Disclaim) > 0 {
		return l.disclaimed(ctx, from, node, slots, m.Disclaim)
	}
	if len(m.Slots) == 0 {
		return &wire.Renewed{Epoch: node.Epoch, Term: l.term, Held: refs(node, slots)}, nil
	}
	overdue := wireRefs(late, node, slots)
	read := l.read(from, m.Slots, refs(node, slots), overdue)
	if len(read.Ignored) > 0 { // all its tasks open again when its lease is over
		ref := read.Ignored[0]
		l.cfg.Log.Warn("lease not renewed: the node returns nothing", "node", from.Short(), "workload", ref.Workload.Short(), "slot", ref.Slot)
		return nil, wire.Errorf(wire.Expired, "slot %d of %s has closed no task for longer than its tasks may take, and goes on", ref.Slot, ref.Workload.Short())
	}
	answer := &wire.Renewed{Epoch: node.Epoch, Term: l.term, Gone: read.Gone, Stop: append(l.stopped(m.Slots), overdue...)}
	for i, ref := range refs(node, slots) {
		if slices.Contains(read.Forgotten, ref) {
			l.group.Go(func() { l.undo(from, node.Slots[i].Workload, slots[i]) })
		}
	}
	if err := l.grant(ctx, from, node.Epoch, &answer.GrantMs); err != nil {
		return nil, err
	}
	return answer, nil
}

// grant asks the lease desk for the length of a lease of node.
func (l *Leader) grant(ctx context.Context, node workload.PeerID, epoch uint64, ms *int64) error {
	type grant struct {
		ms      int64
		refused error
	}
	l.need()
	given, err := ask(ctx, l, func(now int64) (g grant) {
		g.ms, g.refused = l.leases.Grant(now, node, epoch)
		return g
	})
	*ms = given.ms
	refused := given.refused
	switch {
	case err != nil:
		return err
	case errors.Is(refused, lease.ErrGivenUp):
		return wire.Errorf(wire.Busy, "%v", refused)
	case errors.Is(refused, lease.ErrUnverified):
		return wire.Errorf(wire.Unavailable, "no majority has confirmed this leader lately")
	case refused != nil:
		return wire.Errorf(wire.Expired, "%v", refused)
	}
	return nil
}

// idle takes a node off the lease desk once it holds nothing.
func (l *Leader) idle(node workload.PeerID) {
	l.post(func(int64) {
		empty := false
		l.cfg.Cell.Read(func(s *ledger.State) {
			n, ok := s.Node(node)
			empty = !ok || len(n.Slots) == 0
		})
		if empty {
			l.leases.Drop(node)
		}
	})
}

// refs names what the ledger gives to a node.
func refs(node ledger.NodeView, slots []ledger.Slot) []wire.SlotRef {
	var out []wire.SlotRef
	for i, slot := range slots {
		out = append(out, wire.SlotRef{Workload: node.Slots[i].Workload, Slot: slot.ID, Fence: slot.Fence})
	}
	return out
}

// wireRefs names those of a node's slots that are late.
func wireRefs(late []ledger.SlotRef, node ledger.NodeView, slots []ledger.Slot) (out []wire.SlotRef) {
	if len(late) == 0 {
		return nil
	}
	for i, ref := range refs(node, slots) {
		if slices.Contains(late, node.Slots[i]) {
			out = append(out, ref)
		}
	}
	return out
}

// disclaimed gives a node up at once that has itself said that it runs none of
// the slots it holds. It names them, and their numbers are never used again, so
// that a copy of the message that comes late says nothing about later ones.
func (l *Leader) disclaimed(ctx context.Context, from workload.PeerID, node ledger.NodeView, slots []ledger.Slot, names []wire.SlotRef) (*wire.Renewed, error) {
	answer := &wire.Renewed{Epoch: node.Epoch, Term: l.term}
	for _, ref := range refs(node, slots) {
		if !slices.Contains(names, ref) {
			answer.Held = append(answer.Held, ref)
		}
	}
	if len(answer.Held) > 0 || len(slots) == 0 {
		return answer, nil
	}
	res, err := l.propose(ctx, &ledger.Command{Expire: &ledger.Expire{Node: from, Epoch: node.Epoch}})
	if err != nil {
		return nil, err
	}
	l.post(func(int64) { l.leases.Expired(from, node.Epoch) })
	answer.Epoch = res.Epoch
	return answer, nil
}

// stopped lists those of slots whose owner has stopped the workload.
func (l *Leader) stopped(has []wire.SlotRef) (out []wire.SlotRef) {
	l.cfg.Cell.Read(func(s *ledger.State) {
		for _, ref := range has {
			if phase, _ := s.Phase(ref.Workload); phase == workload.Stopped {
				out = append(out, ref)
			}
		}
	})
	return out
}

// read reads what a node names in a renewal, by the rules of package lease.
func (l *Leader) read(from workload.PeerID, named, held, late []wire.SlotRef) lease.Reading[wire.SlotRef] {
	l.renewing.Lock()
	defer l.renewing.Unlock()
	return l.renewals.Read(l.now(), from, named, held, late)
}

// undo ends a slot that nobody runs. What it had taken opens again in the next
// attempt, since nobody knows whether it began.
func (l *Leader) undo(node workload.PeerID, id workload.ID, slot ledger.Slot) {
	if slot.Closed == 0 {
		l.count(func(s *Stats) { s.Refused++ })
		l.feed(scheduler.Input{Decline: &workload.Decline{Node: node, Reasons: []workload.Reason{
			{Code: workload.LeaseTooLate, Note: "the node does not know of the award"},
		}}})
	}
	err := l.endSlot(l.ctx, wire.SlotRef{Workload: id, Slot: slot.ID, Fence: slot.Fence}, &slot, false)
	if err != nil && !errors.Is(err, wire.Expired) { // it may have ended meanwhile
		l.cfg.Log.Warn("slot that nobody runs not ended", "workload", id.Short(), "slot", slot.ID, "err", err)
	}
}

func wireRanges(runs []ledger.Run) []workload.Range {
	out := make([]workload.Range, len(runs))
	for i, r := range runs {
		out[i] = workload.Range{From: r.From, Count: r.Count, Attempt: r.Attempt}
	}
	return out
}

// expire gives up the nodes whose every lease is over for certain. The owner
// calls it.
func (l *Leader) expire() {
	for _, held := range l.leases.Due(l.now()) {
		l.group.Go(func() { l.giveUp(held) })
	}
}

func (l *Leader) giveUp(held lease.Held) {
	var node ledger.NodeView
	l.cfg.Cell.Read(func(s *ledger.State) { node, _ = s.Node(held.Node) })
	if len(node.Slots) > 0 && node.Epoch == held.Epoch {
		l.cfg.Log.Warn("node given up: its lease is over", "node", held.Node.Short(), "slots", len(node.Slots))
		cmd := &ledger.Command{Expire: &ledger.Expire{Node: held.Node, Epoch: held.Epoch}}
		if _, err := l.propose(l.ctx, cmd); err != nil {
			l.cfg.Log.Warn("expiry not committed", "node", held.Node.Short(), "err", err)
			return // it is due again soon
		}
		l.count(func(s *Stats) { s.Expired++ })
		l.Gone(held.Node)
	}
	l.post(func(int64) {
		if len(node.Slots) == 0 && node.Epoch == held.Epoch {
			l.leases.Settled(held.Node, held.Epoch) // its slots have ended meanwhile
		} else {
			l.leases.Expired(held.Node, held.Epoch)
		}
	})
}
