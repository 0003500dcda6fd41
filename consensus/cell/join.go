package cell

import (
	"cmp"
	"slices"

	"github.com/perrin-mesh/perrin/workload"
)

// Candidate is a cell that a node could join, from its record and digest.
type Candidate struct {
	Cell    workload.CellID
	Members int
	MaxSize int
	RTT     int64 // us, to its voters; 0 is not known
	// Alike counts the members that share the node's operator, network and
	// zone: one that shares all three counts three times.
	Alike int
}

// The scale of a join score, in us of RTT that each is worth.
const (
	unknownRTT = 200_000
	smallCell  = 50_000 // of a member that a cell below three lacks
	alikeShare = 30_000 // of a cell in which everybody shares everything
	overTarget = 2_000  // of each member over targetSize
	targetSize = 64
)

// Score returns what joining the cell costs in us of RTT; the lowest is the
// best. It adds up the RTT, 30 ms times the share of operator, network and zone
// in common with its members, and 2 ms for each member over 64; a cell of less
// than three members, which cannot survive a loss, is favoured by 50 ms for each
// one that it lacks. It reports false for a cell that is full.
func (c Candidate) Score() (int64, bool) {
	if c.Members >= c.MaxSize {
		return 0, false
	}
	score := c.RTT
	if score <= 0 {
		score = unknownRTT
	}
	if c.Members > 0 {
		score += alikeShare * int64(min(c.Alike, 3*c.Members)) / int64(3*c.Members)
	}
	score += overTarget * int64(max(0, c.Members-targetSize))
	return score - smallCell*int64(max(0, 3-c.Members)), true
}

// Rank returns the cells that have room, the best to join first.
func Rank(cells []Candidate) []Candidate {
	out := slices.DeleteFunc(slices.Clone(cells), func(c Candidate) bool {
		_, room := c.Score()
		return !room
	})
	slices.SortFunc(out, func(a, b Candidate) int {
		sa, _ := a.Score()
		sb, _ := b.Score()
		return cmp.Or(cmp.Compare(sa, sb), slices.Compare(a.Cell[:], b.Cell[:]))
	})
	return out
}
