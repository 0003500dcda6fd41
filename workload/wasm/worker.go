package wasm

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/perrin-mesh/perrin/workload/runner"
	"github.com/perrin-mesh/perrin/workload/sandbox"
	"github.com/perrin-mesh/perrin/workload/wasm/frame"
	"github.com/perrin-mesh/perrin/workload/wasm/guest"
)

// worker is a running worker process. attempt and stop belong to one
// goroutine at a time; Terminate and Kill may come from any.
type worker struct {
	proc    *sandbox.Proc
	sock    *os.File
	in      *frame.Reader
	out     *frame.Writer
	release func() // of the slot's guard

	before sandbox.Meter // of the group, when the worker started
	cpuMs  int64         // that its attempts were charged
}

// startWorker starts the worker and waits until it has loaded the program.
func (s *session) startWorker() (*worker, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("wasm worker: %w", err)
	}
	defer theirs.Close()
	w := &worker{sock: ours, in: frame.NewReader(ours), out: frame.NewWriter(ours), release: func() {}, before: s.group.Read()}
	w.proc, err = s.group.Start(sandbox.Program{
		Role: guest.RoleRun, Work: s.scratch, Keep: []*os.File{theirs}, TmpSize: 1 << 20,
		Env: []string{"GODEBUG=madvdontneed=1"},
		Mounts: []sandbox.Mount{
			{Source: s.slot.Program, Target: guest.ProgramPath},
			{Source: s.code, Target: guest.CachePath},
			{Source: s.slot.Dir, Target: guest.SlotPath},
		},
	}, func(init *os.File) (err error) {
		if s.slot.Guard == nil {
			return nil
		}
		release, err := s.slot.Guard.Guard(runner.Proc{Pidfd: init, Cgroups: s.group.Cgroups()})
		if err == nil {
			w.release = release
		}
		return err
	})
	if err != nil {
		w.release()
		ours.Close()
		return nil, fmt.Errorf("wasm worker: %w", err)
	}
	theirs.Close() // or a dead worker would not be the end of the stream
	if err := w.ready(); err != nil {
		_, serr := w.stop()
		return nil, errors.Join(err, serr)
	}
	return w, nil
}

func socketPair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	// Ours is polled, so that a goroutine waits for it and not a thread.
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(fds[0]), "worker"), os.NewFile(uintptr(fds[1]), "node"), nil
}

func (w *worker) ready() error {
	f, err := w.in.Next()
	switch {
	case err != nil:
		return fmt.Errorf("wasm worker: did not start: %w", err)
	case f.Type == frame.Failed:
		return fmt.Errorf("wasm worker: %.900q", f.Payload)
	case f.Type != frame.Ready:
		return fmt.Errorf("wasm worker: %w: type %d", frame.ErrFrame, f.Type)
	}
	return nil
}

// attempt runs one attempt and returns the worker's reply. An error means that
// the worker is of no more use and must be stopped.
func (w *worker) attempt(id uint32, req *frame.Request, a runner.Attempt, unit func() string) (frame.Reply, error) {
	var reply frame.Reply
	if err := w.out.SendJSON(frame.Run, id, req); err != nil {
		return reply, err
	}
	over := make(chan struct{})
	defer close(over)
	if a.Stdin != nil {
		go pump(w.out, id, a.Stdin, over)
	}
	streams := map[frame.Type]io.Writer{frame.Stdout: a.Stdout, frame.Stderr: a.Stderr}
	for {
		f, err := w.in.Next()
		if err != nil {
			return reply, err
		}
		to, isStream := streams[f.Type]
		switch {
		case f.Attempt != id:
			return reply, fmt.Errorf("%w: of attempt %d during %d", frame.ErrFrame, f.Attempt, id)
		case f.Type == frame.Done:
			return reply, f.Decode(&reply)
		case f.Type == frame.UnitAsk:
			if err := w.out.Send(frame.UnitAt, id, []byte(unit())); err != nil {
				return reply, err
			}
		case !isStream:
			return reply, fmt.Errorf("%w: type %d", frame.ErrFrame, f.Type)
		case to != nil:
			if _, err := to.Write(f.Payload); err != nil {
				streams[f.Type] = nil // the rest is discarded
			}
		}
	}
}

// Terminate does nothing: a guest has no signals.
func (w *worker) Terminate() {}

// Kill ends the worker at once.
func (w *worker) Kill() { w.proc.Kill() }

// dead reports whether the worker's sandbox has ended.
func (w *worker) dead() bool {
	fds := []unix.PollFd{{Fd: int32(w.proc.Pidfd().Fd()), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0
}

// stop kills the worker, waits until nothing of it is left and returns how it ended.
func (w *worker) stop() (sandbox.End, error) {
	w.proc.Kill()
	return w.ended()
}

// endFor is how long a worker that closed its socket may take to end.
const endFor = time.Second

// ended is stop for a worker that seems to have ended by itself, so that how it
// did is known; one that has not is killed.
func (w *worker) ended() (sandbox.End, error) {
	w.sock.Close()
	late := time.AfterFunc(endFor, w.proc.Kill)
	defer late.Stop()
	e, err := w.proc.Wait()
	w.release()
	w.proc.Close()
	return e, err
}
