package node

import (
	"cmp"
	"slices"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// maxHeads bounds the heads of the ledger's chain that a server remembers.
const maxHeads = 4096

// headAt is the head of the ledger's chain after an entry.
type headAt struct {
	index uint64
	head  workload.Digest
}

// heads are the last ones, by index; in place it holds up to twice as many, so that
// it is moved rarely.
type heads []headAt

func (h *heads) push(index uint64, head workload.Digest) {
	if len(*h) == 2*maxHeads {
		*h = append((*h)[:0], (*h)[maxHeads:]...)
	}
	*h = append(*h, headAt{index, head})
}

// last returns a copy of those that count.
func (h heads) last() []headAt { return slices.Clone(h[max(0, len(h)-maxHeads):]) }

// at returns the head after the entry at index, when it is remembered.
func (h heads) at(index uint64) (workload.Digest, bool) {
	i, ok := slices.BinarySearchFunc(h, index, func(a headAt, index uint64) int { return cmp.Compare(a.index, index) })
	if !ok {
		return workload.Digest{}, false
	}
	return h[i].head, true
}

// marks signs the heads at some indexes, as far as they are remembered, and the newest.
func (n *Node) marks(cell workload.CellID, at []uint64) (out []workload.Signed) {
	n.book.mu.RLock()
	var found []headAt
	for _, index := range at {
		if head, ok := n.book.heads.at(index); ok {
			found = append(found, headAt{index, head})
		}
	}
	if k := len(n.book.heads); k > 0 {
		found = append(found, n.book.heads[k-1])
	}
	n.book.mu.RUnlock()
	for _, h := range found {
		mark := wire.Mark{Cell: cell, Index: h.index, Head: h.head}
		out = append(out, workload.Sign(workload.DomainMark, wire.MustMarshal(&mark), n.id.key))
	}
	return out
}
