package model

import (
	"math"

	"github.com/perrin-mesh/perrin/simulations/scenario"
)

// EndsInTime is the invariant that holds where a scenario says how long a workload may take.
const EndsInTime = "every workload ends in time"

// checkEnds looks, at the end, for a workload that was acknowledged and took too
// long, counted from its arrival or from when all faults were over.
func (w *World) checkEnds() {
	limit, healed := w.sc.EndsWithin, w.healed()
	if limit == 0 || w.fault != nil || healed == math.MaxInt64 {
		return
	}
	for i := range w.loads {
		l := &w.loads[i]
		since, until := max(l.arrived, healed), l.ended
		if until == 0 {
			until = w.sc.Duration
		}
		if l.acked > 0 && until-since > limit {
			w.fail(EndsInTime, "workload %d came at %.3f s and %s after %.3f s", i, float64(l.arrived)/1e9, endText(l), float64(until-since)/1e9)
			return
		}
	}
}

func endText(l *load) string {
	if l.ended == 0 {
		return "has not ended"
	}
	return "ended only"
}

// healed is when the last fault is over and who left by one is back, in ns;
// math.MaxInt64 is never.
func (w *World) healed() (at int64) {
	for i := range w.sc.Faults {
		f := &w.sc.Faults[i]
		if f.For == 0 {
			return math.MaxInt64
		}
		at = max(at, f.At+f.For)
		if f.Kind == scenario.Crash || f.Kind == scenario.Cut || f.Kind == scenario.Freeze {
			at = max(at, f.At+f.For+electLeast+electMore)
		}
	}
	for _, d := range w.sc.Churn.Departures {
		if d.Back == 0 {
			continue // the rest can do the work
		}
		at = max(at, d.At+d.Back)
	}
	return at
}
