package node

import (
	"context"
	"crypto/ed25519"
	"slices"
	"sync"
	"time"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// The most results that a node remembers having drawn for, and the most workloads
// that it draws for: the oldest go, and of their tasks those that are left are checked.
const (
	maxDrawn      = 1 << 20
	maxDrawnLoads = 4096
)

// draws are what this node has drawn for the adaptive work that was submitted on it
// since it started. Of each task it draws for one result alone: else who returned one
// that is picked for a check could take it back and return another. What it forgets it
// does not draw for again. Its methods may be called from any goroutine.
type draws struct {
	mu    sync.Mutex
	drawn map[workload.ID]map[uint32]workload.Digest
	order []workload.ID // as they were submitted
	count int           // results of all
}

// begin lets results of a workload be drawn for, if its spec asks for that.
func (d *draws) begin(id workload.ID, spec *workload.Spec) {
	if spec.VerifyBy == nil || !spec.VerifyBy.Adaptive {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.drawn == nil {
		d.drawn = map[workload.ID]map[uint32]workload.Digest{}
	}
	if d.drawn[id] != nil {
		return
	}
	for len(d.order) >= maxDrawnLoads {
		d.forget()
	}
	d.drawn[id] = map[uint32]workload.Digest{}
	d.order = append(d.order, id)
}

func (d *draws) forget() {
	id := d.order[0]
	d.count -= len(d.drawn[id])
	delete(d.drawn, id)
	d.order = slices.Delete(d.order, 0, 1)
}

func (d *draws) knows(id workload.ID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.drawn[id] != nil
}

// note returns an error unless the result is the first one of its task that is shown
// to this node, or the same again.
func (d *draws) note(m *workload.Draw) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	tasks := d.drawn[m.Workload]
	if tasks == nil {
		return wire.Errorf(wire.NotFound, "%d workloads were submitted here since", maxDrawnLoads)
	}
	known, ok := tasks[m.Task]
	switch {
	case ok && known != m.Result:
		return wire.Errorf(wire.Refused, "another result of the task was drawn for before")
	case ok:
		return nil
	case d.count >= maxDrawn:
		return wire.Errorf(wire.Full, "%d results were drawn for", d.count)
	case m.Task >= workload.MaxVerifyTasks:
		return wire.Errorf(wire.Malformed, "task %d", m.Task)
	}
	tasks[m.Task] = m.Result
	d.count++
	return nil
}

// handleDraw draws whether a result of the owner's work is checked. Ed25519 signs the
// same bytes alike each time (RFC 8032), so asking again changes nothing.
func (n *Node) handleDraw(ctx context.Context, from workload.PeerID, m *wire.DrawMsg) (*wire.DrawAnswer, error) {
	if !n.MayLead(m.Draw.Workload.Cell, from) {
		return nil, wire.Errorf(wire.Unauthorized, "%s does not lead cell %s as far as this node knows", from.Short(), m.Draw.Workload.Cell)
	}
	if !n.draws.knows(m.Draw.Workload) {
		return nil, wire.Errorf(wire.NotFound, "not submitted here since this node started")
	}
	if err := n.committed(ctx, &m.Draw); err != nil {
		return nil, err
	}
	if err := n.draws.note(&m.Draw); err != nil {
		return nil, err
	}
	return &wire.DrawAnswer{Sig: signDraw(&m.Draw, n.id.owner)}, nil
}

func signDraw(d *workload.Draw, key ed25519.PrivateKey) []byte {
	return workload.Sign(workload.DomainDraw, wire.MustMarshal(d), key).Sig
}

// drawVoters returns the cell that this node serves and its voters, as the group's log
// names them. A member that is no server knows them from the leader alone, which could
// name itself: such a node does not draw.
func (n *Node) drawVoters(id workload.CellID) (*cell, []workload.PeerID, error) {
	n.mu.Lock()
	c := n.cell
	n.mu.Unlock()
	if c == nil || c.id != id {
		return nil, nil, errNoServer
	}
	if servers := c.group.Servers(); servers.Has(n.self) {
		return c, servers.Voters(), nil
	}
	return nil, nil, errNoServer
}

var errNoServer = wire.Errorf(wire.Refused, "it is no server of the cell, so that it knows the voters from the leader alone")

// committed returns nil once a majority of the voters have the result in their ledgers,
// and this node in its own. The leader's word is not enough: one that is in league with
// a worker could learn how a draw comes out before the worker commits itself.
func (n *Node) committed(ctx context.Context, d *workload.Draw) error {
	c, voters, err := n.drawVoters(d.Workload.Cell)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, committedLag+time.Second)
	defer cancel()
	answers := make(chan error, len(voters)) // nobody waits for a reader
	for _, v := range voters {
		go func() {
			answers <- (caller{n}).Call(ctx, v, wire.ProtoCommitted, &wire.DrawMsg{Draw: *d}, &wire.Ack{})
		}()
	}
	have := 0
	var first error
	for range voters {
		if err := <-answers; err == nil {
			have++
		} else if first == nil {
			first = err
		}
		if have > len(voters)/2 {
			return c.hasResult(ctx, d, n.self)
		}
	}
	return wire.Errorf(wire.Refused, "%d of %d voters have the result: %v", have, len(voters), first)
}

// committedLag is how long a voter waits for its ledger to have a result.
const committedLag = 3 * time.Second

// handleCommitted says whether this voter's ledger has a result that waits for a draw.
func (n *Node) handleCommitted(ctx context.Context, from workload.PeerID, m *wire.DrawMsg) (*wire.Ack, error) {
	n.mu.Lock()
	c := n.cell
	n.mu.Unlock()
	if c == nil || c.id != m.Draw.Workload.Cell {
		return nil, wire.Errorf(wire.Refused, "this node does not vote in cell %s", m.Draw.Workload.Cell)
	}
	if err := c.hasResult(ctx, &m.Draw, from); err != nil {
		return nil, err
	}
	return &wire.Ack{}, nil
}

// hasResult returns nil once this server's ledger has a result that waits for the draw of
// the node home, an error of kind wire.NotFound when it has not in committedLag.
func (c *cell) hasResult(ctx context.Context, d *workload.Draw, home workload.PeerID) error {
	late := time.After(committedLag)
	for {
		var err error
		c.Read(func(s *ledger.State) { err = s.Waits(d, home) })
		if err == nil {
			return nil
		}
		select {
		case <-time.After(witnessPoll):
			continue
		case <-late:
		case <-ctx.Done():
		}
		return wire.Errorf(wire.NotFound, "%v", err)
	}
}
