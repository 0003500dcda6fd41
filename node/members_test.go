package node

import (
	"errors"
	"log/slog"
	"testing"

	"github.com/perrin-mesh/perrin/mesh/meshtest"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/leader"
	"github.com/perrin-mesh/perrin/workload"
)

// TestTheLeaderIsTheFirstMember has a node ask a leader that is no member of its cell to
// take it in: nobody comes before the leader.
func TestTheLeaderIsTheFirstMember(t *testing.T) {
	quiet := slog.New(slog.DiscardHandler)
	n := &Node{self: meshtest.IDOf(meshtest.Key(t))}
	n.cell = &cell{book: newBook(rules(nil), quiet, newShelf(nil, quiet)), id: workload.CellID{4}}
	n.setLeader(&leader.Leader{})
	_, err := n.handleMember(t.Context(), meshtest.IDOf(meshtest.Key(t)), &wire.MemberMsg{Name: "early"})
	if !errors.Is(err, wire.Unavailable) {
		t.Errorf("answered %v", err)
	}
}
