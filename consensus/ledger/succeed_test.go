package ledger

import (
	"errors"
	"fmt"
	"testing"

	"github.com/perrin-mesh/perrin/workload"
)

// TestReputationFollowsIntoAFullMemory: the old key's place is the new one's.
func TestReputationFollowsIntoAFullMemory(t *testing.T) {
	rules := testRules()
	rules.OpenSuccession = func(workload.MeshID, []byte) (workload.PeerID, workload.PeerID, error) {
		return peer("old"), peer("new"), nil
	}
	w := &world{State: New(rules)}
	w.found(t, "old")
	for n := range MaxStandings {
		who := peer("old")
		if n > 0 {
			who = peer(fmt.Sprint(n))
		}
		w.addStanding(Standing{Node: who, Issuer: peer("alice"), Good: standingOne, At: w.Time()})
	}
	res := w.apply(func(c *Command) { c.MemberAdd = &MemberAdd{Node: peer("new"), Name: "new", Succession: []byte("x")} })
	if res.Reject != nil || !w.Remembered(peer("new")) || w.Remembered(peer("old")) {
		t.Errorf("%+v", res)
	}
}

// TestReputationFollowsTheNewKey: an operator's word moves what is remembered, once, to
// the key that it names and to no other.
func TestReputationFollowsTheNewKey(t *testing.T) {
	rules := testRules()
	rules.OpenSuccession = func(_ workload.MeshID, raw []byte) (workload.PeerID, workload.PeerID, error) {
		if string(raw) != "old is new" {
			return workload.PeerID{}, workload.PeerID{}, errors.New("forged")
		}
		return peer("old"), peer("new"), nil
	}
	w := &world{State: New(rules)}
	w.found(t, "old")
	w.addStanding(Standing{Node: peer("old"), Issuer: peer("alice"), Good: standingOne, Bad: standingOne, At: w.Time()})
	before := w.Name(peer("old"), w.Time())
	join := func(who, succession string) Result {
		return w.apply(func(c *Command) { c.MemberAdd = &MemberAdd{Node: peer(who), Name: who, Succession: []byte(succession)} })
	}
	for _, wrong := range [][2]string{{"new", "made up"}, {"thief", "old is new"}} {
		if res := join(wrong[0], wrong[1]); res.Reject == nil || res.Reject.Code != BadSignature {
			t.Errorf("%v: %+v", wrong, res)
		}
		if _, ok := w.members[peer(wrong[0])]; ok || !w.Remembered(peer("old")) {
			t.Errorf("%v changed something", wrong)
		}
	}
	for range 2 { // a node says where it is at every start
		if res := join("new", "old is new"); res.Reject != nil {
			t.Fatal(res.Reject)
		}
		if now := w.Name(peer("new"), w.Time()); now != before || w.Remembered(peer("old")) {
			t.Errorf("%+v became %+v", before, now)
		}
	}
}
