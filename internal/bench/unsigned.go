//go:build perrin_unsigned

package main

import (
	"context"
	"fmt"
	"os"

	"github.com/perrin-mesh/perrin/workload"
)

// signedPlacement places the same workloads on the same nodes, in turn with
// signatures and without: specs, offers, bids, awards and results are signed by
// their authors and verified by who uses them, results named one by one, and awards
// cleared again by every replica; or none of it. The hash chain runs either way.
func signedPlacement(ctx context.Context, b *bench) error {
	dir, err := os.MkdirTemp(b.tmp, "cell")
	if err != nil {
		return err
	}
	defer workload.LeaveUnsigned(false)
	nodes, tasks := b.sizes.placeNodes, b.sizes.placeTasks
	cores := (tasks + nodes - 1) / nodes * 5 / 4
	c, err := startCell(ctx, dir, nodes, cores)
	defer c.close()
	if err != nil {
		return err
	}
	if _, err := c.place(ctx, nodes, 0, false); err != nil { // the nodes get the program
		return err
	}
	for _, shape := range []struct {
		what  string
		slots int
	}{{"two slots on each node", 2 * nodes}, {"as many slots as there is room for", 0}} {
		if err := c.inTurn(ctx, b, shape.what, tasks, uint32(shape.slots)); err != nil {
			return err
		}
	}
	return nil
}

// inTurn places one shape of workload, signed and unsigned, some times each. What
// signatures leave is the median over pairs that ran one after the other: others on
// the machine come and go.
func (c *cell) inTurn(ctx context.Context, b *bench, what string, tasks int, slots uint32) error {
	rate, cpu := map[bool][]float64{}, map[bool][]float64{}
	var kept, more []float64
	for i := range 2*b.sizes.mapRounds - 1 {
		for _, unsigned := range []bool{i%2 != 0, i%2 == 0} {
			if err := restful(ctx); err != nil {
				return err
			}
			workload.LeaveUnsigned(unsigned)
			p, err := c.place(ctx, tasks, slots, false)
			if err != nil {
				return err
			}
			rate[unsigned] = append(rate[unsigned], float64(p.named)/p.placed.Seconds())
			cpu[unsigned] = append(cpu[unsigned], millis(p.cpu)/float64(tasks))
		}
		kept = append(kept, rate[false][i]/rate[true][i])
		more = append(more, 100*(cpu[false][i]/cpu[true][i]-1))
	}
	b.out.add(atLeast(fmt.Sprintf("%d tasks placed, %s, signed", tasks, what), "/s", median(rate[false]), 0).
		against("the same without signatures and replays", median(rate[true])).
		noting("medians of %d; %.3f ms of CPU a task for all nodes with, %.3f without", len(kept), median(cpu[false]), median(cpu[true])))
	b.out.add(atLeast("what signatures leave of it, median of pairs", "x", median(kept), 0.8).
		noting("pairs: %.2f; CPU %+.0f %%, pairs: %+.0f", kept, median(more), more))
	return nil
}
