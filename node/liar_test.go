package node

import (
	"fmt"
	"slices"
	"testing"

	"github.com/perrin-mesh/perrin/mesh/attest/collect"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/node/notary"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/receipt"
	"github.com/perrin-mesh/perrin/workload/runner"
)

// TestALiarIsOutvoted runs work that is verified on nodes of three operators, one of which
// returns what its program did not print: no result of it counts or is paid, the receipt
// and `perrin inspect` name it, and its record shows in `perrin nodes` and in its next bid.
func TestALiarIsOutvoted(t *testing.T) {
	const tasks = 6
	cfg := func(name, prints string) Config {
		zone := "far"
		if name == "owner" {
			zone = "home"
		}
		return Config{Name: name, Cores: 1, Memory: 1 << 30, Labels: map[string]string{"zone": zone}, Attests: collect.Of(),
			Runners: map[workload.Kind]runner.Runner{workload.Wasm: nullRunner{prints}}}
	}
	c := startCompany(t, cfg("owner", ""), cfg("liar", "lies\n"), cfg("second", "truth\n"))
	owner, liar := c.nodes[0], c.nodes[1]
	c.operator(t, liar)
	c.admit(t, liar, cfg("third", "truth\n"))
	c.operator(t, c.nodes[2])
	c.admit(t, c.nodes[2], cfg("fourth", "truth\n"))
	c.settle(t)
	b := owner.Backend()
	spec := wasmSpec(t, owner, noop, tasks)
	spec.Where = `zone == "far"`
	spec.VerifyBy = &workload.VerifyBy{Agree: 2, Of: 3}
	for round := 1; c.differs(t, spec) == 0; round++ { // it may come late to all tasks of one workload
		if round == 10 {
			t.Fatalf("the liar ran nothing of %d workloads", round)
		}
	}
	list, err := b.Nodes(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range list {
		r := n.Record
		switch {
		case n.Name == "owner" && r != nil:
			t.Errorf("who ran nothing has a record: %+v", r)
		case n.Name == "liar" && (r == nil || r.Bad < 1000 || r.MeanPPM >= 500_000 || r.RiskPPM == 0):
			t.Errorf("the liar's record is %+v", r)
		case n.Name != "owner" && n.Name != "liar" && r != nil && r.Bad > 0:
			t.Errorf("%s told the truth, and has the record %+v", n.Name, r)
		}
	}
	spec.VerifyBy, spec.Tasks.Count = nil, 1
	until(t, "the liar loses an auction for its record", func() bool { // known to the leader with its next offer
		sub, err := b.Submit(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		ended(t, b, sub.ID)
		why, err := b.Why(t.Context(), sub.ID, nil)
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(why.Steps, func(s api.WhyStep) bool { return s.Auction != nil && lostFor(t, s.Auction.Bids, liar.self) })
	})
}

// lostFor reports whether a node's bid lost against others while it had a risk, which no
// other may have.
func lostFor(t *testing.T, bids []api.WhyBid, node workload.PeerID) (lost bool) {
	t.Helper()
	for _, bid := range bids {
		switch {
		case bid.Node == node:
			lost = bid.RiskPPM > 0 && bid.Won == 0 && len(bids) > 1
		case bid.RiskPPM > 0:
			t.Errorf("%s bids with a risk of %d ppm", bid.Name, bid.RiskPPM)
		}
	}
	return lost
}

// operator makes a node one of an operator of its own, and waits until all know it.
func (c *company) operator(t *testing.T, n *Node) {
	t.Helper()
	if _, err := c.nodes[0].Backend().ChangeOperator(t.Context(), api.OperatorChange{Node: n.name}); err != nil {
		t.Fatal(err)
	}
	for _, other := range c.nodes {
		until(t, other.name+" knows the operator of "+n.name, func() bool {
			tr, err := other.Backend().Trust(t.Context())
			return err == nil && slices.ContainsFunc(tr.Operators, func(o api.TrustOperator) bool { return o.Name == n.name })
		})
	}
}

// differs runs verified work, of which every result must be true, and returns how many
// lies were told: each stands in the summary, in `perrin why` and in the receipt.
func (c *company) differs(t *testing.T, spec workload.Spec) (lies int) {
	t.Helper()
	b, liar := c.nodes[0].Backend(), c.nodes[1]
	sub, err := b.Submit(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "it has ended", func() bool {
		w, err := b.Inspect(t.Context(), sub.ID)
		return err == nil && w.Phase.Ended()
	})
	w, err := b.Inspect(t.Context(), sub.ID)
	if err != nil || w.Phase != workload.Succeeded || w.Checked == nil || w.Checked.Accepted != spec.Tasks.Count || w.Checked.Alike > 0 {
		t.Fatalf("%v: %+v, checked %+v", err, w, w.Checked)
	}
	list, err := b.Tasks(t.Context(), sub.ID, 0, spec.Tasks.Count)
	if err != nil || len(list) != int(spec.Tasks.Count) {
		t.Fatalf("%d tasks: %v", len(list), err)
	}
	for _, task := range list {
		if string(task.Result.Stdout.Data) != "truth\n" || task.Node == liar.self {
			t.Errorf("task %d printed %q, on %s", task.Index, task.Result.Stdout.Data, task.On)
		}
	}
	for _, who := range w.Checked.Who {
		lies++
		c.outvoted(t, sub.ID, who)
	}
	for _, p := range w.Placed {
		if p.Node == liar.self && p.Cost != 0 {
			t.Errorf("the liar is paid %d", p.Cost)
		}
	}
	raw, err := b.Receipt(t.Context(), sub.ID)
	if err != nil {
		t.Fatal(err)
	}
	r, err := receipt.Verify(notary.Rules(nil), raw, receipt.Options{Root: c.nodes[0].id.bundle.Root, Voters: c.nodes[0].cell.Voters()})
	if err != nil || r.Status() != receipt.Holds {
		t.Fatalf("%v: %+v", err, r)
	}
	says := fmt.Sprintf("2 of 3 agree on %s, each signed by a node of another operator", workload.Counted(int(spec.Tasks.Count), "task"))
	if lies > 0 {
		says += fmt.Sprintf("; not paid, as it says something else: %s of liar", workload.Counted(lies, "result"))
	}
	if !slices.ContainsFunc(r.Links, func(l receipt.Link) bool { return l.Name == "checked" && l.Detail == says }) {
		t.Errorf("the receipt does not say %q: %+v", says, r.Links)
	}
	return lies
}

// outvoted checks what `perrin why` says of a task on which a node differed.
func (c *company) outvoted(t *testing.T, id workload.ID, who api.Dissent) {
	t.Helper()
	liar := c.nodes[1]
	if who.Node != liar.self || who.Name != liar.name {
		t.Errorf("%s is said to differ on task %d", who.Name, who.Task)
	}
	why, err := c.nodes[0].Backend().Why(t.Context(), id, &who.Task)
	if err != nil {
		t.Fatal(err)
	}
	verdicts := map[string]int{}
	for _, v := range why.Votes {
		verdicts[v.Verdict]++
		if (v.Verdict == "differs") != (v.Node == liar.self) {
			t.Errorf("the result of %s for task %d %s", v.Name, who.Task, v.Verdict)
		}
	}
	if verdicts["agrees"] != 2 || verdicts["differs"] != 1 || len(why.Votes) != 3 {
		t.Errorf("task %d: %v", who.Task, verdicts)
	}
}
