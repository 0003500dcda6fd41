package node

import (
	"errors"
	"testing"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// A node draws for one result of a task, of work that was submitted on it since it
// started, and for as much as it can remember.
func TestDrawsAreRemembered(t *testing.T) {
	var d draws
	id := func(n int) (id workload.ID) {
		id.Random[0], id.Random[1] = byte(n), byte(n>>8)
		return id
	}
	result := func(text string) workload.Digest { return workload.DigestOf([]byte(text)) }
	spec := workload.DefaultSpec()
	spec.VerifyBy = &workload.VerifyBy{Agree: 2, Of: 3}
	d.begin(id(0), &spec)
	if d.knows(id(0)) {
		t.Error("draws for work that asks for none")
	}
	spec.VerifyBy.Adaptive = true
	d.begin(id(1), &spec)
	for _, tt := range []struct {
		id     int
		task   uint32
		result string
		want   error
	}{
		{0, 0, "a", wire.NotFound}, {1, 0, "a", nil}, {1, 0, "a", nil}, {1, 0, "b", wire.Refused}, {1, 1, "b", nil},
		{1, workload.MaxVerifyTasks, "a", wire.Malformed},
	} {
		err := d.note(&workload.Draw{Workload: id(tt.id), Task: tt.task, Result: result(tt.result)})
		if tt.want == nil && err != nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%+v: %v", tt, err)
		}
	}
	for n := range maxDrawnLoads {
		d.begin(id(n+2), &spec)
	}
	if d.knows(id(1)) || !d.knows(id(2)) || d.count != 0 || len(d.order) != maxDrawnLoads {
		t.Errorf("%d workloads and %d results are remembered", len(d.order), d.count)
	}
}

// A node that is no server of the cell knows its voters from the leader alone: it does
// not draw, whatever it was told, and asks nobody.
func TestOnlyAServerOfTheCellDraws(t *testing.T) {
	cellOf := func(b byte) (id workload.CellID) { id[0] = b; return id }
	liar := workload.PeerID{9}
	n := &Node{self: workload.PeerID{1}}
	n.home.Cell = cellOf(1)
	n.home.View = wire.CellView{Cell: cellOf(1), Term: 5, Leader: liar, Voters: []wire.PeerAddrs{{Peer: liar}}, Members: []workload.PeerID{n.self, liar}}
	d := &workload.Draw{Workload: workload.ID{Cell: cellOf(1)}}
	if !n.MayLead(cellOf(1), liar) {
		t.Fatal("the test means to ask as the leader")
	}
	if err := n.committed(t.Context(), d); !errors.Is(err, errNoServer) {
		t.Errorf("of no cell: %v", err)
	}
	n.cell = &cell{id: cellOf(2)}
	if err := n.committed(t.Context(), d); !errors.Is(err, errNoServer) {
		t.Errorf("a server of another cell: %v", err)
	}
}
