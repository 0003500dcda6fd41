package node_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/node/devmesh"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/shim"
)

// binaryDir is where the tests of this package build the daemon.
var binaryDir string

func TestMain(m *testing.M) {
	shim.Main()
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "perrin-node-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binaryDir = dir
	return m.Run()
}

// binary builds the daemon once; with PERRIN_TEST_RACE set, so that it notices
// data races, which then fail the test.
var binary = sync.OnceValues(func() (string, error) {
	exe := filepath.Join(binaryDir, "perrin")
	args := []string{"build", "-o", exe}
	if os.Getenv("PERRIN_TEST_RACE") != "" {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, "../cmd/perrin")...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the daemon: %w: %s", err, out)
	}
	return exe, nil
})

// testMesh is a local mesh of real daemons.
type testMesh struct {
	*devmesh.Mesh
	t *testing.T
}

// startMesh starts a mesh that ends with the test. It is skipped with -short.
func startMesh(t *testing.T, opt devmesh.Options) *testMesh {
	t.Helper()
	if testing.Short() {
		t.Skip("too long for a short run: it starts several daemons")
	}
	exe, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	if opt.Exe == "" {
		opt.Exe = exe
	}
	if opt.Data == "" {
		opt.Data = t.TempDir()
	}
	opt.Args = append([]string{"--log-level", "debug"}, opt.Args...)
	m, err := devmesh.Start(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.Stop()
		for _, member := range m.Members {
			checkLog(t, member)
		}
	})
	return &testMesh{Mesh: m, t: t}
}

// checkLog fails the test when a daemon panicked or raced, and keeps the logs of
// a failed test in the folder PERRIN_TEST_LOGS.
func checkLog(t *testing.T, member *devmesh.Member) {
	log, err := os.ReadFile(filepath.Join(member.Data, "log"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // a test may have wiped the folder
		t.Error(err)
	}
	for _, sign := range []string{"DATA RACE", "panic:", "fatal error:"} {
		if at := bytes.Index(log, []byte(sign)); at >= 0 {
			t.Errorf("%s: %s", member.Name, log[at:min(at+4000, len(log))])
		}
	}
	if keep := os.Getenv("PERRIN_TEST_LOGS"); keep != "" && t.Failed() {
		_ = os.WriteFile(filepath.Join(keep, member.Name+".log"), log, 0o644)
	}
}

// client speaks to a member's API; each request is bounded by the test's deadline.
func (m *testMesh) client(i int) *api.Client {
	m.t.Helper()
	c, err := api.Dial(m.Members[i].Socket)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(c.Close)
	return c
}

// within bounds a wait.
func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// poll asks until the answer is as wanted, and fails the test when it is not in time.
func poll[T any](t *testing.T, d time.Duration, what string, ask func(context.Context) (T, error), ok func(T) bool) T {
	t.Helper()
	ctx := within(t, d)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var last T
	var lastErr error
	for {
		v, err := ask(ctx)
		if err == nil && ok(v) {
			return v
		}
		if ctx.Err() == nil {
			last, lastErr = v, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within %s: %s; last %+v, error %v", d, what, last, lastErr)
		}
	}
}

// status polls a member's status.
func (m *testMesh) status(i int, d time.Duration, what string, ok func(*api.Status) bool) *api.Status {
	m.t.Helper()
	return poll(m.t, d, what, func(ctx context.Context) (*api.Status, error) {
		c, err := api.Dial(m.Members[i].Socket)
		if err != nil {
			return nil, err
		}
		defer c.Close()
		return c.Status(ctx, false)
	}, ok)
}

// indexOf finds the member with an identity.
func (m *testMesh) indexOf(id workload.PeerID) int {
	m.t.Helper()
	i := slices.IndexFunc(m.Members, func(member *devmesh.Member) bool { return m.id(member) == id })
	if i < 0 {
		m.t.Fatalf("no member is %s", id.Short())
	}
	return i
}

var (
	idsMu sync.Mutex
	ids   = map[*devmesh.Member]workload.PeerID{}
)

// id is a member's identity, which it is asked for once.
func (m *testMesh) id(member *devmesh.Member) workload.PeerID {
	m.t.Helper()
	idsMu.Lock()
	defer idsMu.Unlock()
	if id, ok := ids[member]; ok {
		return id
	}
	c, err := api.Dial(member.Socket)
	if err != nil {
		m.t.Fatal(err)
	}
	defer c.Close()
	st, err := c.Status(within(m.t, 10*time.Second), false)
	if err != nil {
		m.t.Fatal(err)
	}
	ids[member] = st.Node
	return st.Node
}

// learnIDs asks every member who it is, while all are up.
func (m *testMesh) learnIDs() {
	for _, member := range m.Members {
		m.id(member)
	}
}

// shell is a workload of the host's shell.
func shell(tasks uint32, script string) workload.Spec {
	spec := workload.DefaultSpec()
	spec.Program = workload.Program{Kind: workload.Process, Name: "sh", Host: "sh"}
	spec.Args = []string{"-c", script}
	spec.Resources.Memory = 32 << 20
	spec.Tasks.Count = tasks
	return spec
}

func submit(t *testing.T, c *api.Client, spec workload.Spec) workload.ID {
	t.Helper()
	sub, err := c.Submit(within(t, 30*time.Second), spec)
	if err != nil {
		t.Fatal(err)
	}
	return sub.ID
}

// waitFor waits until a workload is as wanted.
func waitFor(t *testing.T, c *api.Client, id workload.ID, d time.Duration, what string, ok func(*api.Workload) bool) *api.Workload {
	t.Helper()
	since := uint64(0)
	return poll(t, d, what, func(ctx context.Context) (*api.Workload, error) {
		w, err := c.Wait(ctx, id, since, time.Second)
		if err == nil {
			since = w.Version
		}
		return w, err
	}, ok)
}

// succeeded waits until a workload has, and checks that no result is missing.
func succeeded(t *testing.T, c *api.Client, id workload.ID, d time.Duration) *api.Workload {
	t.Helper()
	w := waitFor(t, c, id, d, "the workload ends", func(w *api.Workload) bool { return w.Phase.Ended() })
	if w.Phase != workload.Succeeded || w.Tasks.Done != w.Tasks.Total {
		t.Fatalf("phase %s (%s), tasks %+v", w.Phase, w.Reason, w.Tasks)
	}
	tasks, err := c.Tasks(within(t, 20*time.Second), id, 0, w.Tasks.Total)
	if err != nil {
		t.Fatal(err)
	}
	for i, task := range tasks {
		if task.Result == nil || !task.Result.OK() || task.Index != uint32(i) {
			t.Errorf("task %d: %+v", i, task)
		}
	}
	if len(tasks) != int(w.Tasks.Total) {
		t.Errorf("%d results, want %d", len(tasks), w.Tasks.Total)
	}
	return w
}

// TestAMeshGrows holds the rules of cells: one voter alone, one and a standby,
// then three, and five from seven members on.
func TestAMeshGrows(t *testing.T) {
	m := startMesh(t, devmesh.Options{Nodes: 1})
	for _, want := range []struct{ nodes, voters, standby int }{{1, 1, 0}, {2, 1, 1}, {3, 3, 0}, {5, 3, 2}, {9, 5, 2}} {
		for len(m.Members) < want.nodes {
			if _, err := m.Grow(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		what := fmt.Sprintf("%d nodes have %d voters and %d standbys", want.nodes, want.voters, want.standby)
		st := m.status(0, 30*time.Second, what, func(st *api.Status) bool {
			home := st.Cells[0]
			return st.Ready && home.Members == want.nodes && len(home.Voters) == want.voters && len(home.Standby) == want.standby &&
				st.Capacity.Total.Cores == int32(want.nodes)
		})
		warned := slices.ContainsFunc(st.Warnings, func(w string) bool { return strings.HasPrefix(w, "one ") }) // beside what this machine lacks
		if warned != (want.voters == 1) {
			t.Errorf("%d nodes: warnings %q", want.nodes, st.Warnings)
		}
		c := m.client(len(m.Members) - 1)
		succeeded(t, c, submit(t, c, shell(uint32(want.nodes), "echo hi")), 30*time.Second)
	}
}
