package consensus

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"
)

// steppedDown waits until n does not lead.
func (c *cluster) steppedDown(n *node) {
	c.t.Helper()
	c.until("a leader to step down", func() bool { return !n.group.IsLeader() }, n.group.watch.news)
}

// others returns all servers but one.
func (c *cluster) others(n *node) []*node {
	return slices.DeleteFunc(slices.Clone(c.nodes), func(m *node) bool { return m == n })
}

// agree waits until every server has exactly the wanted entries.
func (c *cluster) agree(want []string, nodes ...*node) {
	c.t.Helper()
	for _, n := range nodes {
		if got := n.ledger.await(c.t, c.ctx, len(want)); !slices.Equal(got, want) {
			c.t.Fatalf("server %s has %q, want %q", n.id.Short(), got, want)
		}
	}
}

func TestAnotherServerLeadsWhenTheLeaderDies(t *testing.T) {
	c := newCluster(t, 3, 0)
	old := c.leader()
	want := c.propose(old, "before", 10)
	c.stop(slices.Index(c.nodes, old))
	next := c.leader(old)
	want = append(want, c.propose(next, "after", 10)...)
	c.agree(want, c.others(old)...)
	if leader, ok := c.others(old)[0].group.Leader(); !ok || leader != next.id {
		t.Errorf("leader is %s, want %s", leader, next.id)
	}
	if _, _, err := old.group.Propose(c.ctx, []byte("late")); !errors.Is(err, ErrStopped) {
		t.Errorf("propose on a closed server = %v, want ErrStopped", err)
	}
}

func TestIsolatedLeaderStepsDownAndForgetsWhatWasNotAgreed(t *testing.T) {
	c := newCluster(t, 3, 0)
	old := c.leader()
	want := c.propose(old, "before", 5)
	c.net.isolate(old.id, true)
	_, _, err := old.group.Propose(c.ctx, []byte("never agreed"))
	if !errors.Is(err, ErrLeadershipLost) || !errors.Is(err, ErrUnknownOutcome) {
		t.Fatalf("propose without a majority = %v, want ErrLeadershipLost and ErrUnknownOutcome", err)
	}
	c.steppedDown(old)
	if _, _, err := old.group.Propose(c.ctx, []byte("refused")); !errors.Is(err, ErrNotLeader) || errors.Is(err, ErrUnknownOutcome) {
		t.Errorf("propose on a follower = %v, want only ErrNotLeader", err)
	}
	next := c.leader(old)
	want = append(want, c.propose(next, "after", 5)...)
	c.net.isolate(old.id, false)
	c.agree(want, c.nodes...)
	var hint *NotLeaderError
	if _, _, err := old.group.Propose(c.ctx, []byte("x")); !errors.As(err, &hint) || hint.Leader != next.id {
		t.Errorf("propose on a follower = %v, want a hint to %s", err, next.id)
	}
}

func TestVerifyLeaderCountsFreshAnswersOfVotersOnly(t *testing.T) {
	c := newCluster(t, 3, 1, func(c *cluster) {
		c.timing.Heartbeat, c.timing.Election, c.timing.Lease = 2*time.Second, 2*time.Second, 2*time.Second
	})
	leader, standby := c.leader(), c.nodes[3]
	before := time.Now()
	at, err := leader.group.VerifyLeader(c.ctx)
	if err != nil || at.Before(before) || at.After(time.Now()) {
		t.Fatalf("verify = %v, %v, want a time since %v", at, err, before)
	}
	for _, n := range c.others(leader) {
		if n != standby {
			c.net.isolate(n.id, true)
		}
	}
	// The standby still answers, and the leader's lease still stands.
	ctx, cancel := context.WithTimeout(c.ctx, 500*time.Millisecond)
	defer cancel()
	if at, err := leader.group.VerifyLeader(ctx); err == nil {
		t.Errorf("verified at %v with the answers of a nonvoter alone", at)
	}
	if _, err := standby.group.VerifyLeader(c.ctx); !errors.Is(err, ErrNotLeader) {
		t.Errorf("verify on a standby = %v, want ErrNotLeader", err)
	}
}

func TestLeadershipIsHandedOver(t *testing.T) {
	c := newCluster(t, 3, 1)
	old := c.leader()
	to := c.others(old)[0]
	if err := old.group.TransferLeadership(c.ctx, c.nodes[3].id); err == nil {
		t.Error("leadership went to a standby")
	}
	changes := to.group.LeadershipChanges()
	if err := old.group.TransferLeadership(c.ctx, to.id); err != nil {
		t.Fatal(err)
	}
	if next := c.leader(old); next != to {
		t.Errorf("%s leads, want %s", next.id, to.id)
	}
	for l := range changes {
		if l.Leading {
			if l.Leader != to.id || l.Term != to.group.Term() {
				t.Errorf("leadership = %+v, want %s in term %d", l, to.id, to.group.Term())
			}
			break
		}
	}
	c.propose(to, "entry", 3)
}

func TestDeadVoterIsReplaced(t *testing.T) {
	c := newCluster(t, 3, 1)
	leader := c.leader()
	want := c.propose(leader, "before", 5)
	dead, standby := c.others(leader)[0], c.nodes[3]
	c.stop(slices.Index(c.nodes, dead))
	index, err := leader.group.AddVoter(c.ctx, standby.id, leader.group.Servers().Index)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := leader.group.Remove(c.ctx, dead.id, index-1); !errors.Is(err, ErrConfigChanged) {
		t.Errorf("remove with an old index = %v, want ErrConfigChanged", err)
	}
	if _, err := leader.group.Remove(c.ctx, dead.id, index); err != nil {
		t.Fatal(err)
	}
	if got := leader.group.Servers(); len(got.Servers) != 3 || got.Has(dead.id) || len(got.Voters()) != 3 {
		t.Errorf("servers = %+v, want three voters without %s", got, dead.id)
	}
	want = append(want, c.propose(leader, "after", 5)...)
	c.agree(want, c.others(dead)...)
}

func TestLeaderRemovesItself(t *testing.T) {
	c := newCluster(t, 3, 0)
	old := c.leader()
	want := c.propose(old, "before", 5)
	if _, err := old.group.Remove(c.ctx, old.id, 0); err != nil {
		t.Fatal(err)
	}
	c.steppedDown(old)
	next := c.leader(old)
	want = append(want, c.propose(next, "after", 5)...)
	c.agree(want, c.others(old)...)
	rest := c.others(old)
	for _, n := range rest {
		if n != next {
			if _, err := next.group.DemoteVoter(c.ctx, n.id, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := next.group.Remove(c.ctx, next.id, 0); err == nil || errors.Is(err, ErrUnknownOutcome) {
		t.Errorf("removing the last voter = %v, want a plain refusal", err)
	}
	c.agree(append(want, c.propose(next, "alone", 2)...), rest...)
}
