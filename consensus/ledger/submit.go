package ledger

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/perrin-mesh/perrin/workload"
)

// accept takes a workload on. The same signed spec again is no error: its
// result names the workload that was accepted first.
func (s *State) accept(e *entry, c *Accept) *Reject {
	spec, err := s.rules.OpenSpec(c.Spec)
	if errors.Is(err, workload.ErrSignature) {
		return rejectf(BadSignature, "%v", err)
	}
	if err != nil {
		return rejectf(BadSpec, "%v", err)
	}
	if t := s.tombs[c.ID]; t != nil && t.Owner == c.Spec.By && t.Created == spec.Created {
		e.res.ID, e.res.Duplicate = t.ID, true
		return nil
	}
	key := nonceKey{c.Spec.By, spec.Nonce}
	if first := s.nonces[key]; first != nil {
		if !bytes.Equal(first.Signed.Payload, c.Spec.Payload) {
			return rejectf(NonceReused, "the owner signed %s with the same nonce", first.ID)
		}
		e.res.ID, e.res.Duplicate = first.ID, true
		return nil
	}
	if rej := s.acceptable(e, c, &spec); rej != nil {
		return rej
	}
	token, rej := s.underToken(e, c, &spec)
	if rej != nil {
		return rej
	}
	l, rej := s.newLoad(e, c, &spec)
	if rej != nil {
		return rej
	}
	l.Token = token
	s.account(c.Spec.By)
	s.account(l.payer())
	s.nextSeq++
	s.insert(l)
	e.res.ID = l.ID
	l.note(Step{At: e.at, Index: e.index, Kind: StepAccepted, Node: c.Home, Count: l.total()})
	s.relist(l)
	return nil
}

// acceptable checks all that does not concern the workloads that spec waits for.
func (s *State) acceptable(e *entry, c *Accept, spec *workload.Spec) *Reject {
	account := s.accounts[c.Spec.By]
	switch {
	case c.ID.Cell != s.cell:
		return rejectf(WrongCell, "%s is of cell %s, this is %s", c.ID, c.ID.Cell, s.cell)
	case s.rules.IDOf != nil && s.rules.IDOf(s.cell, c.Spec) != c.ID:
		return rejectf(BadSpec, "the spec is another than the one that %s names", c.ID)
	case spec.Mesh != s.mesh:
		return rejectf(WrongMesh, "signed for mesh %s, this is %s", spec.Mesh, s.mesh)
	case s.loads[c.ID] != nil || s.tombs[c.ID] != nil:
		return rejectf(IDTaken, "%s", c.ID)
	case spec.Tasks.Count < 1 || spec.Tasks.Count > workload.MaxTasks:
		return rejectf(BadSpec, "%d tasks, want 1 to %d", spec.Tasks.Count, workload.MaxTasks)
	case spec.Created > e.at+MaxAhead:
		return rejectf(ClockAhead, "signed %s ahead of the cell's time; set the clock of the machine that signed it right", aheadBy(spec.Created-e.at))
	case account != nil && spec.Created <= account.Forgot:
		return rejectf(TooOld, "signed at %d, workloads of the owner signed up to %d are forgotten", spec.Created, account.Forgot)
	case account != nil && s.spentUp(account):
		return rejectf(OverQuota, "spent %d of %d micro-credits", account.Spent+s.dues[account.Peer], account.Limit)
	case s.live >= MaxLive:
		return rejectf(Full, "%d workloads have not ended, as many as the cell takes", s.live)
	case len(s.loads) >= MaxKept:
		return rejectf(Full, "%d workloads are kept, as many as the cell takes; the oldest ended ones go soon", len(s.loads))
	case s.bytes+weightLoad+int64(len(c.Spec.Payload)) > MaxBytes:
		return rejectf(Full, "the cell's ledger holds %d of at most %d MiB; the oldest ended workloads go soon", s.bytes>>20, MaxBytes>>20)
	case account == nil && len(s.accounts) >= MaxAccounts:
		return rejectf(Full, "%d accounts, as many as the cell takes", len(s.accounts))
	}
	return nil
}

// newLoad makes the workload in its first phase, without changing the state.
func (s *State) newLoad(e *entry, c *Accept, spec *workload.Spec) (*load, *Reject) {
	l := &load{
		Record: Record{
			Seq: s.nextSeq, ID: c.ID, Signed: c.Spec, Spec: spec, Held: c.Held, Home: c.Home,
			Generation: firstFence, Phase: workload.Pending, Accepted: e.at,
		},
		slots: map[workload.SlotID]*slot{},
	}
	count := spec.Tasks.Count
	if l.verified() {
		count *= spec.VerifyBy.Start()
		l.polls = map[uint32]*poll{}
	}
	l.fresh.add(Run{Count: count, Attempt: 1})
	for _, id := range l.after() {
		dep := s.loads[id]
		switch {
		case dep == nil && s.tombs[id] != nil:
			return nil, rejectf(Compacted, "after %s: %s", id, s.tombs[id])
		case dep == nil:
			return nil, rejectf(UnknownWorkload, "after %s", id)
		case dep.Phase == workload.Failed || dep.Phase == workload.Stopped:
			return nil, rejectf(AfterFailed, "%s ended as %s", id, dep.Phase)
		case dep.Phase == workload.Succeeded && len(dep.Segments) > MaxPassed:
			return nil, rejectf(TooMuchPassed, "%s", passed(dep))
		case dep.Phase != workload.Succeeded:
			l.Phase = workload.Waiting
		}
	}
	return l, nil
}

// insert enters l, new or from a snapshot, into everything that is derived.
// What l waits for must be in the ledger already.
func (s *State) insert(l *load) {
	s.loads[l.ID] = l
	s.nonces[nonceKey{l.owner(), l.Spec.Nonce}] = l
	s.all.add(l.Seq, l)
	s.phases[l.Phase]++
	if l.Phase.Ended() {
		s.ended.add(l.EndSeq, l)
		return
	}
	s.live++
	s.claim(l, 1)
	for _, id := range l.after() {
		dep := s.loads[id]
		dep.pins++
		if dep.Phase != workload.Succeeded {
			l.left++
			s.waiters[id] = append(s.waiters[id], l)
		}
	}
}

// stop ends a workload now. Slots that hold tasks may still close or release.
func (s *State) stop(e *entry, c *Stop) *Reject {
	l := s.loads[c.ID]
	e.res.ID = c.ID
	switch {
	case l == nil:
		return rejectf(UnknownWorkload, "%s", c.ID)
	case l.Phase == workload.Stopped:
		e.res.Duplicate = true
		return nil
	case l.Phase.Ended():
		return rejectf(Ended, "%s has ended as %s", c.ID, l.Phase)
	}
	l.note(Step{At: e.at, Index: e.index, Kind: StepStopped, Node: c.By})
	why := "stopped by its owner"
	if c.Revoked {
		why = "the token that it was submitted under was revoked"
	}
	s.end(e, l, workload.Stopped, why)
	return nil
}

// unwait takes l off the lists of those it waited for.
func (s *State) unwait(l *load) {
	for _, id := range l.after() {
		if dep := s.loads[id]; dep != nil {
			dep.pins--
		}
		if list, ok := s.waiters[id]; ok {
			s.waiters[id] = slices.DeleteFunc(list, func(w *load) bool { return w == l })
		}
	}
}

// aheadBy is a time in ms for people, to the second. What no duration can hold
// is the longest.
func aheadBy(ms int64) time.Duration {
	return time.Duration(min(ms, math.MaxInt64/int64(time.Millisecond))) * time.Millisecond / time.Second * time.Second
}
