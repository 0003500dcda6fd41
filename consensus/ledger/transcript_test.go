package ledger

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/perrin-mesh/perrin/workload"
)

// TestTranscripts runs the stories under testdata. Each line below `apply` is
// one command of the log; the other directives are queries. `go test -rewrite`
// writes what happens now, to be reviewed as a diff.
func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		if strings.HasPrefix(path, filepath.Join("testdata", "fuzz")) {
			return // inputs of the fuzz targets
		}
		st := &story{world: newWorld()}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			st.t = t
			out := st.run(d)
			st.checkInvariants(t)
			return out
		})
	})
}

type story struct {
	*world
	t        *testing.T
	auctions uint32
	segments uint64
}

func (st *story) run(d *datadriven.TestData) string {
	var b strings.Builder
	switch d.Cmd {
	case "apply":
		for _, line := range strings.Split(strings.TrimSpace(d.Input), "\n") {
			before := digest(blank(st.Snapshot()))
			r := st.command(strings.Fields(line))
			if r.Reject != nil && digest(blank(st.Snapshot())) != before {
				st.t.Errorf("%s: %q was rejected and changed the state", d.Pos, line)
			}
			fmt.Fprintf(&b, "%s => %s\n", line, describe(r))
		}
	case "show":
		for _, arg := range d.CmdArgs {
			st.show(&b, loadID(arg.Key))
		}
	case "why":
		st.why(&b, d)
	case "lots":
		for lot := range st.Lots(0) {
			fmt.Fprintf(&b, "%s wanted=%d open=%d live=%d", loadName(lot.ID), lot.Wanted, lot.Open, lot.Live)
			for _, p := range lot.Faulted {
				fmt.Fprintf(&b, " not %s", peerName(p))
			}
			b.WriteString("\n")
		}
	case "nodes":
		for _, n := range st.Nodes() {
			fmt.Fprintf(&b, "%s epoch=%d member=%v slots=%s\n", peerName(n.Node), n.Epoch, n.Member, refs(n.Slots))
		}
	case "accounts":
		for _, a := range st.Accounts() {
			fmt.Fprintf(&b, "%s spent=%d earned=%d limit=%d\n", peerName(a.Peer), a.Spent, a.Earned, a.Limit)
		}
	case "stats":
		s := st.Stats()
		fmt.Fprintf(&b, "applied=%d phases=%v lots=%d slots=%d members=%d rejected=%v\n", s.Applied, s.Phases, s.Lots, s.Slots, s.Members, s.Rejected)
	case "compactable":
		var words []string
		for _, arg := range d.CmdArgs {
			words = append(words, arg.String())
		}
		a := parseArgs(words)
		fmt.Fprintln(&b, st.Compactable(int64(a.num("now", uint32(st.at))), a.rule()))
	case "tomb":
		for _, arg := range d.CmdArgs {
			if t, ok := st.Tomb(loadID(arg.Key)); ok {
				fmt.Fprintf(&b, "%s of %s, %d us/s: %s\n", arg.Key, peerName(t.Owner), t.Cost, &t)
			} else {
				fmt.Fprintf(&b, "%s has no tomb\n", arg.Key)
			}
		}
	case "restart":
		was := st.Hash()
		s, err := Restore(testRules(), reencode(st.t, st.Snapshot()))
		if err != nil {
			return err.Error()
		}
		st.State = s
		fmt.Fprintf(&b, "same=%v\n", s.Hash() == was)
	default:
		st.t.Fatalf("%s: no directive %q", d.Pos, d.Cmd)
	}
	return b.String()
}

// command applies one line: a verb, plain words and name=value pairs.
func (st *story) command(words []string) Result {
	a := parseArgs(words[1:])
	switch words[0] {
	case "genesis":
		return st.apply(func(c *Command) {
			c.Genesis = &Genesis{Mesh: testMesh, Cell: testCell, Epoch: 1, MaxSize: a.num("max", 128)}
		})
	case "member":
		return st.apply(func(c *Command) { c.MemberAdd = &MemberAdd{Node: peer(a.plain[0]), Name: a.plain[0]} })
	case "leave":
		return st.apply(func(c *Command) { c.MemberRemove = &MemberRemove{Node: peer(a.plain[0])} })
	case "accept":
		return st.acceptLine(a)
	case "award":
		return st.awardLine(a)
	case "expire":
		return st.apply(func(c *Command) { c.Expire = &Expire{Node: peer(a.plain[0]), Epoch: uint64(a.num("epoch", 1))} })
	case "stop":
		return st.apply(func(c *Command) { c.Stop = &Stop{ID: loadID(a.plain[0]), By: peer(a.text("by", "alice"))} })
	case "quota":
		return st.apply(func(c *Command) { c.Quota = &Quota{Account: peer(a.plain[0]), Limit: int64(a.num("limit", 0))} })
	case "compact":
		return st.apply(func(c *Command) { c.Compact = a.rule() })
	case "garbage":
		st.index++
		return st.Apply(st.index, nil, []byte("garbage"))
	case "again":
		return st.Apply(st.index, nil, []byte("garbage"))
	}
	return st.slotLine(words[0], a)
}

func (st *story) acceptLine(a args) Result {
	name, owner := a.plain[0], a.text("owner", "alice")
	signed := signedSpec(owner, a.text("salt", name), func(s *workload.Spec) {
		s.Tasks.Count, s.Retries, s.MaxParallel = a.num("tasks", 1), a.num("retries", 0), a.num("parallel", 0)
		s.Timeout = a.signed("timeout", s.Timeout)
		s.MaxPrice, s.Created = int64(a.num("max-price", 0)), int64(a.num("created", 1))
		for i, dep := range a.list("after") {
			s.After = append(s.After, workload.After{Workload: loadID(dep), Name: fmt.Sprint("in", i)})
		}
		if a.text("mesh", "") != "" {
			s.Mesh[0] = 'x'
		}
		if a.text("kind", "") != "" {
			s.Program.Kind = workload.Kind(a.text("kind", ""))
		}
	})
	signed.Sig = []byte(a.text("sig", "good"))
	id := loadID(name)
	if a.text("cell", "") != "" {
		id.Cell[0] = 'x'
	}
	return st.apply(func(c *Command) { c.Accept = &Accept{ID: id, Spec: signed, Home: peer(owner)} })
}

// awardLine reads NODE:RATE or NODE:RATE:ASK a slot.
func (st *story) awardLine(a args) Result {
	st.auctions++
	award := awardTo(loadID(a.plain[0]), a.num("auction", st.auctions), a.num("first", 1), 0)
	asks := map[string][]int64{}
	var order []string
	for _, word := range a.plain[1:] {
		part := strings.Split(word, ":")
		rate, _ := strconv.ParseInt(part[1], 10, 64)
		ask := rate
		if len(part) > 2 {
			ask, _ = strconv.ParseInt(part[2], 10, 64)
		}
		award.Slots = append(award.Slots, AwardSlot{Node: peer(part[0]), Rate: rate, Ask: ask})
		if asks[part[0]] == nil {
			order = append(order, part[0])
		}
		asks[part[0]] = append(asks[part[0]], ask)
	}
	for _, n := range append(order, a.list("losers")...) {
		if n != a.text("silent", "") {
			award.addBid(n, append(asks[n], 99)...)
		}
	}
	for _, n := range a.list("declined") {
		award.Declines = append(award.Declines, DeclineNote{Node: peer(n), Reasons: []workload.Reason{{Code: workload.NoCores, Want: 2, Have: 1}}})
	}
	award.Wanted, award.MaxPrice = a.num("wanted", uint32(len(award.Slots))), int64(a.num("max-price", 0))
	return st.apply(func(c *Command) { c.Award = award })
}

// slotLine applies a command about slot= of a workload. Without epoch= it
// carries the slot's own fence.
func (st *story) slotLine(verb string, a args) Result {
	id, slotID := loadID(a.plain[0]), workload.SlotID(a.num("slot", 1))
	sl, _ := st.Slot(id, slotID)
	fence := workload.Fence{Generation: uint64(a.num("generation", 1)), Epoch: uint64(a.num("epoch", uint32(sl.Fence.Epoch)))}
	return st.apply(func(c *Command) {
		switch verb {
		case "refuse":
			c.Refuse = &Refuse{Workload: id, Slot: slotID, Fence: fence, Reasons: []workload.Reason{{Code: workload.HoldGone}}}
		case "take":
			c.Take = &Take{Workload: id, Slot: slotID, Fence: fence, Count: a.num("count", 1), Seq: a.num("seq", 0)}
		case "return", "lost":
			c.Return = &Return{Workload: id, Slot: slotID, Fence: fence, Ranges: a.ranges("tasks"), Lost: verb == "lost"}
		case "close":
			c.Close = st.closeLine(a)
			c.Close.Workload, c.Close.Slot, c.Close.Fence = id, slotID, fence
			st.at += a.signed("after", max(c.Close.Usage.WallMs, 0)) // honest nodes take the time they say
			c.At = st.at
		case "release":
			c.Release = &Release{Workload: id, Slot: slotID, Fence: fence}
		default:
			st.t.Fatalf("no command %q", verb)
		}
	})
}

func (st *story) closeLine(a args) *Close {
	st.segments++
	c := &Close{Done: a.ranges("done"), Segment: segmentRef(uint64(a.num("segment", uint32(st.segments)))), Usage: workload.Usage{WallMs: a.signed("wall", 1000)}}
	if c.Inline = []byte(a.text("inline", "")); len(c.Inline) > 0 && a.text("claims", "") == "" {
		c.Segment = workload.Ref{Digest: workload.DigestOf(c.Inline), Size: int64(len(c.Inline))}
	}
	exit := workload.Exit(a.text("exit", string(workload.Exited)))
	for _, r := range a.ranges("failed") {
		for i := r.From; i < r.End(); i++ {
			c.Failed = append(c.Failed, FailedTask{Index: i, Attempt: r.Attempt, Exit: exit, Code: 1})
		}
	}
	return c
}

// args are the words of a line.
type args struct {
	plain []string
	named map[string]string
}

func parseArgs(words []string) args {
	a := args{named: map[string]string{}}
	for _, w := range words {
		if name, value, ok := strings.Cut(w, "="); ok {
			a.named[name] = value
		} else {
			a.plain = append(a.plain, w)
		}
	}
	return a
}

func (a args) text(name, otherwise string) string {
	if v, ok := a.named[name]; ok {
		return v
	}
	return otherwise
}

func (a args) num(name string, otherwise uint32) uint32 {
	n, err := strconv.ParseUint(a.named[name], 10, 32)
	if err != nil {
		return otherwise
	}
	return uint32(n)
}

func (a args) signed(name string, otherwise int64) int64 {
	n, err := strconv.ParseInt(a.named[name], 10, 64)
	if err != nil {
		return otherwise
	}
	return n
}

// rule reads a rule of compaction that keeps everything but for what is named.
func (a args) rule() *Compact {
	return &Compact{
		Keep: a.num("keep", 1000), Bytes: a.signed("bytes", MaxBytes), For: a.signed("for", 1_000_000), AtOnce: a.signed("at-once", 0),
	}
}

func (a args) list(name string) []string {
	if a.named[name] == "" {
		return nil
	}
	return strings.Split(a.named[name], ",")
}

// ranges reads FROM-LAST#ATTEMPT, comma-separated; "#1" and "-LAST" may be left out.
func (a args) ranges(name string) []workload.Range {
	var out []workload.Range
	for _, word := range a.list(name) {
		span, attempt, _ := strings.Cut(word, "#")
		first, last, ok := strings.Cut(span, "-")
		if !ok {
			last = first
		}
		from, _ := strconv.Atoi(first)
		to, _ := strconv.Atoi(last)
		try, err := strconv.Atoi(attempt)
		if err != nil {
			try = 1
		}
		out = append(out, workload.Range{From: uint32(from), Count: uint32(to - from + 1), Attempt: uint32(try)})
	}
	return out
}

func spans(ranges []workload.Range) string {
	var out []string
	for _, r := range ranges {
		out = append(out, fmt.Sprintf("%d-%d#%d", r.From, r.End()-1, r.Attempt))
	}
	return "[" + strings.Join(out, " ") + "]"
}

func ids(list []workload.ID) string {
	var out []string
	for _, id := range list {
		out = append(out, loadName(id))
	}
	return "[" + strings.Join(out, " ") + "]"
}

func refs(list []SlotRef) string {
	var out []string
	for _, r := range list {
		out = append(out, fmt.Sprintf("%s/%d@%s", loadName(r.Workload), r.Slot, peerName(r.Node)))
	}
	return "[" + strings.Join(out, " ") + "]"
}

// describe prints what a result says, the silent parts left out.
func describe(r Result) string {
	if r.Reject != nil {
		return "REJECTED " + r.Reject.Error()
	}
	out := []string{"ok"}
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if !r.ID.IsZero() {
		add("%s %s", loadName(r.ID), r.Phase)
	}
	if r.Duplicate {
		add("duplicate")
	}
	for _, g := range r.Slots {
		add("slot %d on %s at %d fence %d.%d %s;", g.Slot, peerName(g.Node), g.Rate, g.Fence.Generation, g.Fence.Epoch, spans(g.Ranges))
	}
	if r.Short > 0 {
		add("short=%d", r.Short)
	}
	if r.Ranges != nil {
		add("given %s", spans(r.Ranges))
	}
	if len(r.Retried) > 0 {
		add("retried %s", spans(r.Retried))
	}
	if r.Charged > 0 {
		add("charged=%d", r.Charged)
	}
	if r.Epoch > 0 {
		add("epoch=%d", r.Epoch)
	}
	for _, l := range r.Lost {
		add("lost %s/%d %s", loadName(l.Workload), l.Slot, spans(l.Ranges))
	}
	if len(r.Ready) > 0 {
		add("ready %s", ids(r.Ready))
	}
	if len(r.Freed) > 0 {
		add("freed %s", refs(r.Freed))
	}
	if len(r.Ends) > 0 {
		add("ended %s", ids(r.Ends))
	}
	if len(r.Forgot) > 0 {
		add("forgot %s", ids(r.Forgot))
	}
	return strings.Join(out, " ")
}

func (st *story) show(b *strings.Builder, id workload.ID) {
	v, ok := st.Workload(id)
	if !ok {
		fmt.Fprintf(b, "%s is not known\n", loadName(id))
		return
	}
	fmt.Fprintf(b, "%s %s", loadName(id), v.Phase)
	if v.Reason != "" {
		fmt.Fprintf(b, " (%s)", v.Reason)
	}
	if len(v.Waits) > 0 {
		fmt.Fprintf(b, " waits for %s", ids(v.Waits))
	}
	fmt.Fprintf(b, ": %+v wanted=%d retries=%d lost=%d cost=%d\n", v.Tasks, v.Wanted, v.Retries, v.Lost, v.Cost)
	for _, sl := range v.Slots {
		fmt.Fprintf(b, "  slot %d on %s epoch=%d closed=%d open=%s\n", sl.ID, peerName(sl.Node), sl.Fence.Epoch, sl.Closed, spans(wireRanges(sl.Open)))
	}
	for _, n := range v.Nodes {
		fmt.Fprintf(b, "  node %s slots=%d done=%d failed=%d faults=%d lost=%d wall=%d cost=%d\n", peerName(n.Node), n.Slots, n.Done, n.Failed, n.Faults, n.Lost, n.WallMs, n.Cost)
	}
	for _, g := range st.Segments(id) {
		fmt.Fprintf(b, "  segment of slot %d on %s: done=%s failed=%d retried=%s\n", g.Slot, peerName(g.Node), spans(g.Done), len(g.Failed), spans(g.Retried))
	}
}

func (st *story) why(b *strings.Builder, d *datadriven.TestData) {
	w, ok := st.Why(loadID(d.CmdArgs[0].Key))
	if d.HasArg("task") {
		var task int
		d.ScanArgs(st.t, "task", &task)
		w, ok = st.WhyTask(loadID(d.CmdArgs[0].Key), uint32(task))
	}
	if !ok {
		b.WriteString("not known\n")
		return
	}
	if t := w.Task; t != nil {
		fmt.Fprintf(b, "task %d %s attempt=%d fails=%d faults=%d slot=%d node=%s segment=%v\n", t.Index, t.State, t.Attempt, t.Fails, t.Faults, t.Slot, peerName(t.Node), t.Segment != nil)
	}
	for _, step := range w.Steps {
		fmt.Fprintf(b, "%d %s slot=%d node=%s count=%d %s %v %s\n", step.Index, step.Kind, step.Slot, peerName(step.Node), step.Count, spans(step.Ranges), step.Reasons, step.Note)
	}
	for _, a := range w.Auctions {
		fmt.Fprintf(b, "auction at %d wanted=%d short=%d\n", a.Index, a.Wanted, a.Short)
		for _, bid := range a.Bids {
			fmt.Fprintf(b, "  %s asked %v, won %d\n", peerName(bid.Node), bid.Asks, bid.Won)
		}
		for _, win := range a.Winners {
			fmt.Fprintf(b, "  slot %d to %s at %d (asked %d)\n", win.Slot, peerName(win.Node), win.Rate, win.Ask)
		}
		for _, dec := range a.Declines {
			fmt.Fprintf(b, "  %s declined: %v\n", peerName(dec.Node), slices.Clone(dec.Reasons))
		}
	}
}
