package node

import (
	"context"
	"sync"
	"time"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// Bounds of looking up cells in the DHT, which a peer can make this node do by
// naming a cell.
const (
	lookupsAtOnce = 4
	lookupEvery   = 5 * time.Second // for one cell
	maxLookups    = 1024            // cells whose last look-up is remembered; more are not looked up
	maxLeaders    = 1024            // cells whose leader is remembered
)

// lookups bounds the look-ups of cells. The zero value is ready.
type lookups struct {
	mu     sync.Mutex
	active int
	last   map[workload.CellID]lookup
}

// lookup is what the DHT said of a cell last.
type lookup struct {
	at    time.Time
	view  wire.CellView
	found bool
}

// begin says whether to look a cell up now, and if not, what is known.
func (l *lookups) begin(id workload.CellID, now time.Time) (known lookup, look bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if known = l.last[id]; now.Sub(known.at) < lookupEvery {
		return known, false
	}
	if len(l.last) >= maxLookups {
		l.forget(now)
	}
	if l.active >= lookupsAtOnce || len(l.last) >= maxLookups {
		return known, false
	}
	if l.last == nil {
		l.last = map[workload.CellID]lookup{}
	}
	l.active++
	l.last[id] = lookup{at: now, view: known.view, found: known.found} // who asks meanwhile gets the last answer
	return known, true
}

func (l *lookups) forget(now time.Time) {
	for id, known := range l.last {
		if now.Sub(known.at) >= lookupEvery {
			delete(l.last, id)
		}
	}
}

func (l *lookups) end(id workload.CellID, found lookup) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.active--
	l.last[id] = found
}

// lookUp asks the DHT for a cell's record, at most every lookupEvery.
func (n *Node) lookUp(ctx context.Context, id workload.CellID) (wire.CellView, bool) {
	known, look := n.lookups.begin(id, time.Now())
	if !look {
		return known.view, known.found
	}
	found := lookup{at: time.Now()}
	defer func() { n.lookups.end(id, found) }()
	r, err := n.dir.GetCell(ctx, id)
	if err != nil {
		return wire.CellView{}, false
	}
	v := wire.CellView{Cell: r.Cell, Epoch: r.Epoch, Term: r.Term, Leader: r.Leader}
	for _, voter := range r.Voters {
		v.Voters = append(v.Voters, wire.PeerAddrs{Peer: voter.Peer, Addrs: voter.Addrs})
	}
	found.view, found.found = v, true
	n.learnAddrs(ctx, v.Voters)
	return v, true
}
