package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/runner"
)

// full is the size of a load: the stated one where PERRIN_TEST_FULL is set, and
// one that fits a quick run everywhere else.
func full(stated, quick int) int {
	if os.Getenv("PERRIN_TEST_FULL") != "" {
		return stated
	}
	return quick
}

// nullRunner runs nothing: every attempt prints and ends at once.
type nullRunner struct{ prints string }

func (nullRunner) Kind() workload.Kind                   { return workload.Wasm }
func (nullRunner) Probe(context.Context) (string, error) { return runner.WallWasm, nil }
func (nullRunner) Available(*workload.Spec) error        { return nil }
func (r nullRunner) Open(context.Context, runner.Slot) (runner.Session, error) {
	return nullSession(r), nil
}

type nullSession struct{ prints string }

func (s nullSession) Run(_ context.Context, a runner.Attempt) (runner.Outcome, error) {
	_, err := io.WriteString(a.Stdout, s.prints)
	return runner.Outcome{Exit: workload.Exited, Wall: runner.WallWasm}, err
}
func (nullSession) Interrupt(time.Duration) {}
func (nullSession) Kill()                   {}
func (nullSession) Close() error            { return nil }

// nullNode is a mesh of one node that runs nothing, and keeps ended workloads by rule.
func nullNode(t *testing.T, prints string, rule *ledger.Compact) *Node {
	t.Helper()
	return oneNode(t, Config{
		Data: t.TempDir(), Cores: 16, Memory: 64 << 30, Runners: map[workload.Kind]runner.Runner{workload.Wasm: nullRunner{prints}},
		Keep: rule,
	})
}

// oneNode is a mesh of one node that ends with the test.
func oneNode(t *testing.T, cfg Config) *Node {
	t.Helper()
	if _, err := Init(cfg.Data, "one"); err != nil {
		t.Fatal(err)
	}
	cfg.Listen, cfg.Loopback, cfg.Log = []string{"/ip4/127.0.0.1/udp/0/quic-v1"}, true, testLog(t)
	n, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	select {
	case <-n.Ready():
	case err := <-done:
		t.Fatal(err)
	}
	return n
}

// footprint is what a node takes.
type footprint struct{ heap, disk int64 }

func measure(t *testing.T, n *Node) footprint {
	t.Helper()
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return footprint{heap: int64(m.HeapAlloc), disk: diskUse(t, n.cfg.Data)}
}

// diskUse is what the files below dir take on disk, in bytes.
func diskUse(t *testing.T, dir string) (n int64) {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		if info, err := d.Info(); err == nil {
			n += info.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return n
}

func (f footprint) String() string {
	return fmt.Sprintf("%d MiB heap, %d MiB disk", f.heap>>20, f.disk>>20)
}

// ends waits until a workload has ended.
func ends(t *testing.T, b api.Backend, id workload.ID) *api.Workload {
	for since := uint64(0); ; {
		w, err := b.Wait(t.Context(), id, since, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if w.Phase.Ended() {
			return w
		}
		since = w.Version
	}
}

// TestManyTasksStayWithinBounds runs one workload of 100,000 tasks (10,000 in a
// quick run): neither memory nor disk grows with the tasks.
func TestManyTasksStayWithinBounds(t *testing.T) {
	if testing.Short() {
		t.Skip("a load that is too long for a short run")
	}
	tasks := full(100_000, 10_000)
	n := nullNode(t, "", nil)
	before := measure(t, n)
	began := time.Now()
	sub, err := n.Backend().Submit(t.Context(), wasmSpec(t, n, noop, uint32(tasks)))
	if err != nil {
		t.Fatal(err)
	}
	w := ends(t, n.Backend(), sub.ID)
	took := time.Since(began)
	_, stats := n.ledgerStats()
	after := measure(t, n)
	t.Logf("%d tasks in %v (%.0f/s): before %v, after %v; the ledger weighs %d KiB", tasks, took, float64(tasks)/took.Seconds(), before, after, stats.Bytes>>10)
	if int(w.Tasks.Done) != tasks {
		t.Errorf("%d of %d tasks done", w.Tasks.Done, tasks)
	}
	began = time.Now()
	checkResults(t, n, sub.ID, uint32(tasks))
	t.Logf("all results were read in %v", time.Since(began))
	if grown := after.heap - before.heap; grown > 64<<20 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
	if grown := after.disk - before.disk; grown > int64(tasks)*1024+64<<20 {
		t.Errorf("the disk grew by %d MiB", grown>>20)
	}
}

// checkResults reads the results of a workload page by page, and holds that each
// task has one.
func checkResults(t *testing.T, n *Node, id workload.ID, tasks uint32) {
	t.Helper()
	for at := uint32(0); at < tasks; {
		page, err := n.Backend().Tasks(t.Context(), id, at, tasks-at)
		if err != nil || len(page) == 0 {
			t.Fatalf("%d tasks from %d on: %v", len(page), at, err)
		}
		for i, task := range page {
			if task.Index != at+uint32(i) || task.Result == nil || !task.Result.OK() {
				t.Fatalf("task %d is %s, with result %+v", at+uint32(i), task.Phase, task.Result)
			}
		}
		at += uint32(len(page))
	}
}

// TestFinishedWorkloadsAreCompacted runs 10,000 workloads (1,000 in a quick
// run) from 64 clients, of which the cell keeps a tenth: the others leave a tomb,
// and what they held is released.
func TestFinishedWorkloadsAreCompacted(t *testing.T) {
	if testing.Short() {
		t.Skip("a load that is too long for a short run")
	}
	count := full(10_000, 1000)
	keep := count / 10
	n := nullNode(t, strings.Repeat("x", 20<<10), &ledger.Compact{Keep: uint32(keep), Bytes: ledger.KeepBytes, For: math.MaxInt64 / 2})
	before := measure(t, n)
	spec := wasmSpec(t, n, noop, 1)
	var first atomic.Pointer[workload.ID]
	began := time.Now()
	var clients sync.WaitGroup
	left := make(chan struct{}, count)
	for range count {
		left <- struct{}{}
	}
	close(left)
	for range 64 {
		clients.Go(func() {
			for range left {
				sub, err := n.Backend().Submit(t.Context(), spec)
				if err != nil {
					t.Error(err)
					return
				}
				first.CompareAndSwap(nil, &sub.ID)
				if w := ends(t, n.Backend(), sub.ID); w.Phase != workload.Succeeded {
					t.Errorf("%s: %s", sub.ID, w.Reason)
				}
			}
		})
	}
	clients.Wait()
	took := time.Since(began)
	c, _ := n.ledgerStats()
	n.compact(t.Context(), n.currentLeader())
	_, stats := n.ledgerStats()
	after := measure(t, n)
	usage := n.blobs.Usage()
	t.Logf("%d workloads in %v (%.0f/s): before %v, after %v; the ledger weighs %d KiB, %d tombs; blobs %+v",
		count, took, float64(count)/took.Seconds(), before, after, stats.Bytes>>10, stats.Tombs, usage)
	if ended := stats.Phases[workload.Succeeded]; ended > keep || stats.Tombs != count-ended {
		t.Errorf("%d workloads kept, %d tombs; want at most %d kept", ended, stats.Tombs, keep)
	}
	if usage.Owners > keep+16 || usage.Pinned > int64(keep)*(64<<10) {
		t.Errorf("%d owners pin %d bytes: what compacted workloads held is not released", usage.Owners, usage.Pinned)
	}
	checkSnapshot(t, c, &stats)
	_, err := n.Backend().Inspect(t.Context(), *first.Load())
	if api.KindOf(err) != api.NotFound || !strings.Contains(err.Error(), "is compacted: it ended as succeeded") {
		t.Errorf("a compacted workload reads as: %v", err)
	}
}

// TestATaskThatPrintsForEverIsCut holds that what a task prints is bounded, that
// it is told where it was cut, and that the node goes on.
func TestATaskThatPrintsForEverIsCut(t *testing.T) {
	const limit = 4 << 20
	data := t.TempDir()
	n := oneNode(t, Config{Data: data, Stream: limit})
	spec := hostSpec("sh", "-c", "echo begin; yes 0123456789")
	out, w := run(t, n.Backend(), spec)
	marker := fmt.Sprintf("perrin: stdout is cut at %d bytes, the most that is kept; the program was ended", limit)
	if w.Phase != workload.Failed || w.ExitDetail != string(workload.OutputTooBig) {
		t.Errorf("phase %s, %s; want failed, %s", w.Phase, w.ExitDetail, workload.OutputTooBig)
	}
	if len(out) > limit+len(marker)+2 || !strings.Contains(out, marker) || !strings.HasPrefix(out, "begin\n0123456789\n") {
		t.Errorf("%d bytes of output, with marker %t", len(out), strings.Contains(out, marker))
	}
	if out, _ := run(t, n.Backend(), hostSpec("echo", "next")); out != "next\n" {
		t.Errorf("afterwards a task prints %q", out)
	}
}

// checkSnapshot holds that a snapshot takes no more than the ledger says that it
// weighs, comes back as the same ledger, and is refused when it is cut short.
func checkSnapshot(t *testing.T, c *cell, stats *ledger.Stats) {
	t.Helper()
	captured, err := c.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	if n, err := captured.WriteTo(&file); err != nil || n != int64(file.Len()) {
		t.Fatalf("wrote %d of %d bytes: %v", n, file.Len(), err)
	}
	const tomb, rest = 240, 64 << 10
	if most := stats.Bytes + int64(stats.Tombs)*tomb + rest; int64(file.Len()) > most {
		t.Errorf("a snapshot of %d bytes, and the ledger weighs %d with %d tombs", file.Len(), stats.Bytes, stats.Tombs)
	}
	t.Logf("a snapshot takes %d KiB, the ledger weighs %d KiB", file.Len()>>10, stats.Bytes>>10)
	cut := file.Bytes()[:file.Len()-1]
	twin := newBook(rules(nil), c.log, newShelf(c.shelf.blobs, c.log))
	if err := twin.Restore(bytes.NewReader(cut)); err == nil {
		t.Error("a snapshot that is cut short was restored")
	}
	if err := twin.Restore(&file); err != nil {
		t.Fatal(err)
	}
	var was, is workload.Digest
	c.Read(func(s *ledger.State) { was = s.Hash() })
	twin.Read(func(s *ledger.State) { is = s.Hash() })
	if was != is {
		t.Error("the restored ledger is another one")
	}
}

func TestHoldsOfUnknownWorkloadsAreSwept(t *testing.T) {
	known, stray := workload.ID{Random: [16]byte{1}}, workload.ID{Random: [16]byte{2}}
	st, swept := strays{}, ""
	owners := []string{holdOwner(known), holdOwner(stray)}
	sweep := func(at time.Time) {
		st.sweep(at, owners, func(id workload.ID) bool { return id == known }, func(owner string) { swept += owner })
	}
	now := time.Unix(1000, 0)
	sweep(now)
	sweep(now.Add(holdGrace))
	if swept != "" {
		t.Errorf("%s is let go within %v", swept, holdGrace)
	}
	sweep(now.Add(holdGrace + 1))
	if swept != holdOwner(stray) || len(st) != 0 {
		t.Errorf("let go of %q; want the hold of %s. %d remembered", swept, stray, len(st))
	}
}

// TestAMillionTasksAreTakenOn holds that the largest workload is taken on, costs
// the ledger what its ranges cost, and can be stopped; one task more is refused.
func TestAMillionTasksAreTakenOn(t *testing.T) {
	n := nullNode(t, "", nil)
	b := n.Backend()
	sub, err := b.Submit(t.Context(), wasmSpec(t, n, noop, workload.MaxTasks))
	if err != nil {
		t.Fatal(err)
	}
	w := &api.Workload{}
	for w.Tasks.Done < 1000 {
		if w, err = b.Wait(t.Context(), sub.ID, w.Version, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	_, stats := n.ledgerStats()
	t.Logf("%d of %d tasks done, the ledger weighs %d KiB", w.Tasks.Done, w.Tasks.Total, stats.Bytes>>10)
	if most := int64(32<<10) + int64(w.Tasks.Done)*256; stats.Bytes > most {
		t.Errorf("the ledger weighs %d bytes with %d tasks done, want at most %d", stats.Bytes, w.Tasks.Done, most)
	}
	if err := b.Stop(t.Context(), sub.ID); err != nil {
		t.Fatal(err)
	}
	if w := ends(t, b, sub.ID); w.Phase != workload.Stopped {
		t.Errorf("stopped, and it is %s", w.Phase)
	}
	_, err = b.Submit(t.Context(), wasmSpec(t, n, noop, workload.MaxTasks+1))
	if api.KindOf(err) != api.Invalid || !strings.Contains(err.Error(), "want 1 to 1000000") {
		t.Errorf("one task more: %v", err)
	}
}
