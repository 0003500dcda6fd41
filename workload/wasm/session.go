package wasm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/runner"
	"github.com/perrin-mesh/perrin/workload/runner/ending"
	"github.com/perrin-mesh/perrin/workload/sandbox"
	"github.com/perrin-mesh/perrin/workload/wasm/frame"
)

type session struct {
	slot    runner.Slot
	log     *slog.Logger
	group   *sandbox.Group
	code    string // folder of the machine code
	release func() // of code
	scratch string
	turns   ending.Turns

	// Of the goroutine that calls Run, and of Close once none does.
	worker *worker // nil until needed and after it was killed
	runs   uint32

	live atomic.Uint32 // runs, for other goroutines
}

// LiveOut implements runner.Elsewhere.
func (s *session) LiveOut() (root, path string) {
	return s.scratch, strconv.FormatUint(uint64(s.live.Load()), 10) + "/out"
}

// Run runs one attempt in a fresh instance, in the slot's worker.
func (s *session) Run(ctx context.Context, a runner.Attempt) (runner.Outcome, error) {
	end, err := s.turns.Enter()
	if err != nil {
		return runner.Outcome{}, err
	}
	defer s.turns.Leave()
	s.runs++
	s.live.Store(s.runs)
	req, err := s.request(a)
	if err != nil {
		return runner.Outcome{}, fmt.Errorf("attempt: %w", err)
	}
	if s.worker != nil && s.worker.dead() { // killed between attempts, as by the supervisor
		if _, err := s.worker.stop(); err != nil {
			return runner.Outcome{}, err
		}
		s.worker = nil
	}
	if s.worker == nil {
		over := end.Starting(ctx, s.group.Kill)
		s.worker, err = s.startWorker()
		over()
		if err != nil && end.Ended() {
			return end.Outcome(ending.Program{Broken: true}), nil
		}
		if err != nil {
			return runner.Outcome{}, err
		}
	}
	out, err := s.run(ctx, a, req, end)
	if !s.touched(req.Work) {
		return out, err
	}
	if cerr := s.collect(req.Work, a.Out); cerr != nil && err == nil {
		err = fmt.Errorf("attempt: %w", cerr)
	}
	return out, err
}

// request says to the worker what a asks for.
func (s *session) request(a runner.Attempt) (*frame.Request, error) {
	spec := s.slot.Spec
	name := filepath.Base(spec.Program.Name)
	if spec.Program.Name == "" {
		name = "program.wasm"
	}
	req := &frame.Request{
		Args: append([]string{name}, a.Args...), Env: append(runner.Environ(a, nil), "PWD=/"),
		Work: strconv.FormatUint(uint64(s.runs), 10), Stdin: a.Stdin != nil, Memory: spec.Resources.Memory, Unit: a.Unit != nil,
	}
	for _, m := range a.Mounts {
		if err := runner.CheckTarget(m.Target); err != nil {
			return nil, err
		}
		rel, err := s.below(m.Source)
		if err != nil {
			return nil, err
		}
		info, err := os.Stat(m.Source)
		if err != nil {
			return nil, err
		}
		req.Mounts = append(req.Mounts, frame.Mount{Source: rel, Target: m.Target, Dir: info.IsDir()})
	}
	return req, nil
}

// unit opens a's unit socket when the worker first asks for it, and returns
// where the worker finds it, "" when it cannot be had.
func (s *session) unit(a runner.Attempt) func() string {
	return sync.OnceValue(func() string {
		if a.Unit == nil {
			return ""
		}
		socket, err := a.Unit()
		if err == nil {
			err = s.group.Chown(socket)
		}
		rel, rerr := s.below(socket)
		if err = errors.Join(err, rerr); err != nil {
			s.log.Warn("no unit socket", "err", err)
			return ""
		}
		return rel
	})
}

// run drives the worker through one attempt.
func (s *session) run(ctx context.Context, a runner.Attempt, req *frame.Request, end *ending.Ending) (runner.Outcome, error) {
	w, id := s.worker, s.runs
	started := time.Now()
	end.Attach(w)
	limits := ending.Limits{Timeout: a.Timeout, Disk: s.slot.Spec.Resources.Disk, Folders: []string{s.scratch}}
	stop, watched := make(chan struct{}), make(chan struct{})
	go func() { defer close(watched); end.Watch(ctx, limits, stop) }()
	reply, err := w.attempt(id, req, a, s.unit(a))
	wall := time.Since(started)
	close(stop)
	<-watched
	killed := end.Detach()
	w.cpuMs += max(reply.CPUUs, 0) / 1000
	p := ending.Program{Code: int(reply.Code), OOM: reply.Memory}
	if s.touched(req.Work) {
		p.FinalDisk = limits
	}
	var last sandbox.End
	if err != nil {
		s.worker = nil
		if p, last, err = s.died(w, limits, err); err != nil {
			return runner.Outcome{}, err
		}
	}
	if err == nil && killed && s.worker != nil { // too late for this attempt, but the worker is dead
		s.worker = nil
		if _, err := w.stop(); err != nil {
			return runner.Outcome{}, err
		}
	}
	out := end.Outcome(p)
	out.Started = started
	if out.Exit == workload.Exited && reply.Trap != "" {
		out.Detail = reply.Trap
	}
	out.Wall = runner.WallWasm
	out.Usage = workload.Usage{WallMs: wall.Milliseconds(), CPUMs: (reply.CPUUs + 500) / 1000, PeakMem: reply.Peak}
	if s.worker == nil && reply == (frame.Reply{}) {
		s.workerUsage(&out.Usage, w, last)
	}
	return out, nil
}

// died explains why the worker did not answer: it was killed, by us or by the
// kernel for its memory, or it broke.
func (s *session) died(w *worker, l ending.Limits, cause error) (ending.Program, sandbox.End, error) {
	e, err := w.ended()
	if err != nil {
		return ending.Program{}, e, errors.Join(cause, err)
	}
	p := ending.Program{Code: e.Code, Signal: e.Signal, Broken: e.Broken, FinalDisk: l}
	p.OOM = e.Resident || s.group.Read().OOMKills > w.before.OOMKills
	if p.Signal == 0 && errors.Is(cause, frame.ErrFrame) {
		return p, e, fmt.Errorf("wasm worker: %w", cause)
	}
	if p.Signal == 0 {
		p.Signal = unix.SIGABRT // the engine gave up; it prints and exits
	}
	return p, e, nil
}

// workerUsage fills in what a worker that could not reply has used, beyond what
// it has replied for.
func (s *session) workerUsage(u *workload.Usage, w *worker, last sandbox.End) {
	u.CPUMs, u.PeakMem = max(last.CPUMs-w.cpuMs, 0), last.MaxRSS
	after := s.group.Read()
	if after.CPUMs >= 0 {
		u.CPUMs = max(after.CPUMs-w.before.CPUMs-w.cpuMs, 0)
	}
	if after.PeakMem >= 0 {
		u.PeakMem = after.PeakMem
	}
}

// touched reports whether the guest of an attempt made any file.
func (s *session) touched(work string) bool {
	var st unix.Stat_t
	return !errors.Is(unix.Lstat(filepath.Join(s.scratch, work), &st), unix.ENOENT)
}

// collect moves what the guest left in its /out to out and removes its scratch
// folder. Both were in the worker's hands, so no symlink is followed.
func (s *session) collect(work, out string) error {
	root, err := unix.Open(s.scratch, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(root)
	dir, err := unix.Openat2(root, work, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_BENEATH})
	if errors.Is(err, unix.ENOENT) {
		return nil // it touched no file
	}
	if err == nil && out != "" {
		if err = os.MkdirAll(out, 0o755); err != nil {
			return err
		}
		// An empty folder gives way; a worker that put a link or a file there gets nothing moved.
		if merr := unix.Renameat(dir, "out", unix.AT_FDCWD, out); merr == nil {
			err = sandbox.Open(out)
		}
	}
	if dir >= 0 {
		unix.Close(dir)
	}
	return errors.Join(err, sandbox.RemoveAll(filepath.Join(s.scratch, work)))
}

// errNotParked is returned when a session has nothing worth keeping.
var errNotParked = errors.New("no worker runs")

// Park implements runner.Reusable. What is kept is the worker, with an empty
// scratch folder: it has no file of the slot open between two attempts, waits
// for a frame, and exits when its socket ends.
func (s *session) Park() (keep []string, err error) {
	if s.worker == nil || s.worker.dead() {
		return nil, errNotParked
	}
	s.worker.release()
	s.worker.release = func() {}
	return []string{filepath.Base(s.scratch)}, nil
}

// Reopen implements runner.Reusable.
func (s *session) Reopen(slot runner.Slot) error {
	if s.worker == nil || s.worker.dead() {
		return errNotParked
	}
	if slot.Dir != s.slot.Dir {
		return fmt.Errorf("another folder: %.200q", slot.Dir)
	}
	if slot.Guard != nil {
		release, err := slot.Guard.Guard(runner.Proc{Pidfd: s.worker.proc.Pidfd(), Cgroups: s.group.Cgroups()})
		if err != nil {
			return err
		}
		s.worker.release = release
	}
	s.slot = slot
	return nil
}

// Move implements runner.Movable.
func (s *session) Move(cpus, nodes []int) error { return s.group.Move(cpus, nodes) }

// Freeze implements runner.Movable.
func (s *session) Freeze() error { return s.group.Freeze() }

// Thaw implements runner.Movable.
func (s *session) Thaw() error { return s.group.Thaw() }

// Interrupt waits for grace and kills: a guest has no signals.
func (s *session) Interrupt(grace time.Duration) { s.turns.Interrupt(grace) }

// Kill ends the running attempt and the worker.
func (s *session) Kill() { s.turns.Kill() }

// Close kills the worker and removes what the session made.
func (s *session) Close() error {
	s.turns.Close()
	var err error
	if s.worker != nil {
		_, err = s.worker.stop()
		s.worker = nil
	}
	s.release()
	return errors.Join(err, s.group.Close(), sandbox.RemoveAll(s.scratch))
}

// pump sends stdin to the worker until it ends or the attempt is over.
func pump(w *frame.Writer, id uint32, r io.Reader, over <-chan struct{}) {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		select {
		case <-over:
			return
		default:
		}
		if n > 0 && w.Send(frame.Stdin, id, buf[:n]) != nil {
			return
		}
		if err != nil {
			_ = w.Send(frame.StdinEnd, id, nil) // a dead worker is noticed by who reads from it
			return
		}
	}
}
