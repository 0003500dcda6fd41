package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/perrin-mesh/perrin/cmd/perrin/internal/terminal"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
)

// pendingAfter is how long a workload may be without a slot before the user is
// told why.
const pendingAfter = 2 * time.Second

// waitStep is how long one Wait lasts.
const waitStep = 30 * time.Second

// errNoProgram says that a bare name means nothing here.
func errNoProgram(name string) error { return fmt.Errorf("this machine has no program %.60q", name) }

// interruptible runs do with a context that an interrupt ends.
func (a *app) interruptible(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	signals, stop := a.interrupts()
	defer stop()
	done := make(chan error, 1)
	go func() { done <- do(ctx) }()
	select {
	case err := <-done:
		return err
	case sig := <-signals:
		cancel()
		if err := <-done; err == nil {
			return nil
		}
		return &failure{err: errors.New("interrupted before the workload was submitted; nothing runs"), code: signalCode(sig)}
	}
}

func signalCode(sig os.Signal) int {
	if sig == syscall.SIGTERM {
		return exitTerminated
	}
	return exitInterrupted
}

// follower streams one workload to its end.
type follower struct {
	app   *app
	b     *backend
	id    workload.ID
	stdin io.Reader
	// stream copies output until the attempt ended for good; by default Attach.
	stream func(ctx context.Context) error
	// progress is called with every new state; may be nil.
	progress func(*api.Workload)
	bar      *terminal.Progress // is cleared before anything is said; may be nil

	interrupted os.Signal  // the first one, when there was one
	mu          sync.Mutex // keeps notes and the progress line apart
}

// follow streams until the workload has ended and returns its last state. The
// first interrupt stops the workload, the second leaves it to itself.
func (f *follower) follow(ctx context.Context) (*api.Workload, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	signals, stop := f.app.interrupts()
	defer stop()
	ended := make(chan end, 1)
	go func() {
		w, err := f.toTheEnd(ctx)
		ended <- end{w, err}
	}()
	for {
		select {
		case e := <-ended:
			return e.w, f.lost(e.err)
		case sig := <-signals:
			if f.interrupted != nil {
				return nil, f.detached()
			}
			f.interrupted = sig
			f.say("stopping %s; press Ctrl-C again to leave it to itself", f.id.Short())
			go f.stopIt(ctx)
		}
	}
}

type end struct {
	w   *api.Workload
	err error
}

func (f *follower) stopIt(ctx context.Context) {
	if err := f.b.Stop(ctx, f.id); err != nil && ctx.Err() == nil {
		f.say("could not stop %s: %v", f.id.Short(), err)
	}
}

func (f *follower) detached() error {
	hint := fmt.Sprintf("come back with `perrin logs -f %s` or `perrin wait %s`", f.id.Short(), f.id.Short())
	if f.b.embedded {
		hint = "the mesh inside this command ends with it, and so does the workload"
	}
	return &failure{err: fmt.Errorf("left %s to itself", f.id.Short()), code: signalCode(f.interrupted), hint: hint}
}

// lost adds how to come back to an error that leaves the workload running.
func (f *follower) lost(err error) error {
	if err == nil || f.b.embedded {
		return err
	}
	if kind := api.KindOf(err); kind != api.Unavailable && kind != api.Busy || errors.Is(err, context.Canceled) {
		return err
	}
	return &failure{err: fmt.Errorf("lost sight of %s: %w", f.id.Short(), err), code: exitUnavailable,
		hint: fmt.Sprintf("it goes on without this command; come back with `perrin wait %s`", f.id)}
}

// toTheEnd streams the output and waits for the end, both at once.
func (f *follower) toTheEnd(ctx context.Context) (*api.Workload, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	streamed := make(chan error, 1)
	stream := f.stream
	if stream == nil {
		stream = f.attach
	}
	go func() { streamed <- stream(ctx) }()
	w, err := f.watch(ctx)
	if err != nil {
		cancel()
		return nil, errors.Join(err, ignoreEnd(<-streamed))
	}
	return w, <-streamed
}

func ignoreEnd(err error) error {
	if kind := api.KindOf(err); errors.Is(err, context.Canceled) || kind == api.Unavailable || kind == api.Busy {
		return nil
	}
	return err
}

func (f *follower) attach(ctx context.Context) error {
	err := f.b.Attach(ctx, f.id, api.AttachOptions{Follow: true, Stdin: f.stdin, Stdout: f.app.stdout, Stderr: f.app.stderr})
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe) {
		f.stopIt(ctx)
		return outcome(exitPipe) // nobody reads on, as in `perrin run -- yes | head`
	}
	return err
}

// watch waits for the end and says on stderr why a workload is not placed.
func (f *follower) watch(ctx context.Context) (*api.Workload, error) {
	p := &pendingNotice{follower: f, since: time.Now()}
	var version uint64
	for {
		w, err := f.b.Wait(ctx, f.id, version, p.patience())
		if err != nil {
			return nil, err
		}
		version = w.Version
		f.show(w)
		if w.Phase.Ended() {
			return w, nil
		}
		p.look(ctx, w)
	}
}

// pendingNotice tells why a workload has no slot, once for each new reason.
type pendingNotice struct {
	*follower
	since time.Time // when it was last seen to run, or was submitted
	told  string
}

// patience is how long to wait for a change before looking at the reasons.
func (p *pendingNotice) patience() time.Duration {
	if left := pendingAfter - time.Since(p.since); left > 0 {
		return left
	}
	return pendingAfter
}

func (p *pendingNotice) look(ctx context.Context, w *api.Workload) {
	if w.Phase != workload.Pending && w.Phase != workload.Waiting {
		p.since = time.Now()
		return
	}
	if time.Since(p.since) < pendingAfter {
		return
	}
	why, err := p.b.Why(ctx, p.id, nil)
	if err != nil {
		return
	}
	text := pendingText(why, w)
	if text == p.told {
		return
	}
	p.told = text
	if p.b.embedded {
		p.say("%s (Ctrl-C stops it)", text)
	} else {
		p.say("%s (`perrin why %s`; Ctrl-C stops it)", text, w.ID.Short())
	}
}

// say prints a note where the progress line was.
func (f *follower) say(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.bar != nil {
		f.bar.Clear()
	}
	f.app.note(format, args...)
}

// show hands a state on to the progress line.
func (f *follower) show(w *api.Workload) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.progress != nil {
		f.progress(w)
	}
}

// pendingText is one line: what the workload waits for.
func pendingText(why *api.Why, w *api.Workload) string {
	what := "pending: "
	switch {
	case w.Phase == workload.Waiting:
		return "waiting for the workloads it comes after: " + terminal.Clean(w.Reason, 200)
	case why.Pending == nil && why.Summary != "":
		return what + terminal.Clean(why.Summary, 200)
	case why.Pending == nil:
		return what + "no auction has been held yet"
	case len(why.Pending.Declines) == 0 && len(why.Pending.Bids) == 0:
		return what + "no node was there to ask"
	}
	return what + strings.Join(groupReasons(why.Pending), "; ")
}

// concludeRun gathers the files and returns the program's exit code.
func (a *app) concludeRun(ctx context.Context, b *backend, w *api.Workload, output string, interrupted os.Signal) error {
	tasks, err := b.Tasks(ctx, w.ID, 0, 1)
	if err != nil {
		return err
	}
	var res *workload.TaskResult
	if len(tasks) > 0 {
		res = tasks[0].Result
	}
	if res != nil && output != "" {
		if err := (&gatherer{b: b, id: w.ID, dir: output}).one(ctx, res); err != nil {
			return err
		}
	}
	if interrupted != nil {
		return outcome(signalCode(interrupted))
	}
	return a.taskOutcome(w, res)
}

// taskOutcome returns the exit code of the one task of w and says how it ended
// when the program did not end by itself.
func (a *app) taskOutcome(w *api.Workload, res *workload.TaskResult) error {
	switch {
	case res == nil && w.Phase == workload.Succeeded:
		return nil
	case res == nil && w.Phase == workload.Stopped:
		a.note("%s was stopped%s", w.ID.Short(), map[bool]string{true: " before it ran"}[len(w.Placed)+len(w.Slots) == 0])
		return outcome(exitTerminated)
	case res == nil:
		return failf("`perrin why "+w.ID.Short()+"` tells how it came to that", "%s did not run: %s", w.ID.Short(), orElse(w.Reason, string(w.Phase)))
	}
	if text := endText(res); text != "" {
		a.note("%s", text)
	}
	if code := res.ExitCode(); code != 0 {
		return outcome(code)
	}
	return nil
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return terminal.Clean(s, 300)
}

// endText says how a task ended that did not exit by itself, or what its runner
// said of the exit, or "".
func endText(res *workload.TaskResult) string {
	detail := ""
	if said := res.Exit == workload.Signaled && res.Detail == syscall.Signal(res.Code).String(); res.Detail != "" && !said {
		detail = ": " + terminal.Clean(res.Detail, 300)
	}
	switch res.Exit {
	case workload.Exited:
		return strings.TrimPrefix(detail, ": ")
	case workload.Signaled:
		return fmt.Sprintf("the program was ended by signal %d (%s)%s", res.Code, syscall.Signal(res.Code), detail)
	case workload.TimedOut:
		return "the program ran longer than its --timeout and was ended" + detail
	case workload.OutOfMemory:
		return "the program wanted more than its --memory and was ended"
	case workload.OutputTooBig:
		return "the program wrote more than it may and was ended" + detail
	case workload.StoppedExit:
		return "the program was stopped" + detail
	case workload.NoAgreement:
		return "it has no result" + detail
	}
	return "the node could not run it" + detail
}
