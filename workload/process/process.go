// Package process runs native programs: shipped with the workload or already
// on the machine under /usr and what links to it. Every attempt gets a sandbox
// of its own (workload/sandbox); the attempts of a slot share a host user and
// cgroups, one after another.
package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/runner"
	"github.com/perrin-mesh/perrin/workload/runner/ending"
	"github.com/perrin-mesh/perrin/workload/sandbox"
	"github.com/perrin-mesh/perrin/workload/sandbox/inside"
)

// Runner runs native programs. It is safe for concurrent use.
type Runner struct {
	host *sandbox.Host
	log  *slog.Logger
	seq  atomic.Uint64
}

var _ runner.Runner = (*Runner)(nil)

// New returns a runner that makes its sandboxes with host.
func New(host *sandbox.Host, log *slog.Logger) *Runner { return &Runner{host: host, log: log} }

// Kind returns workload.Process.
func (r *Runner) Kind() workload.Kind { return workload.Process }

// shippedPath is where a shipped program is inside.
const shippedPath = "/perrin/program"

// searchPath is where bare names are looked up, in this order, and the
// program's own PATH.
var searchPath = []string{"/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin"}

// Lookup returns the path of the host program that a spec names, or an error
// that wraps runner.ErrProgramMissing. The path is the same inside.
func Lookup(name string) (string, error) {
	if !workload.HostProgram(name) {
		return "", fmt.Errorf("program %.80q is not under /usr, /bin or /sbin: %w", name, runner.ErrProgramMissing)
	}
	if filepath.IsAbs(name) {
		return name, visible(name)
	}
	for _, dir := range searchPath {
		if path := filepath.Join(dir, name); visible(path) == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("no program %.80q in %s: %w", name, strings.Join(searchPath, ", "), runner.ErrProgramMissing)
}

// visible checks that everyone may execute path and that it ends, links
// followed, in what the sandbox shows.
func visible(path string) error {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("program %.80q: %w", path, runner.ErrProgramMissing)
	}
	info, err := os.Stat(real)
	shown := workload.HostProgram(real) || strings.HasPrefix(real, "/lib")
	if err != nil || !shown || !info.Mode().IsRegular() || info.Mode().Perm()&0o001 == 0 {
		return fmt.Errorf("program %.80q is not one that everyone may run: %w", path, runner.ErrProgramMissing)
	}
	return nil
}

// Available looks a named host program up.
func (r *Runner) Available(spec *workload.Spec) error {
	if spec.Program.Host == "" {
		return nil
	}
	_, err := Lookup(spec.Program.Host)
	return err
}

// Open prepares the slot's user, cgroups and program.
func (r *Runner) Open(_ context.Context, slot runner.Slot) (runner.Session, error) {
	s := &session{slot: slot, path: shippedPath}
	var err error
	if host := slot.Spec.Program.Host; host != "" {
		s.path, err = Lookup(host)
	} else {
		s.program, err = executable(slot.Program, slot.Dir)
	}
	if err != nil {
		return nil, err
	}
	return s, s.openGroup(r)
}

// openGroup makes the session's user and cgroups.
func (s *session) openGroup(r *Runner) (err error) {
	slot, res := s.slot, s.slot.Spec.Resources
	name := fmt.Sprintf("%s-%d-%d", slot.Workload.Short(), slot.Slot, r.seq.Add(1))
	memory, pids := s.overhead()
	s.group, err = r.host.NewGroup(name, sandbox.Limits{
		Memory: res.Memory + memory, Pids: int64(res.Pids) + pids, CPUs: slot.CPUs, Disk: res.Disk, Owner: owner(slot.Owner), Nodes: slot.Nodes,
		Quota: res.Quota, Spare: res.Class == workload.Spare, Apart: res.Class != workload.Thread,
	})
	return err
}

func owner(id workload.PeerID) string {
	if id == (workload.PeerID{}) {
		return ""
	}
	return string(id[:])
}

// executable returns a file with the content of path that everyone may
// execute: path itself, or a copy in dir.
func executable(path, dir string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("program: %w", err)
	}
	if info.Mode().Perm()&0o005 == 0o005 {
		return path, nil
	}
	to := filepath.Join(dir, "program")
	in, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("program: %w", err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if errors.Is(err, fs.ErrExist) {
		return to, nil
	}
	if err != nil {
		return "", fmt.Errorf("program: %w", err)
	}
	_, err = out.ReadFrom(in)
	if err = errors.Join(err, out.Chmod(0o755), out.Close()); err != nil {
		return "", fmt.Errorf("program: %w", err)
	}
	return to, nil
}

type session struct {
	slot    runner.Slot
	group   *sandbox.Group
	view    *View  // nil: this machine's
	program string // host path of a shipped program, "" when the host has it
	path    string // inside
	runs    int    // of the goroutine that calls Run

	turns ending.Turns
}

// Run runs one attempt in a fresh sandbox.
func (s *session) Run(ctx context.Context, a runner.Attempt) (runner.Outcome, error) {
	end, err := s.turns.Enter()
	if err != nil {
		return runner.Outcome{}, err
	}
	defer s.turns.Leave()
	s.runs++
	work := filepath.Join(s.slot.Dir, fmt.Sprintf("work-%d", s.runs))
	if err := errors.Join(os.Mkdir(work, 0o755), makeOut(a.Out), makeOut(s.scratch(work))); err != nil {
		return runner.Outcome{}, fmt.Errorf("attempt: %w", err)
	}
	out, err := s.run(ctx, a, work, end)
	if rerr := errors.Join(sandbox.RemoveAll(work), sandbox.RemoveAll(s.scratch(work)), sandbox.RemoveAll(s.bundle(work))); rerr != nil && err == nil {
		err = fmt.Errorf("attempt: remove scratch: %w", rerr)
	}
	return out, err
}

func makeOut(dir string) error {
	if dir == "" {
		return nil
	}
	return os.MkdirAll(dir, 0o755)
}

// run starts the program and waits for it, its streams and its watch.
func (s *session) run(ctx context.Context, a runner.Attempt, work string, end *ending.Ending) (runner.Outcome, error) {
	pipes, err := openPipes(a)
	if err != nil {
		return runner.Outcome{}, fmt.Errorf("attempt: %w", err)
	}
	defer pipes.close()
	program, err := s.describe(a, work, pipes)
	if err != nil {
		return runner.Outcome{}, fmt.Errorf("attempt: %w", err)
	}
	s.group.Reset()
	before := s.group.Read()
	over := end.Starting(ctx, s.group.Kill)
	wrapped, err := s.wrap(&program, work)
	if err != nil {
		over()
		return runner.Outcome{}, err
	}
	defer wrapped.Close()
	proc, release, err := s.start(program)
	over()
	if err != nil && end.Ended() {
		return s.outcome(end, sandbox.End{Broken: true}, before, ending.Limits{}, 0), nil
	}
	if ne := (*sandbox.NoExecError)(nil); errors.As(err, &ne) {
		return s.notExecuted(codeOf(ne), ne.Reason), nil
	}
	if err != nil {
		return runner.Outcome{}, err
	}
	started := time.Now()
	defer proc.Close()
	defer release()
	end.Attach(proc)
	limits := ending.Limits{Timeout: a.Timeout, Disk: s.slot.Spec.Resources.Disk, Folders: []string{work, a.Out, s.scratch(work)}}
	pipes.copy(a)
	stop, watched := make(chan struct{}), make(chan struct{})
	go func() { defer close(watched); end.Watch(ctx, limits, stop) }()
	ended, err := proc.Wait()
	wall := time.Since(started)
	close(stop)
	<-watched
	pipes.wait()
	if err == nil && wrapped != nil {
		var why string
		if ended, why, err = wrapped.End(ended); why != "" {
			return s.notExecuted(int32(ended.Code), why), nil
		}
	}
	if err != nil {
		return runner.Outcome{}, err
	}
	out := s.outcome(end, ended, before, limits, wall)
	out.Started = started
	return out, nil
}

// start starts the sandbox under the slot's guard.
func (s *session) start(p sandbox.Program) (proc *sandbox.Proc, release func(), err error) {
	release = func() {}
	guard := func(init *os.File) (err error) {
		if s.slot.Guard == nil {
			return nil
		}
		release, err = s.slot.Guard.Guard(runner.Proc{Pidfd: init, Cgroups: s.group.Cgroups()})
		return err
	}
	proc, err = s.group.Start(p, guard)
	if err != nil && release != nil {
		release()
	}
	return proc, release, err
}

// Exit codes of shells for a program that is not one and one that is not there.
const (
	codeNotExecutable = 126
	codeNotFound      = 127
)

func codeOf(ne *sandbox.NoExecError) int32 {
	if ne.Errno == syscall.ENOENT {
		return codeNotFound // also the interpreter that a script or a dynamic program names
	}
	return codeNotExecutable
}

func (s *session) notExecuted(code int32, why string) runner.Outcome {
	return runner.Outcome{Exit: workload.Exited, Code: code, Detail: why[:min(len(why), runner.MaxDetail)], Wall: s.wall()}
}

func (s *session) outcome(end *ending.Ending, e sandbox.End, before sandbox.Meter, l ending.Limits, wall time.Duration) runner.Outcome {
	after := s.group.Read()
	for _, dir := range l.Folders {
		if dir != "" {
			_ = sandbox.Open(dir) // what stays closed is left out of the sum
		}
	}
	out := end.Outcome(ending.Program{
		Code: e.Code, Signal: e.Signal, OOM: e.Resident || after.OOMKills > before.OOMKills, Broken: e.Broken, FinalDisk: l,
	})
	out.Wall = s.wall()
	out.Usage = workload.Usage{WallMs: (wall + time.Millisecond - 1).Milliseconds(), CPUMs: e.CPUMs, PeakMem: e.MaxRSS}
	if after.CPUMs >= 0 {
		out.Usage.CPUMs = after.CPUMs - before.CPUMs
	}
	if after.PeakMem >= 0 {
		out.Usage.PeakMem = after.PeakMem
	}
	return out
}

// Move implements runner.Movable.
func (s *session) Move(cpus, nodes []int) error { return s.group.Move(cpus, nodes) }

// Freeze implements runner.Movable.
func (s *session) Freeze() error { return s.group.Freeze() }

// Thaw implements runner.Movable.
func (s *session) Thaw() error { return s.group.Thaw() }

// Interrupt asks the running attempt to end.
func (s *session) Interrupt(grace time.Duration) { s.turns.Interrupt(grace) }

// Kill ends the running attempt.
func (s *session) Kill() { s.turns.Kill() }

// Close kills what runs, waits for it and removes the cgroups.
func (s *session) Close() error {
	s.turns.Close()
	if s.view != nil {
		s.view.Release()
	}
	return s.group.Close()
}

// Probe runs the shim's self-test in a sandbox like any attempt's.
func (r *Runner) Probe(ctx context.Context) (string, error) {
	dir, remove, err := sandbox.TempDir("perrin-probe-")
	if err != nil {
		return "", fmt.Errorf("probe: %w", err)
	}
	defer func() { _ = remove() }()
	if err := r.host.SelfTest(ctx, dir, true, inside.RoleProbe); err != nil {
		return "", fmt.Errorf("process: %w: %w", runner.ErrUnavailable, err)
	}
	return runner.WallNamespaces, nil
}
