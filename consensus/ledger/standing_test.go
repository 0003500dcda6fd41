package ledger

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

const day = int64(24 * 3600 * 1000)

// One issuer alone, however much it says, makes or breaks no name; several do, and
// what they said fades.
func TestStandingsAreBoundedPerIssuer(t *testing.T) {
	s := New(testRules())
	say := func(issuer string, good, bad int64, times int) {
		for range times {
			s.addStanding(Standing{Node: peer("n"), Issuer: peer(issuer), Good: good, Bad: bad, At: day})
		}
	}
	for _, tt := range []struct {
		do         string
		issuer     string
		good, bad  int64
		times      int
		mean, risk int64
		probation  bool
	}{
		{"nothing", "", 0, 0, 0, 500_000, 0, true},
		{"one lie", "alice", 0, standingWrong, 1, 250_000, 125_000, true},
		{"a hundred lies for the same", "alice", 0, standingWrong, 100, 250_000, 125_000, true},
		{"good work for another", "bob", standingOne, 0, 50, 500_000, 83_333, false},
		{"and another", "carol", standingOne, 0, 50, 625_000, 62_500, false},
	} {
		say(tt.issuer, tt.good, tt.bad, tt.times)
		if n := s.Name(peer("n"), day); n.MeanPPM != tt.mean || n.RiskPPM != tt.risk || n.Probation != tt.probation {
			t.Errorf("%s: %+v, want mean %d, risk %d, probation %v", tt.do, n, tt.mean, tt.risk, tt.probation)
		}
	}
	if n := s.Name(peer("n"), 8*day); n.Bad != 1000 || n.Good != 2000 {
		t.Errorf("after a half-life: %+v", n)
	}
	s.forgetStandings(day + 100*day)
	if len(s.standings) != 0 {
		t.Errorf("%d nodes are remembered after 100 days", len(s.standings))
	}
}

// TestNamesStayInBounds draws histories: a name is a share, its risk is bounded and 0
// while nothing bad is known, time only brings it nearer to the prior, and no more
// issuers are kept than may be.
func TestNamesStayInBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, now, bad := New(testRules()), int64(0), false
		for range rapid.IntRange(0, 60).Draw(t, "workloads") {
			now += rapid.Int64Range(0, 30*day).Draw(t, "later")
			x := Standing{Node: peer("n"), Issuer: peer(fmt.Sprint(rapid.IntRange(0, 40).Draw(t, "issuer"))), At: now}
			x.Good = rapid.SampledFrom([]int64{0, standingOne}).Draw(t, "good")
			x.Bad = rapid.SampledFrom([]int64{0, 0, standingOne, standingWrong}).Draw(t, "bad")
			bad = bad || x.Bad > 0
			s.addStanding(x)
			n, later := s.Name(peer("n"), now), s.Name(peer("n"), now+rapid.Int64Range(0, 400*day).Draw(t, "after"))
			if n.MeanPPM < 0 || n.MeanPPM > 1_000_000 || n.RiskPPM < 0 || n.RiskPPM > MaxStandingPPM || !bad && n.RiskPPM > 0 || n.Issuers > maxIssuers {
				t.Errorf("%+v", n)
			}
			if later.Good > n.Good || later.Bad > n.Bad {
				t.Errorf("%+v became %+v by waiting", n, later)
			}
		}
	})
}

// A node that lies for verified work, or is lost, has it held against it by who paid.
func TestALieCosts(t *testing.T) {
	w := verified(t, "2of3", 1, 0, "a1", "b1", "c1")
	g := granted(t, w.award("a1", "b1"), "a1", "b1")
	w.returns(g[0], "lie")
	w.returns(g[1], "truth")
	w.returns(granted(t, w.award("c1"), "c1")[0], "truth")
	if n := w.Name(peer("a1"), w.Time()); n.Bad != standingMost || n.Good != 0 || n.RiskPPM != 125_000 {
		t.Errorf("the liar: %+v", n)
	}
	if n := w.Name(peer("b1"), w.Time()); n.Good != standingOne || n.RiskPPM != 0 || !n.Probation {
		t.Errorf("an honest node: %+v", n)
	}
	s, err := Restore(testRules(), reencode(t, w.Snapshot()))
	if err != nil || s.Hash() != w.Hash() || s.Name(peer("a1"), w.Time()) != w.Name(peer("a1"), w.Time()) {
		t.Errorf("restored otherwise: %v", err)
	}
}

// Owners that somebody makes up, and whose tasks a node does well, do not push out what
// an honest one holds against it.
func TestStreaksPushNobodyOut(t *testing.T) {
	s := New(testRules())
	s.addStanding(Standing{Node: peer("n"), Issuer: peer("alice"), Bad: standingWrong, At: day})
	for i := range 2 * maxIssuers {
		s.addStanding(Standing{Node: peer("n"), Issuer: peer(fmt.Sprint("made up ", i)), Streak: 100 * standingOne, At: day})
	}
	s.addStanding(Standing{Node: peer("n"), Issuer: peer("bob"), Bad: standingOne, At: day})
	if n := s.Name(peer("n"), day); n.Bad != standingMost+standingOne || n.Issuers != maxIssuers {
		t.Errorf("%+v", n)
	}
}
