package scheduler

import (
	"fmt"
	"testing"

	"github.com/perrin-mesh/perrin/workload"
)

// desk64 is a desk of 64 nodes with cores each, all free or none.
func desk64(cores, free int) *Desk {
	d := NewDesk(DefaultConfig(), peer("leader"), workload.CellID{1}, 1)
	for i := range 64 {
		in := benchOffer(i, cores, free, 1)
		d.Step(0, Input{Offer: &in})
	}
	return d
}

func benchOffer(i, cores, free int, seq uint64) OfferIn {
	return offerOf(args{plain: []string{fmt.Sprint("node", i)}, named: map[string]string{
		"cores": fmt.Sprint(cores), "free": fmt.Sprint(free), "ask": fmt.Sprint(1000 + i),
	}}, seq)
}

func benchLot(i, classes int) Lot {
	lot := lotOf(args{plain: []string{fmt.Sprint("lot", i)}}, int64(i))
	lot.Shape.Memory = int64(i%classes+1) << 20
	return lot
}

// BenchmarkAwards runs 10,000 lots of one slot through a desk of 64 nodes: offers,
// calls, bids, awards and commits. Nodes tell every change by an offer.
func BenchmarkAwards(b *testing.B) {
	for _, classes := range []int{1, 50} {
		b.Run(fmt.Sprintf("classes=%d", classes), func(b *testing.B) {
			for range b.N {
				if n := clearAll(b, 10_000, classes); n != 10_000 {
					b.Fatalf("%d awards", n)
				}
			}
			b.ReportMetric(float64(b.N)*10_000/b.Elapsed().Seconds(), "awards/s")
		})
	}
}

func clearAll(b *testing.B, lots, classes int) (awards int) {
	const cores = 32
	d := desk64(cores, cores)
	used, seq := map[workload.PeerID]int{}, uint64(1)
	index := map[workload.PeerID]int{}
	for i := range 64 {
		index[peer(fmt.Sprint("node", i))] = i
	}
	var mail []Input
	for i := range lots {
		lot := benchLot(i, classes)
		mail = append(mail, Input{Lot: &lot})
	}
	now := int64(0)
	for len(mail) > 0 {
		in := mail[0]
		mail = mail[1:]
		for _, out := range d.Step(now, in) {
			switch {
			case out.Call != nil:
				bid := workload.Bid{Auction: out.Call.Call.Auction, Node: out.Call.Node, Asks: []int64{int64(1000 + index[out.Call.Node])}}
				mail = append(mail, Input{Bid: &BidIn{Bid: bid, Signed: workload.Signed{By: bid.Node}}})
			case out.Award != nil:
				awards += len(out.Award.Slots)
				node := out.Award.Slots[0].Node
				done := Lot{Workload: out.Award.Workload}
				mail = append(mail, Input{Lot: &done}, Input{Committed: &out.Award.Workload})
				if used[node]++; used[node] == cores { // its work ends
					used[node] = 0
					seq++
					offer := benchOffer(index[node], cores, cores, seq)
					mail = append(mail, Input{Offer: &offer})
				}
			}
		}
	}
	return awards
}

// BenchmarkWaiting is what an input costs while 100,000 lots want slots and
// nothing is free.
func BenchmarkWaiting(b *testing.B) {
	for _, classes := range []int{1, 50, 1000, 100_000} {
		d := desk64(8, 0)
		for i := range 100_000 {
			lot := benchLot(i, classes)
			d.Step(1, Input{Lot: &lot})
		}
		d.Step(1_000_000, Input{})
		now := int64(1_000_000)
		b.Run(fmt.Sprintf("offer/classes=%d", classes), func(b *testing.B) {
			in := benchOffer(3, 8, 0, 2)
			for range b.N {
				d.Step(now, Input{Offer: &in})
			}
		})
		b.Run(fmt.Sprintf("lot/classes=%d", classes), func(b *testing.B) {
			for i := range b.N {
				lot := benchLot(100_000+i, classes)
				d.Step(now, Input{Lot: &lot})
				lot.Wanted = 0
				d.Step(now, Input{Lot: &lot})
			}
		})
		b.Run(fmt.Sprintf("nothing/classes=%d", classes), func(b *testing.B) {
			for range b.N {
				d.Step(now, Input{})
			}
		})
	}
}

// BenchmarkFreed is a slot that comes free, its auction and its award, while
// 100,000 lots wait.
func BenchmarkFreed(b *testing.B) {
	for _, classes := range []int{1, 50, 1000} {
		b.Run(fmt.Sprintf("classes=%d", classes), func(b *testing.B) {
			d := desk64(8, 0)
			for i := range 100_000 {
				lot := benchLot(i, classes)
				d.Step(1, Input{Lot: &lot})
			}
			b.ResetTimer()
			for i := range b.N {
				free, full := benchOffer(3, 8, 1, uint64(2*i+2)), benchOffer(3, 8, 0, uint64(2*i+3))
				out := d.Step(2, Input{Offer: &free})
				var call *CallOut
				for _, o := range out {
					if o.Call != nil {
						call = o.Call
					}
				}
				if call == nil {
					b.Fatal("nobody was called")
				}
				bid := workload.Bid{Auction: call.Call.Auction, Node: call.Node, Asks: []int64{1003}}
				out = d.Step(2, Input{Bid: &BidIn{Bid: bid}})
				if out[0].Award == nil {
					b.Fatalf("no award: %+v", out)
				}
				id := out[0].Award.Workload
				d.Step(2, Input{Offer: &full})
				lot := d.lots[id].lot
				lot.Since += 1_000_000
				d.Step(2, Input{Lot: &Lot{Workload: id}})
				d.Step(2, Input{Lot: &lot})
			}
		})
	}
}

// BenchmarkClear is a lot of 512 slots over the supply curves of 64 nodes.
func BenchmarkClear(b *testing.B) {
	var bids []workload.Bid
	for i := range 64 {
		var asks []int64
		for j := range 16 {
			asks = append(asks, int64(1000+7*i+31*j))
		}
		bids = append(bids, workload.Bid{Node: peer(fmt.Sprint("node", i)), Asks: asks})
	}
	scores := make([]workload.Score, len(bids))
	b.ReportAllocs()
	for range b.N {
		if n := len(Clear(512, 0, bids, scores)); n != 512 {
			b.Fatal(n)
		}
	}
}
