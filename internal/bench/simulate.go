package main

import (
	"container/heap"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/perrin-mesh/perrin/simulations/queue"
)

// simulator measures `perrin sim run` with the production rules on one core, by the CPU
// time of the whole process, its start and its garbage included, and the event queue
// alone, which nothing that is simulated can be faster than.
func simulator(ctx context.Context, b *bench) error {
	for _, c := range []struct {
		peers    int
		faster   float64 // than real time, at least
		perPeer  float64 // kB at most; 0 is any
		smallest int
	}{{10_000, 30, 0, 100}, {100_000, 1, 4, 200}} {
		if b.sizes.simSeconds < 10 {
			c.peers = c.smallest
		}
		if err := simulated(ctx, b, c.peers, c.faster, c.perPeer); err != nil {
			return err
		}
	}
	const held = 100_000
	ladder, bare := eventsOf(b.sizes.simEvents, held, &ladderQueue{}), eventsOf(b.sizes.simEvents, held, &heapQueue{})
	b.out.add(atLeast(fmt.Sprintf("simulator: events of a bare loop, %d waiting", held), "M events/s", ladder, 2).against("container/heap", bare))
	return nil
}

// simulated runs one replication of so many peers with 1,000 workloads a second.
func simulated(ctx context.Context, b *bench, peers int, faster, perPeer float64) error {
	seconds := b.sizes.simSeconds
	text := fmt.Sprintf("duration: %ds\nreplications: 1\npeers: %d\nmachines: [{cores: 8}]\n"+
		"workloads: [{poisson: %d/s, service: {lognormal: {median: 1s, sigma: 0.5}}}]\n", seconds, peers, min(peers, 1000))
	file := filepath.Join(b.tmp, fmt.Sprintf("sim-%d.yaml", peers))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	dir := strings.TrimSuffix(file, ".yaml")
	cmd := exec.CommandContext(ctx, b.exe, "sim", "run", file, "--out", dir, "--workers", "1")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("perrin sim run: %w: %s", err, out)
	}
	cpu := (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return fmt.Errorf("perrin sim run: its memory is not known here")
	}
	var manifest struct {
		Replications []struct{ Events uint64 }
	}
	data, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, &manifest); err != nil || len(manifest.Replications) != 1 {
		return fmt.Errorf("perrin sim run: its manifest: %w", err)
	}
	events := manifest.Replications[0].Events
	b.out.add(atLeast(fmt.Sprintf("simulator: %d peers, 1,000 workloads/s, CPU of one core", peers), "x real time", float64(seconds)/cpu, faster).
		noting("%d events, %.2f s of CPU, %.0f events/s", events, cpu, float64(events)/cpu))
	if perPeer > 0 {
		b.out.add(atMost(fmt.Sprintf("simulator: %d peers, memory", peers), "kB a peer", float64(usage.Maxrss)*1.024/float64(peers), perPeer))
	}
	return nil
}

// timeline is a queue of events by their time in ns.
type timeline interface {
	push(at int64)
	pop() int64
}

type ladderQueue struct{ queue.Queue[[4]int32] }

func (q *ladderQueue) push(at int64) { q.Push(at, [4]int32{}) }
func (q *ladderQueue) pop() int64 {
	it, _ := q.Pop() // there is always one
	return it.At
}

// heapQueue is what Go has for it.
type heapQueue struct{ times times }

func (q *heapQueue) push(at int64) { heap.Push(&q.times, queue.Item[[4]int32]{At: at}) }
func (q *heapQueue) pop() int64    { return heap.Pop(&q.times).(queue.Item[[4]int32]).At }

type times []queue.Item[[4]int32]

func (t times) Len() int           { return len(t) }
func (t times) Less(i, j int) bool { return t[i].At < t[j].At }
func (t times) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }

// Push implements heap.Interface.
func (t *times) Push(x any) { *t = append(*t, x.(queue.Item[[4]int32])) }

// Pop implements heap.Interface.
func (t *times) Pop() any {
	last := (*t)[len(*t)-1]
	*t = (*t)[:len(*t)-1]
	return last
}

// eventsOf is how many million events a second a queue handles while so many wait: most
// come within 80 ms, some together, some seconds later.
func eventsOf(n, held int, q timeline) float64 {
	delay := func(i int) int64 {
		h := (uint64(i) + 1) * 0x9e3779b97f4a7c15
		switch h ^= h >> 29; h & 15 {
		case 0:
			return int64(h>>8) % 9_000_000_000
		case 1, 2:
			return 50_000_000
		}
		return 200_000 + int64(h>>8)%80_000_000
	}
	for i := range held {
		q.push(delay(i))
	}
	began := time.Now()
	for i := range n {
		q.push(q.pop() + delay(held+i))
	}
	return float64(n) / time.Since(began).Seconds() / 1e6
}
