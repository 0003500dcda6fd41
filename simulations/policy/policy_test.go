package policy

import (
	"testing"

	"github.com/perrin-mesh/perrin/scheduler"
	"github.com/perrin-mesh/perrin/simulations/chance"
	"github.com/perrin-mesh/perrin/simulations/scenario"
	"github.com/perrin-mesh/perrin/workload"
)

func node(n byte) (id workload.PeerID) {
	id[0], id[31] = n, n
	return id
}

func offerOf(n byte, cores int32, ask int64) scheduler.OfferIn {
	total := workload.Capacity{Cores: 8, Threads: 8, Memory: 64 << 30, Disk: 64 << 30, Slots: 8}
	free := total
	free.Cores, free.Threads = cores, cores
	return scheduler.OfferIn{RTTMicros: 1000, Offer: workload.Offer{
		Node: node(n), Seq: 1, Free: free, Asks: workload.Asks{Core: ask, Thread: ask}, ValidMs: 12_000,
		Machine: workload.Machine{Name: "m", Arch: "amd64", OS: "linux", SMT: 1, Kinds: []workload.Kind{workload.Process}, Total: total},
	}}
}

// seer is an oracle that sees one peer as the best, and four in all.
type seer struct{ offerIn scheduler.OfferIn }

func (seer) Size() int { return 4 }

func (seer) PeerNumber(id workload.PeerID) int32 { return int32(id[0]) }

func (seer) CellNumber(workload.CellID) int32 { return 7 }

func (seer) WorkloadNumber(id workload.ID) int32 { return int32(id.Random[0]) }

func (seer) OfferOf(i int, _ workload.CellID) (scheduler.OfferIn, bool) {
	n := byte(i + 1)
	return offerOf(n, 2*int32(n), 500*int64(n)), true
}

func (seer) Waiting(int) int { return 0 }

func (seer) Service(*scheduler.Lot) int64 { return 1_000_000_000 }

func (s seer) Best(_ workload.CellID, _ *scheduler.Lot, avoid []workload.PeerID) (scheduler.OfferIn, int32, bool) {
	return s.offerIn, 0, len(avoid) == 0
}

// first is a policy of a user's own.
type first struct{}

func (first) Choose(*Question) ([]int, error) { return []int{0}, nil }

func desk(t *testing.T, name string) Desk {
	t.Helper()
	d, err := New(Config{
		Policy: scenario.Policy{Name: name, K: 3, Probes: 2, Cutoff: 2_000_000_000}, Self: node(99), Term: 1, Chance: chance.Seed(1).Stream(0, 0),
		Oracle: seer{offerOf(2, 8, 500)}, Chooser: first{},
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func lot(wanted uint32) scheduler.Lot {
	shape := workload.DefaultResources()
	shape.Memory, shape.Disk = 1<<30, 0
	return scheduler.Lot{Workload: workload.ID{Random: [16]byte{1}}, Owner: node(50), Shape: shape, Kind: workload.Process, Wanted: wanted}
}

// drive runs a desk whose nodes answer at once: those in declines do not bid. It
// returns who was called and what was awarded until a time in ms.
func drive(d Desk, l scheduler.Lot, until int64, declines map[workload.PeerID]bool) (called []workload.PeerID, awards []*scheduler.Award) {
	inputs := []scheduler.Input{{Lot: &l}}
	for now := int64(1); now <= until; now += 10 {
		inputs = append(inputs, scheduler.Input{})
		for len(inputs) > 0 {
			in := inputs[0]
			inputs = inputs[1:]
			for _, out := range d.Step(now, in) {
				switch {
				case out.Call != nil:
					called = append(called, out.Call.Node)
					inputs = append(inputs, answer(out.Call, declines))
				case out.Award != nil:
					awards = append(awards, out.Award)
					l.Wanted -= min(l.Wanted, uint32(len(out.Award.Slots)))
					left, id := l, out.Award.Workload
					inputs = append(inputs, scheduler.Input{Lot: &left}, scheduler.Input{Committed: &id})
				}
			}
		}
	}
	return called, awards
}

func answer(c *scheduler.CallOut, declines map[workload.PeerID]bool) scheduler.Input {
	if declines[c.Node] {
		return scheduler.Input{Decline: &workload.Decline{Auction: c.Call.Auction, Node: c.Node, Reasons: []workload.Reason{{Code: workload.NoCores}}}}
	}
	asks := make([]int64, c.Call.Slots)
	for i := range asks {
		asks[i] = 500 * int64(c.Node[0])
	}
	return scheduler.Input{Bid: &scheduler.BidIn{Bid: workload.Bid{Auction: c.Call.Auction, Node: c.Node, Asks: asks}, Signed: workload.Signed{By: c.Node}}}
}

func post(d Desk) {
	for n := byte(1); n <= 4; n++ {
		o := offerOf(n, 2*int32(n), 500*int64(n))
		d.Step(1, scheduler.Input{Offer: &o})
	}
}

// TestEveryPolicyPlaces wants each to place a lot of several slots, to go on after
// declines, and to place nothing where nobody bids.
func TestEveryPolicyPlaces(t *testing.T) {
	for _, name := range scenario.Policies {
		d := desk(t, name)
		post(d)
		called, awards := drive(d, lot(5), 3000, nil)
		slots := 0
		for _, a := range awards {
			slots += len(a.Slots)
			if len(a.Bids) != len(a.Scores) || len(a.Slots) > int(a.Wanted) {
				t.Errorf("%s: an award that the ledger would reject: %+v", name, a)
			}
		}
		if slots != 5 || len(called) == 0 {
			t.Errorf("%s places %d slots of 5 with %d calls", name, slots, len(called))
		}
		d = desk(t, name)
		post(d)
		if _, awards := drive(d, lot(1), 3000, map[workload.PeerID]bool{node(1): true, node(3): true}); len(awards) != 1 {
			t.Errorf("%s: two of four decline, and it makes %d awards", name, len(awards))
		}
		d = desk(t, name)
		post(d)
		everybody := map[workload.PeerID]bool{node(1): true, node(2): true, node(3): true, node(4): true}
		called, awards = drive(d, lot(1), 3000, everybody)
		if len(awards) > 0 || len(called) < 2 || len(called) > 400 {
			t.Errorf("%s: all decline, and it makes %d calls and %d awards", name, len(called), len(awards))
		}
	}
}

// TestChoosers looks at whom each rival calls first.
func TestChoosers(t *testing.T) {
	counts := map[string]map[byte]int{}
	for _, name := range []string{scenario.Random, scenario.PowerOfTwo, scenario.RandomK, scenario.AllKnowing} {
		d := desk(t, name)
		post(d)
		counts[name] = map[byte]int{}
		for i := range 400 {
			l := lot(1)
			l.Workload.Random[1], l.Workload.Random[2] = byte(i), byte(i>>8)
			for _, out := range d.Step(2, scheduler.Input{Lot: &l}) {
				if out.Call != nil {
					counts[name][out.Call.Node[0]]++
				}
			}
			l.Wanted = 0
			d.Step(2, scheduler.Input{Lot: &l})
			post(d) // what was called for is free again
		}
	}
	if c := counts[scenario.Random]; c[1] < 60 || c[2] < 60 || c[3] < 60 || c[4] < 60 {
		t.Errorf("random calls %v", c)
	}
	if c := counts[scenario.PowerOfTwo]; c[4] < 150 || c[1] > 0 { // the fullest never wins against another
		t.Errorf("power of two calls %v", c)
	}
	if c := counts[scenario.RandomK]; c[1]+c[2]+c[3]+c[4] != 1200 {
		t.Errorf("random-k of 3 calls %v", c)
	}
	if c := counts[scenario.AllKnowing]; c[2] != 400 {
		t.Errorf("all-knowing calls %v", c)
	}
}

func TestNoSuchPolicy(t *testing.T) {
	if _, err := New(Config{Policy: scenario.Policy{Name: "cheapest"}}); err == nil {
		t.Error("a policy that there is not is made")
	}
}
