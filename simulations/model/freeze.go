package model

import (
	"slices"

	"github.com/perrin-mesh/perrin/simulations/scenario"
)

// deposedAfter is how long a leader may say nothing before its voters look for
// another: Raft's heartbeat timeout (consensus.Mesh).
const deposedAfter = 1000 * millisecond

// freeze stops leaders, or lets them go on. What is sent to one meanwhile waits for
// it. One that says nothing for deposedAfter leads no more; the rest of its machine,
// and the tasks on it, go on.
func (w *World) freeze(n int32, f *scenario.Fault, begins bool) {
	regions := w.regionsOf(f)
	for i := range w.cells {
		c := &w.cells[i]
		switch {
		case c.leader < 0:
		case !begins:
			c.quorum = w.majority(c) // who was stopped votes again
		case w.hits(n, c.at, f.Share) && slices.Contains(regions, w.peers[c.leader].region):
			w.stopLeader(c, f.For)
		}
	}
}

func (w *World) stopLeader(c *cell, lasts int64) {
	if lasts == 0 {
		lasts = w.sc.Duration
	}
	if w.frozen == nil {
		w.frozen = map[int32]int64{}
	}
	p, until := &w.peers[c.leader], w.now+lasts
	w.frozen[c.leader], p.busy = max(w.frozen[c.leader], until), max(p.busy, until)
	if lasts >= deposedAfter {
		w.deposed(c)
	}
}

// runs reports whether a peer is there and not stopped.
func (w *World) runs(i int32) bool { return w.peers[i].up && w.frozen[i] <= w.now }

// later puts an event off that a cell's leader would handle, if that is stopped.
func (w *World) later(c *cell, e event) (until int64, put bool) {
	if c.leader < 0 || w.frozen[c.leader] <= w.now {
		return 0, false
	}
	until = w.frozen[c.leader]
	w.push(until, e)
	return until, true
}
