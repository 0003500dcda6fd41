package trace

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/perrin-mesh/perrin/simulations/chance"
	"github.com/perrin-mesh/perrin/simulations/scenario"
)

// Thin keeps each arrival with a probability in ppm, independently: of a Poisson
// stream that leaves one of a smaller rate.
func Thin(rows []scenario.Arrival, ppm int64, seed uint64) []scenario.Arrival {
	s := chance.Seed(seed).Stream(0, forThin)
	return begin(slices.DeleteFunc(slices.Clone(rows), func(scenario.Arrival) bool { return !s.Happens(ppm) }))
}

// Superpose lays several traces over each other, each from its own beginning. Owners
// of different traces are different.
func Superpose(traces ...[]scenario.Arrival) []scenario.Arrival {
	var out []scenario.Arrival
	owners := 0
	for _, rows := range traces {
		most := -1
		for _, r := range rows {
			most = max(most, r.Owner)
			r.Owner += owners
			out = append(out, r)
		}
		owners += most + 1
	}
	slices.SortStableFunc(out, func(a, b scenario.Arrival) int { return cmp.Compare(a.At, b.At) })
	return out
}

// Resample draws n arrivals with replacement: a gap from the gaps, and a workload from
// the workloads (the bootstrap). What depends on what came before is lost: bursts, the
// time of day, and who comes after whom.
func Resample(rows []scenario.Arrival, n int, seed uint64) ([]scenario.Arrival, error) {
	if len(rows) < 2 {
		return nil, fmt.Errorf("resample: want two arrivals or more, there are %d", len(rows))
	}
	s := chance.Seed(seed).Stream(0, forResample)
	out := make([]scenario.Arrival, n)
	var at int64
	for i := range out {
		out[i] = rows[s.IntN(len(rows))]
		out[i].At = at
		k := 1 + s.IntN(len(rows)-1)
		if at += rows[k].At - rows[k-1].At; at > scenario.MaxAt {
			return nil, fmt.Errorf("resample: arrival %d comes after ten years: take fewer", i+2)
		}
	}
	return out, nil
}

// What a stream of chance is for.
const (
	forThin uint32 = iota
	forResample
	forFit
	forCalls
)

// begin has the first arrival come at 0.
func begin(rows []scenario.Arrival) []scenario.Arrival {
	if len(rows) > 0 {
		first := rows[0].At
		for i := range rows {
			rows[i].At -= first
		}
	}
	return rows
}
