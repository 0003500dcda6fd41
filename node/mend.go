package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// mender brings a server of a cell what the ledger says that it holds and that
// never came: a hold needs a majority of the voters, so that one which was away
// lacks it, and a new standby lacks all. It looks at what is new in the ledger
// every mendEvery, or when the leader asks, and fetches from whoever has it.
type mender struct {
	n    *Node
	kick chan struct{}

	mu      sync.Mutex
	index   uint64        // of the ledger, up to which all is here that can be had
	blocked bool          // the last round left something to do
	round   chan struct{} // closed at the end of a round

	// owned by keepMending
	seen map[workload.ID]mended
	head uint64 // of the ledger at the last round
	lost int    // workloads that are given up for now, of those looked at last
	tick int    // rounds
}

// mended is what is known to be here of one workload.
type mended struct {
	parts   int       // 1 for what the spec needs, and 1 for each segment
	failing time.Time // since when there is a part that cannot be had; zero is none
}

const (
	mendEvery = 5 * time.Second
	mendRetry = 12 // rounds after which a workload that is given up is tried again
	// mendPatience is how long what is missing keeps the server from being whole.
	// Then it is taken that nobody has it.
	mendPatience = time.Minute
)

func newMender(n *Node) *mender {
	return &mender{n: n, kick: make(chan struct{}, 1), round: make(chan struct{}), seen: map[workload.ID]mended{}}
}

// keepMending runs the mender.
func (n *Node) keepMending(ctx context.Context) error {
	for {
		select {
		case <-time.After(mendEvery):
		case <-n.mender.kick:
		case <-ctx.Done():
			return nil
		}
		if c := n.currentCell(); c != nil {
			n.mender.mend(ctx, c)
		}
	}
}

// mend is one round: it looks at every workload that has changed, and notes how
// far the ledger is mended.
func (m *mender) mend(ctx context.Context, c *cell) {
	m.tick++
	retry := m.tick%mendRetry == 0
	index, news := m.news(c, retry)
	if !news {
		m.ended(index, false)
		return
	}
	todo := m.changed(c)
	blocked, lost := false, 0
	for _, id := range todo {
		have := m.seen[id]
		gone := have.isLost()
		if !gone || retry {
			have = m.attempt(ctx, c, id, have)
			m.seen[id] = have
		}
		blocked = blocked || !have.failing.IsZero() && !gone
		lost += whole(gone)
	}
	if ctx.Err() == nil {
		m.lost = lost
		m.ended(index, blocked)
	}
}

// isLost reports whether what is missing is given up for now.
func (w mended) isLost() bool { return !w.failing.IsZero() && time.Since(w.failing) > mendPatience }

func whole(b bool) int {
	if b {
		return 1
	}
	return 0
}

// attempt brings what is missing of one workload, and notes what came of it.
func (m *mender) attempt(ctx context.Context, c *cell, id workload.ID, have mended) mended {
	parts, err := m.workload(ctx, c, id, have.parts)
	if err == nil {
		return mended{parts: parts}
	}
	if have.failing.IsZero() {
		have.failing = time.Now()
		m.n.log.Warn("blobs of a workload are missing on this server", "workload", id.Short(), "err", err)
	}
	return have
}

// news reports whether there is anything to look at, and up to which index.
func (m *mender) news(c *cell, retry bool) (index uint64, news bool) {
	c.Read(func(s *ledger.State) { index, _ = s.Head() })
	news = index != m.head || m.blocked || retry && m.lost > 0
	m.head = index
	return index, news
}

// changed lists the workloads to look at, and drops those that are forgotten.
func (m *mender) changed(c *cell) (todo []workload.ID) {
	seen := make(map[workload.ID]mended, len(m.seen))
	c.Read(func(s *ledger.State) {
		for v := range s.List(ledger.Filter{}) {
			have := m.seen[v.ID]
			seen[v.ID] = have
			if have.parts < v.Segments+1 {
				todo = append(todo, v.ID)
			}
		}
	})
	m.seen = seen
	return todo
}

// ended tells those who wait for a round what came of it.
func (m *mender) ended(index uint64, blocked bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.blocked = blocked
	if !blocked {
		m.index = index
	}
	close(m.round)
	m.round = make(chan struct{})
}

// workload pins and fetches what is missing of one workload from a part on, and
// returns how many parts are here. A segment and a table, once here, name more.
func (m *mender) workload(ctx context.Context, c *cell, id workload.ID, from int) (parts int, err error) {
	n, owner := m.n, holdOwner(id)
	for range 3 {
		refs, segments := n.heldOf(c, id, max(from-1, 0))
		missing := slices.DeleteFunc(slices.Clone(refs), n.blobs.Has)
		n.blobs.Pin(owner, refs...)
		if err := m.fetch(ctx, missing); err != nil {
			return from, err
		}
		if len(missing) == 0 {
			return segments + 1, m.still(c, id)
		}
		if err := n.blobs.Sync(missing...); err != nil {
			return from, err
		}
	}
	return from, errors.New("what was fetched names more than it should")
}

func (m *mender) fetch(ctx context.Context, refs []workload.Ref) error {
	if len(refs) == 0 {
		return nil
	}
	holders := m.n.everyone()
	for _, ref := range refs {
		if err := m.n.Fetch(ctx, ref, holders); err != nil {
			return fmt.Errorf("fetch %s: %w", ref.Digest.Short(), err)
		}
	}
	return nil
}

// still takes the pins back of a workload that was forgotten meanwhile.
func (m *mender) still(c *cell, id workload.ID) error {
	known := false
	c.Read(func(s *ledger.State) { _, known = s.Workload(id) })
	if !known {
		m.n.blobs.Unpin(holdOwner(id))
	}
	return nil
}

// handleWhole says whether this server holds all that a voter must, up to an
// index of the ledger. It waits for a round, as long as the caller does.
func (n *Node) handleWhole(ctx context.Context, from workload.PeerID, msg *wire.WholeMsg) (*wire.Ack, error) {
	if msg.Cell != n.homeCell() || !n.MayLead(msg.Cell, from) {
		return nil, wire.Errorf(wire.Unauthorized, "only a voter of the cell asks what its servers hold")
	}
	for {
		n.mender.mu.Lock()
		index, blocked, round := n.mender.index, n.mender.blocked, n.mender.round
		n.mender.mu.Unlock()
		if index >= msg.Index {
			return &wire.Ack{}, nil
		}
		if !blocked { // only the ledger is behind, or nobody has looked yet
			select {
			case n.mender.kick <- struct{}{}:
			default:
			}
		}
		select {
		case <-round:
		case <-ctx.Done():
		}
		if !pause(ctx, 20*time.Millisecond) {
			return nil, wire.Errorf(wire.Unavailable, "the blobs of entries %d to %d are still on their way", index+1, msg.Index)
		}
	}
}
