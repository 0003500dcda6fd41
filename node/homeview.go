package node

import (
	"context"
	"slices"
	"time"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// What a node knows of its home: who its members and voters are, where they are,
// and where it is itself.

// toldView is the home cell as its leader told it last.
func (n *Node) toldView() wire.CellView {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.home.View
}

func voterIDs(v *wire.CellView) []workload.PeerID {
	var out []workload.PeerID
	for _, p := range v.Voters {
		out = append(out, p.Peer)
	}
	return out
}

func isVoter(v *wire.CellView, peer workload.PeerID) bool {
	return slices.ContainsFunc(v.Voters, func(p wire.PeerAddrs) bool { return p.Peer == peer })
}

// learnView keeps the latest view of the home cell.
func (n *Node) learnView(v *wire.CellView) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.home.Cell == v.Cell && v.Term < n.home.View.Term {
		return
	}
	n.home.View = *v
}

// rememberServers returns the other servers of the home cell with their
// addresses, and keeps them on disk when they have changed. A server that starts
// has the addresses in its log, of which it applies nothing before a majority has
// found each other.
func (n *Node) rememberServers() ([]wire.PeerAddrs, error) {
	v := n.homeView()
	n.mu.Lock()
	defer n.mu.Unlock()
	known := n.home.Servers
	var servers []wire.PeerAddrs
	for _, p := range append(slices.Clone(v.Voters), v.Standby...) {
		if i := slices.IndexFunc(known, func(k wire.PeerAddrs) bool { return k.Peer == p.Peer }); i >= 0 && len(p.Addrs) == 0 {
			p.Addrs = known[i].Addrs
		}
		if p.Peer != n.self && len(p.Addrs) > 0 && len(servers) < maxServers {
			servers = append(servers, p)
		}
	}
	same := len(servers) == 0 || slices.EqualFunc(servers, known, func(a, b wire.PeerAddrs) bool {
		return a.Peer == b.Peer && slices.Equal(a.Addrs, b.Addrs)
	})
	if same {
		return servers, nil
	}
	n.home.Servers = servers
	return servers, saveHome(n.id.dir, &n.home)
}

// maxServers is more than a cell has voters and standbys.
const maxServers = 32

func (n *Node) forgottenByCell() bool {
	v := n.homeView()
	return len(v.Members) > 0 && !slices.Contains(v.Members, n.self)
}

// homeView is what this node knows of its cell: of its own knowledge as a
// server, else as the leader told it last. One that was taken out of the group
// hears nothing more from it, the log of one that was away is behind, and one
// whose leader died while it was added was never told who is in it.
func (n *Node) homeView() wire.CellView {
	n.mu.Lock()
	c, view := n.cell, n.home.View
	n.mu.Unlock()
	if c == nil {
		return view
	}
	own := n.viewOf(c)
	switch {
	case view.Cell != own.Cell:
		return own
	case len(own.Voters) == 0:
		return view
	case !own.Leader.IsZero() || view.Term < own.Term:
		return own
	case view.Term > own.Term || !isServer(&view, n.self):
		return view
	}
	return own
}

func isServer(v *wire.CellView, peer workload.PeerID) bool {
	return isVoter(v, peer) || slices.ContainsFunc(v.Standby, func(p wire.PeerAddrs) bool { return p.Peer == peer })
}

// viewOf reads the view of a cell that this node serves.
func (n *Node) viewOf(c *cell) wire.CellView {
	v := wire.CellView{Cell: c.id, Term: c.Term()}
	v.Leader, _ = c.group.Leader()
	servers := c.group.Servers()
	c.Read(func(s *ledger.State) {
		v.Epoch = s.Cell().Epoch
		for _, m := range s.Members() {
			v.Members = append(v.Members, m.Node)
		}
		for _, sv := range servers.Servers {
			m, _ := s.Member(sv.ID)
			p := wire.PeerAddrs{Peer: sv.ID, Addrs: m.Addrs}
			if voters := servers.Voters(); slices.Contains(voters, sv.ID) {
				v.Voters = append(v.Voters, p)
			} else {
				v.Standby = append(v.Standby, p)
			}
		}
	})
	return v
}

func fullAddr(a string, peer workload.PeerID) string { return a + "/p2p/" + peer.String() }

// addrs are this node's addresses without its identity, few enough for a message.
func (n *Node) addrs() []string {
	suffix := "/p2p/" + n.self.String()
	var out []string
	for _, a := range n.host.Addrs() {
		if len(out) < 16 {
			out = append(out, trimSuffix(a, suffix))
		}
	}
	return out
}

func trimSuffix(s, suffix string) string {
	if len(s) > len(suffix) && s[len(s)-len(suffix):] == suffix {
		return s[:len(s)-len(suffix)]
	}
	return s
}

// learnAddrs connects to peers at the addresses that somebody told.
func (n *Node) learnAddrs(ctx context.Context, peers []wire.PeerAddrs) {
	for _, p := range peers {
		if p.Peer == n.self {
			continue
		}
		if _, connected := n.host.Admitted(p.Peer); connected {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		if err := n.host.ConnectPeer(ctx, p.Peer, p.Addrs); err != nil {
			n.log.Debug("peer not reached", "peer", p.Peer.Short(), "err", err)
		}
		cancel()
	}
}
