package model

import (
	"slices"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/workload"
)

// keepInputs has the voters fetch what a workload needs before it is accepted; false
// when nothing is to be waited for.
func (w *World) keepInputs(c *cell, m *message, accept *ledger.Accept) bool {
	blobs, n := w.needsOf(m.load)
	var total int64
	for _, b := range blobs[:n] {
		total += w.bytesOf(b)
	}
	accept.Held = total <= workload.KeepAutoLimit
	if _, known := c.state.Phase(accept.ID); known || n == 0 || !accept.Held || w.sharesInputs(c, blobs[:n]) {
		return false
	}
	h := w.store.holds[m.load]
	if h == nil || h.term != c.term {
		h = &hold{term: c.term, from: m.from, accept: accept}
		w.store.holds[m.load] = h
	}
	for _, server := range w.servers(c) {
		if !slices.Contains(h.acked, server) {
			w.send(message{kind: msgHold, from: c.leader, to: server, cell: c.at, load: m.load})
		}
	}
	return true
}

// sharesInputs reports whether a majority of the voters has it all.
func (w *World) sharesInputs(c *cell, blobs []int32) bool {
	have := 0
	for _, v := range c.voters {
		if !slices.ContainsFunc(blobs, func(b int32) bool { return !w.has(v, b) }) {
			have++
		}
	}
	return have > len(c.voters)/2
}

// servers are the voters and standbys of a cell.
func (w *World) servers(c *cell) []int32 {
	out := slices.Clone(c.voters)
	for i := c.first; i < c.last && len(out) <= c.followers(); i++ {
		if !slices.Contains(c.voters, i) {
			out = append(out, i)
		}
	}
	return out
}

// holds has a server fetch what a workload needs from its home and the leader.
func (w *World) holds(to int32, m *message) {
	blobs, n := w.needsOf(m.load)
	home := w.loads[m.load].home
	lacks := new(int32)
	who := waiter{slot: -1, load: m.load, leader: m.from, cell: m.cell, lacks: lacks}
	var missing []int32
	for _, b := range blobs[:n] {
		switch {
		case w.has(to, b):
		case to == home: // it has it already, and pins it
			w.shelve(to, b, w.bytesOf(b))
		default:
			missing = append(missing, b)
		}
	}
	if *lacks = int32(len(missing)); *lacks == 0 {
		*lacks = 1
		w.heldHere(to, &who)
		return
	}
	for _, b := range missing {
		sources := []blobSource{{peer: home, home: true}}
		if m.from != to && m.from != home {
			sources = append(sources, blobSource{peer: m.from})
		}
		w.fetch(to, b, sources, who)
	}
}

// heldHere tells the leader once a server has all that a workload needs, on disk.
func (w *World) heldHere(on int32, who *waiter) {
	if *who.lacks--; *who.lacks > 0 {
		return
	}
	p := &w.peers[on]
	before := w.leaves
	w.leaves = max(w.now, w.leaves) + slowed(w.sc.Costs.Fsync.Draw(&p.work), p.disk)
	w.send(message{kind: msgHeld, from: on, to: who.leader, cell: who.cell, load: who.load})
	w.leaves = before
}

// held is a server that has what a workload needs. With a majority of the voters the
// workload is accepted.
func (w *World) held(c *cell, m *message) {
	h := w.store.holds[m.load]
	if h == nil || h.term != c.term || slices.Contains(h.acked, m.from) {
		return
	}
	h.acked = append(h.acked, m.from)
	votes := 0
	for _, v := range c.voters {
		if slices.Contains(h.acked, v) {
			votes++
		}
	}
	if votes > len(c.voters)/2 {
		delete(w.store.holds, m.load)
		w.accept(c, m.load, h.from, h.accept)
	}
}
