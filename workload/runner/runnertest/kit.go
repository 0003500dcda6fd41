// Package runnertest is the contract suite of runner.Runner: every runner
// passes it with the same probe program, built for what it runs.
package runnertest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/runner"
	"github.com/perrin-mesh/perrin/workload/sandbox"
)

// Kit is one runner under test.
type Kit struct {
	Runner runner.Runner
	// Program is the probe as this runner runs it.
	Program string
	// Root is the program's working directory as it sees it: /work, or / for wasm.
	Root string
	// Prepare, when set, completes a slot that Open has filled in.
	Prepare func(*workload.Spec, *runner.Slot)
	// Command comes before each attempt's arguments, for a runner whose program
	// is not the probe itself but holds it.
	Command []string
	// Dear is set where a start costs so much CPU time that a few tries have to do
	// where others make many.
	Dear bool
	// Memory is the least that a program can have, in bytes, if it is more than 64 MiB.
	Memory int64

	common func(*testing.T) *Slot // one that Suite's tests share that leave it as it was
}

// BuildProbe builds the probe once for each target and test binary.
func BuildProbe(tb testing.TB, goos, goarch string) string {
	tb.Helper()
	built := buildProbe(goos, goarch)
	if built.err != nil {
		tb.Fatalf("build the probe: %v\n%s", built.err, built.said)
	}
	to := filepath.Join(tb.TempDir(), "probe")
	if err := os.WriteFile(to, built.image, 0o755); err != nil {
		tb.Fatal(err)
	}
	return to
}

type build struct {
	image []byte
	said  []byte
	err   error
}

var (
	builds   = map[string]build{}
	buildsMu sync.Mutex
)

func buildProbe(goos, goarch string) build {
	buildsMu.Lock()
	defer buildsMu.Unlock()
	key := goos + "/" + goarch
	if b, ok := builds[key]; ok {
		return b
	}
	b := build{}
	dir, err := os.MkdirTemp("", "probe")
	if err != nil {
		return build{err: err}
	}
	defer os.RemoveAll(dir)
	_, here, _, _ := runtime.Caller(0)
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", filepath.Join(dir, "probe"), ".")
	cmd.Dir = filepath.Join(filepath.Dir(here), "testdata", "probe")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOOS="+goos, "GOARCH="+goarch)
	if b.said, b.err = cmd.CombinedOutput(); b.err == nil {
		b.image, b.err = os.ReadFile(filepath.Join(dir, "probe"))
	}
	builds[key] = b
	return b
}

// Host returns a sandbox host of the test's own. It skips the test where the
// machine allows no sandbox.
func Host(tb testing.TB) *sandbox.Host {
	tb.Helper()
	prefix := "perrin-test-" + strings.ToLower(filepath.Base(tb.TempDir())) + "-" + filepath.Base(filepath.Dir(tb.TempDir()))
	prefix = strings.Map(func(r rune) rune {
		if r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '-'
	}, prefix)
	h, err := sandbox.NewHost(sandbox.Config{Prefix: prefix[:min(len(prefix), 64)], Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := h.Close(); err != nil {
			tb.Error(err)
		}
	})
	if err := h.SelfTest(context.Background(), tb.TempDir(), false, "probe"); err != nil {
		tb.Skipf("this machine allows no sandbox (user namespaces): %v", err)
	}
	return h
}

// Slot is an open session with its folders.
type Slot struct {
	tb      testing.TB
	Kit     Kit
	Spec    workload.Spec
	Session runner.Session
	Dir     string
	n       int
}

// Open opens a session for the kit's probe. edit may change the spec and slot.
func (k Kit) Open(tb testing.TB, edit func(*workload.Spec, *runner.Slot)) *Slot {
	tb.Helper()
	s := &Slot{tb: tb, Kit: k, Spec: workload.DefaultSpec()}
	s.Dir = filepath.Join(tb.TempDir(), "slot")
	if err := os.Mkdir(s.Dir, 0o700); err != nil {
		tb.Fatal(err)
	}
	image, err := os.ReadFile(k.Program)
	if err != nil {
		tb.Fatal(err)
	}
	s.Spec.Program = workload.Program{Kind: k.Runner.Kind(), Name: "probe",
		Blob: workload.Ref{Digest: sha256.Sum256(image), Size: int64(len(image))}}
	slot := runner.Slot{Slot: 1, Spec: &s.Spec, Program: k.Program, Dir: s.Dir}
	if k.Prepare != nil {
		k.Prepare(&s.Spec, &slot)
	}
	if edit != nil {
		edit(&s.Spec, &slot)
	}
	if s.Session, err = k.Runner.Open(context.Background(), slot); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Session.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// Result is what came out of an attempt.
type Result struct {
	runner.Outcome
	Stdout, Stderr string
	Out            string // the output folder
}

// Attempt prepares an attempt with its own output folder.
func (s *Slot) Attempt(args ...string) runner.Attempt {
	s.tb.Helper()
	s.n++
	out := filepath.Join(s.Dir, "out-"+string(rune('a'+s.n)))
	if err := os.Mkdir(out, 0o700); err != nil {
		s.tb.Fatal(err)
	}
	return runner.Attempt{Number: 1, Args: append(slices.Clone(s.Kit.Command), args...), Out: out, Timeout: 2 * time.Minute}
}

// Run runs a and fails the test on a node fault.
func (s *Slot) Run(a runner.Attempt) Result {
	s.tb.Helper()
	return s.RunContext(context.Background(), a)
}

// RunContext is Run with a context.
func (s *Slot) RunContext(ctx context.Context, a runner.Attempt) Result {
	s.tb.Helper()
	var out, errs bytes.Buffer
	if a.Stdout == nil {
		a.Stdout = &out
	}
	a.Stderr = &errs
	o, err := s.Session.Run(ctx, a)
	if err != nil {
		s.tb.Fatalf("%q: %v", a.Args, err)
	}
	return Result{Outcome: o, Stdout: out.String(), Stderr: errs.String(), Out: a.Out}
}

// Do runs one verb of the probe.
func (s *Slot) Do(args ...string) Result {
	s.tb.Helper()
	return s.Run(s.Attempt(args...))
}

// Want fails the test unless the attempt ended so.
func (r Result) Want(tb testing.TB, exit workload.Exit, code int32) Result {
	tb.Helper()
	if r.Exit != exit || r.Code != code {
		tb.Errorf("ended as %s %d (%s), want %s %d\nstdout: %.400s\nstderr: %.800s", r.Exit, r.Code, r.Detail, exit, code, r.Stdout, r.Stderr)
	}
	return r
}

// OK is Want for a success.
func (r Result) OK(tb testing.TB) Result { tb.Helper(); return r.Want(tb, workload.Exited, 0) }

// WhenReady calls do once, when the program has written its first bytes.
type WhenReady struct {
	once sync.Once
	do   func()
}

// NewWhenReady returns a writer that calls do.
func NewWhenReady(do func()) *WhenReady { return &WhenReady{do: do} }

// Write notes that the program runs.
func (w *WhenReady) Write(p []byte) (int, error) {
	w.once.Do(func() { go w.do() })
	return len(p), nil
}
