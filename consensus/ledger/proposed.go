package ledger

import "github.com/perrin-mesh/perrin/workload"

// Seen is an entry of the cell's log and the head of the hash chain after it.
type Seen struct {
	Index uint64          `cbor:"1,keyasint"`
	Head  workload.Digest `cbor:"2,keyasint"`
}

// Judges reports whether the leader answers for the command with its signature: it
// says something that nobody else has signed. A workload that is taken on carries its
// owner's signature, a result its worker's, a quota an operator's, and a draw the
// owner's unless there was none; the genesis founds the cell; and a Take or a Release
// only moves what the ledger says already.
func (c *Command) Judges() bool {
	switch {
	case c.Award != nil, c.Refuse != nil, c.Return != nil, c.Expire != nil, c.Stop != nil:
		return true
	case c.MemberAdd != nil, c.MemberRemove != nil, c.Compact != nil:
		return true
	}
	return c.Draw != nil && len(c.Draw.Sig) == 0
}

// joins reports whether a leader makes itself a member, which it may before it is one:
// otherwise nobody could mend a cell whose members cannot be elected.
func (c *Command) joins() bool { return c.MemberAdd != nil && c.MemberAdd.Node == c.Leader }

// proposed checks who proposed a command that judges: a member of the cell, as soon as
// there is any, or who becomes one by it, in the term of the entry that carries it, by
// its signature. Without Rules.Proposed nobody looks; without a term any will do.
func (s *State) proposed(term uint64, c *Command, raw []byte) *Reject {
	if s.rules.Proposed == nil || !c.Judges() {
		return nil
	}
	switch {
	case term != 0 && c.Term != term:
		return rejectf(StaleTerm, "proposed in term %d, and it is term %d", c.Term, term)
	case len(s.members) > 0 && s.members[c.Leader] == nil && !c.joins():
		return rejectf(NotProposed, "proposed by %s, which is no member of the cell", c.Leader.Short())
	}
	if err := s.rules.Proposed(s.cell, c, raw); err != nil {
		return rejectf(NotProposed, "%v", err)
	}
	return nil
}
