package leader

import (
	"context"
	"crypto/ed25519"
	"errors"
	"testing"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/scheduler"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/blob"
	"github.com/perrin-mesh/perrin/workload/receipt"
)

func key(t *testing.T) (ed25519.PrivateKey, workload.PeerID) {
	t.Helper()
	pub, priv, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return priv, workload.PeerIDOf(pub)
}

// closing is a valid CloseMsg of one worker.
func closing(t *testing.T) (*wire.CloseMsg, workload.PeerID) {
	t.Helper()
	priv, self := key(t)
	ref := wire.SlotRef{Workload: workload.ID{Random: [16]byte{1}}, Slot: 3, Fence: workload.Fence{Generation: 1, Epoch: 2}}
	segment := workload.Segment{Workload: ref.Workload, Slot: ref.Slot, Node: self, Results: []workload.TaskResult{
		{Index: 4, Attempt: 1, Exit: workload.Exited}, {Index: 5, Attempt: 1, Exit: workload.Exited},
		{Index: 6, Attempt: 1, Exit: workload.Exited, Code: 2}, {Index: 7, Attempt: 2, Exit: workload.Exited},
	}}
	raw := wire.MustMarshal(segment)
	statement := wire.MustMarshal(wire.Statement{Ref: ref, Segment: blob.RefOf(raw), Results: receipt.RootOf(receipt.ResultsOf(&segment))})
	return &wire.CloseMsg{Ref: ref, Segment: raw, Sig: workload.Sign(workload.DomainResult, statement, priv)}, self
}

func TestResultsMustBeTheirWorkersOwn(t *testing.T) {
	_, other := key(t)
	tests := map[string]struct {
		change func(*wire.CloseMsg, *workload.PeerID)
		want   error
	}{
		"as signed":       {func(*wire.CloseMsg, *workload.PeerID) {}, nil},
		"another sender":  {func(_ *wire.CloseMsg, from *workload.PeerID) { *from = other }, wire.Unauthorized},
		"another slot":    {func(m *wire.CloseMsg, _ *workload.PeerID) { m.Ref.Slot++ }, wire.Malformed},
		"another fence":   {func(m *wire.CloseMsg, _ *workload.PeerID) { m.Ref.Fence.Epoch++ }, wire.Malformed},
		"another payload": {func(m *wire.CloseMsg, _ *workload.PeerID) { m.Sig.Payload = []byte{0xa0} }, wire.Unauthorized},
		"other results": {func(m *wire.CloseMsg, _ *workload.PeerID) {
			m.Segment = wire.MustMarshal(workload.Segment{Workload: m.Ref.Workload})
		}, wire.Malformed},
	}
	for name, c := range tests {
		m, from := closing(t)
		c.change(m, &from)
		if _, _, _, err := openSegment(nil, from, m); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}

func TestCloseSumsASegmentUp(t *testing.T) {
	m, from := closing(t)
	segment, ref, _, err := openSegment(nil, from, m)
	if err != nil {
		t.Fatal(err)
	}
	c := closeCommand(m, segment, ref, true)
	want := []workload.Range{{From: 4, Count: 2, Attempt: 1}, {From: 7, Count: 1, Attempt: 2}}
	if len(c.Done) != 2 || c.Done[0] != want[0] || c.Done[1] != want[1] {
		t.Errorf("done %v, want %v", c.Done, want)
	}
	if len(c.Failed) != 1 || c.Failed[0].Index != 6 || c.Failed[0].Code != 2 || !c.Held {
		t.Errorf("failed %v, held %t", c.Failed, c.Held)
	}
}

func TestBidsMustBeTheirNodesOwn(t *testing.T) {
	priv, self := key(t)
	_, other := key(t)
	good := workload.Sign(workload.DomainBid, wire.MustMarshal(workload.Bid{Node: self, Asks: []int64{1}}), priv)
	if bid, err := OpenBid(nil, good); err != nil || bid.Node != self {
		t.Errorf("a good bid: %v", err)
	}
	if _, err := OpenBid(nil, workload.Sign(workload.DomainBid, wire.MustMarshal(workload.Bid{Node: other}), priv)); err == nil {
		t.Error("a bid in another node's name was taken")
	}
	if _, err := OpenBid(nil, workload.Sign(workload.DomainOffer, good.Payload, priv)); !errors.Is(err, workload.ErrSignature) {
		t.Errorf("a signature of another domain: %v", err)
	}
}

func TestOnlyTakenCapacityIsYielded(t *testing.T) {
	full, wrong := workload.PeerID{1}, workload.PeerID{2}
	round := &scheduler.Round{Declines: []workload.DeclineNote{
		{Node: full, Reasons: []workload.Reason{{Code: workload.NoCores}, {Code: workload.NoMemory}}},
		{Node: wrong, Reasons: []workload.Reason{{Code: workload.NoCores}, {Code: workload.WhereMismatch}}},
	}}
	if nodes := short(round); !nodes[full] || nodes[wrong] {
		t.Errorf("got %v: only the first would serve if a slot ended", nodes)
	}
}

func TestSubmittingTwiceNamesOneWorkload(t *testing.T) {
	priv, _ := key(t)
	spec := workload.Sign(workload.DomainSpec, []byte("spec"), priv)
	cell := workload.CellID{7}
	first, again := IDOf(cell, spec), IDOf(cell, spec)
	if first != again || first.Cell != cell {
		t.Error("one spec has two names")
	}
	other := workload.Sign(workload.DomainSpec, []byte("other"), priv)
	if IDOf(cell, spec) == IDOf(cell, other) {
		t.Error("two specs have one name")
	}
}

// TestAnAnswerThatComesTooLateIsDropped: who asks may be gone when the owner gets
// to the question, which then neither blocks the owner nor writes anywhere.
func TestAnAnswerThatComesTooLateIsDropped(t *testing.T) {
	l := &Leader{ctx: t.Context(), events: make(chan func(int64), 1)}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	got, err := ask(gone, l, func(now int64) int64 { return now })
	if !errors.Is(err, context.Canceled) || got != 0 {
		t.Errorf("got %d, %v", got, err)
	}
	(<-l.events)(7)
}
