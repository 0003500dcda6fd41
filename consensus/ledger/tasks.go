package ledger

import (
	"math"
	"slices"

	"github.com/perrin-mesh/perrin/workload"
)

// take gives a slot its next tasks.
func (s *State) take(e *entry, c *Take) *Reject {
	l, sl, rej := s.fenced(e, c.Workload, c.Slot, c.Fence)
	switch {
	case rej != nil:
		return rej
	case l.Phase.Ended():
		return rejectf(Ended, "%s has ended as %s", c.Workload, l.Phase)
	case c.Seq > 0 && c.Seq == sl.Takes:
		e.res.Ranges, e.res.Duplicate = slices.Clone(sl.Took), true
		return nil
	case c.Seq > 0 && c.Seq < sl.Takes:
		return rejectf(TakenBefore, "take %d of slot %d of %s: it is at %d", c.Seq, c.Slot, c.Workload, sl.Takes)
	case c.Count < 1:
		return rejectf(Malformed, "a range of no task")
	case s.bytes > MaxGrown:
		return s.grown()
	case sl.Spent:
		return rejectf(SlotSpent, "slot %d of %s: its node failed a task", c.Slot, c.Workload)
	}
	runs := s.nextRuns(l, sl, c.Count, min(MaxTakeRuns, MaxSlotRuns-min(MaxSlotRuns, len(sl.open.runs))))
	if sl.open.n == 0 {
		sl.Since = e.at - sl.HeldMs
	}
	sl.hold(runs)
	l.mark(sl)
	e.res.Ranges = l.shown(runs)
	if c.Seq > 0 {
		sl.Takes, sl.Took = c.Seq, slices.Clone(e.res.Ranges)
	}
	s.relist(l)
	return nil
}

// nextRuns takes what a slot runs next out of what is open.
func (s *State) nextRuns(l *load, sl *slot, count uint32, most int) []Run {
	if l.verified() {
		return s.more(l, sl, min(count, uint32(most)))
	}
	return l.popOpen(count, most)
}

// grown refuses what would make the ledger weigh more.
func (s *State) grown() *Reject {
	return rejectf(Full, "the cell's ledger weighs %d MiB: no task is given out until it weighs less than %d", s.bytes>>20, MaxGrown>>20)
}

// giveBack reopens tasks that were taken and not started, or lost.
func (s *State) giveBack(e *entry, c *Return) *Reject {
	l, sl, rej := s.fenced(e, c.Workload, c.Slot, c.Fence)
	if rej != nil {
		return rej
	}
	rest := sl.open.clone()
	var back []Run
	for _, r := range c.Ranges {
		runs, ok := l.cut(&rest, r)
		if !ok {
			return notTaken(c.Workload, c.Slot, r)
		}
		back = append(back, runs...)
	}
	count := sl.open.n - rest.n
	if count == 0 {
		return rejectf(Malformed, "no task is returned")
	}
	sl.open = rest
	if rest.n == 0 {
		sl.HeldMs = e.at - sl.Since
	}
	l.gone(sl.Node, back)
	kind := StepReturned
	if c.Lost {
		kind = StepLost
		if c.Preempted {
			kind = StepMadeWay
		} else {
			l.lost(sl, count)
		}
		for i := range back {
			back[i].Attempt++
		}
	}
	l.reopen(back)
	l.note(Step{
		At: e.at, Index: e.index, Kind: kind, Slot: sl.ID, Node: sl.Node, Count: count, Ranges: clipRanges(c.Ranges),
	})
	s.afterTasks(e, l, sl)
	return nil
}

// lost counts attempts that went down with their slot.
func (l *load) lost(sl *slot, tasks uint32) {
	l.Tallies[sl.Tally].Lost += tasks
	l.LostTasks += uint64(tasks)
}

func notTaken(id workload.ID, slotID workload.SlotID, r workload.Range) *Reject {
	return rejectf(NotTaken, "slot %d of %s does not hold %d tasks from %d in attempt %d", slotID, id, r.Count, r.From, r.Attempt)
}

// afterTasks follows on tasks leaving a slot. A slot of an ended workload, or
// one whose node failed, ends with its last task.
func (s *State) afterTasks(e *entry, l *load, sl *slot) {
	l.mark(sl)
	if sl.open.n == 0 && (l.Phase.Ended() || sl.Spent) {
		s.free(e, l, sl)
	}
	s.settle(e, l)
}

// closing is a Close that has been checked and not yet applied.
type closing struct {
	rest           runSet // what the slot still holds
	done, again    []Run
	failed         []FailedTask
	failures       []Run // of failed
	retried        []workload.Range
	faults, misses uint32 // attempts that the node, and that the program, failed
}

// close ends tasks of a slot and charges for them.
func (s *State) close(e *entry, c *Close) *Reject {
	if l := s.loads[c.Workload]; l != nil && l.closedBefore(c) {
		e.res.ID, e.res.Duplicate = c.Workload, true
		return nil
	}
	l, sl, rej := s.fenced(e, c.Workload, c.Slot, c.Fence)
	if rej != nil {
		return rej
	}
	if rej := c.sound(); rej != nil {
		return rej
	}
	if l.verified() {
		return s.closeReplica(e, l, sl, c)
	}
	x, rej := s.checkClose(l, sl, c)
	if rej != nil {
		return rej
	}
	tasks := sl.open.n - x.rest.n
	sl.open, sl.Since, sl.HeldMs = x.rest, e.at, 0
	sl.Closed += tasks
	sl.Spent = sl.Spent || x.faults > 0
	for _, r := range x.done {
		l.done.add(Run{From: r.From, Count: r.Count})
	}
	for _, r := range x.failures {
		l.failed.add(Run{From: r.From, Count: r.Count})
	}
	l.reopen(x.again)
	l.Retries += uint64(len(x.again))
	paid, cost := s.charge(e.at, l, sl, workload.PaidMs(&l.Spec.Resources, c.Usage), tasks-x.faults)
	e.res.Charged = cost
	e.res.Retried = wireRanges(x.again)
	l.countClose(sl, x, c.Usage.WallMs, e.res.Charged)
	l.keepSegment(e, sl, c, x, paid)
	l.noteClose(e, sl, c, x)
	over := s.spend(l, e.res.Charged)
	s.afterTasks(e, l, sl)
	if over != "" && !l.Phase.Ended() {
		s.end(e, l, workload.Stopped, over)
	}
	return nil
}

// closedBefore reports whether c was applied before: a worker that did not
// hear the answer says it again.
func (l *load) closedBefore(c *Close) bool {
	for i := len(l.Segments) - 1; i >= max(0, len(l.Segments)-64); i-- {
		if l.Segments[i].Slot == c.Slot && l.Segments[i].Ref == c.Segment && !c.Segment.IsZero() {
			return true
		}
	}
	return false
}

// sound checks what a Close says by itself.
func (c *Close) sound() *Reject {
	switch {
	case len(c.Done)+len(c.Failed) == 0:
		return rejectf(Malformed, "no task is closed")
	case c.Segment.IsZero() || c.Segment.Size < 0:
		return rejectf(Malformed, "no segment")
	case len(c.Inline) > 0 && (int64(len(c.Inline)) != c.Segment.Size || workload.DigestOf(c.Inline) != c.Segment.Digest):
		return rejectf(Malformed, "the results inside are not the segment")
	case c.Usage.WallMs < 0 || c.Usage.WallMs > maxWall || c.Usage.CPUMs < 0 || c.Usage.PeakMem < 0:
		return rejectf(Malformed, "usage %+v", c.Usage)
	}
	return nil
}

// openResult checks that the node of a slot signed what a Close says.
func (s *State) openResult(c *Close, sl *slot) *Reject {
	if s.rules.OpenResult == nil {
		return nil
	}
	if err := s.rules.OpenResult(c, sl.Node); err != nil {
		return rejectf(BadSignature, "%v", err)
	}
	return nil
}

func (s *State) checkClose(l *load, sl *slot, c *Close) (*closing, *Reject) {
	x := &closing{rest: sl.open.clone()}
	for _, r := range c.Done {
		runs, ok := x.rest.cut(r)
		if !ok {
			return nil, notTaken(c.Workload, c.Slot, r)
		}
		x.done = append(x.done, runs...)
	}
	for _, f := range c.Failed {
		r := workload.Range{From: f.Index, Count: 1, Attempt: f.Attempt}
		runs, ok := x.rest.cut(r)
		if !ok {
			return nil, notTaken(c.Workload, c.Slot, r)
		}
		x.fail(l, f, runs[0])
	}
	return x, s.openResult(c, sl)
}

// fail decides whether a failed task is tried again: after the node's fault up
// to MaxFaults times, after the program's own as often as the spec's retries.
func (x *closing) fail(l *load, f FailedTask, r Run) {
	again := false
	switch f.Exit {
	case workload.NodeFault, workload.StoppedExit:
		r.Faults++
		again = r.Faults <= MaxFaults
	default:
		r.Fails++
		again = r.Fails <= l.Spec.Retries
	}
	if f.Exit == workload.NodeFault {
		x.faults++
	} else {
		x.misses++
	}
	if !again || l.Phase.Ended() {
		x.failed = append(x.failed, f)
		x.failures = append(x.failures, r)
		return
	}
	x.retried = appendTask(x.retried, f.Index, f.Attempt)
	r.Attempt++
	x.again = append(x.again, r)
}

// appendTask adds one task to ranges, to the last one where it continues that.
func appendTask(ranges []workload.Range, index, attempt uint32) []workload.Range {
	if n := len(ranges); n > 0 && ranges[n-1].End() == index && ranges[n-1].Attempt == attempt {
		ranges[n-1].Count++
		return ranges
	}
	return append(ranges, workload.Range{From: index, Count: 1, Attempt: attempt})
}

// countClose adds a Close to the tally of its node.
func (l *load) countClose(sl *slot, x *closing, wallMs, cost int64) {
	t := &l.Tallies[sl.Tally]
	for _, r := range x.done {
		t.Done += r.Count
	}
	t.Failed += x.faults + x.misses
	t.Faults += x.faults
	t.WallMs = saturate(t.WallMs, wallMs)
	t.Cost = saturate(t.Cost, cost)
	l.Cost = saturate(l.Cost, cost)
}

func saturate(a, b int64) int64 { return a + min(b, math.MaxInt64-a) }

// keepSegment records where the results lie. A segment of nothing but attempts
// that are tried again is kept only while there are few such.
func (l *load) keepSegment(e *entry, sl *slot, c *Close, x *closing, paidMs int64) {
	kept := x.retried
	if int(l.KeptRetry)+len(kept) > keptRetried {
		kept = nil
	}
	if len(x.done)+len(x.failed)+len(kept) == 0 {
		return
	}
	l.KeptRetry += uint32(len(kept))
	sig := c.Sig
	if len(sig.Payload) > keptSig {
		sig.Payload = nil
	}
	l.addSegment(Segment{
		Ref: c.Segment, Slot: sl.ID, Node: sl.Node, At: e.at, Rate: sl.Rate, Paid: paidMs, Cost: e.res.Charged, Usage: c.Usage,
		Done: c.Done, Failed: x.failed, Retried: kept, Held: c.Held, Sig: sig,
	})
}

func (l *load) addSegment(g Segment) {
	l.Segments = append(l.Segments, g)
	l.parts += g.weight()
}

// release ends a slot. One that holds tasks can be released only once its
// workload has ended: the tasks then count as not run.
func (s *State) release(e *entry, c *Release) *Reject {
	l, sl, rej := s.fenced(e, c.Workload, c.Slot, c.Fence)
	switch {
	case rej != nil:
		return rej
	case sl.open.n > 0 && !l.Phase.Ended():
		return rejectf(HoldsTasks, "slot %d of %s holds %d tasks", c.Slot, c.Workload, sl.open.n)
	}
	l.gone(sl.Node, sl.open.runs)
	l.reopen(sl.open.runs)
	s.free(e, l, sl)
	s.settle(e, l)
	return nil
}
