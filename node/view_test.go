package node

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"testing"

	"github.com/perrin-mesh/perrin/consensus/store"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// TestHalfAddedServerKnowsItsCell: a server whose leader died when it had told it
// the term, and not yet who is in the group, goes by what it was told as a member.
// With nothing to go by it would never be heard of again.
func TestHalfAddedServerKnowsItsCell(t *testing.T) {
	log, self, other := slog.New(slog.DiscardHandler), workload.PeerID{1}, workload.PeerID{2}
	st, err := store.Open(t.TempDir(), store.Default(), log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	id := workload.CellID{7}
	group, err := st.Group(groupName(id))
	if err != nil {
		t.Fatal(err)
	}
	if err := group.SetUint64([]byte("CurrentTerm"), 3); err != nil { // the library's name for it
		t.Fatal(err)
	}
	nobody := raftStreams{func(context.Context, workload.PeerID, string) (net.Conn, error) { return nil, errors.New("cut off") }}
	c, err := openCell(self, id, st, nobody, newBook(rules(nil), log, nil), false, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.group.Close(context.Background()) })
	told := wire.CellView{Cell: id, Term: 2, Leader: other, Voters: []wire.PeerAddrs{{Peer: other}}}
	n := &Node{self: self, cell: c, home: home{Cell: id, View: told}}
	if own := n.viewOf(c); own.Term != 3 || len(own.Voters) != 0 {
		t.Fatalf("the server knows %+v by itself, which shows nothing", own)
	}
	if v := n.homeView(); len(v.Voters) != 1 || v.Voters[0].Peer != other {
		t.Errorf("the server goes by %+v", v)
	}
}
