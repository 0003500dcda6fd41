package inspect

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/perrin-mesh/perrin/simulations/chance"
	"github.com/perrin-mesh/perrin/simulations/external"
	"github.com/perrin-mesh/perrin/simulations/model"
	"github.com/perrin-mesh/perrin/simulations/scenario"
	"github.com/perrin-mesh/perrin/simulations/study"
)

// Run is a replication of a folder that is run again.
type Run struct {
	Manifest    *study.Manifest
	Scenario    *scenario.Scenario
	Replication int    // from 1
	Version     string // of this program, for errors
	Unchecked   bool   // stop as soon as the answer is known
}

// OutOfRange is the error of something that the run does not have.
type OutOfRange struct {
	What  string // such as "peer 70"
	Range string // what there is
}

// Error says what is not there and what is.
func (e *OutOfRange) Error() string { return fmt.Sprintf("there is no %s: %s", e.What, e.Range) }

// between is how many events pass between two looks at the context.
const between = 4096

// open begins the replication; the caller calls end.
func (r *Run) open(ctx context.Context) (w *model.World, end func(), err error) {
	if n := len(r.Manifest.Replications); r.Replication < 1 || r.Replication > n {
		return nil, nil, &OutOfRange{fmt.Sprintf("replication %d", r.Replication), fmt.Sprintf("the folder has 1 to %d", n)}
	}
	return external.World(ctx, r.Scenario, chance.Seed(r.Scenario.Seed).Replication(r.Replication-1))
}

// steps runs a world until it is over or until says so after an event.
func steps(ctx context.Context, w *model.World, until func() bool) error {
	for !until() && w.Step() {
		if w.Events()%between == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return w.Err()
}

// check goes on to the end and wants the trace of the folder.
func (r *Run) check(ctx context.Context, w *model.World) error {
	if err := steps(ctx, w, func() bool { return false }); err != nil {
		return err
	}
	want, got := r.Manifest.Replications[r.Replication-1], w.Result()
	if got.Trace != want.Trace || got.Events != want.Events {
		return &study.Unlike{Replication: r.Replication, Want: want, Got: study.Replication{Seed: got.Seed, Events: got.Events, Trace: got.Trace}, Made: r.Manifest.Perrin, This: r.Version}
	}
	return nil
}

// Peer is the state of a peer at a time.
type Peer struct {
	Replication int    `json:"replication"`
	AtNs        int64  `json:"at_ns"`
	Events      uint64 `json:"events"` // that had happened by then
	Checked     bool   `json:"checked"`
	Last        uint64 `json:"last_event"` // the last that the peer was part of; 0 is none
	LastAtNs    int64  `json:"last_at_ns"`
	LastWords   string `json:"last"`
	model.Peer
}

// PeerAt returns the state of a peer after every event up to a time in ns.
func (r *Run) PeerAt(ctx context.Context, n int, at int64) (*Peer, error) {
	if end := r.Scenario.Duration; at < 0 || at > end {
		return nil, &OutOfRange{fmt.Sprintf("time %g s", float64(at)/1e9), fmt.Sprintf("the run goes from 0 s to %g s", float64(end)/1e9)}
	}
	w, end, err := r.open(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	if _, ok := w.Peer(n); !ok {
		return nil, &OutOfRange{fmt.Sprintf("peer %d", n), fmt.Sprintf("the scenario has 0 to %d", r.Scenario.Peers-1)}
	}
	out := &Peer{Replication: r.Replication, AtNs: at}
	w.Watch(func(e *model.Record) {
		if e.At <= at && e.Peer == int32(n) {
			out.Last, out.LastAtNs, out.LastWords = e.Number, e.At, words(e)
		}
	})
	err = steps(ctx, w, func() bool {
		next, more := w.Next()
		return !more || next.At > at
	})
	if err != nil {
		return nil, err
	}
	out.Events = w.Events()
	out.Peer, _ = w.Peer(n)
	if r.Unchecked {
		return out, nil
	}
	out.Checked = true
	return out, r.check(ctx, w)
}

// Summary is one workload in a list.
type Summary struct {
	Number      int32  `json:"workload"`
	Stream      string `json:"stream"`
	Home        int32  `json:"home"`
	Cell        int32  `json:"cell"`
	ArrivedNs   int64  `json:"arrived_ns"`
	PlacementNs int64  `json:"placement_ns"` // until the first slot was committed, or the end of the run
	Phase       string `json:"phase"`
}

// Slowest returns how many workloads arrived and those that waited longest for
// their first slot, the slowest first, without those whose submitter left before
// they had an ID.
func (r *Run) Slowest(ctx context.Context, most int) (int, []Summary, error) {
	w, end, err := r.open(ctx)
	if err != nil {
		return 0, nil, err
	}
	defer end()
	if err := r.check(ctx, w); err != nil {
		return 0, nil, err
	}
	var all []Summary
	n := 0
	for l := range w.Workloads() {
		if n++; l.Forgotten {
			continue // nobody waits for it
		}
		took := r.Scenario.Duration - l.Arrived
		if l.Placed > 0 {
			took = l.Placed - l.Arrived
		}
		all = append(all, Summary{l.Number, l.Stream, l.Home, l.Cell, l.Arrived, took, string(l.Phase)})
	}
	slices.SortStableFunc(all, func(a, b Summary) int { return cmp.Compare(b.PlacementNs, a.PlacementNs) })
	return n, all[:min(most, len(all))], nil
}

// words says what an event is.
func words(e *model.Record) string {
	text := e.Kind
	switch e.Kind {
	case "deliver":
		text = fmt.Sprintf("gets %s from peer %d", e.What, e.From)
	case "handle":
		text = fmt.Sprintf("handles %s from peer %d, which waited for its CPU", e.What, e.From)
	case "commit":
		text = "has committed " + e.What
	case "arrive":
		text = "a workload arrives"
	case "client":
		text = "a client submits a workload"
	case "begin":
		text = "a slot has started"
	case "task-end":
		text = "a task ends"
	case "wake":
		text = "the leader's desk wakes up"
	case "resend":
		text = "the submission is sent again"
	case "retry":
		text = "a slot says again what was not answered"
	case "elect":
		text = "the cell has a new leader"
	}
	return text
}
