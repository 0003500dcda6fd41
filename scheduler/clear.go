package scheduler

import (
	"bytes"
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
	maxAsk  = pricing.MaxRate // a rate above this is nonsense and is not cleared
)

// Cost is what a buyer compares: the ask, and on top of it the expected price
// of failed work, of distance and of data to move, in micro-credits per
// slot-second. It grows with the ask. Asks, risks and data prices outside of 0
// to 2^40, 10^6 and 2^40, and round trips over a second, count as the nearer end.
func Cost(ask int64, s workload.Score) int64 {
	ask = min(max(ask, 0), maxAsk)
	risk := min(max(s.RiskPPM, 0), million)
	rtt := min(max(s.RTTMicros, 0), million)
	return ask + ask*risk/million + ask*rtt/rttParts + min(max(s.DataPrice, 0), maxAsk)
}

// BidCost is Cost of an ask of bid b.
func BidCost(b *workload.Bid, ask int64, s workload.Score) int64 {
	return Cost(slowed(ask, b.Speed), s)
}

// slowed is what an ask comes to for the work that a machine's fastest core does
// meanwhile: a core of half the speed is worth half as much. Speeds outside of 1
// to 1000 permille count as 1000.
func slowed(ask, speed int64) int64 {
	if speed < 1 || speed >= 1000 {
		return ask
	}
	ask = min(max(ask, 0), maxAsk)
	return min(maxAsk, (ask*1000+speed-1)/speed)
}

// asked is the largest ask that is at most worth when slowed.
func asked(worth, speed int64) int64 {
	if speed < 1 || speed >= 1000 {
		return worth
	}
	return worth * speed / 1000
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
// only; the order of the bids does not matter. bids[i] has scores[i]. Asks above
// maxPrice (0: no limit) do not compete, nor does a node with more than one bid.
//
// A bid of slower cores than its machine's fastest competes as if it asked so
// much more.
//
// A slot is paid the lowest rejected cost of another node, turned back into an
// ask of the winner, but never less than its own ask, and at most 1.25 x that
// and the limit (a bounded second price after Vickrey, 1961); with none
// rejected it is paid its own ask.
func Clear(wanted uint32, maxPrice int64, bids []workload.Bid, scores []workload.Score) []workload.AwardSlot {
	limit := priceLimit(maxPrice)
	units := rank(bids, scores, limit)
	n := min(len(units), int(min(wanted, math.MaxInt32)))
	lost := losers(units[n:])
	slots := make([]workload.AwardSlot, n)
	for i, u := range units[:n] {
		slots[i] = workload.AwardSlot{
			Node: bids[u.bid].Node, Ask: u.ask,
			Rate: settle(u, lost.besides(u.bid), scores[u.bid], bids[u.bid].Speed, limit),
		}
	}
	return slots
}

func priceLimit(maxPrice int64) int64 {
	if maxPrice <= 0 {
		return maxAsk
	}
	return min(maxPrice, maxAsk)
}

// rank lists every slot on offer by cost. Ties go to the node with the smaller
// identity, and among a node's own slots the earlier one.
func rank(bids []workload.Bid, scores []workload.Score, limit int64) []unit {
	units := make([]unit, 0, len(bids))
	for i := range bids {
		if repeated(bids, i) {
			continue
		}
		for j, ask := range usable(bids[i].Asks, limit) {
			units = append(units, unit{bid: i, step: j, ask: ask, cost: BidCost(&bids[i], ask, scores[i])})
		}
	}
	slices.SortFunc(units, func(a, b unit) int {
		if c := cmp.Compare(a.cost, b.cost); c != 0 {
			return c
		}
		if a.bid != b.bid {
			return bytes.Compare(bids[a.bid].Node[:], bids[b.bid].Node[:])
		}
		return cmp.Compare(a.step, b.step)
	})
	return units
}

// usable returns the part of a supply curve that competes: up to the limit, and
// as long as it does not fall.
func usable(asks []int64, limit int64) []int64 {
	var last int64
	for i, ask := range asks {
		if ask < last || ask > limit {
			return asks[:i]
		}
		last = ask
	}
	return asks
}

func repeated(bids []workload.Bid, i int) bool {
	for j := range bids {
		if j != i && bids[j].Node == bids[i].Node {
			return true
		}
	}
	return false
}

// lowest is the lowest cost among the losing units, and the lowest of a bid
// other than that one's; -1 where there is none.
type lowest struct {
	bid         int
	cost, other int64
}

// losers expects units by cost.
func losers(units []unit) lowest {
	l := lowest{bid: -1, cost: -1, other: -1}
	if len(units) == 0 {
		return l
	}
	l.bid, l.cost = units[0].bid, units[0].cost
	for _, u := range units[1:] {
		if u.bid != l.bid {
			l.other = u.cost
			break
		}
	}
	return l
}

// besides returns the lowest rejected cost that is not of bid, or -1.
func (l lowest) besides(bid int) int64 {
	if bid == l.bid {
		return l.other
	}
	return l.cost
}

func settle(u unit, runnerUp int64, s workload.Score, speed, limit int64) int64 {
	if runnerUp >= 0 {
		runnerUp = asked(askAt(runnerUp, s), speed)
	}
	return pricing.Settle(u.ask, runnerUp, limit)
}

// decided reports whether further bids, each of a node that has not bid and
// none costing less than floor, could change neither the winners nor a price.
func decided(wanted uint32, maxPrice int64, bids []workload.Bid, scores []workload.Score, floor int64) bool {
	limit, n, total := priceLimit(maxPrice), int(min(wanted, math.MaxInt32)), 0
	for i := range bids {
		total += len(bids[i].Asks)
	}
	if total < n {
		return false
	}
	units := rank(bids, scores, limit)
	if len(units) < n || n > 0 && floor <= units[n-1].cost {
		return false // one could win
	}
	lost := losers(units[n:])
	for _, u := range units[:n] {
		most := max(u.ask, min(u.ask+u.ask/4, limit))
		sets := BidCost(&bids[u.bid], most, scores[u.bid]) // a rejected cost from here on is paid as most
		if r := lost.besides(u.bid); r >= 0 {
			sets = min(sets, r)
		}
		if most > u.ask && (floor < sets || lost.besides(u.bid) < 0) {
			return false // one could set this price
		}
	}
	return true
}
