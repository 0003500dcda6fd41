package ledger

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/perrin-mesh/perrin/workload"
)

// proving are rules that read proofs as these tests encode them.
func proving() Rules {
	r := testRules()
	r.OpenProved = func(s workload.Signed) (p workload.Proved, err error) {
		if string(s.Sig) != "good" {
			return p, errors.New("forged")
		}
		return p, json.Unmarshal(s.Payload, &p)
	}
	return r
}

// TestAwardNeedsProof: work that requires a level is awarded only with the leader's
// word, for each winner, of what proved it.
func TestAwardNeedsProof(t *testing.T) {
	proof := func(a *Award, node string, change func(*workload.Proved)) {
		p := workload.Proved{Workload: a.Workload, Auction: a.Auction, Node: peer(node), By: peer("leader"), Level: workload.LevelTPM, Evidence: workload.Digest{1}, At: 5, Used: 6}
		change(&p)
		payload, err := json.Marshal(p) // without the auction, which has no text form
		if err != nil {
			t.Fatal(err)
		}
		a.Proofs = append(a.Proofs, workload.Signed{Payload: payload, By: p.By, Sig: []byte("good")})
	}
	as := func(*workload.Proved) {}
	for name, tt := range map[string]struct {
		prove func(*Award)
		code  Code
	}{
		"both": {func(a *Award) { proof(a, "ann", as); proof(a, "bob", as) }, ""},
		"none": {func(*Award) {}, NotProved},
		"one":  {func(a *Award) { proof(a, "ann", as) }, NotProved},
		"a lower one": {func(a *Award) {
			proof(a, "ann", as)
			proof(a, "bob", func(p *workload.Proved) { p.Level = workload.LevelNone })
		}, NotProved},
		"another's": {func(a *Award) { proof(a, "ann", as); proof(a, "eve", as) }, NotProved},
		"of other work": {func(a *Award) {
			proof(a, "ann", as)
			proof(a, "bob", func(p *workload.Proved) { p.Workload = loadID("other") })
		}, NotProved},
		"signed by another": {func(a *Award) {
			proof(a, "ann", as)
			proof(a, "bob", func(p *workload.Proved) { p.By = peer("bob") })
		}, NotProved},
		"forged": {func(a *Award) { proof(a, "ann", as); proof(a, "bob", as); a.Proofs[1].Sig = []byte("x") }, NotProved},
	} {
		w := &world{State: New(proving())}
		w.found(t, "ann", "bob")
		w.accept("job", "owner", func(s *workload.Spec) {
			s.Tasks.Count = 4
			s.Require = &workload.Require{Level: workload.LevelTPM, MaxAge: 1000}
		})
		a := awardTo(loadID("job"), 1, 1, 10, "ann", "bob")
		a.Auction = workload.AuctionID{}
		tt.prove(a)
		r := w.apply(func(c *Command) { c.Award = a })
		switch {
		case tt.code == "" && (r.Reject != nil || len(r.Slots) != 2):
			t.Errorf("%s: %v", name, r.Reject)
		case tt.code != "" && (r.Reject == nil || r.Reject.Code != tt.code):
			t.Errorf("%s: %v, want %s", name, r.Reject, tt.code)
		case tt.code == "":
			if p, _ := w.Proof(loadID("job")); len(p.Auctions) != 1 || len(p.Auctions[0].Proofs) != 2 {
				t.Errorf("%s: kept %+v", name, p.Auctions)
			}
		}
	}
}

// TestAwardNeedsCountersignatures: where the owner asks for it, and there alone.
func TestAwardNeedsCountersignatures(t *testing.T) {
	r := testRules()
	r.Countersigned = func(cell workload.CellID, a *Award) error {
		if cell != testCell || len(a.Countersigned) < 2 {
			return errors.New("no majority")
		}
		return nil
	}
	for _, tt := range []struct {
		asked bool
		sigs  int
		code  Code
	}{{true, 2, ""}, {true, 1, NotCountersigned}, {false, 0, ""}} {
		w := &world{State: New(r)}
		w.found(t, "ann")
		w.accept("job", "owner", func(s *workload.Spec) { s.Countersign = tt.asked })
		a := awardTo(loadID("job"), 1, 1, 10, "ann")
		a.Countersigned = make([]workload.Signed, tt.sigs)
		got := Code("")
		if res := w.apply(func(c *Command) { c.Award = a }); res.Reject != nil {
			got = res.Reject.Code
		}
		if got != tt.code {
			t.Errorf("%+v: %q", tt, got)
		}
	}
}
