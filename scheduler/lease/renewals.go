package lease

import (
	"slices"

	"github.com/perrin-mesh/perrin/workload"
)

// Renewals is how a leader reads what nodes name when they renew: it notes since
// when slots of theirs are as they must not stay. A leader makes a new one for
// every term. S names a slot together with its fence. It is not safe for
// concurrent use.
type Renewals[S comparable] struct {
	cfg     Config
	unnamed lasting[S] // since when a node leaves slots out that are its own
	overdue lasting[S] // since when slots that are overdue have been told to end
}

// NewRenewals returns the reading of a leader that has heard no renewal.
func NewRenewals[S comparable](cfg Config) *Renewals[S] { return &Renewals[S]{cfg: cfg} }

// Reading is what a leader makes of a RENEW.
type Reading[S comparable] struct {
	// Gone are the slots that the node believes it has and has not.
	Gone []S
	// Forgotten are slots to undo, which the ledger gives to the node and it does not
	// know of: the award never reached it and its first lease is long over, or the
	// node has given the slot up and could not say so at the time.
	Forgotten []S
	// Ignored are slots that are overdue, were told to end and go on. With one of
	// them the node is granted no lease any more, and nothing else is read.
	Ignored []S
}

// Read reads a RENEW that names slots: held is what the ledger gives to the node, and
// late what of it is overdue. now is in ms of the leader's own clock, which no
// setting of the machine's clock moves.
func (r *Renewals[S]) Read(now int64, node workload.PeerID, named, held, late []S) (out Reading[S]) {
	if out.Ignored = r.overdue.note(now, r.cfg.Forget(), node, nil, late); len(out.Ignored) > 0 {
		return out
	}
	for _, ref := range named {
		if !slices.Contains(held, ref) {
			out.Gone = append(out.Gone, ref)
		}
	}
	out.Forgotten = r.unnamed.note(now, r.cfg.Forget(), node, named, held)
	return out
}

// Forget returns how long a node may leave a slot of its own out of its renewals, while
// the award may be on its way, in ms.
func (c Config) Forget() int64 { return 2 * c.TTL }

// lasting notes since when slots of nodes that renew are as they must not stay.
type lasting[S comparable] struct {
	since map[workload.PeerID]map[S]int64
}

// note takes what a node named and what it should have, and returns what it has
// left out in every renewal for longer than patience ms.
func (t *lasting[S]) note(now, patience int64, from workload.PeerID, named, should []S) (over []S) {
	var left map[S]int64
	for _, ref := range should {
		if slices.Contains(named, ref) {
			continue
		}
		began, ok := t.since[from][ref]
		if !ok {
			began = now
		}
		if left == nil {
			left = map[S]int64{}
		}
		left[ref] = began
		if now-began > patience {
			over = append(over, ref)
		}
	}
	if delete(t.since, from); len(left) > 0 {
		if t.since == nil {
			t.since = map[workload.PeerID]map[S]int64{}
		}
		t.since[from] = left
	}
	return over
}
