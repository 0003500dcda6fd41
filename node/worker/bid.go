package worker

import (
	"context"
	"errors"
	"maps"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/scheduler"
	"github.com/perrin-mesh/perrin/scheduler/capacity"
	"github.com/perrin-mesh/perrin/scheduler/pricing"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/runner"
)

// openBid is a bid that may still win.
type openBid struct {
	call    workload.Call
	asks    []int64
	sent    int64 // ms on the worker's clock: the first lease counts from here
	expires int64 // of the hold
}

// Bounds of what a node remembers of auctions and cells. Over them it declines
// as busy.
const (
	maxOpenBids = 4096    // that hold capacity
	maxAnswered = 262_144 // auctions of the last minute
	maxCells    = 4096    // cells that this node has had a lease of
)

// answeredFor is how long, in ms beyond a lease, an auction is remembered that
// was bid in. A call that comes again must not make a fresh bid: its lease
// would begin anew, after the award was perhaps refused and given to another.
const answeredFor = 60_000

// HandleCall answers a call for bids with a signed bid, whose slots it holds
// for HoldFor, or with a decline that says why.
func (w *Worker) HandleCall(_ context.Context, from workload.PeerID, m *wire.CallMsg) (*wire.CallAnswer, error) {
	call := m.Call
	if call.Leader != from || !w.cfg.Leaders.MayLead(call.Cell, from) {
		return nil, wire.Errorf(wire.Unauthorized, "peer %s is not known to lead cell %s", from.Short(), call.Cell)
	}
	if err := call.Shape.Validate(); err != nil {
		return nil, wire.Errorf(wire.Malformed, "shape: %v", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stats.Calls++
	w.expireHolds()
	bid, reasons := w.bid(&call)
	if len(reasons) > 0 {
		w.stats.Declines++
		return &wire.CallAnswer{Decline: &workload.Decline{Auction: call.Auction, Node: w.cfg.Self, Reasons: reasons}}, nil
	}
	w.stats.Bids++
	signed := w.cfg.Memo.Sign(workload.DomainBid, wire.MustMarshal(bid), w.cfg.Key)
	return &wire.CallAnswer{Bid: &signed}, nil
}

func (w *Worker) bid(call *workload.Call) (*workload.Bid, []workload.Reason) {
	if reasons := w.unsuited(call); len(reasons) > 0 {
		return nil, reasons
	}
	if has := w.scratch(); has < call.Shape.Disk { // others write to it too
		return nil, []workload.Reason{{Code: workload.NoDisk, Want: call.Shape.Disk, Have: has}}
	}
	curve, reasons := w.curve(call)
	if len(reasons) > 0 {
		return nil, reasons
	}
	now := w.now()
	hold := HoldFor.Milliseconds()
	got, reasons := w.cfg.Alloc.Hold(capacity.HoldID(call.Auction), call.Owner, call.Shape, len(curve), now, now+hold)
	if got == 0 {
		return nil, reasons
	}
	w.answered[call.Auction] = now + answeredFor + w.cfg.Lease.TTL
	w.bids[call.Auction] = &openBid{call: *call, asks: curve[:got], sent: now, expires: now + hold}
	bid := &workload.Bid{
		Auction: call.Auction, Workload: call.Workload, Node: w.cfg.Self, Asks: curve[:got],
		HoldMs: hold, HasMs: w.cfg.Lease.TTL,
	}
	if speed := w.cfg.Alloc.Speed(capacity.HoldID(call.Auction)); speed < 1000 {
		bid.Speed = speed
	}
	return bid, nil
}

// unsuited returns why this node cannot run what is called for, whatever it has free.
func (w *Worker) unsuited(call *workload.Call) []workload.Reason {
	switch {
	case w.drain:
		return []workload.Reason{{Code: workload.Draining}}
	case w.quiet:
		return []workload.Reason{{Code: workload.Draining, Note: "its owner's quiet hours"}}
	case call.Shape.Quota > 0 && !w.cfg.Quota:
		return []workload.Reason{{Code: workload.Refused, Note: "it cannot bound CPU time: no cpu cgroup is writable"}}
	case !w.fresh && call.Cell == w.cfg.Cell():
		return []workload.Reason{{Code: workload.Busy, Note: "it has just started"}}
	case len(w.bids) >= maxOpenBids:
		return []workload.Reason{{Code: workload.Busy, Note: "too many open bids"}}
	case len(w.answered) >= maxAnswered:
		return []workload.Reason{{Code: workload.Busy, Note: "too many auctions in the last minute"}}
	case w.answered[call.Auction] != 0:
		return []workload.Reason{{Code: workload.Refused, Note: "the auction was answered before"}}
	}
	where, err := workload.ParseWhere(call.Where)
	if err != nil {
		return []workload.Reason{{Code: workload.WhereMismatch, Note: "not a condition"}}
	}
	reasons := scheduler.Unsuited(&w.cfg.Machine, call.Kind, where, workload.LevelNone)
	if r := w.cfg.Runners[call.Kind]; len(reasons) == 0 && call.Host != "" {
		spec := workload.Spec{Program: workload.Program{Kind: call.Kind, Host: call.Host}}
		if err := r.Available(&spec); errors.Is(err, runner.ErrProgramMissing) {
			reasons = append(reasons, workload.Reason{Code: workload.ProgramMissing, Note: workload.Cut(call.Host, 200)})
		}
	}
	return reasons
}

// curve is the supply curve for up to the slots that are wanted, cut at the
// owner's limit.
func (w *Worker) curve(call *workload.Call) ([]int64, []workload.Reason) {
	n := int(min(call.Slots, 1024))
	curve := pricing.Curve(w.cfg.Prices, w.asks, call.Shape, n, w.cfg.Alloc.Total(), w.cfg.Alloc.Available())
	if len(curve) == 0 {
		return nil, w.cfg.Alloc.Reasons(call.Owner, call.Shape)
	}
	if call.MaxPrice <= 0 {
		return curve, nil
	}
	for i, ask := range curve {
		if ask > call.MaxPrice {
			curve = curve[:i]
			break
		}
	}
	if len(curve) == 0 {
		ask := pricing.SlotRate(w.asks, call.Shape)
		return nil, []workload.Reason{{Code: workload.PriceAboveMax, Want: call.MaxPrice, Have: ask}}
	}
	return curve, nil
}

// HandleRelease frees the holds of auctions that this node did not win.
func (w *Worker) HandleRelease(_ context.Context, from workload.PeerID, m *wire.ReleaseMsg) (*wire.Ack, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range m.Auctions {
		if b := w.bids[id]; b != nil && b.call.Leader == from {
			w.dropBid(id)
		}
	}
	w.poke()
	return &wire.Ack{}, nil
}

func (w *Worker) dropBid(id workload.AuctionID) {
	w.cfg.Alloc.Release(capacity.HoldID(id))
	delete(w.bids, id)
}

func (w *Worker) expireHolds() {
	now := w.now()
	if now >= w.sweepAt {
		w.sweepAt = now + 1000
		maps.DeleteFunc(w.answered, func(_ workload.AuctionID, until int64) bool { return until <= now })
	}
	for id, b := range w.bids {
		if b.expires <= now {
			w.dropBid(id)
		}
	}
}
