package scheduler

import (
	"cmp"
	"math"
	"slices"

	"github.com/perrin-mesh/perrin/scheduler/pricing"
	"github.com/perrin-mesh/perrin/workload"
)

// rttParts is how distance is priced: each RTTMicros/rttParts of the ask, so
// that 100 ms of round trip costs as much as 1 % of the price.
const rttParts = 10_000_000

const (
	million = 1_000_000
	maxAsk  = 1 << 40 // a micro-credit rate above this is nonsense and is not cleared
)

// Cost is what a buyer compares: the ask, and on top of it the expected price
// of failed work, of distance and of data to move. Micro-credits per slot-second.
func Cost(ask int64, s workload.Score) int64 {
	risk := min(max(s.RiskPPM, 0), million)
	rtt := min(max(s.RTTMicros, 0), million)
	return ask + ask*risk/million + ask*rtt/rttParts + max(s.DataPrice, 0)
}

// askAt is the largest ask whose cost is at most limit under s: the inverse of Cost.
func askAt(limit int64, s workload.Score) int64 {
	lo, hi := int64(0), min(limit, maxAsk)
	for lo < hi {
		mid := lo + (hi-lo+1)/2
		if Cost(mid, s) <= limit {
			lo = mid
		} else {
			hi = mid - 1
		}
	}
	return lo
}

// unit is one slot that one node offers.
type unit struct {
	bid, step int
	ask, cost int64
}

// Clear decides an auction: it returns up to wanted slots, cheapest first, with
// their settled rates. It is a pure function of its arguments and uses integers
// only. bids[i] has scores[i]; asks above maxPrice (0: no limit) do not compete.
//
// A slot is paid the lowest rejected cost of another node, turned back into an
// ask of the winner, but never less than its own ask, and at most 1.25 x that
// and the limit (a bounded second price after Vickrey, 1961); with none
// rejected it is paid its own ask.
func Clear(wanted uint32, maxPrice int64, bids []workload.Bid, scores []workload.Score) []workload.AwardSlot {
	if maxPrice <= 0 {
		maxPrice = maxAsk
	}
	units := rank(bids, scores, maxPrice)
	n := min(len(units), int(min(wanted, math.MaxInt32)))
	slots := make([]workload.AwardSlot, n)
	for i, u := range units[:n] {
		slots[i] = workload.AwardSlot{
			Node: bids[u.bid].Node, Ask: u.ask,
			Rate: settle(u, rejected(units[n:], u.bid), scores[u.bid], maxPrice),
		}
	}
	return slots
}

// rank lists every slot on offer by cost. Ties go to the node with the smaller
// identity, and among a node's own slots the earlier one.
func rank(bids []workload.Bid, scores []workload.Score, maxPrice int64) []unit {
	var units []unit
	for i, b := range bids {
		for j, ask := range b.Asks {
			if ask < 0 || ask > maxPrice || ask > maxAsk || j > 0 && ask < b.Asks[j-1] {
				break // the curve never falls, so nothing after it competes
			}
			units = append(units, unit{bid: i, step: j, ask: ask, cost: Cost(ask, scores[i])})
		}
	}
	slices.SortFunc(units, func(a, b unit) int {
		return cmp.Or(cmp.Compare(a.cost, b.cost),
			slices.Compare(bids[a.bid].Node[:], bids[b.bid].Node[:]), cmp.Compare(a.step, b.step))
	})
	return units
}

// rejected returns the lowest cost among the losers that is not of bid, or -1.
func rejected(losers []unit, bid int) int64 {
	for _, u := range losers {
		if u.bid != bid {
			return u.cost
		}
	}
	return -1
}

func settle(u unit, runnerUp int64, s workload.Score, limit int64) int64 {
	if runnerUp >= 0 {
		runnerUp = askAt(runnerUp, s)
	}
	return pricing.Settle(u.ask, runnerUp, limit)
}

// decided reports whether no bid of a node whose asks start at floors (with
// their scores) could win a slot or set a price any more.
func decided(wanted uint32, maxPrice int64, bids []workload.Bid, scores []workload.Score, floors []int64) bool {
	if maxPrice <= 0 {
		maxPrice = maxAsk
	}
	units := rank(bids, scores, maxPrice)
	if len(units) <= int(wanted) {
		return false
	}
	n := int(wanted)
	var ceiling int64
	for _, u := range units[:n] {
		r := rejected(units[n:], u.bid)
		if r < 0 {
			return false
		}
		ceiling = max(ceiling, r)
	}
	return !slices.ContainsFunc(floors, func(f int64) bool { return f < ceiling })
}
