package main

import (
	"context"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
)

// signing measures what proof costs: an award that waits for a majority of the
// voters, and signatures and replays at all, each beside the same without.
func signing(ctx context.Context, b *bench) error {
	if err := countersigning(ctx, b); err != nil {
		return err
	}
	return signedPlacement(ctx, b)
}

// countersigning submits workloads of one task at a follower of three voters, in
// turn with and without countersigned awards.
func countersigning(ctx context.Context, b *bench) error {
	m, err := b.start(ctx, 3)
	if err != nil {
		return err
	}
	defer m.Stop()
	c, err := m.follower()
	if err != nil {
		return err
	}
	defer c.Close()
	plain, err := wasmSpec(ctx, c)
	if err != nil {
		return err
	}
	signed := plain
	signed.Countersign = true
	started := map[bool][]float64{}
	cpu := map[bool]float64{}
	for i := range b.sizes.submits + 3 {
		for _, with := range []bool{i%2 == 0, i%2 != 0} {
			t, used, err := submitAs(ctx, m, c, plain, signed, with)
			if err != nil {
				return err
			}
			if i >= 3 { // the nodes have got the program, and compiled it
				started[with], cpu[with] = append(started[with], t.started), cpu[with]+used
			}
		}
	}
	n := float64(b.sizes.submits)
	b.out.spread("one task: submit to its first instruction", started[false], 0, 0)
	b.out.spread("the same, its award countersigned by two of three voters first", started[true], 0, 0)
	b.out.add(atMost("what countersigning adds in the median, loopback", "ms", max(median(started[true])-median(started[false]), 0.001), 10).
		noting("%.2f ms of CPU of all daemons a workload with, %.2f without", cpu[true]/n, cpu[false]/n))
	return nil
}

func submitAs(ctx context.Context, m *mesh, c *api.Client, plain, signed workload.Spec, with bool) (moments, float64, error) {
	spec := plain
	if with {
		spec = signed
	}
	before := m.cpu()
	t, err := submitOnce(ctx, c, spec)
	return t, millis(m.cpu() - before), err
}
