package node

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/perrin-mesh/perrin/consensus"
	cellrules "github.com/perrin-mesh/perrin/consensus/cell"
	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/leader"
	"github.com/perrin-mesh/perrin/workload"
)

// membersEvery is how often the leader looks at who serves its cell.
const membersEvery = 300 * time.Millisecond

// keepMembers asks the pure rules what to change about the cell's servers and
// members, and does it, for one term of leadership.
func (n *Node) keepMembers(ctx context.Context, c *cell, l *leader.Leader) {
	since := time.Now()
	copied := map[workload.PeerID]uint64{} // standbys that hold every blob, and the ledger's index then
	for pause(ctx, membersEvery) {
		view := n.cellView(c, since, copied)
		for _, a := range cellrules.Plan(time.Now().UnixMilli(), view) {
			if err := n.carryOut(ctx, c, a, copied); err != nil {
				n.log.Warn("cell change failed", "verb", a.Verb, "peer", a.Node.Short(), "why", a.Why, "err", err)
				break
			}
			if a.Verb != cellrules.Copy {
				n.log.Info("cell changed", "verb", a.Verb, "peer", a.Node.Short(), "why", a.Why)
			}
		}
		for _, m := range view.Members {
			if time.Now().UnixMilli()-m.Seen > view.Limits.DeadAfter && m.ID != n.self {
				l.Gone(m.ID)
			}
		}
	}
}

// cellView is what the rules need to know.
func (n *Node) cellView(c *cell, since time.Time, copied map[workload.PeerID]uint64) cellrules.View {
	servers := c.group.Servers()
	v := cellrules.View{
		Self: n.self, Since: since.UnixMilli(), Index: servers.Index, Limits: cellrules.DefaultLimits(),
		Solo: c.group.Timing() == consensus.Solo(),
	}
	for _, s := range servers.Servers {
		sv := cellrules.Server{ID: s.ID, Voter: s.Suffrage == consensus.Voter}
		if s.ID == n.self {
			sv.Contact, sv.CaughtUp, sv.Copied = time.Now().UnixMilli(), true, true
		} else if p, err := c.group.Progress(s.ID); err == nil {
			if !p.Contact.IsZero() {
				sv.Contact = p.Contact.UnixMilli()
			}
			sv.CaughtUp = p.Behind <= 64
			_, sv.Copied = copied[s.ID]
		}
		v.Servers = append(v.Servers, sv)
	}
	c.Read(func(s *ledger.State) {
		for _, m := range s.Members() {
			v.Members = append(v.Members, n.memberView(s, &m))
		}
	})
	return v
}

func (n *Node) memberView(s *ledger.State, m *ledger.Member) cellrules.Member {
	out := cellrules.Member{ID: m.Node, Operator: m.Operator, Direct: m.Direct, Network: network(m.Addrs), Up: m.Since, RTT: n.host.RTT(m.Node).Microseconds()}
	node, ok := s.Node(m.Node)
	out.Settled = !ok || len(node.Slots) == 0
	if m.Node == n.self {
		out.Seen = time.Now().UnixMilli()
		return out
	}
	n.mu.Lock()
	o := n.offers[m.Node]
	n.mu.Unlock()
	out.Seen = max(o.at.UnixMilli(), m.Since)
	out.Draining = o.offer.Drain
	out.Zone = o.offer.Machine.Labels["zone"]
	return out
}

// network is the /24 or /48 of a member's first address: what fails together.
func network(addrs []string) string {
	for _, text := range addrs {
		a, err := multiaddr.NewMultiaddr(text)
		if err != nil {
			continue
		}
		na, err := manet.ToIP(a)
		if err != nil {
			continue
		}
		ip, ok := netip.AddrFromSlice(na)
		if !ok {
			continue
		}
		bits := 48
		if ip = ip.Unmap(); ip.Is4() {
			bits = 24
		}
		if p, err := ip.Prefix(bits); err == nil {
			return p.String()
		}
	}
	return ""
}

// carryOut does one thing that the rules ask for.
func (n *Node) carryOut(ctx context.Context, c *cell, a cellrules.Action, copied map[workload.PeerID]uint64) error {
	// A change must not be cut in two by the end of the term, which it may bring about.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	g := c.group
	var err error
	switch a.Verb {
	case cellrules.Retime:
		err = g.Retime(ctx, consensus.Mesh())
	case cellrules.AddNonvoter:
		_, err = g.AddNonvoter(ctx, a.Node, a.Prev)
	case cellrules.AddVoter:
		_, err = g.AddVoter(ctx, a.Node, a.Prev)
	case cellrules.Demote:
		_, err = g.DemoteVoter(ctx, a.Node, a.Prev)
	case cellrules.Remove:
		delete(copied, a.Node)
		_, err = g.Remove(ctx, a.Node, a.Prev)
	case cellrules.Transfer:
		err = g.TransferLeadership(ctx, a.Node)
	case cellrules.Copy:
		err = n.copyTo(ctx, c, a.Node, copied)
	case cellrules.Evict:
		_, err = n.proposeMember(ctx, c, &ledger.Command{MemberRemove: &ledger.MemberRemove{Node: a.Node}})
	default:
		err = fmt.Errorf("verb %q is not known", a.Verb)
	}
	return err
}

// copyTo brings a standby all that a voter must hold.
func (n *Node) copyTo(ctx context.Context, c *cell, to workload.PeerID, copied map[workload.PeerID]uint64) error {
	var ids []workload.ID
	var index uint64
	c.Read(func(s *ledger.State) {
		index, _ = s.Head()
		for v := range s.List(ledger.Filter{}) {
			ids = append(ids, v.ID)
		}
	})
	for _, id := range ids {
		refs := n.heldOf(c, id)
		if len(refs) == 0 {
			continue
		}
		msg := &wire.Hold{Workload: id, Blobs: refs, Sources: c.Voters()}
		if err := (caller{n}).Call(ctx, to, wire.ProtoHold, msg, &wire.Ack{}); err != nil {
			return err
		}
	}
	copied[to] = index
	return nil
}

func (n *Node) proposeMember(ctx context.Context, c *cell, cmd *ledger.Command) (ledger.Result, error) {
	cmd.Version, cmd.At, cmd.Leader = ledger.CommandVersion, time.Now().UnixMilli(), n.self
	res, err := c.Propose(ctx, cmd)
	if err == nil && res.Reject != nil {
		err = wire.Errorf(wire.Refused, "%s", res.Reject.Error())
	}
	return res, err
}

// handleMember takes a node into the cell, or says that it is full.
func (n *Node) handleMember(ctx context.Context, from workload.PeerID, m *wire.MemberMsg) (*wire.MemberAnswer, error) {
	if _, err := n.leading(); err != nil {
		return nil, err
	}
	c := n.currentCell()
	id, ok := n.host.Admitted(from)
	if from == n.self {
		id, ok = admission.Identity{Name: n.name}, true
	}
	if !ok {
		return nil, wire.Errorf(wire.Unauthorized, "not admitted")
	}
	if m.Cell != nil && *m.Cell != c.id && !m.Cell.IsZero() {
		return nil, wire.Errorf(wire.Refused, "the node is a member of cell %s", m.Cell)
	}
	add := &ledger.MemberAdd{Node: from, Name: m.Name, Operator: id.Operator, Addrs: m.Addrs, Direct: m.Direct, Version: m.Version}
	if !admission.ValidName(m.Name) {
		return nil, wire.Errorf(wire.Malformed, "name %.80q", m.Name)
	}
	answer := &wire.MemberAnswer{}
	res, err := n.proposeMember(ctx, c, &ledger.Command{MemberAdd: add})
	if res.Reject != nil && res.Reject.Code == ledger.CellFull {
		answer.View = n.viewOf(c)
		answer.View.Full = true
		answer.Siblings = n.siblingViews()
		return answer, nil
	}
	answer.View = n.viewOf(c)
	return answer, err
}
