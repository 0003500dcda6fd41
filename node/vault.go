package node

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/seal"
)

// vault keeps the shares that this node was given as a helper, in memory alone.
// Its methods may be called from any goroutine.
type vault struct {
	mu     sync.Mutex
	shares map[workload.ID]*heldShare
	order  []workload.ID           // of their coming
	given  map[workload.PeerID]int // how many by whom
}

// heldShare is a share and the node that gave it.
type heldShare struct {
	*seal.Share
	from workload.PeerID
}

// maxShares bounds the shares that a node keeps, each in a locked page of memory.
const maxShares = 1024

// put keeps the share of a workload that a node gives, unless it has one. With too
// many the oldest of the node that gave the most goes: nodes are admitted, while
// keys of owners are for everybody to make.
func (v *vault) put(id workload.ID, from workload.PeerID, s *seal.Share) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.shares == nil {
		v.shares, v.given = map[workload.ID]*heldShare{}, map[workload.PeerID]int{}
	}
	if _, known := v.shares[id]; known {
		return false
	}
	v.shares[id] = &heldShare{s, from}
	v.order = append(v.order, id)
	v.given[from]++
	if len(v.order) > maxShares {
		v.drop(v.greediest())
	}
	return true
}

// greediest returns where, in order, the oldest share of the node that gave the most is.
func (v *vault) greediest() (at int) {
	most := 0
	for i, id := range v.order {
		if n := v.given[v.shares[id].from]; n > most {
			at, most = i, n
		}
	}
	return at
}

func (v *vault) drop(at int) {
	id := v.order[at]
	s := v.shares[id]
	s.Close()
	delete(v.shares, id)
	v.order = slices.Delete(v.order, at, at+1)
	if v.given[s.from]--; v.given[s.from] == 0 {
		delete(v.given, s.from)
	}
}

// wrap wraps the share of a workload; false when there is none.
func (v *vault) wrap(public []byte, b *seal.Binding) (wrapped []byte, known bool, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	s, known := v.shares[b.Workload]
	if !known {
		return nil, false, nil
	}
	wrapped, err = s.Wrap(public, b)
	return wrapped, true, err
}

// close overwrites all shares.
func (v *vault) close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, s := range v.shares {
		s.Close()
	}
	v.shares, v.order, v.given = nil, nil, nil
}

// handleShare keeps a share for an owner whose spec lists this node. Only the node
// that the owner signed gives it, and only of work in this node's cell: of other
// cells it cannot tell who holds a slot.
func (n *Node) handleShare(_ context.Context, from workload.PeerID, m *wire.ShareMsg) (*wire.Ack, error) {
	defer clear(m.Share)
	spec, err := n.sealedSpec(m.ID, m.Spec)
	if err != nil {
		return nil, err
	}
	switch home := n.homeCell(); {
	case from != spec.Seal.Home:
		return nil, wire.Errorf(wire.Unauthorized, "the spec was sealed on node %s: only that one gives shares of its key", spec.Seal.Home.Short())
	case !slices.Contains(spec.Seal.Helpers, n.self):
		return nil, wire.Errorf(wire.Refused, "the spec does not name this node as a helper")
	case spec.Seal.Cell != home:
		return nil, wire.Errorf(wire.Refused, "node %s is in cell %s and cannot tell who holds a slot in cell %s", n.name, home, spec.Seal.Cell)
	}
	share, err := seal.ParseShare(m.Share)
	if err != nil {
		return nil, wire.Errorf(wire.Malformed, "%v", err)
	}
	if !n.vault.put(m.ID, from, share) {
		share.Close()
		return nil, wire.Errorf(wire.Exists, "this node keeps a share of %s already", m.ID.Short())
	}
	n.log.Info("keeping a share of sealed work", "workload", m.ID.Short(), "from", from.Short())
	return &wire.Ack{}, nil
}

// giveShares gives each helper of a spec its share. All of them must take it.
func (n *Node) giveShares(ctx context.Context, id workload.ID, signed workload.Signed, c *workload.Seal, k *seal.Key) error {
	if len(c.Helpers) == 0 {
		return nil
	}
	shares, err := k.Split(int(c.Need), len(c.Helpers))
	if err != nil {
		return err
	}
	defer seal.CloseShares(shares)
	for i, h := range c.Helpers {
		raw, err := shares[i].Bytes()
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, patience)
		err = (caller{n}).Call(ctx, h, wire.ProtoShare, &wire.ShareMsg{Spec: signed, ID: id, Share: raw}, &wire.Ack{})
		cancel()
		clear(raw)
		if err != nil {
			return &api.Error{Kind: api.Unavailable, Message: fmt.Sprintf("helper %s did not take its share: %v", h.Short(), err), Hint: "name other helpers of this cell; `perrin nodes` shows who is there"}
		}
	}
	return nil
}
