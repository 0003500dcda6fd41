package ledger

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/perrin-mesh/perrin/workload"
)

func TestTrailKeepsTheLastSteps(t *testing.T) {
	w := newWorld()
	w.found(t, "n1")
	w.accept("w", "alice", nil)
	for i := range uint32(300) {
		w.apply(func(c *Command) { c.Award = awardTo(loadID("w"), i, 1, 5, "n1") })
		w.apply(func(c *Command) {
			c.Refuse = &Refuse{
				Workload: loadID("w"), Slot: workload.SlotID(i + 1), Fence: workload.Fence{Generation: 1, Epoch: 1},
				Reasons: make([]workload.Reason, 16),
			}
		})
	}
	why, _ := w.Why(loadID("w"))
	if len(why.Steps) != keptSteps || len(why.Auctions) != keptAwards {
		t.Fatalf("%d steps and %d auctions, want %d and %d", len(why.Steps), len(why.Auctions), keptSteps, keptAwards)
	}
	last := why.Steps[keptSteps-1]
	if last.Kind != StepRefused || last.Slot != 300 || len(last.Reasons) != stepReasons {
		t.Errorf("the last step is %+v", last)
	}
	if p, _ := w.Proof(loadID("w")); p.Dropped != 300-keptAwards || len(p.Auctions) != keptAwards || p.Auctions[0].First != workload.SlotID(p.Dropped)+1 {
		t.Errorf("%d auctions dropped, %d kept from slot %d on", p.Dropped, len(p.Auctions), p.Auctions[0].First)
	}
	if rec := w.Snapshot().Records[0]; len(rec.Used) != keptUsed || len(rec.Tallies) != 1 {
		t.Errorf("%d used auctions and %d tallies", len(rec.Used), len(rec.Tallies))
	}
}

// TestWhatIsNotKeptIsCounted has more attempts tried again than a workload's
// segments and trail have room for, and holds that nobody has to guess it.
func TestWhatIsNotKeptIsCounted(t *testing.T) {
	w := newWorld()
	w.found(t, "n1")
	const each, closes = 1500, keptSteps + 6
	w.accept("w", "alice", func(s *workload.Spec) { s.Tasks.Count, s.Retries = 2*each*closes, 1 })
	w.apply(func(c *Command) { c.Award = awardTo(loadID("w"), 1, 2*each*closes, 5, "n1") })
	if why, _ := w.Why(loadID("w")); why.Gone != (Gone{}) {
		t.Errorf("all is kept, and %+v has gone", why.Gone)
	}
	for n := range uint32(closes) {
		cl := &Close{Workload: loadID("w"), Slot: 1, Fence: workload.Fence{Generation: 1, Epoch: 1}, Segment: segmentRef(uint64(n))}
		for i := range uint32(each) { // every other one, so that no range has two
			cl.Failed = append(cl.Failed, FailedTask{Index: 2 * (n*each + i), Attempt: 1, Exit: workload.Exited, Code: 1})
		}
		if r := w.apply(func(c *Command) { c.Close = cl }); r.Reject != nil || len(r.Retried) != each {
			t.Fatalf("%d tried again: %v", len(r.Retried), r.Reject)
		}
	}
	const listed = keptRetried / each * each // a segment is listed whole or not at all
	want := Gone{Steps: true, Retries: each * (closes - keptSteps), Results: each*closes - listed}
	task := uint32(0)
	for _, ask := range []func() (Why, bool){
		func() (Why, bool) { return w.Why(loadID("w")) },
		func() (Why, bool) { return w.WhyTask(loadID("w"), task) },
	} {
		if why, _ := ask(); why.Gone != want {
			t.Errorf("%+v has gone, want %+v", why.Gone, want)
		}
	}
	w.checkInvariants(t)
}

// TestResultsOfAPage: who asks where the results of some tasks lie is told of the
// segments that have any of them, a part at a time.
func TestResultsOfAPage(t *testing.T) {
	w := newWorld()
	w.found(t, "n1")
	const segments, each = 40, 10
	w.accept("w", "alice", func(s *workload.Spec) { s.Tasks.Count, s.Retries = segments*each, 1 })
	w.apply(func(c *Command) { c.Award = awardTo(loadID("w"), 1, segments*each, 5, "n1") })
	for n := range uint32(segments) { // the last task of each fails, and is open again
		at := (n * 7 % segments) * each
		cl := &Close{
			Workload: loadID("w"), Slot: 1, Fence: workload.Fence{Generation: 1, Epoch: 1}, Segment: segmentRef(uint64(n)),
			Done:   []workload.Range{{From: at, Count: each - 1, Attempt: 1}},
			Failed: []FailedTask{{Index: at + each - 1, Attempt: 1, Exit: workload.Exited, Code: 1}},
		}
		if r := w.apply(func(c *Command) { c.Close = cl }); r.Reject != nil {
			t.Fatal(r.Reject)
		}
	}
	for _, ask := range [][2]uint32{{0, 1}, {0, 400}, {9, 1}, {10, 10}, {5, 90}, {399, 1}, {390, 1 << 31}, {400, 5}, {7, 0}} {
		var want, got []workload.Ref
		for _, seg := range w.Segments(loadID("w")) {
			for i := ask[0]; i < min(ask[0]+ask[1], segments*each); i++ {
				if task, _ := w.Task(loadID("w"), i); task.Segment != nil && task.Segment.Ref == seg.Ref {
					want = append(want, seg.Ref)
					break
				}
			}
		}
		for {
			part := w.ResultsOf(loadID("w"), ask[0], ask[1], len(got), 3)
			for _, seg := range part {
				got = append(got, seg.Ref)
			}
			if len(part) < 3 {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("tasks from %d on, %d of them: %d segments, want %d", ask[0], ask[1], len(got), len(want))
		}
	}
	if got := w.ResultsOf(loadID("nobody"), 0, 1, 0, 1); got != nil {
		t.Errorf("of no workload: %v", got)
	}
}

func TestSlotHoldsABoundedNumberOfRanges(t *testing.T) {
	w := newWorld()
	w.found(t, "n1", "n2")
	const tasks = 3 * MaxSlotRuns
	fence := workload.Fence{Generation: 1, Epoch: 1}
	w.accept("w", "alice", func(s *workload.Spec) { s.Tasks.Count = tasks })
	w.apply(func(c *Command) { c.Award = awardTo(loadID("w"), 1, tasks, 5, "n1") })
	cl := &Close{Workload: loadID("w"), Slot: 1, Fence: fence, Segment: segmentRef(1)}
	for i := uint32(0); i < tasks; i += 2 {
		cl.Done = append(cl.Done, workload.Range{From: i, Count: 1, Attempt: 1})
	}
	w.apply(func(c *Command) { c.Close = cl })
	w.apply(func(c *Command) { c.Expire = &Expire{Node: peer("n1"), Epoch: 1} })
	w.apply(func(c *Command) { c.Award = awardTo(loadID("w"), 2, 1, 5, "n2") })
	held := 1
	for range MaxSlotRuns/MaxTakeRuns + 1 {
		r := w.apply(func(c *Command) { c.Take = &Take{Workload: loadID("w"), Slot: 2, Fence: fence, Count: tasks} })
		if r.Reject != nil || len(r.Ranges) > MaxTakeRuns {
			t.Fatalf("%v, %d ranges, want at most %d", r.Reject, len(r.Ranges), MaxTakeRuns)
		}
		held += len(r.Ranges)
	}
	if held != MaxSlotRuns {
		t.Errorf("the slot holds %d ranges, want %d", held, MaxSlotRuns)
	}
	w.checkInvariants(t)
}

func TestTalliesBeyondTheLimitShareOne(t *testing.T) {
	var l load
	for i := range maxTallies + 10 {
		l.Tallies[l.tally(peer(fmt.Sprint(i)))].award(1)
	}
	if len(l.Tallies) != maxTallies || l.Tallies[maxTallies-1].Slots != 11 || !l.Tallies[maxTallies-1].Node.IsZero() {
		t.Errorf("%d tallies, the last %+v", len(l.Tallies), l.Tallies[len(l.Tallies)-1])
	}
}

func TestChargesNeverOverflow(t *testing.T) {
	rules := testRules()
	rules.Charge = func(rate, ms int64) int64 { return math.MaxInt64 }
	w := &world{State: New(rules)}
	w.found(t, "n1")
	w.account(peer("alice")).Spent, w.account(peer("n1")).Earned = math.MaxInt64-maxCharge-5, math.MaxInt64-maxCharge-5
	w.accept("w", "alice", func(s *workload.Spec) { s.Tasks.Count = 3 })
	w.apply(func(c *Command) { c.Award = awardTo(loadID("w"), 1, 3, 5, "n1") })
	var got []int64
	for i := range uint32(3) {
		r := w.apply(func(c *Command) {
			c.Close = &Close{
				Workload: loadID("w"), Slot: 1, Fence: workload.Fence{Generation: 1, Epoch: 1}, Segment: segmentRef(uint64(i)),
				Done: []workload.Range{{From: i, Count: 1, Attempt: 1}}, Usage: workload.Usage{WallMs: maxWall},
			}
		})
		got = append(got, r.Charged)
	}
	if want := fmt.Sprint([]int64{maxCharge, 5, 0}); fmt.Sprint(got) != want {
		t.Errorf("charged %v, want %s", got, want)
	}
	w.checkInvariants(t)
}

func TestLedgerTakesOnOnlySoMuch(t *testing.T) {
	w := newWorld()
	w.found(t)
	w.live = MaxLive
	if r := w.accept("w", "alice", nil); r.Reject == nil || r.Reject.Code != Full {
		t.Errorf("beyond MaxLive: %v", r.Reject)
	}
	w.live, w.bytes = 0, MaxBytes
	if r := w.accept("w", "alice", nil); r.Reject == nil || r.Reject.Code != Full {
		t.Errorf("beyond MaxBytes: %v", r.Reject)
	}
}

func TestListFilters(t *testing.T) {
	w := newWorld()
	w.found(t, "n1")
	w.accept("a", "alice", func(s *workload.Spec) { s.Labels = map[string]string{"team": "red", "x": "1"} })
	w.accept("b", "bob", func(s *workload.Spec) { s.Labels = map[string]string{"team": "red"} })
	w.accept("c", "alice", nil)
	w.apply(func(c *Command) { c.Stop = &Stop{ID: loadID("c")} })
	for want, f := range map[string]Filter{
		"abc": {}, "bc": {After: 1}, "ac": {Owner: peer("alice")}, "ab": {Labels: map[string]string{"team": "red"}},
		"a": {Labels: map[string]string{"team": "red", "x": "1"}}, "c": {Phases: []workload.Phase{workload.Stopped}},
		"b": {Live: true, Owner: peer("bob")}, "": {Labels: map[string]string{"y": ""}},
	} {
		got := ""
		for v := range w.List(f) {
			got += loadName(v.ID)
		}
		if got != want {
			t.Errorf("%+v lists %q, want %q", f, got, want)
		}
	}
	if id, ok := w.Lookup(peer("bob"), [16]byte{'b'}); !ok || id != loadID("b") {
		t.Errorf("Lookup gave %v %v", id, ok)
	}
}

// million returns a ledger with one workload of a million tasks on one slot.
func million(b testing.TB) *world {
	w := newWorld()
	w.found(b, "n1")
	w.accept("w", "alice", func(s *workload.Spec) { s.Tasks.Count = workload.MaxTasks })
	w.apply(func(c *Command) { c.Award = awardTo(loadID("w"), 1, 64, 5, "n1") })
	return w
}

func TestMillionTasksStaySmall(t *testing.T) {
	w := million(t)
	fence := workload.Fence{Generation: 1, Epoch: 1}
	for i := uint32(0); i+64 <= workload.MaxTasks; i += 64 {
		r := w.apply(func(c *Command) {
			c.Close = &Close{Workload: loadID("w"), Slot: 1, Fence: fence, Segment: segmentRef(uint64(i)), Done: []workload.Range{{From: i, Count: 64, Attempt: 1}}}
		})
		if r.Reject != nil {
			t.Fatal(r.Reject)
		}
		w.apply(func(c *Command) { c.Take = &Take{Workload: loadID("w"), Slot: 1, Fence: fence, Count: 64} })
	}
	v, _ := w.Workload(loadID("w"))
	rec := w.Snapshot().Records[0]
	if v.Phase != workload.Succeeded || len(rec.Done) != 1 || len(rec.Fresh)+len(rec.Retry)+len(rec.Failed) != 0 {
		t.Errorf("%s with %d runs done", v.Phase, len(rec.Done))
	}
}

// BenchmarkTakeClose is one Take and one Close of 64 tasks; the workload is
// replaced when its million tasks are done.
func BenchmarkTakeClose(b *testing.B) {
	w, at := million(b), uint32(0)
	fence := workload.Fence{Generation: 1, Epoch: 1}
	b.ReportAllocs()
	for b.Loop() {
		if at+128 > workload.MaxTasks {
			b.StopTimer()
			w, at = million(b), 0
			b.StartTimer()
		}
		w.apply(func(c *Command) { c.Take = &Take{Workload: loadID("w"), Slot: 1, Fence: fence, Count: 64} })
		r := w.apply(func(c *Command) {
			c.Close = &Close{Workload: loadID("w"), Slot: 1, Fence: fence, Segment: segmentRef(uint64(at)), Done: []workload.Range{{From: at, Count: 64, Attempt: 1}}}
		})
		if r.Reject != nil {
			b.Fatal(r.Reject)
		}
		at += 64
	}
}

// BenchmarkAccept is one Accept, with 100,000 live workloads that all want
// slots, and the Stop and Compact that make room for it.
func BenchmarkAccept(b *testing.B) {
	spec := workload.DefaultSpec()
	spec.Mesh = testMesh
	rules := testRules()
	n, created := uint64(0), int64(0)
	rules.OpenSpec = func(workload.Signed) (workload.Spec, error) {
		s := spec
		s.Created = created
		copy(s.Nonce[:], fmt.Sprint(n))
		return s, nil
	}
	w := &world{State: New(rules)}
	w.found(b)
	accept := func() workload.ID {
		n++
		created = w.at
		id := loadID(fmt.Sprint(n))
		if r := w.apply(func(c *Command) { c.Accept = &Accept{ID: id, Spec: workload.Signed{By: peer("alice")}} }); r.Reject != nil {
			b.Fatal(r.Reject)
		}
		return id
	}
	for range MaxLive - 1 {
		accept()
	}
	b.ReportAllocs()
	for b.Loop() {
		id := accept()
		w.apply(func(c *Command) { c.Stop = &Stop{ID: id} })
		w.apply(func(c *Command) { c.Compact = &Compact{Bytes: MaxBytes, For: 1 << 40} })
	}
}

// TestGrownLedgerGivesNoTasksOut holds that what was taken on may grow to a
// bound, beyond which no task is given out, and what runs still closes.
func TestGrownLedgerGivesNoTasksOut(t *testing.T) {
	w := newWorld()
	w.found(t, "n1")
	fence := workload.Fence{Generation: 1, Epoch: 1}
	w.accept("w", "alice", func(s *workload.Spec) { s.Tasks.Count = 20 })
	w.apply(func(c *Command) { c.Award = awardTo(loadID("w"), 1, 4, 5, "n1") })
	w.bytes += MaxGrown
	for name, set := range map[string]func(*Command){
		"take":   func(c *Command) { c.Take = &Take{Workload: loadID("w"), Slot: 1, Fence: fence, Count: 3} },
		"award":  func(c *Command) { c.Award = awardTo(loadID("w"), 2, 1, 5, "n1") },
		"accept": func(c *Command) { c.Accept = &Accept{ID: loadID("v"), Spec: signedSpec("alice", "v", nil)} },
	} {
		if r := w.apply(set); r.Reject == nil || r.Reject.Code != Full {
			t.Errorf("%s in a ledger that has grown: %v, want %s", name, r.Reject, Full)
		}
	}
	if w.Grown() == "" {
		t.Error("it does not say that it has grown")
	}
	closing := func(c *Command) {
		c.Close = &Close{Workload: loadID("w"), Slot: 1, Fence: fence, Segment: segmentRef(1), Done: []workload.Range{{Count: 4, Attempt: 1}}}
	}
	if r := w.apply(closing); r.Reject != nil {
		t.Errorf("a close in a ledger that has grown: %v", r.Reject)
	}
	w.bytes -= MaxGrown
	if r := w.apply(func(c *Command) { c.Take = &Take{Workload: loadID("w"), Slot: 1, Fence: fence, Count: 3} }); r.Reject != nil || w.Grown() != "" {
		t.Errorf("afterwards: %v", r.Reject)
	}
	w.checkInvariants(t)
}

// TestTooManySegmentsCannotBePassedOn holds that a workload whose inputs could
// not be told to a worker is refused or fails with the reason, and does not hang.
func TestTooManySegmentsCannotBePassedOn(t *testing.T) {
	w := newWorld()
	w.found(t, "n1")
	w.accept("w", "alice", nil)
	after := func(s *workload.Spec) { s.After = []workload.After{{Workload: loadID("w"), Name: "w"}} }
	w.accept("x", "alice", after)
	w.apply(func(c *Command) { c.Award = awardTo(loadID("w"), 1, 1, 5, "n1") })
	for range MaxPassed {
		w.loads[loadID("w")].addSegment(Segment{})
	}
	w.apply(func(c *Command) {
		c.Close = &Close{
			Workload: loadID("w"), Slot: 1, Fence: workload.Fence{Generation: 1, Epoch: 1}, Segment: segmentRef(1),
			Done: []workload.Range{{Count: 1, Attempt: 1}},
		}
	})
	const why = "results lie in 65537 segments, and at most 65536 can be passed on"
	if x, _ := w.Workload(loadID("x")); x.Phase != workload.Failed || !strings.Contains(x.Reason, why) {
		t.Errorf("what waited is %s: %s", x.Phase, x.Reason)
	}
	if r := w.accept("y", "alice", after); r.Reject == nil || r.Reject.Code != TooMuchPassed || !strings.Contains(r.Reject.Detail, why) {
		t.Errorf("what comes after it now: %v", r.Reject)
	}
	w.checkInvariants(t)
}

// TestAMillionLongTasksWeighLessThanTheBound holds that any one workload can end.
func TestAMillionLongTasksWeighLessThanTheBound(t *testing.T) {
	segment := Segment{Done: make([]workload.Range, 1), Sig: workload.Signed{Payload: make([]byte, 160)}}
	if all := workload.MaxTasks * segment.weight(); all > MaxGrown {
		t.Errorf("%d MiB for the segments of %d tasks, the bound is %d", all>>20, workload.MaxTasks, MaxGrown>>20)
	}
}
