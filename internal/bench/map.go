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
	var took, done time.Duration
	cpu := m.cpu()
	err = m.profiled(ctx, "map", func() error {
		began := time.Now()
		spec, err := mapSpec(ctx, c, count)
		if err != nil {
			return err
		}
		sub, err := c.Submit(ctx, spec)
		if err != nil {
			return err
		}
		if _, err := ended(ctx, c, sub.ID); err != nil {
			return err
		}
		done = time.Since(began)
		_, err = results(ctx, c, sub.ID, count)
		took = time.Since(began)
		return err
	})
	if err != nil {
		return err
	}
	each := millis(m.cpu()-cpu) / float64(count)
	native, name, err := xargs(ctx, b, count)
	if err != nil {
		return err
	}
	bare, err := bareWazero(ctx, count)
	if err != nil {
		return err
	}
	rate := float64(count) / took.Seconds()
	b.out.add(atLeast(fmt.Sprintf("%d wasm tasks of one map, five daemons, outputs gathered", count), "/s", rate, 2000).
		against("bare wazero, two at once", bare))
	b.out.add(atLeast("the same, beside xargs", "/s", rate, native).against(name, native).
		noting("%.0f ms until all closes were committed, %.0f ms until all outputs were gathered", millis(done), millis(took)))
	b.out.add(atMost("the same: CPU of all five daemons a task", "ms", each, 0))
	return nil
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
