package process

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/runner"
	"github.com/perrin-mesh/perrin/workload/runner/runnertest"
)

// bounded opens a slot of the machine's shell with the given resources, and skips
// the test where no cgroup bounds them exactly.
func bounded(t *testing.T, res workload.Resources) *runnertest.Slot {
	t.Helper()
	k := kit(t)
	if k.Runner.(*Runner).host.Cgroups() == "none" {
		t.Skip("cgroups are not writable: rlimits bound what they can")
	}
	return k.Open(t, func(spec *workload.Spec, slot *runner.Slot) {
		spec.Program, spec.Resources = workload.Program{Kind: workload.Process, Host: "sh"}, res
		slot.Program = ""
	})
}

// TestPidsExactly: the shell and its children are as many as asked for, and pid 1
// is none of them.
func TestPidsExactly(t *testing.T) {
	const most = 12
	res := workload.DefaultResources()
	res.Pids = most
	s := bounded(t, res)
	r := s.Do("-c", "for i in $(seq 100); do sleep 1000 & echo $i; done")
	if lines := strings.Fields(r.Stdout); len(lines) != most-1 {
		t.Errorf("started %d beside the shell with a limit of %d: %q, %.200s", len(lines), most, r.Stdout, r.Stderr)
	}
	// A fork bomb is an error of its own, and its slot goes on.
	bomb := s.Attempt("-c", "b() { b | b & b; }; b")
	bomb.Timeout = time.Second
	s.Run(bomb)
	if r := s.Do("-c", "(true); echo well").OK(t); r.Stdout != "well\n" {
		t.Errorf("after a fork bomb: %q", r.Stdout)
	}
}

// TestMemoryExactly: within a twentieth of the limit a program lives, and over it
// it dies of it, with /tmp in the count.
func TestMemoryExactly(t *testing.T) {
	const limit = 64
	res := workload.DefaultResources()
	res.Memory = limit << 20
	s := bounded(t, res)
	fill := func(mib int) runnertest.Result {
		return s.Do("-c", fmt.Sprintf("head -c %dM /dev/zero > /tmp/x && echo held", mib))
	}
	if r := fill(limit * 19 / 20).OK(t); r.Stdout != "held\n" || r.Usage.PeakMem > limit<<20 || r.Usage.PeakMem < limit*18/20<<20 {
		t.Errorf("%d of %d MiB: %q, %+v", limit*19/20, limit, r.Stdout, r.Usage)
	}
	if r := fill(limit * 21 / 20); r.Code == 0 && r.Exit == workload.Exited || strings.Contains(r.Stdout, "held") {
		t.Errorf("over the limit: %+v, %q", r.Outcome, r.Stdout)
	}
	// The head of a pipe dies, not the shell: the attempt is out of memory all the same.
	if r := s.Do("-c", "head -c 200M /dev/zero | tail -c 199M | wc -c"); r.Exit != workload.OutOfMemory && r.Stdout == "208666624\n" {
		t.Errorf("held 199 MiB in a limit of %d: %+v", limit, r.Outcome)
	}
}

// TestDiskExactly: of files in /work and /out together, up to the limit but for
// what each file counts beside its blocks.
func TestDiskExactly(t *testing.T) {
	const limit = 8
	res := workload.DefaultResources()
	res.Disk = limit << 20
	s := bounded(t, res)
	fill := func(mib int) runnertest.Result {
		return s.Do("-c", fmt.Sprintf("for i in $(seq %d); do head -c 1M /dev/zero > /out/$i; done", mib))
	}
	fill(limit - 1).OK(t)
	if r := fill(limit + 1); r.Exit != workload.OutputTooBig {
		t.Errorf("%d MiB with a limit of %d: %+v", limit+1, limit, r.Outcome)
	}
}
