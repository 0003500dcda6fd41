package api

import (
	"context"
	"net/http"
	"time"
)

// What a daemon takes on at once. Over it the answer is of kind Busy: nothing
// was done, and trying again after a moment helps.
const (
	maxConnections = 2048             // more wait until the daemon takes them up
	maxRequests    = 1024             // under way, streams and waits included
	maxSubmits     = 64               // read and passed on to the leader at once; each may take 12 MiB
	submitWait     = 20 * time.Second // that one more submission waits for its turn
	retryAfter     = "2"              // seconds, in the Retry-After of a Busy answer
)

// hintBusy is what to do about a daemon that is busy.
const hintBusy = "nothing was done; try again in a few seconds, with fewer at once"

// load counts what is under way. Its channels are filled by who has a place.
type load struct {
	requests chan struct{}
	submits  chan struct{}
	wait     time.Duration
}

func newLoad() load {
	return load{requests: make(chan struct{}, maxRequests), submits: make(chan struct{}, maxSubmits), wait: submitWait}
}

// enter takes a place for a request; leave gives it back. What tells people how
// the daemon does always gets one.
func (l *load) enter(r *http.Request) (leave func(), err error) {
	switch r.URL.Path {
	case "/v1/status", "/v1/ready", "/metrics":
		return func() {}, nil
	}
	select {
	case l.requests <- struct{}{}:
		return func() { <-l.requests }, nil
	default:
		return nil, Errorf(Busy, "the daemon has %d requests under way, as many as it takes", cap(l.requests)).WithHint(hintBusy)
	}
}

// turn waits for a submission's turn.
func (l *load) turn(ctx context.Context) (leave func(), err error) {
	timer := time.NewTimer(l.wait)
	defer timer.Stop()
	select {
	case l.submits <- struct{}{}:
		return func() { <-l.submits }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timer.C:
		return nil, Errorf(Busy, "%d submissions are under way, and this one has waited %s for its turn", cap(l.submits), l.wait).WithHint(hintBusy)
	}
}
