package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/node/api/apitest"
	"github.com/perrin-mesh/perrin/workload"
)

// TestMain lets the scripts run this test binary as perrin.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"perrin": perrin})
}

// perrin is main with a mesh and a daemon of the test's.
func perrin() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	deps := parts{
		Version: "v0.1.0-test", PackTree: packTree, Daemon: &fakeDaemon{},
		Socket: filepath.Join(os.Getenv("WORK"), "no-daemon.sock"),
	}
	if os.Getenv("PERRIN_TEST_EMBEDDED") != "" {
		deps.Embedded = func(context.Context, workload.Kind) (api.Backend, func(), error) {
			return apitest.New(fakePrograms), func() { fmt.Fprintln(os.Stderr, "embedded mesh ended") }, nil
		}
	}
	os.Exit(run(context.Background(), deps, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// packTree stands for the archive of a folder: its files, one a line.
func packTree(_ context.Context, dir string, w io.Writer) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err == nil {
			_, err = fmt.Fprintln(w, rel)
		}
		return err
	})
}

// fakePrograms are what the test's mesh can run.
var fakePrograms = map[string]apitest.Program{
	"echo": func(_ context.Context, c *apitest.Call) int {
		fmt.Fprintln(c.Stdout, strings.Join(c.Args, " "))
		return 0
	},
	"cat": func(_ context.Context, c *apitest.Call) int {
		io.Copy(c.Stdout, c.Stdin)
		for _, name := range c.Args {
			c.Stdout.Write(c.Inputs[name])
		}
		return 0
	},
	"ls": func(_ context.Context, c *apitest.Call) int {
		var names []string
		for name := range c.Inputs {
			names = append(names, name)
		}
		slices.Sort(names)
		fmt.Fprintln(c.Stdout, strings.Join(names, "\n"))
		return 0
	},
	"exit": func(_ context.Context, c *apitest.Call) int {
		code, _ := strconv.Atoi(c.Args[0])
		fmt.Fprintf(c.Stderr, "exiting with %d\n", code)
		return code
	},
	"sleep": func(ctx context.Context, c *apitest.Call) int {
		fmt.Fprintln(c.Stdout, "sleeping")
		<-ctx.Done()
		return 0
	},
	"yes": func(ctx context.Context, c *apitest.Call) int {
		for ctx.Err() == nil {
			fmt.Fprintln(c.Stdout, "y")
		}
		return 0
	},
	"stubborn": func(ctx context.Context, c *apitest.Call) int {
		fmt.Fprintln(c.Stdout, "sleeping")
		<-c.Release
		return 0
	},
	"leave": func(_ context.Context, c *apitest.Call) int {
		fmt.Fprintf(c.Stdout, "task %d\n", c.Index)
		c.Output["result.txt"] = []byte(fmt.Sprintf("result of %d\n", c.Index))
		c.Output["sub/big.txt"] = []byte(strings.Repeat("big\n", 100))
		if len(c.Args) > 0 {
			c.Output[c.Args[0]] = []byte("bad")
		}
		return 0
	},
	"picky": func(_ context.Context, c *apitest.Call) int {
		name := c.Args[len(c.Args)-1]
		if strings.Contains(string(c.Inputs[name]), "bad") {
			fmt.Fprintf(c.Stderr, "cannot read %s\n", name)
			return 9
		}
		fmt.Fprintf(c.Stdout, "%d %s: %s", c.Index, strings.Join(c.Args, " "), c.Inputs[name])
		return 0
	},
	"env": func(_ context.Context, c *apitest.Call) int {
		fmt.Fprintf(c.Stdout, "A=%s where=%s class=%s cpus=%d memory=%d timeout=%d\n", c.Env["A"], c.Spec.Where,
			c.Spec.Resources.Class, c.Spec.Resources.CPUs, c.Spec.Resources.Memory, c.Spec.Timeout)
		return 0
	},
	"prog.wasm": func(_ context.Context, c *apitest.Call) int {
		fmt.Fprintf(c.Stdout, "%s %s of %d bytes: %s\n", c.Spec.Program.Kind, c.Spec.Program.Name, c.Spec.Program.Blob.Size, strings.Join(c.Args, " "))
		return 0
	},
	"tool.sh": func(_ context.Context, c *apitest.Call) int {
		fmt.Fprintf(c.Stdout, "%s %s shipped\n", c.Spec.Program.Kind, c.Spec.Program.Name)
		return 0
	},
}

type fakeKey struct{}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		UpdateScripts:       os.Getenv("REWRITE") != "",
		RequireExplicitExec: true,
		Setup:               serveFake,
		Condition: func(name string) (bool, error) {
			if name == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", name)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"mesh":       meshCommand,
			"interrupt":  interruptCommand,
			"unfinished": unfinishedCommand,
			"bytes":      bytesCommand,
			"tty":        ttyCommand,
		},
	})
}

// serveFake gives each script a mesh of its own, behind a socket.
func serveFake(env *testscript.Env) error {
	dir, err := os.MkdirTemp("", "p")
	if err != nil {
		return err
	}
	fake := apitest.New(fakePrograms)
	socket := filepath.Join(dir, "s")
	ln, err := api.Listen(socket, 0o600)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- api.NewServer(fake, slog.New(slog.DiscardHandler), api.Options{}).Serve(ctx, ln) }()
	env.Defer(func() {
		fake.Close()
		cancel()
		if err := errors.Join(<-done, os.RemoveAll(dir)); err != nil {
			env.T().Fatal(err)
		}
	})
	env.Setenv("PERRIN_SOCKET", socket)
	env.Setenv("HOME", env.WorkDir)
	env.Values[fakeKey{}] = fake
	return nil
}

func fakeOf(ts *testscript.TestScript) *apitest.Fake { return ts.Value(fakeKey{}).(*apitest.Fake) }

// meshCommand changes the fake mesh: mesh not-ready WHY, mesh single.
func meshCommand(ts *testscript.TestScript, neg bool, args []string) {
	switch {
	case len(args) == 2 && args[0] == "not-ready":
		fakeOf(ts).NotReady(args[1])
	case len(args) == 1 && args[0] == "single":
		fakeOf(ts).OneVoter()
	default:
		ts.Fatalf("mesh not-ready WHY, or mesh single")
	}
}

// unfinishedCommand fails unless so many workloads have not ended.
func unfinishedCommand(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if got := len(fakeOf(ts).Unfinished()); got != want {
		ts.Fatalf("%d workloads have not ended, want %d", got, want)
	}
}

// bytesCommand writes a file from a Go string without quotes: bytes FILE TEXT.
func bytesCommand(ts *testscript.TestScript, _ bool, args []string) {
	text, err := strconv.Unquote(`"` + args[1] + `"`)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}
