package consensus

import (
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/perrin-mesh/perrin/workload"
)

// contact is the latest news of one follower.
type contact struct {
	term uint64
	sent time.Time // when the latest request was sent that it answered with success in term
	last uint64    // the last entry in its log, as of its latest answer
	rest bool      // the answer before named the same
}

// contacts notes when the leader sent what a follower has answered. Sending
// time counts, not the time of the answer: an answer that was delayed proves
// nothing about the time since it was given.
type contacts struct {
	mu     sync.Mutex
	peers  map[raft.ServerID]contact
	change chan struct{} // closed at the next news
}

func newContacts() *contacts {
	return &contacts{peers: map[raft.ServerID]contact{}, change: make(chan struct{})}
}

func (c *contacts) note(id raft.ServerID, term uint64, sent time.Time, resp *raft.AppendEntriesResponse) {
	c.mu.Lock()
	defer c.mu.Unlock()
	news := c.peers[id]
	news.rest = news.last == resp.LastLog
	news.last = resp.LastLog
	if resp.Success && resp.Term == term && (term > news.term || term == news.term && sent.After(news.sent)) {
		news.term, news.sent = term, sent
	}
	c.peers[id] = news
	c.wakeLocked()
}

// wake lets those who wait for news look again.
func (c *contacts) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wakeLocked()
}

func (c *contacts) wakeLocked() {
	close(c.change)
	c.change = make(chan struct{})
}

// news returns a channel that is closed at the next note.
func (c *contacts) news() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.change
}

// resting reports whether a follower's log did not move between its last answers.
func (c *contacts) resting(id raft.ServerID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.peers[id].rest
}

func (c *contacts) of(id workload.PeerID) contact {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.peers[serverID(id)]
}

// majority returns the latest time such that a majority of the voters answered,
// in term, a request sent at that time or later. The leader itself answers now.
// It returns false when no majority answered in term at all.
func (c *contacts) majority(voters []workload.PeerID, self workload.PeerID, term uint64, now time.Time) (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var sent []time.Time
	for _, v := range voters {
		if v == self {
			sent = append(sent, now)
		} else if p := c.peers[serverID(v)]; p.term == term && !p.sent.IsZero() {
			sent = append(sent, p.sent)
		}
	}
	need := len(voters)/2 + 1
	if len(voters) == 0 || len(sent) < need {
		return time.Time{}, false
	}
	slices.SortFunc(sent, func(a, b time.Time) int { return b.Compare(a) })
	return sent[need-1], true
}
