package runner_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/process"
	"github.com/perrin-mesh/perrin/workload/runner"
	"github.com/perrin-mesh/perrin/workload/runner/runnertest"
	"github.com/perrin-mesh/perrin/workload/runner/watchdog"
	"github.com/perrin-mesh/perrin/workload/sandbox"
	"github.com/perrin-mesh/perrin/workload/shim"
)

// envDaemon makes the test binary play a daemon that is stopped or killed.
const envDaemon = "PERRIN_TEST_DAEMON"

func TestMain(m *testing.M) {
	shim.Main()
	if dir := os.Getenv(envDaemon); dir != "" {
		if err := playDaemon(dir, os.Getenv(envDaemon+"_PROBE"), os.Getenv(envDaemon+"_PREFIX")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var quiet = slog.New(slog.DiscardHandler)

func newSupervisor(t *testing.T, h *sandbox.Host) (*runner.Supervisor, chan runner.Killed) {
	t.Helper()
	killed := make(chan runner.Killed, 16)
	s, err := runner.StartSupervisor(runner.SupervisorConfig{Roots: h.Roots(), Logger: quiet,
		OnKilled: func(k runner.Killed) { killed <- k }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, killed
}

// TestSupervisorRecordsWhatRan: one attempt ends by itself, one with its lease,
// and one with the supervisor.
func TestSupervisorRecordsWhatRan(t *testing.T) {
	h := runnertest.Host(t)
	path := filepath.Join(t.TempDir(), "attempts")
	ended := make(chan struct{}, 16)
	sup, err := runner.StartSupervisor(runner.SupervisorConfig{Roots: h.Roots(), Journal: path, Logger: quiet,
		OnKilled: func(runner.Killed) { ended <- struct{}{} }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sup.Close() })
	slot, other := openSlot(t, h, sup.Slot("a")), openSlot(t, h, sup.Slot("b"))
	begun := runner.Now()
	if err := errors.Join(sup.Grant(begun, 3*time.Second, "a"), sup.Grant(begun, time.Minute, "b")); err != nil {
		t.Fatal(err)
	}
	slot.Do("noop")
	between := runner.Now()
	slot.Do("spin")
	<-ended // the daemon may see it dead before the supervisor does
	a := other.Attempt("spin")
	a.Stdout = runnertest.NewWhenReady(func() { sup.Close() })
	other.Run(a)
	<-sup.Done()
	got, err := watchdog.ReadJournal(path)
	if err != nil || len(got) != 8 {
		t.Fatalf("%+v, %v", got, err)
	}
	for i, want := range []watchdog.Record{
		{Op: watchdog.RecordBegin},
		{Op: watchdog.RecordStart, Key: "a", ID: 1}, {Op: watchdog.RecordEnd, Key: "a", ID: 1},
		{Op: watchdog.RecordStart, Key: "a", ID: 2}, {Op: watchdog.RecordEnd, Key: "a", ID: 2, Why: watchdog.ReasonLease},
		{Op: watchdog.RecordStart, Key: "b", ID: 3}, {Op: watchdog.RecordEnd, Key: "b", ID: 3, Why: watchdog.ReasonDaemon},
		{Op: watchdog.RecordClose},
	} {
		r := got[i]
		if i > 0 && (r.At < got[i-1].At || r.Run != got[0].Run) {
			t.Errorf("record %d: %+v after %+v", i, r, got[i-1])
		}
		if r.At, r.Run = 0, 0; r != want {
			t.Errorf("record %d: %+v, want %+v", i, r, want)
		}
	}
	if got[1].At < begun || got[2].At > between || time.Duration(got[4].At-begun) < 3*time.Second {
		t.Errorf("%+v, begun at %d, between at %d", got, begun, between)
	}
}

func openSlot(t *testing.T, h *sandbox.Host, g runner.Guard) *runnertest.Slot {
	k := runnertest.Kit{Runner: process.New(h, quiet), Program: runnertest.BuildProbe(t, "linux", runtime.GOARCH), Root: "/work"}
	return k.Open(t, func(_ *workload.Spec, s *runner.Slot) { s.Guard = g })
}

// renewed runs an attempt, renews the leases until it is ready, however long a busy
// machine takes to start it, and calls then. It returns how the attempt ended, and
// when the leases were renewed last.
func renewed(t *testing.T, sup *runner.Supervisor, lease time.Duration, slot *runnertest.Slot, a runner.Attempt, then func(), names ...string) (workload.Exit, runner.Instant) {
	t.Helper()
	var since runner.Instant
	grant := func() {
		since = runner.Now()
		if err := sup.Grant(since, lease, names...); err != nil {
			t.Error(err)
		}
	}
	grant()
	ready, ended := make(chan struct{}), make(chan workload.Exit, 1)
	a.Stdout = runnertest.NewWhenReady(func() { close(ready) })
	go func() {
		defer close(ended) // also where Run gives up
		ended <- slot.Run(a).Exit
	}()
	renew := time.NewTicker(lease / 20)
	defer renew.Stop()
	for running := false; !running; {
		select {
		case <-renew.C:
			grant()
		case <-ready:
			running = true
		case exit := <-ended:
			t.Fatalf("the attempt ends as %q before it runs", exit)
		}
	}
	then()
	return <-ended, since
}

func TestSupervisorEndsAnAttemptWithItsLease(t *testing.T) {
	const lease = 2 * time.Second
	h := runnertest.Host(t)
	sup, killed := newSupervisor(t, h)
	slot := openSlot(t, h, sup.Slot("a"))
	exit, since := renewed(t, sup, lease, slot, slot.Attempt("sleep"), func() {}, "a", "b")
	if exit != workload.StoppedExit {
		t.Errorf("the attempt ends as %q", exit)
	}
	for range 2 { // both leases ended, one with an attempt
		if k := <-killed; k.Reason != watchdog.ReasonLease || time.Duration(k.At-since) < lease {
			t.Errorf("%+v, %s after the last grant", k, time.Duration(k.At-since))
		}
	}
	if _, err := slot.Session.Run(context.Background(), slot.Attempt("noop")); !errors.Is(err, runner.ErrLeaseEnded) {
		t.Errorf("after the lease: %v", err)
	}
}

func TestSupervisorLetsARenewedLeaseLive(t *testing.T) {
	const lease = 2 * time.Second
	h := runnertest.Host(t)
	sup, _ := newSupervisor(t, h)
	slot := openSlot(t, h, sup.Slot("a"))
	a := slot.Attempt("sleep")
	a.Timeout = 2 * lease
	exit, _ := renewed(t, sup, lease, slot, a, func() {
		since := runner.Now()
		if err := sup.Grant(since, time.Minute, "a"); err != nil {
			t.Error(err)
		}
		if err := sup.Grant(since, time.Millisecond, "a"); err != nil { // never moves back
			t.Error(err)
		}
	}, "a")
	if exit != workload.TimedOut {
		t.Errorf("the attempt ends as %q", exit)
	}
}

func TestSupervisorKillsWhatIsForgotten(t *testing.T) {
	h := runnertest.Host(t)
	sup, killed := newSupervisor(t, h)
	slot := openSlot(t, h, sup.Slot("a"))
	if err := sup.Grant(runner.Now(), time.Minute, "a"); err != nil {
		t.Fatal(err)
	}
	a := slot.Attempt("spin")
	a.Stdout = runnertest.NewWhenReady(func() {
		if err := sup.Forget("a"); err != nil {
			t.Error(err)
		}
	})
	if r := slot.Run(a); r.Exit != workload.StoppedExit {
		t.Errorf("%+v", r.Outcome)
	}
	if k := <-killed; k.Reason != watchdog.ReasonForget {
		t.Errorf("%+v", k)
	}
}

func TestNothingRunsWithoutASupervisor(t *testing.T) {
	h := runnertest.Host(t)
	sup, _ := newSupervisor(t, h)
	slot := openSlot(t, h, sup.Slot("a"))
	if err := sup.Grant(runner.Now(), time.Minute, "a"); err != nil {
		t.Fatal(err)
	}
	a := slot.Attempt("spin")
	a.Stdout = runnertest.NewWhenReady(func() {
		if err := unix.Kill(sup.Pid(), unix.SIGKILL); err != nil {
			t.Error(err)
		}
	})
	if r := slot.Run(a); r.Exit != workload.StoppedExit {
		t.Errorf("%+v", r.Outcome)
	}
	<-sup.Done()
	if _, err := slot.Session.Run(context.Background(), slot.Attempt("noop")); !errors.Is(err, runner.ErrClosed) {
		t.Errorf("without a supervisor: %v", err)
	}
}

// daemon is the test binary playing one, with an attempt that runs.
type daemon struct {
	cmd        *exec.Cmd
	supervisor int // pidfd
	cgroups    []string
	init       int // pidfd of the attempt's init
}

func startDaemon(t *testing.T) *daemon {
	t.Helper()
	runnertest.Host(t) // skips where there is no sandbox
	prefix := fmt.Sprintf("perrin-test-daemon-%d", os.Getpid())
	d := &daemon{cmd: exec.Command("/proc/self/exe")}
	d.cmd.Env = append(os.Environ(), envDaemon+"="+t.TempDir(), envDaemon+"_PREFIX="+prefix,
		envDaemon+"_PROBE="+runnertest.BuildProbe(t, "linux", runtime.GOARCH))
	d.cmd.Stderr = os.Stderr
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = d.cmd.Process.Kill()
		_ = d.cmd.Wait()
		if err := sandbox.Sweep(prefix); err != nil {
			t.Error(err)
		}
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		switch f[0] {
		case "supervisor":
			d.supervisor = openPid(t, f[1])
		case "init":
			d.init = openPid(t, f[1])
		case "cgroups":
			d.cgroups = f[1:]
		case "ready":
			return d
		}
	}
	t.Fatal("the daemon did not get ready")
	return nil
}

func openPid(t *testing.T, pid string) int {
	t.Helper()
	var n int
	if _, err := fmt.Sscan(pid, &n); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(n, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// ends waits for the process to end, for at most 10 s.
func ends(t *testing.T, what string, pidfd int) {
	t.Helper()
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, 10_000)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			t.Fatalf("%s is still there (%v)", what, err)
		}
		return
	}
}

const daemonLease = 700 * time.Millisecond

// playDaemon runs an attempt under a short lease that it renews while it is
// able to, and says who is who.
func playDaemon(dir, probe, prefix string) error {
	h, err := sandbox.NewHost(sandbox.Config{Prefix: prefix, Logger: quiet})
	if err != nil {
		return err
	}
	sup, err := runner.StartSupervisor(runner.SupervisorConfig{Roots: h.Roots(), Logger: quiet})
	if err != nil {
		return err
	}
	fmt.Println("supervisor", sup.Pid())
	fmt.Println("cgroups", strings.Join(h.Roots(), " "))
	renew := func() { _ = sup.Grant(runner.Now(), daemonLease, "a") }
	renew()
	go func() {
		for range time.Tick(daemonLease / 4) {
			renew()
		}
	}()
	spec := workload.DefaultSpec()
	spec.Program = workload.Program{Kind: workload.Process, Name: "probe"}
	s, err := process.New(h, quiet).Open(context.Background(), runner.Slot{Spec: &spec, Program: probe, Dir: dir,
		Guard: tellGuard{sup.Slot("a")}})
	if err != nil {
		return err
	}
	pr, pw := io.Pipe()
	go func() {
		_, _ = bufio.NewReader(pr).ReadString('\n')
		fmt.Println("ready")
		_, _ = io.Copy(io.Discard, pr)
	}()
	_, err = s.Run(context.Background(), runner.Attempt{Args: []string{"sleep"}, Stdout: pw})
	if err != nil {
		return err
	}
	select {}
}

// tellGuard prints the attempt's init before it is guarded.
type tellGuard struct{ next runner.Guard }

func (g tellGuard) Guard(p runner.Proc) (func(), error) {
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", p.Pidfd.Fd()))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(info)) {
		if pid, ok := strings.CutPrefix(line, "Pid:"); ok {
			fmt.Println("init", strings.TrimSpace(pid))
		}
	}
	return g.next.Guard(p)
}

func TestLeaseHoldsWhileTheDaemonIsStopped(t *testing.T) {
	d := startDaemon(t)
	if err := d.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ends(t, "the attempt of a stopped daemon", d.init)
	if fds := []unix.PollFd{{Fd: int32(d.supervisor), Events: unix.POLLIN}}; true {
		if n, _ := unix.Poll(fds, 0); n != 0 {
			t.Error("the supervisor ended too")
		}
	}
}

func TestNothingOutlivesAKilledDaemon(t *testing.T) {
	d := startDaemon(t)
	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	ends(t, "the attempt of a dead daemon", d.init)
	ends(t, "the supervisor of a dead daemon", d.supervisor)
	for _, dir := range d.cgroups {
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("cgroup %s is left", dir)
		}
	}
}
