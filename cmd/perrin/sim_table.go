package main

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/perrin-mesh/perrin/cmd/perrin/internal/terminal"
	"github.com/perrin-mesh/perrin/simulations/stats"
	"github.com/perrin-mesh/perrin/simulations/study"
)

// printStudy prints the figures of a study and where its folder is.
func (a *app) printStudy(o *study.Outcome, m *study.Manifest, dir string) error {
	s := o.Scenario
	var events uint64
	for _, r := range o.Results {
		events += r.Events
	}
	simulated := time.Duration(s.Duration) * time.Duration(s.Replications)
	fmt.Fprintf(a.stdout, "%s: %s, %s each of %s, %s policy, seed %d\n", terminal.Clean(s.Name, 60), terminal.Plural(s.Peers, "peer"),
		terminal.Plural(s.Replications, "replication"), terminal.Duration(time.Duration(s.Duration)), s.Policy.Name, s.Seed)
	did := terminal.Count(int64(events)) + " events"
	if m.Exact() != nil {
		did = "whole nodes"
	}
	fmt.Fprintf(a.stdout, "%s, %.1f s of CPU: %.1f times real time on one core\n\n",
		did, o.CPU.Seconds(), simulated.Seconds()/max(o.CPU.Seconds(), 1e-3))
	t := terminal.NewTable("FIGURE", "MEAN ", "95 % ", "UNIT")
	for _, r := range o.Rows {
		t.Row(r.Name, figureText(r.Interval.Mean), halfText(r.Interval), r.Unit)
	}
	if err := t.Write(a.stdout); err != nil {
		return err
	}
	a.noteUnfinished(o)
	if s.Replications < 2 {
		fmt.Fprintln(a.stdout, "\none replication has no confidence interval")
	}
	if m.Exact() != nil {
		_, err := fmt.Fprintf(a.stdout, "\nresults in %s (whole nodes: another run differs a little)\n", dir)
		return err
	}
	_, err := fmt.Fprintf(a.stdout, "\nresults in %s (trace of the first replication %s)\n", dir, m.Replications[0].Trace)
	return err
}

// figureText is a figure in four digits or more.
func figureText(v float64) string {
	switch {
	case math.IsNaN(v):
		return "-"
	case v >= 1000 || v == math.Trunc(v):
		return terminal.Count(int64(math.Round(v)))
	}
	return strconv.FormatFloat(v, 'f', max(0, 3-len(strconv.Itoa(int(v)))), 64)
}

func halfText(iv stats.Interval) string {
	if math.IsNaN(iv.Half) {
		return "-"
	}
	return "± " + figureText(iv.Half)
}

// noteUnfinished says when figures leave out much: what has not ended by the end
// took longer than what has.
func (a *app) noteUnfinished(o *study.Outcome) {
	mean := func(name string) float64 {
		for _, r := range o.Rows {
			if r.Name == name {
				return r.Interval.Mean
			}
		}
		return 0
	}
	if all, open := mean("workloads"), mean("unfinished"); open > 0.02*all {
		a.note("%.0f %% of the measured workloads had not ended when the run did, the longest of all: slow-downs and the latencies of what they waited for leave them out; "+
			"with cooldown: 5s what arrives in the last 5 s is not measured, and the mesh has time to end the rest", 100*open/all)
	}
}
