package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/perrin-mesh/perrin/mesh"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/leader"
	"github.com/perrin-mesh/perrin/workload"
)

// maxAnswer bounds any answer in bytes.
const maxAnswer = wire.MaxBulk

// caller sends typed requests over the mesh.
type caller struct{ n *Node }

// brief are the protocols whose answers are small, so that their calls may share
// a lane.
var brief = map[string]bool{
	wire.ProtoSubmit: true, wire.ProtoOffer: true, wire.ProtoCall: true, wire.ProtoRelease: true, wire.ProtoAward: true,
	wire.ProtoTake: true, wire.ProtoReturn: true, wire.ProtoClose: true, wire.ProtoDone: true,
}

// Call implements leader.Caller.
func (c caller) Call(ctx context.Context, to workload.PeerID, proto string, req, resp any) error {
	raw, err := wire.Marshal(req)
	if err != nil {
		return err
	}
	q, asks := req.(*wire.QueryMsg)
	waits := asks && q.Op == leader.QueryWait // its answer is small as a rule
	most := maxAnswer
	if brief[proto] || waits {
		most = wire.MaxSmall
	}
	answer, err := c.n.host.Call(ctx, to, proto, raw, most)
	if waits && errors.Is(err, wire.TooLarge) {
		answer, err = c.n.host.Call(ctx, to, proto, raw, maxAnswer)
	}
	if err != nil {
		return err
	}
	return wire.Unmarshal(answer, resp)
}

// Name implements leader.Caller.
func (c caller) Name(peer workload.PeerID) string {
	id, _ := c.n.host.Admitted(peer)
	return id.Name
}

// RTT implements leader.Caller.
func (c caller) RTT(peer workload.PeerID) time.Duration { return c.n.host.RTT(peer) }

// viewFor is what this node knows of a cell.
func (n *Node) viewFor(id workload.CellID) (wire.CellView, bool) {
	if id == n.homeCell() {
		return n.homeView(), true
	}
	for _, v := range n.siblingViews() {
		if v.Cell == id {
			return v, true
		}
	}
	return wire.CellView{}, false
}

// MayLead implements worker.Leaders.
func (n *Node) MayLead(id workload.CellID, peer workload.PeerID) bool {
	v, ok := n.knownCell(id)
	return ok && (v.Leader == peer || isVoter(&v, peer))
}

// Voters implements worker.Leaders.
func (n *Node) Voters(id workload.CellID) []workload.PeerID {
	v, _ := n.knownCell(id)
	return peersOf(v.Voters)
}

// knownCell is a cell of which this node knows, or that it finds in two seconds.
func (n *Node) knownCell(id workload.CellID) (wire.CellView, bool) {
	if v, ok := n.viewFor(id); ok {
		return v, true
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return n.findCell(ctx, id)
}

// CallLeader implements worker.Leaders: it asks the leader of a cell, follows
// redirects, and asks again after a moment when nobody leads, until ctx ends.
func (n *Node) CallLeader(ctx context.Context, id workload.CellID, proto string, req, resp any) error {
	return n.callUntil(ctx, id, proto, req, resp, func(error) bool { return false })
}

// callUntil is CallLeader that gives up on an error which over says is final.
func (n *Node) callUntil(ctx context.Context, id workload.CellID, proto string, req, resp any, over func(error) bool) error {
	var last error
	wait := 20 * time.Millisecond
	for {
		err := n.callOnce(ctx, id, proto, req, resp)
		if err == nil || !worthRepeating(err) || over(err) {
			return err
		}
		last = err
		select {
		case <-time.After(wait):
			wait = min(2*wait, 500*time.Millisecond)
		case <-ctx.Done():
			if !errors.Is(last, wire.Busy) && !errors.Is(last, wire.NoSpace) {
				last = errors.Join(wire.Unavailable, last)
			}
			return fmt.Errorf("leader of cell %s: %w", id, last)
		}
	}
}

// worthRepeating reports whether another leader, or the same one later, may answer.
func worthRepeating(err error) bool {
	return errors.Is(err, wire.NotLeader) || errors.Is(err, wire.Unavailable) || errors.Is(err, wire.Busy) ||
		errors.Is(err, wire.NoSpace) || errors.Is(err, mesh.ErrNotServed)
}

// callOnce tries who is thought to lead, whoever that one names, and then the
// other voters.
func (n *Node) callOnce(ctx context.Context, id workload.CellID, proto string, req, resp any) error {
	queue := n.whoMayLead(ctx, id)
	last := error(wire.Errorf(wire.Unavailable, "cell %s is not known here", id))
	var asked []workload.PeerID
	looked := false
	for {
		if len(queue) == 0 && !looked && id != n.homeCell() && worthRepeating(last) {
			looked = true // a digest names the leader alone, and that one is gone
			v, _ := n.lookUp(ctx, id)
			queue = peersOf(v.Voters)
		}
		if len(queue) == 0 {
			return last
		}
		peer := queue[0]
		queue = queue[1:]
		if slices.Contains(asked, peer) || peer.IsZero() {
			continue
		}
		asked = append(asked, peer)
		last = n.callPeer(ctx, id, peer, proto, req, resp)
		var e *wire.Error
		switch {
		case last == nil:
			n.heardLeader(id, peer)
			return nil
		case errors.As(last, &e) && e.Kind == wire.NotLeader && !e.Leader.IsZero():
			queue = append([]workload.PeerID{e.Leader}, queue...)
		case !worthRepeating(last), errors.Is(last, wire.NoSpace):
			return last
		}
	}
}

func peersOf(list []wire.PeerAddrs) []workload.PeerID {
	var out []workload.PeerID
	for _, p := range list {
		out = append(out, p.Peer)
	}
	return out
}

// callPeer asks one voter. When the answer is slow, it looks whether somebody
// else leads meanwhile: a machine that is gone never says so.
func (n *Node) callPeer(ctx context.Context, id workload.CellID, peer workload.PeerID, proto string, req, resp any) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if peer != n.self {
		slow := time.AfterFunc(slowAnswer, func() {
			if id == n.homeCell() {
				n.leaveDeposed(ctx, cancel, peer)
			} else {
				n.host.Suspect(peer) // a dead machine's connection is closed, and with it the call
			}
		})
		defer slow.Stop()
	}
	return (caller{n}).Call(ctx, peer, proto, req, resp)
}

// slowAnswer is after how long a leader that has not answered is doubted.
const slowAnswer = time.Second

// leaveDeposed cancels a request to a peer that does not lead any more, once
// that is known here. A plain member knows it from the answer to its offer.
func (n *Node) leaveDeposed(ctx context.Context, cancel func(), peer workload.PeerID) {
	n.doubtLeader()
	for {
		if v := n.homeView(); !v.Leader.IsZero() && v.Leader != peer {
			cancel()
			return
		}
		if !pause(ctx, 250*time.Millisecond) {
			return
		}
	}
}

// doubtLeader has the next offer told at once.
func (n *Node) doubtLeader() {
	select {
	case n.doubt <- struct{}{}:
	default:
	}
}

func (n *Node) whoMayLead(ctx context.Context, id workload.CellID) []workload.PeerID {
	if id == n.homeCell() && n.currentLeader() != nil {
		return []workload.PeerID{n.self}
	}
	v, ok := n.viewFor(id)
	if !ok {
		v, _ = n.findCell(ctx, id)
	}
	n.mu.Lock()
	queue := []workload.PeerID{n.leaders[id], v.Leader}
	n.mu.Unlock()
	return append(queue, peersOf(v.Voters)...)
}

// heardLeader remembers who answered as a cell's leader.
func (n *Node) heardLeader(id workload.CellID, peer workload.PeerID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if id == n.home.Cell && n.cell == nil {
		n.home.View.Leader = peer
	}
	if id == n.home.Cell {
		return
	}
	if n.leaders[id].IsZero() && len(n.leaders) >= maxLeaders {
		clear(n.leaders) // they are hints
	}
	n.leaders[id] = peer
}
