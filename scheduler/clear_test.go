package scheduler

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/perrin-mesh/perrin/workload"
)

func drawScore(t *rapid.T) workload.Score {
	return workload.Score{
		RTTMicros: rapid.Int64Range(-5, 2_000_000).Draw(t, "rtt"),
		RiskPPM:   rapid.Int64Range(-5, 1_100_000).Draw(t, "risk"),
		DataPrice: rapid.Int64Range(-5, 500).Draw(t, "data"),
	}
}

// drawAsks is mostly a supply curve of small numbers, so that ties happen, and
// now and then nonsense.
func drawAsks(t *rapid.T) []int64 {
	if rapid.IntRange(0, 9).Draw(t, "hostile") == 0 {
		return rapid.SliceOfN(rapid.Int64(), 0, 6).Draw(t, "asks")
	}
	low := rapid.SampledFrom([]int64{0, 100}).Draw(t, "low")
	asks := rapid.SliceOfN(rapid.Int64Range(low, low+40), 0, 6).Draw(t, "asks")
	slices.Sort(asks)
	return asks
}

func drawBids(t *rapid.T, first byte, most int) ([]workload.Bid, []workload.Score) {
	var bids []workload.Bid
	var scores []workload.Score
	order := rapid.Permutation([]byte{0, 1, 2, 3, 4, 5, 6, 7}).Draw(t, "order")
	for _, n := range order[:rapid.IntRange(0, most).Draw(t, "bidders")] {
		bids = append(bids, workload.Bid{Node: workload.PeerID{n, first}, Asks: drawAsks(t)})
		scores = append(scores, drawScore(t))
	}
	return bids, scores
}

func TestClearKeepsItsWord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		wanted := uint32(rapid.IntRange(0, 12).Draw(t, "wanted"))
		limit := rapid.Int64Range(0, 45).Draw(t, "limit") * rapid.Int64Range(0, 3).Draw(t, "times")
		bids, scores := drawBids(t, 0, 8)
		slots := Clear(wanted, limit, bids, scores)
		if uint32(len(slots)) > wanted {
			t.Fatalf("%d slots, %d wanted", len(slots), wanted)
		}
		given, usableInAll := map[workload.PeerID]int{}, 0
		for _, s := range slots {
			b := bids[slices.IndexFunc(bids, func(b workload.Bid) bool { return b.Node == s.Node })]
			if s.Ask != b.Asks[given[s.Node]] {
				t.Fatalf("slot %+v: its ask is not the next of %v", s, b.Asks)
			}
			given[s.Node]++
			if limit > 0 && s.Rate > limit {
				t.Fatalf("slot %+v over the limit of %d", s, limit)
			}
			if s.Rate < s.Ask || s.Rate > s.Ask+s.Ask/4 {
				t.Fatalf("slot %+v: paid less than its ask or more than 1.25 x", s)
			}
		}
		for _, b := range bids {
			usableInAll += len(usable(b.Asks, priceLimit(limit)))
		}
		if len(slots) != min(int(wanted), usableInAll) {
			t.Fatalf("%d slots of %d that could be had", len(slots), usableInAll)
		}
	})
}

func TestClearIsAFunctionOfTheSetOfBids(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		wanted := uint32(rapid.IntRange(0, 12).Draw(t, "wanted"))
		limit := rapid.Int64Range(0, 45).Draw(t, "limit") * rapid.Int64Range(0, 3).Draw(t, "times")
		bids, scores := drawBids(t, 0, 8)
		if len(bids) > 0 && rapid.Bool().Draw(t, "twice") {
			bids, scores = append(bids, bids[0]), append(scores, drawScore(t))
		}
		want := Clear(wanted, limit, bids, scores)
		if again := Clear(wanted, limit, bids, scores); !slices.Equal(again, want) {
			t.Fatalf("replay gives %v, then %v", want, again)
		}
		seed := rapid.Uint64().Draw(t, "shuffle")
		rand.New(rand.NewPCG(seed, 0)).Shuffle(len(bids), func(i, j int) {
			bids[i], bids[j] = bids[j], bids[i]
			scores[i], scores[j] = scores[j], scores[i]
		})
		if got := Clear(wanted, limit, bids, scores); !slices.Equal(got, want) {
			t.Fatalf("in another order %v, was %v", got, want)
		}
	})
}

func TestClearTakesNobodyDearerThanTheRejected(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		wanted := uint32(rapid.IntRange(1, 12).Draw(t, "wanted"))
		bids, scores := drawBids(t, 0, 8)
		worst, won := int64(-1), map[workload.PeerID]int{}
		for _, s := range Clear(wanted, 0, bids, scores) {
			i := slices.IndexFunc(bids, func(b workload.Bid) bool { return b.Node == s.Node })
			worst = max(worst, Cost(s.Ask, scores[i]))
			won[s.Node]++
		}
		for i, b := range bids {
			if asks := usable(b.Asks, maxAsk); worst >= 0 && won[b.Node] < len(asks) && Cost(asks[won[b.Node]], scores[i]) < worst {
				t.Fatalf("%v won up to a cost of %d, but bid %d of %d did not", won, worst, i, asks[won[b.Node]])
			}
		}
	})
}

// A decided auction stays as it is, whatever further nodes bid at or above the floor.
func TestDecidedIsSound(t *testing.T) {
	sound := 0
	rapid.Check(t, func(t *rapid.T) {
		wanted := uint32(rapid.IntRange(1, 6).Draw(t, "wanted"))
		limit := rapid.SampledFrom([]int64{0, 0, 25, 60, 130}).Draw(t, "limit")
		bids, scores := drawBids(t, 0, 8)
		floor := rapid.Int64Range(0, 160).Draw(t, "floor")
		if units := rank(bids, scores, priceLimit(limit)); len(units) > 0 && rapid.Bool().Draw(t, "near") {
			floor = units[rapid.IntRange(0, len(units)-1).Draw(t, "unit")].cost + rapid.Int64Range(-1, 1).Draw(t, "off")
		}
		if !decided(wanted, limit, bids, scores, floor) {
			return
		}
		sound++
		want := Clear(wanted, limit, bids, scores)
		late, lateScores := drawBids(t, 1, 4)
		for i := range late {
			if len(late[i].Asks) > 0 && Cost(late[i].Asks[0], lateScores[i]) < floor {
				late[i].Asks, lateScores[i] = []int64{floor}, workload.Score{}
			}
		}
		got := Clear(wanted, limit, append(bids, late...), append(scores, lateScores...))
		if !slices.Equal(got, want) {
			t.Fatalf("decided at a floor of %d as %v, becomes %v by %v", floor, want, got, late)
		}
	})
	if sound == 0 {
		t.Error("no auction was ever decided early")
	}
}

func TestCostAndItsInverse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawScore(t)
		limit := rapid.Int64Range(0, 1<<41).Draw(t, "limit")
		ask := askAt(limit, s)
		if ask > 0 && Cost(ask, s) > limit {
			t.Fatalf("ask %d costs %d, over %d", ask, Cost(ask, s), limit)
		}
		if ask < min(limit, maxAsk) && Cost(ask+1, s) <= limit {
			t.Fatalf("ask %d is not the largest for %d", ask, limit)
		}
	})
}

func TestCostDoesNotOverflow(t *testing.T) {
	worst := workload.Score{RTTMicros: math.MaxInt64, RiskPPM: math.MaxInt64, DataPrice: math.MaxInt64}
	if c := Cost(math.MaxInt64, worst); c < 3*maxAsk || c > 4*maxAsk {
		t.Errorf("the most is %d", c)
	}
	if c := Cost(math.MinInt64, workload.Score{RTTMicros: -1, RiskPPM: math.MinInt64, DataPrice: -1}); c != 0 {
		t.Errorf("the least is %d", c)
	}
}

func TestRangeSize(t *testing.T) {
	for _, tt := range []struct {
		left   uint32
		slots  int
		micros int64
		want   uint32
	}{
		{1000, 4, 0, 1}, {1000, 4, 1000, MaxRange}, {1000, 4, 10_000, 25}, {100, 10, 1000, 5},
		{3, 10, 1000, 3}, {100, 10, 100, 50}, {100, 10, 4000, 5}, {100, 10, 6000, 5}, {10, 10, 6000, 1}, {1000, 4, 10_000_000, 1}, {0, 0, 1, 1}, {math.MaxUint32, 1, 1, MaxRange},
	} {
		if got := RangeSize(tt.left, tt.slots, tt.micros); got != tt.want {
			t.Errorf("RangeSize(%d, %d, %d) = %d, want %d", tt.left, tt.slots, tt.micros, got, tt.want)
		}
	}
}

func TestDecidedAtTheEdges(t *testing.T) {
	bids := []workload.Bid{{Node: peer("m"), Asks: []int64{100}}, {Node: peer("n"), Asks: []int64{200}}}
	scores := make([]workload.Score, 2)
	for floor, want := range map[int64]bool{
		99:  false, // it could win
		100: false, // and at the same cost by its name
		101: false, // it could lower the price
		124: false,
		125: true, // 1.25 x the ask is paid anyway
		200: true,
	} {
		if got := decided(1, 0, bids, scores, floor); got != want {
			t.Errorf("a floor of %d: %v", floor, got)
		}
	}
	if decided(2, 0, bids, scores, 1000) {
		t.Error("with nobody rejected, any further bid sets a price")
	}
	if decided(3, 0, bids, scores, 1000) {
		t.Error("with a slot open, any further bid wins it")
	}
}

// TestSlowCoresCompeteByTheirSpeed: a bid of cores of half the speed wins only when
// it asks less than half, and is paid what makes it as dear as the runner-up.
func TestSlowCoresCompeteByTheirSpeed(t *testing.T) {
	fast := workload.Bid{Node: workload.PeerID{1}, Asks: []int64{1000}}
	scores := make([]workload.Score, 2)
	for _, tt := range []struct {
		ask, speed int64
		wins       bool
		rate       int64
	}{
		{499, 500, true, 500}, {501, 500, false, 1002}, {450, 500, true, 500}, {390, 500, true, 487},
		{900, 0, true, 1000}, {900, 1000, true, 1000}, {900, 5000, true, 1000}, {900, -1, true, 1000}, {900, 899, false, 1002},
	} {
		slow := workload.Bid{Node: workload.PeerID{2}, Asks: []int64{tt.ask}, Speed: tt.speed}
		got := Clear(1, 0, []workload.Bid{fast, slow}, scores)
		want := workload.AwardSlot{Node: fast.Node, Ask: 1000, Rate: tt.rate}
		if tt.wins {
			want.Node, want.Ask = slow.Node, tt.ask
		}
		if len(got) != 1 || got[0].Node != want.Node || got[0].Ask != want.Ask || got[0].Rate != want.Rate {
			t.Errorf("ask %d at speed %d: %+v, want %+v", tt.ask, tt.speed, got, want)
		}
	}
}
