package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/runner"
	"github.com/perrin-mesh/perrin/workload/runner/runnertest"
)

// TestIsolation asserts from inside what a native program cannot reach.
func TestIsolation(t *testing.T) {
	k := kit(t)
	secret := filepath.Join(t.TempDir(), "node.key")
	if err := os.WriteFile(secret, []byte("key"), 0o644); err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	abstract := fmt.Sprintf("perrin-test-%d", os.Getpid())
	l, err := net.Listen("unix", "@"+abstract)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	// A descriptor that is not close-on-exec must not get through either.
	leak, err := unix.Open(secret, unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leak)
	s := k.Open(t, nil)
	for _, args := range [][]string{
		{"reach", secret, s.Dir, filepath.Dir(secret)}, {"net", tcp.Addr().String(), abstract}, {"procs"}, {"caps"},
		{"calls"}, {"fds"}, {"setuid"}, {"readonly"}, {"abi"}, {"devout"},
	} {
		t.Run(args[0], func(t *testing.T) { s.Do(args...).OK(t) })
	}
}

func TestKillingTheInitIsHarmless(t *testing.T) {
	s := kit(t).Open(t, nil)
	r := s.Do("kill-init")
	ok := r.Exit == workload.Exited && r.Code == 0 || r.Exit == workload.Signaled || r.Exit == workload.StoppedExit
	if !ok {
		t.Errorf("%+v", r.Outcome)
	}
	s.Do("exit", "2").Want(t, workload.Exited, 2)
}

func TestSignals(t *testing.T) {
	s := kit(t).Open(t, nil)
	s.Do("die", "9").Want(t, workload.Signaled, int32(unix.SIGKILL))
	a := s.Attempt("trap-term")
	var said strings.Builder
	a.Stdout = tee{&said, runnertest.NewWhenReady(func() { s.Session.Interrupt(time.Minute) })}
	if r := s.Run(a); r.Exit != workload.StoppedExit || !strings.Contains(said.String(), "asked to end") {
		t.Errorf("%+v, said %q", r.Outcome, said.String())
	}
	a = s.Attempt("trap-term", "stay")
	a.Stdout = runnertest.NewWhenReady(func() { s.Session.Interrupt(100 * time.Millisecond) })
	if r := s.Run(a); r.Exit != workload.StoppedExit || r.Code != int32(unix.SIGKILL) {
		t.Errorf("stayed: %+v", r.Outcome)
	}
}

type tee struct {
	a *strings.Builder
	b *runnertest.WhenReady
}

func (w tee) Write(p []byte) (int, error) {
	w.a.Write(p)
	return w.b.Write(p)
}

// Programs start with every signal at its default, whatever the node ignores.
func TestSignalsAreAtTheirDefaults(t *testing.T) {
	signal.Ignore(unix.SIGHUP, unix.SIGUSR1)
	defer signal.Reset(unix.SIGHUP, unix.SIGUSR1)
	s := kit(t).Open(t, func(spec *workload.Spec, slot *runner.Slot) {
		spec.Program = workload.Program{Kind: workload.Process, Host: "cat"}
		slot.Program = ""
	})
	r := s.Do("/proc/self/status").OK(t)
	for line := range strings.Lines(r.Stdout) {
		if name, set, _ := strings.Cut(strings.TrimSpace(line), ":\t"); strings.HasPrefix(name, "Sig") && name != "SigQ" && strings.Trim(set, "0") != "" {
			t.Errorf("%s is %s", name, set)
		}
	}
}

func TestPidsLimit(t *testing.T) {
	s := kit(t).Open(t, func(spec *workload.Spec, _ *runner.Slot) { spec.Resources.Pids = 20 })
	r := s.Do("fork", "200").OK(t)
	n, err := strconv.Atoi(strings.TrimSpace(r.Stdout))
	// Every child is a Go program of some threads, which count as well.
	if err != nil || n == 0 || n >= 20 {
		t.Errorf("started %q children with a limit of 20", r.Stdout)
	}
	s.Do("fork", "2").OK(t) // none of them is left to count
}

func TestCPUs(t *testing.T) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		t.Fatal(err)
	}
	last := -1
	for i := range 1024 {
		if set.IsSet(i) {
			last = i
		}
	}
	s := kit(t).Open(t, func(_ *workload.Spec, slot *runner.Slot) { slot.CPUs = []int{last} })
	if r := s.Do("affinity").OK(t); r.Stdout != fmt.Sprintf("[%d]\n", last) {
		t.Errorf("runs on %s, want [%d]", r.Stdout, last)
	}
}

func TestBackgroundProcessesDie(t *testing.T) {
	s := kit(t).Open(t, nil)
	r := s.Do("background").OK(t) // returns although the child holds stdout open
	if !strings.HasPrefix(r.Stdout, "left ") {
		t.Errorf("said %q", r.Stdout)
	}
	for _, dir := range s.Session.(*session).group.Cgroups() {
		if procs, err := os.ReadFile(filepath.Join(dir, "cgroup.procs")); err != nil || len(procs) != 0 {
			t.Errorf("%s has processes %q (%v)", dir, procs, err)
		}
	}
}

func TestOneFileOverTheDiskLimit(t *testing.T) {
	s := kit(t).Open(t, func(spec *workload.Spec, _ *runner.Slot) { spec.Resources.Disk = 1 << 20 })
	if r := s.Do("many", "/out", "1"); r.Exit != workload.OutputTooBig { // 1 MiB and its folder are just over
		t.Errorf("%+v", r.Outcome)
	}
}

func TestHostPrograms(t *testing.T) {
	k := kit(t)
	for name, script := range map[string]string{
		"sh":      `set -e; echo out; echo err >&2; ls / >/dev/null; cat /etc/passwd | sort | head -1 >/dev/null; date >/dev/null; mktemp >/dev/null; test "$(id -u)" = 1000`,
		"bash":    `set -e; for i in 1 2 3; do sleep 0 & done; wait; echo $((6*7)) > /out/x; [[ $(cat <(echo hi)) = hi ]]`,
		"python3": "import subprocess, threading, tempfile, multiprocessing as m, ssl, json\nt = threading.Thread(target=print); t.start(); t.join()\nassert subprocess.check_output(['echo','x']) == b'x\\n'\nwith m.Pool(2) as p: assert p.map(abs, [-1,-2]) == [1,2]\ntempfile.TemporaryFile().write(b'x')",
	} {
		t.Run(name, func(t *testing.T) {
			spec := workload.Spec{Program: workload.Program{Kind: workload.Process, Host: name}}
			if err := k.Runner.Available(&spec); err != nil {
				t.Skipf("%s is not installed", name)
			}
			s := k.Open(t, func(spec *workload.Spec, slot *runner.Slot) {
				spec.Program = workload.Program{Kind: workload.Process, Host: name}
				slot.Program = ""
			})
			s.Do("-c", script).OK(t)
		})
	}
}

func TestHostProgramLookup(t *testing.T) {
	for name, want := range map[string]string{"sh": "", "/bin/sh": "", "no-such-program": "missing", "/usr/bin/../bin/sh": "missing",
		"/etc/passwd": "missing", "/usr/bin": "missing", "../sh": "missing"} {
		_, err := Lookup(name)
		if (want == "") != (err == nil) || err != nil && !errors.Is(err, runner.ErrProgramMissing) {
			t.Errorf("%s: %v", name, err)
		}
	}
	k := kit(t)
	spec := workload.DefaultSpec()
	spec.Program = workload.Program{Kind: workload.Process, Host: "no-such-program"}
	if err := k.Runner.Available(&spec); !errors.Is(err, runner.ErrProgramMissing) {
		t.Errorf("available: %v", err)
	}
	if _, err := k.Runner.Open(context.Background(), runner.Slot{Spec: &spec, Dir: t.TempDir()}); !errors.Is(err, runner.ErrProgramMissing) {
		t.Errorf("open: %v", err)
	}
}

func TestShippedPrograms(t *testing.T) {
	k := kit(t)
	open := func(t *testing.T, text string) *runnertest.Slot {
		p := filepath.Join(t.TempDir(), "prog")
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil { // as a blob store keeps it
			t.Fatal(err)
		}
		k.Program = p
		return k.Open(t, nil)
	}
	if r := open(t, "#!/bin/sh\necho script \"$@\"; exit 3").Do("a", "b").Want(t, workload.Exited, 3); r.Stdout != "script a b\n" {
		t.Errorf("script said %q", r.Stdout)
	}
	if r := open(t, "not a program").Do().Want(t, workload.Exited, 126); r.Detail == "" {
		t.Error("no word about why it is not executable")
	}
	open(t, "#!/no/such/interpreter\n").Do().Want(t, workload.Exited, 127)
}

// BenchmarkAttempt is one program after another in sandboxes of one slot, with
// the CPU time of all that is waited for.
func BenchmarkAttempt(b *testing.B) {
	s := kit(b).Open(b, func(spec *workload.Spec, slot *runner.Slot) {
		spec.Program = workload.Program{Kind: workload.Process, Host: "true"}
		slot.Program, slot.Owner = "", workload.PeerID{1}
	})
	out := filepath.Join(s.Dir, "out")
	if err := os.Mkdir(out, 0o755); err != nil {
		b.Fatal(err)
	}
	before := cpuTime(b)
	for b.Loop() {
		if o, err := s.Session.Run(context.Background(), runner.Attempt{Out: out}); err != nil || o.Code != 0 {
			b.Fatal(o, err)
		}
	}
	b.ReportMetric(float64(cpuTime(b)-before)/float64(time.Millisecond)/float64(b.N), "cpu-ms/op")
}

// cpuTime is what this process and the children it has waited for have used.
func cpuTime(tb testing.TB) (sum time.Duration) {
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if err := unix.Getrusage(who, &u); err != nil {
			tb.Fatal(err)
		}
		sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return sum
}
