// Package ending decides why an attempt ended. Several things can end one at
// once: the program itself, its timeout, the owner, the disk bound, the
// kernel's memory limit. The first cause that was ours wins, and the kernel's
// word counts when there was none.
package ending

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/runner"
	"github.com/perrin-mesh/perrin/workload/sandbox"
)

// Target is what an Ending can end.
type Target interface {
	Terminate() // ask
	Kill()      // end everything at once
}

// Ending is one attempt's. Its methods are safe for concurrent use.
type Ending struct {
	mu     sync.Mutex
	target Target
	cause  workload.Exit
	kill   bool
	detail string
	timer  *time.Timer // of Interrupt
}

// Attach names what to kill. A cause that came before kills it now.
func (e *Ending) Attach(t Target) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.target = t
	if e.kill {
		t.Kill()
	} else if e.cause != "" {
		t.Terminate()
	}
}

// Starting has a cause, or the end of ctx, call kill while what Attach will name
// is not there yet, until over is called. A program can be paused before its
// first instruction: what starts it then waits and cannot look at causes.
func (e *Ending) Starting(ctx context.Context, kill func()) (over func()) {
	e.Attach(starting(kill))
	stop := context.AfterFunc(ctx, func() { e.Kill(workload.StoppedExit, "") })
	return func() { stop(); e.Detach() }
}

type starting func()

func (s starting) Terminate() { s() }
func (s starting) Kill()      { s() }

// Ended reports whether there is a cause.
func (e *Ending) Ended() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.cause != ""
}

// Kill ends the attempt for cause.
func (e *Ending) Kill(cause workload.Exit, detail string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.set(cause, detail)
	e.kill = true
	if e.target != nil {
		e.target.Kill()
	}
}

// Interrupt asks the program to end and kills it after grace.
func (e *Ending) Interrupt(grace time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.set(workload.StoppedExit, "")
	if e.target != nil {
		e.target.Terminate()
	}
	if e.timer == nil {
		e.timer = time.AfterFunc(grace, func() { e.Kill(workload.StoppedExit, "") })
	}
}

func (e *Ending) set(cause workload.Exit, detail string) {
	if e.cause == "" {
		e.cause, e.detail = cause, detail
	}
}

// Detach keeps a later cause from killing the target, which lives on, and
// reports whether an earlier one did.
func (e *Ending) Detach() (killed bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.target = nil
	return e.kill
}

// Done stops what Interrupt started. Nothing is killed after it.
func (e *Ending) Done() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.target = nil
	if e.timer != nil {
		e.timer.Stop()
	}
}

// Limits is what Watch holds an attempt to.
type Limits struct {
	Timeout time.Duration // 0 is none
	Disk    int64         // bytes in Folders; 0 is none
	Folders []string
}

// Disk is measured first after diskFirst, then at growing distances up to
// diskEvery, and once more at the end.
const (
	diskFirst = 50 * time.Millisecond
	diskEvery = time.Second
)

// Watch ends the attempt when ctx ends or a limit is passed, until stop is closed.
func (e *Ending) Watch(ctx context.Context, l Limits, stop <-chan struct{}) {
	var timeout <-chan time.Time
	if l.Timeout > 0 {
		t := time.NewTimer(l.Timeout)
		defer t.Stop()
		timeout = t.C
	}
	every := diskFirst
	disk := time.NewTimer(every)
	defer disk.Stop()
	for {
		select {
		case <-stop:
			return
		case <-ctx.Done():
			e.Kill(workload.StoppedExit, "")
			return
		case <-timeout:
			e.Kill(workload.TimedOut, fmt.Sprintf("ran longer than %s", l.Timeout))
			return
		case <-disk.C:
			e.measure(l)
			every = min(2*every, diskEvery)
			disk.Reset(every)
		}
	}
}

func (e *Ending) measure(l Limits) {
	if l.Disk <= 0 {
		return
	}
	if _, err := sandbox.Usage(l.Disk, l.Folders...); errors.Is(err, sandbox.ErrTooBig) {
		e.Kill(workload.OutputTooBig, tooBig(l.Disk))
	}
}

func tooBig(limit int64) string { return fmt.Sprintf("wrote more than %d bytes of disk", limit) }

// Program is what the program itself and the kernel say.
type Program struct {
	Code      int
	Signal    syscall.Signal
	OOM       bool // the kernel or the sandbox killed something for its memory
	Broken    bool // the sandbox was killed as a whole
	FinalDisk Limits
}

// Outcome decides. It leaves Usage and Wall empty.
func (e *Ending) Outcome(p Program) runner.Outcome {
	e.mu.Lock()
	cause, detail := e.cause, e.detail
	e.mu.Unlock()
	out := runner.Outcome{Exit: cause, Detail: detail, Code: int32(p.Code)}
	if p.Signal != 0 {
		out.Code = int32(p.Signal)
	}
	switch {
	case cause != "":
	case p.OOM && (p.Signal == syscall.SIGKILL || p.Code != 0):
		out.Exit, out.Detail = workload.OutOfMemory, "used more memory than the task asked for"
	case p.Broken: // not by this session: the supervisor, or someone on the machine
		out.Exit, out.Detail = workload.StoppedExit, "the sandbox was ended from outside"
	case p.Signal == syscall.SIGXFSZ || overDisk(p.FinalDisk):
		out.Exit, out.Detail = workload.OutputTooBig, tooBig(p.FinalDisk.Disk)
	case p.Signal != 0:
		out.Exit, out.Detail = workload.Signaled, p.Signal.String()
	default:
		out.Exit = workload.Exited
	}
	out.Detail = out.Detail[:min(len(out.Detail), runner.MaxDetail)]
	return out
}

func overDisk(l Limits) bool {
	if l.Disk <= 0 {
		return false
	}
	_, err := sandbox.Usage(l.Disk, l.Folders...)
	return errors.Is(err, sandbox.ErrTooBig)
}
