package node

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/node/leader"
	"github.com/perrin-mesh/perrin/node/worker"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/receipt"
)

// Bounds of making receipts: how long a voter waits for its ledger to have what it
// is asked about, how long voters are asked, and how many statements one makes at
// a time for others.
const (
	witnessLag  = 3 * time.Second
	witnessFor  = 20 * time.Second
	maxWitness  = 2
	witnessPoll = 50 * time.Millisecond
)

// Receipt implements api.Backend: it gathers what the cell's ledger says and the
// results, and has the voters sign it.
func (g gateway) Receipt(ctx context.Context, id workload.ID) ([]byte, error) {
	n := g.n
	var parts leader.ReceiptParts
	if err := n.query(ctx, id.Cell, &wire.QueryMsg{Op: leader.QueryReceipt, ID: id}, &parts); err != nil {
		return nil, err
	}
	segments, err := n.receiptSegments(ctx, id, &parts.Record)
	if err != nil {
		return nil, err
	}
	file := receipt.Receipt{
		PayloadType: receipt.PayloadType, Payload: receipt.Payload(parts.Record, segments),
		Certificates: parts.Certificates, Segments: segments,
	}
	if err := n.haveSigned(ctx, &file, &parts.Record); err != nil {
		return nil, err
	}
	raw := file.Encode()
	if len(raw) > receipt.MaxFile {
		return nil, api.Errorf(api.TooLarge, "the receipt would be %d MiB, at most %d", len(raw)>>20, receipt.MaxFile>>20)
	}
	return raw, nil
}

// receiptSegments are a workload's segments with their results.
func (n *Node) receiptSegments(ctx context.Context, id workload.ID, rec *receipt.Record) (out []receipt.Segment, err error) {
	for {
		var page []receipt.Segment
		if err := n.query(ctx, id.Cell, &wire.QueryMsg{Op: leader.QueryParts, ID: id, From: uint32(len(out))}, &page); err != nil {
			return nil, err
		}
		out = append(out, page...)
		if len(page) < leader.SegmentPage {
			break
		}
	}
	if err := n.fillSegments(ctx, out, rec.Voters); err != nil {
		return nil, api.Errorf(api.Unavailable, "results of %s: %v", id.Short(), err)
	}
	return out, nil
}

// fillSegments fetches the results of segments.
func (n *Node) fillSegments(ctx context.Context, segments []receipt.Segment, voters []workload.PeerID) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(segmentsAtOnce)
	holders := append(slices.Clone(voters), n.everyone()...)
	for i := range segments {
		g := &segments[i]
		group.Go(func() error {
			found, err := worker.FetchSegment(ctx, n.blobs, n, g.Ref, append(slices.Clone(holders), g.Node))
			if err == nil {
				g.Results = receipt.ResultsOf(found)
			}
			return err
		})
	}
	return group.Wait()
}

// haveSigned asks the voters for their signatures; a majority has to give them.
func (n *Node) haveSigned(ctx context.Context, file *receipt.Receipt, rec *receipt.Record) error {
	ctx, cancel := context.WithTimeout(ctx, witnessFor)
	defer cancel()
	msg := &wire.WitnessMsg{Workload: rec.Workload, Voters: rec.Voters, Statement: workload.DigestOf(file.Payload)}
	answers := make([]wire.Witnessed, len(rec.Voters))
	errs := make([]error, len(rec.Voters))
	var asked sync.WaitGroup
	for i, voter := range rec.Voters {
		asked.Go(func() {
			errs[i] = (caller{n}).Call(ctx, voter, wire.ProtoWitness, msg, &answers[i])
		})
	}
	asked.Wait()
	var first error
	for i, voter := range rec.Voters {
		s := receipt.Signature{KeyID: voter, Sig: answers[i].Sig}
		switch {
		case errs[i] == nil && s.Holds(file.Payload):
			file.Signatures = append(file.Signatures, s)
			file.Certify(answers[i].Certificates)
		case errs[i] == nil:
			first = fmt.Errorf("%s: the signature does not verify", voter.Short())
		case first == nil:
			first = fmt.Errorf("%s: %w", voter.Short(), errs[i])
		}
	}
	if len(file.Signatures)*2 <= len(rec.Voters) {
		return (&api.Error{Kind: api.Unavailable, Message: fmt.Sprintf("%d of the cell's %d voters signed the receipt, which is no majority: %v",
			len(file.Signatures), len(rec.Voters), first)}).WithHint("`perrin status` says which voters are there; try again in a moment")
	}
	return nil
}

// handleWitness makes the statement from this node's own ledger, and signs it when
// it is the one that is asked for. It tells nothing that the asker does not have.
func (n *Node) handleWitness(ctx context.Context, _ workload.PeerID, m *wire.WitnessMsg) (*wire.Witnessed, error) {
	select {
	case n.witnessing <- struct{}{}:
		defer func() { <-n.witnessing }()
	case <-ctx.Done():
		return nil, wire.Errorf(wire.Busy, "this node makes other receipts")
	}
	payload, err := n.witness(ctx, m)
	if err != nil {
		return nil, err
	}
	if workload.DigestOf(payload) != m.Statement {
		return nil, wire.Errorf(wire.Refused, "this voter's ledger says something else")
	}
	s := receipt.Sign(payload, n.id.key)
	return &wire.Witnessed{Sig: s.Sig, Certificates: n.host.Shown(n.self)}, nil
}

// witness makes a statement as soon as the ledger, which may lag a little, has
// what it is about.
func (n *Node) witness(ctx context.Context, m *wire.WitnessMsg) ([]byte, error) {
	late := time.After(witnessLag)
	for {
		payload, err := n.witnessNow(ctx, m)
		if err == nil {
			return payload, nil
		}
		select {
		case <-time.After(witnessPoll):
		case <-late:
			return nil, err
		case <-ctx.Done():
			return nil, err
		}
	}
}

func (n *Node) witnessNow(ctx context.Context, m *wire.WitnessMsg) ([]byte, error) {
	n.mu.Lock()
	c := n.cell
	n.mu.Unlock()
	if c == nil || c.id != m.Workload.Cell {
		return nil, wire.Errorf(wire.Refused, "this node does not vote in cell %s", m.Workload.Cell)
	}
	voters := c.Voters()
	if !slices.Contains(voters, n.self) || len(voters) != len(m.Voters) {
		return nil, wire.Errorf(wire.Unavailable, "the voters of the cell have changed")
	}
	for _, v := range m.Voters {
		if !slices.Contains(voters, v) {
			return nil, wire.Errorf(wire.Unavailable, "the voters of the cell have changed")
		}
	}
	rec, segments, err := leader.RecordOf(c, m.Workload, m.Voters)
	if err != nil {
		return nil, err
	}
	if receipt.Named(&rec) {
		if err := n.fillSegments(ctx, segments, m.Voters); err != nil {
			return nil, wire.Errorf(wire.Unavailable, "results: %v", err)
		}
	}
	return receipt.Payload(rec, segments), nil
}
