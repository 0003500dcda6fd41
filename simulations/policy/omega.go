package policy

import (
	"slices"

	"github.com/perrin-mesh/perrin/scheduler"
	"github.com/perrin-mesh/perrin/workload"
)

// Bounds of one transaction of a shared-state scheduler.
const (
	maxPlan = 64  // nodes
	maxTask = 512 // slots
)

// newOmega returns a scheduler with a copy of the state of the whole mesh
// (Schwarzkopf et al., "Omega", EuroSys 2013): it takes the state as it is, thinks
// for the decision time with one workload in mind, and then claims the nodes that
// it has found. A node that another scheduler has filled meanwhile declines: a
// conflict, and what is missing is decided again from fresh state.
func newOmega(c Config) *rival {
	r := newRival(c, nil)
	r.mine = map[workload.PeerID]int32{}
	r.decision = c.Policy.Decision / 1_000_000
	return r
}

// ponder ends a decision that is due and begins the next.
func (r *rival) ponder(now int64) (out []scheduler.Output) {
	for {
		if r.mind != nil {
			if now < r.until {
				return out
			}
			out = append(out, r.decide(now)...)
		}
		if len(r.queue) == 0 || now < r.retry {
			return out
		}
		j := r.queue[0]
		r.queue = r.queue[1:]
		if j.lot.Wanted == 0 {
			j.queued = false
			continue
		}
		r.found, r.counts = r.plan(now, j)
		if len(r.found) == 0 {
			r.queue = append(r.queue, j)
			r.retry = now + retryMin
			return out
		}
		r.mind, r.until = j, now+r.decision
	}
}

// decide claims what was planned.
func (r *rival) decide(now int64) []scheduler.Output {
	j := r.mind
	r.mind, j.queued = nil, false
	if j.lot.Wanted == 0 {
		return nil
	}
	out := r.call(now, j, r.found, r.counts)
	for i, n := range r.found {
		r.mine[n.Offer.Node] += j.round.held[i]
	}
	return out
}

// plan looks for room from a node at random on, first fit, as Omega's lightweight
// simulator does.
func (r *rival) plan(now int64, j *job) (found []*standing, counts []uint32) {
	lot, size := &j.lot, r.Oracle.Size()
	wanted := min(lot.Wanted, maxTask)
	start := r.Chance.IntN(size)
	for k := 0; k < size && wanted > 0 && len(found) < maxPlan; k++ {
		o, up := r.Oracle.OfferOf((start+k)%size, r.Cell)
		if !up || j.passed[o.Offer.Node] > now || slices.Contains(lot.Avoid, o.Offer.Node) {
			continue
		}
		n := &standing{OfferIn: o, spent: r.mine[o.Offer.Node]}
		if slots := min(n.slots(lot.Shape), wanted); slots > 0 {
			found, counts = append(found, n), append(counts, slots)
			wanted -= slots
		}
	}
	return found, counts
}
