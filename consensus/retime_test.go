package consensus

import (
	"errors"
	"slices"
	"testing"
	"time"
)

func TestRetimeKeepsTheStateOfALoneVoter(t *testing.T) {
	c := newCluster(t, 1, 0, func(c *cluster) { c.timing = Solo() })
	g := c.nodes[0].group
	want := c.propose(c.nodes[0], "before", 10)
	term := g.Term()
	if err := g.Retime(c.ctx, Mesh()); err != nil {
		t.Fatal(err)
	}
	if !g.IsLeader() || g.Term() <= term {
		t.Errorf("after retiming: leader %v in term %d, want to lead in a term after %d", g.IsLeader(), g.Term(), term)
	}
	want = append(want, c.propose(c.nodes[0], "after", 10)...)
	c.timing = Mesh()
	second := c.start(1)
	c.join(second, true)
	c.agree(want, c.nodes...)
	if got := g.Stats().Retimed; got != 1 || g.Timing() != Mesh() {
		t.Errorf("retimed %d times to %+v, want once to that of a mesh", got, g.Timing())
	}
	bad := Mesh()
	bad.Lease = 2 * bad.Heartbeat
	if err := g.Retime(c.ctx, bad); err == nil || !g.IsLeader() {
		t.Errorf("a lease above the heartbeat was accepted: %v", err)
	}
}

func TestRetimeAnswersPendingProposals(t *testing.T) {
	c := newCluster(t, 1, 0)
	n := c.nodes[0]
	hold := make(chan struct{})
	n.ledger.mu.Lock()
	n.ledger.hold = hold
	n.ledger.mu.Unlock()
	var answers []chan error
	for range 3 {
		answer := make(chan error, 1)
		answers = append(answers, answer)
		go func() {
			_, _, err := n.group.Propose(c.ctx, []byte("pending"))
			answer <- err
		}()
	}
	busy := func() bool { return n.group.Stats().Pending == 3 }
	c.until("three proposals to wait", busy, ticking)
	retimed := make(chan error, 1)
	go func() { retimed <- n.group.Retime(c.ctx, Mesh()) }()
	c.until("the instance to be taken away", func() bool { return n.group.current() == nil }, ticking)
	close(hold)
	for _, a := range answers {
		if err := <-a; err != nil {
			t.Errorf("a pending proposal with a majority = %v, want nil", err)
		}
	}
	if err := <-retimed; err != nil {
		t.Fatal(err)
	}
	c.propose(n, "after", 1)
	if want := []string{"pending", "pending", "pending", "after-0"}; !slices.Equal(n.ledger.list(), want) {
		t.Errorf("state = %q, want %q", n.ledger.list(), want)
	}
}

func TestRetimeWithoutAMajorityEndsPendingProposals(t *testing.T) {
	c := newCluster(t, 3, 0)
	old := c.leader()
	want := c.propose(old, "before", 3)
	c.net.isolate(old.id, true)
	answer := make(chan error, 1)
	go func() {
		_, _, err := old.group.Propose(c.ctx, []byte("pending"))
		answer <- err
	}()
	c.until("the proposal to be in the log", func() bool { return old.group.Stats().Pending == 1 || len(answer) > 0 }, ticking)
	if err := old.group.Retime(c.ctx, quick()); err != nil {
		t.Fatal(err)
	}
	if err := <-answer; !errors.Is(err, ErrLeadershipLost) && !errors.Is(err, ErrNotLeader) {
		t.Errorf("pending proposal = %v, want ErrLeadershipLost", err)
	}
	next := c.leader(old)
	want = append(want, c.propose(next, "after", 3)...)
	c.net.isolate(old.id, false)
	c.agree(want, c.nodes...)
}

func TestRetimeOfFollowersAndLeaderUnderLoad(t *testing.T) {
	c := newCluster(t, 3, 0)
	acked := make(chan []string, 1)
	stop := make(chan struct{})
	go func() {
		var done []string
		for i := 0; ; i++ {
			select {
			case <-stop:
				acked <- done
				return
			default:
			}
			data := string(rune('a'+i%26)) + time.Duration(i).String()
			if _, _, err := c.leader().group.Propose(c.ctx, []byte(data)); err == nil {
				done = append(done, data)
			}
		}
	}()
	for _, n := range c.nodes {
		if err := n.group.Retime(c.ctx, quick()); err != nil {
			t.Fatal(err)
		}
		c.leader()
	}
	close(stop)
	done := <-acked
	leader := c.leader()
	c.propose(leader, "last", 1)
	for _, n := range c.nodes {
		for got := n.ledger.list(); !slices.Contains(got, "last-0"); got = n.ledger.await(t, c.ctx, len(got)+1) {
		}
		got := n.ledger.list()
		for _, d := range done {
			if !slices.Contains(got, d) {
				t.Fatalf("server %s lost the acknowledged %q", n.id.Short(), d)
			}
		}
		if !slices.IsSorted(n.ledger.indexes) || len(slices.Compact(slices.Clone(n.ledger.indexes))) != len(n.ledger.indexes) {
			t.Errorf("server %s applied an entry twice or out of order", n.id.Short())
		}
	}
}
