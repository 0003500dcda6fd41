package model

import (
	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/simulations/scenario"
	"github.com/perrin-mesh/perrin/simulations/stats"
	"github.com/perrin-mesh/perrin/workload"
)

// meter is what is measured: workloads that arrive after the warm-up, and time
// after it.
type meter struct {
	numbers   []uint32   // workloads of each open stream so far
	rounds    [][]uint32 // and of each client of a closed one
	messages  [msgKinds]uint64
	inquiries uint64

	// all of the run
	lostAttempts, declines, refusals, rejects, expiries, elections, departures, lostMsgs, doubled, omitted, forged, preempted uint64
	charged                                                                                                                   int64

	// after the warm-up
	submitted, accepted, succeeded, failed, missed, placements, attacked, results, wrong, ridden uint64
	sentMsgs, sentBytes, placedInTime                                                            uint64 // whoever they are for
	ack, placement, waiting, start, slowdown, rate                                               stats.Histogram
	premium                                                                                      stats.Histogram // of what is paid over the ask, permille
	paidMs                                                                                       float64
	paidSum, stolen                                                                              int64 // micro-credits

	done     worth
	owners   []ownerTime
	lost     map[taskRef]int64 // tasks that were lost and do not run again yet: since when
	recovery stats.Histogram

	coresUsed, upCores   int64
	power                int64   // mW of the machines that are up
	coreTime, upCoreTime float64 // core-ns
	energy               float64 // mW-ns
	used, upThreads      int64
	lent                 int64   // threads whose idle time is used now
	lentTime             float64 // thread-ns
	since                int64   // until when the integrals go
	usedTime             float64 // thread-ns
	upTime               float64
	upPeers              int64
	upPeerTime           float64 // peer-ns

	window  Point
	placed1 stats.Histogram // of the window
	Series  []Point
}

// Point is one row of the time series: what happened since the last.
type Point struct {
	At          int64   // ns
	Submitted   uint64  // workloads
	Placed      uint64  // slots
	Succeeded   uint64  // workloads
	Live        int64   // workloads that have arrived and not ended, at the end of the row
	Utilisation float64 // now
	PlacementMs float64 // p50; NaN of none
	Rate        float64 // mean price of a slot-second awarded, micro-credits; NaN of none
	Messages    uint64
	Up          int64 // threads of peers that are there, now
	rates       float64
}

func (m *meter) open(sc *scenario.Scenario) {
	n := len(sc.Workloads)
	m.numbers = make([]uint32, n)
	m.done = worth{make([]float64, n), make([]float64, n)}
	m.owners = make([]ownerTime, sc.Owners)
}

// warm reports whether a time counts.
func (w *World) warm(at int64) bool { return at >= w.sc.Warmup }

// counts reports whether a workload of that arrival is measured: one that comes
// after the warm-up, and so early that it can end.
func (w *World) counts(arrived int64) bool {
	return w.warm(arrived) && arrived < w.sc.Duration-w.sc.Cooldown
}

// count counts a message that is sent.
func (w *World) count(k msgKind) { w.countBytes(k, msgBytes[k]) }

func (w *World) countBytes(k msgKind, bytes int64) {
	w.messages[k]++
	w.window.Messages++
	if w.warm(w.now) {
		w.sentMsgs++
		w.sentBytes += uint64(bytes)
	}
}

// use changes how many threads slots have.
func (w *World) use(by int64) {
	w.integrate()
	w.used += by
}

// integrate brings the integrals up to now. Peers that come and go are counted
// from the next change on.
func (w *World) integrate() {
	from := max(w.since, w.sc.Warmup)
	if w.now > from {
		w.usedTime += float64(float64(w.used) * float64(w.now-from))
		w.lentTime += float64(float64(w.lent) * float64(w.now-from))
		w.upTime += float64(float64(w.upThreads) * float64(w.now-from))
		w.coreTime += float64(float64(w.coresUsed) * float64(w.now-from))
		w.upCoreTime += float64(float64(w.upCores) * float64(w.now-from))
		w.energy += float64(float64(w.power) * float64(w.now-from))
		w.upPeerTime += float64(float64(w.upPeers) * float64(w.now-from))
	}
	w.since = w.now
}

func (w *World) submissions(l *load) {
	w.window.Submitted++
	w.window.Live++
	if w.counts(l.arrived) {
		w.submitted++
		if w.does(&w.peers[l.home], scenario.FreeRides) {
			w.ridden++
		}
	}
}

func (w *World) acknowledgement(l *load) {
	if w.counts(l.arrived) {
		w.accepted++
		w.ack.Add(l.acked - l.arrived)
	}
}

// placed is a slot that was committed, at a rate, for an ask.
func (w *World) placed(number int32, g ledger.SlotGrant, ask int64) {
	rate := g.Rate
	l := &w.loads[number]
	w.window.Placed++
	w.window.rates += float64(rate)
	if w.warm(w.now) {
		w.placedInTime++
	}
	first := l.placed == 0
	if first {
		l.placed = w.now
		w.placed1.Add(w.now - l.arrived)
	}
	if !w.counts(l.arrived) {
		return
	}
	w.placements++
	if w.peers[indexOf(g.Node)].attack > 0 {
		w.attacked++
	}
	w.rate.Add(rate)
	w.premium.Add((rate - ask) * 1000 / max(ask, 1))
	if first {
		w.placement.Add(w.now - l.arrived)
		if l.acked > 0 {
			w.waiting.Add(w.now - l.acked)
		} else {
			w.waiting.Add(0)
		}
	}
}

func (w *World) starting(l *load) {
	if w.counts(l.arrived) {
		w.start.Add(w.now - l.arrived)
	}
}

func (w *World) pays(l *load, by *peer, charge, wallMs int64) {
	if w.counts(l.arrived) {
		w.paidSum += charge
		if by.attack > 0 && !w.checked(w.loadOf(l.id)) {
			w.stolen += charge
		}
		w.paidMs += float64(wallMs)
	}
}

// ending is the end of a workload. Its slow-down is its time in the mesh over what
// its longest task takes on a reference core.
func (w *World) ending(l *load) {
	if l.missed {
		return // counted as such already
	}
	w.window.Live--
	if l.phase == workload.Succeeded {
		w.window.Succeeded++
	}
	if !w.counts(l.arrived) {
		return
	}
	if l.phase != workload.Succeeded {
		w.failed++
		return
	}
	w.succeeded++
	var longest, all int64
	for t := range w.tasksOf(l) {
		takes := w.service(w.loadOf(l.id), uint32(t))
		longest, all = max(longest, takes), all+takes
	}
	w.settled(l, all)
	o := &w.owners[l.owner]
	o.ideal, o.took = o.ideal+float64(longest), o.took+float64(l.ended-l.arrived)
	w.slowdown.Add((l.ended - l.arrived) * 1000 / longest)
}

// forgotten is a workload whose submitter left before it had an ID.
func (w *World) forgotten(l *load) {
	w.window.Live--
	if w.counts(l.arrived) {
		w.missed++
	}
}

// sample ends a row of the time series.
func (w *World) sample() {
	p := &w.window
	p.At, p.Up = w.now, w.upThreads
	if w.upThreads > 0 {
		p.Utilisation = float64(w.used) / float64(w.upThreads)
	}
	p.PlacementMs = w.placed1.Quantile(0.5) / float64(millisecond)
	p.Rate = p.rates / float64(p.Placed)
	w.Series = append(w.Series, *p)
	w.window, w.placed1 = Point{Live: p.Live}, stats.Histogram{}
}
