package model

import (
	"fmt"
	"math"

	"github.com/perrin-mesh/perrin/simulations/stats"
)

// Figure is one measured quantity of a replication.
type Figure struct {
	Name  string
	Unit  string
	Value float64 // NaN when there was nothing to measure
}

// Result is what a replication came to.
type Result struct {
	Seed    uint64
	Events  uint64
	Trace   string
	Figures []Figure
	Spreads []Spread
	Series  []Point
}

// Result returns what was measured; the run must be over.
func (w *World) Result() *Result {
	return &Result{Seed: uint64(w.seed), Events: w.events, Trace: fmt.Sprintf("%016x", w.trace), Figures: w.figures(), Spreads: w.spreads(), Series: w.Series}
}

func (w *World) figures() []Figure {
	var out []Figure
	add := func(name, unit string, v float64) { out = append(out, Figure{name, unit, v}) }
	per := func(a, b float64) float64 {
		if b == 0 {
			return math.NaN()
		}
		return a / b
	}
	spread := func(name, unit string, h *stats.Histogram, scale float64) {
		add(name+"_p50", unit, h.Quantile(0.5)/scale)
		add(name+"_p99", unit, h.Quantile(0.99)/scale)
	}
	const toMs, permille = 1e6, 1e3
	spread("ack", "ms", &w.ack, toMs)
	spread("placement", "ms", &w.placement, toMs)
	spread("queueing", "ms", &w.waiting, toMs)
	spread("start", "ms", &w.start, toMs)
	spread("slowdown", "x", &w.slowdown, permille)
	add("price_mean", "µcr/slot-s", w.rate.Mean())
	add("price_p99", "µcr/slot-s", w.rate.Quantile(0.99))
	add("premium", "%", w.premium.Mean()/10)
	add("paid", "µcr/s", per(float64(w.paidSum)*1000, w.paidMs))
	add("utilisation", "%", per(100*w.usedTime, w.upTime))
	add("cores_used", "%", per(100*w.coreTime, w.upCoreTime))
	paid, bound := w.costs()
	add("cost", "µcr/s of work", paid)
	add("cost_bound", "µcr/s of work", bound)
	add("regret", "%", 100*(paid-bound)/bound)
	add("fairness", "Jain's", w.fairness())
	spread("recovery", "ms", &w.recovery, toMs)
	add("energy", "J/s of work", w.joules())
	messages, bytes := w.calibration.all(w.Traffic())
	add("messages", "a placement", per(messages, float64(w.placedInTime)))
	add("bytes", "a placement", per(bytes, float64(w.placedInTime)))
	ended := float64(w.succeeded + w.failed + w.missed)
	add("success", "% of ended", per(100*float64(w.succeeded), ended))
	add("workloads", "", float64(w.submitted))
	add("placed", "slots", float64(w.placements))
	add("succeeded", "", float64(w.succeeded))
	add("unfinished", "", float64(w.submitted)-ended)
	add("declines", "in all", float64(w.declines))
	add("declined", "% of calls", per(100*float64(w.declines), float64(w.messages[msgCall])))
	add("refused_awards", "in all", float64(w.refusals))
	add("lost_attempts", "in all", float64(w.lostAttempts))
	add("expired_leases", "in all", float64(w.expiries))
	add("elections", "in all", float64(w.elections))
	add("lost_messages", "in all", float64(w.lostMsgs))
	add("doubled_messages", "in all", float64(w.doubled))
	add("lent", "% of all threads", per(100*w.lentTime, w.upTime))
	add("preempted", "in all", float64(w.preempted))
	add("to_attackers", "% of slots", per(100*float64(w.attacked), float64(w.placements)))
	add("paid_to_attackers", "% of all paid", per(100*float64(w.stolen), float64(w.paidSum)))
	add("wrong", "% of results", per(100*float64(w.wrong), float64(w.results)))
	add("omitted_offers", "in all", float64(w.omitted))
	add("rejected", "commands", float64(w.rejects))
	add("free_riders", "% of workloads", per(100*float64(w.ridden), float64(w.submitted)))
	add("fetch_p50", "ms", w.fetchTimes().Quantile(0.5)/toMs)
	add("fetch_p99", "ms", w.fetchTimes().Quantile(0.99)/toMs)
	add("connections", "opened", w.connectionsOpened())
	add("moved", "MB a placement", per(w.movedBytes()/1e6, float64(w.placedInTime)))
	return out
}

func (w *World) fetchTimes() *stats.Histogram {
	if w.store == nil {
		return &stats.Histogram{}
	}
	return &w.store.brought
}

func (w *World) movedBytes() float64 {
	if w.store == nil {
		return math.NaN()
	}
	return float64(w.store.moved)
}

func (w *World) connectionsOpened() float64 {
	if w.reach == nil {
		return math.NaN()
	}
	return float64(w.reach.opened)
}
