package lease

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/perrin-mesh/perrin/workload"
)

var (
	// ErrUnverified is returned when a leader has not verified its leadership
	// recently enough to grant anything.
	ErrUnverified = errors.New("leadership is not verified")
	// ErrGivenUp is returned when a node is being given up: it gets no lease
	// until its next epoch.
	ErrGivenUp = errors.New("the node is given up")
)

// Held is a node's lease: the epoch in which it holds slots.
type Held struct {
	Node  workload.PeerID
	Epoch uint64
}

// Desk is a leader's side of all leases of its cell: which may be out, and until
// when. A leader makes a new one for every term. It is not safe for concurrent
// use.
type Desk struct {
	cfg    Config
	known  bool  // a VerifyLeader has succeeded
	start  int64 // of the last that did
	leases map[workload.PeerID]granted
}

// granted is the latest lease of a node that may be out.
type granted struct {
	epoch   uint64
	until   int64 // the node is given up then, or EXPIRE is asked for again
	givenUp bool
	idle    bool // no lease matters any more; the epoch still does
}

// NewDesk returns the desk of a leader that knows of no lease.
func NewDesk(cfg Config) *Desk {
	return &Desk{cfg: cfg, leases: map[workload.PeerID]granted{}}
}

// Inherit starts a term: nodes are all that hold slots by the ledger, which the
// leader has applied up to its own term, and now is a time after its election.
// Any of them may have been granted a lease a moment ago, so none is given up
// before GiveUp has passed.
func (d *Desk) Inherit(now int64, nodes []Held) {
	wait := d.cfg.GiveUp()
	if d.cfg.off&inherited != 0 {
		wait = 0
	}
	clear(d.leases)
	for _, n := range nodes {
		d.leases[n.Node] = granted{epoch: n.Epoch, until: now + wait}
	}
}

// Verified says that a VerifyLeader which began at start has succeeded, in the
// desk's own term.
func (d *Desk) Verified(start int64) {
	if !d.known || start > d.start {
		d.known, d.start = true, start
	}
}

// Grant returns the length in ms of the lease that goes with an answer to RENEW
// or a committed AWARD, and remembers that it may be out. The epoch is the
// node's by the ledger. An error wraps ErrUnverified (verify and ask again: the
// node is on the desk all the same, so that an award that is never sent expires),
// ErrGivenUp or ErrStale.
func (d *Desk) Grant(now int64, node workload.PeerID, epoch uint64) (int64, error) {
	l, known := d.leases[node]
	switch {
	case known && epoch < l.epoch:
		return 0, fmt.Errorf("grant to %s: epoch %d of %d: %w", node.Short(), epoch, l.epoch, ErrStale)
	case known && epoch == l.epoch && l.givenUp:
		return 0, fmt.Errorf("grant to %s: %w", node.Short(), ErrGivenUp)
	}
	ttl := int64(0)
	if d.known {
		ttl = d.cfg.Grant(now, d.start)
	}
	if ttl > 0 || !known || l.idle || epoch > l.epoch {
		d.leases[node] = granted{epoch: epoch, until: now + d.cfg.GiveUp()}
	}
	if ttl <= 0 {
		return 0, fmt.Errorf("grant to %s: %w", node.Short(), ErrUnverified)
	}
	return ttl, nil
}

// Due returns the nodes to give up at now, ordered by identity: commit
// EXPIRE(node, epoch) for each. From this on Grant refuses them in that epoch.
// One that is not settled by Expired or Drop is returned again every third of TTL.
func (d *Desk) Due(now int64) []Held {
	var due []Held
	for node, l := range d.leases {
		if l.idle || now < l.until {
			continue
		}
		due = append(due, Held{Node: node, Epoch: l.epoch})
		l.givenUp, l.until = true, now+d.cfg.Renew()
		d.leases[node] = l
	}
	slices.SortFunc(due, func(a, b Held) int { return bytes.Compare(a.Node[:], b.Node[:]) })
	return due
}

// Next returns the earliest time at which Due returns something, and false when
// there is no lease to watch.
func (d *Desk) Next() (int64, bool) {
	next, any := int64(0), false
	for _, l := range d.leases {
		if !l.idle && (!any || l.until < next) {
			next, any = l.until, true
		}
	}
	return next, any
}

// Expired says that EXPIRE of the node's epoch is committed, or was rejected
// because that epoch was over already. Nothing is granted in it any more.
func (d *Desk) Expired(node workload.PeerID, epoch uint64) {
	if l, known := d.leases[node]; known && l.epoch <= epoch {
		d.leases[node] = granted{epoch: epoch + 1, idle: true}
	}
}

// Settled says that a node which was due holds nothing by the ledger, in which
// it is in this epoch: there is nothing to expire, and the node may be granted
// leases again. An EXPIRE of the epoch that is still on its way to the log comes
// before any award to the node, which then has the next epoch.
func (d *Desk) Settled(node workload.PeerID, epoch uint64) {
	if l, known := d.leases[node]; known && l.epoch <= epoch {
		delete(d.leases, node)
	}
}

// Ended says that the node itself has told, under its own key, that nothing of
// this or an earlier epoch runs on it any more and nothing will: a new daemon
// that found no attempt left. The node is due at now.
func (d *Desk) Ended(now int64, node workload.PeerID, epoch uint64) {
	if l, known := d.leases[node]; known && l.epoch <= epoch && !l.givenUp {
		l.until = min(l.until, now)
		d.leases[node] = l
	}
}

// Drop stops the watch over a node that holds no slot any more, by the ledger.
// It does nothing to a node that is being given up: an EXPIRE may be on its way
// to the log, so the node gets no lease before Expired.
func (d *Desk) Drop(node workload.PeerID) {
	if l, known := d.leases[node]; known && !l.givenUp {
		l.idle = true
		d.leases[node] = l
	}
}

// Len returns the number of nodes that may have a lease that matters.
func (d *Desk) Len() int {
	n := 0
	for _, l := range d.leases {
		if !l.idle {
			n++
		}
	}
	return n
}
