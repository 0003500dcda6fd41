package node

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/attest/collect"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/leader"
	"github.com/perrin-mesh/perrin/node/notary"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/receipt"
	"github.com/perrin-mesh/perrin/workload/runner"
)

// TestCountersignedWork runs work of an owner who wants awards countersigned, checks
// its receipt, and has the voters asked for what they must not sign.
func TestCountersignedWork(t *testing.T) {
	runs := map[workload.Kind]runner.Runner{workload.Wasm: nullRunner{"done\n"}}
	cfg := func(name string) Config {
		return Config{Name: name, Cores: 2, Memory: 1 << 30, Attests: collect.Of(), Runners: runs}
	}
	c := startCompany(t, cfg("one"), cfg("two"), cfg("three"))
	first := c.nodes[0]
	b := first.Backend()
	spec := wasmSpec(t, first, noop, 2)
	spec.Countersign = true
	sub, err := b.Submit(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "it has ended", func() bool {
		w, err := b.Wait(t.Context(), sub.ID, 0, 0)
		return err == nil && w.Phase == workload.Succeeded
	})
	why, err := b.Why(t.Context(), sub.ID, nil)
	if err != nil || strings.Contains(fmt.Sprintf("%+v", why), "unplaced") {
		t.Errorf("its first auction was lost: %v, %+v", err, why)
	}
	raw, err := b.Receipt(t.Context(), sub.ID)
	if err != nil {
		t.Fatal(err)
	}
	voters := first.cell.Voters()
	opt := receipt.Options{Root: first.id.bundle.Root, Voters: voters}
	r, err := receipt.Verify(notary.Rules(nil), raw, opt)
	if err != nil || r.Status() != receipt.Holds {
		t.Errorf("%v: %+v", err, r)
	}
	at, _ := first.cell.group.Leader()
	lead := c.nodes[slices.IndexFunc(c.nodes, func(n *Node) bool { return n.self == at })]
	other := c.nodes[slices.IndexFunc(c.nodes, func(n *Node) bool { return n.self != at && slices.Contains(voters, n.self) })]
	good := asked(t, lead, sub.ID)
	until(t, "a voter knows its leader", func() bool {
		_, err = other.handleCountersign(t.Context(), at, asked(t, lead, sub.ID))
		return !errors.Is(err, wire.Unauthorized)
	})
	if err != nil {
		t.Errorf("the same award again: %v", err)
	}
	if _, err := other.handleCountersign(t.Context(), other.self, good); !errors.Is(err, wire.Unauthorized) {
		t.Errorf("asked by another than the leader: %v", err)
	}
	for name, change := range map[string]func(*wire.CountersignMsg){
		"a rate raised": func(m *wire.CountersignMsg) { m.Clearing.Slots[0].Rate++ },
		"a bid dropped": func(m *wire.CountersignMsg) {
			m.Clearing.Bids, m.Clearing.Scores = m.Clearing.Bids[1:], m.Clearing.Scores[1:]
		},
		"another limit":    func(m *wire.CountersignMsg) { m.Clearing.MaxPrice++ },
		"another workload": func(m *wire.CountersignMsg) { m.Clearing.Workload.Random[0]++ },
		"another's spec":   func(m *wire.CountersignMsg) { m.Spec.Sig = slices.Clone(m.Spec.Sig); m.Spec.Sig[0]++ },
		"fewer voters":     func(m *wire.CountersignMsg) { m.Voters = m.Voters[1:] },
		"of another cell":  func(m *wire.CountersignMsg) { m.Cell[0]++ },
		"a score too few":  func(m *wire.CountersignMsg) { m.Clearing.Scores = nil },
		"a friend's slot":  func(m *wire.CountersignMsg) { m.Clearing.Slots[0].Node = workload.PeerID{9} },
		"a forged bid":     func(m *wire.CountersignMsg) { m.Clearing.Bids[0].By = at; m.Clearing.Bids[0].Sig = make([]byte, 64) },
	} {
		m := asked(t, lead, sub.ID)
		change(m)
		if _, err := other.handleCountersign(t.Context(), at, m); err == nil {
			t.Errorf("%s: it was signed", name)
		}
	}
}

// asked is what the leader asked of the voters before it awarded a workload.
func asked(t *testing.T, lead *Node, id workload.ID) *wire.CountersignMsg {
	t.Helper()
	m := &wire.CountersignMsg{Cell: id.Cell, Voters: slices.Clone(lead.cell.Voters())}
	slices.SortFunc(m.Voters, byBytes)
	lead.cell.Read(func(s *ledger.State) {
		p, ok := s.Proof(id)
		if !ok || len(p.Auctions) == 0 {
			t.Fatalf("the leader has no award of %s", id)
		}
		a := p.Auctions[0]
		m.Spec = p.Signed
		m.Clearing = *leader.ClearingOf(&ledger.Award{
			Workload: id, Auction: a.ID, Wanted: a.Wanted, MaxPrice: a.MaxPrice,
			Bids: slices.Clone(a.Bids), Scores: slices.Clone(a.Scores), Slots: slices.Clone(a.Slots),
		})
	})
	return m
}
