package ledger

import (
	"fmt"
	"maps"
	"slices"

	"github.com/perrin-mesh/perrin/workload"
)

// Verdict is what became of a result that was compared with others.
type Verdict string

// The verdicts. Unjudged are the results of a task on which too few nodes agreed
// before it had all its runs, or before its workload ended.
const (
	Agrees   Verdict = "agrees"
	Differs  Verdict = "differs"
	Unjudged Verdict = "unjudged"
	Alone    Verdict = "alone" // accepted, and nobody else ran the task
)

// Vote is the result of one replica of a task. A segment of a workload that is
// verified holds one result. Of those that agree, the first one's segment closes
// the task.
type Vote struct {
	Task    uint32          `cbor:"1,keyasint" json:"task"`
	Attempt uint32          `cbor:"2,keyasint" json:"attempt"`
	Exit    workload.Exit   `cbor:"3,keyasint" json:"exit" max:"16"`
	Code    int32           `cbor:"4,keyasint" json:"code"`
	Result  workload.Digest `cbor:"5,keyasint" json:"result"` // receipt.VoteOf it
	Due     int64           `cbor:"6,keyasint" json:"due"`    // micro-credits, paid unless it differs from what was accepted
	Verdict Verdict         `cbor:"7,keyasint,omitempty" json:"verdict,omitempty" max:"16"`

	// Of one that its node may have returned alone: how many of its results had agreed
	// in a row when it came, and what was drawn.
	Streak uint32 `cbor:"8,keyasint,omitempty" json:"streak,omitempty"`
	Drawn  *Drawn `cbor:"9,keyasint,omitempty" json:"drawn,omitempty"`
}

// replica returns the one attempt that a Close of a verified workload is about.
func (c *Close) replica() (FailedTask, *Reject) {
	switch {
	case len(c.Done) == 1 && len(c.Failed) == 0 && c.Done[0].Count == 1:
		return FailedTask{Index: c.Done[0].From, Attempt: c.Done[0].Attempt, Exit: workload.Exited}, nil
	case len(c.Done) == 0 && len(c.Failed) == 1:
		return c.Failed[0], nil
	}
	return FailedTask{}, rejectf(Malformed, "results of a workload that is verified come one by one")
}

// closeReplica ends one replica of a task: its result is one vote.
func (s *State) closeReplica(e *entry, l *load, sl *slot, c *Close) *Reject {
	t, rej := c.replica()
	if rej != nil {
		return rej
	}
	rest := sl.open.clone()
	runs, ok := l.cut(&rest, workload.Range{From: t.Index, Count: 1, Attempt: t.Attempt})
	switch {
	case !ok:
		return notTaken(c.Workload, c.Slot, workload.Range{From: t.Index, Count: 1, Attempt: t.Attempt})
	case c.Vote.IsZero():
		return rejectf(Malformed, "a result of a workload that is verified, and nobody says what it is")
	}
	if rej := s.openResult(c, sl); rej != nil {
		return rej
	}
	// While the workload lives nothing but its node stops a task, and would say what
	// nobody compares.
	r, fault := runs[0], t.Exit == workload.NodeFault || t.Exit == workload.StoppedExit && !l.Phase.Ended()
	sl.open, sl.Since, sl.HeldMs = rest, e.at, 0
	sl.Closed++
	sl.Spent = sl.Spent || fault
	l.gone(sl.Node, runs)
	paid := uint32(1)
	if fault {
		paid = 0
	}
	paidMs, due := s.price(e.at, l, sl, workload.PaidMs(&l.Spec.Resources, c.Usage), paid)
	tally := &l.Tallies[sl.Tally]
	tally.WallMs = saturate(tally.WallMs, c.Usage.WallMs)
	var over string
	if l.again(&r, t.Exit) {
		over = s.retryReplica(e, l, sl, c, t, r, paidMs, due)
	} else {
		over = s.vote(e, l, sl, c, t, paidMs, due)
	}
	s.afterTasks(e, l, sl)
	if over != "" && !l.Phase.Ended() {
		s.end(e, l, workload.Stopped, over)
	}
	return nil
}

// again counts an attempt that ended for no reason of the program's, and reports
// whether the replica is tried once more.
func (l *load) again(r *Run, exit workload.Exit) bool {
	if exit != workload.NodeFault && exit != workload.StoppedExit || l.Phase.Ended() {
		return false
	}
	r.Faults++
	r.Attempt++
	return r.Faults <= MaxFaults
}

// retryReplica opens a replica again after the fault of its node.
func (s *State) retryReplica(e *entry, l *load, sl *slot, c *Close, t FailedTask, r Run, paidMs, due int64) (over string) {
	l.reopen([]Run{r})
	l.Retries++
	x := &closing{again: []Run{r}, retried: []workload.Range{{From: t.Index, Count: 1, Attempt: t.Attempt}}, faults: 1}
	e.res.Retried = l.shown(x.again)
	e.res.Charged = s.pay(l, sl.Node, due)
	l.countClose(sl, x, 0, e.res.Charged)
	l.keepSegment(e, sl, c, x, paidMs)
	l.note(Step{
		At: e.at, Index: e.index, Slot: sl.ID, Node: sl.Node, Kind: StepRetried, Count: 1, Ranges: clipRanges(x.retried), Exit: t.Exit, Code: t.Code,
	})
	return s.spend(l, e.res.Charged)
}

// owe counts what a result may cost as spent under the workload's token, and keeps
// it apart for who pays, until the result is judged: no credits are promised twice.
func (s *State) owe(l *load, due int64) {
	s.dues[l.payer()] += due
	s.spend(l, due)
}

// owed is what results of a workload may cost which are not judged yet, by who pays.
func (l *load) owed() map[workload.PeerID]int64 {
	out := map[workload.PeerID]int64{}
	for _, p := range l.polls {
		for _, i := range p.votes {
			out[l.payer()] += l.Segments[i].Vote.Due
		}
	}
	return out
}

// spentUp reports whether an account has spent its limit, or owes what is left.
func (s *State) spentUp(a *Account) bool {
	return a.Limit >= 0 && a.Spent >= a.Limit-min(a.Limit, s.dues[a.Peer])
}

// vote records the result of a replica, and judges its task.
func (s *State) vote(e *entry, l *load, sl *slot, c *Close, t FailedTask, paidMs, due int64) (over string) {
	sig := c.Sig
	if len(sig.Payload) > keptSig {
		sig.Payload = nil
	}
	l.addSegment(Segment{
		Ref: c.Segment, Slot: sl.ID, Node: sl.Node, At: e.at, Rate: sl.Rate, Paid: paidMs, Usage: c.Usage, Held: c.Held, Sig: sig,
		Vote: &Vote{Task: t.Index, Attempt: t.Attempt, Exit: t.Exit, Code: t.Code, Result: c.Vote, Due: due},
	})
	p := l.poll(t.Index)
	p.votes = append(p.votes, len(l.Segments)-1)
	s.owe(l, due)
	s.judge(e, l, t.Index, p)
	return s.spend(l, 0)
}

// judge decides a task when enough agree or no more may run, and else opens as
// many replicas as can still make enough agree.
func (s *State) judge(e *entry, l *load, task uint32, p *poll) {
	if l.Phase.Ended() {
		s.decide(e, l, task, p, workload.Digest{})
		return
	}
	best, count := l.best(p)
	agree, live := int(l.Spec.VerifyBy.Agree), int(p.lanes)-len(p.votes)
	if count >= agree {
		s.decide(e, l, task, p, best)
		return
	}
	if s.undecided(e, l, task, p) {
		return
	}
	if more := agree - count - live; more > 0 && p.lanes+uint32(more) <= l.Spec.Runs() {
		l.openLanes(task, p, uint32(more))
		live += more
	}
	if live == 0 {
		s.decide(e, l, task, p, workload.Digest{})
	}
}

// best returns the result that most nodes returned, the first of several, and how
// many did.
func (l *load) best(p *poll) (best workload.Digest, count int) {
	votes := map[workload.Digest]int{}
	for _, i := range p.votes {
		votes[l.Segments[i].Vote.Result]++
	}
	for _, i := range p.votes {
		if d := l.Segments[i].Vote.Result; votes[d] > count {
			best, count = d, votes[d]
		}
	}
	return best, count
}

// decide ends a poll. With an accepted result the task is closed as it says, by the
// first segment that has it, and who returned another is not paid. With the zero
// digest nothing was accepted: then nobody can say who is wrong, all are paid, and
// the task fails, unless its workload has ended anyway.
func (s *State) decide(e *entry, l *load, task uint32, p *poll, accepted workload.Digest) {
	delete(l.polls, task)
	first := true
	for n, i := range p.votes {
		g := &l.Segments[i]
		v := *g.Vote
		tally := &l.Tallies[l.tally(g.Node)]
		before := g.weight()
		switch {
		case accepted.IsZero():
			v.Verdict = Unjudged
			if v.Drawn != nil && !l.Phase.Ended() {
				s.endStreak(g.Node, l.payer())
			}
			if n == len(p.votes)-1 && !l.Phase.Ended() {
				g.Failed = []FailedTask{{Index: task, Attempt: v.Attempt, Exit: workload.NoAgreement}}
			}
		case v.Result != accepted:
			v.Verdict = Differs
			tally.Differs++
			l.note(Step{
				At: e.at, Index: e.index, Kind: StepDiffers, Slot: g.Slot, Node: g.Node, Count: 1, Exit: v.Exit, Code: v.Code,
				Ranges: []workload.Range{{From: task, Count: 1, Attempt: v.Attempt}},
			})
		default:
			v.Verdict = Agrees
			if len(p.votes) == 1 {
				v.Verdict = Alone
			}
			if first {
				g.closeTask(&v)
			}
			first = false
		}
		s.dues[l.payer()] -= v.Due
		if v.Verdict == Differs {
			s.spend(l, -v.Due)
		} else {
			g.Cost = s.pay(l, g.Node, v.Due)
			e.res.Charged += g.Cost
			tally.Cost = saturate(tally.Cost, g.Cost)
			l.Cost = saturate(l.Cost, g.Cost)
		}
		switch {
		case !v.accepted():
		case v.ok():
			tally.Done++
		default:
			tally.Failed++
		}
		g.Vote = &v
		l.parts += g.weight() - before
	}
	if !accepted.IsZero() {
		s.rememberVotes(e, l, p)
	}
	if !l.Phase.Ended() {
		l.closeDecided(e, task, p, accepted)
	}
}

// closeTask puts the task of a vote among those that the segment closed.
func (g *Segment) closeTask(v *Vote) {
	if v.ok() {
		g.Done = []workload.Range{{From: v.Task, Count: 1, Attempt: v.Attempt}}
		return
	}
	g.Failed = []FailedTask{{Index: v.Task, Attempt: v.Attempt, Exit: v.Exit, Code: v.Code}}
}

// accepted reports whether it is the result that closed its task, or the same.
func (v *Vote) accepted() bool { return v.Verdict == Agrees || v.Verdict == Alone }

// ok reports whether the result is that of a program that exited with 0.
func (v *Vote) ok() bool { return v.Exit == workload.Exited && v.Code == 0 }

// closeDecided puts a task that was decided among those that ended.
func (l *load) closeDecided(e *entry, task uint32, p *poll, accepted workload.Digest) {
	run := Run{From: task, Count: 1}
	step := Step{At: e.at, Index: e.index, Kind: StepFailed, Count: 1, Ranges: []workload.Range{{From: task, Count: 1}}, Exit: workload.NoAgreement}
	for _, i := range p.votes {
		if g := &l.Segments[i]; !accepted.IsZero() && g.Vote.accepted() {
			if g.Vote.ok() {
				l.done.add(run)
				return
			}
			step.Slot, step.Node, step.Exit, step.Code = g.Slot, g.Node, g.Vote.Exit, g.Vote.Code
			break
		}
	}
	l.failed.add(run)
	if accepted.IsZero() {
		step.Note = l.split(task, len(p.votes))
	}
	l.note(step)
}

// split says why a task of which nodes returned results failed all the same.
func (l *load) split(task uint32, votes int) string {
	return fmt.Sprintf("task %d ran on %d nodes, and no %d of them returned the same", task, votes, l.Spec.VerifyBy.Agree)
}

// whyFailed says why a workload failed of which every task has ended.
func (l *load) whyFailed() string {
	text := fmt.Sprintf("%d of %d tasks failed", l.failed.n, l.total())
	for i := range l.Segments {
		g := &l.Segments[i]
		if len(g.Failed) == 0 || g.Failed[0].Exit != workload.NoAgreement {
			continue
		}
		votes := 0
		for j := range l.Segments {
			if v := l.Segments[j].Vote; v != nil && v.Task == g.Vote.Task {
				votes++
			}
		}
		return text + ": " + l.split(g.Vote.Task, votes)
	}
	return text
}

// settleVotes pays for what was not decided when its workload ended.
func (s *State) settleVotes(e *entry, l *load) {
	for _, task := range slices.Sorted(maps.Keys(l.polls)) {
		if p := l.polls[task]; len(p.votes) > 0 {
			s.decide(e, l, task, p, workload.Digest{})
		}
	}
}

// restorePolls finds again which votes and replicas belong to which task.
func (l *load) restorePolls() error {
	if !l.verified() {
		return nil
	}
	l.polls = map[uint32]*poll{}
	seen := map[uint32]bool{} // replicas
	note := func(task, lane uint32) (*poll, error) {
		_, done := l.done.at(task)
		_, failed := l.failed.at(task)
		unit := lane*l.total() + task
		if task >= l.total() || lane >= l.Spec.Runs() || seen[unit] || done || failed {
			return nil, fmt.Errorf("replica %d of task %d is there twice, or should not be", lane, task)
		}
		seen[unit] = true
		p := l.poll(task)
		p.lanes = max(p.lanes, lane+1)
		return p, nil
	}
	for i := range l.Segments {
		v := l.Segments[i].Vote
		if v == nil || v.Verdict != "" {
			continue
		}
		p, err := note(v.Task, (v.Attempt-1)%l.Spec.Runs())
		if err != nil {
			return err
		}
		p.votes = append(p.votes, i)
	}
	each := func(runs []Run, do func(*poll)) error {
		for _, r := range runs {
			for unit := r.From; unit < r.end(); unit++ {
				p, err := note(l.taskOf(unit), l.laneOf(unit))
				if err != nil {
					return err
				}
				do(p)
			}
		}
		return nil
	}
	for _, sl := range l.sortedSlots() {
		if err := each(sl.open.runs, func(p *poll) { p.held = append(p.held, sl.Node) }); err != nil {
			return err
		}
	}
	for _, runs := range [][]Run{l.retry.runs, l.fresh.runs} {
		if err := each(runs, func(*poll) {}); err != nil {
			return err
		}
	}
	for task, p := range l.polls { // nobody has anything of it yet
		if len(p.votes) == 0 && len(p.held) == 0 && p.lanes <= l.Spec.VerifyBy.Start() {
			delete(l.polls, task)
		}
	}
	return nil
}
