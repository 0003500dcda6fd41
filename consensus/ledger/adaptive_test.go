package ledger

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/perrin-mesh/perrin/workload"
)

// Signatures that pick a task of a node with a streak of 20, and that do not.
var pickedSig, passedSig = func() (picked, passed string) {
	for i := 0; picked == "" || passed == ""; i++ {
		sig := fmt.Sprintf("draw %d", i)
		if workload.Picks([]byte(sig), 30) {
			picked = sig
		} else if !workload.Picks([]byte(sig), workload.TrustedAfter) {
			passed = sig
		}
	}
	return picked, passed
}()

func openTestDraw(_ workload.PeerID, _ *workload.Draw, sig []byte) error {
	if string(sig) == "forged" {
		return errors.New("forged")
	}
	return nil
}

// trust gives a node results in a row that agreed, on alice's work.
func (w *world) trust(node string, streak int64) {
	w.addStanding(Standing{Node: peer(node), Issuer: peer("alice"), Streak: streak * standingOne, At: w.State.time})
}

func (w *world) drawn(u Undrawn, sig string) Result {
	return w.apply(func(c *Command) {
		c.Draw = &Draw{Workload: u.Workload, Task: u.Task, Result: u.Result, Sig: []byte(sig)}
	})
}

// A node without a record is checked from the start, one with a record when a draw
// says so, when nobody draws, and when its program failed.
func TestANodeWithARecordRunsAlone(t *testing.T) {
	for _, tt := range []struct {
		name           string
		streak         int64
		result, draw   string
		waits, checked bool
	}{
		{"no record", 9, "truth", "", false, true},
		{"not picked", 20, "truth", passedSig, true, false},
		{"picked", 20, "truth", pickedSig, true, true},
		{"no draw", 20, "truth", "", true, true},
		{"a failure", 20, "fails", "", false, true},
	} {
		w := verified(t, "adaptive:2of3", 1, 0, "a1", "b1", "c1")
		w.trust("a1", tt.streak)
		g := granted(t, w.award("a1"), "a1")[0]
		v, _ := w.Workload(loadID("a"))
		if (v.Waiting > 0) != (tt.streak < workload.TrustedAfter) {
			t.Errorf("%s: %d wait before it has returned", tt.name, v.Waiting)
		}
		r := w.returns(g, tt.result)
		if (r.Undrawn != nil) != tt.waits || len(w.Undrawn(9)) > 0 != tt.waits {
			t.Fatalf("%s: waits for %+v, listed %+v", tt.name, r.Undrawn, w.Undrawn(9))
		}
		w.checkInvariants(t)
		if tt.waits {
			if forged := w.drawn(*r.Undrawn, "forged"); forged.Reject == nil || forged.Reject.Code != BadSignature {
				t.Errorf("%s: forged: %v", tt.name, forged.Reject)
			}
			if d := w.drawn(*r.Undrawn, tt.draw); d.Reject != nil {
				t.Fatalf("%s: %v", tt.name, d.Reject)
			}
			if again := w.drawn(*r.Undrawn, passedSig); again.Reject == nil {
				t.Errorf("%s: drawn twice", tt.name)
			}
		}
		v, _ = w.Workload(loadID("a"))
		if (v.Waiting > 0) != tt.checked || v.Phase.Ended() == tt.checked {
			t.Errorf("%s: %s, %d wait", tt.name, v.Phase, v.Waiting)
		}
		c, _ := w.Checked(loadID("a"))
		if !tt.checked && (c.Alone != 1 || c.Accepted != 1 || v.Cost != 1000) {
			t.Errorf("%s: %+v, cost %d", tt.name, c, v.Cost)
		}
		if tt.checked {
			w.returns(granted(t, w.award("b1"), "b1")[0], tt.result)
			if v, _ = w.Workload(loadID("a")); !v.Phase.Ended() || v.Cost != 2000 {
				t.Errorf("%s: then %s, cost %d", tt.name, v.Phase, v.Cost)
			}
		}
		w.checkInvariants(t)
	}
}

// When a node lies after all, the tasks that it ran alone before are counted as doubtful.
func TestWhatALiarRanAloneIsDoubtful(t *testing.T) {
	w := verified(t, "adaptive:2of3", 3, 0, "a1", "b1", "c1")
	w.trust("a1", 20)
	w.trust("b1", 20)
	g := []SlotGrant{granted(t, w.award("a1"), "a1")[0], granted(t, w.award("b1"), "b1")[0], granted(t, w.award("a1"), "a1")[0]}
	w.drawn(*w.returns(g[0], "perhaps").Undrawn, passedSig)
	w.drawn(*w.returns(g[1], "truth").Undrawn, passedSig)
	if c, _ := w.Checked(loadID("a")); c.Alone != 2 || c.Doubtful != 0 {
		t.Errorf("before: %+v", c)
	}
	w.drawn(*w.returns(g[2], "lie").Undrawn, pickedSig)
	w.returns(granted(t, w.award("b1"), "b1")[0], "truth")
	w.returns(granted(t, w.award("c1"), "c1")[0], "truth")
	if c, _ := w.Checked(loadID("a")); c.Alone != 2 || c.Doubtful != 1 || c.Differs != 1 {
		t.Errorf("after: %+v", c)
	}
	w.checkInvariants(t)
}

// The node that a workload was submitted on makes the draws, so its own are checked.
func TestTheDrawersOwnWorkIsChecked(t *testing.T) {
	w := verified(t, "adaptive:2of3", 1, 0, "a1", "alice")
	w.trust("alice", 20) // alice's node: see world.accept
	granted(t, w.award("alice"), "alice")
	if v, _ := w.Workload(loadID("a")); v.Waiting != 1 {
		t.Errorf("%d wait", v.Waiting)
	}
}

// Results that agree with those of another operator's node make a streak, with the
// owner of the work alone; one that differs ends it with everybody.
func TestStreaks(t *testing.T) {
	w := verified(t, "2of3", 3, 0, "a1", "a2", "b1")
	w.addStanding(Standing{Node: peer("a1"), Issuer: peer("bob"), Streak: 20 * standingOne, At: w.State.time})
	streaks := func() (out []uint32) {
		for _, n := range []string{"a1", "a2", "b1"} {
			out = append(out, w.streak(peer(n), w.loads[loadID("a")], w.State.time))
		}
		return out
	}
	give := func(node string) SlotGrant { return granted(t, w.award(node), node)[0] }
	first := []SlotGrant{give("a1"), give("a1"), give("a1")}
	second := []SlotGrant{give("b1"), give("a2"), give("b1")} // of the same tasks
	w.returns(first[0], "truth")
	w.returns(second[0], "truth")
	if got := streaks(); !slices.Equal(got, []uint32{1, 0, 1}) {
		t.Errorf("after one task: %v", got)
	}
	// Two nodes of one operator agree on the next, as nobody else bid: it is no record.
	w.returns(first[1], "truth")
	w.returns(second[1], "truth")
	if got := streaks(); !slices.Equal(got, []uint32{1, 0, 1}) {
		t.Errorf("after one of one operator: %v", got)
	}
	w.returns(first[2], "lie")
	w.returns(second[2], "truth")
	w.returns(granted(t, w.award("a2"), "a2")[0], "truth")
	if got := streaks(); !slices.Equal(got, []uint32{0, 1, 2}) {
		t.Errorf("after a lie: %v", got)
	}
	for _, x := range w.standings[peer("a1")] {
		if x.Streak != 0 {
			t.Errorf("%s still counts %d", peerName(x.Issuer), x.Streak)
		}
	}
	if w.addStanding(Standing{Node: peer("b1"), Issuer: peer("alice"), Streak: math.MaxInt32, At: w.State.time}); streaks()[2] != workload.MaxStreak {
		t.Errorf("streaks are bounded: %v", streaks())
	}
	if n := w.streak(peer("b1"), w.loads[loadID("a")], w.State.time+7*day); n != workload.MaxStreak/2 {
		t.Errorf("after a week: %d", n)
	}
	w.checkInvariants(t)
}

// A ledger that is restored knows what waits for a draw, and what was widened.
func TestDrawsOutliveSnapshots(t *testing.T) {
	w := verified(t, "adaptive:2of3", 2, 0, "a1", "b1", "c1")
	w.trust("a1", 20)
	u := w.returns(granted(t, w.award("a1"), "a1")[0], "truth").Undrawn
	b1 := granted(t, w.award("b1"), "b1")[0]
	w.apply(func(c *Command) {
		c.Return = &Return{Workload: loadID("a"), Slot: b1.Slot, Fence: b1.Fence, Ranges: b1.Ranges}
	})
	s, err := Restore(w.rules, reencodeQuiet(w.Snapshot()))
	if err != nil {
		t.Fatal(err)
	}
	if s.Hash() != w.Hash() {
		t.Error("restored as another ledger")
	}
	w.State = s
	if list := w.Undrawn(9); len(list) != 1 || list[0] != *u {
		t.Errorf("waiting: %+v, want %+v", list, u)
	}
	if err := w.Waits(&workload.Draw{Workload: u.Workload, Task: u.Task, Result: u.Result}, u.Home); err != nil {
		t.Error(err)
	}
	if err := w.Waits(&workload.Draw{Workload: u.Workload, Task: u.Task, Result: u.Result}, peer("b1")); err == nil {
		t.Error("a stranger is told what the ledger has")
	}
	if p := w.loads[loadID("a")].polls[b1.Ranges[0].From]; p == nil || p.lanes != 2 {
		t.Errorf("the task that was given back: %+v", p)
	}
	w.checkInvariants(t)
}

// A result that was picked, and on which nobody agreed, ends what its owner counted for
// the node: where all must agree nobody can ever say who lied.
func TestAPickedResultThatNobodyConfirmsEndsTheStreak(t *testing.T) {
	for _, tt := range []struct {
		spec, second string
		streak       uint32
	}{{"adaptive:2of2", "truth", 0}, {"adaptive:2of2", "lie", 21}} {
		w := verified(t, tt.spec, 1, 0, "a1", "b1")
		w.trust("a1", 20)
		w.addStanding(Standing{Node: peer("a1"), Issuer: peer("bob"), Streak: 5 * standingOne, At: w.State.time})
		r := w.returns(granted(t, w.award("a1"), "a1")[0], "lie")
		if d := w.drawn(*r.Undrawn, pickedSig); d.Reject != nil {
			t.Fatal(d.Reject)
		}
		w.returns(granted(t, w.award("b1"), "b1")[0], tt.second)
		if got := w.streak(peer("a1"), w.loads[loadID("a")], w.State.time); got != tt.streak {
			t.Errorf("%+v: %d in a row", tt, got)
		}
		if list := w.standings[peer("a1")]; len(list) != 2 || list[0].Issuer == peer("bob") && list[0].Streak == 0 || list[1].Issuer == peer("bob") && list[1].Streak == 0 {
			t.Errorf("%+v: what another owner counted is gone: %+v", tt, list)
		}
		w.checkInvariants(t)
	}
}

// Work that a token's holder submits makes no streak with who pays for it: its tasks are
// the holder's choice.
func TestATokensHolderBuildsNoStreaks(t *testing.T) {
	for _, guest := range []bool{false, true} {
		w := verified(t, "2of3", 1, 0, "a1", "b1")
		if guest {
			w.loads[loadID("a")].Token = &LoadToken{Payer: peer("carol")}
		}
		g := granted(t, w.award("a1", "b1"), "a1", "b1")
		w.returns(g[0], "truth")
		w.returns(g[1], "truth")
		for _, n := range []string{"a1", "b1"} {
			if got := w.streak(peer(n), w.loads[loadID("a")], w.State.time); (got == 0) != guest {
				t.Errorf("under a token %v: %s has %d in a row", guest, n, got)
			}
		}
	}
}
