package node

import (
	"bytes"
	"context"
	"slices"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/leader"
	"github.com/perrin-mesh/perrin/workload"
)

// handleCountersign clears an auction again for the leader of this node's cell and
// signs that it came out the same. It looks at nothing but the message and who
// votes, so a ledger that lags does not delay it.
func (n *Node) handleCountersign(_ context.Context, from workload.PeerID, m *wire.CountersignMsg) (*wire.CountersignAnswer, error) {
	n.mu.Lock()
	c := n.cell
	n.mu.Unlock()
	if c == nil || c.id != m.Cell {
		return nil, wire.Errorf(wire.Refused, "this node does not vote in cell %s", m.Cell)
	}
	if lead, known := c.group.Leader(); !known || lead != from {
		return nil, wire.Errorf(wire.Unauthorized, "%s does not lead cell %s as far as this voter knows", from.Short(), m.Cell)
	}
	voters := slices.Clone(c.Voters())
	slices.SortFunc(voters, byBytes)
	if !slices.Contains(voters, n.self) || !slices.Equal(voters, m.Voters) {
		return nil, wire.Errorf(wire.Unavailable, "the voters of the cell have changed")
	}
	if err := n.clearsAgain(from, m); err != nil {
		return nil, wire.Errorf(wire.Refused, "%s", workload.Cut(err.Error(), 200))
	}
	payload := wire.MustMarshal(m.Clearing.Countersign(m.Cell, voters))
	return &wire.CountersignAnswer{Sig: n.memo.Sign(workload.DomainCountersign, payload, n.id.key)}, nil
}

// clearsAgain returns why an award of the leader that asks is not one that every replica
// would apply.
func (n *Node) clearsAgain(from workload.PeerID, m *wire.CountersignMsg) error {
	spec, err := leader.OpenSpec(n.memo, m.Spec)
	switch {
	case err != nil:
		return err
	case leader.IDOf(m.Cell, m.Spec) != m.Clearing.Workload:
		return wire.Errorf(wire.Refused, "the spec is of another workload")
	case spec.Mesh != n.host.Mesh():
		return wire.Errorf(wire.Refused, "the spec is for another mesh")
	}
	r := rules(n.memo)
	if rej := r.Check(from, &spec, leader.AwardOf(&m.Clearing)); rej != nil {
		return rej
	}
	return nil
}

func byBytes(a, b workload.PeerID) int { return bytes.Compare(a[:], b[:]) }
