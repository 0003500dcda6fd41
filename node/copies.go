package node

import (
	"context"
	"time"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// copies is what a leader knows of a standby's blobs. A standby fetches what it
// lacks by itself (mend.go); the leader only asks how far it is.
type copies struct {
	asking bool
	whole  bool // it held all that a voter holds, and has missed no hold since
	missed int  // holds; an answer counts only if this has not changed meanwhile
}

// forgetCopies begins a term: what an earlier one knew may be over.
func (n *Node) forgetCopies() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.copies = map[workload.PeerID]*copies{}
}

// hasCopies reports whether a standby holds all that a voter must.
func (n *Node) hasCopies(peer workload.PeerID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.copies[peer]
	return c != nil && c.whole
}

// missedHold says that a standby did not get what was sent to every server, so
// that it has to be asked again.
func (n *Node) missedHold(peer workload.PeerID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c := n.copies[peer]; c != nil {
		c.whole = false
		c.missed++
	}
}

// copiesWithin bounds one question to a standby.
const copiesWithin = 10 * time.Second

// awaitCopies asks a standby whether it holds all that a voter must, unless it
// is being asked already. It does not wait for the answer.
func (n *Node) awaitCopies(ctx context.Context, c *cell, peer workload.PeerID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	state := n.copies[peer]
	if state == nil {
		state = &copies{}
		n.copies[peer] = state
	}
	if state.asking {
		return
	}
	state.asking = true
	missed := state.missed
	go func() {
		err := n.askWhole(ctx, c, peer)
		if err != nil {
			n.log.Debug("a standby is not whole yet", "peer", peer.Short(), "err", err)
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		state.asking = false
		state.whole = err == nil && state.missed == missed
	}()
}

func (n *Node) askWhole(ctx context.Context, c *cell, peer workload.PeerID) error {
	msg := wire.WholeMsg{Cell: c.id}
	c.Read(func(s *ledger.State) { msg.Index, _ = s.Head() })
	ctx, cancel := context.WithTimeout(ctx, copiesWithin)
	defer cancel()
	return (caller{n}).Call(ctx, peer, wire.ProtoWhole, &msg, &wire.Ack{})
}
