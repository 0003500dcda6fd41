package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/perrin-mesh/perrin/workload/sandbox/cgroup"
	"github.com/perrin-mesh/perrin/workload/sandbox/inside"
	"github.com/perrin-mesh/perrin/workload/shim"
)

func TestMain(m *testing.M) {
	shim.Main()
	os.Exit(m.Run())
}

func TestReadMounted(t *testing.T) {
	for name, c := range map[string]struct {
		mountinfo, cgroup string
		want              mounted
	}{
		"v2": {
			"30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
			"0::/system.slice/perrin.service\n",
			mounted{unified: "/sys/fs/cgroup/system.slice/perrin.service", unifiedTop: "/sys/fs/cgroup", v1: map[string]string{}},
		},
		"v2 in a container": {
			"30 23 0:26 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup rw\n", "0::/docker/abc/inner\n",
			mounted{unified: "/sys/fs/cgroup/inner", unifiedTop: "/sys/fs/cgroup", v1: map[string]string{}},
		},
		"hybrid": {
			"31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n" +
				"32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n" +
				"33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n",
			"4:cpu,cpuacct:/a\n2:memory:/b/c\n0::/\n",
			mounted{unified: "/sys/fs/cgroup/unified", unifiedTop: "/sys/fs/cgroup/unified", v1: map[string]string{
				"memory": "/sys/fs/cgroup/memory/b/c", "cpu": "/sys/fs/cgroup/cpu,cpuacct/a", "cpuacct": "/sys/fs/cgroup/cpu,cpuacct/a"}},
		},
		"another's container": {
			"30 23 0:26 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup rw\n", "0::/docker/def\n",
			mounted{v1: map[string]string{}},
		},
		"nonsense": {"- - -\n1\n\n", "x\n1:2\n", mounted{v1: map[string]string{}}},
	} {
		if got := readMounted(c.mountinfo, c.cgroup); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got, c.want)
		}
	}
}

// fakeUnified makes a folder with the files of a version 2 cgroup.
func fakeUnified(t *testing.T, dir string, files ...string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestUnifiedLimitsAndReadings(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "g")
	fakeUnified(t, dir, "memory.max", "memory.swap.max", "pids.max", "cpuset.cpus", "memory.peak", "cpu.stat", "memory.events")
	g := &Group{limits: Limits{Memory: 64 << 20, Pids: 10, CPUs: []int{1, 3}}, dirs: map[string]string{"": dir}}
	if err := g.limitUnified(dir); err != nil {
		t.Fatal(err)
	}
	defer g.peak.Close()
	for name, want := range map[string]string{"memory.max": "67108864", "memory.swap.max": "0", "pids.max": "10", "cpuset.cpus": "1,3"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s is %q, %v, want %q", name, got, err, want)
		}
	}
	for name, text := range map[string]string{"memory.peak": "4096\n", "cpu.stat": "usage_usec 2500\nuser_usec 1\n", "memory.events": "low 0\noom 1\noom_kill 2\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := g.Read(), (Meter{CPUMs: 2, PeakMem: 4096, OOMKills: 2}); got != want {
		t.Errorf("read %+v, want %+v", got, want)
	}
	g.counts = g.controllers()
	if l := g.insideLimits(); l.Data != 0 || l.Procs != 0 || !l.Pinned || !g.counts.memory || !g.counts.cpu {
		t.Errorf("rlimits beside cgroups: %+v", l)
	}
	none := &Group{limits: g.limits, dirs: map[string]string{}}
	if l := none.insideLimits(); none.controllers() != (counts{}) || l.Procs == 0 || l.Data == 0 || l.Pinned {
		t.Errorf("rlimits in place of cgroups: %+v", l)
	}
	if got := none.Read(); got.CPUMs != -1 || got.PeakMem != -1 {
		t.Errorf("read %+v without cgroups", got)
	}
}

// TestUnifiedKill uses the machine's own version 2 hierarchy, with whatever
// controllers it has.
func TestUnifiedKill(t *testing.T) {
	m, err := currentMounts()
	if err != nil || m.unified == "" {
		t.Skip("no cgroup version 2 is mounted")
	}
	dir := filepath.Join(m.unified, fmt.Sprintf("perrin-test-kill-%d", os.Getpid()))
	if err := os.MkdirAll(filepath.Join(dir, "child"), 0o755); err != nil {
		t.Skipf("cgroup version 2 is not writable: %v", err)
	}
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := cgroup.Write(filepath.Join(dir, "child"), "cgroup.procs", fmt.Sprint(cmd.Process.Pid)); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	if err := cgroup.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("the process in it: %v", err)
	}
	if err := cgroup.Remove(dir); err != nil {
		t.Errorf("removing what is gone: %v", err)
	}
}

func host(t *testing.T, prefix string) *Host {
	t.Helper()
	h, err := NewHost(Config{Prefix: prefix, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := h.SelfTest(context.Background(), t.TempDir(), false, inside.RoleProbe); err != nil {
		t.Skipf("this machine allows no sandbox (user namespaces): %v", err)
	}
	return h
}

func TestSweepKillsWhatADaemonLeft(t *testing.T) {
	prefix := fmt.Sprintf("perrin-test-sweep-%d", os.Getpid())
	h := host(t, prefix)
	g, err := h.NewGroup("left", Limits{Memory: 64 << 20, Pids: 20})
	if err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	p, err := g.Start(Program{Host: true, Work: work, Path: "/bin/sleep", Args: []string{"sleep", "1000"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if len(g.Cgroups()) == 0 {
		p.Kill()
		t.Skip("cgroups are not writable")
	}
	if err := Sweep(prefix); err != nil {
		t.Fatal(err)
	}
	if e, err := p.Wait(); err != nil || e.Signal == 0 {
		t.Errorf("the program ended as %+v, %v", e, err)
	}
	for _, dir := range append(g.Cgroups(), h.Roots()...) {
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s is left", dir)
		}
	}
	// The node's folders come back when they are needed.
	g, err = h.NewGroup("next", Limits{Memory: 64 << 20, Pids: 20})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "other", "perrin/../x", "perrin\n", strings.Repeat("perrin", 20)} {
		if Sweep(bad) == nil {
			t.Errorf("prefix %q was swept", bad)
		}
	}
}

func TestGuardKeepsAProgramFromRunning(t *testing.T) {
	g, err := host(t, fmt.Sprintf("perrin-test-guard-%d", os.Getpid())).NewGroup("g", Limits{Memory: 64 << 20, Pids: 20})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	out, no := t.TempDir(), errors.New("no")
	_, err = g.Start(Program{Host: true, Work: t.TempDir(), Out: out, Path: "/bin/touch", Args: []string{"touch", "/out/ran"}},
		func(init *os.File) error { return no })
	if !errors.Is(err, no) {
		t.Errorf("start: %v", err)
	}
	if _, err := os.Stat(filepath.Join(out, "ran")); err == nil {
		t.Error("the program ran")
	}
}

func TestMountsAreBounded(t *testing.T) {
	g, err := host(t, fmt.Sprintf("perrin-test-mounts-%d", os.Getpid())).NewGroup("g", Limits{Memory: 64 << 20, Pids: 20})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	src := t.TempDir()
	if err := os.WriteFile(filepath.Join(src, "mark"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Start(Program{Host: true, Work: t.TempDir(), Path: "/bin/true", Args: []string{"true"},
		Mounts: []Mount{{Source: filepath.Join(src, "no"), Target: "/perrin/a"}}}, nil); err == nil {
		t.Error("a missing source was mounted")
	}
	// Dots lead to the sandbox's own root and no further.
	for target, seen := range map[string]string{"/perrin/../../a": "/a/mark", "/perrin/a/../b": "/perrin/b/mark"} {
		p, err := g.Start(Program{Host: true, Work: t.TempDir(), Path: "/usr/bin/test", Args: []string{"test", "-e", seen},
			Mounts: []Mount{{Source: src, Target: target}}}, nil)
		if err != nil {
			t.Errorf("%s: %v", target, err)
			continue
		}
		if exit, err := p.Wait(); err != nil || exit.Code != 0 {
			t.Errorf("%s is not seen at %s: %v, %v", target, seen, exit, err)
		}
		p.Close()
		if _, err := os.Stat(seen); err == nil {
			t.Errorf("%s is on the host", seen)
		}
	}
}

func TestUsage(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	big := filepath.Join(outside, "big")
	if err := os.WriteFile(big, make([]byte, 4<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		os.MkdirAll(filepath.Join(dir, "a/b"), 0o755), os.WriteFile(filepath.Join(dir, "a/b/c"), make([]byte, 1<<20), 0o644),
		os.Symlink(outside, filepath.Join(dir, "link")), os.Symlink("/", filepath.Join(dir, "a/root")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	n, err := Usage(0, dir, "")
	if err != nil || n < 1<<20 || n > 2<<20 {
		t.Errorf("usage %d, %v: want 1 MiB and a little", n, err)
	}
	if _, err := Usage(1<<20, dir); !errors.Is(err, ErrTooBig) {
		t.Errorf("over the limit: %v", err)
	}
	deep := dir
	for range maxDepth + 2 {
		deep = filepath.Join(deep, "d")
	}
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Usage(0, dir); !errors.Is(err, ErrTooBig) {
		t.Errorf("too deep: %v", err)
	}
	if _, err := Usage(0, filepath.Join(dir, "link")); err == nil {
		t.Error("measured through a link")
	}
}

func TestRemoveAllTakesClosedFolders(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "x")
	outside := t.TempDir()
	for _, err := range []error{
		os.MkdirAll(filepath.Join(dir, "a/b"), 0o755), os.WriteFile(filepath.Join(dir, "a/b/c"), nil, 0),
		os.Symlink(outside, filepath.Join(dir, "a/link")), os.Chmod(filepath.Join(dir, "a/b"), 0), os.Chmod(filepath.Join(dir, "a"), 0o500),
		os.Chmod(outside, 0o500),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := Open(dir); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, "a/b/c")); err != nil || info.Mode().Perm()&0o400 == 0 {
		t.Errorf("not opened: %v", err)
	}
	if info, err := os.Stat(outside); err != nil || info.Mode().Perm() != 0o500 {
		t.Errorf("a link's target was changed: %v, %v", info.Mode(), err)
	}
	if err := os.Chmod(filepath.Join(dir, "a"), 0); err != nil {
		t.Fatal(err)
	}
	if err := RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(dir); err == nil {
		t.Error("still there")
	}
}

func TestUserRange(t *testing.T) {
	if r := rangeFrom("0 0 4294967295\n"); r.base != userBase || r.count != userCount {
		t.Errorf("all users: %+v", r)
	}
	if r := rangeFrom("0 100000 65536\n"); r.base != 32768 || r.count != 32768 {
		t.Errorf("a container: %+v", r)
	}
	if r := rangeFrom("0 1000 1\n"); r.count != 1 || r.own() {
		t.Errorf("one user: %+v", r)
	}
	r := rangeFrom("0 0 4294967295\n")
	seen := []int{}
	for range 100 {
		u := r.next()
		if u < userBase || u >= userBase+userCount || slices.Contains(seen, u) {
			t.Fatalf("user %d after %v", u, seen)
		}
		seen = append(seen, u)
	}
}

// TestRoot: what a program does to its root, nobody else sees, and it reaches no
// more than without one.
func TestRoot(t *testing.T) {
	h := host(t, fmt.Sprintf("perrin-test-root-%d", os.Getpid()))
	if err := h.SelfTestRoot(context.Background(), t.TempDir()); err != nil {
		t.Fatal(err)
	}
}

// TestWhatIsCounted: memory and threads each by a controller of their own, for spare
// work too.
func TestWhatIsCounted(t *testing.T) {
	both := hierarchy{v1: map[string]string{ctlMemory: "m", ctlPids: "p"}}
	memory := hierarchy{v1: map[string]string{ctlMemory: "m"}}
	two := hierarchy{unified: t.TempDir()}
	if err := os.WriteFile(filepath.Join(two.unified, "cgroup.subtree_control"), []byte("cpu memory\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		h               *Host
		memory, threads bool
	}{
		"both":                   {&Host{tree: both, spare: both}, true, true},
		"no pids":                {&Host{tree: memory, spare: memory}, true, false},
		"no pids for spare work": {&Host{tree: both, spare: memory}, true, false},
		"version 2 without pids": {&Host{tree: two, spare: two}, true, false},
		"nothing":                {&Host{}, false, false},
	} {
		if tt.h.CountsMemory() != tt.memory || tt.h.CountsThreads() != tt.threads {
			t.Errorf("%s: memory %t, threads %t", name, tt.h.CountsMemory(), tt.h.CountsThreads())
		}
	}
}
