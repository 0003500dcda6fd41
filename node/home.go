package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/perrin-mesh/perrin/mesh"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/leader"
	"github.com/perrin-mesh/perrin/scheduler"
	"github.com/perrin-mesh/perrin/workload"
)

// openHome opens this node's server in its cell, when it has one.
func (n *Node) openHome(ctx context.Context) error {
	if n.home.Founder && n.home.Cell.IsZero() {
		n.home.Cell = newCellID()
		if err := saveHome(n.id.dir, &n.home); err != nil {
			return err
		}
	}
	if n.home.Cell.IsZero() || !n.home.Founder && !n.home.Server {
		return nil
	}
	c, err := n.joinGroup(n.home.Cell, n.home.Founder)
	if err != nil {
		return err
	}
	if n.home.Founder && c.group.Servers().Index == 0 {
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		if err := c.found(ctx, n.host.Mesh(), n.cfg.CellSize, n.self); err != nil {
			return fmt.Errorf("found the cell: %w", err)
		}
	}
	return nil
}

// joinGroup opens the group of the home cell on this node and serves it.
func (n *Node) joinGroup(id workload.CellID, founder bool) (*cell, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cell != nil {
		return n.cell, nil
	}
	c, err := openCell(n.self, id, n.store, raftStreams{n.openConn}, n.book, founder, n.log)
	if err != nil {
		return nil, fmt.Errorf("open the cell's group: %w", err)
	}
	c.room, c.key, c.memo = n.cellRoom, n.id.key, n.memo
	n.cell = c
	if !n.home.Server {
		n.home.Server = true
		if err := saveHome(n.id.dir, &n.home); err != nil {
			return nil, err
		}
	}
	n.onClose("raft", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		return c.group.Close(ctx)
	})
	return c, nil
}

func (n *Node) openConn(ctx context.Context, to workload.PeerID, proto string) (net.Conn, error) {
	return n.host.OpenStream(ctx, to, proto)
}

// serveRaft takes a Raft connection of another server. The first one from a
// voter of the home cell makes this node a server of it.
func (n *Node) serveRaft(_ context.Context, from workload.PeerID, s mesh.Stream) {
	name, err := readGroup(s)
	if err != nil || name != groupName(n.homeCell()) {
		_ = s.Reset()
		return
	}
	c, told := n.currentCell(), n.toldView()
	named := told.Leader == from || isVoter(&told, from)
	if c == nil {
		if !named {
			_ = s.Reset()
			return
		}
		if c, err = n.joinGroup(n.homeCell(), false); err != nil {
			n.log.Error("cannot serve the cell", "err", err)
			_ = s.Reset()
			return
		}
	}
	// A server whose log is empty or old does not know the voters of today.
	if named && told.Cell == c.id && told.Term >= c.Term() {
		c.group.Admit(append(voterIDs(&told), from)...)
	}
	if err := c.group.ServeConn(from, s); err != nil {
		n.log.Debug("raft connection", "from", from.Short(), "err", err)
	}
}

// keepHome keeps this node a member of a cell, leads it when it is elected, and
// says when the node is ready.
func (n *Node) keepHome(ctx context.Context) error {
	for {
		if c := n.currentCell(); c != nil {
			go n.introduce(ctx)
			return n.serveCell(ctx, c)
		}
		if err := n.enterCell(ctx); err != nil {
			n.setNotReady(err.Error())
			n.log.Info("not in a cell yet", "err", err)
		}
		if !pause(ctx, 250*time.Millisecond) {
			return nil
		}
	}
}

// pause waits, and reports whether ctx still stands.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// introduce tells the cell's leader, which may be this node, where this node is
// now, until it has heard; and that a daemon that has just started runs nothing.
func (n *Node) introduce(ctx context.Context) {
	c := n.currentCell()
	var answer wire.MemberAnswer
	for {
		err := n.CallLeader(ctx, c.id, wire.ProtoMember, n.memberMsg(c), &answer)
		if err == nil {
			break
		}
		if !pause(ctx, time.Second) {
			return
		}
		n.log.Warn("the cell does not take this node as a member", "err", err)
	}
	n.announce(ctx, c.id)
}

// announce tells the cell that this daemon is new, until it has heard.
func (n *Node) announce(ctx context.Context, cell workload.CellID) {
	for {
		err := n.worker.Announce(ctx, cell)
		if err == nil {
			return
		}
		n.log.Debug("start not announced", "err", err)
		if !pause(ctx, time.Second) {
			return
		}
	}
}

// rememberEvery is how often this node looks whether its cell's servers have
// moved; it dials those that are not connected every fourth time.
const rememberEvery = 500 * time.Millisecond

// keepConnected dials the servers of the home cell that are not connected, and
// with no peer at all whoever was a contact before.
func (n *Node) keepConnected(ctx context.Context) error {
	for round := 1; pause(ctx, rememberEvery); round++ {
		servers, err := n.rememberServers()
		if err != nil {
			n.log.Warn("where the cell's servers are is not kept", "err", err)
		}
		if round%4 != 1 {
			continue
		}
		n.learnAddrs(ctx, servers)
		if len(n.host.Peers()) > 0 {
			continue
		}
		n.mu.Lock()
		contacts := slices.Clone(n.home.Contacts)
		n.mu.Unlock()
		if len(contacts) > 0 {
			if err := n.host.Connect(ctx, contacts); err != nil {
				n.log.Debug("no contact answers", "err", err)
			}
		}
	}
	return nil
}

// serveCell leads the cell whenever this node is elected.
func (n *Node) serveCell(ctx context.Context, c *cell) error {
	changes := c.group.LeadershipChanges()
	stop := func() {}
	defer func() { stop() }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case l, ok := <-changes:
			if !ok {
				return nil
			}
			stop()
			stop = func() {}
			if l.Leading {
				stop = n.lead(ctx, c)
			}
		}
	}
}

// lead begins a term of leadership; what it returns ends it.
func (n *Node) lead(ctx context.Context, c *cell) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := n.leadTerm(ctx, c); err != nil && ctx.Err() == nil {
			n.log.Warn("term of leadership ended", "err", err)
		}
	}()
	return func() { cancel(); <-done }
}

func (n *Node) leadTerm(ctx context.Context, c *cell) error {
	if err := c.group.Barrier(ctx); err != nil {
		return err
	}
	l := leader.New(ctx, leader.Config{
		Self: n.self, Key: n.id.key, Memo: n.memo, Revoked: n.id.trust.Revoked, Mesh: n.host.Mesh(), Cell: c, Caller: caller{n}, Siblings: n, Store: n, Shown: n.host.Shown,
		Prover: &prover{n: n}, Operates: n.operates, IsOperator: n.isOperator,
		Desk: scheduler.DefaultConfig(), Lease: n.lease(), Clock: n.cfg.clock(), Log: n.log.With("part", "leader"),
	})
	n.joinOwn(ctx, c)
	n.setLeader(l)
	defer n.setLeader(nil)
	n.log.Info("leading", "cell", c.id, "term", c.Term())
	go n.keepMembers(ctx, c, l)
	for _, o := range n.knownOffers() {
		l.Offer(o)
	}
	return l.Run()
}

func (n *Node) setLeader(l *leader.Leader) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.leader = l
}

// enterCell asks the nodes it knows to take it into a cell, or founds one when
// the mesh's cells are full.
func (n *Node) enterCell(ctx context.Context) error {
	n.mu.Lock()
	h := n.home
	n.mu.Unlock()
	if err := n.host.Connect(ctx, n.reachable(&h)); err != nil && len(n.host.Peers()) == 0 {
		return fmt.Errorf("no node of the mesh answers: %w", err)
	}
	msg := wire.MemberMsg{Name: n.name, Addrs: n.addrs(), Direct: true, Version: n.cfg.Version}
	if !h.Cell.IsZero() {
		msg.Cell = &h.Cell
	}
	answer, err := n.askMembership(ctx, &msg)
	if err != nil {
		return err
	}
	if answer.Found {
		return n.foundSibling(ctx)
	}
	return n.settleIn(ctx, &answer.View)
}

// reachable lists where the mesh was seen last.
func (n *Node) reachable(h *home) []string {
	addrs := slices.Clone(h.Contacts)
	for _, v := range slices.Concat(h.View.Voters, h.View.Standby, h.Servers) {
		for _, a := range v.Addrs {
			addrs = append(addrs, fullAddr(a, v.Peer))
		}
	}
	return addrs
}

// askMembership asks every connected peer until one that leads a cell with
// room, or that knows who does, has answered.
func (n *Node) askMembership(ctx context.Context, msg *wire.MemberMsg) (*wire.MemberAnswer, error) {
	last := errors.New("no peer is connected")
	asked := map[workload.PeerID]bool{}
	queue := []workload.PeerID{}
	for _, p := range n.host.Peers() {
		queue = append(queue, p.ID)
	}
	var full *wire.MemberAnswer
	for len(queue) > 0 && len(asked) < 64 {
		peer := queue[0]
		queue = queue[1:]
		if asked[peer] || peer == n.self {
			continue
		}
		asked[peer] = true
		answer, err := n.askOne(ctx, peer, msg)
		var e *wire.Error
		switch {
		case errors.As(err, &e) && e.Kind == wire.NotLeader && !e.Leader.IsZero():
			queue = append([]workload.PeerID{e.Leader}, queue...)
			last = err
		case err != nil:
			last = err
		case !answer.View.Full:
			return answer, nil
		default:
			full = answer
			for _, s := range answer.Siblings {
				n.learnAddrs(ctx, s.Voters)
				queue = append([]workload.PeerID{s.Leader}, queue...)
			}
		}
	}
	if full != nil {
		full.Found = true
		return full, nil
	}
	return nil, last
}

func (n *Node) askOne(ctx context.Context, peer workload.PeerID, msg *wire.MemberMsg) (*wire.MemberAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return mesh.CallTyped[wire.MemberMsg, wire.MemberAnswer](ctx, n.host, peer, wire.ProtoMember, msg, wire.MaxBulk)
}

// foundSibling founds a cell next to full ones.
func (n *Node) foundSibling(ctx context.Context) error {
	n.mu.Lock()
	n.home.Founder, n.home.Cell = true, newCellID()
	err := saveHome(n.id.dir, &n.home)
	n.mu.Unlock()
	if err != nil {
		return err
	}
	n.log.Info("founding a cell: the others are full", "cell", n.homeCell())
	return n.openHome(ctx)
}

// settleIn remembers the cell that took this node in.
func (n *Node) settleIn(ctx context.Context, v *wire.CellView) error {
	n.learnAddrs(ctx, append(slices.Clone(v.Voters), v.Standby...))
	n.learnView(v)
	n.mu.Lock()
	n.home.Cell = v.Cell
	err := saveHome(n.id.dir, &n.home)
	n.mu.Unlock()
	if err != nil {
		return err
	}
	go n.announce(ctx, v.Cell)
	return n.memberLoop(ctx)
}

// memberLoop is a plain member's life: it ends when the node becomes a server
// of its cell, or the cell has forgotten it.
func (n *Node) memberLoop(ctx context.Context) error {
	for n.currentCell() == nil {
		if !pause(ctx, 100*time.Millisecond) {
			return nil
		}
		if n.forgottenByCell() {
			return errors.New("the cell does not know this node any more")
		}
	}
	return nil
}
