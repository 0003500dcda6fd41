package model

import (
	"bytes"
	"math"

	"github.com/perrin-mesh/perrin/scheduler"
	"github.com/perrin-mesh/perrin/scheduler/pricing"
	"github.com/perrin-mesh/perrin/simulations/policy"
	"github.com/perrin-mesh/perrin/simulations/scenario"
	"github.com/perrin-mesh/perrin/workload"
)

type (
	deskLot = scheduler.Lot
	offerIn = scheduler.OfferIn
)

// How leaders hear of other cells, as in node/siblings.go: digests go round every
// digestEvery; a question gathers up to askedOffers from at most askedCells.
const (
	digestEvery = 3000 * millisecond
	askedOffers = 64
	askedCells  = 8
	askPatience = 2000 * millisecond
	eachCell    = 16
)

// digest is what a cell last said of itself.
type digest struct {
	round     int64 // 0 is never
	cores     int32
	threads   int32
	memory    int64
	coreAsk   int64
	threadAsk int64
	spare     int32
	spareAsk  int64
}

// heard is a cell's digest as others know it: of the beginning of this round.
func (w *World) heard(c *cell) *digest {
	if w.sc.Network.Gossip != nil {
		return w.spread(c)
	}
	round := w.now/digestEvery + 1
	if c.said.round == round || c.leader < 0 {
		return &c.said
	}
	c.said = w.digest(c, round)
	return &c.said
}

// digest sums up what a cell has.
func (w *World) digest(c *cell, round int64) digest {
	d := digest{round: round, coreAsk: math.MaxInt64, threadAsk: math.MaxInt64, spareAsk: math.MaxInt64}
	for _, o := range c.desk.Offers(ms(w.now)) {
		d.cores += o.Free.Cores
		d.threads += o.Free.Threads
		d.memory += o.Free.Memory
		if o.Free.Cores > 0 {
			d.coreAsk = min(d.coreAsk, o.Asks.Core)
		}
		if o.Free.Threads > 0 {
			d.threadAsk = min(d.threadAsk, o.Asks.Thread)
		}
		if d.spare += o.Free.Spare; o.Free.Spare > 0 {
			d.spareAsk = min(d.spareAsk, o.Asks.Spare)
		}
	}
	return d
}

func (d *digest) mayServe(lot *deskLot) bool {
	free, ask := d.cores, d.coreAsk
	switch lot.Shape.Class {
	case workload.Thread:
		free, ask = d.threads, d.threadAsk
	case workload.Spare:
		free, ask = d.spare, d.spareAsk
	}
	return free >= lot.Shape.CPUs && d.memory >= lot.Shape.Memory && (lot.MaxPrice == 0 || ask <= lot.MaxPrice)
}

// inquiry is a question to sibling cells, one after another.
type inquiry struct {
	id     int64
	lot    deskLot
	next   int32 // cell to look at next, counted from the asker's own
	cells  int
	offers []offerIn
	found  bool // the DHT is being asked
}

// askSiblings asks the leaders of other cells whose digest does not rule them out.
func (w *World) askSiblings(c *cell, lot *deskLot) {
	w.inquiries++
	c.asked = append(c.asked, inquiry{id: int64(w.inquiries), lot: *lot, next: 1})
	w.askNext(c, len(c.asked)-1)
}

func (w *World) askNext(c *cell, i int) {
	q := &c.asked[i]
	for ; int(q.next) < len(w.cells) && q.cells < askedCells && len(q.offers) < askedOffers; q.next++ {
		sib := &w.cells[(c.at+q.next)%int32(len(w.cells))]
		if sib.leader < 0 || !w.peers[sib.leader].up || !w.heard(sib).mayServe(&q.lot) {
			continue
		}
		q.next++
		q.cells++
		w.send(message{kind: msgSuited, from: c.leader, to: sib.leader, cell: sib.at, n: q.id, slot: c.at, body: q.lot})
		if w.weather != nil {
			w.push(w.now+askPatience, event{kind: askLate, a: c.at, b: int32(q.cells), c: int32(q.id)})
		}
		return
	}
	if w.sc.Network.DHT && len(q.offers) == 0 {
		if !q.found {
			w.lookUp(c, q)
		}
		return
	}
	done := *q
	c.asked = append(c.asked[:i], c.asked[i+1:]...)
	if len(done.offers) > 0 {
		w.step(c, scheduler.Input{Siblings: &scheduler.SiblingsIn{Workload: done.lot.Workload, Offers: done.offers}})
	}
}

// askLate goes on to the next cell when one has not answered.
func (w *World) askLate(c *cell, id int64, cells int) {
	for i := range c.asked {
		if q := &c.asked[i]; q.id == id && q.cells == cells && c.leader >= 0 {
			w.askNext(c, i)
			return
		}
	}
}

// suited answers a sibling's leader with members that fit its lot.
func (w *World) suited(c *cell, m *message) {
	lot := m.body.(deskLot)
	offers := c.desk.Suited(&lot, ms(w.now), eachCell)
	w.send(message{kind: msgSuitedAnswer, from: c.leader, to: m.from, cell: m.slot, n: m.n, body: offers})
}

func (w *World) suitedAnswer(to int32, m *message) {
	c := &w.cells[m.cell]
	if c.leader != to {
		return
	}
	for i := range c.asked {
		if c.asked[i].id != m.n {
			continue
		}
		for _, o := range m.body.([]workload.Offer) {
			c.asked[i].offers = append(c.asked[i].offers, offerIn{Offer: o, RTTMicros: w.rtt(to, indexOf(o.Node)) / 1000})
		}
		w.askNext(c, i)
		return
	}
}

// best is what the all-knowing policy sees: of every peer that is up and has room
// for one slot, the one that costs the least from a cell's leader.
func (w *World) best(of workload.CellID, lot *deskLot, avoid []workload.PeerID) (offerIn, int32, bool) {
	leader := w.cells[cellOf(of)].leader
	var found *peer
	var low int64
	for i := range w.peers {
		p := &w.peers[i]
		if !p.up || !p.fresh || w.does(p, scenario.FreeRides) || w.roomFor(p, lot) == 0 || contains(avoid, p.id) {
			continue
		}
		cost := scheduler.Cost(pricing.SlotRate(p.asks, lot.Shape), workload.Score{RTTMicros: w.rtt(leader, int32(i)) / 1000})
		if found == nil || cost < low {
			found, low = p, cost
		}
	}
	if found == nil {
		return offerIn{}, 0, false
	}
	before := found.promised
	n := int32(min(lot.Wanted, w.roomFor(found, lot)))
	found.promised += n * policy.ThreadsOf(lot.Shape, w.parks[found.class].SMT)
	o := workload.Offer{Node: found.id, Cell: w.cells[found.cell].id, Machine: *w.park(found), Free: w.free(found), Asks: found.asks, ValidMs: offerValid}
	return offerIn{Offer: o, RTTMicros: w.rtt(leader, indexOf(found.id)) / 1000}, before, true
}

func (w *World) roomFor(p *peer, lot *deskLot) uint32 {
	return policy.SlotsOf(w.free(p), lot.Shape, w.parks[p.class].SMT, p.promised)
}

// kept notes that a call has arrived: from now on the hold stands for the promise.
func (w *World) kept(p *peer, call *workload.Call) {
	if p.promised > 0 {
		p.promised -= int32(call.Slots) * policy.ThreadsOf(call.Shape, w.parks[p.class].SMT)
	}
}

func contains(ids []workload.PeerID, id workload.PeerID) bool {
	for i := range ids {
		if bytes.Equal(ids[i][:], id[:]) {
			return true
		}
	}
	return false
}
