package node

import (
	"bytes"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/workload"
)

// noop is a WASI command of 44 bytes that returns at once: a memory of one page
// and an empty _start, both exported (WebAssembly core specification 2.0, 5.5).
var noop = []byte("\x00asm\x01\x00\x00\x00" +
	"\x01\x04\x01\x60\x00\x00" + // a type: no parameters, no results
	"\x03\x02\x01\x00" + // a function of it
	"\x05\x03\x01\x00\x01" + // a memory
	"\x07\x13\x02\x06memory\x02\x00\x06_start\x00\x00" +
	"\x0a\x04\x01\x02\x00\x0b") // its body: end

func wasmSpec(t testing.TB, n *Node, module []byte, tasks uint32) workload.Spec {
	ref, err := n.Backend().PutBlob(t.Context(), bytes.NewReader(module))
	if err != nil {
		t.Fatal(err)
	}
	spec := workload.DefaultSpec()
	spec.Program = workload.Program{Kind: workload.Wasm, Name: "noop.wasm", Blob: ref}
	spec.Tasks.Count = tasks
	return spec
}

// TestManyTasksCostFewCommits holds the promise that slots take ranges: the
// log grows with the ranges, not with the tasks.
func TestManyTasksCostFewCommits(t *testing.T) {
	const tasks = 2000
	n := embedded(t)
	_, before := n.ledgerStats()
	began := time.Now()
	_, w := run(t, n.Backend(), wasmSpec(t, n, noop, tasks))
	took := time.Since(began)
	if w.Phase != workload.Succeeded || w.Tasks.Done != tasks {
		t.Fatalf("phase %s, %d of %d tasks done: %s", w.Phase, w.Tasks.Done, tasks, w.Reason)
	}
	_, after := n.ledgerStats()
	commits := after.Index - before.Index
	t.Logf("%d tasks in %v (%.0f/s), %d commits", tasks, took, tasks/took.Seconds(), commits)
	if commits > tasks/8 {
		t.Errorf("%d commits for %d tasks, want at most %d", commits, tasks, tasks/8)
	}
}

func (n *Node) ledgerStats() (c *cell, stats ledger.Stats) {
	c = n.currentCell()
	c.Read(func(s *ledger.State) { stats = s.Stats() })
	return c, stats
}

// TestALongWorkloadLetsOthersIn holds that a workload of many tasks does not
// keep another out until its last task.
func TestALongWorkloadLetsOthersIn(t *testing.T) {
	b := embedded(t).Backend()
	long := hostSpec("sleep", "0.2")
	long.Tasks.Count = 200
	sub, err := b.Submit(t.Context(), long)
	if err != nil {
		t.Fatal(err)
	}
	out, w := run(t, b, hostSpec("echo", "in between"))
	if out != "in between\n" || w.Phase != workload.Succeeded {
		t.Errorf("got %q, phase %s", out, w.Phase)
	}
	first, err := b.Inspect(t.Context(), sub.ID)
	if err != nil {
		t.Fatal(err)
	}
	if first.Phase.Ended() {
		t.Error("the long workload had ended: the test shows nothing")
	}
	if err := b.Stop(t.Context(), sub.ID); err != nil {
		t.Fatal(err)
	}
}
