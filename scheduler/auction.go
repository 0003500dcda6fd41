package scheduler

import (
	"bytes"
	"slices"

	"github.com/perrin-mesh/perrin/workload"
)

// auction is one call for bids, from its opening until nobody can answer it any
// more.
type auction struct {
	id         workload.AuctionID
	lot        *lotState
	class      *class
	wanted     uint32
	closes     int64 // ms; once closed, when it is forgotten
	closed     bool
	index      int // in the desk's list of open ones
	calls      []call
	unanswered int
	bids       []workload.Bid
	signed     []workload.Signed
	scores     []workload.Score
	declines   []workload.DeclineNote
	siblings   bool
	dht        bool
}

// call is one node that was called.
type call struct {
	candidate
	node     workload.PeerID
	held     workload.Capacity // reserved in the book
	answered bool
	proved   *workload.Proved
}

func (a *auction) called(node workload.PeerID) *call {
	for i := range a.calls {
		if a.calls[i].node == node {
			return &a.calls[i]
		}
	}
	return nil
}

// expects returns the auction and the call that a message answers; nil when
// nobody waits for it.
func (d *Desk) expects(id workload.AuctionID, node workload.PeerID) (*auction, *call) {
	a := d.auctions[id]
	if a == nil {
		return nil, nil
	}
	c := a.called(node)
	if c == nil || c.answered {
		return nil, nil
	}
	c.answered = true
	a.unanswered--
	if a.closed && a.unanswered == 0 {
		d.forget(a)
	}
	return a, c
}

func (d *Desk) takeBid(now int64, in *BidIn) []Output {
	a, c := d.expects(in.Bid.Auction, in.Bid.Node)
	switch {
	case a == nil:
		return nil
	case a.closed:
		return []Output{{Release: &Release{Node: c.node, Auction: a.id}}}
	}
	delete(a.class.passed, c.node)
	if reason, ok := d.unusable(a, &in.Bid); !ok {
		d.declined(now, a, c, []workload.Reason{reason})
		out := []Output{{Release: &Release{Node: c.node, Auction: a.id}}}
		return append(out, d.check(now, a)...)
	}
	if a.bids == nil {
		a.bids, a.signed, a.scores = make([]workload.Bid, 0, len(a.calls)), make([]workload.Signed, 0, len(a.calls)), make([]workload.Score, 0, len(a.calls))
	}
	c.proved = in.Proved
	score := c.score
	score.DataPrice = d.dataPrice(in.Bid.Data)
	a.bids = append(a.bids, in.Bid)
	a.signed = append(a.signed, in.Signed)
	a.scores = append(a.scores, score)
	return d.check(now, a)
}

// unusable returns why a bid cannot win anything.
func (d *Desk) unusable(a *auction, b *workload.Bid) (workload.Reason, bool) {
	switch limit := a.lot.lot.MaxPrice; {
	case len(b.Asks) == 0:
		return workload.Reason{Code: workload.Refused, Note: "its bid gives no slot"}, false
	case b.StartMs > d.cfg.StartMax:
		return workload.Reason{Code: workload.Busy, Want: d.cfg.StartMax, Have: b.StartMs, Note: "it cannot start now"}, false
	case len(usable(b.Asks[:1], priceLimit(limit))) == 0:
		return workload.Reason{Code: workload.PriceAboveMax, Want: limit, Have: b.Asks[0]}, false
	}
	return workload.Reason{}, true
}

// dataPrice is what n bytes to fetch add to a bid's cost.
func (d *Desk) dataPrice(n int64) int64 {
	mib := min(max(n, 0), workload.MaxMemory) >> 20
	return mib * d.cfg.DataPrice >> 10
}

func (d *Desk) takeDecline(now int64, in *Decline) []Output {
	if in.Auction == (workload.AuctionID{}) {
		d.refused(now, in)
		return nil
	}
	a, c := d.expects(in.Auction, in.Node)
	if a == nil {
		return nil
	}
	d.declined(now, a, c, in.Reasons)
	if a.closed {
		return nil
	}
	return d.check(now, a)
}

// refused remembers a node that did not take what it was awarded, so that the
// runner-up is next.
func (d *Desk) refused(now int64, in *Decline) {
	if e := d.book.nodes[in.Node]; e != nil {
		e.doubt = e.doubt.again(now, e, atTime, d.cfg.RetryMin, d.cfg.RetryMax, orRefused(in.Reasons))
	}
}

func orRefused(reasons []workload.Reason) []workload.Reason {
	if len(reasons) == 0 {
		return []workload.Reason{{Code: workload.Refused}}
	}
	return reasons
}

// declined takes a node out of an auction and remembers why it did not bid.
func (d *Desk) declined(now int64, a *auction, c *call, reasons []workload.Reason) {
	reasons = orRefused(reasons)
	if !a.closed {
		d.giveBack(c)
		a.declines = append(a.declines, workload.DeclineNote{Node: c.node, Reasons: reasons})
	}
	e := c.entry
	switch meaning(reasons) {
	case nodeOut:
		e.doubt = e.doubt.again(now, e, atOffer, d.cfg.RetryMax, d.cfg.RetryMax, reasons)
	case nothingFree:
		m := a.class.passed[c.node]
		a.class.passed[c.node] = m.again(now, e, atOffer, d.cfg.RetryMin, d.cfg.RetryMax, reasons)
	default:
		m := a.class.passed[c.node]
		a.class.passed[c.node] = m.again(now, e, atTerms, d.cfg.RetryMax, d.cfg.PassFor, reasons)
	}
}

// effect is what a decline says of the future.
type effect uint8

const (
	lasting     effect = iota // the node does not suit this class
	nothingFree               // it has nothing free for it now
	nodeOut                   // it takes no work at all now
)

func meaning(reasons []workload.Reason) effect {
	worst := lasting
	for _, r := range reasons {
		switch r.Code {
		case workload.NotReached, workload.NoAnswer, workload.Draining:
			return nodeOut
		case workload.NoCores, workload.NoThreads, workload.NoMemory, workload.NoDisk, workload.NoSlots, workload.Busy:
			worst = nothingFree
		}
	}
	return worst
}

// giveBack ends the reservation of a call.
func (d *Desk) giveBack(c *call) {
	if c.held != (workload.Capacity{}) {
		c.entry.held = plus(c.entry.held, c.held, -1)
		c.held = workload.Capacity{}
		d.free(c.entry)
	}
}

// lose takes a node off the book and out of every open auction.
func (d *Desk) lose(now int64, node workload.PeerID) []Output {
	e := d.book.nodes[node]
	if e == nil {
		return nil
	}
	d.book.drop(e)
	e.offer.Free = workload.Capacity{}
	reasons := []workload.Reason{{Code: workload.NotReached, Note: "it left the cell or was given up"}}
	var out []Output
	for _, a := range slices.Clone(d.open) {
		c := a.called(node)
		if c == nil || c.entry != e {
			continue
		}
		if c.answered && !a.withdraw(node) {
			continue // it declined before
		}
		if !c.answered {
			c.answered = true
			a.unanswered--
		}
		d.giveBack(c)
		a.declines = append(a.declines, workload.DeclineNote{Node: node, Reasons: reasons})
		out = append(out, d.check(now, a)...)
	}
	return out
}

// withdraw takes back the bid of a node, and reports whether there was one.
func (a *auction) withdraw(node workload.PeerID) bool {
	for i := range a.bids {
		if a.bids[i].Node == node {
			a.bids = slices.Delete(a.bids, i, i+1)
			a.signed = slices.Delete(a.signed, i, i+1)
			a.scores = slices.Delete(a.scores, i, i+1)
			return true
		}
	}
	return false
}

// check closes an auction that need not wait for anybody.
func (d *Desk) check(now int64, a *auction) []Output {
	if a.unanswered > 0 && !decided(a.wanted, a.lot.lot.MaxPrice, a.bids, a.scores, a.floor()) {
		return nil
	}
	return d.close(now, a, false)
}

// floor is the lowest cost that an open bid can have. A node bids no less than
// it offers, so that an early close is sound.
func (a *auction) floor() int64 {
	low := int64(-1)
	for i := range a.calls {
		if c := &a.calls[i]; !c.answered && (low < 0 || c.floor < low) {
			low = c.floor
		}
	}
	return low
}

// close clears an auction. late says that its time ran out.
func (d *Desk) close(now int64, a *auction, late bool) []Output {
	l := a.lot
	d.excuse(now, a, late)
	a.sortBids()
	wanted := min(a.wanted, l.lot.Wanted)
	slots := Clear(wanted, l.lot.MaxPrice, a.bids, a.scores)
	l.last = &Round{
		At: now, Wanted: wanted, MaxPrice: l.lot.MaxPrice, Bids: a.bids, Scores: a.scores,
		Declines: a.declines, Siblings: a.siblings, DHT: a.dht,
	}
	out := d.settle(now, a, slots)
	l.auction = nil
	if len(slots) == 0 {
		d.enqueue(l) // who declined is passed over, so this ends when nobody is left
		return out
	}
	l.phase, l.before, l.moved, a.class.backoff = awarding, l.lot.Wanted, false, 0
	return append(out, Output{Award: &Award{
		Workload: l.lot.Workload, Auction: a.id, Wanted: wanted, MaxPrice: l.lot.MaxPrice,
		Bids: a.signed, Scores: a.scores, Slots: slots, Declines: a.declines, Proved: a.provedBy(slots),
		Countersign: l.lot.Countersign,
	}})
}

// provedBy is what those who got slots had proved, each once.
func (a *auction) provedBy(slots []workload.AwardSlot) (out []*workload.Proved) {
	for _, s := range slots {
		if c := a.called(s.Node); c != nil && c.proved != nil && !slices.Contains(out, c.proved) {
			out = append(out, c.proved)
		}
	}
	return out
}

// excuse notes why those who have not answered did not take part.
func (d *Desk) excuse(now int64, a *auction, late bool) {
	for i := range a.calls {
		c := &a.calls[i]
		switch {
		case c.answered:
		case late:
			d.declined(now, a, c, []workload.Reason{{Code: workload.NoAnswer}})
		default:
			a.declines = append(a.declines, workload.DeclineNote{Node: c.node, Reasons: []workload.Reason{
				{Code: workload.Outbid, Note: "the auction was decided before its answer"},
			}})
		}
	}
}

// settle ends an auction's reservations, takes what was won out of the book and
// releases the holds of everyone else who has or may yet have one.
func (d *Desk) settle(now int64, a *auction, slots []workload.AwardSlot) []Output {
	d.shut(now, a)
	var out []Output
	for i := range a.calls {
		c := &a.calls[i]
		d.giveBack(c)
		won := uint32(0)
		for j := range slots {
			if slots[j].Node == c.node {
				won++
			}
		}
		if won > 0 {
			c.entry.spend(a.class.key.shape, won, now, now+d.cfg.RetryMax)
			d.free(c.entry)
		} else if !c.answered || a.bid(c.node) {
			out = append(out, Output{Release: &Release{Node: c.node, Auction: a.id}})
		}
	}
	return out
}

func (a *auction) bid(node workload.PeerID) bool {
	return slices.ContainsFunc(a.bids, func(b workload.Bid) bool { return b.Node == node })
}

// cancel ends an auction whose lot nobody wants any more.
func (d *Desk) cancel(a *auction) []Output {
	return d.settle(d.now, a, nil)
}

// shut takes an auction off the list of open ones. It is remembered while a
// late bid may still come, which is then released.
func (d *Desk) shut(now int64, a *auction) {
	last := d.open[len(d.open)-1]
	d.open[a.index], last.index = last, a.index
	d.open = d.open[:len(d.open)-1]
	a.closed, a.closes = true, now+d.cfg.LateFor
	if a.unanswered == 0 {
		d.forget(a)
		return
	}
	d.set(timer{at: a.closes, auction: a})
}

func (d *Desk) forget(a *auction) {
	delete(d.auctions, a.id)
	a.closes = 0
}

// sortBids puts bids in the order of their nodes, so that the award does not
// depend on which answer came first.
func (a *auction) sortBids() {
	byNode := func(x, y int) int { return bytes.Compare(a.bids[x].Node[:], a.bids[y].Node[:]) }
	order := make([]int, len(a.bids))
	for i := range order {
		order[i] = i
	}
	if slices.IsSortedFunc(order, byNode) {
		return
	}
	slices.SortFunc(order, byNode)
	bids, signed, scores := a.bids, a.signed, a.scores
	a.bids, a.signed, a.scores = make([]workload.Bid, len(order)), make([]workload.Signed, len(order)), make([]workload.Score, len(order))
	for i, j := range order {
		a.bids[i], a.signed[i], a.scores[i] = bids[j], signed[j], scores[j]
	}
}
