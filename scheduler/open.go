package scheduler

import (
	"encoding/binary"

	"github.com/perrin-mesh/perrin/workload"
)

// openDue opens an auction for every lot that is due and that somebody seems
// to fit. A book that got better makes every waiting lot due.
func (d *Desk) openDue(now int64) []Output {
	better := d.changed
	d.changed = false
	var out []Output
	for _, l := range d.ordered() {
		if l.auction != nil || l.award || now < l.next && !better {
			continue
		}
		out = append(out, d.openAuction(now, l)...)
	}
	return out
}

func (d *Desk) openAuction(now int64, l *lotState) []Output {
	fit, declined := d.book.search(&l.lot, now)
	fit = d.uncommitted(fit, &l.lot)
	var out []Output
	siblings := false
	if !covers(fit, l.lot.Wanted, d.cfg.K) {
		away, _ := d.away.search(&l.lot, now)
		fit, siblings = append(fit, away...), len(away) > 0
		if now-l.asked >= d.cfg.RetryMax || l.asked == 0 {
			l.asked = now
			out = append(out, Output{Ask: &AskSiblings{Lot: l.lot}})
		}
	}
	if len(fit) == 0 {
		if l.last == nil || len(l.last.Bids) == 0 {
			l.last = &Round{At: now, Wanted: l.lot.Wanted, MaxPrice: l.lot.MaxPrice, Declines: declined, Siblings: l.asked > 0}
		}
		l.retreat(now, d.cfg)
		return out
	}
	return append(out, d.call(now, l, d.choose(fit, l.lot.Wanted), declined, siblings)...)
}

// uncommitted leaves out nodes whose free slots are already the subject of
// other open calls.
func (d *Desk) uncommitted(fit []candidate, lot *Lot) []candidate {
	kept := fit[:0]
	for _, c := range fit {
		open := d.book.nodes[c.node].called
		if int64(c.slots) > open {
			c.slots = uint32(int64(c.slots) - open)
			kept = append(kept, c)
		}
	}
	return kept
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

// choose takes the K cheapest, and more while their slots do not cover the lot.
func (d *Desk) choose(fit []candidate, wanted uint32) []candidate {
	var slots uint64
	n := 0
	for n < len(fit) && n < d.cfg.MaxCalled {
		if n >= d.cfg.K && slots >= uint64(wanted) {
			break
		}
		slots += uint64(fit[n].slots)
		n++
	}
	return fit[:n]
}

func (d *Desk) call(now int64, l *lotState, chosen []candidate, declined []workload.DeclineNote, siblings bool) []Output {
	a := &auction{
		id: d.newAuction(), wanted: min(l.lot.Wanted, d.cfg.MaxAward), opened: now, siblings: siblings,
		waiting: map[workload.PeerID]candidate{}, called: map[workload.PeerID]candidate{},
		declines: declined[:min(len(declined), 128)],
	}
	l.auction = a
	d.auctions[a.id] = l
	var slowest int64
	var out []Output
	for _, c := range chosen {
		c.slots = min(c.slots, a.wanted)
		a.waiting[c.node], a.called[c.node] = c, c
		if e := d.book.nodes[c.node]; e != nil {
			e.called += int64(c.slots)
		}
		slowest = max(slowest, c.score.RTTMicros/1000)
		out = append(out, Output{Call: &CallOut{Node: c.node, Call: d.message(l, a)}})
	}
	a.closes = now + max(d.cfg.CallMin, 2*slowest)
	return out
}

func (d *Desk) message(l *lotState, a *auction) workload.Call {
	lot := &l.lot
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

// RangeSize is how many tasks a slot may take next: about 250 ms of measured
// work, at most a share of what is left so that the last slot is not the slow
// one (guided self-scheduling, Polychronopoulos and Kuck, 1987), and 1 to MaxRange.
func RangeSize(left uint32, slots int, microsPerTask int64) uint32 {
	n := int64(1)
	if microsPerTask > 0 {
		n = rangeMicros / microsPerTask
	}
	n = min(n, int64(left)/int64(2*max(slots, 1)), MaxRange)
	return uint32(max(n, 1))
}

// MaxRange is the most tasks of one range.
const MaxRange = 64

const rangeMicros = 250_000
