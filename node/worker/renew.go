package worker

import (
	"context"
	"time"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/scheduler/lease"
	"github.com/perrin-mesh/perrin/workload"
)

// cellLease is the node's lease with one cell. Worker.mu guards it.
type cellLease struct {
	id      workload.CellID
	lease   *lease.Worker
	running bool // its renew loop runs
}

func (w *Worker) cell(id workload.CellID) *cellLease {
	c := w.cells[id]
	if c == nil {
		c = &cellLease{id: id, lease: lease.NewWorker(w.cfg.Lease)}
		w.cells[id] = c
	}
	if !c.running {
		c.running = true
		w.group.Go(func() { w.keep(c) })
	}
	return c
}

// keep renews the lease with a cell every third of its length, for as long as
// slots of the cell run here, and drops them when it has run out.
func (w *Worker) keep(c *cellLease) {
	period := time.Duration(w.cfg.Lease.TTL) * time.Millisecond / 3
	timer := time.NewTicker(period)
	defer timer.Stop()
	for {
		select {
		case <-w.ctx.Done():
			return
		case <-timer.C:
		}
		if !w.renew(c, period) {
			return
		}
	}
}

// renew sends one RENEW. It returns false when nothing of the cell runs here
// any more.
func (w *Worker) renew(c *cellLease, patience time.Duration) bool {
	w.mu.Lock()
	held := w.list(func(s *slot) bool { return s.cell == c.id })
	ending := w.endingOf(c.id)
	if len(held)+len(ending) == 0 {
		c.running = false
		w.mu.Unlock()
		return false
	}
	msg := wire.RenewMsg{Cell: c.id}
	for _, s := range held {
		msg.Slots = append(msg.Slots, s.ref)
	}
	msg.Slots = append(msg.Slots, ending...)
	sent := w.now()
	w.mu.Unlock()

	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	var answer wire.Renewed
	if err := w.cfg.Leaders.CallLeader(ctx, c.id, wire.ProtoRenew, &msg, &answer); err != nil {
		w.cfg.Log.Warn("renew failed", "cell", c.id, "err", err)
		w.dropExpired(c, held)
		return true
	}
	w.granted(c, held, &answer, sent)
	return true
}

// granted moves the lease: it counts from when RENEW was sent.
func (w *Worker) granted(c *cellLease, held []*slot, answer *wire.Renewed, sent int64) {
	w.mu.Lock()
	if answer.Term < w.terms[c.id] { // of a leader that is deposed: it may not know all that is here
		w.mu.Unlock()
		w.dropExpired(c, held)
		return
	}
	deadline, _ := c.lease.Renewed(w.now(), sent, answer.GrantMs, answer.Epoch)
	w.terms[c.id] = answer.Term
	w.mu.Unlock()
	gone, stopped := keysOf(answer.Gone), keysOf(answer.Stop)
	var kept []*slot
	for _, s := range held {
		if gone[s.key] || s.ref.Fence.Epoch < answer.Epoch {
			s.lose("the cell gave the slot up")
			continue
		}
		if stopped[s.key] {
			s.halt(lateGrace)
		}
		s.extend(deadline)
		kept = append(kept, s)
	}
	if err := w.grant(deadline, kept...); err != nil {
		w.cfg.Log.Error("the supervisor does not hear of the lease", "err", err)
	}
}

func keysOf(refs []wire.SlotRef) map[slotKey]bool {
	keys := make(map[slotKey]bool, len(refs))
	for _, ref := range refs {
		keys[slotKey{Workload: ref.Workload, Slot: ref.Slot}] = true
	}
	return keys
}

// dropExpired ends the slots of a cell whose lease has run out, unless their
// owner lets idempotent work go on.
func (w *Worker) dropExpired(c *cellLease, held []*slot) {
	w.mu.Lock()
	over := c.lease.Over(w.now())
	w.mu.Unlock()
	for _, s := range held {
		if over && s.spec.OnPartition != workload.Continue {
			s.lose("the lease ran out")
		}
	}
}

// endingOf lists the slots of a cell that the leader is being told are over: the
// node knows of them still. The caller holds mu.
func (w *Worker) endingOf(cell workload.CellID) []wire.SlotRef {
	var out []wire.SlotRef
	for _, s := range w.ending {
		if s.cell == cell {
			out = append(out, s.ref)
		}
	}
	return out
}

// end notes that the leader is being told of a slot's end; what it returns
// forgets it.
func (w *Worker) end(s *slot) (told func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ending[s.key] = s
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.ending, s.key)
	}
}

// Announce tells the home cell that this daemon is new and runs nothing, so
// that the cell need not wait for the leases of the one before. It does so
// once: the cell gives up all that it has awarded to this node, so until then
// the node does not bid there.
func (w *Worker) Announce(ctx context.Context, cell workload.CellID) error {
	if w.Announced() {
		return nil
	}
	if err := w.disclaim(ctx, cell); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fresh = true
	w.poke()
	return nil
}

// disclaim tells a cell that nothing runs here of what it believes to. It must
// only be called while no award can be taken: before the first bid, or after
// Close.
func (w *Worker) disclaim(ctx context.Context, cell workload.CellID) error {
	var held wire.Renewed
	ask := wire.RenewMsg{Cell: cell}
	if err := w.cfg.Leaders.CallLeader(ctx, cell, wire.ProtoRenew, &ask, &held); err != nil || len(held.Held) == 0 {
		return err
	}
	say := wire.RenewMsg{Cell: cell, Disclaim: held.Held}
	return w.cfg.Leaders.CallLeader(ctx, cell, wire.ProtoRenew, &say, &wire.Renewed{})
}

// Announced reports whether the home cell knows that this daemon is new.
func (w *Worker) Announced() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fresh
}
