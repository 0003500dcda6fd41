package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/process"
	"github.com/perrin-mesh/perrin/workload/runner"
	"github.com/perrin-mesh/perrin/workload/sandbox"
)

// nativeStarts measures what a sandbox costs a native program: the runner alone,
// in this process, beside a bare fork in as many namespaces; and a map of native
// tasks through one daemon.
func nativeStarts(ctx context.Context, b *bench) error {
	s, err := newStarter(b)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.cold(ctx, b); err != nil {
		return err
	}
	bare, err := s.manyBare(ctx, b.sizes.starts)
	if err != nil {
		return err
	}
	if err := s.many(ctx, b, bare); err != nil {
		return err
	}
	if err := s.memory(ctx, b); err != nil {
		return err
	}
	return nativeMap(ctx, b, bare)
}

// starter runs programs with the runner of a node of its own.
type starter struct {
	host  *sandbox.Host
	r     runner.Runner
	dir   string
	clock string // the program that prints the clock
	wait  string // one that prints and waits
	seq   int
	mu    sync.Mutex

	prepare func(*workload.Spec, *runner.Slot) // completes an attempt's slot; may be nil
}

func newStarter(b *bench) (*starter, error) {
	dir, err := os.MkdirTemp(b.tmp, "starts-")
	if err != nil {
		return nil, err
	}
	quiet := slog.New(slog.DiscardHandler)
	// Two starters may be there at once, in one process: a host kills what others of its prefix left.
	prefix := fmt.Sprintf("perrin-bench-%d-%s", os.Getpid(), filepath.Base(dir))
	host, err := sandbox.NewHost(sandbox.Config{Prefix: prefix, Logger: quiet})
	if err != nil {
		return nil, err
	}
	s := &starter{host: host, r: process.New(host, quiet), dir: dir}
	s.clock, s.wait = filepath.Join(s.dir, "clock"), filepath.Join(s.dir, "wait")
	programs := map[string][]byte{s.clock: elf(clockCode), s.wait: elf(waitCode)}
	if _, name := noopProgram(); name == "/bin/true" { // not amd64
		programs = map[string][]byte{s.clock: []byte("#!/bin/sh\nexec date +%s%N\n"), s.wait: []byte("#!/bin/sh\necho\nexec sleep 1000\n")}
	}
	err = os.Chmod(s.dir, 0o755)
	for path, text := range programs {
		err = errors.Join(err, os.WriteFile(path, text, 0o755))
	}
	if err != nil {
		return nil, errors.Join(err, host.Close())
	}
	return s, nil
}

func (s *starter) close() { _ = s.host.Close() } // what is left, the next run's Sweep takes

// attempt runs path in a session of its own, with all that a slot brings along
// but the node, and returns how long the first output took.
func (s *starter) attempt(ctx context.Context, path string, first func()) (time.Duration, error) {
	s.mu.Lock()
	s.seq++
	dir := filepath.Join(s.dir, fmt.Sprint(s.seq))
	s.mu.Unlock()
	if err := os.Mkdir(dir, 0o711); err != nil {
		return 0, err
	}
	defer sandbox.RemoveAll(dir)
	spec := workload.DefaultSpec()
	smallShape(&spec)
	spec.Program = workload.Program{Kind: workload.Process, Name: "program"}
	slot := runner.Slot{Slot: 1, Owner: workload.PeerID{1}, Spec: &spec, Program: path, Dir: dir}
	if s.prepare != nil {
		s.prepare(&spec, &slot)
	}
	began := time.Now()
	session, err := s.r.Open(ctx, slot)
	if err != nil {
		return 0, err
	}
	out := &firstWrite{began: began, first: first}
	outcome, err := session.Run(ctx, runner.Attempt{Out: filepath.Join(dir, "out"), Stdout: out})
	if err = errors.Join(err, session.Close()); err == nil && ctx.Err() == nil && (outcome.Exit != workload.Exited || outcome.Code != 0) {
		err = fmt.Errorf("the program ended as %s %d: %s", outcome.Exit, outcome.Code, outcome.Detail)
	}
	return out.took, err
}

// firstWrite tells when something is written.
type firstWrite struct {
	began time.Time
	took  time.Duration
	first func()
}

func (w *firstWrite) Write(p []byte) (int, error) {
	if w.took == 0 {
		w.took = time.Since(w.began)
		if w.first != nil {
			w.first()
		}
	}
	return len(p), nil
}

// cold is one start at a time. The rivals have rounds of their own: to make a network
// namespace waits until the kernel has cleaned up those that ended before, for as long
// as its grace periods take, and ours would wait for the rival's.
func (s *starter) cold(ctx context.Context, b *bench) error {
	rounds := min(b.sizes.starts, 300)
	ours, err := inTurn(ctx, rounds, func() (time.Duration, error) { return s.attempt(ctx, s.clock, nil) })
	if err != nil {
		return err
	}
	const rival = "fork and exec in bare namespaces"
	bare, err := inTurn(ctx, rounds, func() (time.Duration, error) { return toFirstOutput(s.bare(ctx)) })
	if err != nil {
		return fmt.Errorf("%s: %w", rival, err)
	}
	b.out.add(atMost("native program in the sandbox, runner alone: cold to its first output, p50", "ms", percentile(ours, 50), 20).
		against(rival, percentile(bare, 50)))
	b.out.add(atMost("the same, p99", "ms", percentile(ours, 99), 0).against(rival, percentile(bare, 99)))
	return s.bubblewrap(ctx, b, percentile(ours, 50))
}

// inTurn does something so many times, with a rest between, and returns what each
// took in ms.
func inTurn(ctx context.Context, rounds int, f func() (time.Duration, error)) (ms []float64, err error) {
	for range rounds {
		took, err := f()
		if err != nil {
			return nil, err
		}
		ms = append(ms, millis(took))
		if err := pause(ctx, betweenSubmits); err != nil {
			return nil, err
		}
	}
	return ms, nil
}

// toFirstOutput runs a command to its end and returns when it wrote first.
func toFirstOutput(cmd *exec.Cmd) (time.Duration, error) {
	out := &firstWrite{began: time.Now()}
	cmd.Stdout = out
	err := cmd.Run()
	return out.took, err
}

// bare starts the program in the same kinds of namespaces, and no more.
func (s *starter) bare(ctx context.Context) *exec.Cmd {
	cmd := exec.CommandContext(ctx, s.clock)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC |
			unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: os.Geteuid(), HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}},
	}
	return cmd
}

// bubblewrap is a rival where it is installed.
func (s *starter) bubblewrap(ctx context.Context, b *bench, ours float64) error {
	bwrap, err := exec.LookPath("bwrap")
	if err != nil {
		b.out.note("bwrap is not installed, and not measured")
		return nil
	}
	ms, err := inTurn(ctx, min(b.sizes.starts, 100), func() (time.Duration, error) {
		return toFirstOutput(exec.CommandContext(ctx, bwrap, "--unshare-all", "--ro-bind", "/usr", "/usr", "--dev", "/dev", "--proc", "/proc",
			"--tmpfs", "/tmp", "--ro-bind", s.clock, "/program", "/program"))
	})
	if err != nil {
		b.out.note("rival: bwrap does not run here: %v", err)
		return ctx.Err()
	}
	b.out.add(atMost("the same, beside bubblewrap", "ms", ours, 0).against("bwrap --unshare-all", percentile(ms, 50)))
	return nil
}

// manyBare starts programs in bare namespaces, two at once, and returns how many
// a second.
func (s *starter) manyBare(ctx context.Context, count int) (float64, error) {
	return twoAtOnce(ctx, count, func(ctx context.Context) error { return s.bare(ctx).Run() })
}

func twoAtOnce(ctx context.Context, count int, f func(context.Context) error) (float64, error) {
	began := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for range 2 {
		group.Go(func() error {
			for range count / 2 {
				if err := f(ctx); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := group.Wait()
	return float64(count/2*2) / time.Since(began).Seconds(), err
}

// many is what the runner alone can do, each program with cgroups, user and
// folders of its own.
func (s *starter) many(ctx context.Context, b *bench, bare float64) error {
	cpu := usageOf(os.Getpid()).cpu
	rate, err := twoAtOnce(ctx, b.sizes.starts, func(ctx context.Context) error {
		_, err := s.attempt(ctx, s.clock, nil)
		return err
	})
	if err != nil {
		return err
	}
	b.out.add(atLeast("native programs, each in a sandbox and cgroups of its own, runner alone, two at once", "/s", rate, 0).
		against("fork and exec in bare namespaces", bare))
	b.out.cpu("the same: CPU of a program", millis(usageOf(os.Getpid()).cpu-cpu)/float64(b.sizes.starts/2*2))
	return nil
}

// memory is what stands beside each of some programs that wait.
func (s *starter) memory(ctx context.Context, b *bench) error {
	const programs = 16
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	others := func() int64 {
		_, own := memoryOf(os.Getpid())
		return usageOf(os.Getpid()).pss - own
	}
	before := others()
	var up sync.WaitGroup
	var group errgroup.Group
	up.Add(programs)
	for range programs {
		group.Go(func() error {
			_, err := s.attempt(ctx, s.wait, sync.OnceFunc(up.Done))
			return err
		})
	}
	up.Wait()
	each := float64(others()-before) / programs / (1 << 20)
	b.out.add(atMost("memory of a native task's processes beside the node, the program of 165 bytes included", "MiB", each, 4).
		noting("proportional set size, mean of %d; the kernel's own part of a process is not in it", programs))
	stop()
	return group.Wait()
}

// nativeMap runs a map of native tasks through one daemon.
func nativeMap(ctx context.Context, b *bench, bare float64) error {
	m, err := b.start(ctx, 1)
	if err != nil {
		return err
	}
	defer m.Stop()
	c, err := m.follower()
	if err != nil {
		return err
	}
	defer c.Close()
	spec, err := nativeSpec(ctx, c)
	if err != nil {
		return err
	}
	var took time.Duration
	var cpu time.Duration
	for _, count := range []int{10, b.sizes.starts} { // the first brings the program
		spec.Tasks = workload.Tasks{Count: uint32(count)}
		before, began := m.cpu(), time.Now()
		if err := m.profiled(ctx, "process", func() error {
			sub, err := c.Submit(ctx, spec)
			if err == nil {
				_, err = ended(ctx, c, sub.ID)
			}
			return err
		}); err != nil {
			return err
		}
		took, cpu = time.Since(began), m.cpu()-before
	}
	n := float64(b.sizes.starts)
	b.out.add(atLeast(fmt.Sprintf("%d native tasks of one map, a sandbox each, through one daemon", b.sizes.starts), "/s", n/took.Seconds(), 400).
		against("fork and exec in bare namespaces, two at once", bare))
	b.out.cpu("the same: CPU of the daemon and the programs a task", millis(cpu)/n)
	return nil
}

// waitCode is for amd64: write(1, rsp, 1); pause(); exit(0)
var waitCode = bytes.Join([][]byte{
	{0xb8, 1, 0, 0, 0, 0xbf, 1, 0, 0, 0, 0x48, 0x89, 0xe6, 0xba, 1, 0, 0, 0, 0x0f, 0x05},
	{0xb8, 34, 0, 0, 0, 0x0f, 0x05}, noopCode,
}, nil)
