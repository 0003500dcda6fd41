package model

import (
	"github.com/perrin-mesh/perrin/scheduler"
	"github.com/perrin-mesh/perrin/simulations/policy"
	"github.com/perrin-mesh/perrin/simulations/scenario"
	"github.com/perrin-mesh/perrin/workload"
)

// What only some rivals need of a world: a look at every peer, and Hawk's stealing.

// Size implements policy.Oracle.
func (w *World) Size() int { return len(w.peers) }

// OfferOf implements policy.Oracle.
func (w *World) OfferOf(i int, of workload.CellID) (offerIn, bool) {
	p := &w.peers[i]
	if !p.up || !p.fresh || w.does(p, scenario.FreeRides) {
		return offerIn{}, false
	}
	o := workload.Offer{Node: p.id, Cell: w.cells[p.cell].id, Machine: *w.park(p), Free: w.free(p), Asks: p.asks, ValidMs: offerValid}
	return offerIn{Offer: o, RTTMicros: w.rtt(w.cells[cellOf(of)].leader, int32(i)) / 1000}, true
}

// Waiting implements policy.Oracle.
func (w *World) Waiting(i int) int { return len(w.peers[i].queue) }

// Service implements policy.Oracle.
func (w *World) Service(lot *deskLot) int64 {
	return w.expected(w.loadOf(lot.Workload))
}

// expected is how long a workload's tasks take on a reference core, in ns: of a
// trace what its row says, else the mean of its stream.
func (w *World) expected(load int32) int64 {
	l := &w.loads[load]
	s := &w.sc.Workloads[l.stream]
	if len(s.Arrivals) > 0 {
		return s.Arrivals[l.who].Service
	}
	return int64(s.Service.Mean())
}

// How Hawk steals: a node without work asks up to so many others, one by one.
const stealTries = 10

// steal asks a node at random for short calls that wait behind long work.
func (w *World) steal(on int32) {
	p := &w.peers[on]
	if !w.traits.Steals || len(p.queue) > 0 || len(w.peers) < 2 {
		return
	}
	w.stealFrom(on, stealTries)
}

func (w *World) stealFrom(on int32, tries int64) {
	victims := len(w.peers) - int(int64(len(w.peers))*w.sc.Policy.Reserve/1_000_000)
	to := int32(w.peers[on].work.IntN(max(victims, 1)))
	w.send(message{kind: msgSteal, from: on, to: to, n: tries - 1})
}

// stealing is a question for calls, or its answer.
func (w *World) stealing(to int32, m *message) {
	p := &w.peers[to]
	if m.kind == msgSteal {
		w.send(message{kind: msgStolen, from: to, to: m.from, n: m.n, body: w.giveAway(p)})
		return
	}
	stolen := m.body.([]message)
	switch {
	case len(stolen) > 0:
		for i := range stolen {
			w.called(to, &stolen[i])
		}
	case len(p.queue) == 0 && m.n > 0:
		w.stealFrom(to, m.n)
	}
}

// giveAway takes the first row of short calls out of a queue, if something long
// runs or waits before them.
func (w *World) giveAway(p *peer) (out []message) {
	long := false
	for _, i := range p.slots {
		long = long || w.isLong(w.slots[i].load)
	}
	var kept []message
	taking := true
	for _, m := range p.queue {
		isLong := w.isLong(w.loadOf(m.body.(*scheduler.CallOut).Call.Workload))
		taking = taking && (len(out) == 0 || !isLong)
		if long && !isLong && taking {
			out = append(out, m)
			continue
		}
		long = long || isLong
		kept = append(kept, m)
	}
	p.queue = kept
	return out
}

func (w *World) isLong(load int32) bool {
	return w.expected(load) >= w.sc.Policy.Cutoff
}

// PeerNumber implements policy.Numbers.
func (w *World) PeerNumber(id workload.PeerID) int32 { return indexOf(id) }

// CellNumber implements policy.Numbers.
func (w *World) CellNumber(id workload.CellID) int32 { return cellOf(id) }

// WorkloadNumber implements policy.Numbers.
func (w *World) WorkloadNumber(id workload.ID) int32 { return w.loadOf(id) }

// traced takes what a user's own policy picks into the trace.
type traced struct {
	w *World
	policy.Chooser
}

// Choose implements policy.Chooser.
func (t *traced) Choose(q *policy.Question) ([]int, error) {
	picked, err := t.Chooser.Choose(q)
	t.w.mix(uint64(len(picked)))
	for _, i := range picked {
		t.w.mix(uint64(i))
	}
	return picked, err
}

// broken ends the run when a user's own policy has failed.
func (w *World) broken(d policy.Desk) {
	if err := d.(policy.Failing).Err(); err != nil && w.fault == nil {
		w.fault = err
	}
}

var _ policy.Oracle = (*World)(nil)
