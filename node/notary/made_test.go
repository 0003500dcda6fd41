package notary

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/mesh/meshtest"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/leader"
	"github.com/perrin-mesh/perrin/scheduler"
	"github.com/perrin-mesh/perrin/scheduler/pricing"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/receipt"
)

// made is a workload as a mesh of three nodes ran it, from which a receipt is made.
type made struct {
	mesh  *meshtest.Authority
	owner ed25519.PrivateKey
	nodes []ed25519.PrivateKey
	certs [][]byte // of the nodes

	rec      receipt.Record
	segments []receipt.Segment
}

// make3 has tasks run on three nodes, some in a segment, as of a time.
func make3(t testing.TB, tasks, each uint32, at time.Time, change ...func(*workload.Spec)) *made {
	t.Helper()
	m := &made{mesh: meshtest.NewAuthority(t), owner: meshtest.Key(t)}
	for i := range 3 {
		key := meshtest.Key(t)
		m.nodes = append(m.nodes, key)
		m.certs = append(m.certs, m.mesh.Bundle(t, key, fmt.Sprintf("node%d", i+1), at).Encode())
	}
	spec := workload.DefaultSpec()
	spec.Version, spec.Mesh, spec.Created = workload.SpecVersion, m.mesh.Mesh(), at.UnixMilli()
	spec.Program = workload.Program{Kind: workload.Process, Host: "cat", Name: "cat"}
	spec.Tasks.Count, spec.Nonce = tasks, [16]byte{byte(tasks)}
	for _, f := range change {
		f(&spec)
	}
	signed := workload.Sign(workload.DomainSpec, wire.MustMarshal(&spec), m.owner)
	m.rec = receipt.Record{
		Mesh: spec.Mesh, Workload: leader.IDOf(workload.CellID{7}, signed), Spec: signed, Program: spec.Program,
		Home: m.id(0), Generation: 1, Phase: workload.Succeeded, Accepted: at.UnixMilli(), Started: at.UnixMilli() + 10,
		Tasks: receipt.Counts{Total: tasks, Done: tasks}, Voters: []workload.PeerID{m.id(0), m.id(1), m.id(2)},
	}
	m.awards(at)
	m.results(tasks, each, at)
	return m
}

func (m *made) id(i int) workload.PeerID { return meshtest.IDOf(m.nodes[i]) }

// awards has the nodes bid for two slots; the third sets the price.
func (m *made) awards(at time.Time) {
	a := receipt.Award{Auction: receipt.Auction{1, 2, 3}, At: at.UnixMilli() + 10, Index: 9, Wanted: 2, Granted: 2, First: 1}
	var bids []workload.Bid
	for i := range m.nodes {
		bid := workload.Bid{Auction: workload.AuctionID(a.Auction), Workload: m.rec.Workload, Node: m.id(i), Asks: []int64{1_000_000 + int64(i)*10_000}, HoldMs: 2000, HasMs: 9000}
		bids = append(bids, bid)
		a.Bids = append(a.Bids, workload.Sign(workload.DomainBid, wire.MustMarshal(&bid), m.nodes[i]))
		a.Scores = append(a.Scores, workload.Score{RTTMicros: 100, RiskPPM: 1000})
	}
	a.Slots = scheduler.Clear(a.Wanted, a.MaxPrice, bids, a.Scores)
	m.rec.Awards = []receipt.Award{a}
}

// prove has the leader, the first node, say of each winner what it proved.
func (m *made) prove(change func(*workload.Proved)) {
	a := &m.rec.Awards[0]
	a.Proofs = nil
	for _, s := range a.Slots {
		p := workload.Proved{
			Workload: m.rec.Workload, Auction: workload.AuctionID(a.Auction), Node: s.Node, By: m.id(0), Level: workload.LevelTPM,
			Status: workload.TierAffirming, Evidence: workload.DigestOf(s.Node[:]), At: a.At - 1000, Used: a.At - 10,
			For: workload.AuctionID(a.Auction),
		}
		change(&p)
		a.Proofs = append(a.Proofs, workload.Sign(workload.DomainProved, wire.MustMarshal(&p), m.key(p.By)))
	}
}

// countersign has voters, by their numbers, sign the award's clearing.
func (m *made) countersign(voters []workload.PeerID, by ...int) {
	a := &m.rec.Awards[0]
	a.Countersigned = nil
	c := wire.Clearing{
		Workload: m.rec.Workload, Auction: workload.AuctionID(a.Auction), Wanted: a.Wanted, MaxPrice: a.MaxPrice,
		Bids: a.Bids, Scores: a.Scores, Slots: a.Slots, Proofs: a.Proofs,
	}
	payload := wire.MustMarshal(c.Countersign(m.rec.Workload.Cell, voters))
	for _, i := range by {
		a.Countersigned = append(a.Countersigned, workload.Sign(workload.DomainCountersign, payload, m.nodes[i]))
	}
}

// results has the winners return the tasks in turn.
func (m *made) results(tasks, each uint32, at time.Time) {
	end := at.UnixMilli() + 1000 + 40*int64(tasks)
	for from := uint32(0); from < tasks; from += each {
		slot := int(from/each) % 2
		g := workload.Segment{Workload: m.rec.Workload, Slot: workload.SlotID(slot + 1), Node: m.rec.Awards[0].Slots[slot].Node}
		done := workload.Range{From: from, Count: min(each, tasks-from), Attempt: 1}
		for task := from; task < done.End(); task++ {
			g.Results = append(g.Results, workload.TaskResult{
				Index: task, Attempt: 1, Exit: workload.Exited, Usage: workload.Usage{WallMs: 40, CPUMs: 30, PeakMem: 1 << 20},
				Stdout: workload.Stream{Data: fmt.Appendf(nil, "line %d\n", task)}, Wall: "namespaces", Started: end,
				Outputs: []workload.Output{{Path: "out.txt", Blob: workload.Ref{Digest: workload.DigestOf([]byte{byte(task)}), Size: 1}}},
			})
		}
		m.close(&g, done, end)
	}
	m.rec.Ended = end
}

// close signs a segment and charges for it.
func (m *made) close(g *workload.Segment, done workload.Range, at int64) {
	raw := wire.MustMarshal(g)
	results := receipt.ResultsOf(g)
	st := wire.Statement{
		Ref:     wire.SlotRef{Workload: g.Workload, Slot: g.Slot, Fence: workload.Fence{Generation: 1, Epoch: 4}},
		Segment: workload.Ref{Digest: sha256.Sum256(raw), Size: int64(len(raw))}, Results: receipt.RootOf(results),
	}
	signed := workload.Sign(workload.DomainResult, wire.MustMarshal(&st), m.key(g.Node))
	n := int64(done.Count)
	rate := m.rec.Awards[0].Slots[g.Slot-1].Rate
	cost := pricing.Charge(rate, 40*n)
	m.rec.Cost += cost
	m.segments = append(m.segments, receipt.Segment{
		Slot: g.Slot, Node: g.Node, At: at, Rate: rate, PaidMs: 40 * n, Cost: cost, Usage: workload.Usage{WallMs: 40 * n, CPUMs: 30 * n, PeakMem: 1 << 20},
		Ref: st.Segment, Done: []workload.Range{done}, Statement: signed.Payload, Sig: signed.Sig, Results: results,
	})
}

// repay has the first segment paid for another time, at the right price for it.
func (m *made) repay(ms int64) {
	g := &m.segments[0]
	m.rec.Cost -= g.Cost
	g.PaidMs, g.Cost = ms, pricing.Charge(g.Rate, ms)
	m.rec.Cost += g.Cost
}

func (m *made) key(node workload.PeerID) ed25519.PrivateKey {
	for i := range m.nodes {
		if m.id(i) == node {
			return m.nodes[i]
		}
	}
	return nil
}

// file is the receipt, signed by all three voters.
func (m *made) file() *receipt.Receipt {
	f := &receipt.Receipt{
		PayloadType: receipt.PayloadType, Payload: receipt.Payload(m.rec, m.segments),
		Certificates: m.certs, Segments: m.segments,
	}
	for _, key := range m.nodes {
		f.Signatures = append(f.Signatures, receipt.Sign(f.Payload, key))
	}
	return f
}

func (m *made) options() receipt.Options {
	return receipt.Options{Root: meshtest.IDOf(m.mesh.Root), Owner: meshtest.IDOf(m.owner), Voters: slices.Clone(m.rec.Voters)}
}

// verified checks a file; an error of the form fails the test.
func verified(t testing.TB, raw []byte, opt receipt.Options) *receipt.Report {
	t.Helper()
	report, err := receipt.Verify(Rules(nil), raw, opt)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// failing are the names of the links that fail.
func failing(r *receipt.Report) (names []string) {
	for _, l := range r.Links {
		if l.Status == receipt.Fails {
			names = append(names, l.Name)
		}
	}
	return names
}
