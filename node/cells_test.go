package node_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/node/devmesh"
	"github.com/perrin-mesh/perrin/workload"
)

// TestTwoCells holds what two static cells do for one another, and, once one of
// them has lost its leader, that the DHT still finds its member.
func TestTwoCells(t *testing.T) {
	t.Parallel()
	m := startMesh(t, devmesh.Options{Nodes: 4, CellSize: 2, Args: shortLease, Each: func(i int) []string {
		if i == 3 {
			return []string{"--label", "zone=attic"}
		}
		return nil
	}})
	m.learnIDs()
	st := m.status(0, 30*time.Second, "two cells are known", func(st *api.Status) bool {
		return st.Ready && len(st.Cells) == 2 && st.Cells[1].Members == 2
	})
	if st.Cells[0].ID == st.Cells[1].ID || st.Cells[0].Members != 2 {
		t.Errorf("cells: %+v", st.Cells)
	}
	t.Run("a lot spills over", func(t *testing.T) { m.on(t).spill() })
	t.Run("a label elsewhere", func(t *testing.T) { m.on(t).elsewhere() })
	t.Run("the DHT finds a member of a cell without a leader", func(t *testing.T) { m.on(t).orphan() })
}

// cellmates reports whether a node is one of the first two, which share a cell.
func (m *testMesh) cellmates(id workload.PeerID) bool { return m.indexOf(id) < 2 }

// spill: a lot of four slots in a cell of two cores gets the others elsewhere.
func (m *testMesh) spill() {
	t := m.t
	c := m.client(0)
	id := submit(t, c, shell(24, "sleep 0.5; echo hi"))
	w := succeeded(t, c, id, 60*time.Second)
	if !slices.ContainsFunc(w.Placed, func(p api.Placed) bool { return !m.cellmates(p.Node) && p.Tasks > 0 }) {
		t.Errorf("nothing ran in the other cell: %+v", w.Placed)
	}
	why, err := c.Why(within(t, 10*time.Second), id, nil)
	if err != nil {
		t.Fatal(err)
	}
	shown := slices.ContainsFunc(why.Steps, func(s api.WhyStep) bool {
		return s.Auction != nil && s.Auction.Sibling && slices.ContainsFunc(s.Auction.Bids, func(b api.WhyBid) bool { return !m.cellmates(b.Node) && b.Won > 0 })
	})
	if !shown {
		t.Errorf("why shows no bid of the other cell: %+v", why)
	}
}

// elsewhere: a condition that only a node of the other cell meets.
func (m *testMesh) elsewhere() {
	t := m.t
	c := m.client(0)
	nodes, err := c.Nodes(within(t, 10*time.Second), "zone==attic")
	if err != nil || len(nodes) != 1 || nodes[0].ID != m.id(m.Members[3]) {
		t.Fatalf("nodes --find: %+v, %v", nodes, err)
	}
	spec := shell(1, "echo up here")
	spec.Where = "zone==attic"
	w := succeeded(t, c, submit(t, c, spec), 30*time.Second)
	if len(w.Placed) != 1 || w.Placed[0].Node != m.id(m.Members[3]) {
		t.Errorf("placed %+v", w.Placed)
	}
}

// orphan: the leader of the other cell is gone, and with it the cell's digest;
// the record of the node itself leads to it.
func (m *testMesh) orphan() {
	t := m.t
	victim := 2
	if st := m.status(3, 10*time.Second, "the other cell has a leader", func(st *api.Status) bool { return !st.Cells[0].Leader.IsZero() }); st.Cells[0].Leader != m.id(m.Members[2]) {
		t.Fatalf("the founder does not lead its cell of two: %+v", st.Cells[0])
	}
	m.Members[victim].Kill()
	m.status(0, 40*time.Second, "the other cell's digest has run out", func(st *api.Status) bool { return len(st.Cells) == 1 })
	c := m.client(0)
	found := poll(t, 20*time.Second, "the DHT knows the node", func(ctx context.Context) ([]api.Node, error) {
		return c.Nodes(ctx, "zone==attic")
	}, func(nodes []api.Node) bool { return len(nodes) == 1 })
	if found[0].Found != "dht" {
		t.Errorf("found by %s", found[0].Found)
	}
	spec := shell(1, "echo alone")
	spec.Where = "zone==attic"
	w := succeeded(t, c, submit(t, c, spec), 30*time.Second)
	if len(w.Placed) != 1 || w.Placed[0].Node != m.id(m.Members[3]) {
		t.Errorf("placed %+v", w.Placed)
	}
}
