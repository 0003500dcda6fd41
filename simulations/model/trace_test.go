package model

import (
	"slices"
	"testing"

	"github.com/perrin-mesh/perrin/simulations/chance"
)

// TestWatchingChangesNothing follows each workload of a busy world from its
// arrival, and wants the same events as without a watcher.
func TestWatchingChangesNothing(t *testing.T) {
	for _, s := range small {
		plain := run(t, s.text, 3)
		w, err := New(parse(t, s.text), chance.Seed(3))
		if err != nil {
			t.Fatal(err)
		}
		var last Record
		seen := map[int32][]string{}
		w.Watch(func(r *Record) {
			if r.Number != last.Number+1 || r.Cause >= r.Number || r.At < last.At {
				t.Fatalf("%+v after %+v", *r, last)
			}
			if last = *r; r.Workload >= 0 {
				seen[r.Workload] = append(seen[r.Workload], r.Kind+" "+r.What)
			}
		})
		for w.Step() {
		}
		if w.Err() != nil || w.Trace() != plain.Trace() {
			t.Errorf("%s: watched, the trace is %x, else %x: %v", s.name, w.Trace(), plain.Trace(), w.Err())
		}
		for l := range w.Workloads() {
			if l.Ended > 0 && l.Phase == "succeeded" && !slices.Contains(seen[l.Number], "commit accept") || len(seen[l.Number]) == 0 {
				t.Fatalf("%s: of workload %d, %+v, only this was seen: %v", s.name, l.Number, l, seen[l.Number])
			}
		}
		if len(w.tracing.causes) > w.q.Len() {
			t.Errorf("%s: causes of %d events are kept, %d wait", s.name, len(w.tracing.causes), w.q.Len())
		}
	}
}

func TestPeerOfARunningWorld(t *testing.T) {
	w := world(t, busy, 1)
	for w.Now() < 10_000_000_000 {
		w.Step()
	}
	running, led := 0, 0
	for n := range 60 {
		p, ok := w.Peer(n)
		if !ok || p.Number != int32(n) || p.Region == "" || p.Machine == "" {
			t.Fatalf("peer %d is %+v", n, p)
		}
		for _, s := range p.Slots {
			if s.State == "running" && s.ForNs >= 0 && len(s.CPUs) > 0 && len(p.Leases) > 0 {
				running++
			}
		}
		if p.Leads {
			led++
		}
	}
	if _, ok := w.Peer(60); ok || running == 0 || led == 0 {
		t.Errorf("%d tasks run, %d lead", running, led)
	}
	if first, last, ok := w.Cell(3); !ok || first != 45 || last != 59 {
		t.Errorf("cell 3 is of %d to %d", first, last)
	}
}

func TestSpreadsAgreeWithFigures(t *testing.T) {
	w := run(t, open, 1)
	f := figures(w)
	for _, s := range w.Result().Spreads {
		if len(s.Values) != len(Grid) || s.N == 0 || !slices.IsSorted(s.Values) {
			t.Errorf("%s: %+v", s.Name, s)
		}
		if want, ok := f[s.Name+"_p50"]; ok && s.Values[49] != want {
			t.Errorf("%s: the median is %g, the figure %g", s.Name, s.Values[49], want)
		}
	}
	var names []string
	for _, f := range w.Result().Figures {
		names = append(names, f.Name)
	}
	if !slices.Equal(names, FigureNames()) {
		t.Errorf("the figures are %v, by name %v", names, FigureNames())
	}
}
