package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
)

// manyWorkloads runs separate workloads of one task, submitted by clients at
// once, to their ends: native ones, each in a sandbox of its own, through every
// daemon; and wasm ones of one owner, program and shape, through one. The limits
// hold for three voters; the lines of one daemon are beside what others measured
// of one agent.
func manyWorkloads(ctx context.Context, b *bench) error {
	for _, daemons := range []int{3, 1} {
		if err := manyOn(ctx, b, daemons); err != nil {
			return err
		}
	}
	return nil
}

func manyOn(ctx context.Context, b *bench, daemons int) error {
	m, err := b.start(ctx, daemons)
	if err != nil {
		return err
	}
	defer m.Stop()
	var everywhere []string
	for _, member := range m.Members {
		everywhere = append(everywhere, member.Socket)
	}
	one := []string{m.Members[(m.leader+1)%daemons].Socket}
	for _, kind := range []struct {
		name, what string
		sockets    []string
		make       func(context.Context, *api.Client) (workload.Spec, error)
		limit      float64
	}{
		{"sandboxes", "native, a sandbox each", everywhere, nativeSpec, 250},
		{"shared", "wasm of one owner, program and shape", one, wasmSpec, 500},
	} {
		var took time.Duration
		cpu := m.cpu()
		err := m.profiled(ctx, fmt.Sprintf("many-%d-%s", daemons, kind.name), func() (err error) {
			took, err = separate(ctx, b, kind.sockets, kind.make)
			return err
		})
		if err != nil {
			return fmt.Errorf("%s: %w", kind.name, err)
		}
		n := float64(b.sizes.workloads)
		what := fmt.Sprintf("%d workloads of one task from %d clients, %d daemons: %s", b.sizes.workloads, b.sizes.clients, daemons, kind.what)
		if daemons == 1 {
			kind.limit = 0
		}
		b.out.add(atLeast(what, "/s", n/took.Seconds(), kind.limit))
		b.out.cpu("the same: CPU of all daemons a workload", millis(m.cpu()-cpu)/n)
	}
	return nil
}

// separate submits the workloads and returns how long it took until the last
// one was known to have ended.
func separate(ctx context.Context, b *bench, sockets []string, spec func(context.Context, *api.Client) (workload.Spec, error)) (time.Duration, error) {
	clients := make([]*api.Client, b.sizes.clients)
	specs := make([]workload.Spec, len(clients))
	for i := range clients {
		c, err := api.Dial(sockets[i%len(sockets)])
		if err != nil {
			return 0, err
		}
		defer c.Close()
		if specs[i], err = spec(ctx, c); err != nil {
			return 0, err
		}
		clients[i] = c
	}
	began := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for i, c := range clients {
		share := b.sizes.workloads / len(clients)
		if i < b.sizes.workloads%len(clients) {
			share++
		}
		group.Go(func() error { return submitAll(ctx, c, specs[i], share) })
	}
	err := group.Wait()
	return time.Since(began), err
}

// submitAll is one client: it submits its share, and then waits for each.
func submitAll(ctx context.Context, c *api.Client, spec workload.Spec, share int) error {
	ids := make([]workload.ID, share)
	for i := range ids {
		sub, err := c.Submit(ctx, spec)
		if err != nil {
			return fmt.Errorf("submission %d: %w", i, err)
		}
		ids[i] = sub.ID
	}
	for _, id := range ids {
		if _, err := ended(ctx, c, id); err != nil {
			return err
		}
	}
	return nil
}
