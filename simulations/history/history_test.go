package history

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/workload/shim"
)

// atOnce is how many meshes are hurt at once: they wait more than they work.
const atOnce = "3"

func TestMain(m *testing.M) {
	shim.Main()
	flag.Parse()
	if err := flag.Set("test.parallel", atOnce); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// build builds the daemon, with further arguments of go build.
func build(t *testing.T, args ...string) string {
	t.Helper()
	exe := filepath.Join(t.TempDir(), "perrin")
	args = append(append([]string{"build", "-o", exe}, args...), "../../cmd/perrin")
	if out, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput(); err != nil {
		t.Fatalf("go %q: %v\n%s", args, err, out)
	}
	return exe
}

// run starts a cluster, hurts it, repairs it and returns what is found.
func run(t *testing.T, cfg Config, hurt func(context.Context, *Cluster, *History) error) []Finding {
	t.Helper()
	cfg.Dir = t.TempDir()
	began := time.Now()
	c, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		c.Stop()
		keepLogs(t, c)
	}()
	h := NewHistory(c)
	up := time.Since(began)
	if err := hurt(t.Context(), c, h); err != nil {
		t.Error(err)
	}
	hurtFor := time.Since(began) - up
	if err := c.Repair(t.Context()); err != nil {
		t.Error(err)
	}
	found, err := h.Settle(t.Context())
	if err != nil {
		t.Error(err)
	}
	c.Stop()
	more, err := h.Check(t.Context())
	if err != nil {
		t.Error(err)
	}
	for _, kind := range []Kind{Submit, Stop, Read} {
		all, answered := Tally(h.rec.Ops(), kind)
		t.Logf("%s: %d, answered %d", kind, all, answered)
	}
	t.Logf("up after %s, hurt for %s, in all %s", up, hurtFor, time.Since(began))
	return append(found, more...)
}

// keepLogs keeps the logs of a failed test in the folder PERRIN_TEST_LOGS.
func keepLogs(t *testing.T, c *Cluster) {
	keep := os.Getenv("PERRIN_TEST_LOGS")
	if keep == "" || !t.Failed() {
		return
	}
	dir := filepath.Join(keep, filepath.FromSlash(t.Name()))
	for _, m := range c.mesh.Members {
		to := filepath.Join(dir, m.Name)
		for _, file := range []string{"log", "attempts"} {
			data, err := os.ReadFile(filepath.Join(m.Data, file))
			if err == nil && os.MkdirAll(to, 0o755) == nil {
				_ = os.WriteFile(filepath.Join(to, file), data, 0o644)
			}
		}
	}
}

// TestSchedules holds that the product, as it is, stands what every planted bug
// is found by.
func TestSchedules(t *testing.T) {
	if testing.Short() {
		t.Skip("too long for a short run: it hurts meshes on purpose")
	}
	exe := build(t)
	for name, s := range Schedules {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, f := range run(t, Config{Exe: exe, Nodes: s.Nodes, Lease: s.Lease}, s.Run) {
				t.Errorf("%s: %s", f.Check, f.What)
			}
		})
	}
}

// inNetwork is set in the copy of the test that runs in a network of its own.
const inNetwork = "PERRIN_HISTORY_NETWORK"

// What a longer run takes from its environment: the first seed, and how many of
// them (a history of each size each).
const (
	envSeed = "PERRIN_HISTORY_SEED"
	envSoak = "PERRIN_HISTORY_SOAK"
)

// TestHistories lets clients work while a nemesis kills, freezes, cuts off and
// restarts the daemons under them. With PERRIN_HISTORY_SOAK=N it does so N times.
func TestHistories(t *testing.T) {
	if testing.Short() {
		t.Skip("too long for a short run: it hurts meshes for a while")
	}
	exe := os.Getenv(inNetwork)
	if exe == "" {
		exe = build(t)
	}
	seed, rounds := number(t, envSeed, 1), number(t, envSoak, 1)
	for _, nodes := range []int{3, 5} {
		for s := seed; s < seed+rounds; s++ {
			t.Run(fmt.Sprintf("%d nodes, seed %d", nodes, s), func(t *testing.T) {
				t.Parallel()
				if os.Getenv(inNetwork) == "" && os.Geteuid() == 0 {
					inOwnNetwork(t, exe)
					return
				}
				history(t, exe, nodes, s)
			})
		}
	}
	t.Run("cut", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Skip("networks of daemons are cut by root alone")
		}
	})
}

func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// inOwnNetwork runs this test once more, in a network namespace of its own.
func inOwnNetwork(t *testing.T, exe string) {
	parts := strings.Split(t.Name(), "/")
	for i := range parts {
		parts[i] = "^" + regexp.QuoteMeta(parts[i]) + "$"
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run="+strings.Join(parts, "/"), "-test.v", "-test.timeout=10m")
	cmd.Env = append(os.Environ(), inNetwork+"="+exe)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	t.Logf("in a network of its own:\n%s", out)
	if err != nil {
		t.Error(err)
	}
}

// How long a history is, and how many clients make it of how many workloads each.
const (
	hurtFor = 20 * time.Second
	clients = 8
	submits = 10
	enough  = 8 // workloads that must be acknowledged, for the history to show anything
)

func history(t *testing.T, exe string, nodes int, seed uint64) {
	cfg := Config{Exe: exe, Nodes: nodes, Lease: shortLease}
	if os.Getenv(inNetwork) != "" {
		w, err := NewNetwork(nodes)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		}()
		cfg.Net = w
	}
	t.Logf("%s=%d", envSeed, seed)
	found := run(t, cfg, func(ctx context.Context, c *Cluster, h *History) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		drove := make(chan error, 1)
		go func() { drove <- h.Drive(ctx, seed, clients, submits) }()
		err := NewNemesis(c, seed, t.Logf).Run(ctx, hurtFor)
		cancel()
		err = errors.Join(err, <-drove)
		if _, submitted := Tally(h.rec.Ops(), Submit); err == nil && submitted < enough {
			err = fmt.Errorf("%d workloads were acknowledged, which shows little: want %d", submitted, enough)
		}
		return err
	})
	for _, f := range found {
		t.Errorf("%s: %s", f.Check, f.What)
	}
}
