package main

import (
	"context"
	"time"

	"github.com/perrin-mesh/perrin/node/api"
)

// readyPoll is how often a node is asked whether it is ready.
const readyPoll = 100 * time.Millisecond

// askStatus asks the daemon for the status.
func (a *app) askStatus(ctx context.Context) (st *api.Status, err error) {
	err = a.withBackend(func(b *backend) error {
		st, err = b.Status(ctx, a.json)
		return err
	})
	return st, err
}

// untilReady asks for the status until a daemon is there and its mesh is ready, or
// ctx ends.
func (a *app) untilReady(ctx context.Context) (*api.Status, error) {
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for {
		st, err := a.askStatus(ctx)
		if err == nil && st.Ready || err != nil && !later(err) {
			return st, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}

// later reports whether trying again may help.
func later(err error) bool {
	_, _, code := explain(err)
	return code == exitUnavailable
}
