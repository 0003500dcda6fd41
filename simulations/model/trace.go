package model

import (
	"fmt"
	"strings"

	"github.com/perrin-mesh/perrin/scheduler"
	"github.com/perrin-mesh/perrin/workload"
)

// Record is one event as it was handled, for who watches a run. -1 is none of
// Peer, From, Cell and Workload.
type Record struct {
	Number   uint64 // from 1
	Cause    uint64 // of the event during which it was scheduled; 0 is the beginning
	At       int64  // ns
	Kind     string // such as "deliver" or "commit"
	What     string // what a message says, or which command is committed; "" for other kinds
	Peer     int32  // on which it happens
	From     int32  // who sent the message
	Cell     int32
	Workload int32  // its number
	Note     string // what came of it
}

// trace is what a watched run keeps to name causes.
type trace struct {
	tell     func(*Record)
	causes   map[uint64]uint64            // of events that wait, by sequence number
	auctions map[workload.AuctionID]int32 // of the last calls, and
	older    map[workload.AuctionID]int32 // of those before
	notes    []string
}

// Watch has each event told after it was handled, in order. It is for before the
// first Step. The record is used again. Watching changes no event.
func (w *World) Watch(tell func(*Record)) {
	w.tracing = &trace{tell: tell, causes: map[uint64]uint64{}, auctions: map[workload.AuctionID]int32{}}
}

// pushed notes which event has scheduled another.
func (w *World) pushed(seq uint64) {
	if w.tracing != nil {
		w.tracing.causes[seq] = w.events
	}
}

// note adds to what came of the present event. Callers look at w.tracing first.
func (w *World) note(format string, args ...any) {
	w.tracing.notes = append(w.tracing.notes, fmt.Sprintf(format, args...))
}

// dispatchWatched handles an event and tells of it.
func (w *World) dispatchWatched(seq uint64, e *event) {
	t := w.tracing
	t.notes = t.notes[:0]
	r := Record{Number: w.events, Cause: t.causes[seq], At: w.now, Kind: e.kind.String(), Peer: -1, From: -1, Cell: -1, Workload: -1}
	delete(t.causes, seq)
	w.describe(e, &r)
	before := len(w.loads)
	w.dispatchEvent(e)
	if len(w.loads) > before {
		r.Workload, r.Peer, r.Cell = int32(before), w.loads[before].home, w.loads[before].cell
	}
	r.Note = strings.Join(t.notes, "; ")
	t.tell(&r)
}

// describe says whom an event is about, before it is handled.
func (w *World) describe(e *event, r *Record) {
	switch e.kind {
	case deliver, handle:
		w.describeMessage(&w.msgs.all[e.c], r)
	case commit:
		r.Cell, r.Peer = e.a, w.cells[e.a].leader
		w.describeProposal(&w.proposals.all[e.c], r)
	case wake, leaseDesk, elect, digestDue, nodesFound:
		r.Cell, r.Peer = e.a, w.cells[e.a].leader
	case begin, taskEnd, retry:
		r.Peer = e.a
		if s := &w.slots[e.b]; s.live && s.gen == e.c {
			r.Workload, r.Cell = s.load, s.cell
		}
	case resend:
		r.Workload, r.Peer = e.a, w.loads[e.a].home
	case offerTick, offerSoon, down, up:
		r.Peer = e.a
	case renew, leaseEnd:
		r.Peer, r.Cell = e.a, e.b
	case chunkAsked, chunkComes, chunkHere, chunkLost:
		if f := &w.store.fetches[e.b]; f.live && f.gen == e.c {
			r.Peer, r.From = f.to, f.sources[e.a].peer
			r.Workload = max(f.blob, -1) // a program is no workload's own
		}
	}
}

func (w *World) describeMessage(m *message, r *Record) {
	r.What, r.From, r.Peer, r.Cell = m.kind.String(), m.from, m.to, m.cell
	switch m.kind {
	case msgSubmit, msgAck, msgAward, msgRefused, msgTake, msgTaken, msgClose, msgClosed, msgDone, msgDoneAck:
		r.Workload = m.load
	case msgCall:
		call := &m.body.(*scheduler.CallOut).Call
		r.Workload = w.loadOf(call.Workload)
		w.tracing.called(call.Auction, r.Workload)
	case msgBid:
		r.Workload = w.auctioned(m.body.(*scheduler.BidIn).Bid.Auction)
	case msgDecline:
		r.Workload = w.auctioned(m.body.(*workload.Decline).Auction)
	case msgSuited:
		lot := m.body.(deskLot)
		r.Workload = w.loadOf(lot.Workload)
	case msgSuitedAnswer:
		for i := range w.cells[m.cell].asked {
			if q := &w.cells[m.cell].asked[i]; q.id == m.n {
				r.Workload = w.loadOf(q.lot.Workload)
			}
		}
	}
}

// auctioned is the workload of an auction that a call was seen of, or -1.
func (w *World) auctioned(id workload.AuctionID) int32 {
	if n, ok := w.tracing.auctions[id]; ok {
		return n
	}
	if n, ok := w.tracing.older[id]; ok {
		return n
	}
	return -1
}

// lastCalls is how many auctions a watched run remembers at least. Their bids come
// within seconds, where they do not queue for longer.
const lastCalls = 1 << 17

// called remembers what an auction is for, of the last ones.
func (t *trace) called(id workload.AuctionID, load int32) {
	if len(t.auctions) == lastCalls {
		t.auctions, t.older = map[workload.AuctionID]int32{}, t.auctions
	}
	t.auctions[id] = load
}

func (w *World) describeProposal(p *proposal, r *Record) {
	c := &p.cmd
	switch {
	case c.Accept != nil:
		r.What = "accept"
	case c.Award != nil:
		r.What = "award"
	case c.Take != nil:
		r.What = "take"
	case c.Close != nil:
		r.What = "close"
	case c.Release != nil:
		r.What = "release"
	case c.Refuse != nil:
		r.What = "refuse"
	case c.Return != nil:
		r.What = "return"
	case c.Expire != nil:
		r.What = "expire"
		return // of a node
	default:
		r.What = "other"
		return
	}
	r.Workload = p.load
}

// reasonText is why something was declined, in words.
func reasonText(reasons []workload.Reason) string {
	var words []string
	for _, each := range reasons {
		text := string(each.Code)
		if each.Want != 0 || each.Have != 0 {
			text += fmt.Sprintf(" (want %d, have %d)", each.Want, each.Have)
		}
		if each.Note != "" {
			text += ": " + each.Note
		}
		words = append(words, text)
	}
	return strings.Join(words, ", ")
}
