package fuzz

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/perrin-mesh/perrin/simulations/chance"
	"github.com/perrin-mesh/perrin/simulations/external"
	"github.com/perrin-mesh/perrin/simulations/model"
	"github.com/perrin-mesh/perrin/simulations/scenario"
	"github.com/perrin-mesh/perrin/workload/specfile/document"
)

// Options say how long to look.
type Options struct {
	Seed     uint64
	Tries    int           // after try 0; 0 is none
	For      time.Duration // of wall time, tries and shrinking each; 0 is no limit
	Shrinks  int           // runs that shrinking may take
	Workers  int           // tries at once; 0 is one for each CPU
	Plant    model.Plant   // a bug to put in
	Progress func(Progress)
}

// AtOnce is how many tries are made at once.
func (o *Options) AtOnce() int {
	n := o.Workers
	if n <= 0 {
		n = runtime.GOMAXPROCS(0)
	}
	return min(n, o.Tries+1)
}

// Progress is how far a search is.
type Progress struct {
	Tries     int // that are over
	Of        int
	Events    uint64
	Shrinking int // runs of the shrinker so far; 0 is not yet
	Fields    int // that are left of the scenario
}

// Failure is a scenario that fails.
type Failure struct {
	Invariant string `json:"invariant"`
	Detail    string `json:"detail"`
	Event     uint64 `json:"event"`
	AtNs      int64  `json:"at_ns"`
	Try       int    `json:"try"`
	Seed      uint64 `json:"seed"` // of the scenario
	Runs      int    `json:"runs"` // that shrinking took
	From      int    `json:"fields_before"`
	To        int    `json:"fields"`
	Scenario  string `json:"scenario"` // a file
	root      *document.Node
	bounded   bool // ends_within is the fuzzer's own
}

// Outcome is what a search came to.
type Outcome struct {
	Tries     int      `json:"tries"` // with the scenario as it is
	Events    uint64   `json:"events"`
	Skipped   int      `json:"skipped"` // of Tries: what was drawn is no scenario
	Simulated int64    `json:"simulated_ns"`
	Stopped   bool     `json:"out_of_time"` // before all tries were made
	Failure   *Failure `json:"failure"`     // null when every invariant held
}

// The two that are judged beside the model's invariants.
const (
	Panics   = "nothing panics"
	Repeated = "the same events come a second time"
)

// verdict is what one run came to.
type verdict struct {
	failure   *Failure
	skipped   bool // it was not run
	events    uint64
	simulated int64
}

// maxEvents bounds a run, so that a scenario that never calms down ends.
const maxEvents = 50_000_000

// judge runs a scenario once.
func judge(ctx context.Context, root *document.Node, plant model.Plant) (v verdict, err error) {
	s, err := scenario.ParseTree("drawn", root)
	if err != nil {
		return v, err
	}
	var w *model.World
	defer func() {
		if p := recover(); p != nil {
			v.failure = &Failure{Invariant: Panics, Detail: fmt.Sprintf("%v at %s", p, frame()), Seed: s.Seed, root: root}
			if w != nil {
				v.failure.Event, v.failure.AtNs = w.Events(), w.Now()
			}
		}
	}()
	w, end, err := external.World(ctx, s, chance.Seed(s.Seed).Replication(0))
	if err != nil {
		return v, err
	}
	defer end()
	w.Plant(plant)
	for w.Events() < maxEvents && w.Step() {
		if w.Events()%4096 == 0 && ctx.Err() != nil {
			return v, ctx.Err()
		}
	}
	v.events, v.simulated = w.Events(), w.Now()
	var broken *model.Violation
	if errors.As(w.Err(), &broken) {
		v.failure = &Failure{Invariant: broken.Invariant, Detail: broken.Detail, Event: broken.Event, AtNs: broken.At, Seed: s.Seed, root: root}
	}
	return v, nil
}

// frame is where a panic came from, as far as a reader needs it.
func frame() string {
	for line := range strings.Lines(string(debug.Stack())) {
		if at := strings.TrimSpace(line); strings.Contains(at, ".go:") && !strings.Contains(at, "/runtime/") && !strings.Contains(at, "simulations/fuzz/") {
			file, _, _ := strings.Cut(at, " +")
			parts := strings.Split(file, "/")
			return strings.Join(parts[max(0, len(parts)-3):], "/")
		}
	}
	return "an unknown place"
}

// Run searches, and shrinks the first failure in the order of the tries.
func Run(ctx context.Context, root *document.Node, o Options) (*Outcome, error) {
	base, err := scenario.ParseTree("scenario.yaml", root)
	if err != nil {
		return nil, err
	}
	o.Workers = o.AtOnce()
	limited, cancel := within(ctx, o.For)
	defer cancel()
	out := &Outcome{}
	for first := 0; first <= o.Tries && out.Failure == nil; first += o.Workers {
		last := min(first+o.Workers, o.Tries+1)
		verdicts, err := batch(limited, root, base, o, first, last)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if limited.Err() != nil {
			out.Stopped = true
			break
		}
		if err != nil {
			return nil, err
		}
		out.take(verdicts, first)
		o.tell(Progress{Tries: out.Tries, Of: o.Tries + 1, Events: out.Events})
	}
	if out.Failure == nil {
		return out, nil
	}
	rest, stop := within(ctx, o.For)
	defer stop()
	out.Failure.bounded = base.EndsWithin == 0
	out.Failure.shrink(rest, o)
	return out, ctx.Err()
}

func within(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	if limit <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, limit)
}

func (o *Options) tell(p Progress) {
	if o.Progress != nil {
		o.Progress(p)
	}
}

// batch makes some tries at once.
func batch(ctx context.Context, root *document.Node, base *scenario.Scenario, o Options, first, last int) ([]verdict, error) {
	verdicts, errs := make([]verdict, last-first), make([]error, last-first)
	var all sync.WaitGroup
	for try := first; try < last; try++ {
		all.Go(func() {
			verdicts[try-first], errs[try-first] = one(ctx, root, base, o, try)
		})
	}
	all.Wait()
	return verdicts, errors.Join(errs...)
}

// one makes a try. What fails must fail the same way again; else that is the
// failure.
func one(ctx context.Context, root *document.Node, base *scenario.Scenario, o Options, try int) (verdict, error) {
	drawn, err := Draw(root, base, o.Seed, try)
	if err != nil {
		return verdict{}, fmt.Errorf("try %d: %w", try, err)
	}
	if _, err := scenario.ParseTree("drawn", drawn); err != nil {
		return verdict{skipped: true}, nil // it has more of something than a scenario may
	}
	v, err := judge(ctx, drawn, o.Plant)
	if err != nil || v.failure == nil {
		return v, err
	}
	again, err := judge(ctx, drawn, o.Plant)
	if err == nil && (again.failure == nil || again.failure.Event != v.failure.Event || again.failure.Detail != v.failure.Detail) {
		v.failure.Invariant, v.failure.Detail = Repeated, "once: "+v.failure.Detail+"; again it did otherwise"
	}
	return v, err
}

// take counts verdicts up to the first failure.
func (o *Outcome) take(verdicts []verdict, first int) {
	for i := range verdicts {
		v := &verdicts[i]
		o.Tries++
		if v.skipped {
			o.Skipped++
		}
		o.Events += v.events
		o.Simulated += v.simulated
		if v.failure != nil {
			v.failure.Try = first + i
			o.Failure = v.failure
			return
		}
	}
}
