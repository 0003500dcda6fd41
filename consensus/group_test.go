package consensus

import (
	"slices"
	"testing"
)

func TestGroupsOfAllSizesAgree(t *testing.T) {
	for _, size := range []struct {
		name             string
		voters, standbys int
	}{{"one voter", 1, 0}, {"one voter and a standby", 1, 1}, {"three voters", 3, 0}, {"five voters", 5, 0}, {"three voters and two standbys", 3, 2}} {
		t.Run(size.name, func(t *testing.T) {
			c := newCluster(t, size.voters, size.standbys)
			leader := c.leader()
			want := c.propose(leader, "entry", 20)
			for _, n := range c.nodes {
				if got := n.ledger.await(t, c.ctx, len(want)); !slices.Equal(got, want) {
					t.Errorf("server %s has %q, want %q", n.id.Short(), got, want)
				}
			}
			if got := leader.group.Servers(); len(got.Voters()) != size.voters || len(got.Servers) != size.voters+size.standbys {
				t.Errorf("servers = %+v", got)
			}
		})
	}
}
