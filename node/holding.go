package node

import (
	"sync"

	"github.com/perrin-mesh/perrin/workload"
)

// holding remembers, on a leader, which voters hold a blob on behalf of a
// workload, so that the next workload that needs the same blob asks nobody: each
// voter pins it for that one too when it applies its ACCEPT, and keeps it for the
// first at least until the cell forgets that one by a later entry of the log.
type holding struct {
	mu   sync.Mutex
	held map[workload.Ref]*holders
}

type holders struct {
	by     workload.ID
	voters map[workload.PeerID]bool
}

// Bounds of what is remembered. A hold of more blobs is asked for each time.
const (
	maxHolding   = 4096
	maxHoldingOf = 64 // blobs of one hold
)

func newHolding() *holding { return &holding{held: map[workload.Ref]*holders{}} }

// asked begins a hold: what was known of its blobs is known on its behalf now.
func (h *holding) asked(by workload.ID, refs []workload.Ref) {
	if len(refs) > maxHoldingOf {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.held)+len(refs) > maxHolding {
		clear(h.held)
	}
	for _, ref := range refs {
		h.held[ref] = &holders{by: by, voters: map[workload.PeerID]bool{}}
	}
}

// acked notes that a voter has all the blobs of a hold, durably.
func (h *holding) acked(by workload.ID, refs []workload.Ref, voter workload.PeerID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, ref := range refs {
		if e := h.held[ref]; e != nil && e.by == by {
			e.voters[voter] = true
		}
	}
}

// by returns the workloads on whose behalf a majority of voters holds each of
// refs, or false when there is a blob that no majority is known to hold.
func (h *holding) by(refs []workload.Ref, voters []workload.PeerID) (ids []workload.ID, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, ref := range refs {
		e := h.held[ref]
		if e == nil {
			return nil, false
		}
		n := 0
		for _, v := range voters {
			if e.voters[v] {
				n++
			}
		}
		if n <= len(voters)/2 {
			return nil, false
		}
		ids = append(ids, e.by)
	}
	return ids, true
}

// Holding implements leader.Blobs.
func (n *Node) Holding(refs []workload.Ref) ([]workload.ID, bool) {
	c := n.currentCell()
	if c == nil {
		return nil, false
	}
	return n.holding.by(refs, c.Voters())
}
