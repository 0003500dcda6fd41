package directory

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/mesh/meshtest"
	"github.com/perrin-mesh/perrin/workload"
)

func machine(name string, cores int32, labels map[string]string) workload.Machine {
	return workload.Machine{
		Name: name, Arch: "amd64", OS: "linux", Labels: labels, SMT: 1, Version: "test",
		Total: workload.Capacity{Cores: cores, Threads: cores, Memory: int64(cores) << 30, Disk: 1 << 40, Slots: cores},
		Kinds: []workload.Kind{workload.Wasm, workload.Process}, Walls: []string{"namespaces", "wasm"},
	}
}

func start(t testing.TB, nodes []*meshtest.Node) []*Directory {
	t.Helper()
	out := make([]*Directory, len(nodes))
	for i, n := range nodes {
		d, err := New(n.Host, Config{Key: n.Key})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := d.Close(); err != nil {
				t.Errorf("close directory: %v", err)
			}
		})
		out[i] = d
	}
	return out
}

func TestMeshesOfOneToNineFindEachOther(t *testing.T) {
	for _, n := range []int{1, 2, 3, 9} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			nodes := meshtest.Nodes(t, n)
			dirs := start(t, nodes)
			for i, d := range dirs {
				m := machine(fmt.Sprintf("n%d", i), int32(1)<<i, map[string]string{"zone": fmt.Sprintf("z%d", i)})
				if err := d.PutNode(m, workload.CellID{1}); err != nil {
					t.Fatal(err)
				}
			}
			last := n - 1
			for i, d := range dirs {
				meshtest.Eventually(t, fmt.Sprintf("n%d finds the label of n%d", i, last), func() bool {
					got, err := d.Find(context.Background(), Query{Labels: map[string]string{"zone": fmt.Sprintf("z%d", last)}, Limit: 1})
					return err == nil && len(got) == 1 && got[0].Peer == nodes[last].ID()
				})
			}
			meshtest.Eventually(t, "n0 finds all that have a core or more", func() bool {
				got, err := dirs[0].Find(context.Background(), Query{Kind: workload.Wasm, Arch: "amd64", Total: workload.Capacity{Cores: 1}, Limit: 64})
				return err == nil && len(got) == n
			})
			_, err := dirs[0].Find(meshtest.Within(t, 20*time.Second), Query{Total: workload.Capacity{Cores: 4096}})
			if !errors.Is(err, ErrNotFound) {
				t.Errorf("4096 cores: got %v, want %v", err, ErrNotFound)
			}
			r, err := dirs[0].GetNode(meshtest.Within(t, 20*time.Second), nodes[last].ID())
			if n > 1 && (err != nil || r.Machine.Name != fmt.Sprintf("n%d", last) || len(r.Addrs) == 0) {
				t.Errorf("record of n%d: %+v, %v", last, r, err)
			}
		})
	}
}

func TestNewestCellRecordWins(t *testing.T) {
	t.Parallel()
	nodes := meshtest.Nodes(t, 3)
	dirs := start(t, nodes)
	var voters []Voter
	for _, n := range nodes {
		voters = append(voters, Voter{Peer: n.ID(), Addrs: n.Addrs()})
	}
	cell := workload.CellID{7}
	ctx := meshtest.Within(t, time.Minute)
	if err := dirs[0].PutCell(CellRecord{Cell: cell, Epoch: 1, Term: 5, Voters: voters}); err != nil {
		t.Fatal(err)
	}
	meshtest.Eventually(t, "the first record is seen", func() bool {
		r, err := dirs[2].GetCell(ctx, cell)
		return err == nil && r.Term == 5
	})
	if err := dirs[1].PutCell(CellRecord{Cell: cell, Epoch: 1, Term: 6, Voters: voters}); err != nil {
		t.Fatal(err)
	}
	for i, d := range dirs {
		meshtest.Eventually(t, fmt.Sprintf("n%d sees the new leader", i), func() bool {
			r, err := d.GetCell(ctx, cell)
			return err == nil && r.Term == 6 && r.Leader == nodes[1].ID()
		})
	}
	if err := dirs[0].PutCell(CellRecord{Cell: cell, Epoch: 1, Term: 7, Voters: voters[1:]}); !errors.Is(err, ErrRecord) {
		t.Errorf("a record by who is no voter: got %v, want %v", err, ErrRecord)
	}
}

func TestHostFindsAPeerThroughTheDirectory(t *testing.T) {
	t.Parallel()
	nodes := meshtest.Nodes(t, 3)
	dirs := start(t, nodes)
	for i, d := range dirs {
		if err := d.PutNode(machine(fmt.Sprintf("n%d", i), 1, nil), workload.CellID{}); err != nil {
			t.Fatal(err)
		}
	}
	nodes[2].Handle("/perrin/hi/1", 10, func(context.Context, workload.PeerID, []byte) ([]byte, error) { return []byte("hi"), nil })
	meshtest.Eventually(t, "n1 calls n2, which it was never told of", func() bool {
		got, err := nodes[1].Call(context.Background(), nodes[2].ID(), "/perrin/hi/1", nil, 10)
		return err == nil && string(got) == "hi"
	})
}

func TestABrokenDirectoryCostsItsTimeoutOnly(t *testing.T) {
	t.Parallel()
	d := start(t, meshtest.Nodes(t, 1))[0]
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := d.GetNode(ctx, workload.PeerID{1}); err == nil {
		t.Error("an ended context finds a node")
	}
	if _, err := d.GetCell(ctx, workload.CellID{1}); err == nil {
		t.Error("an ended context finds a cell")
	}
	if _, err := d.Find(ctx, Query{}); err == nil {
		t.Error("an ended context finds something")
	}
	if _, err := d.Find(context.Background(), Query{Limit: MaxFind + 1}); err == nil {
		t.Error("a limit over the bound is taken")
	}
}

// The DHT has leaked goroutines when its queries were left running.
func TestLookupsLeaveNoGoroutines(t *testing.T) {
	nodes := meshtest.Nodes(t, 3)
	dirs := start(t, nodes)
	for i, d := range dirs {
		if err := d.PutNode(machine(fmt.Sprintf("n%d", i), 2, nil), workload.CellID{}); err != nil {
			t.Fatal(err)
		}
	}
	find := func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_, _ = dirs[0].GetNode(ctx, nodes[1].ID())
		_, _ = dirs[0].GetCell(ctx, workload.CellID{9})
		_, _ = dirs[0].Find(ctx, Query{Limit: 1})
	}
	find()
	before := runtime.NumGoroutine()
	for range 40 {
		find()
	}
	meshtest.Eventually(t, "the goroutines of 40 lookups end", func() bool { return runtime.NumGoroutine() < before+20 })
}
