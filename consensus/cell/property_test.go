package cell

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestRandomCells lets members come, die, return, drain and leave at random
// while the leader does what Plan says. No plan has two changes; a change never
// costs the majority of those that live; nobody loses the vote while leading;
// the order in which the View lists things does not matter. When the commotion
// ends the cell settles with the right number of voters and then stays.
func TestRandomCells(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSim()
		s.limits.MaxVoters = rapid.SampledFrom([]int{1, 3, 5, 5, 5, 7}).Draw(t, "max voters")
		s.limits.Standbys = rapid.IntRange(0, 3).Draw(t, "standbys")
		s.limits.DeadAfter, s.limits.EvictAfter = 8_000, 24_000
		s.join("n00")
		for i := range rapid.IntRange(1, 40).Draw(t, "events") {
			s.disturb(t, i)
			s.live(t, rapid.Int64Range(1, 8).Draw(t, "seconds"))
		}
		s.calm(t)
	})
}

// disturb changes something, unless it would kill the cell: no rule can help
// when a majority of the voters dies at once.
func (s *sim) disturb(t *rapid.T, i int) {
	name := rapid.SampledFrom(s.names()).Draw(t, "node")
	n := s.nodes[name]
	switch rapid.IntRange(0, 9).Draw(t, "event") {
	case 0, 1, 2, 3:
		if len(s.nodes) < 16 {
			n := s.join(fmt.Sprintf("n%02d", len(s.nodes)))
			n.Direct = rapid.IntRange(0, 3).Draw(t, "direct") > 0
			n.Zone = rapid.SampledFrom([]string{"", "x", "y", "z"}).Draw(t, "zone")
			n.Operator = peerID(rapid.SampledFrom([]string{"o", "p"}).Draw(t, "operator"))
		}
	case 4, 5:
		if n.alive = false; !s.majority() {
			n.alive = true
		}
	case 6:
		n.alive, n.Up, n.member = true, s.now, true
	case 7:
		n.Draining = rapid.Bool().Draw(t, "draining")
	case 8:
		n.Settled = rapid.Bool().Draw(t, "settled")
	default:
		s.frozen = i%2 == 0
	}
}

// live lets seconds go by with the rules at work.
func (s *sim) live(t *rapid.T, seconds int64) {
	for range seconds {
		s.pass(1000)
		if s.majority() {
			s.step(t)
		}
	}
}

func (s *sim) step(t *rapid.T) []Action {
	v := s.view()
	plan := Plan(s.now, v)
	slices.Reverse(v.Members)
	slices.Reverse(v.Servers)
	if again := Plan(s.now, v); fmt.Sprint(again) != fmt.Sprint(plan) {
		t.Fatalf("%v, and in another order %v", plan, again)
	}
	changes := 0
	for _, a := range plan {
		before := s.summary()
		if a.Verb.changes() {
			changes++
		}
		if err := s.do(a); err != nil {
			t.Fatalf("%s%v", before, err)
		}
		if !s.majority() {
			// Fresh news may be three seconds old; the dead among them count as
			// alive until then.
			s.checkRecentlyDead(t, before, a)
		}
	}
	if changes > 1 {
		t.Fatalf("%d changes at once: %v", changes, plan)
	}
	return plan
}

// checkRecentlyDead fails unless the lost majority is explained by deaths that
// the leader could not know of yet. The change is undone then: with a real
// group it would not commit before they are back.
func (s *sim) checkRecentlyDead(t *rapid.T, before string, a Action) {
	alive, voters := 0, 0
	for name, n := range s.nodes {
		if n.voter {
			voters++
			alive += whole(n.alive || name == s.self || s.now-n.contact <= s.limits.Fresh)
		}
	}
	if 2*alive <= voters {
		t.Fatalf("%s%s costs the majority: %s", before, describeAction(a), s.summary())
	}
	for _, n := range s.nodes {
		if n.voter && s.now-n.contact <= s.limits.Fresh {
			n.alive = true
		}
	}
}

// calm brings everybody back and waits for the cell to settle.
func (s *sim) calm(t *rapid.T) {
	s.frozen = false
	for _, n := range s.nodes {
		n.alive, n.Draining, n.Settled = true, false, true
	}
	s.live(t, 120)
	if plan := s.step(t); len(plan) != 0 {
		t.Fatalf("never settles: %v\n%s", plan, s.summary())
	}
	members, direct, voters, standbys := 0, 0, 0, 0
	for _, n := range s.nodes {
		members += whole(n.member)
		direct += whole(n.member && (n.Direct || n.voter))
		voters += whole(n.voter)
		standbys += whole(n.server && !n.voter)
	}
	want := min(s.limits.Voters(members), direct-1+direct%2)
	if voters != want || standbys > s.limits.Standbys+s.limits.Voters(members)-want {
		t.Fatalf("%d members, %d for voters: %d voters, want %d; %s", members, direct, voters, want, s.summary())
	}
}
