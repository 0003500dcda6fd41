package main

import (
	"context"
	"slices"
	"time"

	"github.com/perrin-mesh/perrin/workload/oci"
)

// sandboxed measures the same image run by gVisor through us, beside runsc alone,
// both to their ends, in turn.
func (s *starter) sandboxed(ctx context.Context, b *bench, record string, images *oci.Runner, rivals []runtimeRival) error {
	at := slices.IndexFunc(rivals, func(r runtimeRival) bool { return r.name == "runsc" })
	if at < 0 {
		return nil
	}
	g := images.GVisor()
	if _, err := g.Probe(ctx); err != nil {
		b.out.note("gVisor: %v", err)
		return nil
	}
	s.r = g
	defer func() { s.r = images }()
	var ours, first, bare []float64
	for range min(b.sizes.starts/4, 50) {
		began := time.Now()
		took, err := s.attempt(ctx, record, nil)
		if err != nil {
			return err
		}
		ours, first = append(ours, millis(time.Since(began))), append(first, millis(took))
		began = time.Now()
		if err := rivals[at].run(ctx); err != nil {
			return err
		}
		bare = append(bare, millis(time.Since(began)))
	}
	b.out.add(atMost("the image by gVisor, unpacked on the node, runner alone: cold to its first output, p50", "ms", percentile(first, 50), 220))
	b.out.add(atMost("the same, to its end, p50", "ms", percentile(ours, 50), 0).against("runsc run, to its end", percentile(bare, 50)))
	b.out.add(atMost("the same as a multiple of runsc run", "x", percentile(ours, 50)/percentile(bare, 50), 1.5))
	return nil
}
