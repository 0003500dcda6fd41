package node_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/node/devmesh"
	"github.com/perrin-mesh/perrin/workload"
)

// TestClockIsSet sets the clock of the leader, then of another node, forward and
// back by an hour, while they run and before they start. No lease, deadline or
// vote moves with it, nothing is lost, and the node says what happened to it.
func TestClockIsSet(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("too long for a short run: it builds a daemon")
	}
	m := startMesh(t, devmesh.Options{Nodes: 3, Cores: 2, Args: shortLease, Exe: clockBinary(t)})
	m.learnIDs()
	var promises []*promise
	for _, offset := range []int{3600, 0} { // each is a jump of an hour
		leads := m.leader(0)
		promises = append(promises, m.setClock(leads, leads, offset)...)
	}
	leads := m.leader(0)
	other := (leads + 1) % 3
	promises = append(promises, m.setClock(other, leads, -3600)...)
	promises = append(promises, m.restartAt(other, -3600)...)
	promises = append(promises, m.restartAt(other, 3600)...)
	for i, p := range promises {
		if err := p.kept(within(t, time.Minute), m.client(i%3)); err != nil {
			t.Error(err)
		}
	}
}

// clockBinary builds a daemon whose clock can be set.
func clockBinary(t *testing.T) string {
	t.Helper()
	src, err := filepath.Abs("testdata/clock")
	if err != nil {
		t.Fatal(err)
	}
	daemon, err := filepath.Abs("../cmd/perrin")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{
		filepath.Join(daemon, "set.go"):      filepath.Join(src, "set.go.txt"),
		filepath.Join(daemon, "set_amd64.s"): filepath.Join(src, "set_amd64.s.txt"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay"), overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(dir, "perrin")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-overlay", filepath.Join(dir, "overlay"),
		"-ldflags=-checklinkname=0", "-o", exe, daemon)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build a daemon whose clock can be set: %v\n%s", err, out)
	}
	return exe
}

// setClock sets a node's clock while workloads run on all, and holds that nothing
// comes of it but a word in the node's status.
func (m *testMesh) setClock(i, leads, offset int) []*promise {
	t := m.t
	c := m.client(leads)
	before := m.status(leads, 20*time.Second, "three vote", func(st *api.Status) bool { return len(st.Cells[0].Voters) == 3 })
	long := submit(t, c, onSmallDisk(shell(6, "sleep 3; echo hi")))
	waitFor(t, c, long, 20*time.Second, "they run", func(w *api.Workload) bool { return w.Tasks.Taken >= 3 })
	m.write(i, offset)
	m.warns(i, "clock was set")
	promises := m.askAll(i, askSingle, askMap, askChain)
	w := succeeded(t, c, long, 40*time.Second)
	if w.Lost > 0 || w.Retries > 0 {
		t.Errorf("a clock that was set to %d s cost %d attempts and %d retries", offset, w.Lost, w.Retries)
	}
	after := m.status(leads, 10*time.Second, "it answers", func(*api.Status) bool { return true }).Cells[0]
	was := before.Cells[0]
	if after.Leader != was.Leader || after.Term != was.Term || after.Members != was.Members || !sameVoters(after.Voters, was.Voters) {
		t.Errorf("a clock that was set to %d s changed the cell from %+v to %+v", offset, was, after)
	}
	return promises
}

// write sets how far a node's clock is off, in s.
func (m *testMesh) write(i, offset int) {
	m.t.Helper()
	name := filepath.Join(m.Members[i].Data, "clock")
	if err := os.WriteFile(name+".new", []byte(fmt.Sprint(offset)), 0o600); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		m.t.Fatal(err)
	}
}

// restartAt starts a node again with a clock that is off.
func (m *testMesh) restartAt(i, offset int) []*promise {
	t := m.t
	m.Members[i].Kill()
	m.write(i, offset)
	if err := m.Restart(m.Members[i]); err != nil {
		t.Fatal(err)
	}
	m.status(i, 30*time.Second, fmt.Sprintf("it serves with a clock that is %d s off", offset), func(st *api.Status) bool { return st.Ready })
	if log, err := os.ReadFile(filepath.Join(m.Members[i].Data, "log")); err != nil || strings.Contains(string(log), "peer refused") {
		t.Errorf("somebody was not admitted because of a clock: %v\n%s", err, log[max(0, len(log)-3000):])
	}
	return m.askAll(i, askSingle, askMap)
}

func onSmallDisk(spec workload.Spec) workload.Spec {
	spec.Resources.Disk = 2 << 20
	return spec
}

func sameVoters(a, b []workload.PeerID) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(id workload.PeerID) bool { return !slices.Contains(b, id) })
}
