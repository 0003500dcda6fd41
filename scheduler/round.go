package scheduler

import (
	"slices"

	"github.com/perrin-mesh/perrin/workload"
)

// Round is where a lot that still wants slots stands, for `why`: its last
// auction, and for a lot that waits what each known node lacks now.
type Round struct {
	At       int64
	Wanted   uint32
	MaxPrice int64
	Bids     []workload.Bid
	Scores   []workload.Score
	Declines []workload.DeclineNote
	Siblings bool // nodes of sibling cells were asked for or called
	DHT      bool // some were found through the DHT
}

// maxNotes bounds the declines of a Round.
const maxNotes = 128

// Last returns the round of a workload that still wants slots, or nil while its
// first auction is open. The result is not changed later.
func (d *Desk) Last(id workload.ID) *Round {
	l := d.lots[id]
	switch {
	case l == nil:
		return nil
	case l.phase != waiting:
		return l.last
	}
	r := &Round{At: d.now, Wanted: l.lot.Wanted, MaxPrice: l.lot.MaxPrice, Siblings: l.class.asked}
	if l.last != nil {
		r.DHT = l.last.DHT
	}
	_, r.Declines = l.class.search(d.book.home, d.now, nil, nil, maxNotes)
	_, r.Declines = l.class.search(d.book.away, d.now, nil, r.Declines, maxNotes)
	return r
}

// Offers returns the home cell's offers that stand at now, in a fixed order.
func (d *Desk) Offers(now int64) []workload.Offer {
	var offers []workload.Offer
	for _, e := range d.book.home {
		if e.expires > now {
			offers = append(offers, e.offer)
		}
	}
	return offers
}

// Suited returns up to most of the home cell's offers that seem to fit a lot,
// cheapest first, for a sibling cell that asks.
func (d *Desk) Suited(lot *Lot, now int64, most int) []workload.Offer {
	fit, _ := newClass(keyOf(lot)).search(d.book.home, now, nil, nil, 0)
	fit, _ = part(fit, lot.Avoid)
	slices.SortFunc(fit, cheaper)
	var offers []workload.Offer
	for _, c := range fit[:min(len(fit), max(most, 0))] {
		offers = append(offers, c.entry.offer)
	}
	return offers
}

// Stats is the size of a desk.
type Stats struct {
	Lots     int `json:"lots"`
	Classes  int `json:"classes"` // of lots that fit the same nodes
	Auctions int `json:"auctions"`
	Offers   int `json:"offers"` // of the home cell
	Away     int `json:"away"`   // known nodes of other cells
}

// Stats returns the size of the desk.
func (d *Desk) Stats() Stats {
	return Stats{
		Lots: len(d.lots), Classes: len(d.classes), Auctions: len(d.open),
		Offers: len(d.book.home), Away: len(d.book.away),
	}
}
