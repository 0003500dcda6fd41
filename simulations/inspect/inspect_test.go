package inspect

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/simulations/chance"
	"github.com/perrin-mesh/perrin/simulations/model"
	"github.com/perrin-mesh/perrin/simulations/scenario"
	"github.com/perrin-mesh/perrin/simulations/study"
)

const text = `
duration: 6s
peers: 60
cell_size: 20
replications: 2
seed: 5
machines: [{cores: 2}]
workloads: [{poisson: 20/s, service: 300ms}, {clients: 2, tasks: 9, service: 200ms}]
network: {regions: [{name: "<here>", share: 3}, {name: there}], rtt: [[1ms, 30ms], [30ms, 1ms]]}
churn: {departures: [{at: 4s, share: 30%, back: 1s}]}
`

func ran(t *testing.T) *Run {
	t.Helper()
	s, err := scenario.Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	o, err := study.Run(context.Background(), s, study.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return &Run{Manifest: o.Manifest("v1", []byte(text), time.Unix(0, 0)), Scenario: s, Replication: 2, Version: "v2"}
}

// TestPath wants each step of a path to be the cause of the next, from the arrival
// to the end.
func TestPath(t *testing.T) {
	r := ran(t)
	n, _, err := r.Slowest(context.Background(), 3)
	if err != nil || n < 60 {
		t.Fatalf("%d workloads, %v", n, err)
	}
	whole := 0
	for number := 3; number < n; number += 25 {
		r.Unchecked = number > 3
		p, err := r.PathOf(context.Background(), number)
		if err != nil {
			t.Fatal(err)
		}
		if p.Checked == r.Unchecked || int(p.Number) != number || len(p.Steps) == 0 {
			t.Fatalf("workload %d: %+v", number, p)
		}
		for i := 1; i < len(p.Steps); i++ {
			if p.Steps[i].Cause != p.Steps[i-1].Event || p.Steps[i].AtNs < p.Steps[i-1].AtNs {
				t.Errorf("workload %d: step %d is not the cause of the next: %+v", number, i, p.Steps)
			}
		}
		last := p.Steps[len(p.Steps)-1]
		if p.EndedNs > 0 && (last.AtNs != p.EndedNs || last.What != "close") {
			t.Errorf("workload %d ended at %d, its path at %+v", number, p.EndedNs, last)
		}
		if p.Waited() == "" && p.EndedNs > 0 {
			whole++
		}
	}
	if whole < 3 {
		t.Errorf("%d paths lead from the arrival to the end", whole)
	}
}

func TestDrawing(t *testing.T) {
	p, err := ran(t).PathOf(context.Background(), 20)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := p.WriteSVG(&b); err != nil {
		t.Fatal(err)
	}
	for d := xml.NewDecoder(bytes.NewReader(b.Bytes())); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("%v in %s", err, b.String())
		}
	}
	for _, want := range []string{"<title", "<desc", "&lt;here&gt;", "gets submit from peer", "has committed close"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the drawing lacks %q", want)
		}
	}
}

// TestPeer compares with a world that is run to the same time.
func TestPeer(t *testing.T) {
	r := ran(t)
	w, err := model.New(r.Scenario, chance.Seed(r.Scenario.Seed).Replication(1))
	if err != nil {
		t.Fatal(err)
	}
	const at = 4_200_000_000
	for {
		if e, more := w.Next(); !more || e.At > at {
			break
		}
		w.Step()
	}
	away, busy := 0, 0
	for n := range 60 {
		want, _ := w.Peer(n)
		if !want.Up {
			away++
		}
		busy += len(want.Slots)
		if n%10 != 0 {
			continue
		}
		r.Unchecked = n%20 == 0
		got, err := r.PeerAt(context.Background(), n, at)
		if err != nil || got.Up != want.Up || len(got.Slots) != len(want.Slots) || got.Free != want.Free || got.Events != w.Events() || got.Checked == r.Unchecked {
			t.Errorf("peer %d is %+v, want %+v: %v", n, got, want, err)
		}
	}
	if away == 0 || busy == 0 {
		t.Errorf("%d peers are away, %d slots", away, busy)
	}
}

func TestWhatThereIsNot(t *testing.T) {
	r := ran(t)
	for want, do := range map[string]func(*Run) error{
		"no peer 60: the scenario has 0 to 59":          func(r *Run) error { _, err := r.PeerAt(context.Background(), 60, 0); return err },
		"no peer -1":                                    func(r *Run) error { _, err := r.PeerAt(context.Background(), -1, 0); return err },
		"no time 9 s: the run goes from 0 s to 6 s":     func(r *Run) error { _, err := r.PeerAt(context.Background(), 1, 9e9); return err },
		"no time -1 s":                                  func(r *Run) error { _, err := r.PeerAt(context.Background(), 1, -1e9); return err },
		"no workload 5000: in replication 2 there were": func(r *Run) error { _, err := r.PathOf(context.Background(), 5000); return err },
		"no workload -1":                                func(r *Run) error { _, err := r.PathOf(context.Background(), -1); return err },
		"no replication 3: the folder has 1 to 2":       func(r *Run) error { r.Replication = 3; _, err := r.PathOf(context.Background(), 1); return err },
		"no replication 0: the folder has 1 to 2":       func(r *Run) error { r.Replication = 0; _, _, err := r.Slowest(context.Background(), 1); return err },
	} {
		again := *r
		err := do(&again)
		var none *OutOfRange
		if !errors.As(err, &none) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestAnotherTraceIsAnError(t *testing.T) {
	r := ran(t)
	r.Manifest.Replications[1].Trace = "0000000000000000"
	var unlike *study.Unlike
	if _, err := r.PathOf(context.Background(), 1); !errors.As(err, &unlike) || unlike.This != "v2" {
		t.Errorf("got %v", err)
	}
	r.Unchecked = true
	if _, err := r.PathOf(context.Background(), 1); err != nil {
		t.Errorf("unchecked: %v", err)
	}
}
