package main

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
)

// oneMap runs one map of trivial wasm tasks over five daemons, from the
// submission until every task's output is with the client, which is after every
// close is committed.
func oneMap(ctx context.Context, b *bench) error {
	m, err := b.start(ctx, 5)
	if err != nil {
		return err
	}
	defer m.Stop()
	c, err := m.follower()
	if err != nil {
		return err
	}
	defer c.Close()
	count := b.sizes.mapTasks
	if _, err := runMap(ctx, c, min(count, 50)); err != nil { // every node gets the program, and compiles it
		return err
	}
	var rounds []mapRound
	err = m.profiled(ctx, "map", func() error {
		for range b.sizes.mapRounds {
			r, err := mapBesideXargs(ctx, b, m, c)
			if err != nil {
				return err
			}
			rounds = append(rounds, r)
		}
		return nil
	})
	if err != nil {
		return err
	}
	bare, err := bareWazero(ctx, count)
	if err != nil {
		return err
	}
	pick := func(f func(mapRound) float64) float64 {
		var values []float64
		for _, r := range rounds {
			values = append(values, f(r))
		}
		return percentile(values, 50)
	}
	_, native := noopProgram()
	b.out.add(atLeast(fmt.Sprintf("%d wasm tasks of one map, five daemons, outputs gathered", count), "/s", pick(mapRound.rate), 2000).
		against("bare wazero, two at once", bare).
		noting("medians of %d; %.0f ms until all closes were committed, %.0f ms until all outputs were gathered", len(rounds),
			pick(func(r mapRound) float64 { return millis(r.closed) }), pick(func(r mapRound) float64 { return millis(r.took) })))
	b.out.add(atLeast("the same, as many times as xargs in the same round", "x", pick(func(r mapRound) float64 { return r.rate() / r.xargs }), 1).
		noting("xargs -P2 of %s: %.0f/s", native, pick(func(r mapRound) float64 { return r.xargs })))
	if usual, err := xargsOf(ctx, "/bin/true", count); err == nil {
		b.out.add(atLeast("the same, as many times as xargs of the machine's own /bin/true", "x", pick(mapRound.rate)/usual, 0).
			noting("xargs -P2 of /bin/true: %.0f/s", usual))
	}
	b.out.cpu("the same: CPU of all five daemons a task", pick(func(r mapRound) float64 { return millis(r.cpu) / float64(count) }))
	return nil
}

// mapRound is one map, and xargs at once after it.
type mapRound struct {
	count             int
	closed, took, cpu time.Duration
	xargs             float64 // a second
}

func (r mapRound) rate() float64 { return float64(r.count) / r.took.Seconds() }

func mapBesideXargs(ctx context.Context, b *bench, m *mesh, c *api.Client) (r mapRound, err error) {
	r.count = b.sizes.mapTasks
	cpu, began := m.cpu(), time.Now()
	spec, err := mapSpec(ctx, c, r.count)
	if err != nil {
		return r, err
	}
	sub, err := c.Submit(ctx, spec)
	if err != nil {
		return r, err
	}
	if _, err := ended(ctx, c, sub.ID); err != nil {
		return r, err
	}
	r.closed = time.Since(began)
	if _, err = results(ctx, c, sub.ID, r.count); err != nil {
		return r, err
	}
	r.took = time.Since(began)
	r.cpu = m.cpu() - cpu
	r.xargs, err = xargs(ctx, b, r.count)
	return r, err
}

// mapSpec is a map of the wasm program, with an argument for each task, as
// `perrin map` makes it.
func mapSpec(ctx context.Context, c *api.Client, count int) (workload.Spec, error) {
	spec, err := wasmSpec(ctx, c)
	if err != nil {
		return spec, err
	}
	table := workload.TaskTable{Tasks: make([]workload.Task, count)}
	for i := range table.Tasks {
		table.Tasks[i].Args = []string{strconv.Itoa(i)}
	}
	spec.Tasks.Count = uint32(count)
	spec.Tasks.Table, err = c.PutBlob(ctx, bytes.NewReader(wire.MustMarshal(table)))
	return spec, err
}

// runMap runs a map to its end and returns how long it took.
func runMap(ctx context.Context, c *api.Client, count int) (time.Duration, error) {
	began := time.Now()
	spec, err := mapSpec(ctx, c, count)
	if err != nil {
		return 0, err
	}
	sub, err := c.Submit(ctx, spec)
	if err != nil {
		return 0, err
	}
	_, err = ended(ctx, c, sub.ID)
	return time.Since(began), err
}
