package node_test

import (
	"slices"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/node/devmesh"
	"github.com/perrin-mesh/perrin/workload"
)

// shortLease is the lease of meshes whose nodes are killed, so that a lost one
// is given up after some 3 s.
var shortLease = []string{"--lease-ttl", "2s"}

// TestKilledNodes kills daemons of one mesh of five with SIGKILL and starts
// them again.
func TestKilledNodes(t *testing.T) {
	t.Parallel()
	m := startMesh(t, devmesh.Options{Nodes: 5, Args: shortLease})
	m.learnIDs()
	t.Run("a worker", func(t *testing.T) { m.on(t).killAWorker() })
	t.Run("the leader", func(t *testing.T) { m.on(t).killTheLeader() })
	t.Run("all", func(t *testing.T) { m.on(t).killAll() })
	t.Run("a voter for good", func(t *testing.T) { m.on(t).replaceAVoter() })
	t.Run("drain", func(t *testing.T) { m.on(t).drainOne() })
}

// on is the mesh for a subtest.
func (m *testMesh) on(t *testing.T) *testMesh { return &testMesh{Mesh: m.Mesh, t: t} }

// whole waits until every member serves again.
func (m *testMesh) whole(asked int) *api.Status {
	m.t.Helper()
	return m.status(asked, 40*time.Second, "the mesh is whole", func(st *api.Status) bool {
		return st.Ready && st.Cells[0].Members == len(m.Members) && st.Capacity.Free.Cores == int32(len(m.Members))
	})
}

// leader is the index of the cell's leader.
func (m *testMesh) leader(asked int) int {
	m.t.Helper()
	st := m.status(asked, 20*time.Second, "a leader is known", func(st *api.Status) bool { return st.Ready && !st.Cells[0].Leader.IsZero() })
	return m.indexOf(st.Cells[0].Leader)
}

// killAWorker: what a killed node had taken runs elsewhere, nothing is missing,
// and the node comes back as who it was.
func (m *testMesh) killAWorker() {
	t := m.t
	leads := m.leader(0)
	c := m.client(leads)
	id := submit(t, c, shell(60, "sleep 0.4; echo $PERRIN_TASK"))
	var victim int
	waitFor(t, c, id, 20*time.Second, "slots on every node, and some tasks are done", func(w *api.Workload) bool {
		i := slices.IndexFunc(w.Slots, func(s api.Slot) bool { return s.Node != m.id(m.Members[leads]) && len(s.Ranges) > 0 })
		if i < 0 || len(w.Slots) < 5 || w.Tasks.Done < 8 {
			return false
		}
		victim = m.indexOf(w.Slots[i].Node)
		return true
	})
	was := m.id(m.Members[victim])
	m.Members[victim].Kill()
	killed := time.Now()
	waitFor(t, c, id, 20*time.Second, "the node is given up", func(w *api.Workload) bool { return w.Lost > 0 })
	if after := time.Since(killed); after < 2*time.Second {
		t.Errorf("the node was given up %s after it was killed: its lease of 2s may have lasted", after)
	}
	w := succeeded(t, c, id, 60*time.Second)
	if w.Lost == 0 {
		t.Errorf("no attempt was lost with its node: %+v", w)
	}
	if err := m.Restart(m.Members[victim]); err != nil {
		t.Fatal(err)
	}
	m.whole(leads)
	st := m.status(victim, 20*time.Second, "the node is ready", func(st *api.Status) bool { return st.Ready })
	if st.Node != was {
		t.Errorf("the node is %s now and was %s", st.Node, was)
	}
}

// killTheLeader: another voter takes over within seconds, and what runs goes on.
func (m *testMesh) killTheLeader() {
	t := m.t
	m.whole(0)
	leads := m.leader(0)
	other := (leads + 1) % len(m.Members)
	c := m.client(other)
	id := submit(t, c, shell(40, "sleep 0.3; echo hi"))
	waitFor(t, c, id, 20*time.Second, "some tasks are done", func(w *api.Workload) bool { return w.Tasks.Done >= 8 })
	m.Members[leads].Kill()

	asked := time.Now()
	if _, err := c.Status(within(t, 10*time.Second), false); err != nil {
		t.Errorf("status without a leader: %v", err)
	}
	if took := time.Since(asked); took > 2*time.Second {
		t.Errorf("status without a leader took %s", took)
	}
	began := time.Now()
	after := submit(t, c, shell(1, "echo after"))
	w := waitFor(t, c, after, 30*time.Second, "what is submitted after the leader died ends", func(w *api.Workload) bool { return w.Phase.Ended() })
	t.Logf("submitted after the leader died: %s in %s", w.Phase, time.Since(began))
	succeeded(t, c, after, 10*time.Second)
	succeeded(t, c, id, 60*time.Second)
	if err := m.Restart(m.Members[leads]); err != nil {
		t.Fatal(err)
	}
	m.whole(other)
}

// killAll: what was acknowledged is there after every daemon was killed, and
// what had not ended ends.
func (m *testMesh) killAll() {
	t := m.t
	m.whole(0)
	c := m.client(0)
	ended := submit(t, c, shell(5, "echo before"))
	succeeded(t, c, ended, 30*time.Second)
	running := submit(t, c, shell(30, "sleep 0.3; echo hi"))
	waitFor(t, c, running, 20*time.Second, "some tasks are done", func(w *api.Workload) bool { return w.Tasks.Done >= 5 })
	pending := submit(t, c, shell(3, "echo late"))
	for _, member := range m.Members {
		member.Kill()
	}
	for _, member := range m.Members {
		if err := m.Restart(member); err != nil {
			t.Fatal(err)
		}
	}
	m.status(0, 40*time.Second, "the node is ready again", func(st *api.Status) bool { return st.Ready })
	c = m.client(0)
	for _, id := range []workload.ID{ended, running, pending} {
		succeeded(t, c, id, 60*time.Second)
	}
	m.whole(0)
}

// replaceAVoter: a voter that stays away loses its vote to a standby, and is a
// member like others when it comes back.
func (m *testMesh) replaceAVoter() {
	t := m.t
	leads := m.leader(0)
	st := m.status(leads, 20*time.Second, "three voters", func(st *api.Status) bool { return len(st.Cells[0].Voters) == 3 })
	i := slices.IndexFunc(st.Cells[0].Voters, func(id workload.PeerID) bool { return id != st.Cells[0].Leader })
	dead := st.Cells[0].Voters[i]
	victim := m.Members[m.indexOf(dead)]
	victim.Kill()
	m.status(leads, 40*time.Second, "a standby has its vote", func(st *api.Status) bool {
		return len(st.Cells[0].Voters) == 3 && !slices.Contains(st.Cells[0].Voters, dead)
	})
	c := m.client(leads)
	succeeded(t, c, submit(t, c, shell(8, "echo hi")), 30*time.Second)
	if err := m.Restart(victim); err != nil {
		t.Fatal(err)
	}
	m.whole(leads)
	m.status(leads, 20*time.Second, "it is a standby or a member", func(st *api.Status) bool {
		return len(st.Cells[0].Voters) == 3 && len(st.Cells[0].Standby) == 2 && slices.Contains(st.Cells[0].Standby, dead)
	})
}

// drainOne: a drained node ends what it runs, hands leadership over and gets
// nothing new.
func (m *testMesh) drainOne() {
	t := m.t
	m.whole(0)
	leads := m.leader(0)
	drained := m.id(m.Members[leads])
	c := m.client(leads)
	id := submit(t, c, shell(5, "sleep 2; echo hi"))
	waitFor(t, c, id, 20*time.Second, "every node runs a task", func(w *api.Workload) bool { return w.Tasks.Taken == 5 })
	if err := c.Drain(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
	w := succeeded(t, c, id, 20*time.Second)
	if w.Lost > 0 || !slices.ContainsFunc(w.Placed, func(p api.Placed) bool { return p.Node == drained && p.Tasks == 1 }) {
		t.Errorf("the drained node did not end its task: lost %d, placed %+v", w.Lost, w.Placed)
	}
	m.status(leads, 20*time.Second, "another node leads", func(st *api.Status) bool {
		return st.Ready && !st.Cells[0].Leader.IsZero() && st.Cells[0].Leader != drained
	})
	next := succeeded(t, c, submit(t, c, shell(20, "echo hi")), 30*time.Second)
	if slices.ContainsFunc(next.Placed, func(p api.Placed) bool { return p.Node == drained }) {
		t.Errorf("a drained node got work: %+v", next.Placed)
	}
}
