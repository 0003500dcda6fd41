package scheduler

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/perrin-mesh/perrin/workload"
)

// market is nodes that answer as they should over a network that delays and
// loses, and a ledger that grants what it is asked to.
type market struct {
	t      *rapid.T
	desk   *Desk
	now    int64
	nodes  map[string]*seller
	wants  map[workload.ID]*Lot
	mail   []message // not delivered yet
	awards int
}

// message is to the desk, or to a node when it is a call.
type message struct {
	Input
	call *CallOut
}

type seller struct {
	name        string
	cores, used int
	seq         uint64
	ask         int64
	alive       bool
	holds       map[workload.AuctionID]int
}

func (s *seller) free() int {
	n := s.cores - s.used
	for _, held := range s.holds {
		n -= held
	}
	return n
}

func newMarket(t *rapid.T) *market {
	cfg := DefaultConfig()
	cfg.K = rapid.IntRange(1, 4).Draw(t, "k")
	return &market{
		t: t, desk: NewDesk(cfg, peer("leader"), workload.CellID{1}, 1),
		nodes: map[string]*seller{}, wants: map[workload.ID]*Lot{},
	}
}

func (m *market) offer(s *seller) Input {
	s.seq++
	in := offerOf(args{plain: []string{s.name}, named: map[string]string{
		"cores": fmt.Sprint(s.cores), "free": fmt.Sprint(max(s.free(), 0)), "ask": fmt.Sprint(s.ask),
	}}, s.seq)
	return Input{Offer: &in}
}

func (m *market) step(in Input) {
	for _, out := range m.desk.Step(m.now, in) {
		switch {
		case out.Call != nil:
			m.mail = append(m.mail, message{call: out.Call})
		case out.Release != nil:
			delete(m.nodes[peerName(out.Release.Node)].holds, out.Release.Auction)
		case out.Award != nil:
			m.awarded(out.Award)
		}
	}
	checkDesk(m.t, m.desk)
}

func (m *market) called(c *CallOut) {
	s := m.nodes[peerName(c.Node)]
	if !s.alive {
		return
	}
	n := min(s.free()/int(c.Call.Shape.CPUs), int(c.Call.Slots))
	if n <= 0 {
		m.post(Input{Decline: &workload.Decline{
			Auction: c.Call.Auction, Node: c.Node, Reasons: []workload.Reason{{Code: workload.NoCores}},
		}})
		return
	}
	s.holds[c.Call.Auction] = n * int(c.Call.Shape.CPUs)
	rate := s.ask * int64(c.Call.Shape.CPUs)
	m.post(Input{Bid: &BidIn{
		Bid:    workload.Bid{Auction: c.Call.Auction, Node: c.Node, Asks: slices.Repeat([]int64{rate}, n)},
		Signed: workload.Signed{By: c.Node},
	}})
}

// awarded grants what the ledger still wants: it may have heard more than the desk.
func (m *market) awarded(a *Award) {
	m.awards++
	if len(a.Slots) == 0 || uint32(len(a.Slots)) > a.Wanted || len(a.Bids) != len(a.Scores) {
		m.t.Fatalf("award %+v", a)
	}
	lot := Lot{Workload: a.Workload}
	if wanted := m.wants[a.Workload]; wanted != nil {
		lot = *wanted
	}
	for _, slot := range a.Slots {
		s := m.nodes[peerName(slot.Node)]
		if s.holds[a.Auction] <= 0 {
			m.t.Fatalf("%s is awarded a slot that it does not hold", s.name)
		}
		s.holds[a.Auction] -= int(max(lot.Shape.CPUs, 1))
		if lot.Wanted > 0 {
			lot.Wanted--
			s.used += int(lot.Shape.CPUs)
		}
	}
	for _, slot := range a.Slots {
		delete(m.nodes[peerName(slot.Node)].holds, a.Auction) // the surplus, and what is not granted
	}
	m.want(lot)
	id := a.Workload
	m.post(Input{Committed: &id})
}

// want changes what the ledger says that a workload wants, and tells the desk.
func (m *market) want(lot Lot) {
	m.wants[lot.Workload] = &lot
	if lot.Wanted == 0 {
		delete(m.wants, lot.Workload)
	}
	m.post(Input{Lot: &lot})
}

// deliver takes one message out of the mail. The ledger's own come in order.
func (m *market) deliver() {
	if len(m.mail) == 0 {
		return
	}
	i := rapid.IntRange(0, len(m.mail)-1).Draw(m.t, "message")
	if m.mail[i].Lot != nil || m.mail[i].Committed != nil {
		i = slices.IndexFunc(m.mail, func(in message) bool { return in.Lot != nil || in.Committed != nil })
	}
	next := m.mail[i]
	m.mail = slices.Delete(m.mail, i, i+1)
	m.take(next)
}

func (m *market) take(next message) {
	if next.call != nil {
		m.called(next.call)
	} else {
		m.step(next.Input)
	}
}

func (m *market) post(in Input) { m.mail = append(m.mail, message{Input: in}) }

func (m *market) actions() map[string]func(*rapid.T) {
	name := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"})
	return map[string]func(*rapid.T){
		"deliver": func(*rapid.T) { m.deliver() },
		"wait":    func(t *rapid.T) { m.now += rapid.Int64Range(1, 400).Draw(t, "ms"); m.step(Input{}) },
		"offer": func(t *rapid.T) {
			s := m.node(name.Draw(t, "node"))
			s.alive, s.ask = true, rapid.Int64Range(90, 110).Draw(t, "ask")
			m.post(m.offer(s))
		},
		"lose": func(t *rapid.T) {
			lost := slices.IndexFunc(m.mail, func(in message) bool { return in.Offer != nil || in.Decline != nil || in.call != nil })
			if lost >= 0 {
				m.mail = slices.Delete(m.mail, lost, lost+1)
			}
		},
		"gone": func(t *rapid.T) {
			s := m.node(name.Draw(t, "node"))
			p := peer(s.name)
			s.alive, s.used, s.holds = false, 0, map[workload.AuctionID]int{}
			m.mail = slices.DeleteFunc(m.mail, func(msg message) bool { return msg.call != nil && msg.call.Node == p })
			m.step(Input{Gone: &p})
		},
		"lot": func(t *rapid.T) {
			lot := lotOf(args{plain: []string{rapid.SampledFrom([]string{"u", "v", "w", "x", "y"}).Draw(t, "lot")}}, m.now)
			lot.Shape.CPUs = int32(lot.Workload.Random[0]%3) + 1 // an ID never comes back with another shape
			lot.Wanted = rapid.Uint32Range(0, 9).Draw(t, "wanted")
			if old := m.wants[lot.Workload]; old != nil {
				lot.Since = old.Since
			}
			m.want(lot)
		},
		"ended": func(t *rapid.T) {
			s := m.node(name.Draw(t, "node"))
			s.used = max(s.used-2, 0)
			m.post(m.offer(s))
		},
	}
}

func (m *market) node(name string) *seller {
	s := m.nodes[name]
	if s == nil {
		s = &seller{name: name, cores: 4, ask: 100, alive: true, holds: map[workload.AuctionID]int{}}
		m.nodes[name] = s
	}
	return s
}

// settle lets everything that is under way come to its end.
func (m *market) settle() {
	for i := 0; i < 2000 && (len(m.mail) > 0 || len(m.desk.open) > 0); i++ {
		for len(m.mail) > 0 {
			next := m.mail[0]
			m.mail = m.mail[1:]
			m.take(next)
		}
		m.now += 10
		m.step(Input{})
	}
	if len(m.mail) > 0 || len(m.desk.open) > 0 {
		m.t.Fatalf("%d messages and %d auctions never end", len(m.mail), len(m.desk.open))
	}
}

// Whatever happens: the desk stays consistent, awards only what is held, and
// releases every hold that wins nothing. In the end, when there is room, every
// lot is served.
func TestDeskServesEverybodyAndLeavesNoHold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMarket(t)
		t.Repeat(m.actions())
		m.settle()
		for _, s := range m.nodes {
			if len(s.holds) > 0 {
				t.Fatalf("%s still holds %v", s.name, s.holds)
			}
		}
		for _, n := range []string{"a", "b"} {
			s := m.node(n)
			s.alive, s.cores, s.used = true, 200, 0
			m.step(m.offer(s))
		}
		for range 400 {
			m.now += 100
			m.step(Input{})
			m.settle()
		}
		if len(m.wants) > 0 || len(m.desk.lots) > 0 {
			t.Fatalf("%d lots are never served, %d are on the desk", len(m.wants), len(m.desk.lots))
		}
		if d := m.desk; len(d.classes)+len(d.auctions)+len(d.timers) > 0 || len(d.rules) > 1 {
			t.Fatalf("%d classes, %d rules, %d auctions and %d timers of no lot", len(d.classes), len(d.rules), len(d.auctions), len(d.timers))
		}
	})
}

// Two desks that are told the same say the same: nothing depends on map order.
func TestDeskReplays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		twin := NewDesk(DefaultConfig(), peer("leader"), workload.CellID{1}, 1)
		m := &market{t: t, desk: NewDesk(DefaultConfig(), peer("leader"), workload.CellID{1}, 1)}
		for i := range rapid.IntRange(1, 60).Draw(t, "inputs") {
			in := drawInput(t, m.desk, i)
			m.now += rapid.Int64Range(0, 120).Draw(t, "ms")
			if got, want := twin.Step(m.now, in), m.desk.Step(m.now, in); !reflect.DeepEqual(got, want) {
				t.Fatalf("input %d: %v and %v", i, got, want)
			}
			checkDesk(t, m.desk)
		}
	})
}

// drawInput draws anything at all, sensible or not.
func drawInput(t *rapid.T, d *Desk, i int) Input {
	node := peer(rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "node"))
	var id workload.AuctionID
	if len(d.open) > 0 {
		id = d.open[rapid.IntRange(0, len(d.open)-1).Draw(t, "auction")].id
	}
	switch rapid.IntRange(0, 6).Draw(t, "kind") {
	case 0, 1:
		in := offerOf(args{plain: []string{peerName(node)}, named: map[string]string{
			"free": fmt.Sprint(rapid.IntRange(-1, 6).Draw(t, "free")), "valid": fmt.Sprint(rapid.IntRange(-1, 500).Draw(t, "valid")),
		}}, uint64(i))
		return Input{Offer: &in}
	case 2, 3:
		lot := lotOf(args{plain: []string{rapid.SampledFrom([]string{"u", "v", "w"}).Draw(t, "lot")}}, int64(i))
		lot.Shape.CPUs, lot.Wanted = rapid.Int32Range(1, 2).Draw(t, "cpus"), rapid.Uint32Range(0, 3).Draw(t, "wanted")
		lot.Avoid = []workload.PeerID{peer("a")}
		return Input{Lot: &lot}
	case 4:
		return Input{Bid: &BidIn{Bid: workload.Bid{Auction: id, Node: node, Asks: drawAsks(t)}}}
	case 5:
		code := rapid.SampledFrom([]workload.Code{workload.NoCores, workload.NotReached, workload.ProgramMissing, workload.Busy}).Draw(t, "code")
		if rapid.Bool().Draw(t, "refusal") {
			id = workload.AuctionID{}
		}
		return Input{Decline: &workload.Decline{Auction: id, Node: node, Reasons: []workload.Reason{{Code: code}}}}
	}
	switch rapid.IntRange(0, 2).Draw(t, "rare") {
	case 0:
		return Input{Gone: &node}
	case 1:
		id := loadID("w")
		return Input{Committed: &id}
	}
	return Input{Siblings: &SiblingsIn{Offers: []OfferIn{offerOf(args{plain: []string{peerName(node)}}, uint64(i))}}}
}

// A hostile offer harms nobody but its node.
func TestDeskBoundsWhatAnOfferClaims(t *testing.T) {
	d := NewDesk(DefaultConfig(), peer("leader"), workload.CellID{1}, 1)
	in := offerOf(args{plain: []string{"a"}}, 1)
	in.RTTMicros, in.RiskPPM = math.MaxInt64, math.MaxInt64
	o := &in.Offer
	o.Free = workload.Capacity{Cores: math.MaxInt32, Threads: math.MaxInt32, Memory: math.MaxInt64, Disk: math.MaxInt64, Slots: math.MaxInt32}
	o.Asks = workload.Asks{Core: math.MaxInt64, Thread: -1, Memory: math.MaxInt64}
	o.Machine.SMT, o.ValidMs = math.MaxInt32, math.MaxInt64
	d.Step(0, Input{Offer: &in})
	for _, class := range []workload.Class{workload.Core, workload.Thread} {
		lot := lotOf(args{plain: []string{string(class)}, named: map[string]string{"class": string(class), "wanted": "4000000000", "cpus": "4096"}}, 0)
		out := d.Step(1, Input{Lot: &lot})
		if out[len(out)-1].WakeAtMs < 1 || out[len(out)-1].WakeAtMs > 1501 {
			t.Errorf("%s: wake at %d", class, out[len(out)-1].WakeAtMs)
		}
		checkDesk(t, d)
	}
	o.Free = workload.Capacity{Cores: math.MinInt32, Threads: math.MinInt32, Memory: math.MinInt64, Disk: math.MinInt64, Slots: math.MinInt32}
	o.Seq++
	d.Step(2, Input{Offer: &in})
	shape := workload.DefaultResources()
	if left := d.book.nodes[o.Node].left(2, &shape); left > 0 {
		t.Errorf("%d slots are left of less than nothing", left)
	}
}

func TestBookIsBounded(t *testing.T) {
	b := newBook()
	post := func(i int, away bool, now int64) *entry {
		in := offerOf(args{plain: []string{fmt.Sprint("n", i)}, named: map[string]string{"valid": "100"}}, 1)
		return b.post(&in, away, false, now)
	}
	for i := range maxNodes {
		if post(i, true, 0) == nil || post(maxNodes+i, false, 0) == nil {
			t.Fatalf("offer %d is not taken", i)
		}
	}
	if post(3*maxNodes, true, 0) != nil || post(3*maxNodes, false, 0) != nil {
		t.Error("the book takes more than it may")
	}
	if post(3*maxNodes, true, 100) == nil || len(b.away) != 1 || len(b.home) != maxNodes {
		t.Errorf("after their time %d and %d offers", len(b.home), len(b.away))
	}
	if post(0, false, 100) == nil || len(b.home) != 1 {
		t.Errorf("after their time %d offers at home", len(b.home))
	}
	slots := map[int]bool{}
	for _, e := range b.nodes {
		slots[e.slot] = true
	}
	if len(slots) != len(b.nodes) {
		t.Errorf("%d nodes share %d places", len(b.nodes), len(slots))
	}
}

func TestConfigValidate(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Fatal(err)
	}
	for field, spoil := range map[string]func(*Config){
		"K": func(c *Config) { c.K = 0 }, "MaxCalled": func(c *Config) { c.MaxCalled = 129 },
		"CallMin": func(c *Config) { c.CallMin = 0 }, "CallMax": func(c *Config) { c.CallMax = 1 }, "LateFor": func(c *Config) { c.LateFor = 0 },
		"RetryMin": func(c *Config) { c.RetryMin = 0 }, "RetryMax": func(c *Config) { c.RetryMax = 1 }, "PassFor": func(c *Config) { c.PassFor = 1 },
		"MaxAward": func(c *Config) { c.MaxAward = 4097 }, "AskGap": func(c *Config) { c.AskGap = -1 },
		"StartMax": func(c *Config) { c.StartMax = -1 }, "DataPrice": func(c *Config) { c.DataPrice = -1 },
	} {
		c := DefaultConfig()
		spoil(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}
