package model

import (
	"slices"
)

// A group without a leader has another after 2 to 4 s (consensus.Mesh); members
// tell a new leader their offers within tellSoon.
const (
	electLeast = 2000 * millisecond
	electMore  = 2000 * millisecond
	tellSoon   = 200 * millisecond
)

// scheduleChurn pushes the first departure of every peer, and mass departures.
func (w *World) scheduleChurn() {
	if !w.sc.Churn.Session.IsZero() {
		for i := range w.peers {
			w.push(w.session(int32(i)), event{kind: down, a: int32(i), b: w.peers[i].boot})
		}
	}
	for i, d := range w.sc.Churn.Departures {
		w.push(d.At, event{kind: depart, a: int32(i)})
	}
}

// sessionOf and absenceOf are drawn by the peer and how often it has started, so that
// they are the same under every policy.
func (w *World) sessionOf(i, boot int32) int64 {
	s := w.seed.Stream(uint32(i), forChurn).From(uint64(boot) << 8)
	return max(w.sc.Churn.Session.Draw(&s), millisecond)
}

func (w *World) absenceOf(i, boot int32) int64 {
	s := w.seed.Stream(uint32(i), forChurn).From(uint64(boot)<<8 + 128)
	return max(w.sc.Churn.Absence.Draw(&s), millisecond)
}

func (w *World) session(i int32) int64 { return w.now + w.sessionOf(i, w.peers[i].boot) }

func (w *World) absence(i int32) int64 { return w.now + w.absenceOf(i, w.peers[i].boot) }

// departs reports whether a departure takes a peer.
func (w *World) departs(n int, i int32) bool {
	s := w.seed.Stream(uint32(i), forDeparture).From(1<<40 + uint64(n)*4)
	return s.Happens(w.sc.Churn.Departures[n].Share)
}

// goDown takes a peer off the mesh: what runs on it ends, what it held is gone.
func (w *World) goDown(i, boot int32) {
	if w.peers[i].boot != boot || !w.peers[i].up {
		return
	}
	w.stopPeer(i)
	if !w.sc.Churn.Session.IsZero() {
		w.push(w.absence(i), event{kind: up, a: i, b: boot})
	}
}

func (w *World) stopPeer(i int32) {
	w.integrate()
	p := &w.peers[i]
	p.up, p.queue = false, nil
	delete(w.frozen, i)
	for len(p.slots) > 0 {
		w.lostAttempts++
		w.drop(i, p.slots[len(p.slots)-1])
	}
	p.fresh, p.alloc, p.bids, p.leases, p.busy, p.promised = false, nil, nil, nil, 0, 0
	p.again, p.told = false, 0
	clear(p.cores)
	w.stopFetches(i)
	w.disconnect(i)
	w.counted(p, -1)
	w.departures++
	c := &w.cells[p.cell]
	if c.leader == i {
		w.deposed(c)
	} else if c.leader >= 0 && slices.Contains(c.voters, i) {
		if c.quorum = w.majority(c); c.quorum < 0 {
			w.deposed(c) // a leader that no majority follows steps down
		}
	}
}

func (w *World) deposed(c *cell) {
	c.leader, c.quorum = -1, -1
	w.push(w.electionAt(c), event{kind: elect, a: c.at, b: c.term})
}

func (w *World) electionAt(c *cell) int64 {
	s := w.seed.Stream(uint32(c.at), forDeparture).From(uint64(c.term) << 8)
	return w.now + electLeast + s.Int64N(electMore)
}

// elect gives a cell a leader once a majority of its voters is there.
func (w *World) elect(c *cell, term int32) {
	if c.leader >= 0 || c.term != term {
		return
	}
	there := w.candidates(c)
	if len(there) == 0 {
		w.push(w.now+electLeast, event{kind: elect, a: c.at, b: term})
		return
	}
	c.term++
	w.elections++
	s := w.seed.Stream(uint32(c.at), forDeparture).From(uint64(c.term)<<8 + 64)
	if err := w.lead(c, there[s.IntN(len(there))]); err != nil {
		w.fail("policy", "%v", err)
		return
	}
	first, last := c.first, c.last
	if w.traits.Central {
		first, last = 0, int32(len(w.peers))
	}
	for i := first; i < last; i++ {
		if p := &w.peers[i]; p.up && !p.due {
			p.due = true
			w.push(w.now+s.Int64N(tellSoon), event{kind: offerSoon, a: i})
		}
	}
}

// comeUp starts a peer again. It tells its cell that it runs nothing.
func (w *World) comeUp(i, boot int32) {
	p := &w.peers[i]
	if p.up {
		if boot < 0 { // a greeting that was not answered
			w.greet(i)
		}
		return
	}
	if p.boot != boot {
		return
	}
	w.integrate()
	p.boot++
	p.up, p.seq = true, 0
	w.counted(p, 1)
	c := &w.cells[p.cell]
	if c.leader >= 0 && slices.Contains(c.voters, i) {
		c.quorum = w.majority(c)
	}
	if !w.sc.Churn.Session.IsZero() {
		w.push(w.session(i), event{kind: down, a: i, b: p.boot})
	}
	w.greet(i)
}

// greet tells the cell, until it answers, that nothing of an earlier boot runs.
func (w *World) greet(i int32) {
	p := &w.peers[i]
	if p.fresh {
		return
	}
	if to := w.cells[p.cell].leader; to >= 0 {
		w.send(message{kind: msgDisclaim, from: i, to: to, cell: p.cell, gen: p.boot})
	}
	w.push(w.now+patience, event{kind: up, a: i, b: -1})
}

func (w *World) disclaimed(to int32) {
	w.peers[to].fresh = true
	w.poke(to)
}

// depart takes a share of the peers at once, drawn for this departure.
func (w *World) depart(n int) {
	d := w.sc.Churn.Departures[n]
	for i := range w.peers {
		if w.departs(n, int32(i)) && w.peers[i].up {
			w.leave(int32(i), d.Back)
		}
	}
}
