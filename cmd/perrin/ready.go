package main

import (
	"context"
	"time"

	"github.com/perrin-mesh/perrin/node/api"
)

// readyPoll is how often a node is asked whether it is ready.
const readyPoll = 100 * time.Millisecond

// untilReady asks for the status until the mesh is ready or ctx ends.
func (a *app) untilReady(ctx context.Context, b *backend) (*api.Status, error) {
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for {
		st, err := b.Status(ctx, a.json)
		if err == nil && st.Ready || err != nil && api.KindOf(err) != api.Unavailable {
			return st, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}
