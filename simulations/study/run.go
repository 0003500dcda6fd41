package study

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/perrin-mesh/perrin/simulations/chance"
	"github.com/perrin-mesh/perrin/simulations/external"
	"github.com/perrin-mesh/perrin/simulations/model"
	"github.com/perrin-mesh/perrin/simulations/policy"
	"github.com/perrin-mesh/perrin/simulations/scenario"
	"github.com/perrin-mesh/perrin/simulations/stats"
	"github.com/perrin-mesh/perrin/workload"
)

// Options say how a study is run; the zero Options uses every CPU.
type Options struct {
	Workers int // replications at once; 0 is as many as there are CPUs
	// Memory is the bytes that may be used; a study that needs more is refused.
	// 0 is not known and refuses nothing.
	Memory int64
	// Progress is told now and then, from one goroutine, how far the study is.
	// Nil is nobody.
	Progress func(Progress)
	// Choose returns what decides in a replication under policy own, from the seed of
	// the replication. Nil starts the command of the scenario. It is called from
	// several goroutines.
	Choose func(seed uint64) policy.Chooser
	Logs   Logs // what is written on the way
	// Against is a policy under which the same worlds are run too, for a last row: how
	// much dearer the scenario's own is. "" is none.
	Against string
}

// world returns the world of a replication, counted from 0; the caller calls end.
func (o *Options) world(ctx context.Context, sc *scenario.Scenario, n int) (w *model.World, end func(), err error) {
	seed := chance.Seed(sc.Seed).Replication(n)
	if o.Choose == nil {
		return external.World(ctx, sc, seed)
	}
	w, err = model.NewOwn(sc, seed, o.Choose(uint64(seed)))
	return w, func() {}, err
}

// Progress is how far a study is.
type Progress struct {
	Done         int // replications
	Replications int
	Events       uint64
	Simulated    int64 // ns of all replications together
	Total        int64
	Wall         time.Duration
	SoFar        stats.Interval // of the median placement in ms, over those that are done
}

// Row is one figure over all replications.
type Row struct {
	Name     string         `json:"name"`
	Unit     string         `json:"unit"`
	Interval stats.Interval `json:"interval"`
	Values   []*float64     `json:"values"` // of each replication; null when it had nothing to measure
}

// Outcome is what a study came to.
type Outcome struct {
	Scenario *scenario.Scenario
	Workers  int
	Wall     time.Duration
	CPU      time.Duration // of this process while it ran
	Results  []*model.Result
	Rows     []Row
	logs     [][]LogFile // of each replication
}

// TooLarge is the error of a scenario that does not fit into memory.
type TooLarge struct {
	Needs, Has int64 // bytes
	Workers    int
}

// Error says what is needed and what there is.
func (e *TooLarge) Error() string {
	const mib = 1 << 20
	return fmt.Sprintf("the scenario needs about %d MiB for %s at a time, and %d MiB are free", e.Needs/mib, workload.Counted(e.Workers, "replication"), e.Has/mib)
}

// between is how many events pass between two looks at the clock.
const between = 4096

// tally is what the workers share: counters for the progress alone.
type tally struct {
	events    atomic.Uint64
	simulated atomic.Int64
}

func (t *tally) add(events uint64, simulated int64) {
	t.events.Add(events)
	t.simulated.Add(simulated)
}

// Workers is how many replications of a scenario run at once when so many are
// asked for, 0 for as many as there are CPUs, and memory allows.
func Workers(sc *scenario.Scenario, asked int) int64 {
	if asked <= 0 {
		asked = runtime.GOMAXPROCS(0)
	}
	return int64(min(asked, sc.Replications))
}

// Run runs every replication of a scenario. An invariant that does not hold is a
// *model.Violation; a scenario that is too large a *TooLarge.
func Run(ctx context.Context, sc *scenario.Scenario, o Options) (*Outcome, error) {
	workers := int(Workers(sc, o.Workers))
	for ; o.Memory > 0 && workers > 1 && int64(workers)*sc.Memory() > o.Memory; workers-- {
	}
	if need := int64(workers) * sc.Memory(); o.Memory > 0 && need > o.Memory {
		return nil, &TooLarge{Needs: need, Has: o.Memory, Workers: workers}
	}
	out := &Outcome{Scenario: sc, Workers: workers, Results: make([]*model.Result, sc.Replications), logs: make([][]LogFile, sc.Replications)}
	begin, cpu := time.Now(), cpuTime()
	if err := out.replicate(ctx, &o, begin); err != nil {
		return nil, err
	}
	out.Wall, out.CPU = time.Since(begin), cpuTime()-cpu
	out.summarise()
	if o.Against == "" {
		return out, nil
	}
	rival := *sc
	rival.Policy = scenario.Default().Policy
	rival.Policy.Name = o.Against
	other, err := Run(ctx, &rival, Options{Workers: o.Workers, Memory: o.Memory})
	if err != nil {
		return nil, fmt.Errorf("under policy %s: %w", o.Against, err)
	}
	out.Rows = append(out.Rows, out.dearer(other, o.Against))
	return out, nil
}

// How the row of another policy is named, and its unit before the policy's name.
const (
	rivalName = "decentralisation"
	rivalUnit = "% above "
)

// dearer is how much more the same work cost than under another policy, world by
// world: the price of decentralisation where that is all-knowing.
func (o *Outcome) dearer(other *Outcome, name string) Row {
	row := Row{Name: rivalName, Unit: rivalUnit + name}
	values := make([]float64, len(o.Results))
	for i := range o.Results {
		values[i] = 100 * (figure(o.Results[i], "cost")/figure(other.Results[i], "cost") - 1)
		row.Values = append(row.Values, finite(values[i]))
	}
	row.Interval = stats.Of(values)
	return row
}

// replicate runs the replications on the workers and tells the progress.
func (o *Outcome) replicate(ctx context.Context, opt *Options, begin time.Time) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(o.Workers)
	var t tally
	finished := make(chan int, o.Scenario.Replications)
	failed := make(chan error, 1)
	go func() {
		for n := range o.Scenario.Replications {
			g.Go(func() error {
				r, files, err := opt.one(ctx, o.Scenario, n, t.add)
				if err == nil {
					o.Results[n], o.logs[n] = r, files
					finished <- n
				}
				return err
			})
		}
		failed <- g.Wait()
	}()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var medians []float64
	for {
		select {
		case err := <-failed:
			if err != nil || len(finished) == 0 {
				return err
			}
			failed <- nil // there are replications to tell of
			n := <-finished
			medians = append(medians, figure(o.Results[n], "placement_p50"))
		case n := <-finished:
			medians = append(medians, figure(o.Results[n], "placement_p50"))
		case <-tick.C:
		}
		if opt.Progress != nil {
			opt.Progress(Progress{
				Done: len(medians), Replications: o.Scenario.Replications, Events: t.events.Load(), Simulated: t.simulated.Load(),
				Total: o.Scenario.Duration * int64(o.Scenario.Replications), Wall: time.Since(begin), SoFar: stats.Of(medians),
			})
		}
	}
}

func figure(r *model.Result, name string) float64 {
	for _, f := range r.Figures {
		if f.Name == name {
			return f.Value
		}
	}
	panic("study: no figure " + name)
}

// step runs a world to its end.
func step(ctx context.Context, w *model.World, n int, told func(events uint64, simulated int64), logs *logs) (*model.Result, error) {
	var events uint64
	var now int64
	tell := func() {
		told(w.Events()-events, w.Now()-now)
		events, now = w.Events(), w.Now()
	}
	for w.Step() {
		if w.Events()%between == 0 {
			tell()
			if err := cmp.Or(ctx.Err(), logs.err()); err != nil {
				return nil, err
			}
		}
	}
	tell()
	if err := w.Err(); err != nil {
		return nil, fmt.Errorf("replication %d: %w", n+1, err)
	}
	return w.Result(), nil
}

// One runs one replication of a scenario, counted from 0. told is called now and
// then, from this goroutine, with the events and the simulated ns since the last
// call; nil is nobody.
func One(ctx context.Context, sc *scenario.Scenario, n int, told func(events uint64, simulated int64)) (*model.Result, error) {
	if told == nil {
		told = func(uint64, int64) {}
	}
	r, _, err := new(Options).one(ctx, sc, n, told)
	return r, err
}

// one runs a replication and returns the logs that it has written.
func (o *Options) one(ctx context.Context, sc *scenario.Scenario, n int, told func(events uint64, simulated int64)) (*model.Result, []LogFile, error) {
	w, end, err := o.world(ctx, sc, n)
	if err != nil {
		return nil, nil, err
	}
	defer end()
	logs, err := o.Logs.open(w, sc, n)
	if err != nil {
		return nil, nil, err
	}
	r, err := step(ctx, w, n, told, logs)
	if err := logs.close(err); err != nil {
		return nil, nil, err
	}
	return r, logs.list(), nil
}

// Gather is a study of replications that ran elsewhere, the first ones of sc.
func Gather(sc *scenario.Scenario, results []*model.Result) *Outcome {
	s := *sc
	s.Replications = len(results)
	o := &Outcome{Scenario: &s, Results: results}
	o.summarise()
	return o
}

// summarise computes the interval of every figure.
func (o *Outcome) summarise() {
	for i, f := range o.Results[0].Figures {
		values := make([]float64, len(o.Results))
		row := Row{Name: f.Name, Unit: f.Unit}
		for k, r := range o.Results {
			values[k] = r.Figures[i].Value
			row.Values = append(row.Values, finite(values[k]))
		}
		row.Interval = stats.Of(values)
		o.Rows = append(o.Rows, row)
	}
}
