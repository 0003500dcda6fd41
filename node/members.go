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

// How often the leader looks at who serves its cell: while something changes, and
// once nothing has for a while.
const (
	membersEvery  = 300 * time.Millisecond
	membersAtRest = time.Second
	restAfter     = 10 // looks that changed nothing
)

// keeper changes the servers and members of a cell by the pure rules, for one
// term of leadership. Its goroutine owns it. Its clock counts from when the term
// began and is monotonic, so that nobody looks silent because a clock was set.
type keeper struct {
	n      *Node
	c      *cell
	l      *leader.Leader
	since  time.Time
	joined map[workload.PeerID]joined
}

// joined is when this term first saw a member as the ledger has it.
type joined struct {
	since int64 // the ledger's word for it
	at    time.Time
}

// keepMembers asks the pure rules what to change about the cell's servers and
// members, and does it, for one term of leadership.
func (n *Node) keepMembers(ctx context.Context, c *cell, l *leader.Leader) {
	n.forgetCopies()
	k := &keeper{n: n, c: c, l: l, since: time.Now(), joined: map[workload.PeerID]joined{}}
	every, same := membersEvery, 0
	for pause(ctx, every) {
		n.joinOwn(ctx, c)
		now := time.Now()
		if now.Sub(k.since) > fullTerm && n.room() != nil {
			k.yieldTerm()
		}
		view := k.view(now)
		plan := cellrules.Plan(k.ms(now), view)
		every, same = membersEvery, same+1
		if len(plan) > 0 {
			same = 0
		} else if same > restAfter {
			every = membersAtRest
		}
		for _, a := range plan {
			if err := k.carryOut(ctx, a); err != nil {
				n.log.Warn("cell change failed", "verb", a.Verb, "peer", a.Node.Short(), "why", a.Why, "err", err)
				break
			}
			if a.Verb != cellrules.Copy {
				n.log.Info("cell changed", "verb", a.Verb, "peer", a.Node.Short(), "why", a.Why)
			}
		}
		for _, m := range view.Members {
			if (k.ms(now)-m.Seen > view.Limits.DeadAfter || m.Leaving) && m.ID != n.self {
				l.Gone(m.ID)
			}
		}
	}
}

// fullTerm is how long a voter whose disk is full leads before it hands over.
const fullTerm = 3 * time.Second

// yieldTerm hands leadership to a voter that has room on its disk, if there is one.
func (k *keeper) yieldTerm() {
	for _, v := range k.c.Voters() {
		if p, err := k.c.group.Progress(v); v == k.n.self || err != nil || time.Since(p.Contact) > fullTerm || k.n.isFull(v) {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), fullTerm)
		err := k.c.group.TransferLeadership(ctx, v)
		cancel()
		k.n.log.Warn("leadership handed over: the disk is full", "to", v.Short(), "err", err)
		return
	}
}

// keeperEpoch is what the keeper's clock reads when the term begins, in ms: what
// was before it is later than 0, which stands for never.
const keeperEpoch = int64(1) << 42

// ms is a time of this process on the keeper's clock.
func (k *keeper) ms(t time.Time) int64 { return keeperEpoch + t.Sub(k.since).Milliseconds() }

// view is what the rules need to know.
func (k *keeper) view(now time.Time) cellrules.View {
	n, c := k.n, k.c
	servers := c.group.Servers()
	v := cellrules.View{
		Self: n.self, Since: k.ms(k.since), Index: servers.Index, Limits: cellrules.DefaultLimits(),
		Solo: c.group.Timing() == consensus.Solo(),
	}
	for _, s := range servers.Servers {
		sv := cellrules.Server{ID: s.ID, Voter: s.Suffrage == consensus.Voter}
		if s.ID == n.self {
			sv.Contact, sv.CaughtUp, sv.Copied = k.ms(now), true, true
		} else if p, err := c.group.Progress(s.ID); err == nil {
			if !p.Contact.IsZero() {
				sv.Contact = k.ms(p.Contact)
			}
			sv.CaughtUp = p.Behind <= 64
			sv.Copied = n.hasCopies(s.ID)
		}
		v.Servers = append(v.Servers, sv)
	}
	c.Read(func(s *ledger.State) {
		for _, m := range s.Members() {
			v.Members = append(v.Members, k.member(s, &m, now))
		}
	})
	return v
}

func (k *keeper) member(s *ledger.State, m *ledger.Member, now time.Time) cellrules.Member {
	n := k.n
	seen, ok := k.joined[m.Node]
	if !ok || seen.since != m.Since {
		seen = joined{m.Since, now}
		k.joined[m.Node] = seen
	}
	up := max(now.Sub(seen.at), time.Duration(now.UnixMilli()-m.Since)*time.Millisecond) // the latter by two clocks, but across terms
	out := cellrules.Member{ID: m.Node, Operator: m.Operator, Direct: m.Direct, Network: network(m.Addrs),
		Up: k.ms(now.Add(-up)), RTT: n.host.RTT(m.Node).Microseconds()}
	node, ok := s.Node(m.Node)
	out.Settled = !ok || len(node.Slots) == 0
	if m.Node == n.self {
		out.Seen = k.ms(now)
		return out
	}
	n.mu.Lock()
	o := n.offers[m.Node]
	n.mu.Unlock()
	if out.Seen = k.ms(seen.at); !o.at.IsZero() {
		out.Seen = max(out.Seen, k.ms(o.at))
	}
	out.Draining = o.offer.Drain
	if n.host.Trust().Denied(m.Node, now) != nil { // and so nobody hears of it any more
		out.Draining, out.Leaving = true, true
	}
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
func (k *keeper) carryOut(ctx context.Context, a cellrules.Action) error {
	if a.Verb == cellrules.Copy {
		k.n.awaitCopies(ctx, k.c, a.Node)
		return nil
	}
	// A change must not be cut in two by the end of the term, which it may bring about.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	n, g := k.n, k.c.group
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
		n.missedHold(a.Node)
		_, err = g.Remove(ctx, a.Node, a.Prev)
	case cellrules.Transfer:
		err = g.TransferLeadership(ctx, a.Node)
	case cellrules.Evict:
		_, err = n.proposeMember(ctx, k.c, &ledger.Command{MemberRemove: &ledger.MemberRemove{Node: a.Node}})
	default:
		err = fmt.Errorf("verb %q is not known", a.Verb)
	}
	return err
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
	if from != n.self && !c.hasMember(n.self) {
		return nil, wire.Errorf(wire.Unavailable, "the leader is not a member of its cell yet")
	}
	return n.addMember(ctx, c, from, m)
}

// hasMember reports whether the ledger has a node as a member.
func (c *cell) hasMember(node workload.PeerID) (ok bool) {
	c.Read(func(s *ledger.State) { _, ok = s.Member(node) })
	return ok
}

// memberMsg is what this node says of itself as a member of a cell.
func (n *Node) memberMsg(c *cell) *wire.MemberMsg {
	return &wire.MemberMsg{Name: n.name, Addrs: n.addrs(), Direct: true, Version: n.cfg.Version, Cell: &c.id}
}

// joinOwn makes the leader a member of its cell, before anything else that it judges:
// the replicas take that of members only.
func (n *Node) joinOwn(ctx context.Context, c *cell) {
	if c.hasMember(n.self) {
		return
	}
	if _, err := n.addMember(ctx, c, n.self, n.memberMsg(c)); err != nil {
		n.log.Warn("the leader is not a member of its cell", "err", err)
	}
}

// addMember has the cell take a node as a member, or update what it knows of one.
func (n *Node) addMember(ctx context.Context, c *cell, from workload.PeerID, m *wire.MemberMsg) (*wire.MemberAnswer, error) {
	id, ok := n.host.Admitted(from)
	if !ok && from != n.self {
		return nil, wire.Errorf(wire.Unauthorized, "not admitted")
	}
	if m.Cell != nil && *m.Cell != c.id && !m.Cell.IsZero() {
		return nil, wire.Errorf(wire.Refused, "the node is a member of cell %s", m.Cell)
	}
	add := &ledger.MemberAdd{Node: from, Name: m.Name, Operator: id.Admitter, Addrs: m.Addrs, Direct: m.Direct, Version: m.Version}
	if doc, ok := n.id.trust.Predecessors(time.Now())[from]; ok {
		add.Succession = n.succession(c, &doc)
	}
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
