package cell

import "testing"

// threeVoters is a settled cell led by a, with the last word of each server
// and of the members at the given ages in ms.
func threeVoters(ages map[string]int64) View {
	v := View{Self: peerID("a"), Index: 7, Limits: DefaultLimits()}
	for _, name := range []string{"a", "b", "c"} {
		at := int64(1_000_000) - ages[name]
		v.Servers = append(v.Servers, Server{ID: peerID(name), Voter: true, Contact: at, CaughtUp: true, Copied: true})
		v.Members = append(v.Members, Member{ID: peerID(name), Seen: at, Direct: true, Settled: true})
	}
	return v
}

func one(t *testing.T, v View) Action {
	t.Helper()
	plan := Plan(1_000_000, v)
	if len(plan) != 1 {
		t.Fatalf("%v, want one action", plan)
	}
	if plan[0].Prev != v.Index {
		t.Errorf("made for configuration %d, want %d", plan[0].Prev, v.Index)
	}
	return plan[0]
}

func TestVoteIsNotTakenWhileItIsNeeded(t *testing.T) {
	v := threeVoters(map[string]int64{"c": 5_000})
	v.Members[1].Draining = true
	if a := one(t, v); a.Verb == Remove && a.Node == peerID("b") {
		t.Errorf("%v, while c was silent for 5 s: a and c could not commit", a)
	}
	v.Members[2].Draining = true
	if a := one(t, v); a.Verb != Remove || a.Node != peerID("c") {
		t.Errorf("%v, want c removed first: a and b are a majority", a)
	}
}

func TestNewLeaderHoldsNoOldSilenceAgainstAnybody(t *testing.T) {
	v := threeVoters(nil)
	for i := range v.Servers {
		v.Servers[i].Contact, v.Members[i].Seen = 0, 0
	}
	v.Members = append(v.Members, Member{ID: peerID("z"), Settled: true})
	v.Since, v.Limits.EvictAfter = 999_000, 500_000
	if plan := Plan(1_000_000, v); len(plan) != 0 {
		t.Errorf("%v one second after taking office", plan)
	}
	v.Since = 980_000
	v.Servers = append(v.Servers, Server{ID: peerID("d"), Contact: 1_000_000, CaughtUp: true, Copied: true})
	v.Members = append(v.Members, Member{ID: peerID("d"), Seen: 1_000_000, Direct: true})
	v.Servers[1].Contact = 1_000_000
	if a := one(t, v); a.Verb != AddVoter || a.Node != peerID("d") {
		t.Errorf("%v after 20 s of c's silence, want d to vote", a)
	}
}

func TestLeadershipGoesToOneThatKeepsUp(t *testing.T) {
	v := threeVoters(nil)
	v.Members = append(v.Members, Member{ID: peerID("d"), Seen: 1_000_000, Direct: true})
	v.Servers = append(v.Servers, Server{ID: peerID("d"), Voter: true, Contact: 1_000_000, CaughtUp: true, Copied: true})
	v.Members[0].Draining = true
	v.Servers[1].CaughtUp = false
	v.Servers[2].Contact = 995_000
	if a := one(t, v); a.Verb != Transfer || a.Node != peerID("d") {
		t.Errorf("%v, want leadership with d: b is behind and c silent", a)
	}
	v.Servers[3].CaughtUp = false
	if plan := Plan(1_000_000, v); len(plan) != 0 {
		t.Errorf("%v with nobody to lead", plan)
	}
}

func TestServerThatIsNoMemberGoes(t *testing.T) {
	v := threeVoters(nil)
	v.Members = v.Members[:2]
	if a := one(t, v); a.Verb != Remove || a.Node != peerID("c") || a.Why != "it is no member" {
		t.Errorf("%v, want c removed", a)
	}
}

func TestStandbyThatDiedMakesRoomForAnother(t *testing.T) {
	v := threeVoters(nil)
	for _, name := range []string{"d", "e"} {
		v.Servers = append(v.Servers, Server{ID: peerID(name), Contact: 900_000, Copied: true})
		v.Members = append(v.Members, Member{ID: peerID(name), Seen: 900_000, Direct: true})
	}
	if plan := Plan(1_000_000, v); len(plan) != 0 {
		t.Errorf("%v with nobody in place of the dead", plan)
	}
	v.Members = append(v.Members, Member{ID: peerID("f"), Seen: 1_000_000, Direct: true})
	if a := one(t, v); a.Verb != Remove || a.Node != peerID("d") {
		t.Errorf("%v, want d removed for f", a)
	}
}
