package model

import (
	"slices"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/scheduler"
	"github.com/perrin-mesh/perrin/scheduler/capacity"
	"github.com/perrin-mesh/perrin/scheduler/lease"
	"github.com/perrin-mesh/perrin/scheduler/pricing"
	"github.com/perrin-mesh/perrin/simulations/chance"
	"github.com/perrin-mesh/perrin/simulations/scenario"
	"github.com/perrin-mesh/perrin/workload"
)

// How offers travel and how long a hold lasts, as in node/offers.go and
// node/worker.
const (
	offerEvery = 5000 * millisecond
	offerPause = 50 * millisecond
	offerValid = 12_000 // ms
	holdFor    = 2000   // ms
	maxCurve   = 1024
)

// peer is one node, as a worker.
type peer struct {
	id     workload.PeerID
	cell   int32
	region int32
	class  int32
	boot   int32 // counts its starts, from 1
	drift  int32 // ppm by which its clock is fast
	attack int8  // which of the scenario's attackers it is, from 1; 0 is none
	sybil  int32 // which machine it is a name of, from 1; 0 is its own
	up     bool
	fresh  bool  // its cell knows that it runs nothing of an earlier boot
	due    bool  // an offer is due after a pause
	again  bool  // and another, since something was new in the pause
	told   int64 // ns, when the last offer is answered
	round  uint8
	access int64 // ns, one way
	speed  int64 // permille
	base   int64 // its price
	slow   int32 // permille that its CPU takes longer by a fault; 0 is none
	disk   int32 // likewise its disk
	busy   int64 // ns, when its CPU is done with the messages so far
	seq    uint64

	promised int32 // threads that the all-knowing policy has called for and are not held yet

	asks   workload.Asks
	alloc  *capacity.Allocator // nil while nothing was ever held
	bids   []promise
	queue  []message // calls that wait for room, of policies that queue
	slots  []int32
	leases []cellLease
	cores  []tenancy // who is on each CPU, beside the allocator's own account

	links, work chance.Stream
}

// promise is a bid that may still win.
type promise struct {
	auction workload.AuctionID
	load    int32
	sent    int64 // ms
	expires int64 // ms
}

// cellLease is the peer's lease with one cell.
type cellLease struct {
	cell     int32
	lease    *lease.Worker
	renewing bool
	watched  bool // a leaseEnd is on its way
}

// tenancy is a tenant on a CPU and in how many slots.
type tenancy struct {
	owner int32
	slots int32
}

func (w *World) prices(p *peer) pricing.Config {
	m := &w.sc.Machines[p.class]
	c := pricing.Default()
	c.Base, c.Slope, c.Width, c.SMT = w.base(p), m.Slope, int64(m.Threads), smt(m)
	return c
}

// price moves the asks with the load, a step at a time.
func (w *World) price(p *peer) {
	var used int64
	if p.alloc != nil {
		used = p.alloc.Utilisation()
	}
	p.asks = pricing.Asks(w.prices(p), used, p.asks)
}

func (w *World) allocator(p *peer) *capacity.Allocator {
	if p.alloc == nil {
		m := &w.sc.Machines[p.class]
		t := &w.park(p).Total
		a, err := capacity.New(capacity.Uniform(int(t.Cores), m.Threads), capacity.Limits{Memory: t.Memory, Disk: t.Disk, Slots: int(t.Slots)})
		if err != nil {
			panic(err) // the scenario's bounds are within the allocator's
		}
		p.alloc = a
	}
	return p.alloc
}

func (w *World) free(p *peer) workload.Capacity {
	if p.alloc == nil { // as a new one would say
		all := w.park(p).Total
		all.Spare = all.Threads
		return all
	}
	return p.alloc.Available()
}

// news is what an offer on its way says that nobody knows yet.
type news struct {
	seq     uint64
	free    workload.Capacity
	asks    workload.Asks
	running int32
}

// news is what the peer's standing offer says now.
func (w *World) news(p *peer) *news {
	w.expireHolds(p)
	w.price(p)
	p.seq++
	return &news{seq: p.offerSeq(), free: w.free(p), asks: p.asks, running: int32(len(p.slots))}
}

// offered is the offer that a peer's news amount to, as a leader has it. It is
// overwritten by the next: a desk copies what it keeps.
func (w *World) offered(from, to int32, n *news) *scheduler.OfferIn {
	p := &w.peers[from]
	w.offerIn = scheduler.OfferIn{RTTMicros: w.rtt(to, from) / 1000, Offer: workload.Offer{
		Node: p.id, Cell: w.cells[p.cell].id, Seq: n.seq, Machine: *w.park(p), Free: n.free, Asks: n.asks,
		ValidMs: max(offerValid, 3*w.beat()/millisecond), Running: n.running,
	}}
	return &w.offerIn
}

func (p *peer) offerSeq() uint64 { return uint64(p.boot)<<20 + p.seq }

// offerEvent sends the offer that is due: regularly, and after a change.
func (w *World) offerEvent(e *event) {
	p := &w.peers[e.a]
	if e.kind == offerTick {
		if !w.churns || p.up { // ticks of who left go on, so that all have one
			p.round++
		}
		w.push(w.now+w.beat(), event{kind: offerTick, a: e.a})
	} else {
		p.due = false
	}
	if !p.up || !p.fresh || w.does(p, scenario.FreeRides) {
		return
	}
	if w.traits.Queues {
		w.expireHolds(p)
		w.serveQueue(e.a)
	}
	c := w.cellOf(p)
	if e.kind == offerTick && p.round%2 == 0 { // to the other voters as well
		for range len(c.voters) - 1 {
			w.count(msgOffer)
		}
	}
	if c.leader >= 0 {
		w.send(message{kind: msgOffer, from: e.a, to: c.leader, cell: c.at, body: w.news(p)})
		p.told = max(p.told, w.now+w.rtt(e.a, c.leader))
	}
	if p.again && !p.due {
		p.again = false
		w.poke(e.a)
	}
}

// cellOf is the cell whose leader sells a peer.
func (w *World) cellOf(p *peer) *cell {
	if w.traits.Central {
		return &w.cells[0]
	}
	return &w.cells[p.cell]
}

// beat is the time between two regular offers.
func (w *World) beat() int64 {
	if w.traits.Central {
		return w.sc.Policy.Heartbeat
	}
	return offerEvery
}

// poke says that an offer would say something new: it is told after a pause, and when
// the one before has been answered. What is new in the pause is in it, and is told once
// more nevertheless (node/offers.go). To a scheduler of heartbeats nobody says it
// before the next.
func (w *World) poke(i int32) {
	p := &w.peers[i]
	switch {
	case w.traits.Central:
	case p.due:
		p.again = true
	default:
		p.due = true
		w.push(max(w.now, p.told)+offerPause, event{kind: offerSoon, a: i})
	}
}

// called answers a call for bids.
func (w *World) called(to int32, m *message) {
	p := &w.peers[to]
	call := &m.body.(*scheduler.CallOut).Call
	w.expireHolds(p)
	w.kept(p, call)
	if w.traits.Queues && len(p.queue) > 0 {
		p.queue = append(p.queue, *m)
		return
	}
	got, asks, reasons := w.bid(p, m, call)
	if got == 0 && w.traits.Queues && waits(reasons) {
		p.queue = append(p.queue, *m)
		return
	}
	w.answerCall(to, m, call, got, asks, reasons)
}

// answerCall bids, or declines.
func (w *World) answerCall(to int32, m *message, call *workload.Call, got int, asks []int64, reasons []workload.Reason) {
	p := &w.peers[to]
	back := message{from: to, to: m.from, cell: m.cell}
	if got == 0 {
		if w.tracing != nil {
			w.note("declines: %s", reasonText(reasons))
		}
		back.kind, back.body = msgDecline, &workload.Decline{Auction: call.Auction, Node: p.id, Reasons: reasons}
		w.send(back)
		return
	}
	if w.tracing != nil {
		w.note("bids %d of %d slots from %d µcr/s each", got, call.Slots, asks[0])
	}
	bid := workload.Bid{Auction: call.Auction, Node: p.id, Asks: asks[:got], HoldMs: holdFor, HasMs: w.lease.TTL}
	back.kind, back.body = msgBid, &scheduler.BidIn{Bid: bid, Signed: sealBid(&bid)}
	w.leaves = max(w.now, w.leaves) + w.sc.Costs.Sign
	w.send(back)
	w.checkCapacity(p)
}

// bid holds what a call asks for, or says why not, as node/worker does.
func (w *World) bid(p *peer, m *message, call *workload.Call) (int, []int64, []workload.Reason) {
	if !p.fresh || w.does(p, scenario.FreeRides) {
		return 0, nil, []workload.Reason{{Code: workload.Busy, Note: "it has just started"}}
	}
	if reasons := scheduler.Unsuited(w.park(p), call.Kind, workload.Where{}, workload.LevelNone); len(reasons) > 0 {
		return 0, nil, reasons
	}
	alloc, now := w.allocator(p), ms(w.now)
	curve := pricing.Curve(w.prices(p), p.asks, call.Shape, int(min(call.Slots, maxCurve)), alloc.Total(), alloc.Available())
	for i := range curve {
		curve[i] += curve[i] * w.sc.Policy.Shade / 1_000_000
	}
	if call.MaxPrice > 0 {
		if over := slices.IndexFunc(curve, func(ask int64) bool { return ask > call.MaxPrice }); over >= 0 {
			curve = curve[:over]
		}
		if len(curve) == 0 {
			return 0, nil, []workload.Reason{{Code: workload.PriceAboveMax, Want: call.MaxPrice, Have: pricing.SlotRate(p.asks, call.Shape)}}
		}
	}
	got, reasons := alloc.Hold(call.Auction, call.Owner, call.Shape, len(curve), now, now+holdFor)
	if got > 0 {
		p.bids = append(p.bids, promise{auction: call.Auction, load: w.loadOf(call.Workload), sent: w.clock(indexOf(p.id)), expires: now + holdFor})
	}
	return got, curve, reasons
}

// waits reports whether room alone is missing.
func waits(reasons []workload.Reason) bool {
	return !slices.ContainsFunc(reasons, func(r workload.Reason) bool { return r.Code == workload.Busy || r.Code == workload.PriceAboveMax })
}

// serveQueue bids for the calls that wait, in their order, while there is room.
func (w *World) serveQueue(on int32) {
	p := &w.peers[on]
	for p.up && len(p.queue) > 0 {
		m := p.queue[0]
		call := &m.body.(*scheduler.CallOut).Call
		got, asks, reasons := w.bid(p, &m, call)
		if got == 0 && waits(reasons) {
			return
		}
		p.queue = p.queue[1:]
		w.answerCall(on, &m, call, got, asks, reasons)
	}
}

// unqueue forgets a call that waits.
func (p *peer) unqueue(id workload.AuctionID) {
	p.queue = slices.DeleteFunc(p.queue, func(m message) bool { return m.body.(*scheduler.CallOut).Call.Auction == id })
}

func (w *World) expireHolds(p *peer) {
	now := ms(w.now)
	p.bids = slices.DeleteFunc(p.bids, func(b promise) bool {
		if b.expires > now {
			return false
		}
		p.alloc.Release(b.auction)
		return true
	})
}

func (p *peer) dropBid(id workload.AuctionID) (promise, bool) {
	i := slices.IndexFunc(p.bids, func(b promise) bool { return b.auction == id })
	if i < 0 {
		return promise{}, false
	}
	b := p.bids[i]
	p.bids = slices.Delete(p.bids, i, i+1)
	return b, true
}

// released frees the holds of auctions that were not won.
func (w *World) released(to int32, m *message) {
	p := &w.peers[to]
	for _, id := range m.body.([]workload.AuctionID) {
		if _, ok := p.dropBid(id); ok {
			p.alloc.Release(id)
		} else if w.traits.Queues {
			p.unqueue(id)
		}
	}
	w.checkCapacity(p)
	w.serveQueue(to)
	w.poke(to)
}

// award is what a leader tells a winner.
type award struct {
	auction workload.AuctionID
	grant   int64 // ms
	last    bool  // no task is open beside these
	slots   []ledger.SlotGrant
}

// awarded turns the hold of a bid into slots, or refuses.
func (w *World) awarded(to int32, m *message) {
	p := &w.peers[to]
	a := m.body.(*award)
	w.expireHolds(p)
	if w.runsHere(p, m.load, a) {
		return // it comes twice
	}
	if w.does(p, scenario.Refuses) {
		w.refuses(to, m, a)
		return
	}
	reason, ok := w.claim(p, m, a)
	w.poke(to)
	if !ok {
		if w.tracing != nil {
			w.note("refuses: %s", reasonText([]workload.Reason{reason}))
		}
		w.send(message{kind: msgRefused, from: to, to: m.from, cell: m.cell, load: m.load, body: &refusal{a, reason}})
		return
	}
	for i := range a.slots {
		w.startSlot(to, m, a, &a.slots[i])
	}
	w.serveQueue(to)
	w.checkCapacity(p)
}

// runsHere reports whether an award's slots are here already (worker.unknown).
func (w *World) runsHere(p *peer, load int32, a *award) bool {
	return slices.ContainsFunc(p.slots, func(i int32) bool {
		s := &w.slots[i]
		return s.load == load && s.id == a.slots[0].Slot && s.fence == a.slots[0].Fence
	})
}

// refusal is what a worker answers that does not take an award.
type refusal struct {
	award  *award
	reason workload.Reason
}

func (w *World) claim(p *peer, m *message, a *award) (workload.Reason, bool) {
	b, ok := p.dropBid(a.auction)
	if !ok || b.load != m.load {
		return workload.Reason{Code: workload.HoldGone}, false
	}
	held := w.leaseWith(p, m.cell)
	if _, err := held.lease.Award(w.clock(indexOf(p.id)), b.sent, a.grant, a.slots[0].Fence.Epoch); err != nil {
		p.alloc.Release(a.auction)
		return workload.Reason{Code: workload.LeaseTooLate, Note: err.Error()}, false
	}
	keys := make([]capacity.SlotKey, len(a.slots))
	for i := range a.slots {
		keys[i] = capacity.SlotKey{Workload: w.loads[m.load].id, Slot: a.slots[i].Slot}
	}
	if err := p.alloc.Commit(a.auction, keys...); err != nil {
		p.alloc.Release(a.auction)
		return workload.Reason{Code: workload.HoldGone, Note: err.Error()}, false
	}
	w.watchLease(p, held)
	w.rerate(indexOf(p.id))
	return workload.Reason{}, true
}
