package consensus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"github.com/perrin-mesh/perrin/workload"
)

// changeWait is how long a membership change waits for the leader to take it on
// when the context has no deadline. It waits while another one is uncommitted.
const changeWait = 10 * time.Second

// Servers returns the latest configuration, which may not be committed yet.
func (g *Group) Servers() Configuration { return g.members.current() }

// AddVoter adds a voter or gives a nonvoter its vote, and returns the index of
// the new configuration once it is committed. A nonzero prevIndex must be the
// index of the latest configuration. Add a server as a nonvoter first and wait
// until Progress shows that it has caught up, or commits wait for it.
func (g *Group) AddVoter(ctx context.Context, id workload.PeerID, prevIndex uint64) (uint64, error) {
	return g.change(ctx, "add voter", id, func(r *raft.Raft, wait time.Duration) raft.IndexFuture {
		return r.AddVoter(serverID(id), serverAddress(id), prevIndex, wait)
	})
}

// AddNonvoter adds a standby; a voter stays one. See AddVoter for the rest.
func (g *Group) AddNonvoter(ctx context.Context, id workload.PeerID, prevIndex uint64) (uint64, error) {
	return g.change(ctx, "add nonvoter", id, func(r *raft.Raft, wait time.Duration) raft.IndexFuture {
		return r.AddNonvoter(serverID(id), serverAddress(id), prevIndex, wait)
	})
}

// DemoteVoter takes a server's vote. See AddVoter for the rest.
func (g *Group) DemoteVoter(ctx context.Context, id workload.PeerID, prevIndex uint64) (uint64, error) {
	return g.change(ctx, "demote", id, func(r *raft.Raft, wait time.Duration) raft.IndexFuture {
		return r.DemoteVoter(serverID(id), prevIndex, wait)
	})
}

// Remove removes a server. A leader that removes itself steps down when that is
// committed. See AddVoter for the rest.
func (g *Group) Remove(ctx context.Context, id workload.PeerID, prevIndex uint64) (uint64, error) {
	index, err := g.change(ctx, "remove", id, func(r *raft.Raft, wait time.Duration) raft.IndexFuture {
		return r.RemoveServer(serverID(id), prevIndex, wait)
	})
	if in := g.current(); err == nil && in != nil && id != g.cfg.Self && !g.members.knows(id) {
		in.trans.layer.drop(id)
	}
	return index, err
}

func (g *Group) change(ctx context.Context, verb string, id workload.PeerID,
	start func(*raft.Raft, time.Duration) raft.IndexFuture,
) (uint64, error) {
	if id.IsZero() {
		return 0, fmt.Errorf("group %q: %s: want a peer ID", g.cfg.Group, verb)
	}
	wait := changeWait
	if end, ok := ctx.Deadline(); ok {
		wait = max(time.Until(end), time.Millisecond)
	}
	var index uint64
	err := g.await(ctx, func(r *raft.Raft) error {
		f := start(r, wait)
		err := f.Error()
		if err == nil {
			index = f.Index()
		}
		return explainChange(err)
	})
	if err != nil {
		return 0, fmt.Errorf("group %q: %s %s: %w", g.cfg.Group, verb, id, err)
	}
	return index, nil
}

// refusal is an error that certainly changed nothing.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

// explainChange marks what the library refused before it did anything.
func explainChange(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return refusal{errors.New("another change is under way")}
	case strings.HasPrefix(err.Error(), "configuration changed since"):
		return refusal{fmt.Errorf("%w: %s", ErrConfigChanged, err.Error())}
	case strings.Contains(err.Error(), "at least one voter"):
		return refusal{err}
	}
	return err
}

// TransferLeadership hands leadership to a voter, or to the one that is furthest
// along when to is zero, and returns when this server has stepped down. The new
// leader may still be on its way. When it fails this server leads on.
func (g *Group) TransferLeadership(ctx context.Context, to workload.PeerID) error {
	if s, ok := g.Servers().Suffrage(to); !to.IsZero() && (!ok || s != Voter) {
		return fmt.Errorf("group %q: transfer leadership to %s: it is no voter", g.cfg.Group, to)
	}
	err := g.await(ctx, func(r *raft.Raft) error {
		if to.IsZero() {
			return r.LeadershipTransfer().Error()
		}
		return r.LeadershipTransferToServer(serverID(to), serverAddress(to)).Error()
	})
	if err != nil {
		return fmt.Errorf("group %q: transfer leadership: %w", g.cfg.Group, err)
	}
	return nil
}

// Progress is what the leader knows of another server.
type Progress struct {
	Contact time.Time // sending time of the latest heartbeat that it answered; zero when none
	Last    uint64    // the last entry of its log, as of its latest answer
	Behind  uint64    // how many entries the leader's log has beyond that
}

// Progress tells how far a server is. It works on the leader only, and is as
// old as the latest heartbeat.
func (g *Group) Progress(id workload.PeerID) (Progress, error) {
	in := g.current()
	if in == nil {
		return Progress{}, ErrStopped
	}
	if in.raft.State() != raft.Leader {
		return Progress{}, g.notLeader(in)
	}
	c, last := in.trans.contacts.of(id), in.raft.LastIndex()
	return Progress{Contact: c.sent, Last: c.last, Behind: last - min(last, c.last)}, nil
}
