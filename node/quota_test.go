package node

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
)

// TestANodesAccountTakesNoQuota: what is submitted on a node counts for its owner's key,
// so that a limit of the node's own account would bound nothing.
func TestANodesAccountTakesNoQuota(t *testing.T) {
	owner, err := admission.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	self, attic := workload.PeerID{1}, workload.PeerID{2}
	n := &Node{self: self, id: &identity{owner: owner}}
	names := map[workload.PeerID]string{self: "shed", attic: "attic"}
	for _, c := range []struct {
		text    string
		account workload.PeerID
		limit   int64
		refused string // what the hint names; "" when it is not refused
	}{
		{"shed", self, 10, "perrin quota set " + idOf(owner).String() + " 10"},
		{self.String(), self, 10, idOf(owner).String()},
		{"attic", attic, 10, "on attic"},
		{"attic", workload.PeerID{}, 10, "on attic"}, // has earned nothing yet
		{"attic", attic, -1, ""},                     // takes a limit away
		{"attic", workload.PeerID{}, -1, "set KEY none"},
		{idOf(owner).String(), idOf(owner), 10, ""},
		{"barn", workload.PeerID{}, 10, ""},
	} {
		err := n.refuseNodeQuota(names, api.QuotaChange{Account: c.text, Limit: c.limit}, c.account)
		var e *api.Error
		if !errors.As(err, &e) {
			if c.refused != "" || err != nil {
				t.Errorf("%s to %d: %v", c.text, c.limit, err)
			}
			continue
		}
		if c.refused == "" || e.Kind != api.Refused || !strings.Contains(e.Hint, c.refused) {
			t.Errorf("%s to %d: %v, hint: %s", c.text, c.limit, err, e.Hint)
		}
	}
}

func TestNewestOwner(t *testing.T) {
	node, old, now := workload.PeerID{1}, workload.PeerID{2}, workload.PeerID{3}
	all := []ledger.View{{Home: node, Owner: now, Seq: 7}, {Home: node, Owner: old, Seq: 3}, {Home: workload.PeerID{9}, Owner: workload.PeerID{8}, Seq: 9}}
	if got := newestOwner(slices.Values(all), node); got != now {
		t.Errorf("owner %s", got.Short())
	}
	if got := newestOwner(slices.Values(all), workload.PeerID{4}); !got.IsZero() {
		t.Errorf("of a node that nothing came from: %s", got.Short())
	}
}
