package notary

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/mesh/meshtest"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/scheduler"
	"github.com/perrin-mesh/perrin/scheduler/pricing"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/receipt"
)

// compared is a workload of one task which its owner wants verified by two of three
// nodes: one of them lied. firms are the nodes' operators.
func compared(t *testing.T, firms ...string) *made {
	t.Helper()
	at := time.Now()
	m := make3(t, 1, 1, at, func(s *workload.Spec) { s.VerifyBy = &workload.VerifyBy{Agree: 2, Of: 3} })
	operators := map[string]ed25519.PrivateKey{}
	for i, firm := range firms {
		if operators[firm] == nil {
			operators[firm] = meshtest.Key(t)
		}
		m.certs[i] = m.certify(t, operators[firm], firm, i, at)
	}
	m.segments, m.rec.Cost = nil, 0
	a := &m.rec.Awards[0]
	second := *a
	second.Auction[15]++
	for _, w := range []*receipt.Award{a, &second} {
		m.rebid(w)
	}
	second.First, second.Index, second.At = 3, 12, a.At+100
	m.rec.Awards = append(m.rec.Awards, second)
	m.vote(a.Slots[0], 1, 1, a.At+60, "lie", "differs")
	m.vote(a.Slots[1], 2, 2, a.At+61, "truth", "agrees")
	m.vote(second.Slots[0], 3, 3, a.At+200, "truth", "agrees")
	m.segments[1].Done = []workload.Range{{From: 0, Count: 1, Attempt: 2}}
	return m
}

// rebid has an auction's bids: all three in the first one, in the second only who
// has not run the task.
func (m *made) rebid(a *receipt.Award) {
	var bids []workload.Bid
	a.Bids, a.Scores = nil, nil
	nodes := []int{0, 1, 2}
	a.Wanted = 2
	if a.Auction[15] == 1 {
		nodes, a.Wanted, a.Granted = []int{2}, 1, 1
	}
	for _, i := range nodes {
		bid := workload.Bid{Auction: workload.AuctionID(a.Auction), Workload: m.rec.Workload, Node: m.id(i), Asks: []int64{1_000_000 + int64(i)*10_000}, HoldMs: 2000, HasMs: 9000}
		bids = append(bids, bid)
		a.Bids = append(a.Bids, workload.Sign(workload.DomainBid, wire.MustMarshal(&bid), m.nodes[i]))
		a.Scores = append(a.Scores, workload.Score{RTTMicros: 100})
	}
	a.Slots = scheduler.Clear(a.Wanted, a.MaxPrice, bids, a.Scores)
}

// certify admits a node under an operator of its own.
func (m *made) certify(t *testing.T, operator ed25519.PrivateKey, name string, node int, at time.Time) []byte {
	t.Helper()
	cert, err := admission.IssueOperator(m.mesh.Root, meshtest.IDOf(operator), name, at)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := admission.IssueNode(operator, m.mesh.Mesh(), m.id(node), fmt.Sprintf("node%d", node+1), at)
	if err != nil {
		t.Fatal(err)
	}
	return admission.Bundle{Root: meshtest.IDOf(m.mesh.Root), Operator: cert, Node: signed}.Encode()
}

// vote has a slot return a result for the task.
func (m *made) vote(slot workload.AwardSlot, id workload.SlotID, attempt uint32, at int64, stdout, verdict string) {
	g := workload.Segment{Workload: m.rec.Workload, Slot: id, Node: slot.Node, Results: []workload.TaskResult{{
		Attempt: attempt, Exit: workload.Exited, Usage: workload.Usage{WallMs: 40, CPUMs: 30, PeakMem: 1 << 20},
		Stdout: workload.Stream{Data: []byte(stdout)}, Wall: "namespaces", Started: at - 40,
	}}}
	raw, results := wire.MustMarshal(g), receipt.ResultsOf(&g)
	st := wire.Statement{
		Ref:     wire.SlotRef{Workload: g.Workload, Slot: g.Slot, Fence: workload.Fence{Generation: 1, Epoch: 4}},
		Segment: workload.Ref{Digest: sha256.Sum256(raw), Size: int64(len(raw))}, Results: receipt.RootOf(results), Vote: receipt.VoteOf(&results[0]),
	}
	signed := workload.Sign(workload.DomainResult, wire.MustMarshal(&st), m.key(slot.Node))
	cost := pricing.Charge(slot.Rate, 40)
	if verdict == "differs" {
		cost = 0
	}
	m.rec.Cost += cost
	m.segments = append(m.segments, receipt.Segment{
		Slot: id, Node: slot.Node, At: at, Rate: slot.Rate, PaidMs: 40, Cost: cost, Usage: g.Results[0].Usage, Ref: st.Segment,
		Statement: signed.Payload, Sig: signed.Sig, Results: results,
		Vote: &receipt.Vote{Attempt: attempt, Exit: workload.Exited, Result: st.Vote, Verdict: verdict},
	})
}

func checkedLink(r *receipt.Report) receipt.Link {
	for _, l := range r.Links {
		if l.Name == "checked" {
			return l
		}
	}
	return receipt.Link{}
}

// A receipt of work that several nodes checked says how many agree, who does not,
// and whether they are of different operators.
func TestCheckedLink(t *testing.T) {
	for _, tt := range []struct {
		firms  string
		status receipt.Status
		want   string
	}{
		{"a b c", receipt.Holds, "2 of 3 agree on 1 task, each signed by a node of another operator; not paid, as it says something else: 1 result of node1"},
		{"a a a", receipt.Holds, "of 1 two nodes have one operator, as no other bid"},
		{"a b b", receipt.Holds, "of 1 two nodes have one operator, as no other bid"}, // a had run it
		{"b b c", receipt.Fails, "node1 and node2 have one operator, and node3 of another bid"},
	} {
		m := compared(t, strings.Fields(tt.firms)...)
		if tt.status == receipt.Fails { // the first two agree at once
			m.segments, m.rec.Awards, m.rec.Cost = nil, m.rec.Awards[:1], 0
			for i, slot := range m.rec.Awards[0].Slots {
				m.vote(slot, workload.SlotID(i+1), uint32(i+1), m.rec.Awards[0].At+60, "truth", "agrees")
			}
			m.segments[0].Done = []workload.Range{{From: 0, Count: 1, Attempt: 1}}
		}
		r := verified(t, m.file().Encode(), m.options())
		link := checkedLink(r)
		if link.Status != tt.status || !strings.Contains(link.Detail, tt.want) {
			t.Errorf("%s: %s: %s, want %s: %s", tt.firms, link.Status, link.Detail, tt.status, tt.want)
		}
		if tt.status == receipt.Holds && r.Status() != receipt.Holds {
			t.Errorf("%s: %v fail: %+v", tt.firms, failing(r), r.Links)
		}
	}
}

// What a whole cell of voters makes of the votes shows, as each node signed its own.
func TestVotesCannotBeChanged(t *testing.T) {
	tests := map[string]func(*made){
		"a lie that agrees": func(m *made) { m.segments[0].Vote.Verdict = "agrees" },
		"a vote changed to agree": func(m *made) {
			m.segments[0].Vote.Result, m.segments[0].Vote.Verdict = m.segments[1].Vote.Result, "agrees"
		},
		"one of two that agree left out": func(m *made) {
			m.segments = m.segments[:2]
			m.rec.Cost = m.segments[1].Cost
		},
		"the lie accepted": func(m *made) {
			m.segments[0].Done, m.segments[1].Done = []workload.Range{{Count: 1, Attempt: 1}}, nil
		},
		"one node twice": func(m *made) { m.segments = append(m.segments, m.segments[2]) },
		"no votes":       func(m *made) { m.segments[1].Vote = nil },
		"unjudged":       func(m *made) { m.segments[1].Done, m.rec.Tasks.Done = nil, 0 },
		"another exit":   func(m *made) { m.segments[1].Vote.Code = 1 },
	}
	for name, change := range tests {
		m := compared(t, "a", "b", "c")
		change(m)
		if r := verified(t, m.file().Encode(), m.options()); !slices.Contains(failing(r), "checked") {
			t.Errorf("%s: failing %q, want checked among them: %+v", name, failing(r), checkedLink(r))
		}
	}
}

// bidAgain has nodes bid for the slot of the second auction.
func (m *made) bidAgain(a *receipt.Award, nodes ...int) {
	var bids []workload.Bid
	a.Bids, a.Scores, a.Wanted, a.Granted = nil, nil, 1, 1
	for _, i := range nodes {
		bid := workload.Bid{Auction: workload.AuctionID(a.Auction), Workload: m.rec.Workload, Node: m.id(i), Asks: []int64{1_000_000 - int64(i)*10_000}, HoldMs: 2000, HasMs: 9000}
		bids = append(bids, bid)
		a.Bids = append(a.Bids, workload.Sign(workload.DomainBid, wire.MustMarshal(&bid), m.nodes[i]))
		a.Scores = append(a.Scores, workload.Score{RTTMicros: 100})
	}
	a.Slots = scheduler.Clear(a.Wanted, a.MaxPrice, bids, a.Scores)
}

// An outsider that had a slot before may have held the task and given it back: that
// is no proof of a leader's fraud.
func TestAnOutsiderMayHaveHeldIt(t *testing.T) {
	m := compared(t, "b", "a", "b")
	second := &m.rec.Awards[1]
	m.bidAgain(second, 1, 2)
	if second.Slots[0].Node != m.id(2) {
		t.Fatal("node3 did not win")
	}
	// node2, of a, returned its replica unstarted and bid again; node1 and node3 agree.
	m.segments, m.rec.Cost = nil, 0
	m.vote(m.rec.Awards[0].Slots[0], 1, 1, m.rec.Awards[0].At+60, "truth", "agrees")
	m.vote(second.Slots[0], 3, 2, second.At+100, "truth", "agrees")
	m.segments[0].Done = []workload.Range{{From: 0, Count: 1, Attempt: 1}}
	link := checkedLink(verified(t, m.file().Encode(), m.options()))
	if want := "node1 and node3 have one operator, and node2 of another bid: it may have held the task"; link.Status != receipt.Unchecked || !strings.Contains(link.Detail, want) {
		t.Errorf("%s: %s, want %s", link.Status, link.Detail, want)
	}
}

// Who operated a node is what its certificates of that time say, in any order.
func TestOperatorAtTheTime(t *testing.T) {
	for _, tt := range []struct {
		name   string
		issued time.Duration // after the work, of a certificate by node1's operator for node3
		status receipt.Status
		want   string
	}{
		{"renewed long after", 90 * 24 * time.Hour, receipt.Holds, "another operator"},
		{"renewed before", -time.Hour, receipt.Unchecked, "two operators had admitted node3"},
	} {
		for _, first := range []bool{true, false} {
			m := compared(t, "a", "b", "c")
			at := time.UnixMilli(m.rec.Awards[0].At).Add(tt.issued)
			again := m.certify(t, meshtest.Key(t), "b", 2, at)
			m.certs = append(m.certs, again)
			if first {
				m.certs = append([][]byte{again}, m.certs[:len(m.certs)-1]...)
			}
			if link := checkedLink(verified(t, m.file().Encode(), m.options())); link.Status != tt.status || !strings.Contains(link.Detail, tt.want) {
				t.Errorf("%s, first=%v: %s: %s, want %s: %s", tt.name, first, link.Status, link.Detail, tt.status, tt.want)
			}
		}
	}
}

// A leader cannot take a result out by closing it as an attempt that its node
// stopped, nor pay for one that was.
func TestAResultIsNotTakenOut(t *testing.T) {
	m := compared(t, "a", "b", "c")
	m.segments[0].Vote, m.segments[0].Retried = nil, []workload.Range{{Count: 1, Attempt: 1}}
	m.rec.Retries = 1
	if link := checkedLink(verified(t, m.file().Encode(), m.options())); link.Status != receipt.Fails || !strings.Contains(link.Detail, "node1 counts as an attempt that its node failed") {
		t.Errorf("a result taken out: %+v", link)
	}
	for _, exit := range []workload.Exit{workload.NodeFault, workload.StoppedExit} {
		m := compared(t, "a", "b", "c")
		m.rec.Retries = 1
		m.failed(&m.segments[0], exit)
		r := verified(t, m.file().Encode(), m.options())
		if link := checkedLink(r); link.Status != receipt.Holds || slices.Contains(failing(r), "price") {
			t.Errorf("%s: %+v, failing %v", exit, link, failing(r))
		}
		g := &m.segments[0]
		g.PaidMs, g.Cost = 40, pricing.Charge(g.Rate, 40)
		m.rec.Cost += g.Cost
		if r = verified(t, m.file().Encode(), m.options()); !slices.Contains(failing(r), "price") {
			t.Errorf("%s is paid, failing %v", exit, failing(r))
		}
	}
}

// failed makes the one result of a segment an attempt that its node failed.
func (m *made) failed(g *receipt.Segment, exit workload.Exit) {
	g.Vote, g.PaidMs, g.Cost, g.Retried = nil, 0, 0, []workload.Range{{Count: 1, Attempt: 1}}
	g.Results[0].Exit = exit
	st := wire.Statement{
		Ref:     wire.SlotRef{Workload: m.rec.Workload, Slot: g.Slot, Fence: workload.Fence{Generation: 1, Epoch: 4}},
		Segment: g.Ref, Results: receipt.RootOf(g.Results), Vote: receipt.VoteOf(&g.Results[0]),
	}
	signed := workload.Sign(workload.DomainResult, wire.MustMarshal(&st), m.key(g.Node))
	g.Statement, g.Sig = signed.Payload, signed.Sig
}
