package oci

import (
	"context"
	"errors"
	"strings"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/perrin-mesh/perrin/workload/runner"
	"github.com/perrin-mesh/perrin/workload/runner/runnertest"
	"github.com/perrin-mesh/perrin/workload/sandbox"
)

// underGVisor is a kit of images that gVisor runs. It skips the test without runsc.
func underGVisor(t *testing.T, s staged) runnertest.Kit {
	t.Helper()
	k := s.kit(newRunner(t))
	g := k.Runner.(*Runner).GVisor()
	if _, err := g.Probe(context.Background()); errors.Is(err, runner.ErrUnavailable) {
		t.Skipf("no gVisor: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	k.Runner, k.Dear = g, true
	return k
}

// TestGVisorEscape: what is asked of a kernel, gVisor's own answers.
func TestGVisorEscape(t *testing.T) {
	s := stage(t, probeImage(t, v1.ImageConfig{User: "1000:1000"}))
	runnertest.Escape(t, underGVisor(t, s), runnertest.ColumnGVisor, ofTheSentry...)
}

// ofTheSentry are the goals whose objects gVisor's kernel has itself: what a
// program reaches there is of its own attempt alone, and gone with it. A link to /
// gives / itself in the release of 2022, whatever follows it in a path.
var ofTheSentry = []string{
	"own=the same, by symbolic links that it makes",
	"own=a change to the view: /, /usr, /etc, /dev",
	"own=a file of the host, through /proc",
	"own=a device: mknod of memory and of a disk",
	"own=processes outside: their list, signals, ptrace, memory, descriptors, pid 1's environment",
	"own=the kernel's inside: bpf, modules, kexec, perf, io_uring, userfaultfd, keys, handles, swap, log, quota, ports",
	"own=another user: setuid, setgid, setgroups, set-user-ID programs",
	"own=a capability",
	"own=the kernel's settings: /proc/sys, /sys, sysrq, cgroups, its own OOM score",
	"own=more than its limits: rlimits, priorities, real time",
	"own=typing into a terminal",
	"own=calls past the filter: 32 bit, x32, unknown numbers, lifting it",
	"kernel=namespaces: unshare and clone of each kind, clone3, setns",
}

func TestGVisorContract(t *testing.T) {
	if testing.Short() {
		t.Skip("too long for a short run")
	}
	runnertest.Suite(t, underGVisor(t, stage(t, probeImage(t, v1.ImageConfig{}))))
}

// machine is one whose cgroups count something.
type machine struct{ memory, threads bool }

func (m machine) CountsMemory() bool  { return m.memory }
func (m machine) CountsThreads() bool { return m.threads }

// TestGVisorNeedsCgroups: without one of them, memory or threads have no bound.
func TestGVisorNeedsCgroups(t *testing.T) {
	for m, want := range map[machine]string{
		{true, true}: "", {false, true}: "only a memory cgroup", {true, false}: "only a pids cgroup", {}: "only a memory cgroup",
	} {
		switch err := uncounted(m); {
		case want == "" && err != nil:
			t.Errorf("%+v: %v", m, err)
		case want != "" && (!errors.Is(err, runner.ErrUnavailable) || !strings.Contains(err.Error(), want)):
			t.Errorf("%+v: %v, want %q", m, err, want)
		}
	}
	r := newRunner(t)
	r.cfg.Host = &sandbox.Host{}
	if _, err := r.GVisor().Probe(t.Context()); !errors.Is(err, runner.ErrUnavailable) || !strings.Contains(err.Error(), "cgroup") {
		t.Errorf("a machine without cgroups: %v", err)
	}
}
