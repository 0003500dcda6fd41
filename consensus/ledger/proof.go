package ledger

import (
	"slices"

	"github.com/perrin-mesh/perrin/workload"
)

// Proof is what the ledger has for a workload's receipt. Its parts are shared and
// must not be changed.
type Proof struct {
	View
	Mesh     workload.MeshID
	Auctions []Auction // those that gave slots, as far as they are kept
	Dropped  uint32    // those that are not
	Segments []Segment
}

// Proof returns what a workload's receipt is made of; false when it is not known.
func (s *State) Proof(id workload.ID) (Proof, bool) {
	l := s.loads[id]
	if l == nil {
		return Proof{}, false
	}
	p := Proof{View: s.view(l), Mesh: s.mesh, Dropped: l.Dropped, Segments: slices.Clone(l.Segments)}
	for i := range l.Auctions {
		if l.Auctions[i].Granted > 0 {
			p.Auctions = append(p.Auctions, l.Auctions[i])
		}
	}
	return p, true
}
