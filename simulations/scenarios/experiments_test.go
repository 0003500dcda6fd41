package scenarios

import (
	"context"
	"testing"

	"github.com/perrin-mesh/perrin/simulations/study"
	"github.com/perrin-mesh/perrin/simulations/sweep"
)

// cellsOf runs each cell of an experiment, cut down, and returns its figures.
func cellsOf(t *testing.T, name string, peers int, axes ...string) map[string]map[string]float64 {
	t.Helper()
	text, err := ReadExperiment(name)
	if err != nil {
		t.Fatal(err)
	}
	e, err := sweep.Read(name, text, Read)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]map[string]float64{}
	for i := range e.Cells {
		s := e.Cells[i].Scenario
		share := float64(peers) / float64(s.Peers)
		s.Peers, s.CellSize, s.Replications, s.Duration, s.Warmup = peers, min(s.CellSize, peers), 1, s.Duration/4, s.Warmup/4
		for k := range s.Workloads {
			s.Workloads[k].Poisson = int64(float64(s.Workloads[k].Poisson) * share)
		}
		r, err := study.Run(context.Background(), s, study.Options{Workers: 1})
		if err != nil {
			t.Fatal(err)
		}
		key := ""
		for _, axis := range axes {
			key += e.Cells[i].Value(axis) + " "
		}
		out[key] = map[string]float64{}
		for _, row := range r.Rows {
			out[key][row.Name] = row.Interval.Mean
		}
	}
	return out
}

// TestLargerCellsFindCheaperPeers holds the experiment cells to what it shows.
func TestLargerCellsFindCheaperPeers(t *testing.T) {
	got := cellsOf(t, "cells", 128, "cell_size")
	small, large := got["16 "], got["128 "]
	if len(got) != 4 || small["paid"] <= large["paid"] {
		t.Errorf("cells of 16 pay %g, of 128 %g; %d cells", small["paid"], large["paid"], len(got))
	}
}

// TestThreadsAgainstCores holds the experiment hyperthreads to what it shows.
func TestThreadsAgainstCores(t *testing.T) {
	got := cellsOf(t, "hyperthreads", 100, "workloads.poisson", "workloads.shape.class")
	core, thread := got["80/s core "], got["80/s thread "]
	full, room := got["190/s core "], got["190/s thread "]
	if len(got) != 4 || thread["slowdown_p50"] <= core["slowdown_p50"] || thread["price_mean"] >= core["price_mean"] {
		t.Errorf("with room: a thread is %g x as slow for %g, a core %g x for %g; %d cells",
			thread["slowdown_p50"], thread["price_mean"], core["slowdown_p50"], core["price_mean"], len(got))
	}
	if room["utilisation"] >= full["utilisation"] || room["queueing_p99"] >= full["queueing_p99"] {
		t.Errorf("short of cores: %g %% and %g ms of queueing on threads, %g %% and %g ms on cores",
			room["utilisation"], room["queueing_p99"], full["utilisation"], full["queueing_p99"])
	}
}
