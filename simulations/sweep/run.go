package sweep

import (
	"context"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/perrin-mesh/perrin/simulations/chance"
	"github.com/perrin-mesh/perrin/simulations/model"
	"github.com/perrin-mesh/perrin/simulations/stats"
	"github.com/perrin-mesh/perrin/simulations/study"
)

// Options say how a sweep is run.
type Options struct {
	Workers  int            // replications at once; 0 is as many as there are CPUs
	Memory   int64          // bytes that may be used; 0 is not known
	Version  string         // of Perrin, for the manifests
	Code     string         // names the binary: what another one came to is not used
	Progress func(Progress) // from one goroutine; nil is nobody
}

// Progress is how far a sweep is.
type Progress struct {
	Cells, DoneCells int
	Done             int   // replications that count and were run now
	Reused           int   // replications that were found
	Events           int64 // so far
	Expected         int64 // of what is run now, with Events; estimated
	Wall             time.Duration
	Finished         bool
}

// TooLarge is the error of a sweep with a cell of which not even one replication
// fits into memory.
type TooLarge struct {
	Cell       string
	Needs, Has int64 // bytes
}

// Error says which cell, what it needs and what there is.
func (e *TooLarge) Error() string {
	const mib = 1 << 20
	return fmt.Sprintf("%s: one replication needs about %d MiB, and %d MiB are free", e.Cell, e.Needs/mib, e.Has/mib)
}

// Fits refuses an experiment with a cell that is too large for memory bytes; 0
// refuses nothing.
func (e *Experiment) Fits(memory int64) error {
	for i := range e.Cells {
		if need := e.Cells[i].Scenario.Memory(); memory > 0 && need > memory {
			return &TooLarge{e.Cells[i].Name(), need, memory}
		}
	}
	return nil
}

// work is a cell while the sweep runs. The sweeper's lock guards it.
type work struct {
	*Cell
	key     string
	want    int // replications that are needed as far as is known
	most    int
	started map[int]bool
	results []*replication
	first   int // of results, how many are there without a gap
	ended   bool
	found   int
}

// sweeper hands out replications.
type sweeper struct {
	e     *Experiment
	o     Options
	store *store
	began time.Time

	events atomic.Int64

	mu       sync.Mutex
	changed  *sync.Cond
	works    []*work
	running  int
	memory   int64 // in use by what runs, by estimate
	done     int
	reused   int
	expected int64
	err      error
}

// Run runs an experiment into a folder, or goes on with one. text is the
// experiment's file. An error leaves the folder so that the same call goes on.
func Run(ctx context.Context, e *Experiment, text []byte, dir string, o Options) (*Outcome, error) {
	if err := e.Fits(o.Memory); err != nil {
		return nil, err
	}
	st, err := open(dir)
	if err != nil {
		return nil, err
	}
	defer st.close()
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	s := &sweeper{e: e, o: o, store: st, began: time.Now()}
	s.changed = sync.NewCond(&s.mu)
	if err := st.writeJSON(fileSweep, e.index(o, false)); err != nil {
		return nil, err
	}
	if err := replace(filepath.Join(dir, fileExperiment), func(w io.Writer) error { _, err := w.Write(text); return err }); err != nil {
		return nil, err
	}
	s.find()
	s.run(ctx)
	if s.err != nil {
		return nil, s.err
	}
	return s.finish()
}

// find reads what an earlier run of the sweep has left.
func (s *sweeper) find() {
	for i := range s.e.Cells {
		c := &s.e.Cells[i]
		w := &work{Cell: c, key: key(c, s.o.Code), want: c.Scenario.Replications, most: c.Scenario.Replications, started: map[int]bool{}}
		if s.e.Until != nil {
			w.most = s.e.Until.AtMost
		}
		w.results = make([]*replication, w.most)
		for n := range w.most {
			seed := uint64(chance.Seed(c.Scenario.Seed).Replication(n))
			if r, ok := s.store.load(w.key, n, seed); ok {
				w.results[n], w.started[n] = r, true
				w.found++
			}
		}
		s.works = append(s.works, w)
		s.settle(w)
		s.reused += min(w.found, w.want)
		s.expected += int64(w.want-min(w.first, w.want)) * w.Scenario.Events()
	}
}

// settle looks whether a cell has enough; the lock is held.
func (s *sweeper) settle(w *work) {
	for !w.ended {
		for w.first < w.most && w.results[w.first] != nil && w.first < w.want {
			w.first++
		}
		if w.first < w.want {
			return
		}
		if w.first == w.most || s.narrow(w.results[:w.first]) {
			w.ended = true
			return
		}
		w.want++
		if w.results[w.want-1] == nil {
			s.expected += w.Scenario.Events()
		}
	}
}

func (s *sweeper) narrow(results []*replication) bool {
	u := s.e.Until
	if u == nil {
		return true
	}
	var values []float64
	for _, r := range results {
		values = append(values, valueOf(r.Result, u.Figure))
	}
	iv := stats.Of(values)
	within := u.Within
	if u.Relative {
		within *= math.Abs(iv.Mean)
	}
	return iv.Half <= within // never of NaN
}

func valueOf(r *model.Result, name string) float64 {
	for _, f := range r.Figures {
		if f.Name == name {
			return f.Value
		}
	}
	return math.NaN()
}

// run has the workers take replications until there are none, and tells the
// progress meanwhile.
func (s *sweeper) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	over := make(chan struct{})
	var workers sync.WaitGroup
	for range s.o.Workers {
		workers.Go(func() { s.work(ctx, cancel) })
	}
	go func() { workers.Wait(); close(over) }()
	stop := context.AfterFunc(ctx, func() { s.fail(context.Cause(ctx)) })
	defer stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-over:
			s.tell(s.err == nil)
			return
		case <-tick.C:
			s.tell(false)
		}
	}
}

func (s *sweeper) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
	s.changed.Broadcast()
}

func (s *sweeper) tell(finished bool) {
	if s.o.Progress == nil {
		return
	}
	s.mu.Lock()
	p := Progress{Cells: len(s.works), Done: s.done, Reused: s.reused, Expected: s.expected, Finished: finished}
	for _, w := range s.works {
		if w.ended {
			p.DoneCells++
		}
	}
	s.mu.Unlock()
	p.Events, p.Wall = s.events.Load(), time.Since(s.began)
	s.o.Progress(p)
}

func (s *sweeper) work(ctx context.Context, cancel context.CancelFunc) {
	for {
		w, n := s.next()
		if w == nil {
			return
		}
		r, err := s.replicate(ctx, w, n)
		if s.ran(w, n, r, err) {
			err = s.writeCell(w)
		}
		if err != nil {
			s.fail(fmt.Errorf("%s: %w", w.Name(), err))
			cancel()
		}
	}
}

// replicate runs a replication and saves it.
func (s *sweeper) replicate(ctx context.Context, w *work, n int) (*replication, error) {
	cpu, stop := study.ThreadTime()
	defer stop()
	r, err := study.One(ctx, w.Scenario, n, func(events uint64, _ int64) { s.events.Add(int64(events)) })
	if err != nil {
		return nil, err
	}
	done := &replication{Result: r, CPU: cpu()}
	return done, s.store.save(w.key, n, done)
}

// next waits for a replication to run; nil when there is nothing more to do. What
// is certain to be needed comes first, then what may be.
func (s *sweeper) next() (*work, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if s.err != nil {
			return nil, 0
		}
		open := false
		for _, guess := range []bool{false, true} {
			for _, w := range s.works {
				if open = open || !w.ended; w.ended {
					continue
				}
				if n, ok := w.pick(guess); ok && s.roomFor(w) {
					w.started[n] = true
					s.running++
					s.memory += w.Scenario.Memory()
					return w, n
				}
			}
		}
		if !open {
			return nil, 0
		}
		s.changed.Wait()
	}
}

// pick returns the first replication that was not started, of those that are
// needed or, as a guess, of the few after them.
func (w *work) pick(guess bool) (int, bool) {
	limit := w.want
	if guess {
		limit = min(w.most, w.want+guesses)
	}
	for n := w.first; n < limit; n++ {
		if !w.started[n] {
			return n, true
		}
	}
	return 0, false
}

// guesses is how many replications run beyond those that are known to be needed,
// when a CPU has nothing better to do.
const guesses = 4

func (s *sweeper) roomFor(w *work) bool {
	return s.o.Memory == 0 || s.running == 0 || s.memory+w.Scenario.Memory() <= s.o.Memory
}

// ran takes a replication in and reports whether its cell now has enough.
func (s *sweeper) ran(w *work, n int, r *replication, err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running--
	s.memory -= w.Scenario.Memory()
	defer s.changed.Broadcast()
	if err != nil || w.ended {
		return false
	}
	w.results[n] = r
	s.done++
	s.expected += int64(r.Result.Events) - w.Scenario.Events() // what it was, for what it was thought to be
	s.settle(w)
	return w.ended
}

// finish writes what the cells came to.
func (s *sweeper) finish() (*Outcome, error) {
	out := &Outcome{Experiment: s.e, Dir: s.store.dir, Wall: time.Since(s.began), Ran: s.done, Reused: s.reused, Events: s.events.Load()}
	for _, w := range s.works {
		if err := s.writeCell(w); err != nil { // of those that were found
			return nil, err
		}
		out.Cells = append(out.Cells, CellOutcome{Cell: w.Cell, Key: w.key, Outcome: w.gather()})
	}
	if err := out.writeSummary(s.store); err != nil {
		return nil, err
	}
	return out, s.store.writeJSON(fileSweep, s.e.index(s.o, true))
}

// gather is the study of the replications that count.
func (w *work) gather() *study.Outcome {
	var results []*model.Result
	var cpu time.Duration
	for _, r := range w.results[:w.first] {
		results = append(results, r.Result)
		cpu += r.CPU
	}
	o := study.Gather(w.Scenario, results)
	o.Workers, o.CPU, o.Wall = 1, cpu, cpu
	return o
}
