package model

import (
	"slices"

	"github.com/perrin-mesh/perrin/scheduler/lease"
	"github.com/perrin-mesh/perrin/simulations/scenario"
)

// leaseWith is the peer's lease with a cell, a new one at need.
func (w *World) leaseWith(p *peer, cell int32) *cellLease {
	for i := range p.leases {
		if p.leases[i].cell == cell {
			return &p.leases[i]
		}
	}
	p.leases = append(p.leases, cellLease{cell: cell, lease: lease.NewWorker(w.lease)})
	return &p.leases[len(p.leases)-1]
}

// watchLease sees to it that a lease is renewed every third of its length, and
// that what it covers ends with it.
func (w *World) watchLease(p *peer, l *cellLease) {
	i := indexOf(p.id)
	if !l.renewing && !w.does(p, scenario.Vanishes) {
		l.renewing = true
		w.push(w.now+w.lease.Renew()*millisecond, event{kind: renew, a: i, b: l.cell, c: p.boot})
	}
	if !l.watched {
		l.watched = true
		w.push(w.whenClock(i, l.lease.Deadline()), event{kind: leaseEnd, a: i, b: l.cell, c: p.boot})
	}
}

// holdsOf reports whether slots of a cell are on a peer.
func (w *World) holdsOf(p *peer, cell int32) bool {
	for _, i := range p.slots {
		if w.slots[i].cell == cell {
			return true
		}
	}
	return false
}

// leaseEvent is one of the peer's present boot, or nothing.
func (w *World) leaseEvent(e *event) {
	switch {
	case w.peers[e.a].boot != e.c:
	case e.kind == renew:
		w.renew(e.a, e.b)
	default:
		w.leaseEnd(e.a, e.b)
	}
}

// renew sends one RENEW, and goes on while slots of the cell run here.
func (w *World) renew(on, cell int32) {
	p := &w.peers[on]
	l := w.leaseWith(p, cell)
	if !p.up || !l.renewing {
		return
	}
	if !w.holdsOf(p, cell) {
		l.renewing = false
		return
	}
	w.push(w.now+w.lease.Renew()*millisecond, event{kind: renew, a: on, b: cell, c: p.boot})
	if to := w.cells[cell].leader; to >= 0 {
		w.send(message{kind: msgRenew, from: on, to: to, cell: cell, boot: 0, n: w.clock(on), gen: p.boot, body: w.namesOf(p, cell)})
	}
}

// renewed moves the lease: it counts from when RENEW was sent.
func (w *World) renewed(on int32, m *message) {
	p := &w.peers[on]
	l := w.leaseWith(p, m.cell)
	r := m.body.(renewal)
	l.lease.Renewed(w.clock(on), m.n, r.grant, r.epoch)
	for k := len(p.slots) - 1; k >= 0; k-- {
		i := p.slots[k]
		s := &w.slots[i]
		if s.cell == m.cell && (s.fence.Epoch < r.epoch || slices.Contains(r.gone, heldSlot{s.load, s.id, s.fence})) {
			if !s.ending {
				w.lostAttempts++
			}
			w.drop(on, i)
		}
	}
}

// leaseEnd kills what runs under a lease that is over, as the supervisor does.
func (w *World) leaseEnd(on, cell int32) {
	p := &w.peers[on]
	l := w.leaseWith(p, cell)
	if !l.watched || w.planted == LeaseIgnored {
		return
	}
	if !w.holdsOf(p, cell) {
		l.watched = false
		return
	}
	if !l.lease.Over(w.clock(on)) {
		w.push(max(w.whenClock(on, l.lease.Deadline()), w.now+millisecond), event{kind: leaseEnd, a: on, b: cell, c: p.boot})
		return
	}
	l.watched = false
	for k := len(p.slots) - 1; k >= 0; k-- {
		if i := p.slots[k]; w.slots[i].cell == cell {
			w.lostAttempts++
			w.drop(on, i)
		}
	}
}
