package consensus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/perrin-mesh/perrin/workload"
)

// Propose replicates data as one entry and returns, once a majority of the
// voters has it on disk and it is applied here, what the state machine returned
// and the entry's index. It works on the leader only. See the package comment
// for what each error leaves open; when ctx ends the outcome is unknown.
func (g *Group) Propose(ctx context.Context, data []byte) (result any, index uint64, err error) {
	if len(data) == 0 || len(data) > g.cfg.MaxEntry {
		return nil, 0, fmt.Errorf("group %q: propose %d bytes of at most %d: %w", g.cfg.Group, len(data), g.cfg.MaxEntry, ErrTooLarge)
	}
	var future raft.ApplyFuture
	err = g.await(ctx, func(r *raft.Raft) error {
		f := r.ApplyLog(raft.Log{Data: data}, 0)
		if err := f.Error(); err != nil {
			return err
		}
		future = f
		return nil
	})
	g.count.proposed.Add(1)
	if err != nil {
		g.count.failed.Add(1)
		return nil, 0, fmt.Errorf("group %q: propose: %w", g.cfg.Group, err)
	}
	return future.Response(), future.Index(), nil
}

// Barrier returns when everything that was proposed before it is applied here.
// A new leader calls it before it acts on the state. It works on the leader only.
func (g *Group) Barrier(ctx context.Context) error {
	err := g.await(ctx, func(r *raft.Raft) error { return r.Barrier(0).Error() })
	if err != nil {
		return fmt.Errorf("group %q: barrier: %w", g.cfg.Group, err)
	}
	return nil
}

// await runs an exchange with the library on its own goroutine, since the
// library's calls do not end with a context.
func (g *Group) await(ctx context.Context, call func(*raft.Raft) error) error {
	in, err := g.enter(ctx)
	if err != nil {
		return err
	}
	if in.raft.State() != raft.Leader {
		in.leave()
		return g.notLeader(in)
	}
	if in.load() > g.cfg.MaxPending {
		in.leave()
		return ErrBusy
	}
	answer := make(chan error, 1)
	go func() {
		defer in.leave()
		answer <- in.settle(ctx, call)
	}()
	select {
	case err = <-answer:
		return g.explain(in, err)
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, ctx.Err())
	case <-in.done:
		return fmt.Errorf("%w: %w", ErrLeadershipLost, ErrUnknownOutcome)
	}
}

// transferRetry is how often a call is tried again while leadership is handed over.
const transferRetry = 5 * time.Millisecond

// settle makes a call again while the library refuses it because leadership is
// being handed over. That ends with another leader or with this one leading on;
// the library also says so for a moment after it came back to office.
func (in *instance) settle(ctx context.Context, call func(*raft.Raft) error) error {
	for {
		err := call(in.raft)
		if !errors.Is(err, raft.ErrLeadershipTransferInProgress) {
			return err
		}
		select {
		case <-time.After(transferRetry):
		case <-ctx.Done():
			return err
		case <-in.trans.layer.ctx.Done():
			return err
		}
	}
}

func (in *instance) load() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.busy
}

// explain turns an error of the library into one of this package.
func (g *Group) explain(in *instance, err error) error {
	var refused refusal
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused):
		return refused.error
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return g.notLeader(in)
	case errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrRaftShutdown):
		return fmt.Errorf("%w: %w", ErrLeadershipLost, ErrUnknownOutcome)
	}
	return fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
}

func (g *Group) notLeader(in *instance) error {
	leader, _ := in.leader()
	if leader == g.cfg.Self {
		leader = workload.PeerID{}
	}
	return &NotLeaderError{Leader: leader}
}

// VerifyLeader proves that this server still leads and returns a time, not
// before the call, at which it certainly did: a majority of the voters answered
// heartbeats of its term that were sent at that time or later. So no other
// leader was in office before it. It costs one heartbeat to each server, is
// shared by concurrent callers, and takes one round trip to the majority.
//
// The time carries the monotonic clock, which stands still while the machine is
// suspended; who computes with it has to notice a suspend.
func (g *Group) VerifyLeader(ctx context.Context) (time.Time, error) {
	in, err := g.enter(ctx)
	if err != nil {
		return time.Time{}, err
	}
	defer in.leave()
	at, err := g.verify(ctx, in)
	if err != nil {
		return time.Time{}, fmt.Errorf("group %q: verify leader: %w", g.cfg.Group, err)
	}
	return at, nil
}

func (g *Group) verify(ctx context.Context, in *instance) (time.Time, error) {
	begin, term := time.Now(), in.raft.CurrentTerm()
	if !in.leads(term) {
		return time.Time{}, g.notLeader(in)
	}
	in.trans.beat.rush()
	defer in.trans.beat.calm()
	go in.raft.VerifyLeader() // makes it send heartbeats; its own verdict is not used
	for {
		news := in.trans.contacts.news()
		at, ok := in.trans.contacts.majority(g.members.current().Voters(), g.cfg.Self, term, time.Now())
		if !in.leads(term) {
			return time.Time{}, g.notLeader(in)
		}
		if ok && !at.Before(begin) {
			return at, nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return time.Time{}, ctx.Err()
		case <-in.trans.layer.ctx.Done():
			return time.Time{}, ErrStopped
		}
	}
}

// leads reports whether the instance leads in term.
func (in *instance) leads(term uint64) bool {
	return in.raft.State() == raft.Leader && in.raft.CurrentTerm() == term
}
