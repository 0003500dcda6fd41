package node

import (
	"fmt"
	"slices"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/node/leader"
	"github.com/perrin-mesh/perrin/node/notary"
	"github.com/perrin-mesh/perrin/workload"
)

// Bounds of the bad entries that one proof shows: in all, of those that no known node
// has signed, and of those that one node has signed.
const (
	maxBadEntries = 16
	maxJunk       = 4
	maxBadOfOne   = 4
)

// maxFaults bounds the faults of a chain after which no more entries are told of whose
// leader signed them over another history.
const maxFaults = 64

// otherHistory says so when the leader that signed an entry signed it over another history
// than this chain, as far as that goes back (ledger.Seen).
func otherHistory(chain heads, by workload.PeerID, e *notary.Entry) []string {
	cmd, err := leader.OpenCommand(e.Data)
	if err != nil || cmd.Seen == nil {
		return nil
	}
	head, known := chain.at(cmd.Seen.Index)
	if seen := cmd.Seen; seen.Index >= e.Index || known && head != seen.Head {
		return []string{fmt.Sprintf("%s signed entry %d over the head %s of entry %d, which is not that of this node's chain", by.Short(), e.Index, seen.Head.Short(), seen.Index)}
	}
	return nil
}

// badEntries are those that an audit shows whole. What anybody can put into a log, junk
// and what a key of nobody's signed, takes no room from what convicts a node; nor does
// one leader's from another's.
type badEntries struct {
	signed []notary.Entry // by known nodes, at most maxBadOfOne of each
	junk   []notary.Entry
	of     map[workload.PeerID]int
}

// note keeps an entry if there is room. by is the node that signed it, zero for none that
// is known.
func (b *badEntries) note(by workload.PeerID, e notary.Entry) {
	switch {
	case by.IsZero() && len(b.junk) < maxJunk:
		b.junk = append(b.junk, e)
	case !by.IsZero() && b.of[by] < maxBadOfOne && len(b.signed) < maxBadEntries-maxJunk:
		if b.of == nil {
			b.of = map[workload.PeerID]int{}
		}
		b.of[by]++
		b.signed = append(b.signed, e)
	}
}

// shown are the entries that are kept, the signed ones first.
func (b *badEntries) shown() []notary.Entry { return slices.Concat(b.signed, b.junk) }

// knownSigner is the node that signed an entry of a cell, if it is a member or its
// certificate is known here; zero otherwise: keys cost nothing.
func (n *Node) knownSigner(cell workload.CellID, entry []byte) (by workload.PeerID) {
	who, ok := notary.SignerOf(n.memo, cell, entry)
	if !ok {
		return by
	}
	n.book.Read(func(s *ledger.State) {
		if _, member := s.Member(who); member || len(lastCertificate(s, who)) > 0 || n.host.Shown(who) != nil {
			by = who
		}
	})
	return by
}
