package scheduler

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/perrin-mesh/perrin/workload"
)

// TestTranscripts runs the stories under testdata. Each line below `step` is one
// input; `at=N` moves the time first, in ms. Auctions are named after their
// workload: w#1 is the first of w. `go test -rewrite` writes what happens now,
// to be reviewed as a diff.
func TestTranscripts(t *testing.T) {
	stories, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(stories) == 0 {
		t.Fatalf("%d stories: %v", len(stories), err)
	}
	for _, path := range stories {
		t.Run(filepath.Base(path), func(t *testing.T) {
			st := &story{}
			datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
				st.t = t
				return st.run(d)
			})
		})
	}
}

type story struct {
	t     *testing.T
	desk  *Desk
	now   int64
	seq   uint64
	names map[workload.AuctionID]string
	ids   map[string]workload.AuctionID
	count map[string]int
}

func (st *story) run(d *datadriven.TestData) string {
	switch d.Cmd {
	case "desk":
		return st.open(d)
	case "step":
		var b strings.Builder
		for _, line := range strings.Split(strings.TrimSpace(d.Input), "\n") {
			fmt.Fprintf(&b, "%s\n", line)
			st.line(&b, line)
			checkDesk(st.t, st.desk)
		}
		return b.String()
	case "why":
		return st.why(d)
	case "offers":
		var b strings.Builder
		for _, o := range st.desk.Offers(st.now) {
			fmt.Fprintf(&b, "%s free=%d ask=%d\n", peerName(o.Node), o.Free.Cores, o.Asks.Core)
		}
		return b.String()
	case "suited":
		lot := lotOf(parseArgs(append([]string{"any"}, strings.Fields(d.Input)...)), 0)
		var names []string
		for _, o := range st.desk.Suited(&lot, st.now, 3) {
			names = append(names, peerName(o.Node))
		}
		return strings.Join(names, " ") + "\n"
	case "stats":
		return fmt.Sprintf("%+v\n", st.desk.Stats())
	}
	st.t.Fatalf("%s: no directive %q", d.Pos, d.Cmd)
	return ""
}

func (st *story) open(d *datadriven.TestData) string {
	cfg := DefaultConfig()
	for _, arg := range d.CmdArgs {
		switch arg.Key {
		case "k":
			d.ScanArgs(st.t, "k", &cfg.K)
		case "max-award":
			d.ScanArgs(st.t, "max-award", &cfg.MaxAward)
		default:
			st.t.Fatalf("%s: no setting %q", d.Pos, arg.Key)
		}
	}
	if err := cfg.Validate(); err != nil {
		return err.Error()
	}
	*st = story{
		t: st.t, desk: NewDesk(cfg, peer("leader"), workload.CellID{1}, 7),
		names: map[workload.AuctionID]string{}, ids: map[string]workload.AuctionID{}, count: map[string]int{},
	}
	return ""
}

func (st *story) line(b *strings.Builder, line string) {
	words := strings.Fields(line)
	a := parseArgs(words[1:])
	st.now = a.num("at", st.now)
	for _, out := range st.desk.Step(st.now, st.input(words[0], a)) {
		b.WriteString("  " + st.output(out) + "\n")
	}
}

func (st *story) input(verb string, a args) Input {
	switch verb {
	case "offer":
		st.seq++
		in := offerOf(a, uint64(a.num("seq", int64(st.seq))))
		return Input{Offer: &in}
	case "gone":
		p := peer(a.plain[0])
		return Input{Gone: &p}
	case "freed":
		return Input{Freed: &Freed{Node: peer(a.plain[0]), Shape: lotOf(args{plain: []string{"any"}}, 0).Shape, Seq: uint64(a.num("seq", int64(st.seq)))}}
	case "lot":
		lot := lotOf(a, st.now)
		return Input{Lot: &lot}
	case "bid":
		bid := workload.Bid{
			Auction: st.ids[a.plain[1]], Node: peer(a.plain[0]), Asks: numbers(a.text("asks", "1000")),
			StartMs: a.num("start", 0), HoldMs: 2000, Data: a.num("gib", 0) << 30,
		}
		return Input{Bid: &BidIn{Bid: bid, Signed: workload.Signed{By: bid.Node}}}
	case "decline":
		return Input{Decline: &workload.Decline{
			Auction: st.ids[a.plain[1]], Node: peer(a.plain[0]),
			Reasons: []workload.Reason{{Code: workload.Code(a.plain[2]), Want: a.num("want", 0), Have: a.num("have", 0)}},
		}}
	case "refuse":
		return Input{Decline: &workload.Decline{Node: peer(a.plain[0]), Reasons: []workload.Reason{{Code: workload.Code(a.plain[1])}}}}
	case "siblings":
		in := &SiblingsIn{Workload: loadID(a.plain[0]), DHT: a.text("dht", "") != ""}
		for _, name := range a.plain[1:] {
			st.seq++
			in.Offers = append(in.Offers, offerOf(args{plain: []string{name}, named: a.named}, st.seq))
		}
		return Input{Siblings: in}
	case "committed":
		id := loadID(a.plain[0])
		return Input{Committed: &id}
	case "wait":
		return Input{}
	}
	st.t.Fatalf("no input %q", verb)
	return Input{}
}

func (st *story) output(out Output) string {
	switch {
	case out.Call != nil:
		c := out.Call.Call
		name, known := st.names[c.Auction]
		if !known {
			load := loadName(c.Workload)
			st.count[load]++
			name = fmt.Sprintf("%s#%d", load, st.count[load])
			st.names[c.Auction], st.ids[name] = name, c.Auction
		}
		return fmt.Sprintf("call %s for %s, slots=%d", peerName(out.Call.Node), name, c.Slots)
	case out.Ask != nil:
		return "ask siblings for " + loadName(out.Ask.Lot.Workload)
	case out.Release != nil:
		return fmt.Sprintf("release %s of %s", peerName(out.Release.Node), st.names[out.Release.Auction])
	case out.Award != nil:
		aw := out.Award
		s := fmt.Sprintf("award %s, %d of %d: %s", st.names[aw.Auction], len(aw.Slots), aw.Wanted, slotsText(aw.Slots))
		for _, n := range aw.Declines {
			s += fmt.Sprintf("\n    %s: %s", peerName(n.Node), reasonsText(n.Reasons))
		}
		return s
	}
	return fmt.Sprintf("wake at %d", out.WakeAtMs)
}

func (st *story) why(d *datadriven.TestData) string {
	r := st.desk.Last(loadID(d.CmdArgs[0].Key))
	if r == nil {
		return "nothing yet\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "at %d wanted=%d max-price=%d siblings=%v dht=%v\n", r.At, r.Wanted, r.MaxPrice, r.Siblings, r.DHT)
	for i, bid := range r.Bids {
		fmt.Fprintf(&b, "  %s bids %v, cost %d\n", peerName(bid.Node), bid.Asks, Cost(bid.Asks[0], r.Scores[i]))
	}
	for _, n := range r.Declines {
		fmt.Fprintf(&b, "  %s: %s\n", peerName(n.Node), reasonsText(n.Reasons))
	}
	return b.String()
}
