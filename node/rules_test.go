package node_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/node"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/node/devmesh"
	"github.com/perrin-mesh/perrin/workload"
)

// TestTwoNodes holds rules that a mesh of two nodes of one core each shows.
func TestTwoNodes(t *testing.T) {
	m := startMesh(t, devmesh.Options{Nodes: 2, Args: shortLease})
	t.Run("a price that nobody meets", func(t *testing.T) { m.on(t).tooCheap() })
	t.Run("late binding", func(t *testing.T) { m.on(t).lateBinding() })
	t.Run("a node that was idle", func(t *testing.T) { m.on(t).afterIdling() })
	t.Run("invitations", func(t *testing.T) { m.on(t).invitations() })
}

// tooCheap: the workload stays pending, and why says what every node asks.
func (m *testMesh) tooCheap() {
	t := m.t
	c := m.client(0)
	spec := shell(1, "echo hi")
	spec.MaxPrice = 1
	id := submit(t, c, spec)
	why := poll(t, 20*time.Second, "why has the round", func(ctx context.Context) (*api.Why, error) {
		return c.Why(ctx, id, nil)
	}, func(w *api.Why) bool { return w.Pending != nil && len(w.Pending.Declines) == 2 })
	for _, d := range why.Pending.Declines {
		if len(d.Reasons) != 1 || d.Reasons[0].Code != workload.PriceAboveMax || d.Reasons[0].Have <= 1 {
			t.Errorf("%s declines with %+v", d.Name, d.Reasons)
		}
	}
	if why.Phase != workload.Pending || !strings.Contains(why.Summary, "price-above-max") {
		t.Errorf("phase %s, summary %q", why.Phase, why.Summary)
	}
	if err := c.Stop(within(t, 10*time.Second), id); err != nil {
		t.Fatal(err)
	}
	w := waitFor(t, c, id, 10*time.Second, "it is stopped", func(w *api.Workload) bool { return w.Phase.Ended() })
	if w.Phase != workload.Stopped || w.Cost != 0 {
		t.Errorf("phase %s, cost %d", w.Phase, w.Cost)
	}
}

// lateBinding: what is submitted while one node is busy goes to the other, and
// what no node has room for waits, and takes the first that is free.
func (m *testMesh) lateBinding() {
	t := m.t
	c := m.client(1)
	running := func(w *api.Workload) bool { return w.Phase == workload.Running && len(w.Slots) == 1 }
	long := submit(t, c, shell(1, "sleep 30"))
	busy := waitFor(t, c, long, 20*time.Second, "it runs", running).Slots[0].Node
	for range 3 {
		w := succeeded(t, c, submit(t, c, shell(1, "echo hi")), 20*time.Second)
		if w.Placed[0].Node == busy {
			t.Error("a busy node won over an idle one")
		}
	}
	short := submit(t, c, shell(1, "sleep 2"))
	idle := waitFor(t, c, short, 20*time.Second, "it runs", running).Slots[0].Node
	waits := submit(t, c, shell(1, "echo hi"))
	poll(t, 10*time.Second, "why says that nobody has a core", func(ctx context.Context) (*api.Why, error) {
		return c.Why(ctx, waits, nil)
	}, func(w *api.Why) bool { return w.Phase == workload.Pending && w.Pending != nil })
	if w := succeeded(t, c, waits, 20*time.Second); w.Placed[0].Node != idle {
		t.Errorf("it waited for %s, which was busy", w.Placed[0].Name)
	}
	if err := c.Stop(within(t, 10*time.Second), long); err != nil {
		t.Fatal(err)
	}
	w := waitFor(t, c, long, 20*time.Second, "it is stopped", func(w *api.Workload) bool { return w.Phase.Ended() })
	if w.Phase != workload.Stopped {
		t.Errorf("phase %s", w.Phase)
	}
}

// afterIdling: a node whose last lease is long over gets work again.
func (m *testMesh) afterIdling() {
	t := m.t
	c := m.client(0)
	succeeded(t, c, submit(t, c, shell(2, "sleep 0.2")), 20*time.Second)
	succeeded(t, c, submit(t, c, shell(1, "sleep 5")), 20*time.Second) // longer than a lease and its guard
	id := submit(t, c, shell(2, "sleep 1"))
	w := succeeded(t, c, id, 20*time.Second)
	if why, err := c.Why(within(t, 10*time.Second), id, nil); len(w.Placed) != 2 {
		t.Errorf("two tasks and two idle nodes, and placed is %+v; why: %+v, %v", w.Placed, why, err)
		for _, s := range why.Steps {
			t.Logf("%+v %+v", s, s.Auction)
		}
		t.Logf("pending %+v", why.Pending)
		ns, err := c.Nodes(within(t, 10*time.Second), "")
		for _, n := range ns {
			t.Logf("%s %+v %v", n.Name, n.Offer, err)
		}
	}
}

// invitations: one use each, and none when they have run out.
func (m *testMesh) invitations() {
	t := m.t
	c := m.client(0)
	short, err := c.Invite(within(t, 5*time.Second), 1, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	once, err := c.Invite(within(t, 5*time.Second), 1, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	if _, err := node.Join(within(t, 20*time.Second), data, "first", once.Token); err != nil {
		t.Fatalf("the first use: %v", err)
	}
	if _, err := node.Join(within(t, 20*time.Second), data, "first", once.Token); !errors.Is(err, node.ErrHasIdentity) {
		t.Errorf("a folder that belongs to a mesh: %v", err)
	}
	refused := func(what, token string) {
		t.Helper()
		folder := t.TempDir()
		if _, err := node.Join(within(t, 20*time.Second), folder, "other", token); err == nil {
			t.Errorf("%s: it is taken", what)
		} else {
			t.Logf("%s: %v", what, err)
		}
		if _, err := node.New(t.Context(), node.Config{Data: folder}); !errors.Is(err, node.ErrNoIdentity) {
			t.Errorf("%s: the folder is a node's: %v", what, err)
		}
	}
	refused("a second use", once.Token)
	refused("not a token", "perrin1-nonsense")
	poll(t, 10*time.Second, "the invitation runs out", func(context.Context) (bool, error) {
		return time.Now().After(short.Expires.Add(time.Second)), nil
	}, func(over bool) bool { return over })
	refused("an invitation that has run out", short.Token)
	if _, err := c.Invite(within(t, 5*time.Second), 0, time.Minute); err == nil {
		t.Error("an invitation for nobody is made")
	}
	if _, err := m.client(1).Invite(within(t, 5*time.Second), 1, time.Minute); err == nil {
		t.Error("a node without an operator's key invites")
	}
}
