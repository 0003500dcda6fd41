package stack

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/perrin-mesh/perrin/node"
	"github.com/perrin-mesh/perrin/node/clock"
	"github.com/perrin-mesh/perrin/workload/runner"
)

// warden is a machine's supervisor: it ends attempts at the end of their lease,
// by the machine's clock, whatever the node does. It keeps to the contract of
// runner.Supervisor.
type warden struct {
	clock clock.Source
	rate  float64 // of the clock: what it counts in a second

	mu     sync.Mutex // guards the rest
	leases map[string]*tenure
}

var _ node.Supervisor = (*warden)(nil)

// tenure is the lease of one slot and what runs under it.
type tenure struct {
	until time.Duration // on the machine's clock
	timer *time.Timer
	runs  map[*run]bool
}

// run is one attempt; over is closed when it must end, for the reason in why.
type run struct {
	over chan struct{}
	why  End
}

func newWarden(c clock.Source, rate float64) *warden {
	return &warden{clock: c, rate: rate, leases: map[string]*tenure{}}
}

// Done implements node.Supervisor: it never fails.
func (w *warden) Done() <-chan struct{} { return nil }

// Grant implements worker.Supervisor.
func (w *warden) Grant(since runner.Instant, ttl time.Duration, keys ...string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	until := time.Duration(since) + ttl
	for _, key := range keys {
		t := w.leases[key]
		if t == nil {
			t = &tenure{runs: map[*run]bool{}}
			w.leases[key] = t
		}
		if until <= t.until {
			continue
		}
		t.until = until
		if t.timer != nil {
			t.timer.Stop()
		}
		w.arm(key, t)
	}
	return nil
}

// arm has the lease looked at when the machine's clock shows its end. The caller
// holds mu.
func (w *warden) arm(key string, t *tenure) {
	left := time.Duration(float64(t.until-w.clock())/w.rate) + time.Nanosecond
	t.timer = time.AfterFunc(left, func() { w.expire(key, t) })
}

func (w *warden) expire(key string, t *tenure) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.leases[key] != t: // it was ended otherwise
	case w.clock() < t.until: // it was moved, or the timer is a rounding early
		w.arm(key, t)
	default:
		w.end(key, LeaseEnded)
	}
}

// Forget implements worker.Supervisor.
func (w *warden) Forget(key string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.end(key, Killed)
	return nil
}

// crash ends all that runs: the machine is gone.
func (w *warden) crash() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for key := range w.leases {
		w.end(key, Crashed)
	}
}

// end takes a lease away and ends its runs. The caller holds mu.
func (w *warden) end(key string, why End) {
	t := w.leases[key]
	if t == nil {
		return
	}
	delete(w.leases, key)
	t.timer.Stop()
	for r := range t.runs {
		r.why = why
		close(r.over)
	}
	clear(t.runs)
}

// Slot implements worker.Supervisor.
func (w *warden) Slot(key string) runner.Guard { return guard{w, key} }

type guard struct {
	w   *warden
	key string
}

// errNoProcess is returned when something other than a Program is to be guarded.
var errNoProcess = errors.New("a simulated machine has no processes")

// Guard implements runner.Guard for real processes, which are refused.
func (g guard) Guard(runner.Proc) (func(), error) { return nil, errNoProcess }

// start puts a run under the slot's lease, or returns runner.ErrLeaseEnded.
func (g guard) start() (*run, error) {
	g.w.mu.Lock()
	defer g.w.mu.Unlock()
	t := g.w.leases[g.key]
	if t == nil || g.w.clock() >= t.until {
		return nil, fmt.Errorf("slot %s: %w", g.key, runner.ErrLeaseEnded)
	}
	r := &run{over: make(chan struct{})}
	t.runs[r] = true
	return r, nil
}

// stop takes a run that has ended by itself from under the lease, and reports
// false when the lease ended it first.
func (g guard) stop(r *run) bool {
	g.w.mu.Lock()
	defer g.w.mu.Unlock()
	select {
	case <-r.over:
		return false
	default:
	}
	if t := g.w.leases[g.key]; t != nil {
		delete(t.runs, r)
	}
	return true
}
