package ledger

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/perrin-mesh/perrin/workload"
)

// TestRandomLog applies random commands, most of them sensible, to two
// replicas, of which one goes through a snapshot now and then. After each one
// every task is in exactly one place, what is spent was earned, all counts
// hold, a rejected command has changed nothing, and the replicas agree.
func TestRandomLog(t *testing.T) {
	rapid.Check(t, checkRandomLog)
}

func checkRandomLog(t *rapid.T) {
	m := &machine{world: newWorld(), other: New(testRules())}
	m.log(t, func(c *Command) { c.Genesis = &Genesis{Mesh: testMesh, Cell: testCell, Epoch: 1, MaxSize: 4} })
	for range rapid.IntRange(1, 120).Draw(t, "commands") {
		m.log(t, m.draw(t))
		if rapid.IntRange(0, 30).Draw(t, "restart") == 0 {
			m.restart(t)
		}
	}
	if m.Hash() != m.other.Hash() {
		t.Errorf("the replicas differ")
	}
}

type machine struct {
	*world
	other    *State
	auctions uint32
	segments uint64
}

func (m *machine) log(t *rapid.T, set func(*Command)) {
	before := digest(blank(m.Snapshot()))
	r := m.apply(set)
	c := &Command{Version: CommandVersion, At: m.at, Leader: peer("leader")}
	set(c)
	r2 := m.other.Apply(m.index, c, fmt.Appendf(nil, "entry %d", m.index))
	if describe(r) != describe(r2) {
		t.Errorf("the replicas answer %q and %q", describe(r), describe(r2))
	}
	for _, g := range r.Slots {
		if len(g.Ranges) == 0 {
			t.Errorf("slot %d is given without a task", g.Slot)
		}
	}
	if r.Reject != nil && digest(blank(m.Snapshot())) != before {
		t.Errorf("rejected and changed: %v", r.Reject)
	}
	m.checkInvariants(t)
}

func (m *machine) restart(t *rapid.T) {
	s, err := Restore(testRules(), reencodeQuiet(m.other.Snapshot()))
	if err != nil {
		t.Fatal(err)
	}
	s.checkInvariants(t)
	m.other = s
}

func reencodeQuiet(snap *Snapshot) *Snapshot { return reencode(nopTB{}, snap) }

// nopTB is for where no *testing.T is at hand; a failure panics.
type nopTB struct{ testing.TB }

func (nopTB) Helper()           {}
func (nopTB) Fatal(args ...any) { panic(fmt.Sprint(args...)) }

var nodeNames = []string{"n1", "n2", "n3", "n4", "far"}

func (m *machine) draw(t *rapid.T) func(*Command) {
	name := rapid.SampledFrom(nodeNames).Draw(t, "node")
	id := loadID(rapid.SampledFrom([]string{"a", "b", "c", "d", "e"}).Draw(t, "workload"))
	switch rapid.IntRange(0, 19).Draw(t, "kind") {
	case 0:
		return func(c *Command) { c.MemberAdd = &MemberAdd{Node: peer(name), Name: name} }
	case 1:
		return func(c *Command) { c.MemberRemove = &MemberRemove{Node: peer(name)} }
	case 2, 3, 4:
		return m.drawAccept(t, id)
	case 5, 6, 7:
		return m.drawAward(t, id)
	case 8:
		epoch := rapid.Uint64Range(1, 3).Draw(t, "epoch")
		if n, ok := m.Node(peer(name)); ok && rapid.Bool().Draw(t, "its epoch") {
			epoch = n.Epoch
		}
		return func(c *Command) { c.Expire = &Expire{Node: peer(name), Epoch: epoch} }
	case 9:
		if rapid.Bool().Draw(t, "stop") {
			return func(c *Command) { c.Stop = &Stop{ID: id, By: peer("alice")} }
		}
		rule := &Compact{
			Keep: rapid.Uint32Range(0, 3).Draw(t, "keep"), Bytes: rapid.Int64Range(0, 10_000).Draw(t, "bytes"),
			For: rapid.Int64Range(0, 100_000).Draw(t, "for"), AtOnce: rapid.Int64Range(0, 1000).Draw(t, "at once"),
		}
		return func(c *Command) { c.Compact = rule }
	case 10:
		limit := rapid.Int64Range(-1, 50).Draw(t, "limit")
		return func(c *Command) { c.Quota = &Quota{Account: peer("alice"), Limit: limit} }
	}
	return m.drawSlot(t, id)
}

func (m *machine) drawAccept(t *rapid.T, id workload.ID) func(*Command) {
	after := rapid.SampledFrom([]string{"", "", "", "a", "b", "c"}).Draw(t, "after")
	created := rapid.Int64Range(1, m.at).Draw(t, "created")
	tasks, retries, parallel := rapid.Uint32Range(1, 40).Draw(t, "tasks"), rapid.Uint32Range(0, 3).Draw(t, "retries"), rapid.Uint32Range(0, 4).Draw(t, "parallel")
	signed := signedSpec("alice", fmt.Sprint(loadName(id), created), func(s *workload.Spec) {
		s.Tasks.Count, s.Retries, s.MaxParallel, s.Created = tasks, retries, parallel, created
		if after != "" {
			s.After = []workload.After{{Workload: loadID(after), Name: "in"}}
		}
	})
	return func(c *Command) { c.Accept = &Accept{ID: id, Spec: signed} }
}

func (m *machine) drawAward(t *rapid.T, id workload.ID) func(*Command) {
	nodes := rapid.SliceOfN(rapid.SampledFrom(nodeNames), 0, 4).Draw(t, "winners")
	m.auctions++
	award := awardTo(id, m.auctions, rapid.Uint32Range(0, 6).Draw(t, "first"), rapid.Int64Range(0, 9).Draw(t, "rate"), nodes...)
	return func(c *Command) { c.Award = award }
}

// drawSlot draws a command about a slot, mostly one that there is.
func (m *machine) drawSlot(t *rapid.T, id workload.ID) func(*Command) {
	sl := Slot{ID: 1, Fence: workload.Fence{Generation: 1, Epoch: 1}}
	if v, ok := m.Workload(id); ok && len(v.Slots) > 0 && rapid.IntRange(0, 9).Draw(t, "sane") > 0 {
		sl = rapid.SampledFrom(v.Slots).Draw(t, "slot")
	}
	switch rapid.IntRange(0, 7).Draw(t, "what") {
	case 0:
		return func(c *Command) { c.Refuse = &Refuse{Workload: id, Slot: sl.ID, Fence: sl.Fence} }
	case 1:
		return func(c *Command) { c.Release = &Release{Workload: id, Slot: sl.ID, Fence: sl.Fence} }
	case 2:
		ranges := m.drawTasks(t, sl)
		return func(c *Command) { c.Return = &Return{Workload: id, Slot: sl.ID, Fence: sl.Fence, Ranges: ranges} }
	case 3, 4:
		count := rapid.Uint32Range(0, 12).Draw(t, "count")
		return func(c *Command) { c.Take = &Take{Workload: id, Slot: sl.ID, Fence: sl.Fence, Count: count} }
	}
	return m.drawClose(t, id, sl)
}

// drawTasks draws part of what a slot holds.
func (m *machine) drawTasks(t *rapid.T, sl Slot) []workload.Range {
	var out []workload.Range
	for _, r := range sl.Open {
		skip := rapid.Uint32Range(0, r.Count-1).Draw(t, "skip")
		count := rapid.Uint32Range(0, r.Count-skip).Draw(t, "tasks")
		if count > 0 {
			out = append(out, workload.Range{From: r.From + skip, Count: count, Attempt: r.Attempt})
		}
	}
	if rapid.IntRange(0, 15).Draw(t, "wild") == 0 {
		out = append(out, workload.Range{From: rapid.Uint32().Draw(t, "from"), Count: rapid.Uint32().Draw(t, "many"), Attempt: 1})
	}
	return out
}

func (m *machine) drawClose(t *rapid.T, id workload.ID, sl Slot) func(*Command) {
	m.segments++
	cl := &Close{Workload: id, Slot: sl.ID, Fence: sl.Fence, Segment: segmentRef(m.segments), Usage: workload.Usage{WallMs: rapid.Int64Range(0, 5000).Draw(t, "wall")}}
	for _, r := range m.drawTasks(t, sl) {
		if r.Count > 100 || rapid.Bool().Draw(t, "done") {
			cl.Done = append(cl.Done, r)
			continue
		}
		exit := rapid.SampledFrom([]workload.Exit{workload.Exited, workload.NodeFault, workload.StoppedExit, workload.TimedOut}).Draw(t, "exit")
		for i := r.From; i < r.End(); i++ {
			cl.Failed = append(cl.Failed, FailedTask{Index: i, Attempt: r.Attempt, Exit: exit, Code: 1})
		}
	}
	return func(c *Command) { c.Close = cl }
}

// TestRunSetIsASet holds runSet against a plain map from task to history.
func TestRunSetIsASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var set runSet
		model := map[uint32]uint32{} // task to attempt
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			r := workload.Range{From: rapid.Uint32Range(0, 40).Draw(t, "from"), Count: rapid.Uint32Range(0, 10).Draw(t, "count"), Attempt: rapid.Uint32Range(1, 2).Draw(t, "attempt")}
			switch rapid.IntRange(0, 2).Draw(t, "op") {
			case 0:
				for i := r.From; i < r.End(); i++ {
					if _, in := model[i]; !in {
						model[i] = r.Attempt
						set.add(Run{From: i, Count: 1, Attempt: r.Attempt})
					}
				}
			case 1:
				cutBoth(t, &set, model, r)
			default:
				popBoth(t, &set, model, r.Count)
			}
			if int(set.n) != len(model) {
				t.Fatalf("%d tasks, want %d", set.n, len(model))
			}
			for i := range uint32(60) {
				got, in := set.at(i)
				if attempt, want := model[i]; in != want || got.Attempt != attempt {
					t.Fatalf("task %d is in: %v in attempt %d, want %v in %d", i, in, got.Attempt, want, attempt)
				}
			}
		}
	})
}

func cutBoth(t *rapid.T, set *runSet, model map[uint32]uint32, r workload.Range) {
	all := r.Count > 0
	for i := r.From; i < r.End(); i++ {
		all = all && model[i] == r.Attempt
	}
	runs, ok := set.cut(r)
	if ok != all {
		t.Fatalf("cut %+v: %v, want %v", r, ok, all)
	}
	if !ok {
		return
	}
	if got := wireRanges(runs); !slices.Equal(got, []workload.Range{r}) {
		t.Fatalf("cut %+v gave %v", r, got)
	}
	for i := r.From; i < r.End(); i++ {
		delete(model, i)
	}
}

func popBoth(t *rapid.T, set *runSet, model map[uint32]uint32, count uint32) {
	want := min(int(count), len(model))
	got := 0
	for _, r := range set.pop(count, 1000) {
		for i := r.From; i < r.end(); i++ {
			if model[i] != r.Attempt {
				t.Fatalf("popped task %d in attempt %d, want %d", i, r.Attempt, model[i])
			}
			delete(model, i)
			got++
		}
	}
	if got != want {
		t.Fatalf("popped %d of %d, want %d", got, count, want)
	}
}

// TestOrderedIsASortedSet holds ordered against a plain map.
func TestOrderedIsASortedSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var set ordered[uint64]
		model := map[uint64]bool{}
		for range rapid.IntRange(1, 3).Draw(t, "rounds") {
			first, count := rapid.Uint64Range(0, 2000).Draw(t, "first"), rapid.Uint64Range(0, 1500).Draw(t, "count")
			step := rapid.Uint64Range(1, 3).Draw(t, "step")
			add := rapid.Bool().Draw(t, "add")
			for i := range count {
				key := first + i*step
				if add && !model[key] {
					set.add(key, key)
				}
				if !add {
					set.remove(key)
				}
				if model[key] = add; !add {
					delete(model, key)
				}
			}
		}
		from := rapid.Uint64Range(0, 4000).Draw(t, "from")
		var want []uint64
		for key := range model {
			if key >= from {
				want = append(want, key)
			}
		}
		slices.Sort(want)
		if got := slices.Collect(set.from(from)); !slices.Equal(got, want) || set.n != len(model) {
			t.Fatalf("%d keys from %d on, want %d; %d in all, want %d", len(got), from, len(want), set.n, len(model))
		}
	})
}
