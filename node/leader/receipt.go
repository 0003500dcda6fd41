package leader

import (
	"bytes"
	"slices"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/receipt"
	"github.com/perrin-mesh/perrin/workload/rights"
)

// ReceiptParts is what a leader gives for a receipt, beside the segments.
type ReceiptParts struct {
	Record       receipt.Record `json:"record"`
	Certificates [][]byte       `json:"certificates"` // of who bid and who ran it, as the ledger has them
}

// receiptParts answers QueryReceipt.
func (l *Leader) receiptParts(a asker, id workload.ID) (*ReceiptParts, error) {
	if err := l.may(a, rights.Observe, id); err != nil {
		return nil, err
	}
	rec, segments, err := RecordOf(l.cfg.Cell, id, l.cfg.Cell.Voters())
	if err != nil {
		return nil, err
	}
	out := &ReceiptParts{Record: rec}
	var who []workload.PeerID
	for i := range rec.Awards {
		for _, b := range slices.Concat(rec.Awards[i].Bids, rec.Awards[i].Proofs, rec.Awards[i].Countersigned) {
			who = append(who, b.By)
		}
	}
	for i := range segments {
		who = append(who, segments[i].Node)
	}
	slices.SortFunc(who, byKey)
	who = slices.Compact(who)
	l.cfg.Cell.Read(func(s *ledger.State) {
		for _, c := range s.Certs(who, rec.Accepted, rec.Ended) {
			out.Certificates = append(out.Certificates, c.Raw)
		}
	})
	return out, nil
}

// receiptSegments answers QueryParts.
func (l *Leader) receiptSegments(a asker, m *wire.QueryMsg) ([]receipt.Segment, error) {
	if err := l.may(a, rights.Observe, m.ID); err != nil {
		return nil, err
	}
	_, segments, err := RecordOf(l.cfg.Cell, m.ID, nil)
	from := min(int(m.From), len(segments))
	return segments[from:min(from+SegmentPage, len(segments))], err
}

// Reader is a ledger that can be looked at.
type Reader interface {
	Read(f func(*ledger.State))
}

// RecordOf is what a cell's ledger says of a workload that has ended, and its
// segments without their results. Every replica makes the same of both.
func RecordOf(cell Reader, id workload.ID, voters []workload.PeerID) (rec receipt.Record, segments []receipt.Segment, err error) {
	var p ledger.Proof
	err = find(cell, id, func(s *ledger.State) (known bool) { p, known = s.Proof(id); return known })
	switch {
	case err != nil:
		return rec, nil, err
	case !p.Phase.Ended():
		return rec, nil, wire.Errorf(wire.Refused, "workload %s is %s: a receipt is about one that has ended", id.Short(), p.Phase)
	case len(p.View.Slots) > 0:
		return rec, nil, wire.Errorf(wire.Unavailable, "%d slots of %s have not reported their end yet", len(p.View.Slots), id.Short())
	}
	for i := range p.Segments {
		segments = append(segments, segmentOf(&p.Segments[i]))
	}
	return recordOf(&p, voters), segments, nil
}

func recordOf(p *ledger.Proof, voters []workload.PeerID) receipt.Record {
	voters = slices.Clone(voters)
	slices.SortFunc(voters, byKey)
	rec := receipt.Record{
		Mesh: p.Mesh, Workload: p.ID, Spec: p.Signed, Program: p.Spec.Program, Home: p.Home, Generation: p.Generation,
		Phase: p.Phase, Reason: p.Reason, Accepted: p.Accepted, Started: p.Started, Ended: p.Ended,
		Tasks:   receipt.Counts{Total: p.Tasks.Total, Done: p.Tasks.Done, Failed: p.Tasks.Failed},
		Retries: p.Retries, Lost: p.Lost, Cost: p.Cost, Dropped: p.Dropped, Voters: voters,
	}
	for i := range p.Auctions {
		a := &p.Auctions[i]
		rec.Awards = append(rec.Awards, receipt.Award{
			Auction: receipt.Auction(a.ID), At: a.At, Index: a.Index, Wanted: a.Wanted, MaxPrice: a.MaxPrice,
			Bids: a.Bids, Scores: a.Scores, Slots: a.Slots, Granted: a.Granted, First: a.First, Declines: a.Declines,
			Proofs: a.Proofs, Countersigned: a.Countersigned,
		})
	}
	return rec
}

func byKey(a, b workload.PeerID) int { return bytes.Compare(a[:], b[:]) }

func segmentOf(g *ledger.Segment) receipt.Segment {
	out := receipt.Segment{
		Slot: g.Slot, Node: g.Node, At: g.At, Rate: g.Rate, PaidMs: g.Paid, Cost: g.Cost, Usage: g.Usage, Ref: g.Ref,
		Done: g.Done, Retried: g.Retried, Statement: g.Sig.Payload, Sig: g.Sig.Sig,
	}
	if v := g.Vote; v != nil {
		out.Vote = &receipt.Vote{Task: v.Task, Attempt: v.Attempt, Exit: v.Exit, Code: v.Code, Result: v.Result, Verdict: string(v.Verdict), Streak: v.Streak}
		if d := v.Drawn; d != nil {
			out.Vote.Drawn = &receipt.Drawn{Picked: d.Picked, Sig: d.Sig, Note: d.Note}
		}
	}
	for _, f := range g.Failed {
		out.Failed = append(out.Failed, receipt.Failed{Task: f.Index, Attempt: f.Attempt, Exit: f.Exit, Code: f.Code})
	}
	return out
}

// certsOf are the certificates of nodes that the ledger does not have yet.
func (l *Leader) certsOf(nodes ...workload.PeerID) (out [][]byte) {
	if l.cfg.Shown == nil {
		return nil
	}
	l.cfg.Cell.Read(func(s *ledger.State) {
		for _, node := range nodes {
			if raw := l.cfg.Shown(node); raw != nil && !s.KnowsCert(node, raw) {
				out = append(out, raw)
			}
		}
	})
	return out
}

// signers are those who signed something in an award.
func signers(a *ledger.Award) (out []workload.PeerID) {
	for _, list := range [][]workload.Signed{a.Bids, a.Proofs, a.Countersigned} {
		for i := range list {
			out = append(out, list[i].By)
		}
	}
	slices.SortFunc(out, byKey)
	return slices.Compact(out)
}
