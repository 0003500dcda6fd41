package node

import (
	"slices"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/attest/collect"
	"github.com/perrin-mesh/perrin/mesh/meshtest"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/node/leader"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/runner"
)

// TestAMaliciousLeader has the leader of three whole nodes commit what no honest leader
// proposes: each replica refuses it by itself, remembers it for the audit, and goes on.
func TestAMaliciousLeader(t *testing.T) {
	runs := map[workload.Kind]runner.Runner{workload.Wasm: nullRunner{"done\n"}}
	cfg := func(name string) Config {
		return Config{Name: name, Cores: 1, Memory: 1 << 30, Attests: collect.Of(), Runners: runs}
	}
	c := startCompany(t, cfg("one"), cfg("two"), cfg("three"))
	b := c.nodes[0].Backend()
	past, err := b.Submit(t.Context(), wasmSpec(t, c.nodes[0], noop, 1))
	if err != nil {
		t.Fatal(err)
	}
	ended(t, b, past.ID)
	spec := wasmSpec(t, c.nodes[0], noop, 1)
	spec.Where = `zone == "nowhere"`
	waits, err := b.Submit(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	at, _ := c.nodes[0].currentCell().group.Leader()
	lead := c.nodes[slices.IndexFunc(c.nodes, func(n *Node) bool { return n.self == at })]
	friend := c.nodes[slices.IndexFunc(c.nodes, func(n *Node) bool { return n.self != at })]
	award := func(change func(*ledger.Award)) *ledger.Command {
		m := asked(t, lead, past.ID)
		a := &ledger.Award{Workload: waits.ID, Auction: m.Clearing.Auction, Wanted: m.Clearing.Wanted, MaxPrice: m.Clearing.MaxPrice,
			Bids: m.Clearing.Bids, Scores: m.Clearing.Scores, Slots: m.Clearing.Slots, First: 1}
		change(a)
		return &ledger.Command{Version: ledger.CommandVersion, At: time.Now().UnixMilli(), Leader: lead.self, Award: a}
	}
	honest := func(*ledger.Award) {}
	for name, raw := range map[string]func() ([]byte, error){
		"bids for other work": func() ([]byte, error) { return lead.cell.seal(award(honest)) },
		"a forged bid": func() ([]byte, error) {
			return lead.cell.seal(award(func(a *ledger.Award) { a.Bids[0].Sig = make([]byte, 64) }))
		},
		"a friend's slot": func() ([]byte, error) {
			return lead.cell.seal(award(func(a *ledger.Award) { a.Slots[0].Node = friend.self }))
		},
		"no bids": func() ([]byte, error) {
			return lead.cell.seal(award(func(a *ledger.Award) { a.Bids, a.Scores = nil, nil }))
		},
		"another's signature": func() ([]byte, error) {
			cmd := award(honest)
			cmd.Term = lead.cell.group.Term()
			return leader.SealCommand(nil, meshtest.Key(t), lead.cell.id, cmd)
		},
		"another history": func() ([]byte, error) {
			cmd := award(honest)
			if _, err := lead.cell.seal(cmd); err != nil {
				return nil, err
			}
			cmd.Seen.Head[0]++
			return leader.SealCommand(nil, lead.cell.key, lead.cell.id, cmd)
		},
		"not signed at all": func() ([]byte, error) { return wire.Marshal(award(honest)) },
	} {
		entry, err := raw()
		if err != nil {
			t.Fatal(err)
		}
		_, index, err := lead.cell.group.Propose(t.Context(), entry)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, n := range c.nodes {
			var found api.Refusal
			until(t, n.name+" refuses "+name, func() bool {
				found = refusedAt(n, index)
				return found.Index == index
			})
			anybodys := found.Code == string(ledger.NotProposed) || name == "not signed at all"
			if found.Detail == "" || !anybodys && found.Leader != lead.self {
				t.Errorf("%s: %s remembers %+v", name, n.name, found)
			}
		}
	}
	for _, n := range c.nodes {
		n.cell.Read(func(s *ledger.State) {
			if p, ok := s.Proof(waits.ID); !ok || len(p.Auctions) > 0 {
				t.Errorf("%s: an award of the malicious leader stands: %+v", n.name, p)
			}
		})
		a, err := n.Backend().Audit(t.Context(), n.cell.id)
		if err != nil || len(a.Refused) < 7 {
			t.Errorf("%s: the audit tells %d refusals, %v", n.name, len(a.Refused), err)
		}
	}
	next, err := b.Submit(t.Context(), wasmSpec(t, c.nodes[0], noop, 1))
	if err != nil {
		t.Fatal(err)
	}
	if w, _ := ended(t, b, next.ID); w.Phase != workload.Succeeded {
		t.Errorf("work after it: %s", w.Phase)
	}
}

// refusedAt is what a replica remembers of an entry.
func refusedAt(n *Node, index uint64) (found api.Refusal) {
	n.cell.mu.RLock()
	defer n.cell.mu.RUnlock()
	for _, r := range n.cell.wrong {
		if r.Index == index {
			found = r
		}
	}
	return found
}
