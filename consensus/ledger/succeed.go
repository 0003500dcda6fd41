package ledger

import "github.com/perrin-mesh/perrin/workload"

// succeed gives a node what is remembered of the key that it had before, as the
// operator's statement in a MemberAdd proves. Nothing is remembered of the old key then,
// so that a name is never counted twice.
func (s *State) succeed(c *MemberAdd) *Reject {
	if len(c.Succession) == 0 || s.rules.OpenSuccession == nil {
		return nil
	}
	old, node, err := s.rules.OpenSuccession(s.mesh, c.Succession)
	switch {
	case err != nil:
		return rejectf(BadSignature, "succession: %v", err)
	case node != c.Node:
		return rejectf(BadSignature, "the succession is to %s, not to %s", node.Short(), c.Node.Short())
	}
	list := s.standings[old]
	delete(s.standings, old) // first, for its place may be the only one that is free
	for _, x := range list {
		x.Node = node
		s.addStanding(x)
	}
	return nil
}

// Remembered reports whether the ledger has anything to say of a node's work.
func (s *State) Remembered(node workload.PeerID) bool { return len(s.standings[node]) > 0 }
