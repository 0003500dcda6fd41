package main

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
)

// betweenSubmits is the pause after a workload has ended: each meets an idle
// mesh, and not the cleaning up of the one before.
const betweenSubmits = 20 * time.Millisecond

// submitToStarted submits workloads of one small task, one after another, at a
// follower of three voters. A task has started when its program's first
// instructions read the clock, which it prints: all share this machine's clock.
func submitToStarted(ctx context.Context, b *bench) error {
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
	commits, err := plainRaft(b, 1, 200)
	if err != nil {
		return err
	}
	b.out.add(atMost("rival: one commit of 256 bytes, plain Raft, 3 voters, fsync", "ms", 1000/commits, 0))
	return m.profiled(ctx, "submit", func() error {
		if err := submits(ctx, b, m, c, "wasm task", wasmSpec, 10, 40); err != nil {
			return err
		}
		if err := submits(ctx, b, m, c, "native task in the sandbox", nativeSpec, 30, 0); err != nil {
			return err
		}
		return bareStarts(ctx, b)
	})
}

// submits measures one kind of program.
func submits(ctx context.Context, b *bench, m *mesh, c *api.Client, what string, make func(context.Context, *api.Client) (workload.Spec, error), p50, p99 float64) error {
	spec, err := make(ctx, c)
	if err != nil {
		return err
	}
	input, err := c.PutBlob(ctx, bytes.NewReader(bytes.Repeat([]byte("in"), 512)))
	if err != nil {
		return err
	}
	spec.Inputs = []workload.Input{{Path: "input", Kind: workload.File, Blob: input}}
	for range 3 { // the nodes get the program, and compile it
		if _, err := submitOnce(ctx, c, spec); err != nil {
			return err
		}
	}
	var acked, started, known []float64
	cpu := m.cpu()
	for range b.sizes.submits {
		t, err := submitOnce(ctx, c, spec)
		if err != nil {
			return err
		}
		acked, started, known = append(acked, t.acked), append(started, t.started), append(known, t.known)
	}
	each := millis(m.cpu()-cpu) / float64(b.sizes.submits)
	b.out.spread(what+": submit to its first instruction", started, p50, p99)
	b.out.spread(what+": submit to acknowledged", acked, 0, 0)
	b.out.spread(what+": submit to its end known to the client", known, 0, 0)
	b.out.cpu(what+": CPU of all three daemons a workload", each)
	return nil
}

// moments of one workload, in ms since it was submitted.
type moments struct{ acked, started, known float64 }

func submitOnce(ctx context.Context, c *api.Client, spec workload.Spec) (t moments, err error) {
	began := time.Now()
	sub, err := c.Submit(ctx, spec)
	if err != nil {
		return t, err
	}
	t.acked = millis(time.Since(began))
	if _, err := ended(ctx, c, sub.ID); err != nil {
		return t, err
	}
	t.known = millis(time.Since(began))
	got, err := results(ctx, c, sub.ID, 1)
	if err != nil {
		return t, err
	}
	at, err := clockOf(got[0].Stdout.Data)
	if err != nil {
		return t, err
	}
	t.started = float64(at-began.UnixNano()) / 1e6
	if t.started < 0 || t.started > t.known {
		return t, fmt.Errorf("a task started %.3f ms after it was submitted and was over after %.3f: the clock jumped", t.started, t.known)
	}
	return t, pause(ctx, betweenSubmits)
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
