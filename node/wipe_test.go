package node_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/node/devmesh"
)

// TestEveryVoterIsWipedInTurn destroys each of the first three voters, disk and
// all, and lets the cell replace it by its own rules before the next. In the end
// no original disk exists, and every acknowledged workload is there with its
// program, inputs, outputs and logs. The founder goes last, since only it can
// invite.
func TestEveryVoterIsWipedInTurn(t *testing.T) {
	t.Parallel()
	m := startMesh(t, devmesh.Options{Nodes: 3, Cores: 2, Args: shortLease})
	m.learnIDs()
	promises := m.askAll(0, askSingle, askMap, askShipped, askChain, askFailing)
	promises = append(promises, m.missAHold(2)...)
	for _, victim := range []int{1, 2, 0} {
		replacement := m.grow()
		m.wipe(victim)
		promises = append(promises, m.askAll(replacement, askShipped, askChain)...)
		m.healed(replacement, victim)
	}
	for i, p := range promises {
		c := m.client(3 + i%3)
		if err := p.kept(within(t, time.Minute), c); err != nil {
			t.Error(err)
		}
	}
}

// askAll submits one workload of each kind.
func (m *testMesh) askAll(on int, kinds ...asker) []*promise {
	m.t.Helper()
	c := m.client(on)
	var out []*promise
	for _, kind := range kinds {
		p, err := ask(m.t.Context(), c, kind)
		if err != nil {
			m.t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}

// missAHold has workloads acknowledged while a voter is away, and waits until the
// voter, which is back, has fetched what it has missed.
func (m *testMesh) missAHold(away int) []*promise {
	t := m.t
	m.Members[away].Kill()
	promises := m.askAll(0, askMap, askShipped)
	for _, p := range promises {
		if err := p.kept(within(t, time.Minute), m.client(0)); err != nil {
			t.Error(err)
		}
	}
	if err := m.Restart(m.Members[away]); err != nil {
		t.Fatal(err)
	}
	poll(t, 40*time.Second, "the voter has fetched what it missed", func(context.Context) (int, error) {
		return m.lacks(away, promises), nil
	}, func(lacks int) bool { return lacks == 0 })
	return promises
}

// lacks counts the inputs of workloads whose content is not on a member's disk.
func (m *testMesh) lacks(member int, promises []*promise) (n int) {
	for _, p := range promises {
		for _, ref := range p.inputs {
			pattern := filepath.Join(m.Members[member].Data, "blobs", "*", "*", ref.Digest.Hex()+"*")
			if found, err := filepath.Glob(pattern); err != nil || len(found) == 0 {
				n++
			}
		}
	}
	return n
}

// grow adds a node and returns its index once it serves.
func (m *testMesh) grow() int {
	m.t.Helper()
	member, err := m.Grow(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	i := slices.Index(m.Members, member)
	m.status(i, 30*time.Second, "the new node serves", func(st *api.Status) bool { return st.Ready })
	m.id(member)
	return i
}

// wipe kills a daemon and destroys its disk.
func (m *testMesh) wipe(i int) {
	m.t.Helper()
	m.Members[i].Kill()
	checkLog(m.t, m.Members[i])
	if err := os.RemoveAll(m.Members[i].Data); err != nil {
		m.t.Fatal(err)
	}
}

// healed waits until three voters serve the cell without the one that is gone.
func (m *testMesh) healed(asked, gone int) {
	m.t.Helper()
	dead := m.id(m.Members[gone])
	m.status(asked, 60*time.Second, "three others vote", func(st *api.Status) bool {
		home := st.Cells[0]
		return st.Ready && home.Quorum && len(home.Voters) == 3 && !slices.Contains(home.Voters, dead)
	})
}
