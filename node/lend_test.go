package node

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/node/load"
	"github.com/perrin-mesh/perrin/node/worker"
	"github.com/perrin-mesh/perrin/workload"
)

// busyness is a machine whose owner's programs use as many threads as a test says.
type busyness struct {
	mu    sync.Mutex
	since time.Time
	busy  time.Duration // until since
	now   int
	cpus  int
	quiet bool
}

func (b *busyness) set(threads int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.busy += time.Since(b.since) * time.Duration(b.now)
	b.since, b.now = time.Now(), threads
}

// Open serves /proc/stat.
func (b *busyness) Open(name string) (fs.File, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ticks := int64(b.busy+time.Since(b.since)*time.Duration(b.now)) / int64(10*time.Millisecond)
	text := fmt.Sprintf("cpu0 %d 0 0 0 0 0 0 0 0 0\n", ticks)
	for i := 1; i < b.cpus; i++ {
		text += fmt.Sprintf("cpu%d 0 0 0 0 0 0 0 0 0 0\n", i)
	}
	return fstest.MapFS{"stat": {Data: []byte(text)}}.Open(name)
}

func (b *busyness) machine() *load.Machine {
	m := &load.Machine{
		Proc: b, Used: func() (all, spare time.Duration) { return 0, 0 },
		Quiet: func(time.Time) bool { b.mu.Lock(); defer b.mu.Unlock(); return b.quiet },
	}
	for i := range b.cpus {
		m.CPUs = append(m.CPUs, i)
	}
	return m
}

// lender is a node of two declared cores on such a machine.
func lender(t *testing.T, b *busyness) *Node {
	t.Helper()
	data := t.TempDir()
	if _, err := Init(data, "lender"); err != nil {
		t.Fatal(err)
	}
	n, err := New(t.Context(), Config{
		Data: data, Listen: []string{"/ip4/127.0.0.1/udp/0/quic-v1"}, Loopback: true, Log: testLog(t), Cores: 2, Watched: b.machine(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	<-n.Ready()
	return n
}

// TestIdleTimeIsLent takes spare work through its life: it begins while the machine
// is idle, is paused within a second when its owner needs all of it, goes on, costs
// reserved work nothing, and leaves in quiet hours, to be run again.
func TestIdleTimeIsLent(t *testing.T) {
	b := &busyness{since: time.Now(), cpus: 2}
	n := lender(t, b)
	spare := hostSpec("sleep", "1000")
	spare.Resources.Class, spare.Name = workload.Spare, "lent"
	sub, err := n.Backend().Submit(t.Context(), spare)
	if err != nil {
		t.Fatal(err)
	}
	lent := func(what string, want ...worker.LentSlot) {
		t.Helper()
		poll(t, 30*time.Second, what, func(context.Context) ([]worker.LentSlot, error) { return n.worker.Lent(), nil },
			func(got []worker.LentSlot) bool {
				for i := range got {
					got[i].Key = ""
				}
				return slices.Equal(got, want)
			})
	}
	runs := worker.LentSlot{CPUs: 1, Open: true}
	waits := worker.LentSlot{CPUs: 1, Open: true, Paused: true}
	lent("it runs", runs)
	b.set(2)
	began := time.Now()
	lent("it is paused", waits)
	if took := time.Since(began); took > time.Second {
		t.Errorf("it was paused after %v", took)
	}
	poll(t, 10*time.Second, "all is free but idle time", func(ctx context.Context) (*api.Status, error) { return n.Backend().Status(ctx, false) },
		func(st *api.Status) bool {
			free := st.Capacity.Free
			return free.Cores == 2 && free.Threads == 2 && free.Spare == 0 && st.Capacity.Total.Spare == 2
		})
	b.set(0)
	lent("it goes on", runs)
	if out, w := run(t, n.Backend(), hostSpec("echo", "reserved")); out != "reserved\n" || w.Phase != workload.Succeeded {
		t.Errorf("reserved work beside: %q, %s", out, w.Phase)
	}
	b.mu.Lock()
	b.quiet = true
	b.mu.Unlock()
	lent("it has left")
	why := poll(t, 30*time.Second, "its task waits to run again",
		func(ctx context.Context) (*api.Why, error) { return n.Backend().Why(ctx, sub.ID, nil) },
		func(w *api.Why) bool {
			return slices.ContainsFunc(w.Steps, func(s api.WhyStep) bool { return s.What == "preempted" })
		})
	if why.Phase.Ended() {
		t.Errorf("it has ended: %s", why.Phase)
	}
	if err := n.Backend().Stop(t.Context(), sub.ID); err != nil {
		t.Error(err)
	}
}

// poll asks until the answer is as wanted, and fails the test when it is not in time.
func poll[T any](t *testing.T, d time.Duration, what string, ask func(context.Context) (T, error), ok func(T) bool) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		v, err := ask(ctx)
		if err == nil && ok(v) {
			return v
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within %s: %s; last %+v, error %v", d, what, v, err)
		}
	}
}
