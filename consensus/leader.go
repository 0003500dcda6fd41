package consensus

import (
	"sync"

	"github.com/hashicorp/raft"

	"github.com/perrin-mesh/perrin/workload"
)

// Leadership says who leads. Between two values with Leading there may have been
// one without that a slow reader missed; Term tells.
type Leadership struct {
	Term    uint64
	Leader  workload.PeerID // zero when unknown
	Leading bool            // this server leads
}

// watch gives the latest Leadership to whoever asked for it.
type watch struct {
	mu     sync.Mutex
	last   Leadership
	change chan struct{} // closed at the next change
	subs   []chan Leadership
	closed bool
}

func newWatch() *watch { return &watch{change: make(chan struct{})} }

// set publishes l when it is new, and reports whether it was.
func (w *watch) set(l Leadership) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if l == w.last || w.closed {
		return false
	}
	w.last = l
	close(w.change)
	w.change = make(chan struct{})
	for _, s := range w.subs {
		offer(s, l)
	}
	return true
}

// offer replaces what waits in s, which only offer sends to.
func offer(s chan Leadership, l Leadership) {
	select {
	case <-s:
	default:
	}
	s <- l
}

func (w *watch) subscribe() <-chan Leadership {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := make(chan Leadership, 1)
	if w.closed {
		close(s)
		return s
	}
	s <- w.last
	w.subs = append(w.subs, s)
	return s
}

func (w *watch) news() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.change
}

func (w *watch) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	w.closed = true
	for _, s := range w.subs {
		close(s)
	}
}

// follow publishes what the instance observes until it has stopped.
func (g *Group) follow(in *instance) {
	defer close(in.told)
	for {
		select {
		case <-in.events:
			g.publish(in)
		case <-in.done:
			g.publish(in)
			return
		}
	}
}

func (g *Group) publish(in *instance) {
	now := in.leadership(g.cfg.Self)
	if g.watch.set(now) {
		g.log.Info("leadership", "term", now.Term, "leader", now.Leader.String(), "self", now.Leading)
	}
	in.trans.contacts.wake()
}

func (in *instance) leadership(self workload.PeerID) Leadership {
	for {
		term := in.raft.CurrentTerm()
		leader, _ := in.leader()
		leading := in.raft.State() == raft.Leader
		if in.raft.CurrentTerm() != term {
			continue
		}
		if leading {
			leader = self
		} else if leader == self {
			leader = workload.PeerID{}
		}
		return Leadership{Term: term, Leader: leader, Leading: leading}
	}
}

// leader returns the leader that the library knows.
func (in *instance) leader() (workload.PeerID, bool) {
	_, id := in.raft.LeaderWithID()
	p, err := workload.ParsePeerID(string(id))
	return p, err == nil
}

// LeadershipChanges returns a channel that holds the current Leadership and then
// every later one; a reader that is late gets the latest only. Each call makes
// a channel of its own, which is closed by Close. Leading comes before the
// state machine has caught up: call Barrier first.
func (g *Group) LeadershipChanges() <-chan Leadership { return g.watch.subscribe() }

// Leader returns who leads, as far as this server knows.
func (g *Group) Leader() (workload.PeerID, bool) {
	in := g.current()
	if in == nil {
		return workload.PeerID{}, false
	}
	l := in.leadership(g.cfg.Self).Leader
	return l, !l.IsZero()
}

// IsLeader reports whether this server believes that it leads. Another one may
// know better already; VerifyLeader asks.
func (g *Group) IsLeader() bool {
	in := g.current()
	return in != nil && in.raft.State() == raft.Leader
}

// Term returns the current term, 0 when the server is stopped.
func (g *Group) Term() uint64 {
	in := g.current()
	if in == nil {
		return 0
	}
	return in.raft.CurrentTerm()
}
