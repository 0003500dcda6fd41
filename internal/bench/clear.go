package main

import (
	"context"
	"testing"

	"github.com/perrin-mesh/perrin/scheduler"
	"github.com/perrin-mesh/perrin/workload"
)

// The auction that is cleared: more is on offer than is wanted, by nodes that
// cost alike, so that every slot is compared and every price is set by a loser.
const (
	lotSize   = 10_000
	bidders   = 64
	slotsEach = 200
)

// clearing measures the decision itself, which the leader makes once and every
// voter again.
func clearing(_ context.Context, b *bench) error {
	bids := make([]workload.Bid, bidders)
	for i := range bids {
		bids[i].Node[0] = byte(i)
		for j := range slotsEach {
			bids[i].Asks = append(bids[i].Asks, int64(1000+7*i+11*j))
		}
	}
	scores := make([]workload.Score, bidders)
	won := 0
	result := testing.Benchmark(func(tb *testing.B) {
		tb.ReportAllocs()
		for tb.Loop() {
			won = len(scheduler.Clear(lotSize, 0, bids, scores))
		}
	})
	if won != lotSize {
		b.out.note("only %d slots were won", won)
	}
	ms := float64(result.NsPerOp()) / 1e6
	b.out.add(atMost("clear a lot of 10,000 among 64 bids", "ms", ms, 5))
	b.out.add(atMost("the same: allocations a task", "", float64(result.AllocsPerOp())/lotSize, 0.01).
		noting("%d allocations and %d KiB for the whole lot", result.AllocsPerOp(), result.AllocedBytesPerOp()>>10))
	return nil
}
