package capacity

import (
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/workload"
)

// large is a machine of 128 cores with two threads each on 8 nodes.
func large(t testing.TB) *Allocator {
	topo := Uniform(128, 2)
	for i := range topo.Cores {
		topo.Cores[i].Node = i / 16
	}
	a, err := New(topo, Limits{Memory: 1 << 40, Disk: 1 << 40, Slots: 256})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// cycle holds two slots, commits one of them and frees an older one.
func cycle(t testing.TB, a *Allocator, i int, shape workload.Resources) {
	id := HoldID{byte(i), byte(i >> 8)}
	if got, reasons := a.Hold(id, tenant(string(rune('A'+i%7))), shape, 2, int64(i), int64(i)+2000); got != 2 {
		t.Fatalf("cycle %d: got %d: %v", i, got, reasons)
	}
	if err := a.Commit(id, slotKey(i)); err != nil {
		t.Fatal(err)
	}
	a.Free(slotKey(i - 80))
}

var cycleShapes = []workload.Resources{
	{Class: workload.Core, CPUs: 1, Memory: 1 << 28, Pids: 1},
	{Class: workload.Thread, CPUs: 1, Memory: 1 << 28, Pids: 1},
}

// TestAllocatorIsFast allows 10,000 cycles ten times the 100 ms that they are
// meant to take, so that only an algorithm that got worse fails on a busy machine.
func TestAllocatorIsFast(t *testing.T) {
	a := large(t)
	start := time.Now()
	for i := range 10_000 {
		cycle(t, a, i, cycleShapes[i%2])
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("10,000 cycles took %v", took)
	}
}

func BenchmarkHoldCommitFree(b *testing.B) {
	for _, shape := range cycleShapes {
		b.Run(string(shape.Class), func(b *testing.B) {
			a := large(b)
			for i := 0; b.Loop(); i++ {
				cycle(b, a, i, shape)
			}
		})
	}
}
