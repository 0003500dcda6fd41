package ledger

import (
	"cmp"
	"slices"

	"github.com/perrin-mesh/perrin/workload"
)

// Member is a node of the cell.
type Member struct {
	Node     workload.PeerID `cbor:"1,keyasint" json:"node"`
	Name     string          `cbor:"2,keyasint" json:"name" max:"64"`
	Operator workload.PeerID `cbor:"3,keyasint" json:"operator"`
	Addrs    []string        `cbor:"4,keyasint" json:"addrs" max:"16"`
	Direct   bool            `cbor:"5,keyasint" json:"direct"`
	Version  string          `cbor:"6,keyasint" json:"version" max:"64"`
	Since    int64           `cbor:"7,keyasint" json:"since_ms"`
}

// node is the lease of any node that is a member or holds slots. A sibling
// cell's node has one too.
type node struct {
	epoch uint64
	slots map[slotKey]*load
}

// slotKey orders slots: by their workload's acceptance, then by number.
type slotKey struct {
	seq  uint64
	slot workload.SlotID
}

func (a slotKey) compare(b slotKey) int {
	return cmp.Or(cmp.Compare(a.seq, b.seq), cmp.Compare(a.slot, b.slot))
}

func (n *node) sorted() []slotKey {
	keys := make([]slotKey, 0, len(n.slots))
	for k := range n.slots {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, slotKey.compare)
	return keys
}

// lease returns the node's record, a new one at need. No epoch comes twice,
// also when the record was dropped in between.
func (s *State) lease(peer workload.PeerID) *node {
	n := s.nodes[peer]
	if n == nil {
		n = &node{epoch: s.floor + firstFence, slots: map[slotKey]*load{}}
		s.nodes[peer] = n
	}
	return n
}

func (s *State) dropNode(peer workload.PeerID, n *node) {
	s.floor = max(s.floor, n.epoch)
	delete(s.nodes, peer)
}

func (s *State) memberAdd(e *entry, c *MemberAdd) *Reject {
	old := s.members[c.Node]
	switch {
	case c.Node.IsZero():
		return rejectf(Malformed, "a member without a key")
	case old == nil && len(s.members) >= s.maxSize:
		return rejectf(CellFull, "the cell has %d members", len(s.members))
	}
	if rej := s.succeed(c); rej != nil {
		return rej
	}
	since := e.at
	if old != nil {
		since = old.Since
	}
	s.known++
	s.members[c.Node] = &Member{
		Node: c.Node, Name: c.Name, Operator: c.Operator, Addrs: c.Addrs, Direct: c.Direct, Version: c.Version, Since: since,
	}
	s.lease(c.Node)
	return nil
}

func (s *State) memberRemove(c *MemberRemove) *Reject {
	n := s.nodes[c.Node]
	switch {
	case s.members[c.Node] == nil:
		return rejectf(NotMember, "%s", c.Node)
	case len(n.slots) > 0:
		return rejectf(HoldsSlots, "%s holds %d slots", c.Node, len(n.slots))
	case len(s.members) == 1: // without members anybody's signature would do
		return rejectf(LastMember, "%s is the only member", c.Node)
	}
	s.known++
	delete(s.members, c.Node)
	s.dropNode(c.Node, n)
	return nil
}

// expire gives a node up: its slots end, what they held opens again in the next
// attempt, and nothing it says in the old epoch counts any more.
func (s *State) expire(e *entry, c *Expire) *Reject {
	n := s.nodes[c.Node]
	switch {
	case n == nil:
		return rejectf(UnknownNode, "%s", c.Node)
	case c.Epoch != n.epoch:
		return rejectf(StaleFence, "%s is in epoch %d, not %d", c.Node, n.epoch, c.Epoch)
	}
	n.epoch++
	e.res.Epoch = n.epoch
	for _, key := range n.sorted() {
		l := n.slots[key]
		s.lose(e, l, l.slots[key.slot])
	}
	return nil
}

func (s *State) lose(e *entry, l *load, sl *slot) {
	lost := l.shown(sl.open.runs)
	l.gone(sl.Node, sl.open.runs)
	l.lost(sl, sl.open.n)
	l.note(Step{
		At: e.at, Index: e.index, Kind: StepExpired, Slot: sl.ID, Node: sl.Node, Count: sl.open.n, Ranges: clipRanges(lost),
	})
	e.res.Lost = append(e.res.Lost, LostSlot{SlotRef{l.ID, sl.ID, sl.Node}, lost})
	for _, r := range sl.open.runs {
		r.Attempt++
		l.retry.add(r)
	}
	s.free(e, l, sl)
	s.settle(e, l)
}
