package consensus

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestFailoverInVirtualTime checks the clockwork of a mesh: how long a cell goes
// without a leader, and how soon a leader without followers gives up.
func TestFailoverInVirtualTime(t *testing.T) {
	for round := range 5 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 5, 0, func(c *cluster) { c.timing = Mesh() })
				old := c.leader()
				want := c.propose(old, "before", 5)
				c.net.isolate(old.id, true)
				cut := time.Now()
				c.steppedDown(old)
				if took := time.Since(cut); took > 2*Mesh().Lease+100*time.Millisecond {
					t.Errorf("the isolated leader stepped down after %v, want about a lease of %v", took, Mesh().Lease)
				}
				next := c.leader(old)
				if took := time.Since(cut); took > 6*time.Second {
					t.Errorf("a new leader after %v, want 2 to 4 s", took)
				}
				if _, err := old.group.VerifyLeader(c.ctx); err == nil {
					t.Error("the old leader verified itself")
				}
				want = append(want, c.propose(next, "after", 5)...)
				c.net.isolate(old.id, false)
				c.agree(want, c.nodes...)
			})
		})
	}
}

// TestLeadershipChangesInVirtualTime moves leadership around for a while and
// checks that each server's channel ends with the truth.
func TestLeadershipChangesInVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 0, func(c *cluster) { c.timing = Mesh() })
		var feeds []<-chan Leadership
		for _, n := range c.nodes {
			feeds = append(feeds, n.group.LeadershipChanges())
		}
		for range 6 {
			if err := c.leader().group.TransferLeadership(c.ctx, peer(99)); err == nil {
				t.Fatal("leadership went to a stranger")
			}
			old := c.leader()
			to := c.others(old)[0]
			if err := old.group.TransferLeadership(c.ctx, to.id); err != nil {
				t.Fatal(err)
			}
			c.leader()
		}
		last := c.leader()
		c.agree(c.propose(last, "entry", 3), c.nodes...)
		synctest.Wait()
		for i, n := range c.nodes {
			want := Leadership{Term: last.group.Term(), Leader: last.id, Leading: n == last}
			if got := <-feeds[i]; got != want {
				t.Errorf("server %d ends with %+v, want %+v", i, got, want)
			}
		}
	})
}

// TestRetimeSaysLastWhoLeads: the last word of the instance that was closed must
// not come after the first of the new one, or whoever follows the channel
// believes that nobody leads.
func TestRetimeSaysLastWhoLeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 0, func(c *cluster) { c.timing = Solo() })
		g := c.nodes[0].group
		feed := g.LeadershipChanges()
		for round := range 20 {
			old := g.last
			if err := g.Retime(c.ctx, []Timing{Mesh(), Solo()}[round%2]); err != nil {
				t.Fatal(err)
			}
			select {
			case <-old.told:
			default:
				t.Fatal("the old instance may still say who leads")
			}
			synctest.Wait()
			if got, want := <-feed, (Leadership{Term: g.Term(), Leader: c.nodes[0].id, Leading: true}); got != want {
				t.Fatalf("round %d: the channel ends with %+v, want %+v", round, got, want)
			}
		}
	})
}

// TestQuorumComesAndGoesInVirtualTime cuts off one server after another; a
// majority never loses an entry and a minority never gains one.
func TestQuorumComesAndGoesInVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 0, func(c *cluster) { c.timing = Mesh() })
		var want []string
		for round := range 4 {
			leader := c.leader()
			want = append(want, c.propose(leader, fmt.Sprintf("round-%d", round), 3)...)
			away := c.nodes[round%3]
			c.net.isolate(away.id, true)
			if away == leader {
				c.steppedDown(away)
			}
			want = append(want, c.propose(c.leader(away), fmt.Sprintf("without-%d", round), 3)...)
			c.net.isolate(away.id, false)
			c.agree(want, c.nodes...)
		}
		if got := c.nodes[0].ledger.list(); !slices.Equal(got, want) {
			t.Errorf("state = %q, want %q", got, want)
		}
	})
}

// TestPromotionThatOneVoterMissed: the leader dies right after a promotion that
// only the new voter heard of. The two that are left are a majority and go on.
func TestPromotionThatOneVoterMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2, 1, func(c *cluster) { c.timing = Mesh() })
		founder, behind, promoted := c.nodes[0], c.nodes[1], c.nodes[2]
		c.net.isolate(behind.id, true)
		if _, err := founder.group.AddVoter(c.ctx, promoted.id, 0); err != nil {
			t.Fatal(err)
		}
		c.net.isolate(founder.id, true)
		c.net.isolate(behind.id, false)
		if s, _ := behind.group.Servers().Suffrage(promoted.id); s != Nonvoter {
			t.Fatal("the promotion reached the server that was to miss it")
		}
		if got := c.leader(founder); got != promoted {
			t.Errorf("leader is %s, want %s, which alone has the last entry", got.id.Short(), promoted.id.Short())
		}
		c.agree(c.propose(promoted, "after", 3), behind, promoted)
	})
}
