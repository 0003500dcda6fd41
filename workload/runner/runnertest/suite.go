package runnertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/runner"
)

// Suite runs the contract against the runner.
func Suite(t *testing.T, k Kit) {
	t.Run("probe", func(t *testing.T) {
		wall, err := k.Runner.Probe(context.Background())
		if err != nil || wall == "" {
			t.Fatalf("probe: %q, %v", wall, err)
		}
	})
	shared := k.Open(t, nil)
	k.common = func(t *testing.T) *Slot { shared.tb = t; return shared }
	for name, test := range map[string]func(*testing.T, Kit){
		"exit codes": exitCodes, "streams": streams, "stdin": stdin, "environment": environment, "inputs": inputs,
		"outputs": outputs, "links stay inside": links, "timeout": timeout, "cancel": cancel, "kill": kill,
		"interrupt": interrupt, "memory": memory, "output too big": tooBig, "output too big while running": tooBigRunning,
		"slow reader": slowReader, "unit socket": unitSocket, "closed": closed, "guard": guard, "usage": usage,
		"many attempts": manyAttempts, "nothing left": nothingLeft, "reuse": reuse,
	} {
		t.Run(name, func(t *testing.T) { test(t, k) })
	}
}

// few returns the first n of what is tried, where starts are dear.
func few[T any](k Kit, all []T, n int) []T {
	if k.Dear {
		return all[:n]
	}
	return all
}

func exitCodes(t *testing.T, k Kit) {
	s := k.common(t)
	for _, code := range few(k, []int32{7, 0, 1, 125}, 2) {
		r := s.Do("exit", fmt.Sprint(code)).Want(t, workload.Exited, code)
		if r.Wall == "" {
			t.Error("no isolation level in the outcome")
		}
	}
}

func streams(t *testing.T, k Kit) {
	s := k.common(t)
	if r := s.Do("both", "to stdout", "to stderr").OK(t); r.Stdout != "to stdout" || r.Stderr != "to stderr" {
		t.Errorf("stdout %q, stderr %q", r.Stdout, r.Stderr)
	}
	if r := s.Do("flood", "4").OK(t); len(r.Stdout) != 4<<20 {
		t.Errorf("stdout has %d bytes, want %d", len(r.Stdout), 4<<20)
	}
	a := s.Attempt("flood", "1")
	a.Stdout = failingWriter{}
	s.Run(a).OK(t) // a writer that fails must not block or fail the program
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errors.New("full") }

func stdin(t *testing.T, k Kit) {
	s := k.common(t)
	text := strings.Repeat("line of input\n", 20000)
	a := s.Attempt("cat")
	a.Stdin = strings.NewReader(text)
	if r := s.Run(a).OK(t); r.Stdout != text {
		t.Errorf("read back %d bytes, want %d", len(r.Stdout), len(text))
	}
	if r := s.Do("cat").OK(t); r.Stdout != "" {
		t.Errorf("without stdin it read %q", r.Stdout)
	}
	// A reader that never ends, and a program that does not read it.
	r, w := io.Pipe()
	defer w.Close()
	a = s.Attempt("noop")
	a.Stdin = r
	s.Run(a).OK(t)
	s.Do("exit", "3").Want(t, workload.Exited, 3)
}

func environment(t *testing.T, k Kit) {
	s := k.common(t)
	a := s.Attempt("args", "two words", "*", "")
	if r := s.Run(a).OK(t); r.Stdout != `["probe" "args" "two words" "*" ""]`+"\n" {
		t.Errorf("arguments are %s", r.Stdout)
	}
	for name, want := range map[string]string{"COLOUR": "blue=green", "PERRIN_OUT": "/out", "PERRIN_UNIT": "", "HOME": "/tmp"} {
		a := s.Attempt("env", name)
		a.Env = []string{"COLOUR=blue=green", "PERRIN_OUT=/etc", "=bad", "bad"}
		if r := s.Run(a).OK(t); r.Stdout != want+"\n" {
			t.Errorf("%s is %q, want %q", name, r.Stdout, want)
		}
	}
	t.Setenv("PERRIN_TEST_SECRET", "of the node")
	if r := s.Do("env", "PERRIN_TEST_SECRET").OK(t); r.Stdout != "\n" {
		t.Errorf("sees the node's environment: %q", r.Stdout)
	}
}

// stage writes a file that a program may read and returns its path.
func stage(t *testing.T, dir, name, text string) string {
	t.Helper()
	p := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

func inputs(t *testing.T, k Kit) {
	s := k.common(t)
	file := stage(t, s.Dir, "staged/one", "first")
	stage(t, s.Dir, "staged/tree/a/b", "second")
	mounts := []runner.Mount{{Source: file, Target: "data/one.txt"}, {Source: filepath.Join(s.Dir, "staged/tree"), Target: "data/tree"}}
	try := func(args ...string) Result { a := s.Attempt(args...); a.Mounts = mounts; return s.Run(a) }
	for name, want := range map[string]string{"data/one.txt": "first", "data/tree/a/b": "second", path.Join(k.Root, "data/one.txt"): "first"} {
		if r := try("read", name).OK(t); r.Stdout != want {
			t.Errorf("%s is %q, want %q", name, r.Stdout, want)
		}
	}
	want := "data true\ndata/one.txt false\ndata/tree true\ndata/tree/a true\ndata/tree/a/b false\n"
	if r := try("ls", "data").OK(t); r.Stdout != want {
		t.Errorf("listing\n%swant\n%s", r.Stdout, want)
	}
	for _, name := range few(k, []string{"data/tree/a/b", "data/one.txt", "data/tree/new"}, 1) {
		try("write", name, "1").Want(t, workload.Exited, 1)
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "first" {
		t.Errorf("the input became %q, %v", got, err)
	}
	for _, target := range []string{"../up", "/abs", "a/../b", ".", ""} {
		a := s.Attempt("noop")
		a.Mounts = []runner.Mount{{Source: file, Target: target}}
		if _, err := s.Session.Run(context.Background(), a); err == nil {
			t.Errorf("target %q was accepted", target)
		}
	}
}

func outputs(t *testing.T, k Kit) {
	s := k.common(t)
	r := s.Do("write", "/out/a/b.txt", "5").OK(t)
	files, err := runner.Outputs(r.Out, 10)
	if err != nil || len(files) != 1 || files[0].Path != "a/b.txt" || files[0].Size != 5 {
		t.Fatalf("outputs %+v, %v", files, err)
	}
	f, err := runner.OpenOutput(r.Out, "a/b.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if b, err := io.ReadAll(f); err != nil || string(b) != "xxxxx" {
		t.Errorf("read %q, %v", b, err)
	}
	if _, err := runner.Outputs(r.Out, 1); !errors.Is(err, runner.ErrTooManyOutputs) {
		t.Errorf("two entries with a limit of one: %v", err)
	}
	s.Do("write", "/tmp/x", "5").OK(t)
	s.Do("write", "scratch/x", "5").OK(t)
	s.Do("read", "/tmp/x").Want(t, workload.Exited, 1) // gone with its attempt
	s.Do("read", "scratch/x").Want(t, workload.Exited, 1)
}

// links: neither a link in an input nor one in an output leads the host or the
// program outside.
func links(t *testing.T, k Kit) {
	s := k.common(t)
	secret := stage(t, t.TempDir(), "secret", "of the host")
	stage(t, s.Dir, "linked/tree/file", "inside")
	if err := os.Symlink(secret, filepath.Join(s.Dir, "linked/tree/link")); err != nil {
		t.Fatal(err)
	}
	a := s.Attempt("read", "data/link")
	a.Mounts = []runner.Mount{{Source: filepath.Join(s.Dir, "linked/tree"), Target: "data"}}
	if r := s.Run(a).Want(t, workload.Exited, 1); strings.Contains(r.Stdout, "of the host") {
		t.Error("followed an input's link to the host")
	}
	r := s.Do("symlink", secret, "/out/link")
	if r.Code != 0 {
		return // this runner lets no program make links
	}
	files, err := runner.Outputs(r.Out, 10)
	if err != nil || len(files) != 0 {
		t.Errorf("outputs %+v, %v: a link is no output", files, err)
	}
	if _, err := runner.OpenOutput(r.Out, "link"); err == nil {
		t.Error("opened an output's link to the host")
	}
}

func timeout(t *testing.T, k Kit) {
	s := k.Open(t, nil)
	for _, verb := range few(k, []string{"spin", "sleep"}, 1) {
		a := s.Attempt(verb)
		a.Timeout = 300 * time.Millisecond
		if r := s.Run(a); r.Exit != workload.TimedOut || r.Usage.WallMs < 250 {
			t.Errorf("%s: %+v", verb, r.Outcome)
		}
	}
	s.Do("exit", "4").Want(t, workload.Exited, 4) // the session goes on
}

func cancel(t *testing.T, k Kit) {
	s := k.Open(t, nil)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	a := s.Attempt("spin")
	a.Stdout = NewWhenReady(stop)
	if r := s.RunContext(ctx, a); r.Exit != workload.StoppedExit {
		t.Errorf("%+v", r.Outcome)
	}
	if r := s.RunContext(ctx, s.Attempt("sleep")); r.Exit != workload.StoppedExit {
		t.Errorf("already cancelled: %+v", r.Outcome)
	}
}

func kill(t *testing.T, k Kit) {
	s := k.Open(t, nil)
	s.Session.Kill() // nothing runs: nothing happens
	a := s.Attempt("spin")
	a.Stdout = NewWhenReady(s.Session.Kill)
	if r := s.Run(a); r.Exit != workload.StoppedExit {
		t.Errorf("%+v", r.Outcome)
	}
	s.Do("exit", "5").Want(t, workload.Exited, 5)
}

func interrupt(t *testing.T, k Kit) {
	s := k.Open(t, nil)
	a := s.Attempt("spin")
	a.Stdout = NewWhenReady(func() { s.Session.Interrupt(50 * time.Millisecond) })
	if r := s.Run(a); r.Exit != workload.StoppedExit {
		t.Errorf("%+v", r.Outcome)
	}
	s.Do("exit", "6").Want(t, workload.Exited, 6)
	s.Session.Interrupt(50 * time.Millisecond) // just before one begins
	if r := s.Do("spin"); r.Exit != workload.StoppedExit {
		t.Errorf("asked to end before it began: %+v", r.Outcome)
	}
	s.Do("exit", "6").Want(t, workload.Exited, 6)
}

func memory(t *testing.T, k Kit) {
	limit := max(64<<20, k.Memory)
	s := k.Open(t, func(spec *workload.Spec, _ *runner.Slot) { spec.Resources.Memory = limit })
	s.Do("alloc", "20").OK(t)
	if r := s.Do("alloc", fmt.Sprint(2*limit>>20)); r.Exit != workload.OutOfMemory {
		t.Errorf("twice the limit of %d MiB: %+v\n%.300s", limit>>20, r.Outcome, r.Stderr)
	}
	s.Do("exit", "8").Want(t, workload.Exited, 8)
}

func tooBig(t *testing.T, k Kit) {
	s := k.Open(t, func(spec *workload.Spec, _ *runner.Slot) { spec.Resources.Disk = 1 << 20 })
	s.Do("write", "/out/x", "500000").OK(t)
	r := s.Do("write", "/out/x", "3000000")
	// One file over the limit: the program is killed or its write fails.
	if r.Exit != workload.OutputTooBig && (r.Exit != workload.Exited || r.Code == 0) {
		t.Errorf("%+v", r.Outcome)
	}
	s.Do("exit", "9").Want(t, workload.Exited, 9)
}

func tooBigRunning(t *testing.T, k Kit) {
	s := k.Open(t, func(spec *workload.Spec, _ *runner.Slot) { spec.Resources.Disk = 4 << 20 })
	for _, dir := range []string{"/out", "."} {
		if r := s.Do("many", dir, "6"); r.Exit != workload.OutputTooBig {
			t.Errorf("6 MiB in files of 1 in %s with a limit of 4: %+v", dir, r.Outcome)
		}
	}
}

// slowReader: the program waits for a slow writer and loses nothing.
func slowReader(t *testing.T, k Kit) {
	s := k.common(t)
	var buf bytes.Buffer
	open := make(chan struct{})
	a := s.Attempt("flood", "1")
	a.Stdout = &gated{w: &buf, first: NewWhenReady(func() { close(open) }), open: open}
	s.Run(a).OK(t)
	if buf.Len() != 1<<20 {
		t.Errorf("got %d bytes", buf.Len())
	}
}

type gated struct {
	w     io.Writer
	first *WhenReady
	open  chan struct{}
}

func (g *gated) Write(p []byte) (int, error) {
	_, _ = g.first.Write(p)
	<-g.open
	return g.w.Write(p)
}

func unitSocket(t *testing.T, k Kit) {
	s := k.common(t)
	sock := filepath.Join(s.Dir, "unit.sock")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprintf(w, "%s %s %s", r.Method, r.URL.Path, b)
	})}
	go func() { _ = srv.Serve(l) }()
	defer srv.Close()
	a := s.Attempt("unit", "POST", "/v1/publish", "hello")
	a.Unit = func() (string, error) { return sock, nil }
	if r := s.Run(a).OK(t); r.Stdout != "202 POST /v1/publish hello" {
		t.Errorf("answered %q", r.Stdout)
	}
	a = s.Attempt("env", "PERRIN_UNIT")
	a.Unit = func() (string, error) { return sock, nil }
	if r := s.Run(a).OK(t); r.Stdout != "/perrin/unit.sock\n" {
		t.Errorf("PERRIN_UNIT is %q", r.Stdout)
	}
	s.Do("unit", "GET", "/", "").Want(t, workload.Exited, 1) // an attempt without one has none
}

func closed(t *testing.T, k Kit) {
	s := k.Open(t, nil)
	done := make(chan error, 1)
	a := s.Attempt("spin")
	a.Stdout = NewWhenReady(func() { done <- s.Session.Close() })
	if r := s.Run(a); r.Exit != workload.StoppedExit {
		t.Errorf("%+v", r.Outcome)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := s.Session.Run(context.Background(), s.Attempt("noop")); !errors.Is(err, runner.ErrClosed) {
		t.Errorf("run after close: %v", err)
	}
	if err := s.Session.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}

type testGuard struct {
	refuse         error
	held, released int
	cgroups        []string
}

func (g *testGuard) Guard(p runner.Proc) (func(), error) {
	if g.refuse != nil {
		return nil, g.refuse
	}
	g.held++
	g.cgroups = p.Cgroups
	if _, err := p.Pidfd.Stat(); err != nil {
		return nil, err
	}
	return func() { g.released++ }, nil
}

func guard(t *testing.T, k Kit) {
	g := &testGuard{}
	s := k.Open(t, func(_ *workload.Spec, slot *runner.Slot) { slot.Guard = g })
	s.Do("noop").OK(t)
	if g.held == 0 {
		t.Error("the guard was not told")
	}
	if err := s.Session.Close(); err != nil || g.held != g.released {
		t.Errorf("held %d, released %d, %v", g.held, g.released, err)
	}
	no := errors.New("lease over")
	s = k.Open(t, func(_ *workload.Spec, slot *runner.Slot) { slot.Guard = &testGuard{refuse: no} })
	if _, err := s.Session.Run(context.Background(), s.Attempt("noop")); !errors.Is(err, no) {
		t.Errorf("refused by its guard: %v", err)
	}
}

func usage(t *testing.T, k Kit) {
	s := k.Open(t, nil)
	a := s.Attempt("spin")
	a.Timeout = 500 * time.Millisecond
	u := s.Run(a).Usage
	if u.CPUMs < 20 || u.CPUMs > 5000 || u.WallMs < 450 { // a busy machine gives it a small share
		t.Errorf("spinning for half a second used %+v", u)
	}
	if u := s.Do("alloc", "40").OK(t).Usage; u.PeakMem < 40<<20 || u.PeakMem > 256<<20 {
		t.Errorf("peak memory %d, want 40 MiB and a little", u.PeakMem)
	}
}

func manyAttempts(t *testing.T, k Kit) {
	s := k.common(t)
	for _, i := range few(k, []int32{3, 0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19}, 3) {
		s.Do("exit", fmt.Sprint(i)).Want(t, workload.Exited, i)
	}
}

func nothingLeft(t *testing.T, k Kit) {
	g := &testGuard{}
	s := k.Open(t, func(_ *workload.Spec, slot *runner.Slot) { slot.Guard = g })
	a := s.Attempt("many", ".", "2")
	a.Stdout = NewWhenReady(s.Session.Kill)
	s.Run(a)
	s.Do("write", "junk", "10").OK(t)
	if err := s.Session.Close(); err != nil {
		t.Fatal(err)
	}
	for _, dir := range g.cgroups {
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("cgroup %s is still there", dir)
		}
	}
	entries, err := os.ReadDir(s.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "out-") {
			t.Errorf("%s is left in the slot's folder", e.Name())
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), s.Dir) {
		t.Errorf("a mount of the slot's folder is left (%v)", err)
	}
}

// reuse is of sessions that serve one slot after another: each slot's guard is
// let go and taken, nothing of the first slot is seen by the second, and a
// session whose program was killed is not kept.
func reuse(t *testing.T, k Kit) {
	first, second := &testGuard{}, &testGuard{}
	var slot runner.Slot
	s := k.Open(t, func(_ *workload.Spec, of *runner.Slot) { of.Guard = first; slot = *of })
	session, ok := s.Session.(runner.Reusable)
	if !ok {
		return
	}
	if _, err := session.Park(); err == nil {
		t.Error("a session that ran nothing was parked")
	}
	s.Do("write", "secret", "10").OK(t)
	keep, err := session.Park()
	if err != nil || len(keep) == 0 || first.held == 0 || first.held != first.released {
		t.Fatalf("parked with %q kept, guard %+v: %v", keep, first, err)
	}
	slot.Guard = second
	if err := session.Reopen(slot); err != nil || second.held != 1 || second.released != 0 {
		t.Fatalf("reopened with guard %+v: %v", second, err)
	}
	s.Do("read", "secret").Want(t, workload.Exited, 1)
	s.Do("exit", "3").Want(t, workload.Exited, 3)
	if _, err := session.Park(); err != nil || second.released != 1 {
		t.Fatalf("parked again, guard %+v: %v", second, err)
	}
	slot.Guard = &testGuard{refuse: errors.New("lease over")}
	if err := session.Reopen(slot); err == nil {
		t.Error("reopened under a guard that refuses")
	}
	slot.Guard = second
	if err := session.Reopen(slot); err != nil {
		t.Fatal(err)
	}
	a := s.Attempt("spin")
	a.Stdout = NewWhenReady(session.Kill)
	s.Run(a)
	if _, err := session.Park(); err == nil {
		t.Error("a killed session was parked")
	}
}
