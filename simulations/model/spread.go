package model

import (
	"github.com/perrin-mesh/perrin/simulations/scenario"
	"github.com/perrin-mesh/perrin/simulations/stats"
)

// Spread is the distribution of a figure within one replication: what each share
// of Grid of all values is at most.
type Spread struct {
	Name   string
	Unit   string
	N      uint64
	Values []float64 // for each of Grid
}

// Grid is at which shares a Spread is read: every hundredth, and the tail.
var Grid = grid()

func grid() []float64 {
	var at []float64
	for i := 1; i < 100; i++ {
		at = append(at, float64(i)/100)
	}
	return append(at, 0.995, 0.999, 1)
}

// spreads reads every histogram; those without a value are left out.
func (w *World) spreads() []Spread {
	var out []Spread
	add := func(name, unit string, h *stats.Histogram, scale float64) {
		if h.N() == 0 {
			return
		}
		s := Spread{Name: name, Unit: unit, N: h.N()}
		for _, q := range Grid {
			s.Values = append(s.Values, h.Quantile(q)/scale)
		}
		out = append(out, s)
	}
	add("ack", "ms", &w.ack, 1e6)
	add("placement", "ms", &w.placement, 1e6)
	add("queueing", "ms", &w.waiting, 1e6)
	add("start", "ms", &w.start, 1e6)
	add("slowdown", "x", &w.slowdown, 1e3)
	add("price", "µcr/slot-s", &w.rate, 1)
	return out
}

// FigureNames lists the figures of every Result, in their order.
func FigureNames() []string {
	empty := World{sc: &scenario.Scenario{}}
	var names []string
	for _, f := range empty.figures() {
		names = append(names, f.Name)
	}
	return names
}
