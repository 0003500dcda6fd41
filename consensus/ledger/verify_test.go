package ledger

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/perrin-mesh/perrin/workload"
)

// checkReplicas holds the rules of a workload that is verified: no node has two
// replicas of a task, a task is closed by one segment whose result as many nodes
// returned as must agree, and what differs from it is not paid.
func (s *State) checkReplicas(t failer, l *load) {
	t.Helper()
	nodes := map[uint32][]workload.PeerID{}
	units := map[uint32]bool{}
	add := func(unit uint32) {
		if units[unit] {
			t.Errorf("%s: replica %d is there twice", loadName(l.ID), unit)
		}
		units[unit] = true
	}
	for _, sl := range l.slots {
		for _, r := range sl.open.runs {
			for u := r.From; u < r.end(); u++ {
				add(u)
				nodes[l.taskOf(u)] = append(nodes[l.taskOf(u)], sl.Node)
			}
		}
	}
	for _, set := range []*runSet{&l.fresh, &l.retry} {
		for _, r := range set.runs {
			for u := r.From; u < r.end(); u++ {
				add(u)
			}
		}
	}
	votes := map[uint32][]*Segment{}
	for i := range l.Segments {
		if v := l.Segments[i].Vote; v != nil {
			add((v.Attempt-1)%l.Spec.Runs()*l.total() + v.Task)
			votes[v.Task] = append(votes[v.Task], &l.Segments[i])
			nodes[v.Task] = append(nodes[v.Task], l.Segments[i].Node)
		}
	}
	for task := range l.total() {
		seen := map[workload.PeerID]bool{}
		for _, n := range nodes[task] {
			if seen[n] {
				t.Errorf("%s: %s has two replicas of task %d", loadName(l.ID), peerName(n), task)
			}
			seen[n] = true
		}
		l.checkVerdicts(t, task, votes[task])
	}
}

func (l *load) checkVerdicts(t failer, task uint32, votes []*Segment) {
	t.Helper()
	_, done := l.done.at(task)
	_, failed := l.failed.at(task)
	var closing []*Segment
	counts := map[workload.Digest]int{}
	for _, g := range votes {
		if len(g.Done)+len(g.Failed) > 0 {
			closing = append(closing, g)
		}
		counts[g.Vote.Result]++
	}
	agree := int(l.Spec.VerifyBy.Agree)
	switch {
	case !done && !failed && len(closing) > 0, (done || failed) && len(closing) != 1, done && failed:
		t.Errorf("%s: task %d done=%v failed=%v, closed by %d segments", loadName(l.ID), task, done, failed, len(closing))
		return
	case !done && !failed:
		return
	}
	accepted := closing[0].Vote
	if accepted.Verdict == Alone {
		d := accepted.Drawn
		if len(votes) != 1 || d == nil || d.Picked || workload.Picks(d.Sig, accepted.Streak) || accepted.Streak < workload.TrustedAfter || closing[0].Cost != accepted.Due {
			t.Errorf("%s: task %d stands alone: %d votes, %+v", loadName(l.ID), task, len(votes), accepted)
		}
		return
	}
	if accepted.Verdict == Unjudged {
		for _, n := range counts {
			if n >= agree || done {
				t.Errorf("%s: task %d was split, and %d agree", loadName(l.ID), task, n)
			}
		}
		return
	}
	if counts[accepted.Result] < agree || done != accepted.ok() {
		t.Errorf("%s: task %d was accepted, and %d agree", loadName(l.ID), task, counts[accepted.Result])
	}
	for _, g := range votes {
		same := g.Vote.Result == accepted.Result
		if same != (g.Vote.Verdict == Agrees) || !same && (g.Vote.Verdict != Differs || g.Cost != 0) || same && g.Cost != g.Vote.Due {
			t.Errorf("%s: task %d: a result of %s is %q and cost %d", loadName(l.ID), task, peerName(g.Node), g.Vote.Verdict, g.Cost)
		}
	}
}

// verified makes a workload in a cell whose nodes a1, a2, b1… are operated by a, b….
func verified(t testing.TB, spec string, tasks, retries uint32, nodes ...string) *world {
	w := newWorld()
	w.found(t)
	for _, n := range nodes {
		w.apply(func(c *Command) { c.MemberAdd = &MemberAdd{Node: peer(n), Name: n, Operator: peer(n[:1])} })
	}
	by, err := workload.ParseVerifyBy(spec)
	if err != nil {
		t.Fatal(err)
	}
	r := w.accept("a", "alice", func(s *workload.Spec) { s.VerifyBy, s.Tasks.Count, s.Retries = by, tasks, retries })
	if r.Reject != nil {
		t.Fatal(r.Reject)
	}
	return w
}

var awarded uint32 // auctions of these tests

func (w *world) award(nodes ...string) Result {
	awarded++
	return w.apply(func(c *Command) { c.Award = awardTo(loadID("a"), awarded, 1, 1000, nodes...) })
}

// returns has a slot return a result for the first attempt of what it was given.
func (w *world) returns(g SlotGrant, result string) Result {
	awarded++
	w.at += 1000 // that it ran
	r := g.Ranges[0]
	cl := &Close{
		Workload: loadID("a"), Slot: g.Slot, Fence: g.Fence, Segment: segmentRef(uint64(awarded)),
		Usage: workload.Usage{WallMs: 1000}, Vote: workload.DigestOf([]byte(result)),
	}
	if result == "fails" {
		cl.Failed = []FailedTask{{Index: r.From, Attempt: r.Attempt, Exit: workload.Exited, Code: 3}}
	} else {
		cl.Done = []workload.Range{{From: r.From, Count: 1, Attempt: r.Attempt}}
	}
	res := w.apply(func(c *Command) { c.Close = cl })
	if sl, ok := w.Slot(loadID("a"), g.Slot); ok && len(sl.Open) == 0 {
		w.apply(func(c *Command) { c.Release = &Release{Workload: loadID("a"), Slot: g.Slot, Fence: g.Fence} })
	}
	return res
}

func granted(t *testing.T, r Result, want ...string) []SlotGrant {
	t.Helper()
	if r.Reject != nil {
		t.Fatal(r.Reject)
	}
	var have []string
	for _, g := range r.Slots {
		have = append(have, peerName(g.Node))
	}
	if !slices.Equal(have, want) {
		t.Fatalf("slots went to %v, want %v", have, want)
	}
	return r.Slots
}

// A node that lies is outvoted, named and not paid.
func TestALieIsOutvoted(t *testing.T) {
	w := verified(t, "2of3", 1, 0, "a1", "b1", "c1")
	g := granted(t, w.award("a1", "a1", "b1"), "a1", "b1")
	w.returns(g[0], "lie")
	w.returns(g[1], "truth")
	if v, _ := w.Workload(loadID("a")); v.Phase != workload.Running && v.Phase != workload.Pending || v.Waiting != 1 || v.Cost != 0 {
		t.Fatalf("two differ: %s, %d wait, cost %d", v.Phase, v.Waiting, v.Cost)
	}
	granted(t, w.award("a1", "b1"))
	g = granted(t, w.award("c1"), "c1")
	if r := w.returns(g[0], "truth"); r.Charged != 2000 || !slices.Equal(r.Ends, []workload.ID{loadID("a")}) {
		t.Fatalf("charged %d, ended %v, %v", r.Charged, r.Ends, r.Reject)
	}
	v, _ := w.Workload(loadID("a"))
	if v.Phase != workload.Succeeded || w.Account(peer("a1")).Earned != 0 || w.Account(peer("b1")).Earned != 1000 || v.Cost != 2000 {
		t.Errorf("%s, a1 earned %d, b1 %d", v.Phase, w.Account(peer("a1")).Earned, w.Account(peer("b1")).Earned)
	}
	why, _ := w.WhyTask(loadID("a"), 0)
	var verdicts []string
	for _, v := range why.Task.Votes {
		verdicts = append(verdicts, peerName(v.Node)+" "+string(v.Verdict))
	}
	if got := strings.Join(verdicts, ", "); got != "a1 differs, b1 agrees, c1 agrees" || peerName(why.Task.Node) != "b1" {
		t.Errorf("votes: %s; closed by %s", got, peerName(why.Task.Node))
	}
	if !slices.ContainsFunc(why.Steps, func(s Step) bool { return s.Kind == StepDiffers && peerName(s.Node) == "a1" }) {
		t.Errorf("no step says that a1 differs: %+v", why.Steps)
	}
	w.checkInvariants(t)
}

// When no two of three agree the task fails, and all are paid.
func TestNoAgreementFails(t *testing.T) {
	w := verified(t, "2of3", 1, 0, "a1", "b1", "c1")
	for _, g := range granted(t, w.award("a1", "b1", "c1"), "a1", "b1") {
		w.returns(g, fmt.Sprint(g.Slot))
	}
	w.returns(granted(t, w.award("c1"), "c1")[0], "another")
	v, _ := w.Workload(loadID("a"))
	if want := "1 of 1 tasks failed: task 0 ran on 3 nodes, and no 2 of them returned the same"; v.Phase != workload.Failed || v.Reason != want || v.Cost != 3000 {
		t.Errorf("%s: %q, cost %d", v.Phase, v.Reason, v.Cost)
	}
	w.checkInvariants(t)
}

// A failure that enough nodes return is the task's result.
func TestAgreedFailure(t *testing.T) {
	w := verified(t, "2of3", 1, 3, "a1", "b1", "c1")
	for _, g := range granted(t, w.award("a1", "b1"), "a1", "b1") {
		w.returns(g, "fails")
	}
	v, _ := w.Workload(loadID("a"))
	if v.Phase != workload.Failed || v.Tasks.Failed != 1 || v.Cost != 2000 {
		t.Errorf("%s, %+v, cost %d", v.Phase, v.Tasks, v.Cost)
	}
	w.checkInvariants(t)
}

// Nodes of one operator share a task only when no other operator bids.
func TestOperatorsAreSpread(t *testing.T) {
	w := verified(t, "2of3", 1, 0, "a1", "a2", "b1")
	granted(t, w.award("a1", "a2"), "a1") // nobody of a had it before: another operator may yet bid
	lot, _ := w.Lot(loadID("a"))
	if !slices.Equal(lot.Barred, []workload.PeerID{peer("a1")}) || !slices.Equal(lot.Faulted, []workload.PeerID{peer("a2")}) {
		t.Errorf("barred %d, avoided %d", len(lot.Barred), len(lot.Faulted))
	}
	awarded++
	both := awardTo(loadID("a"), awarded, 1, 1000, "a2")
	both.addBid("b1", 5000)
	granted(t, w.apply(func(c *Command) { c.Award = both })) // b bid too
	granted(t, w.award("a2"), "a2")                          // nobody else did
	w.checkInvariants(t)
}

// TestVerifiedIsSound draws awards, results of honest and lying nodes, losses and
// restarts. Fewer lying nodes than must agree never have their result accepted,
// and the replicas of the ledger agree.
func TestVerifiedIsSound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spec := rapid.SampledFrom([]string{"2of2", "2of3", "3of4", "3of5", "adaptive:2of3", "adaptive:3of5"}).Draw(t, "spec")
		nodes := []string{"a1", "a2", "b1", "b2", "c1", "d1", "e1"}
		w := verified(nopTB{}, spec, rapid.Uint32Range(1, 5).Draw(t, "tasks"), rapid.Uint32Range(0, 2).Draw(t, "retries"), nodes...)
		by := w.loads[loadID("a")].Spec.VerifyBy
		liars := rapid.SliceOfNDistinct(rapid.SampledFrom(nodes), 0, int(by.Agree)-1, rapid.ID[string]).Draw(t, "liars")
		for _, n := range nodes {
			if by.Adaptive && rapid.Bool().Draw(t, "has a record") {
				w.trust(n, 20)
			}
		}
		for range rapid.IntRange(1, 90).Draw(t, "steps") {
			verifiedStep(t, w, nodes, liars)
			w.checkInvariants(t)
			if v, _ := w.Workload(loadID("a")); v.Phase.Ended() && len(v.Slots) == 0 {
				break
			}
		}
		for _, g := range w.loads[loadID("a")].Segments {
			if len(g.Done) > 0 && g.Vote.Verdict != Alone && g.Vote.Result != workload.DigestOf([]byte("truth")) {
				t.Errorf("a lie was accepted: %+v", g.Vote)
			}
		}
	})
}

func verifiedStep(t *rapid.T, w *world, nodes, liars []string) {
	id := loadID("a")
	v, _ := w.Workload(id)
	if waiting := w.Undrawn(1); len(waiting) > 0 && rapid.Bool().Draw(t, "drawn") {
		w.drawn(waiting[0], rapid.SampledFrom([]string{pickedSig, passedSig, "", "forged"}).Draw(t, "draw"))
		return
	}
	if len(v.Slots) == 0 || rapid.IntRange(0, 3).Draw(t, "award") == 0 {
		w.award(rapid.SliceOfN(rapid.SampledFrom(nodes), 1, 4).Draw(t, "winners")...)
		return
	}
	sl := rapid.SampledFrom(v.Slots).Draw(t, "slot")
	held := w.loads[id].shown(sl.Open)
	switch kind := rapid.IntRange(0, 11).Draw(t, "kind"); {
	case kind == 0:
		w.apply(func(c *Command) { c.Expire = &Expire{Node: sl.Node, Epoch: sl.Fence.Epoch} })
	case kind == 1:
		w.apply(func(c *Command) { c.Refuse = &Refuse{Workload: id, Slot: sl.ID, Fence: sl.Fence} })
	case kind == 2 && len(held) > 0:
		w.apply(func(c *Command) {
			c.Return = &Return{Workload: id, Slot: sl.ID, Fence: sl.Fence, Ranges: held[:1], Lost: true}
		})
	case kind == 3:
		s, err := Restore(testRules(), reencodeQuiet(w.Snapshot()))
		if err != nil {
			t.Fatal(err)
		}
		if s.Hash() != w.Hash() {
			t.Errorf("restored as another ledger")
		}
		w.State = s
	case kind == 4 && rapid.IntRange(0, 9).Draw(t, "stop") == 0:
		w.apply(func(c *Command) { c.Stop = &Stop{ID: id, By: peer("alice")} })
	case kind < 7 || len(held) == 0:
		w.apply(func(c *Command) { c.Take = &Take{Workload: id, Slot: sl.ID, Fence: sl.Fence, Count: 2} })
	default:
		result := "truth"
		if slices.Contains(liars, peerName(sl.Node)) {
			result = rapid.SampledFrom([]string{"lie", "another lie"}).Draw(t, "lie")
		}
		w.returns(SlotGrant{Slot: sl.ID, Fence: sl.Fence, Ranges: held}, result)
	}
}

// checkDues recounts what accounts owe for results that are not judged.
func (s *State) checkDues(t failer) {
	t.Helper()
	want := map[workload.PeerID]int64{}
	for _, l := range s.loads {
		for payer, due := range l.owed() {
			want[payer] += due
		}
	}
	for peer := range s.accounts {
		if s.dues[peer] != want[peer] {
			t.Errorf("%s owes %d, counted %d", peerName(peer), want[peer], s.dues[peer])
		}
	}
}

// A token's credits also bound what is not judged yet, and what is not paid in the
// end does not count.
func TestCreditsBoundVerifiedWork(t *testing.T) {
	w := newTokenWorld(t)
	for _, n := range []string{"b1", "c1"} {
		w.apply(func(c *Command) { c.MemberAdd = &MemberAdd{Node: peer(n), Name: n, Operator: peer(n)} })
	}
	by, _ := workload.ParseVerifyBy("2of3")
	r := w.acceptUnder("a", []string{"alice"}, func(s *workload.Spec) { shape(500, 1, 6)(s); s.MaxParallel, s.VerifyBy = 4, by })
	if r.Reject != nil {
		t.Fatal(r.Reject)
	}
	id, link := loadID("a"), testLink("alice")
	award := func(node string) SlotGrant {
		awarded++
		r := w.apply(func(c *Command) { c.Award = awardTo(id, awarded, 1, 400, node); c.Award.MaxPrice = 500 })
		return granted(t, r, node)[0]
	}
	w.returns(award("n1"), "lie")
	w.returns(award("b1"), "truth")
	w.apply(func(c *Command) { c.Quota = &Quota{Account: peer("alice"), Limit: 800} })
	if r := w.acceptUnder("b", []string{"bob"}, shape(500, 1, 1)); r.Reject != nil {
		t.Errorf("another account pays: %v", r.Reject)
	}
	r = w.accept("c", "alice", nil)
	if r.Reject == nil || r.Reject.Code != OverQuota || w.tokens[link].Spent != 800 || w.Account(peer("alice")).Spent != 0 {
		t.Errorf("alice owes 800 of 800: %v, the token spent %d, she %d", r.Reject, w.tokens[link].Spent, w.Account(peer("alice")).Spent)
	}
	w.returns(award("c1"), "truth") // n1 took task 0 first, b1 the same, c1 its third
	w.checkInvariants(t)
	restored, err := Restore(w.rules, reencodeQuiet(w.Snapshot()))
	if err != nil {
		t.Fatal(err)
	}
	w.State = restored
	w.checkInvariants(t)
	for range 4 {
		if v, _ := w.Workload(id); !v.Phase.Ended() {
			w.returns(award("n1"), "truth")
		}
	}
	v, _ := w.Workload(id)
	if v.Phase != workload.Stopped || w.Account(peer("alice")).Spent > 1000+400 || w.tokens[link].Spent != w.Account(peer("alice")).Spent {
		t.Errorf("%s: alice spent %d and the token %d of 1000, at most one result more", v.Phase, w.Account(peer("alice")).Spent, w.tokens[link].Spent)
	}
	w.checkInvariants(t)
}

// A node that says of each replica that it was stopped is paid for none, and its
// slot takes no more.
func TestStoppingIsNotPaid(t *testing.T) {
	w := verified(t, "2of3", 1, 0, "a1", "b1", "c1")
	g := granted(t, w.award("a1"), "a1")[0]
	w.at += 1000
	r := w.apply(func(c *Command) {
		c.Close = &Close{
			Workload: loadID("a"), Slot: g.Slot, Fence: g.Fence, Segment: segmentRef(1), Usage: workload.Usage{WallMs: 1000},
			Vote: workload.DigestOf([]byte("stopped")), Failed: []FailedTask{{Index: 0, Attempt: g.Ranges[0].Attempt, Exit: workload.StoppedExit}},
		}
	})
	if r.Reject != nil || len(r.Retried) != 1 || len(r.Freed) != 1 || w.Account(peer("a1")).Earned != 0 {
		t.Errorf("retried %v, freed %v, a1 earned %d: %v", r.Retried, r.Freed, w.Account(peer("a1")).Earned, r.Reject)
	}
	// Once the workload has ended that is what became of the replica.
	g = granted(t, w.award("b1"), "b1")[0]
	w.at += 1000
	w.apply(func(c *Command) { c.Stop = &Stop{ID: loadID("a"), By: peer("alice")} })
	r = w.apply(func(c *Command) {
		c.Close = &Close{
			Workload: loadID("a"), Slot: g.Slot, Fence: g.Fence, Segment: segmentRef(2), Usage: workload.Usage{WallMs: 1000},
			Vote: workload.DigestOf([]byte("stopped")), Failed: []FailedTask{{Index: 0, Attempt: g.Ranges[0].Attempt, Exit: workload.StoppedExit}},
		}
	})
	if r.Reject != nil || w.Account(peer("b1")).Earned != 1000 {
		t.Errorf("b1 earned %d: %v", w.Account(peer("b1")).Earned, r.Reject)
	}
	w.checkInvariants(t)
}

func testLink(by string) workload.Digest {
	p := peer(by)
	return workload.DigestOf(p[:])
}
