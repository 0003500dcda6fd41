package ledger

import (
	"errors"
	"strings"
	"testing"

	"github.com/perrin-mesh/perrin/workload"
)

// testLinks are what the tokens of these tests bound, by the author of the link.
var testLinks = map[workload.PeerID]workload.TokenLimits{
	peer("alice"): {MaxPrice: 500, CPUs: 4, Memory: 1 << 30, Tasks: 6, Credits: 1000},
	peer("bob"):   {CPUs: 2},
}

// openTestToken takes every token as good whose links are known.
func openTestToken(_ workload.MeshID, token []workload.Signed, holder workload.PeerID, _ int64) (payer workload.PeerID, links []workload.TokenLink, err error) {
	for _, s := range token {
		limits, ok := testLinks[s.By]
		if !ok {
			return payer, nil, errors.New("made up")
		}
		links = append(links, workload.TokenLink{ID: workload.DigestOf(s.By[:]), Limits: limits, Expires: 1_000_000})
	}
	return token[0].By, links, nil
}

func newTokenWorld(t *testing.T) *world {
	rules := testRules()
	rules.OpenToken = openTestToken
	w := &world{State: New(rules)}
	w.found(t, "n1")
	return w
}

func (w *world) acceptUnder(name string, links []string, edit func(*workload.Spec)) Result {
	signed := signedSpec("guest", name, edit)
	var token []workload.Signed
	for _, by := range links {
		token = append(token, workload.Signed{By: peer(by)})
	}
	return w.apply(func(c *Command) {
		c.Accept = &Accept{ID: loadID(name), Spec: signed, Home: peer("guest"), Token: token}
	})
}

func shape(price int64, cpus int32, tasks uint32) func(*workload.Spec) {
	return func(s *workload.Spec) {
		s.MaxPrice, s.Resources.CPUs, s.Tasks.Count, s.Resources.Memory = price, cpus, tasks, 1<<20
	}
}

func TestATokenBoundsWhatIsSubmittedUnderIt(t *testing.T) {
	w := newTokenWorld(t)
	refused := func(name string, links []string, edit func(*workload.Spec), says string) {
		t.Helper()
		r := w.acceptUnder(name, links, edit)
		if r.Reject == nil || r.Reject.Code != OverQuota && r.Reject.Code != BadToken || !strings.Contains(r.Reject.Detail, says) {
			t.Errorf("%s: %v, want %q", name, r.Reject, says)
		}
	}
	both := []string{"alice", "bob"}
	refused("no price", both, shape(0, 1, 1), "max-price")
	refused("dear", both, shape(501, 1, 1), "max-price")
	refused("made up", []string{"mallory"}, shape(1, 1, 1), "made up")
	refused("wide", both, shape(500, 3, 1), "cpus")
	refused("many", both[:1], func(s *workload.Spec) { shape(500, 1, 7)(s); s.MaxParallel = 1 }, "tasks")
	refused("large", both[:1], func(s *workload.Spec) { shape(500, 1, 2)(s); s.Resources.Memory = 600 << 20 }, "memory")
	if r := w.acceptUnder("first", both, shape(500, 2, 1)); r.Reject != nil {
		t.Fatal(r.Reject)
	}
	refused("second", both, shape(500, 1, 1), "cpus") // of bob's link
	if r := w.acceptUnder("beside", both[:1], shape(500, 2, 1)); r.Reject != nil {
		t.Error(r.Reject)
	}
	refused("third", both[:1], shape(500, 1, 1), "cpus") // bob's counts for alice's
	v, _ := w.Workload(loadID("first"))
	if v.Payer != peer("alice") || v.Owner != peer("guest") {
		t.Errorf("paid by %s, of %s", peerName(v.Payer), peerName(v.Owner))
	}
	w.apply(func(c *Command) { c.Stop = &Stop{ID: loadID("first")} })
	if r := w.acceptUnder("second", both, shape(500, 2, 1)); r.Reject != nil {
		t.Errorf("after the first has ended: %v", r.Reject)
	}
	again, err := Restore(w.rules, reencode(t, w.Snapshot()))
	if err != nil || again.Hash() != w.Hash() {
		t.Fatalf("after a restart: %v", err)
	}
	w.State = again
	refused("fourth", both[:1], shape(500, 1, 1), "cpus")
}

func TestATokensCreditsAreSpentOnceAndForAll(t *testing.T) {
	w := newTokenWorld(t)
	if r := w.acceptUnder("job", []string{"alice"}, func(s *workload.Spec) { shape(500, 1, 3)(s); s.MaxParallel = 1 }); r.Reject != nil {
		t.Fatal(r.Reject)
	}
	award := w.apply(func(c *Command) {
		c.Award = awardTo(loadID("job"), 1, 1, 500, "n1")
		c.Award.MaxPrice = 500
	})
	if award.Reject != nil {
		t.Fatal(award.Reject)
	}
	done := func(n uint32) Result {
		sl := award.Slots[0]
		w.at += 1000
		return w.apply(func(c *Command) {
			c.Close = &Close{Workload: loadID("job"), Slot: sl.Slot, Fence: sl.Fence, Done: []workload.Range{{From: n, Count: 1, Attempt: 1}},
				Segment: segmentRef(uint64(n)), Usage: workload.Usage{WallMs: 1000}}
		})
	}
	if r := done(0); r.Reject != nil || r.Charged != 500 || r.Phase.Ended() {
		t.Fatalf("%+v", r)
	}
	w.apply(func(c *Command) {
		c.Take = &Take{Workload: loadID("job"), Slot: award.Slots[0].Slot, Fence: award.Slots[0].Fence, Count: 1, Seq: 1}
	})
	if r := done(1); r.Reject != nil || r.Phase != workload.Stopped {
		t.Errorf("with its credits spent: %+v, %v", r, r.Reject)
	}
	v, _ := w.Workload(loadID("job"))
	if !strings.Contains(v.Reason, "credits are spent") || w.accounts[peer("alice")].Spent != 1000 || w.accounts[peer("guest")].Spent != 0 {
		t.Errorf("%q; alice paid %d, the guest %d", v.Reason, w.accounts[peer("alice")].Spent, w.accounts[peer("guest")].Spent)
	}
	again, err := Restore(w.rules, reencode(t, w.Snapshot()))
	if err != nil {
		t.Fatal(err)
	}
	w.State = again
	if r := w.acceptUnder("more", []string{"alice"}, shape(500, 1, 1)); r.Reject == nil || r.Reject.Code != OverQuota {
		t.Errorf("after they are spent: %v", r.Reject)
	}
}

// TestATokenHasWeight: what the ledger keeps of a token counts against its bound.
func TestATokenHasWeight(t *testing.T) {
	w := newTokenWorld(t)
	weight := func(name string, links ...string) int64 {
		before := w.bytes
		if r := w.acceptUnder(name, links, shape(1, 1, 1)); r.Reject != nil {
			t.Fatal(r.Reject)
		}
		return w.bytes - before
	}
	plain, one, two := weight("job0"), weight("job1", "alice"), weight("job2", "alice", "bob")
	if one <= plain || two <= one {
		t.Errorf("%d bytes without a token, %d with a link, %d with two", plain, one, two)
	}
}
