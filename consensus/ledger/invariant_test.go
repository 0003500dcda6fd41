package ledger

import (
	"cmp"
	"reflect"
	"slices"

	"github.com/perrin-mesh/perrin/workload"
)

// blank takes out what also a rejected command changes.
func blank(snap *Snapshot) *Snapshot {
	snap.Index, snap.Head, snap.Rejects = 0, workload.Digest{}, nil
	return snap
}

// failer is what *testing.T and *rapid.T share.
type failer interface {
	Helper()
	Errorf(format string, args ...any)
}

// checkInvariants recounts all that the ledger keeps count of.
func (s *State) checkInvariants(t failer) {
	t.Helper()
	var spent, earned int64
	for _, a := range s.Accounts() {
		spent, earned = spent+a.Spent, earned+a.Earned
	}
	if spent != earned {
		t.Errorf("spent %d, earned %d", spent, earned)
	}
	s.checkDues(t)
	phases, live, slots, lots := map[workload.Phase]int{}, 0, 0, 0
	var bytes int64
	for _, l := range s.loads {
		r := l.snapshot()
		if parts := r.partsOf(); parts != l.parts {
			t.Errorf("%s: its parts weigh %d, counted %d", loadName(l.ID), parts, l.parts)
		}
		bytes += l.weight
		s.weigh(l)
		s.checkTasks(t, l)
		s.checkSlots(t, l)
		s.checkOutline(t, l.ID)
		s.checkPages(t, l)
		phases[l.Phase]++
		slots += len(l.slots)
		if !l.Phase.Ended() {
			live++
		}
		if l.wanted() > 0 {
			lots++
		}
		if l.listed != (l.wanted() > 0) {
			t.Errorf("%s: listed=%v, wants %d", loadName(l.ID), l.listed, l.wanted())
		}
		if l.Phase == workload.Running && len(l.slots) == 0 || l.Phase == workload.Pending && len(l.slots) > 0 {
			t.Errorf("%s: %s with %d slots", loadName(l.ID), l.Phase, len(l.slots))
		}
	}
	if bytes != s.bytes || len(s.tombs) != s.graves.n || s.graves.n > MaxTombs {
		t.Errorf("weights of %d bytes, counted %d; %d tombs in %d graves", bytes, s.bytes, len(s.tombs), s.graves.n)
	}
	for p, n := range s.phases {
		if phases[p] != n {
			t.Errorf("%d workloads are %s, counted %d", phases[p], p, n)
		}
	}
	if live != s.live || slots != s.slots || lots != s.lots.n || len(s.loads) != s.all.n || len(s.loads)-live != s.ended.n {
		t.Errorf("live %d/%d slots %d/%d lots %d/%d all %d/%d ended %d/%d", live, s.live, slots, s.slots, lots, s.lots.n, len(s.loads), s.all.n, len(s.loads)-live, s.ended.n)
	}
}

// checkTasks holds the rule that every task is in exactly one place.
// checkOutline compares the outline of a workload with the whole view.
func (s *State) checkOutline(t failer, id workload.ID) {
	v, _ := s.Workload(id)
	slots := len(v.Slots)
	v.Slots, v.Nodes, v.Waits = nil, nil, nil
	if o, n, ok := s.Outline(id); !ok || n != slots || !reflect.DeepEqual(o, v) {
		t.Errorf("%s: the outline has %d of %d slots and says %+v, the view %+v", loadName(id), n, slots, o, v)
	}
}

// checkPages looks at up to 40 tasks in pages of 7: each must stand where its set
// says, and be closed by the segment that names it.
func (s *State) checkPages(t failer, l *load) {
	t.Helper()
	for from := uint32(0); from < min(l.total(), 40); from += 7 {
		for i, task := range s.Tasks(l.ID, from, 7) {
			index := from + uint32(i)
			alone, _ := s.Task(l.ID, index)
			seg := alone.Segment
			if alone.Segment = nil; !reflect.DeepEqual(task, alone) || task.Index != index {
				t.Errorf("%s: in a page task %d is %+v, alone %+v", loadName(l.ID), index, task, alone)
			}
			_, done := l.done.at(index)
			_, failed := l.failed.at(index)
			if (task.State == TaskDone) != done || (task.State == TaskFailed) != failed {
				t.Errorf("%s: task %d is %s; done: %v, failed: %v", loadName(l.ID), index, task.State, done, failed)
			}
			if seg == nil {
				continue
			}
			named := slices.ContainsFunc(seg.Done, func(r workload.Range) bool {
				return r.From <= index && index < r.End() && r.Attempt == task.Attempt
			}) || failedTask(seg.Failed, index).Attempt == task.Attempt
			if !named || seg.Slot != task.Slot || seg.Node != task.Node {
				t.Errorf("%s: task %d, %+v, is not closed by %+v", loadName(l.ID), index, task, seg)
			}
		}
	}
}

func (s *State) checkTasks(t failer, l *load) {
	t.Helper()
	if l.verified() {
		s.checkReplicas(t, l)
		return
	}
	var all []Run
	sets := []*runSet{&l.fresh, &l.retry, &l.done, &l.failed}
	for _, sl := range l.slots {
		sets = append(sets, &sl.open)
	}
	for i, set := range sets {
		n := uint32(0)
		for j, r := range set.runs {
			n += r.Count
			if j > 0 && (set.runs[j-1].end() > r.From || set.runs[j-1].end() == r.From && set.runs[j-1].sameHistory(r)) || r.Count == 0 {
				t.Errorf("%s: set %d is not in order: %v", loadName(l.ID), i, set.runs)
			}
			if i != 2 && i != 3 && r.Attempt < 1+r.Fails+r.Faults {
				t.Errorf("%s: attempt %d after %d failures and %d faults", loadName(l.ID), r.Attempt, r.Fails, r.Faults)
			}
		}
		if n != set.n {
			t.Errorf("%s: set %d counts %d, holds %d", loadName(l.ID), i, set.n, n)
		}
		all = append(all, set.runs...)
	}
	slices.SortFunc(all, func(a, b Run) int { return cmp.Compare(a.From, b.From) })
	at := uint32(0)
	for _, r := range all {
		if r.From != at {
			t.Errorf("%s: after task %d comes %d", loadName(l.ID), at, r.From)
		}
		at = r.end()
	}
	if at != l.total() {
		t.Errorf("%s: %d tasks are somewhere, of %d", loadName(l.ID), at, l.total())
	}
}

func (s *State) checkSlots(t failer, l *load) {
	t.Helper()
	idle := uint32(0)
	for id, sl := range l.slots {
		if sl.idle {
			idle++
		}
		n := s.nodes[sl.Node]
		if n == nil || n.slots[slotKey{l.Seq, id}] != l || n.epoch != sl.Fence.Epoch {
			t.Errorf("%s: slot %d is not with its node", loadName(l.ID), id)
		}
		if sl.idle != (sl.open.n == 0 && !sl.Spent) || sl.open.n == 0 && l.Phase.Ended() {
			t.Errorf("%s: slot %d idle=%v with %d tasks", loadName(l.ID), id, sl.idle, sl.open.n)
		}
	}
	if idle != l.idle {
		t.Errorf("%s: %d idle slots, counted %d", loadName(l.ID), idle, l.idle)
	}
}
