package fuzz

import (
	"math"
	"strconv"
	"strings"

	"github.com/perrin-mesh/perrin/simulations/chance"
	"github.com/perrin-mesh/perrin/simulations/scenario"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/specfile/document"
)

// That nothing waits for ever is only judged where a scenario says within which time all
// work ends. Most drawn scenarios cannot say so: half of their machines never come back,
// or the work is more than they can do. So some tries draw only what is over soon, leave
// the work as it is, and run on for as long as it can take.

const (
	second     = int64(1_000_000_000)
	allowance  = 60 * second // leases that end, elections, and waits between tries
	elections  = 4 * second  // after the last fault (model)
	mostLoad   = 0.4         // of all cores: what queued up during a fault is done soon
	rareTask   = 1e-4        // the share of tasks that take longer than what counts as the longest
	mostBounds = 3600 * second
)

// livable returns how long a workload of a scenario may take at most if nothing is
// wrong, in ns, counted from when its faults are over, and when that is; false where it
// may take for ever.
func livable(s *scenario.Scenario) (bound, healed int64, ok bool) {
	if s.Policy.Name != scenario.Perrin || len(s.Attackers) > 0 || !s.Churn.Session.IsZero() || s.Offered() > mostLoad {
		return 0, 0, false
	}
	for _, d := range s.Churn.Departures {
		if d.Back == 0 {
			return 0, 0, false // a majority of a cell's voters may be among them
		}
		healed = max(healed, d.At+d.Back)
	}
	for _, f := range s.Faults {
		if f.For == 0 || f.Kind == scenario.Slow {
			return 0, 0, false // what begins on a slow host stays slow
		}
		healed = max(healed, f.At+f.For)
	}
	var longest int64
	for i := range s.Workloads {
		w := &s.Workloads[i]
		if w.Clients > 0 || len(w.Arrivals) > 0 || len(w.Bursts) > 0 || w.MaxPrice > 0 || w.Shape.Class == workload.Spare {
			return 0, 0, false
		}
		for k := range s.Machines {
			m := &s.Machines[k]
			if int(w.Shape.CPUs) > m.Cores || w.Shape.Memory > m.Memory || w.Shape.Disk > m.Disk {
				return 0, 0, false
			}
			longest = max(longest, min(int64(1000*float64(slowest(w.Service))/math.Max(slowSpeed(m.Speed), 1)), w.Timeout))
		}
	}
	bound = allowance + 3*longest + 2*(healed+elections)
	return bound, healed + elections, bound < mostBounds
}

// slowest is what only rareTask of the draws exceed.
func slowest(d chance.Dist) int64 {
	v, logs := d.A, -math.Log(rareTask)
	switch d.Kind {
	case chance.Uniform:
		v = d.B
	case chance.Exponential:
		v = d.A * logs
	case chance.LogNormal:
		v = d.A * math.Exp(3.72*d.B)
	case chance.Pareto:
		v = d.A * math.Exp(logs/d.B)
	case chance.Weibull:
		v = d.A * math.Pow(logs, 1/d.B)
	}
	if d.Max > 0 {
		v = math.Min(v, float64(d.Max))
	}
	return int64(math.Min(v, float64(mostBounds)))
}

// slowSpeed is a speed in permille that hardly a machine is below.
func slowSpeed(d chance.Dist) float64 {
	switch d.Kind {
	case chance.Fixed, chance.Uniform:
		return d.A
	}
	return d.Mean() / 4
}

// patient returns a try whose faults are over early and which runs until all work must
// have ended; nil where the base has work that may take for ever.
func (d *drawer) patient(root *document.Node) (*document.Node, error) {
	if d.base.EndsWithin > 0 || len(d.base.Faults) > 0 {
		return nil, nil
	}
	if _, _, ok := livable(d.base); !ok {
		return nil, nil
	}
	lines := []string{"seed: " + strconv.Itoa(d.IntN(1_000_000)), "faults: [" + strings.Join(d.several(1+d.IntN(5), d.passing), ", ") + "]"}
	out, err := changed(root, lines)
	if err != nil {
		return nil, err
	}
	s, err := scenario.ParseTree("drawn", out)
	if err != nil {
		return out, nil // it has more of something than a scenario may: who runs it says so
	}
	bound, healed, ok := livable(s)
	if !ok {
		return nil, nil
	}
	return changed(out, []string{"ends_within: " + span(bound), "duration: " + span(max(d.base.Duration, healed+bound+5*second))})
}

// passing is a fault that begins in the first third and is over soon.
func (d *drawer) passing() string {
	f := "at: " + span(d.Int64N(d.base.Duration/3)) + ", for: " + span(d.Int64N(max(d.base.Duration/4, 2_000_000)))
	kinds := 6
	if len(d.base.Network.Regions) > 1 {
		kinds = 8
	}
	switch d.IntN(kinds) {
	case 0:
		f += ", crash: " + d.pick("leaders", "voters", "peers") + ", share: " + d.share()
	case 1:
		f += ", freeze: leaders, share: " + d.share()
	case 2:
		f += ", disk: " + strconv.Itoa(2+d.IntN(999)) + ", share: " + d.share()
	case 3:
		f += ", loss: " + strconv.Itoa(1+d.IntN(80)) + "%"
	case 4:
		f += ", duplicate: " + strconv.Itoa(1+d.IntN(100)) + "%"
	case 5:
		f += d.reorder()
	default:
		f += d.cut()
	}
	return "{" + f + "}"
}

// stays reports whether what a shrinker makes of a try still has to end in time: a
// smaller machine park may have more work than it can do.
func stays(root *document.Node) bool {
	s, err := scenario.ParseTree("drawn", root)
	if err != nil {
		return false
	}
	bound, _, ok := livable(s)
	return ok && s.EndsWithin >= bound
}
