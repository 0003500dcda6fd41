package scheduler

import (
	"container/heap"
	"encoding/binary"
	"slices"

	"github.com/perrin-mesh/perrin/workload"
)

// What an award says of nodes that were not called, at most.
const (
	maxPassed    = 16 // notes in all
	maxNotCalled = 3  // of the cheapest nodes that would have fitted
)

// serve opens an auction for the oldest lot of a class, or blocks the class
// when nobody fits.
func (d *Desk) serve(now int64, c *class) []Output {
	l := c.queue[0]
	fit, notes := c.search(d.book.home, now, d.fit[:0], nil, maxPassed-maxNotCalled)
	fit, shunned := part(fit, l.lot.Avoid)
	var out []Output
	if !covers(fit, l.lot.Wanted, d.cfg.K) {
		out = d.askSiblings(now, c, l)
		fit, notes = c.search(d.book.away, now, fit, notes, maxPassed-maxNotCalled)
		var more []candidate
		fit, more = part(fit, l.lot.Avoid)
		shunned = append(shunned, more...)
	}
	if len(fit) == 0 {
		fit, shunned = shunned, nil
	}
	d.fit = fit[:0]
	if len(fit) == 0 {
		d.block(now, c)
		return out
	}
	c.blocked = false
	heap.Pop(&c.queue)
	n := d.rank(fit, l.lot.Wanted)
	return append(out, d.call(now, l, fit[:n], passedOver(notes, fit[:n], fit[n:], shunned))...)
}

// block lets a class wait until a node that fits it is freed, or for a while.
func (d *Desk) block(now int64, c *class) {
	c.backoff = min(max(2*c.backoff, d.cfg.RetryMin), d.cfg.RetryMax)
	c.blocked, c.next = true, now+c.backoff
	d.set(timer{at: c.next, class: c})
}

// askSiblings asks for nodes of other cells, once per RetryMax for a class and
// once per AskGap for all.
func (d *Desk) askSiblings(now int64, c *class, l *lotState) []Output {
	if now < c.askAt || now < d.askAt {
		return nil
	}
	c.asked, c.askAt, d.askAt = true, now+d.cfg.RetryMax, now+d.cfg.AskGap
	return []Output{{Ask: &AskSiblings{Lot: l.lot}}}
}

// part moves the nodes to avoid out of fit. It changes fit's array.
func part(fit []candidate, avoid []workload.PeerID) (rest, shunned []candidate) {
	if len(avoid) == 0 {
		return fit, nil
	}
	rest = fit[:0]
	for _, c := range fit {
		if slices.Contains(avoid, c.entry.offer.Node) {
			shunned = append(shunned, c)
		} else {
			rest = append(rest, c)
		}
	}
	return rest, shunned
}

// covers reports whether home can serve a lot by itself, with somebody to
// spare for a price.
func covers(fit []candidate, wanted uint32, k int) bool {
	var slots uint64
	for _, c := range fit {
		slots += uint64(c.slots)
	}
	return slots >= uint64(wanted) && len(fit) >= min(k, 2) || slots > 2*uint64(wanted)
}

// rank returns how many of fit to call, and brings these and those that the notes
// name to the front, the cheapest first. Most lots want few: the rest of a large
// cell is then not sorted.
func (d *Desk) rank(fit []candidate, wanted uint32) int {
	head := min(d.cfg.K+maxNotCalled, len(fit))
	cheapestFirst(fit, head)
	if n := d.choose(fit[:head], wanted); n+maxNotCalled <= head || head == len(fit) {
		return n
	}
	slices.SortFunc(fit, cheaper)
	return d.choose(fit, wanted)
}

// cheapestFirst brings the n cheapest to the front, in order.
func cheapestFirst(fit []candidate, n int) {
	head := fit[:n]
	slices.SortFunc(head, cheaper)
	for i := n; i < len(fit) && n > 0; i++ {
		c := fit[i]
		if cheaper(c, head[n-1]) >= 0 {
			continue
		}
		fit[i] = head[n-1]
		k := n - 1
		for ; k > 0 && cheaper(c, head[k-1]) < 0; k-- {
			head[k] = head[k-1]
		}
		head[k] = c
	}
}

// choose counts the K cheapest, and more while their slots do not cover the lot.
func (d *Desk) choose(fit []candidate, wanted uint32) int {
	wanted = min(wanted, d.cfg.MaxAward)
	var slots uint64
	for n := range fit {
		if n >= d.cfg.MaxCalled || n >= d.cfg.K && slots >= uint64(wanted) {
			return n
		}
		slots += uint64(fit[n].slots)
	}
	return min(len(fit), d.cfg.MaxCalled)
}

// passedOver adds to the notes of an auction who fitted and was not called.
func passedOver(notes []workload.DeclineNote, chosen, rest, shunned []candidate) []workload.DeclineNote {
	dearest := chosen[len(chosen)-1].floor
	for _, c := range rest[:min(len(rest), maxNotCalled)] {
		notes = append(notes, workload.DeclineNote{
			Node: c.entry.offer.Node, Reasons: []workload.Reason{{Code: workload.NotCalled, Want: dearest, Have: c.floor}},
		})
	}
	for _, c := range shunned[:min(len(shunned), maxPassed-len(notes))] {
		notes = append(notes, workload.DeclineNote{
			Node: c.entry.offer.Node, Reasons: []workload.Reason{{Code: workload.Avoided}},
		})
	}
	return notes
}

// call opens an auction and reserves what it calls for.
func (d *Desk) call(now int64, l *lotState, chosen []candidate, notes []workload.DeclineNote) []Output {
	a := &auction{
		id: d.newAuction(), lot: l, class: l.class, wanted: min(l.lot.Wanted, d.cfg.MaxAward),
		calls: make([]call, 0, len(chosen)), unanswered: len(chosen), declines: notes, index: len(d.open),
	}
	l.phase, l.auction = calling, a
	d.auctions[a.id] = a
	d.open = append(d.open, a)
	var slowest int64
	out, outs := make([]Output, 0, len(chosen)+2), make([]CallOut, len(chosen))
	for i, c := range chosen {
		c.slots = min(c.slots, a.wanted)
		held := c.entry.need(l.lot.Shape, c.slots)
		c.entry.held = plus(c.entry.held, held, 1)
		a.calls = append(a.calls, call{candidate: c, node: c.entry.offer.Node, held: held})
		a.siblings, a.dht = a.siblings || c.entry.away, a.dht || c.entry.dht
		slowest = max(slowest, c.score.RTTMicros/1000)
		outs[i] = CallOut{Node: c.entry.offer.Node, Call: d.message(a), Require: l.lot.Require}
		out = append(out, Output{Call: &outs[i]})
	}
	a.closes = now + min(max(d.cfg.CallMin, 2*slowest), d.cfg.CallMax)
	if l.lot.Require != nil {
		a.closes = now + d.cfg.CallMax // evidence takes a chip its time
	}
	d.set(timer{at: a.closes, auction: a})
	return out
}

func (d *Desk) message(a *auction) workload.Call {
	lot := &a.lot.lot
	return workload.Call{
		Auction: a.id, Workload: lot.Workload, Cell: d.cell, Leader: d.self, Owner: lot.Owner,
		Shape: lot.Shape, Kind: lot.Kind, Host: lot.Host, Where: lot.Where,
		Slots: a.wanted, MaxPrice: lot.MaxPrice,
	}
}

// newAuction numbers auctions: the first half of the cell's leader, then a
// counter that starts at the salt.
func (d *Desk) newAuction() workload.AuctionID {
	var id workload.AuctionID
	d.seq++
	copy(id[:8], d.self[:8])
	binary.BigEndian.PutUint64(id[8:], d.seq)
	return id
}
