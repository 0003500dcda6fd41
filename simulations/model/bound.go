package model

import (
	"cmp"
	"math"
	"slices"

	"github.com/perrin-mesh/perrin/scheduler/pricing"
	"github.com/perrin-mesh/perrin/workload"
)

// worth is, of each stream, the measured workloads that succeeded: how long their
// tasks take on a reference core, in ns, and what was paid for them.
type worth struct {
	service []float64
	paid    []float64
}

// settled takes a workload that succeeded into the account. Idle time is not part of
// it: it has prices of its own.
func (w *World) settled(l *load, service int64) {
	if w.specs[l.stream].Resources.Class != workload.Spare {
		w.done.service[l.stream] += float64(service)
		w.done.paid[l.stream] += float64(l.paid)
	}
}

// costs returns what was paid for a second of a reference core in the slots of the
// workloads that succeeded, and a bound below which no policy can come, both in
// micro-credits. Without such work they are NaN.
func (w *World) costs() (paid, bound float64) {
	var service float64
	for i := range w.done.service {
		if w.done.service[i] > 0 {
			service += w.done.service[i]
			paid += w.done.paid[i]
			bound += w.least(i)
		}
	}
	if service == 0 {
		return math.NaN(), math.NaN()
	}
	return paid * 1e9 / service, bound * 1e9 / service
}

// least is the least that the work of a stream can cost, in micro-credits: the
// optimum of the linear program
//
//	minimise   sum of rate_i / speed_i x work_i  over the peers i
//	subject to sum of work_i = all work of the stream,
//	           work_i <= slots_i x speed_i x measured time.
//
// It is a continuous knapsack, so taking the peers from the cheapest on solves it.
// rate_i is what an idle peer asks for a slot of the stream, below which an ask never
// is (pricing.Asks never falls under its base, and a slot is paid its ask or more);
// slots_i is how many fit into all of the peer. What is left out only makes work
// dearer: that tasks cannot be divided, times of arrival, other streams, scarcity
// prices, shared cores, slow hosts, peers that are away, starts, messages and failures.
func (w *World) least(stream int) float64 {
	type offer struct{ unit, room float64 }
	shape := w.specs[stream].Resources
	span := float64(w.sc.Duration - w.sc.Warmup)
	offers := make([]offer, 0, len(w.peers))
	for i := range w.peers {
		p := &w.peers[i]
		rate := pricing.SlotRate(pricing.Asks(w.prices(p), 0, workload.Asks{}), shape)
		slots := float64(fitting(&w.park(p).Total, shape))
		if slots > 0 {
			speed := float64(p.speed) / 1000
			offers = append(offers, offer{float64(rate) / speed / 1e9, float64(slots*speed) * span})
		}
	}
	slices.SortFunc(offers, func(a, b offer) int { return cmp.Compare(a.unit, b.unit) })
	left, total := w.done.service[stream], 0.0
	for _, o := range offers {
		take := min(left, o.room)
		total += float64(take * o.unit)
		if left -= take; left <= 0 {
			return total
		}
	}
	return math.Inf(1) // more work than the mesh could have done
}

// fitting is how many slots of a shape a machine has in all.
func fitting(all *workload.Capacity, shape workload.Resources) int64 {
	n := int64(all.Cores) / int64(shape.CPUs)
	if shape.Class == workload.Thread {
		n = int64(all.Threads) / int64(shape.CPUs)
	}
	if shape.Memory > 0 {
		n = min(n, all.Memory/shape.Memory)
	}
	if shape.Disk > 0 {
		n = min(n, all.Disk/shape.Disk)
	}
	return min(n, int64(all.Slots))
}
