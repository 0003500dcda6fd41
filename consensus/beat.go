package consensus

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// beat lets the heartbeats to all followers leave at the same moments. The
// library sends each between a tenth and a fifth of the heartbeat timeout after
// the last, by a clock of its own for every follower; so a leader would wake up
// for each of them. Here one that is due waits for the next moment: there are
// three in a timeout, and every second one is enough for a server at rest.
type beat struct {
	every time.Duration // between two moments; 0 is no waiting
	most  time.Duration // between two heartbeats to a follower; twice that to one at rest
	late  time.Duration // after a moment that still counts as it
	zero  time.Time

	mu     sync.Mutex
	last   map[raft.ServerID]time.Time // when one was sent
	hurry  chan struct{}               // closed when nobody is to wait
	urgent int                         // who needs answers now
}

// newBeat returns the beat of a group with a heartbeat timeout. A short one is
// left to the library: its servers are on one machine.
func newBeat(timeout time.Duration) *beat {
	b := &beat{zero: time.Now(), last: map[raft.ServerID]time.Time{}, hurry: make(chan struct{})}
	if timeout >= 500*time.Millisecond {
		b.every, b.most, b.late = timeout/3, timeout*2/5, timeout/20
	}
	return b
}

// wait returns when a heartbeat to a follower may leave, and notes that it does.
func (b *beat) wait(ctx context.Context, id raft.ServerID, atRest bool) {
	b.mu.Lock()
	now := time.Now()
	pause := b.pause(now, b.last[id], atRest)
	b.last[id] = now.Add(pause)
	hurry := b.hurry
	b.mu.Unlock()
	if pause <= 0 {
		return
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-hurry:
	case <-ctx.Done():
	}
}

// pause is how long a heartbeat waits that is due now, after one at last. The
// caller holds mu.
func (b *beat) pause(now, last time.Time, atRest bool) time.Duration {
	if b.every == 0 || b.urgent > 0 {
		return 0
	}
	every, most := b.every, b.most
	if atRest {
		every, most = 2*every, 2*most
	}
	since := now.Sub(b.zero) % every
	pause := every - since
	if since < b.late || now.Add(pause).Sub(last) > most {
		return 0
	}
	return pause
}

// rush lets heartbeats leave at once, those that wait too, until calm.
func (b *beat) rush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.urgent++
	close(b.hurry)
	b.hurry = make(chan struct{})
}

// calm ends what a rush began.
func (b *beat) calm() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.urgent--
}

// isHeartbeat reports whether a request is one of the library's heartbeats: all
// others name the entry before theirs, or carry one.
func isHeartbeat(req *raft.AppendEntriesRequest) bool {
	return len(req.Entries) == 0 && req.PrevLogEntry == 0 && req.PrevLogTerm == 0 && req.LeaderCommitIndex == 0
}
