package node

import (
	"context"
	"fmt"
	"time"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/rights"
)

// handlePicture shows a peer this machine, and of what runs here what it may read.
func (n *Node) handlePicture(_ context.Context, from workload.PeerID, m *wire.PictureMsg) (*workload.Picture, error) {
	p := n.picture()
	if from == n.self {
		return p, nil
	}
	g, err := n.judge().Grant(from, m.Token, rights.Observe, time.Now())
	p.Discreet(func(owner workload.PeerID, id workload.ID) bool { return err == nil && g.Covers(owner, id) })
	return p, nil
}

func (n *Node) picture() *workload.Picture {
	p := n.worker.Picture()
	p.Sockets, p.Enforced = int32(n.machine.topo.Sockets()), n.machine.enforced()
	return p
}

// enforced says in words what holds CPUs on this machine.
func (m *machine) enforced() []string {
	if m.used == nil {
		return nil
	}
	c, words := m.controls, []string{}
	say := func(yes bool, with, without string) {
		if !yes {
			with = without
		}
		words = append(words, with)
	}
	say(c.CPUSet, "cpusets", "affinity (cpusets are not writable)")
	say(c.Quota, "CPU time limits", "no CPU time limits (no cpu cgroup is writable)")
	say(c.Freeze, "freezer", "SIGSTOP (no freezer)")
	say(c.Cookies, "core scheduling", "no core scheduling: "+c.Why)
	return words
}

// pictureFor bounds how long a node is asked for its picture.
const pictureFor = 3 * time.Second

// Picture implements api.Backend.
func (g gateway) Picture(ctx context.Context, name string) (*workload.Picture, error) {
	n := g.n
	if name == n.name || name == n.self.String() {
		return n.picture(), nil
	}
	offers, err := n.offersOfCell(ctx)
	if err != nil {
		return nil, apiError(err)
	}
	id, err := nodeNamed(offers, name)
	if err != nil {
		return nil, err
	}
	if id == n.self {
		return n.picture(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, pictureFor)
	defer cancel()
	p := new(workload.Picture)
	if err := (caller{n}).Call(ctx, id, wire.ProtoPicture, &wire.PictureMsg{Token: n.tokenOf(ctx)}, p); err != nil {
		return nil, apiError(err)
	}
	return p, nil
}

// nodeNamed finds the node that a user names.
func nodeNamed(offers []workload.Offer, name string) (workload.PeerID, error) {
	all := make([]called, 0, len(offers))
	for _, o := range offers {
		all = append(all, called{o.Node, o.Machine.Name})
	}
	found := pick(all, name)
	switch len(found) {
	case 1:
		return found[0].id, nil
	case 0:
		return workload.PeerID{}, &api.Error{Kind: api.NotFound, Message: fmt.Sprintf("no node %.80q in this cell", name), Hint: "`perrin nodes` lists them"}
	}
	return workload.PeerID{}, severalNamed(api.Invalid, name, found)
}
