package node

import (
	"slices"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
)

// maxRefusals bounds the refusals that a server remembers for an audit.
const maxRefusals = 256

// refusals are the entries that this replica refused since it began with a snapshot and
// that no honest leader proposes, the oldest first.
type refusals []api.Refusal

// note keeps what a replica says to an entry, when it is one of these. What is unsigned
// goes before what convicts somebody, and the first stays, since everything after it is
// in doubt.
//
// signed says whether the leader that the command names has signed it, as a member:
// whoever forwards an entry without such a signature writes any name into it.
func (r *refusals) note(cmd *ledger.Command, res *ledger.Result, signed func() bool) {
	if !dishonest(cmd, res.Reject) {
		return
	}
	if len(*r) == maxRefusals {
		r.drop()
	}
	x := api.Refusal{Index: res.Index, Code: string(res.Reject.Code), Detail: res.Reject.Error()}
	if cmd != nil && res.Reject.Code != ledger.NotProposed && signed() {
		x.Leader = cmd.Leader
	}
	*r = append(*r, x)
}

// drop forgets one refusal to make room: the second oldest of those whom most are held
// against, where nobody counts as one. The first of each stays as long as that can be.
func (r *refusals) drop() {
	of := map[workload.PeerID][]int{}
	most := workload.PeerID{}
	for i, x := range *r {
		of[x.Leader] = append(of[x.Leader], i)
	}
	for _, x := range *r {
		if len(of[x.Leader]) > len(of[most]) {
			most = x.Leader
		}
	}
	at := 1
	if list := of[most]; len(list) > 1 {
		at = list[1]
	}
	*r = slices.Delete(*r, at, at+1)
}

// dishonest reports whether a leader that keeps to the rules never proposes what was
// refused for this reason. Others come of races: what a command is about has ended, was
// given up, or has changed while the command was on its way.
func dishonest(cmd *ledger.Command, rej *ledger.Reject) bool {
	if rej == nil {
		return false
	}
	switch rej.Code {
	case ledger.NotProposed, ledger.DoesNotReplay, ledger.OverPrice, ledger.NotProved, ledger.NotCountersigned:
		return true
	case ledger.BadSpec, ledger.WrongCell, ledger.WrongMesh, ledger.BadSignature:
		return true
	case ledger.Malformed:
		return cmd == nil || cmd.Award != nil
	}
	return false
}

// signed reports whether the leader that a command names is a member and has signed its
// entry. The caller holds b.mu.
func (b *book) signed(cmd *ledger.Command, entry []byte) bool {
	if _, member := b.state.Member(cmd.Leader); !member || !cmd.Judges() || b.rules.Proposed == nil {
		return false
	}
	return b.rules.Proposed(b.state.Cell().Cell, cmd, entry) == nil
}
