package leader

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/fuzzpeers"
	"github.com/perrin-mesh/perrin/scheduler"
	"github.com/perrin-mesh/perrin/scheduler/lease"
	"github.com/perrin-mesh/perrin/scheduler/pricing"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/blob"
	"github.com/perrin-mesh/perrin/workload/receipt"
)

// FuzzLeader sends a leader, whose ledger has something in every list, messages
// made of arbitrary bytes: from a stranger, from workers, from the home of its
// workloads and from itself. It answers each within its time and never panics;
// what it refuses has changed nothing; what it committed holds together, and
// every node it called, told or asked may have answered with anything.
func FuzzLeader(f *testing.F) {
	base := fuzzBase(f)
	for _, steps := range fuzzSteps(f) {
		f.Add(fuzzpeers.Script(steps...))
	}
	var all []fuzzpeers.Step
	for _, steps := range fuzzSteps(f) {
		all = append(all, steps...)
	}
	f.Add(fuzzpeers.Script(all[:min(len(all), maxSteps)]...))
	f.Fuzz(func(t *testing.T, data []byte) {
		synctest.Test(t, func(t *testing.T) {
			d := newDuel(t, base)
			for _, s := range fuzzpeers.Read(data, peers, maxSteps) {
				d.take(s)
			}
			d.end()
		})
	})
}

// The peers that speak to the leader.
const (
	asStranger = iota
	asWorker
	asOther // another worker
	asHome
	asLeader
	peers
)

var (
	ownerKey = fuzzpeers.Key(100)
	duelMesh = workload.MeshID{'m'}
	duelCell = workload.CellID{'c'}
)

// Besides the handlers there are these kinds of steps.
const (
	stepOffer  = iota // a member's offer
	stepAnswer        // what the next node that is called answers
	stepTime          // so many ms pass
	stepGone          // a node is silent
	stepHandlers
)

const maxSteps = 24

func quiet[Req any](fn func(*Leader, context.Context, workload.PeerID, *Req) error) func(*Leader, context.Context, workload.PeerID, *Req) (*wire.Ack, error) {
	return func(l *Leader, ctx context.Context, from workload.PeerID, req *Req) (*wire.Ack, error) {
		return &wire.Ack{}, fn(l, ctx, from, req)
	}
}

// fuzzHandlers are the protocols that a leader serves.
func fuzzHandlers() []fuzzpeers.Handler[*Leader] {
	return []fuzzpeers.Handler[*Leader]{
		fuzzpeers.Handle(wire.ProtoSubmit, goodSubmit, (*Leader).HandleSubmit),
		fuzzpeers.Handle(wire.ProtoTake, nil, (*Leader).HandleTake),
		fuzzpeers.Handle(wire.ProtoReturn, nil, quiet((*Leader).HandleReturn)),
		fuzzpeers.Handle(wire.ProtoClose, goodClose, (*Leader).HandleClose),
		fuzzpeers.Handle(wire.ProtoDone, nil, quiet((*Leader).HandleDone)),
		fuzzpeers.Handle(wire.ProtoRenew, nil, (*Leader).HandleRenew),
		fuzzpeers.Handle(wire.ProtoStop, goodStop, quiet((*Leader).HandleStop)),
		fuzzpeers.Handle(wire.ProtoQuery, nil, (*Leader).HandleQuery),
		fuzzpeers.Handle(wire.ProtoSuited, nil, func(l *Leader, ctx context.Context, _ workload.PeerID, m *wire.SuitedMsg) (*wire.SuitedOffers, error) {
			_, err := l.HandleSuited(ctx, m)
			return &wire.SuitedOffers{}, err
		}),
	}
}

func goodSubmit(from int, m *wire.Submit) {
	m.Home = fuzzpeers.ID(from)
	m.Spec = workload.Sign(workload.DomainSpec, m.Spec.Payload, ownerKey)
}

func goodClose(from int, m *wire.CloseMsg) {
	statement := wire.Statement{Ref: m.Ref, Segment: blob.RefOf(m.Segment)}
	var segment workload.Segment
	if wire.Unmarshal(m.Segment, &segment) == nil {
		statement.Results = receipt.RootOf(receipt.ResultsOf(&segment))
	}
	m.Sig = workload.Sign(workload.DomainResult, wire.MustMarshal(statement), fuzzpeers.Key(from))
}

func goodStop(_ int, m *wire.StopMsg) {
	if len(m.Order.Sig) > 0 {
		m.Order = workload.Sign(workload.DomainStop, wire.MustMarshal(m.ID), ownerKey)
	}
}

// duelRules are a ledger's, with real signatures and the real clearing.
func duelRules(memo *workload.Memo) ledger.Rules {
	return ledger.Rules{
		OpenSpec: func(s workload.Signed) (workload.Spec, error) { return OpenSpec(memo, s) },
		OpenBid:  func(s workload.Signed) (workload.Bid, error) { return OpenBid(memo, s) },
		Charge:   pricing.Charge,
		Replay: func(a *ledger.Award) error {
			var bids []workload.Bid
			for _, s := range a.Bids {
				bid, err := OpenBid(memo, s)
				if err != nil || bid.Auction != a.Auction {
					return fmt.Errorf("a bid of another auction: %w", err)
				}
				bids = append(bids, bid)
			}
			if !equalSlots(scheduler.Clear(a.Wanted, a.MaxPrice, bids, a.Scores), a.Slots) {
				return errors.New("the clearing gives something else")
			}
			return nil
		},
	}
}

func equalSlots(a, b []workload.AwardSlot) bool {
	return bytes.Equal(wire.MustMarshal(a), wire.MustMarshal(b))
}

// duelCellOf is a ledger of one voter without a log.
type duelCellOf struct {
	mu    sync.Mutex
	state *ledger.State
}

func (c *duelCellOf) ID() workload.CellID                { return duelCell }
func (c *duelCellOf) Term() uint64                       { return 3 }
func (c *duelCellOf) Voters() []workload.PeerID          { return []workload.PeerID{fuzzpeers.ID(asLeader)} }
func (c *duelCellOf) VerifyLeader(context.Context) error { return nil }

func (c *duelCellOf) Read(f func(*ledger.State)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(c.state)
}

// Propose implements Cell: every entry goes through its encoding.
func (c *duelCellOf) Propose(_ context.Context, cmd *ledger.Command) (ledger.Result, error) {
	raw, err := wire.Marshal(cmd)
	if err != nil {
		return ledger.Result{}, err
	}
	p := new(ledger.Command)
	if wire.Unmarshal(raw, p) != nil {
		p = nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	index, _ := c.state.Head()
	return c.state.Apply(index+1, p, raw), nil
}

// duel is a leader and all that it speaks to.
type duel struct {
	t       *testing.T
	cell    *duelCellOf
	memo    *workload.Memo
	leader  *Leader
	served  []fuzzpeers.Handler[*Leader]
	stop    context.CancelFunc
	stopped chan struct{}

	mu       sync.Mutex
	answers  [][]byte
	keepsAll bool // an owner has asked for all to be copied
}

func newDuel(t *testing.T, base []byte) *duel {
	d := &duel{t: t, memo: workload.NewMemo(), served: fuzzHandlers(), stopped: make(chan struct{})}
	snap := new(ledger.Snapshot)
	if err := wire.UnmarshalBulk(base, snap); err != nil {
		t.Fatal(err)
	}
	state, err := ledger.Restore(duelRules(d.memo), snap)
	if err != nil {
		t.Fatal(err)
	}
	d.cell = &duelCellOf{state: state}
	ctx, stop := context.WithCancel(t.Context())
	began := time.Now()
	d.stop = stop
	d.leader = New(ctx, Config{
		Self: fuzzpeers.ID(asLeader), Key: fuzzpeers.Key(asLeader), Memo: d.memo, Mesh: duelMesh, Cell: d.cell, Caller: d, Siblings: d, Store: d,
		Desk: scheduler.DefaultConfig(), Lease: lease.Default(), Log: slog.New(slog.DiscardHandler),
		Clock: func() time.Duration { return time.Since(began) },
	})
	go func() {
		defer close(d.stopped)
		_ = d.leader.Run()
	}()
	synctest.Wait()
	return d
}

// Replicate implements Blobs. Nothing on its way to the voters is over its bound,
// unless the owner asks for that.
func (d *duel) Replicate(_ context.Context, m *wire.Hold) error {
	for _, b := range m.Blobs {
		if b.Size > workload.KeepAutoLimit && !d.keepsAll {
			d.t.Errorf("%d bytes are copied to the voters", b.Size)
		}
	}
	for _, in := range m.Inline {
		if len(in.Data) > wire.InlineLimit {
			d.t.Errorf("%d bytes ride inline", len(in.Data))
		}
	}
	return nil
}

// Holding implements Blobs: two blobs are held for another workload.
func (d *duel) Holding(refs []workload.Ref) ([]workload.ID, bool) {
	return []workload.ID{duelID(runs)}, len(refs) == 2
}

// Suited implements Siblings.
func (d *duel) Suited(context.Context, *scheduler.Lot) ([]workload.Offer, bool) { return nil, true }

// RTT implements Caller.
func (d *duel) RTT(workload.PeerID) time.Duration { return time.Millisecond }

// Name implements Caller.
func (d *duel) Name(workload.PeerID) string { return "" }

// Call implements Caller: the next answer of the script is decoded as whatever
// was asked for; without one the peer is not reached.
func (d *duel) Call(_ context.Context, to workload.PeerID, proto string, req, resp any) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.answers) == 0 {
		return wire.Errorf(wire.Unavailable, "nobody answers")
	}
	answer := d.answers[0]
	d.answers = d.answers[1:]
	if err := wire.Unmarshal(answer, resp); err != nil {
		return err
	}
	call, ok := req.(*wire.CallMsg)
	if bid := resp; ok && bid.(*wire.CallAnswer).Bid != nil {
		d.signBid(to, &call.Call, bid.(*wire.CallAnswer).Bid)
	}
	return nil
}

// signBid makes a bid one of the node that was called, for its auction.
func (d *duel) signBid(to workload.PeerID, call *workload.Call, s *workload.Signed) {
	var bid workload.Bid
	if wire.Unmarshal(s.Payload, &bid) != nil {
		return
	}
	bid.Auction, bid.Node = call.Auction, to
	for n := range peers {
		if fuzzpeers.ID(n) == to {
			*s = workload.Sign(workload.DomainBid, wire.MustMarshal(bid), fuzzpeers.Key(n))
		}
	}
}

// handleWithin is how long a peer waits for an answer: every handler must be
// done by then.
const handleWithin = 5 * time.Second

func (d *duel) take(s fuzzpeers.Step) {
	switch kind := int(s.Kind) % (stepHandlers + len(d.served)); kind {
	case stepOffer:
		var o workload.Offer
		if wire.Unmarshal(s.Body, &o) == nil {
			o.Node = fuzzpeers.ID(int(s.From))
			d.leader.Offer(o)
		}
	case stepAnswer:
		d.mu.Lock()
		d.answers = append(d.answers, s.Body)
		d.mu.Unlock()
	case stepTime:
		time.Sleep(time.Duration(len(s.Body)%64) * 256 * time.Millisecond) // virtual time
	case stepGone:
		d.leader.Gone(fuzzpeers.ID(int(s.From)))
	default:
		d.handle(&d.served[kind-stepHandlers], &s)
	}
	synctest.Wait()
	d.check()
}

func (d *duel) handle(h *fuzzpeers.Handler[*Leader], s *fuzzpeers.Step) {
	var submit wire.Submit
	var spec workload.Spec
	if h.Proto == wire.ProtoSubmit && wire.Unmarshal(s.Body, &submit) == nil && wire.Unmarshal(submit.Spec.Payload, &spec) == nil {
		d.keepsAll = d.keepsAll || spec.Keep == workload.KeepAll
	}
	before := d.sum()
	ctx, cancel := context.WithTimeout(d.t.Context(), handleWithin)
	defer cancel()
	began := time.Now()
	_, err := h.Serve(d.leader, ctx, s)
	took := time.Since(began)
	if took > handleWithin {
		d.t.Errorf("%s took %s", h.Proto, took)
	}
	if err != nil && wire.FromError(err).Kind == wire.Internal {
		d.t.Errorf("%s failed by itself: %v", h.Proto, err)
	}
	synctest.Wait()
	refused := errors.Is(err, wire.Malformed) || errors.Is(err, wire.Unauthorized) || errors.Is(err, wire.NotFound) || errors.Is(err, wire.ErrMalformed)
	if refused && took == 0 && d.sum() != before {
		d.t.Errorf("%s was refused and has changed the ledger: %v", h.Proto, err)
	}
}

// sum is a digest of the ledger without what every entry changes.
func (d *duel) sum() (sum [sha256.Size]byte) {
	d.cell.Read(func(s *ledger.State) {
		snap := s.Snapshot()
		snap.Index, snap.Head, snap.Rejects = 0, workload.Digest{}, nil
		sum = sha256.Sum256(wire.MustMarshal(snap))
	})
	return sum
}

// check holds what is true of every ledger.
func (d *duel) check() {
	d.cell.Read(func(s *ledger.State) {
		var spent, earned int64
		for _, a := range s.Accounts() {
			spent, earned = spent+a.Spent, earned+a.Earned
		}
		if spent != earned {
			d.t.Errorf("spent %d, earned %d", spent, earned)
		}
		slots := 0
		for v := range s.List(ledger.Filter{}) {
			slots += len(v.Slots)
			if c := v.Tasks; c.Open+c.Taken+c.Done+c.Failed != c.Total {
				d.t.Errorf("%s: tasks %+v", v.ID, c)
			}
		}
		for _, n := range s.Nodes() {
			slots -= len(n.Slots)
		}
		if slots != 0 {
			d.t.Errorf("%d slots are of no node, or of no workload", slots)
		}
	})
}

// end stops the leader and sends the ledger through its encoding.
func (d *duel) end() {
	d.stop()
	<-d.stopped
	raw := wire.MustMarshal(d.cell.state.Snapshot())
	snap := new(ledger.Snapshot)
	if err := wire.UnmarshalBulk(raw, snap); err != nil {
		d.t.Fatal(err)
	}
	again, err := ledger.Restore(duelRules(d.memo), snap)
	if err != nil || again.Hash() != d.cell.state.Hash() {
		d.t.Errorf("the ledger differs from its snapshot: %v", err)
	}
}
