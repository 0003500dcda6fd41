package model

import (
	"strings"
	"testing"
)

// TestVerifyingFindsLiars has a fifth of the peers return wrong results. The ledger's
// own votes let none through where they do not agree with each other, and few where
// they do; who differs is not paid.
func TestVerifyingFindsLiars(t *testing.T) {
	lying := func(attacker, verify string) map[string]float64 {
		text := strings.Replace(mesh, "workloads: [{", "workloads: [{"+verify, 1)
		return figures(run(t, text+"attackers: [{share: 20%, below: 0%, does: lie, "+attacker+"}]\n", 4))
	}
	plain := lying("together: false", "")
	if plain["wrong"] < 8 || plain["paid_to_attackers"] < 8 || plain["success"] != 100 {
		t.Errorf("without a check %.1f %% of the results are wrong, and liars are paid %.1f %%", plain["wrong"], plain["paid_to_attackers"])
	}
	apart := lying("together: false", "verify_by: 2of3, ")
	if apart["wrong"] != 0 || apart["paid_to_attackers"] > plain["paid_to_attackers"]/2 || apart["succeeded"] < 100 {
		t.Errorf("each with its own lie: %.1f %% wrong, %.1f %% paid, %v succeeded", apart["wrong"], apart["paid_to_attackers"], apart["succeeded"])
	}
	together := lying("together: true", "verify_by: 2of3, ")
	if together["wrong"] == 0 || together["wrong"] >= plain["wrong"] {
		t.Errorf("with one lie %.1f %% of the results are wrong, %.1f without a check", together["wrong"], plain["wrong"])
	}
}

// TestVerifiedWorkKeepsTheRules runs checked work of many tasks where much breaks.
func TestVerifiedWorkKeepsTheRules(t *testing.T) {
	text := strings.ReplaceAll(storm, "tasks: 20,", "tasks: 20, verify_by: 2of3,")
	text = strings.Replace(text, "attackers: [", "attackers: [{does: lie, share: 8%}, {does: sybil, share: 8%}, {does: collude, share: 8%}, {does: forge, share: 8%}, {does: free-ride, share: 8%}, ", 1)
	for seed := range uint64(3) {
		if f := figures(run(t, text, seed)); f["succeeded"] == 0 {
			t.Errorf("seed %d: nothing succeeded", seed)
		}
	}
}

// TestSybils has a quarter of the peers be names of a few machines: what they sold
// four times runs slower, and nobody is paid for more than the time.
func TestSybils(t *testing.T) {
	honest := figures(run(t, mesh, 9))
	w := run(t, mesh+"attackers: [{does: sybil, share: 25%, identities: 8}]\n", 9)
	f := figures(w)
	if len(w.sybils) == 0 || f["to_attackers"] < 25 || f["slowdown_p99"] <= honest["slowdown_p99"] || f["success"] != 100 {
		t.Errorf("%d machines get %.0f %% of the slots; the slow-down is %.2f, %.2f without them", len(w.sybils), f["to_attackers"], f["slowdown_p99"], honest["slowdown_p99"])
	}
	// Their names cannot outvote others where their operator is known.
	votes := func(known string) float64 {
		text := strings.Replace(mesh, "workloads: [{", "workloads: [{verify_by: 2of3, ", 1)
		w := run(t, text+"attackers: [{does: sybil, share: 40%, identities: 64, known: "+known+"}]\n", 9)
		twice := 0.0
		for i := range w.loads {
			task, _ := w.cells[w.loads[i].cell].state.Task(w.loads[i].id, 0)
			of := 0
			for _, v := range task.Votes {
				if w.peers[indexOf(v.Node)].sybil > 0 {
					of++
				}
			}
			if of > 1 {
				twice++
			}
		}
		return twice
	}
	if hidden, known := votes("false"), votes("true"); hidden == 0 || known >= hidden/2 {
		t.Errorf("two names of a machine check each other %.0f times, %.0f where their operator is known", hidden, known)
	}
}

// TestLeadersThatCheat has leaders leave honest offers out, which nobody can tell, and
// forge awards, which every ledger refuses.
func TestLeadersThatCheat(t *testing.T) {
	honest := figures(run(t, mesh, 9))
	collude := figures(run(t, mesh+"attackers: [{does: collude, share: 30%, above: 20%}]\n", 9))
	if collude["omitted_offers"] == 0 || collude["price_mean"] <= honest["price_mean"] || collude["success"] != 100 {
		t.Errorf("%v offers are left out; the price is %.0f, %.0f without", collude["omitted_offers"], collude["price_mean"], honest["price_mean"])
	}
	w := run(t, mesh+"attackers: [{does: forge, share: 30%}]\n", 9)
	f := figures(w)
	if w.forged == 0 || f["rejected"] < 0.9*float64(w.forged) { // some are on their way at the end
		t.Errorf("%d awards are forged, %v refused", w.forged, f["rejected"])
	}
}

// TestFreeRiders has peers submit and sell nothing: the rest has less room.
func TestFreeRiders(t *testing.T) {
	honest := figures(run(t, mesh, 9))
	f := figures(run(t, mesh+"attackers: [{does: free-ride, share: 50%}]\n", 9))
	if f["free_riders"] < 30 || f["to_attackers"] != 0 || f["price_mean"] <= honest["price_mean"] || f["success"] != 100 {
		t.Errorf("%.0f %% of the work is of free riders, %v %% runs on them; the price is %.0f, %.0f without them",
			f["free_riders"], f["to_attackers"], f["price_mean"], honest["price_mean"])
	}
}
