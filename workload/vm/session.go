package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/runner"
	"github.com/perrin-mesh/perrin/workload/runner/ending"
	"github.com/perrin-mesh/perrin/workload/sandbox"
	"github.com/perrin-mesh/perrin/workload/vm/guestwire"
	"github.com/perrin-mesh/perrin/workload/wasm/frame"
)

type session struct {
	h      *hypervisor
	slot   runner.Slot
	accel  accel
	memory int64
	initrd string
	disk   string // host path of the root file system, "" for none
	group  *sandbox.Group
	turns  ending.Turns

	// Of the goroutine that calls Run, and of Close once none does.
	machine *machine // nil until needed and after it was killed
	runs    uint32
}

// How long a machine may take to say that it is ready. With KVM it takes half a
// second, translated 2 to 6 s of a processor.
const (
	bootWithin           = 30 * time.Second
	bootTranslatedWithin = 90 * time.Second
)

func (s *session) bootWithin() time.Duration {
	switch {
	case s.h.bootWithin > 0:
		return s.h.bootWithin
	case s.accel == kvm:
		return bootWithin
	}
	return bootTranslatedWithin
}

// Run runs one attempt in the slot's machine, which it boots when it must.
func (s *session) Run(ctx context.Context, a runner.Attempt) (runner.Outcome, error) {
	for _, m := range a.Mounts {
		if err := runner.CheckTarget(m.Target); err != nil {
			return runner.Outcome{}, fmt.Errorf("attempt: %w", err)
		}
	}
	end, err := s.turns.Enter()
	if err != nil {
		return runner.Outcome{}, err
	}
	defer s.turns.Leave()
	if a.Out != "" {
		if err := os.MkdirAll(a.Out, 0o755); err != nil {
			return runner.Outcome{}, fmt.Errorf("attempt: %w", err)
		}
	}
	if s.machine != nil && s.machine.dead() { // killed between attempts, as by the supervisor
		s.stop(0)
	}
	if s.machine == nil {
		over := end.Starting(ctx, s.group.Kill)
		s.machine, err = s.start()
		over()
		if err != nil && end.Ended() {
			return end.Outcome(ending.Program{Broken: true}), nil
		}
		if err != nil {
			return runner.Outcome{}, err
		}
	}
	s.runs++
	return s.run(ctx, a, end)
}

// start starts QEMU under the slot's guard.
func (s *session) start() (*machine, error) {
	m := &machine{accel: s.accel}
	p := sandbox.Program{Host: true, Path: s.h.qemu, TmpSize: 1 << 20,
		Args:   append(qemuArgs(s.accel, s.memory, processors(&s.slot)), guestArgs(s.accel, s.disk != "")...),
		Mounts: []sandbox.Mount{{Source: s.slot.Program, Target: kernelPath}, {Source: s.initrd, Target: initrdPath}}}
	if s.disk != "" {
		p.Mounts = append(p.Mounts, sandbox.Mount{Source: s.disk, Target: diskPath})
	}
	if s.accel == kvm {
		mount, err := kvmMount(s.group, s.slot.Dir)
		if err != nil {
			return nil, fmt.Errorf("vm: %w", err)
		}
		p.Mounts = append(p.Mounts, mount)
	}
	m.before = s.group.Read()
	if err := m.boot(s.group, p, s.slot.Guard); err != nil {
		return nil, fmt.Errorf("vm: %w", err)
	}
	return m, nil
}

// watching runs the watches of one attempt.
type watching struct {
	end  *ending.Ending
	over chan struct{}
	wg   sync.WaitGroup
}

func (w *watching) start(ctx context.Context, l ending.Limits) {
	w.wg.Go(func() { w.end.Watch(ctx, l, w.over) })
}

func (w *watching) stop() { close(w.over); w.wg.Wait() }

// run drives the machine through one attempt.
func (s *session) run(ctx context.Context, a runner.Attempt, end *ending.Ending) (runner.Outcome, error) {
	m := s.machine
	end.Attach(m)
	watch := &watching{end: end, over: make(chan struct{})}
	watch.start(ctx, ending.Limits{})
	if err := m.ready(s.bootWithin()); err != nil {
		watch.stop()
		return s.notReady(end, err)
	}
	if a.Timeout > 0 { // also for a guest that takes inputs and never starts
		watch.start(ctx, ending.Limits{Timeout: a.Timeout + s.bootWithin()})
	}
	r := &run{m: m, id: s.runs, a: a, spec: s.slot.Spec, began: func() {
		watch.start(ctx, ending.Limits{Timeout: a.Timeout})
	}}
	before := s.group.Read()
	reply, err := r.drive()
	watch.stop()
	killed := end.Detach()
	usage := s.usage(r, reply, before)
	var p ending.Program
	if err == nil {
		p = ending.Program{Code: int(reply.Code), Signal: unixSignal(reply.Signal), OOM: reply.Memory}
	} else {
		p = s.died(err)
	}
	if killed && s.machine != nil { // too late for this attempt, but the machine is dead
		s.stop(0)
	}
	out := end.Outcome(p)
	if err == nil {
		s.explain(&out, reply, r)
	} else {
		s.explainDeath(&out, m, r, err)
	}
	out.Started, out.Wall, out.Usage = r.started, s.accel.wall(), usage
	return out, nil
}

// notReady is the outcome of an attempt whose machine did not boot: the owner's
// kernel is to blame, or whoever stopped it.
func (s *session) notReady(end *ending.Ending, cause error) (runner.Outcome, error) {
	m := s.machine
	end.Detach()
	s.stop(endFor)
	out := end.Outcome(ending.Program{Code: codeNotExecutable})
	if out.Exit == workload.Exited {
		out.Detail = "the virtual machine did not start: " + cause.Error()
		switch words := m.lastWords(); {
		case errors.Is(cause, errBrokeOff) && words != "":
			out.Detail = "the virtual machine did not start: " + words
		case errors.Is(cause, errBrokeOff):
			out.Detail = "the virtual machine did not start: its kernel ended before it said anything; it may be damaged, or for another processor"
		case words != "":
			out.Detail += "; its last words: " + words
		}
		out.Detail = workload.Cut(out.Detail, runner.MaxDetail)
	}
	out.Wall = s.accel.wall()
	return out, nil
}

// Exit codes of shells for a program that is not one.
const codeNotExecutable = 126

// died stops a machine that broke off and says what the kernel says of it.
func (s *session) died(cause error) ending.Program {
	kills := s.machine.before.OOMKills
	patience := endFor
	if errors.Is(cause, frame.ErrFrame) {
		patience = 0
	}
	e := s.stop(patience)
	p := ending.Program{Code: codeNotExecutable, OOM: e.Resident || s.group.Read().OOMKills > kills}
	if p.OOM {
		p.Signal = unix.SIGKILL
	}
	p.Broken = e.Broken
	return p
}

// explain says what an Outcome cannot know: why the command was not executed,
// and that what it wrote did not fit.
func (s *session) explain(out *runner.Outcome, reply guestwire.Reply, r *run) {
	switch {
	case out.Exit != workload.Exited:
	case reply.Full && out.Code != 0:
		out.Exit, out.Detail = workload.OutputTooBig, fmt.Sprintf("wrote more than %d bytes of disk", s.slot.Spec.Resources.Disk)
	case reply.NoExec != "":
		out.Detail = plainLine(reply.NoExec)
	case r.taken != nil:
		out.Code, out.Detail = codeNotExecutable, workload.Cut(plainLine("its outputs could not be taken: "+r.taken.Error()), runner.MaxDetail)
	}
}

// explainDeath is explain for a machine that ended under its attempt.
func (s *session) explainDeath(out *runner.Outcome, m *machine, r *run, cause error) {
	if out.Exit != workload.Exited {
		return
	}
	if r.started.IsZero() {
		out.Detail = "the virtual machine ended before the command ran"
	} else {
		out.Detail = "the virtual machine ended under the command"
	}
	if words := m.lastWords(); words != "" {
		out.Detail += because(words)
	} else {
		out.Detail += because(cause.Error())
	}
	out.Detail = workload.Cut(out.Detail, runner.MaxDetail)
}

// usage is what the attempt used. CPU time is counted outside of the machine;
// how much of its memory the command had, only the guest knows.
func (s *session) usage(r *run, reply guestwire.Reply, before sandbox.Meter) workload.Usage {
	if r.started.IsZero() {
		return workload.Usage{}
	}
	after := s.group.Read()
	u := workload.Usage{WallMs: (r.ended.Sub(r.started) + time.Millisecond - 1).Milliseconds(), PeakMem: min(max(reply.Peak, 0), s.memory)}
	if after.CPUMs >= 0 {
		u.CPUMs = max(after.CPUMs-before.CPUMs, 0)
	}
	if reply.Peak <= 0 && after.PeakMem >= 0 { // it died: all that its machine had
		u.PeakMem = min(after.PeakMem, s.memory)
	}
	return u
}

// stop is the machine's, and forgets it.
func (s *session) stop(patience time.Duration) sandbox.End {
	e := s.machine.stop(patience)
	s.machine = nil
	return e
}

// Move implements runner.Movable.
func (s *session) Move(cpus, nodes []int) error { return s.group.Move(cpus, nodes) }

// Freeze implements runner.Movable: the whole machine stands still.
func (s *session) Freeze() error { return s.group.Freeze() }

// Thaw implements runner.Movable.
func (s *session) Thaw() error { return s.group.Thaw() }

// Interrupt asks the running command to end.
func (s *session) Interrupt(grace time.Duration) { s.turns.Interrupt(grace) }

// Kill ends the running attempt and the machine.
func (s *session) Kill() { s.turns.Kill() }

// Close kills the machine and removes what the session made.
func (s *session) Close() error {
	s.turns.Close()
	if s.machine != nil {
		s.stop(0)
	}
	return errors.Join(s.group.Close(), os.RemoveAll(s.initrd), os.RemoveAll(filepath.Join(s.slot.Dir, "kvm")))
}
