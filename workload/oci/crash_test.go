package oci

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/oci/ocitest"
	"github.com/perrin-mesh/perrin/workload/runner"
	"github.com/perrin-mesh/perrin/workload/runner/runnertest"
	"github.com/perrin-mesh/perrin/workload/sandbox"
)

// envDaemon makes the test binary play a daemon that is killed.
const envDaemon = "PERRIN_TEST_OCI_DAEMON"

// played is what a daemon that is to be killed is told.
type played struct {
	Prefix, Dir  string
	Running      staged // an image of which an attempt runs
	Half         staged // one that is being unpacked
	RunningSlot  string
	UnpackedSlot string
	GVisor       bool // runs the image
}

// MarshalJSON lets a staged image be told to another process.
func (s staged) MarshalJSON() ([]byte, error) { return json.Marshal([]any{s.record, s.layers, s.refs}) }

// UnmarshalJSON is the other side of it.
func (s *staged) UnmarshalJSON(raw []byte) error {
	return json.Unmarshal(raw, &[]any{&s.record, &s.layers, &s.refs})
}

// playDaemon runs an attempt of one image and stops in the middle of unpacking
// another.
func playDaemon(raw string) error {
	var p played
	if err := json.Unmarshal([]byte(raw), &p); err != nil {
		return err
	}
	quiet := slog.New(slog.DiscardHandler)
	h, err := sandbox.NewHost(sandbox.Config{Prefix: p.Prefix, Logger: quiet})
	if err != nil {
		return err
	}
	r, err := New(Config{Host: h, Dir: p.Dir, Limit: 1 << 30, Logger: quiet})
	if err != nil {
		return err
	}
	slot := func(s staged, dir string, layer func(int) (string, error)) runner.Slot {
		spec := workload.DefaultSpec()
		spec.Program = workload.Program{Kind: workload.OCI, Layers: s.refs}
		return runner.Slot{Slot: 1, Spec: &spec, Program: s.record, Dir: dir, Layer: layer, Guard: tellInit{}}
	}
	open := runner.Runner(r)
	if p.GVisor {
		g := r.GVisor()
		if _, err := g.Probe(context.Background()); err != nil {
			return err
		}
		open = g
	}
	session, err := open.Open(context.Background(), slot(p.Running, p.RunningSlot, func(i int) (string, error) { return p.Running.layers[i], nil }))
	if err != nil {
		return err
	}
	go func() {
		_, _ = r.Open(context.Background(), slot(p.Half, p.UnpackedSlot, func(i int) (string, error) {
			if i == 1 {
				fmt.Println("unpacking")
				select {}
			}
			return p.Half.layers[i], nil
		}))
	}()
	out, in := io.Pipe()
	go func() {
		_, _ = bufio.NewReader(out).ReadString('\n')
		fmt.Println("running")
		_, _ = io.Copy(io.Discard, out)
	}()
	_, err = session.Run(context.Background(), runner.Attempt{Args: []string{"sleep"}, Stdout: in})
	return err
}

// tellInit says who the first process of the sandbox is.
type tellInit struct{}

func (tellInit) Guard(p runner.Proc) (func(), error) {
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", p.Pidfd.Fd()))
	for line := range strings.Lines(string(info)) {
		if pid, ok := strings.CutPrefix(line, "Pid:"); ok {
			fmt.Println("init", strings.TrimSpace(pid))
		}
	}
	return func() {}, err
}

// TestNothingIsLeftOfAKilledDaemon: kill -9 while an attempt runs and another
// image is being unpacked. After the next start no process, mount, cgroup or
// folder is left, and the whole image is still there.
func TestNothingIsLeftOfAKilledDaemon(t *testing.T) {
	runnertest.Host(t) // skips where there is no sandbox
	killedDaemon(t, stage(t, probeImage(t, v1.ImageConfig{})), false)
}

// TestNothingIsLeftOfAKilledGVisor is the same for an image that runsc runs: its
// kernel, its gofer and what it keeps of a container go with it.
func TestNothingIsLeftOfAKilledGVisor(t *testing.T) {
	s := stage(t, probeImage(t, v1.ImageConfig{}))
	underGVisor(t, s) // skips without
	t.Setenv("TMPDIR", t.TempDir())
	before := traces(t)
	killedDaemon(t, s, true)
	for what, now := range traces(t) {
		if left := slices.DeleteFunc(now, func(name string) bool { return slices.Contains(before[what], name) }); len(left) > 0 {
			t.Errorf("%s that are left: %q", what, left)
		}
	}
}

// traces are what a runsc may leave on the machine outside of a node's folders and
// cgroups.
func traces(t *testing.T) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for what, pattern := range map[string]string{
		"links": "/sys/class/net/*", "folders of state": "/run/runsc/*", "temporary files": filepath.Join(os.TempDir(), "runsc*"),
	} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		out[what] = found
	}
	return out
}

// killedDaemon plays it with an image that gVisor runs or our own sandbox.
func killedDaemon(t *testing.T, running staged, byGVisor bool) {
	t.Helper()
	top := t.TempDir()
	p := played{
		GVisor: byGVisor,
		Prefix: fmt.Sprintf("perrin-test-oci-%d", os.Getpid()), Dir: filepath.Join(top, "images"),
		Running: running, RunningSlot: filepath.Join(top, "slot1"), UnpackedSlot: filepath.Join(top, "slot2"),
		Half: stage(t, ocitest.Build(t, v1.ImageConfig{Cmd: []string{"x"}}, ocitest.Tar(t, ocitest.File("half", nil)), ocitest.Tar(t, ocitest.File("x", nil)))),
	}
	if err := errors.Join(os.Mkdir(p.RunningSlot, 0o711), os.Mkdir(p.UnpackedSlot, 0o711)); err != nil {
		t.Fatal(err)
	}
	init := killWhenBusy(t, p)
	fds := []unix.PollFd{{Fd: int32(init), Events: unix.POLLIN}}
	if n, err := unix.Poll(fds, 60_000); n != 1 {
		t.Fatalf("the attempt outlives its daemon (%v)", err)
	}
	if half, _ := filepath.Glob(filepath.Join(p.Dir, "tmp-*")); len(half) != 1 {
		t.Errorf("nothing was half made: %v", half)
	}
	h, err := sandbox.NewHost(sandbox.Config{Prefix: p.Prefix, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(Config{Host: h, Dir: p.Dir, Limit: 1 << 30, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(p.Dir)
	if err != nil || len(entries) != 2 || r.Usage().Roots != 1 {
		t.Errorf("after the next start: %v, %v, %+v", entries, err, r.Usage())
	}
	for _, dir := range []string{p.RunningSlot, p.UnpackedSlot} {
		if err := sandbox.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	}
	k := p.Running.kit(r)
	s := k.Open(t, func(_ *workload.Spec, slot *runner.Slot) {
		slot.Layer = func(i int) (string, error) { return "", fmt.Errorf("layer %d was asked for", i) }
	})
	s.Do("exit", "3").Want(t, workload.Exited, 3)
	if err := errors.Join(s.Session.Close(), r.Close(), h.Close()); err != nil {
		t.Error(err)
	}
	nothingLeft(t, top, p.Prefix)
}

// killWhenBusy starts the daemon, kills it when both images are at work and
// returns a pidfd of the attempt's first process.
func killWhenBusy(t *testing.T, p played) (init int) {
	t.Helper()
	raw, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env, cmd.Stderr = append(os.Environ(), envDaemon+"="+string(raw)), os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	seen := map[string]bool{}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		what, pid, _ := strings.Cut(lines.Text(), " ")
		if seen[what] = true; what == "init" {
			var n int
			if _, err := fmt.Sscan(pid, &n); err != nil {
				t.Fatal(err)
			}
			if init, err = unix.PidfdOpen(n, 0); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { unix.Close(init) })
		}
		if seen["init"] && seen["running"] && seen["unpacking"] {
			return init
		}
	}
	t.Fatal("the daemon did not get so far")
	return -1
}

// nothingLeft looks for mounts below top, and for the cgroups and processes of
// what was run.
func nothingLeft(t *testing.T, top, prefix string) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), top) {
		t.Errorf("a mount is left (%v)", err)
	}
	groups, err := filepath.Glob("/sys/fs/cgroup/*/" + prefix)
	if err != nil || len(groups) > 0 {
		t.Errorf("cgroups are left: %v, %v", groups, err)
	}
	links, _ := filepath.Glob("/proc/[0-9]*/root")
	for _, l := range links {
		if at, err := os.Readlink(l); err == nil && strings.Contains(at, top) {
			t.Errorf("%s is %s", l, at)
		}
	}
	members, _ := filepath.Glob("/proc/[0-9]*/cgroup")
	for _, name := range members {
		if in, err := os.ReadFile(name); err == nil && strings.Contains(string(in), prefix) {
			what, _ := os.ReadFile(filepath.Join(filepath.Dir(name), "cmdline"))
			t.Errorf("%s still runs: %q", name, what)
		}
	}
}
