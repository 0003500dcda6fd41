package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/runner"
)

// Program says what an attempt does. It is called when the attempt starts, must
// not block, and may be called from any goroutine.
type Program func(machine int, a *runner.Attempt) Act

// Act is what one attempt does: it runs for a while, prints and exits.
type Act struct {
	Starts time.Duration // before it runs, if it is the first of its slot
	Takes  time.Duration
	Prints string
	Code   int32
}

// Sleep is a Program that sleeps for as long as its first argument says, as
// time.ParseDuration reads it, and prints what Printed says.
func Sleep(_ int, a *runner.Attempt) Act {
	if len(a.Args) == 0 {
		return Act{Code: 2, Prints: "want a duration\n"}
	}
	d, err := time.ParseDuration(a.Args[0])
	if err != nil {
		return Act{Code: 2, Prints: err.Error() + "\n"}
	}
	return Act{Takes: d, Prints: Printed(a.Index)}
}

// Printed is what Sleep prints for a task.
func Printed(task uint32) string { return fmt.Sprintf("task %d\n", task) }

// Spec is a workload of so many tasks that run Sleep for d each.
func Spec(tasks uint32, d time.Duration) workload.Spec {
	spec := workload.DefaultSpec()
	spec.Program = workload.Program{Kind: workload.Process, Name: "sleep", Host: "sleep"}
	spec.Args = []string{d.String()}
	spec.Resources.Memory = 32 << 20
	spec.Resources.Disk = 1 << 20
	spec.Tasks.Count = tasks
	return spec
}

// player is the runner of a machine: it plays a Program and keeps the journal.
type player struct {
	machine int
	program Program
	journal *Journal
}

var _ runner.Runner = (*player)(nil)

// Kind implements runner.Runner.
func (p *player) Kind() workload.Kind { return workload.Process }

// Probe implements runner.Runner.
func (p *player) Probe(context.Context) (string, error) { return runner.WallNamespaces, nil }

// Available implements runner.Runner.
func (p *player) Available(*workload.Spec) error { return nil }

// Open implements runner.Runner.
func (p *player) Open(_ context.Context, slot runner.Slot) (runner.Session, error) {
	g, ok := slot.Guard.(guard)
	if !ok {
		return nil, errors.New("a simulated machine needs its own supervisor")
	}
	return &session{p: p, slot: slot, guard: g}, nil
}

// session plays the attempts of one slot.
type session struct {
	p     *player
	slot  runner.Slot
	guard guard

	begun bool // an attempt has run; of the goroutine that runs them

	mu     sync.Mutex // guards the rest
	closed bool
	kill   chan struct{} // of the running attempt; closed once
	grace  *time.Timer   // until it is killed
}

// Run implements runner.Session.
func (s *session) Run(ctx context.Context, a runner.Attempt) (runner.Outcome, error) {
	kill, err := s.enter()
	if err != nil {
		return runner.Outcome{}, err
	}
	defer s.leave()
	r, err := s.guard.start()
	if err != nil {
		return runner.Outcome{}, err
	}
	act := s.p.program(s.p.machine, &a)
	if !s.begun && act.Starts > 0 {
		if how, exit := s.play(ctx, kill, r, act.Starts, 0); how != Done {
			s.guard.stop(r)
			return runner.Outcome{Exit: exit, Wall: runner.WallNamespaces}, nil
		}
	}
	s.begun = true
	stint := s.p.journal.begin(Stint{
		Machine: s.p.machine, Workload: s.slot.Workload, Slot: s.slot.Slot, Task: a.Index, Number: a.Number,
	})
	began := time.Now()
	how, exit := s.play(ctx, kill, r, act.Takes, a.Timeout)
	if !s.guard.stop(r) {
		how, exit = r.why, workload.StoppedExit
	}
	s.p.journal.end(stint, how)
	out := runner.Outcome{Exit: exit, Wall: runner.WallNamespaces}
	out.Usage.WallMs = time.Since(began).Milliseconds()
	out.Usage.CPUMs = out.Usage.WallMs
	if exit != workload.Exited {
		return out, nil
	}
	out.Code = act.Code
	if a.Stdout != nil {
		_, err = io.WriteString(a.Stdout, act.Prints)
	}
	return out, err
}

// play waits until the act is over, or something ends it before.
func (s *session) play(ctx context.Context, kill <-chan struct{}, r *run, takes, timeout time.Duration) (End, workload.Exit) {
	length, end, exit := takes, Done, workload.Exited
	if timeout > 0 && timeout < takes {
		length, end, exit = timeout, TimedOut, workload.TimedOut
	}
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-timer.C:
		return end, exit
	case <-kill:
	case <-ctx.Done():
	case <-r.over:
	}
	return Killed, workload.StoppedExit
}

func (s *session) enter() (kill chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fmt.Errorf("run: session: %w", runner.ErrClosed)
	}
	s.kill = make(chan struct{})
	return s.kill, nil
}

func (s *session) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kill = nil
	if s.grace != nil {
		s.grace.Stop()
		s.grace = nil
	}
}

// Interrupt implements runner.Session: a Program does not hear of it, and is
// killed after grace.
func (s *session) Interrupt(grace time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kill != nil && s.grace == nil {
		s.grace = time.AfterFunc(grace, s.Kill)
	}
}

// Kill implements runner.Session.
func (s *session) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kill == nil {
		return
	}
	select {
	case <-s.kill:
	default:
		close(s.kill)
	}
}

// Close implements runner.Session.
func (s *session) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.Kill()
	return nil
}
