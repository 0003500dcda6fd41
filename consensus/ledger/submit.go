package ledger

import (
	"bytes"
	"errors"
	"slices"

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
	l, rej := s.newLoad(e, c, &spec)
	if rej != nil {
		return rej
	}
	s.account(c.Spec.By)
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
	case spec.Mesh != s.mesh:
		return rejectf(WrongMesh, "signed for mesh %s, this is %s", spec.Mesh, s.mesh)
	case s.loads[c.ID] != nil:
		return rejectf(IDTaken, "%s", c.ID)
	case spec.Tasks.Count < 1 || spec.Tasks.Count > workload.MaxTasks:
		return rejectf(BadSpec, "%d tasks, want 1 to %d", spec.Tasks.Count, workload.MaxTasks)
	case spec.Created > e.at+MaxAhead:
		return rejectf(ClockAhead, "signed %d ms ahead of the cell's time", spec.Created-e.at)
	case account != nil && spec.Created <= account.Forgot:
		return rejectf(TooOld, "signed at %d, workloads of the owner signed up to %d are forgotten", spec.Created, account.Forgot)
	case account != nil && account.Limit >= 0 && account.Spent >= account.Limit:
		return rejectf(OverQuota, "spent %d of %d micro-credits", account.Spent, account.Limit)
	case s.live >= MaxLive:
		return rejectf(Full, "%d workloads have not ended", s.live)
	case len(s.loads) >= MaxKept:
		return rejectf(Full, "%d workloads are kept", len(s.loads))
	case s.specBytes+int64(len(c.Spec.Payload)) > MaxSpecBytes:
		return rejectf(Full, "the specs kept are %d bytes long", s.specBytes)
	case account == nil && len(s.accounts) >= MaxAccounts:
		return rejectf(Full, "%d accounts", len(s.accounts))
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
	l.fresh.add(Run{Count: spec.Tasks.Count, Attempt: 1})
	for _, id := range l.after() {
		dep := s.loads[id]
		switch {
		case dep == nil:
			return nil, rejectf(UnknownWorkload, "after %s", id)
		case dep.Phase == workload.Failed || dep.Phase == workload.Stopped:
			return nil, rejectf(AfterFailed, "%s ended as %s", id, dep.Phase)
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
	s.specBytes += int64(len(l.Signed.Payload))
	if l.Phase.Ended() {
		s.ended.add(l.EndSeq, l)
		return
	}
	s.live++
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
	s.end(e, l, workload.Stopped, "stopped by its owner")
	return nil
}

// compactable reports whether nothing needs l any more.
func (l *load) compactable() bool {
	return l.Phase.Ended() && len(l.slots) == 0 && l.pins == 0
}

// compact forgets what may be forgotten of the named workloads, and the leases
// of nodes outside of the cell that hold nothing.
func (s *State) compact(e *entry, c *Compact) *Reject {
	for _, id := range c.IDs {
		if l := s.loads[id]; l != nil && l.compactable() && l.Spec.Created <= e.at {
			s.forget(l)
			e.res.Forgot = append(e.res.Forgot, id)
		}
	}
	for peer, n := range s.nodes {
		if len(n.slots) == 0 && s.members[peer] == nil {
			s.dropNode(peer, n)
		}
	}
	return nil
}

// forget drops l. From now on the owner's specs signed up to l's are refused,
// since the ledger could not tell one from a replay of l.
func (s *State) forget(l *load) {
	a := s.account(l.owner())
	a.Forgot = max(a.Forgot, l.Spec.Created)
	delete(s.loads, l.ID)
	delete(s.nonces, nonceKey{l.owner(), l.Spec.Nonce})
	s.all.remove(l.Seq)
	s.ended.remove(l.EndSeq)
	s.phases[l.Phase]--
	s.specBytes -= int64(len(l.Signed.Payload))
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
