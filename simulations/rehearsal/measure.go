package rehearsal

import (
	"math"
	"time"

	"github.com/perrin-mesh/perrin/simulations/model"
	"github.com/perrin-mesh/perrin/simulations/stack"
	"github.com/perrin-mesh/perrin/simulations/stats"
	"github.com/perrin-mesh/perrin/workload"
)

// tally is what a play came to, as the model's meter has it.
type tally struct {
	sc *play

	ack, placement, waiting, start, slowdown, rate, premium, recovery stats.Histogram

	gone map[task]time.Time // tasks that were lost, and since when
	lost uint64             // attempts that ended with their machine or their lease

	submitted, succeeded, failed, missed, placed uint64
	paid, paidMs                                 int64
}

// result reads the figures of a play. Their names, units and meaning are those of
// package model.
func (p *play) result(r [2]reading) *model.Result {
	t := &tally{sc: p, gone: map[task]time.Time{}}
	t.workloads()
	warm := float64(p.placedBetween(r))
	out := &model.Result{Seed: uint64(p.seed), Series: p.series()}
	add := func(name, unit string, v float64) {
		out.Figures = append(out.Figures, model.Figure{Name: name, Unit: unit, Value: v})
	}
	spread := func(name, unit string, h *stats.Histogram, scale float64, quantiles bool) {
		if quantiles {
			add(name+"_p50", unit, h.Quantile(0.5)/scale)
			add(name+"_p99", unit, h.Quantile(0.99)/scale)
		}
		if h.N() == 0 {
			return
		}
		s := model.Spread{Name: name, Unit: unit, N: h.N()}
		for _, q := range model.Grid {
			s.Values = append(s.Values, h.Quantile(q)/scale)
		}
		out.Spreads = append(out.Spreads, s)
	}
	spread("ack", "ms", &t.ack, 1e6, true)
	spread("placement", "ms", &t.placement, 1e6, true)
	spread("queueing", "ms", &t.waiting, 1e6, true)
	spread("start", "ms", &t.start, 1e6, true)
	spread("slowdown", "x", &t.slowdown, 1e3, true)
	spread("price", "µcr/slot-s", &t.rate, 1, false)
	add("price_mean", "µcr/slot-s", t.rate.Mean())
	add("price_p99", "µcr/slot-s", t.rate.Quantile(0.99))
	add("premium", "%", t.premium.Mean()/10)
	add("paid", "µcr/s", per(float64(t.paid)*1000, float64(t.paidMs)))
	add("messages", "a placement", per(float64(p.messages(r)), warm))
	add("bytes", "a placement", per(float64(r[1].bytes-r[0].bytes), warm))
	over := float64(t.succeeded + t.failed + t.missed)
	add("success", "% of ended", per(100*float64(t.succeeded), over))
	add("workloads", "", float64(t.submitted))
	add("placed", "slots", float64(t.placed))
	add("succeeded", "", float64(t.succeeded))
	add("unfinished", "", float64(t.submitted)-over)
	if len(p.sc.Faults) > 0 || mortal(p.sc) {
		spread("recovery", "ms", &t.recovery, 1e6, true)
		add("lost_attempts", "in all", float64(t.lost))
		add("expired_leases", "in all", float64(p.seen.expiries))
		add("cut_packets", "in all", float64(r[1].cut))
	}
	return out
}

func per(a, b float64) float64 {
	if b == 0 {
		return math.NaN()
	}
	return a / b
}

// messages are requests with their answers, and each entry of the log once for
// each server that it goes to.
func (p *play) messages(r [2]reading) uint64 {
	return 2*(r[1].requests-r[0].requests) + uint64(p.followers)*(r[1].entries-r[0].entries)
}

// placedBetween is how many slots were awarded between two readings.
func (p *play) placedBetween(r [2]reading) (n uint64) {
	for _, a := range p.seen.awards {
		if !a.at.Before(r[0].at) && a.at.Before(r[1].at) {
			n++
		}
	}
	return n
}

// workloads goes through what came, with what became of it.
func (t *tally) workloads() {
	p := t.sc
	placed, began := map[workload.ID]time.Time{}, map[workload.ID]time.Time{}
	counted := map[workload.ID]bool{}
	for i, a := range p.acked {
		if !a.at.IsZero() {
			counted[a.id] = p.counts(&p.work[i])
		}
	}
	for _, a := range p.seen.awards {
		if placed[a.id].IsZero() {
			placed[a.id] = a.at
		}
		if counted[a.id] && a.at.Before(p.end()) {
			t.placed++
			t.rate.Add(a.rate)
			t.premium.Add((a.rate - a.ask) * 1000 / max(a.ask, 1))
		}
	}
	for _, c := range p.seen.closes {
		if counted[c.id] {
			t.paid += c.charged
			t.paidMs += c.wallMs
		}
	}
	for _, s := range p.mesh.Journal.Stints() {
		if began[s.Workload].IsZero() {
			began[s.Workload] = s.From
		}
		t.recovers(&s, counted[s.Workload])
	}
	for i := range p.work {
		if p.counts(&p.work[i]) {
			t.one(i, placed, began)
		}
	}
}

// recovers takes a stint for what was lost and runs again. They come in the order
// in which they began.
func (t *tally) recovers(s *stack.Stint, counts bool) {
	at := task{s.Workload, s.Task}
	if since, was := t.gone[at]; was {
		delete(t.gone, at)
		if counts {
			t.recovery.Add(int64(s.From.Sub(since)))
		}
	}
	if !s.To.After(t.sc.end()) && (s.End == stack.Crashed || s.End == stack.LeaseEnded || s.End == stack.Killed) {
		t.lost++
		t.gone[at] = s.To
	}
}

// task names a task of a workload.
type task struct {
	id    workload.ID
	index uint32
}

// counts reports whether a workload is measured, as in the model.
func (p *play) counts(w *work) bool {
	return int64(w.at) >= p.sc.Warmup && int64(w.at) < p.sc.Duration-p.sc.Cooldown
}

// end is when the scenario is over.
func (p *play) end() time.Time { return p.began.Add(time.Duration(p.sc.Duration)) }

// one measures one workload.
func (t *tally) one(i int, placed, began map[workload.ID]time.Time) {
	p := t.sc
	a, came := p.acked[i], p.began.Add(p.work[i].at)
	t.submitted++
	if a.missed {
		t.missed++
	}
	if a.at.IsZero() || a.at.After(p.end()) {
		return
	}
	t.ack.Add(int64(a.at.Sub(came)))
	if at := placed[a.id]; !at.IsZero() && at.Before(p.end()) {
		t.placement.Add(int64(at.Sub(came)))
		t.waiting.Add(int64(max(at.Sub(a.at), 0)))
	}
	if at := began[a.id]; !at.IsZero() && at.Before(p.end()) {
		t.start.Add(int64(at.Sub(came)))
	}
	over, is := p.seen.ends[a.id]
	switch {
	case !is || over.at.After(p.end()):
	case over.phase != workload.Succeeded:
		t.failed++
	default:
		t.succeeded++
		longest := time.Duration(1)
		for _, d := range p.work[i].services {
			longest = max(longest, d)
		}
		t.slowdown.Add(int64(over.at.Sub(came) * 1000 / longest))
	}
}

// series are the rows of the time series that whole nodes can tell.
func (p *play) series() []model.Point {
	every := time.Duration(p.sc.Interval)
	rows := make([]model.Point, p.sc.Duration/p.sc.Interval)
	waits, rates := make([]stats.Histogram, len(rows)), make([]stats.Histogram, len(rows))
	row := func(at time.Duration) int { return int((at - 1) / every) }
	change := func(at time.Duration, f func(i int)) {
		if i := row(at); i >= 0 && i < len(rows) {
			f(i)
		}
	}
	came := map[workload.ID]time.Duration{}
	for i := range p.work {
		change(p.work[i].at, func(k int) { rows[k].Submitted++; rows[k].Live++ })
		if a := p.acked[i]; !a.at.IsZero() {
			came[a.id] = p.work[i].at
		}
	}
	first := map[workload.ID]bool{}
	for _, a := range p.seen.awards {
		since := a.at.Sub(p.began)
		change(since, func(k int) {
			rows[k].Placed++
			rates[k].Add(a.rate)
			if at, known := came[a.id]; known && !first[a.id] {
				waits[k].Add(int64(since - at))
			}
			first[a.id] = true
		})
	}
	for id, e := range p.seen.ends {
		if _, known := came[id]; known {
			change(e.at.Sub(p.began), func(k int) {
				rows[k].Live--
				if e.phase == workload.Succeeded {
					rows[k].Succeeded++
				}
			})
		}
	}
	threads := int64(p.sc.Peers * p.sc.Machines[0].Cores * p.sc.Machines[0].Threads)
	var live int64
	for i := range rows {
		live += rows[i].Live
		rows[i].At, rows[i].Live, rows[i].Up = int64(i+1)*p.sc.Interval, live, threads
		rows[i].PlacementMs, rows[i].Rate, rows[i].Utilisation = waits[i].Quantile(0.5)/1e6, rates[i].Mean(), math.NaN()
	}
	return rows
}
