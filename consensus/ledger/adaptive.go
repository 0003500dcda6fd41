package ledger

import (
	"slices"

	"github.com/perrin-mesh/perrin/workload"
)

// Under VerifyBy.Adaptive a task begins with one replica. A node without a record
// opens the others when it gets that one. What a node with a record returns is
// committed first; then a draw, which the owner's node signs, says whether it stands
// alone or others run the task too. No draw, for whatever reason, is a check.

// Draw is what came of asking an owner's node about a result that may stand alone.
type Draw struct {
	Workload workload.ID     `cbor:"1,keyasint"`
	Task     uint32          `cbor:"2,keyasint"`
	Result   workload.Digest `cbor:"3,keyasint"`
	Sig      []byte          `cbor:"4,keyasint,omitempty" max:"64"`  // of workload.Draw, DomainDraw, by the workload's owner; empty when it did not sign
	Note     string          `cbor:"5,keyasint,omitempty" max:"128"` // why not
}

// Drawn is what a draw gave.
type Drawn struct {
	Picked bool   `cbor:"1,keyasint,omitempty" json:"picked,omitempty"` // others run the task too
	Sig    []byte `cbor:"2,keyasint,omitempty" json:"sig,omitempty" max:"64"`
	Note   string `cbor:"3,keyasint,omitempty" json:"note,omitempty" max:"128"`
}

// Undrawn is a result that waits for its draw.
type Undrawn struct {
	Workload workload.ID
	Task     uint32
	Result   workload.Digest
	Home     workload.PeerID // the node to ask
}

// streak is how many results of a node agreed in a row, on the work of who pays for l.
func (s *State) streak(node workload.PeerID, l *load, now int64) uint32 {
	for _, x := range s.standings[node] {
		if x.Issuer == l.payer() {
			return uint32(x.fade(now).Streak / standingOne)
		}
	}
	return 0
}

// alone reports whether a node may run a task of l alone. The node that a workload
// was submitted on may not: it is the one that draws.
func (s *State) alone(node workload.PeerID, l *load, now int64) (streak uint32, ok bool) {
	if !l.Spec.VerifyBy.Adaptive || s.rules.OpenDraw == nil || node == l.Home {
		return 0, false
	}
	streak = s.streak(node, l, now)
	return streak, streak >= workload.TrustedAfter
}

// widen opens the other replicas of a task when a node got the first one that may
// not run it alone.
func (s *State) widen(l *load, node workload.PeerID, task uint32) {
	p := l.poll(task)
	if by := l.Spec.VerifyBy; p.lanes < by.Agree {
		if _, ok := s.alone(node, l, s.time); !ok {
			l.openLanes(task, p, by.Agree-p.lanes)
		}
	}
}

// openLanes opens more replicas of a task.
func (l *load) openLanes(task uint32, p *poll, more uint32) {
	for range more {
		l.fresh.add(Run{From: p.lanes*l.total() + task, Count: 1, Attempt: 1})
		p.lanes++
		l.opened++
	}
}

// single reports whether a task has one result and nobody else is to run it as yet.
func (p *poll) single() bool { return p.lanes == 1 && len(p.votes) == 1 }

// undecided reports whether a draw is to decide about the only result of a task.
func (s *State) undecided(e *entry, l *load, task uint32, p *poll) bool {
	if !p.single() {
		return false
	}
	g := &l.Segments[p.votes[0]]
	streak, ok := s.alone(g.Node, l, e.at)
	if !ok || !g.Vote.ok() { // a failure is always checked
		return false
	}
	v := *g.Vote
	v.Streak = streak
	g.Vote = &v
	e.res.Undrawn = &Undrawn{l.ID, task, v.Result, l.Home}
	return true
}

// Undrawn lists the results that wait for their draws, at most some.
func (s *State) Undrawn(most int) (out []Undrawn) {
	for l := range s.all.from(0) {
		if l.Phase.Ended() || !l.verified() || !l.Spec.VerifyBy.Adaptive {
			continue
		}
		for i := range l.Segments {
			if v := l.Segments[i].Vote; v != nil && v.waits() && len(out) < most {
				out = append(out, Undrawn{l.ID, v.Task, v.Result, l.Home})
			}
		}
	}
	return out
}

// Waits returns nil when the result that a draw is about is in the ledger, waits for
// the draw, and home is the node that its workload was submitted on.
func (s *State) Waits(d *workload.Draw, home workload.PeerID) error {
	l := s.loads[d.Workload]
	if l == nil || l.Home != home {
		return rejectf(UnknownWorkload, "%s", d.Workload)
	}
	if p := l.polls[d.Task]; p != nil && p.single() {
		if v := l.Segments[p.votes[0]].Vote; v.waits() && v.Result == d.Result {
			return nil
		}
	}
	return rejectf(NotTaken, "no such result of task %d of %s waits for a draw", d.Task, d.Workload)
}

// waits reports whether a draw is to decide about the result.
func (v *Vote) waits() bool { return v.Verdict == "" && v.Streak > 0 && v.Drawn == nil }

// draw decides about a result that may stand alone.
func (s *State) draw(e *entry, c *Draw) *Reject {
	e.res.ID = c.Workload
	l := s.loads[c.Workload]
	switch {
	case l == nil:
		return rejectf(UnknownWorkload, "%s", c.Workload)
	case l.Phase.Ended():
		return rejectf(Ended, "%s has ended as %s", c.Workload, l.Phase)
	}
	p := l.polls[c.Task]
	if p == nil || !p.single() || !l.Segments[p.votes[0]].Vote.waits() || l.Segments[p.votes[0]].Vote.Result != c.Result {
		return rejectf(NotTaken, "no result of task %d of %s waits for a draw", c.Task, c.Workload)
	}
	g := &l.Segments[p.votes[0]]
	if len(c.Sig) > 0 {
		if err := s.rules.OpenDraw(l.owner(), &workload.Draw{Workload: c.Workload, Task: c.Task, Result: c.Result}, c.Sig); err != nil {
			return rejectf(BadSignature, "a draw: %v", err)
		}
	}
	v, before := *g.Vote, g.weight()
	v.Drawn = &Drawn{Picked: len(c.Sig) == 0 || workload.Picks(c.Sig, v.Streak), Sig: c.Sig, Note: c.Note}
	g.Vote = &v
	l.parts += g.weight() - before
	if v.Drawn.Picked {
		l.openLanes(c.Task, p, l.Spec.VerifyBy.Agree-p.lanes)
		l.note(Step{
			At: e.at, Index: e.index, Kind: StepPicked, Slot: g.Slot, Node: g.Node, Count: 1, Note: c.Note,
			Ranges: []workload.Range{{From: c.Task, Count: 1, Attempt: v.Attempt}},
		})
	} else {
		s.decide(e, l, c.Task, p, c.Result)
	}
	s.settle(e, l)
	if over := s.spend(l, 0); over != "" && !l.Phase.Ended() {
		s.end(e, l, workload.Stopped, over)
	}
	return nil
}

// rememberVotes counts results that agreed with those of other operators' nodes, of
// work that its payer submitted itself: tasks that the holder of a token chose would
// make an accomplice trusted with the payer's own. One that did not ends the streaks of its node with everybody: to be checked once more
// costs a run, to be trusted wrongly costs a result.
func (s *State) rememberVotes(e *entry, l *load, p *poll) {
	ops := s.operators(l)
	var same []workload.PeerID
	for _, i := range p.votes {
		switch g := &l.Segments[i]; g.Vote.Verdict {
		case Agrees:
			same = append(same, g.Node)
		case Differs:
			s.endStreaks(g.Node)
		}
	}
	if l.owner() != l.payer() {
		return
	}
	apart := func(a, b workload.PeerID) bool { return a != b && !(ops.many && ops.of(a) == ops.of(b)) }
	for _, node := range same {
		if slices.ContainsFunc(same, func(other workload.PeerID) bool { return apart(node, other) }) {
			s.addStanding(Standing{Node: node, Issuer: l.payer(), Streak: standingOne, At: e.at})
		}
	}
}

// endStreak ends what counts with one issuer: a result that was picked and that nobody
// confirmed may have been a lie, though nobody can say so.
func (s *State) endStreak(node, issuer workload.PeerID) {
	list := slices.Clone(s.standings[node])
	for i := range list {
		if list[i].Issuer == issuer {
			list[i].Streak = 0
			s.standings[node] = list
		}
	}
}

func (s *State) endStreaks(node workload.PeerID) {
	list := slices.Clone(s.standings[node])
	for i := range list {
		list[i].Streak = 0
	}
	if list != nil {
		s.standings[node] = list
	}
}
