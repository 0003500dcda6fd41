package model

import "testing"

// TestALeaderFreezes: one that stops for half a second keeps its cell and what came
// meanwhile waits; one that stops for long loses it, and nothing is lost with it.
func TestALeaderFreezes(t *testing.T) {
	calm := figures(run(t, mesh, 3))
	short := figures(run(t, mesh+"faults: [{at: 10s, for: 800ms, freeze: leaders}]\n", 3))
	if short["elections"] != 0 || short["success"] != 100 || short["placement_p99"] < calm["placement_p99"]+300 {
		t.Errorf("800 ms: %g elections, %g %% succeed, p99 %g ms beside %g", short["elections"], short["success"], short["placement_p99"], calm["placement_p99"])
	}
	long := figures(run(t, mesh+"faults: [{at: 10s, for: 6s, freeze: leaders}]\n", 3))
	if long["elections"] != 4 || long["success"] != 100 || long["placement_p99"] < 2000 || long["placement_p99"] > 9000 {
		t.Errorf("6 s: %g elections, %g %% succeed, p99 %g ms", long["elections"], long["success"], long["placement_p99"])
	}
	part := figures(run(t, mesh+"faults: [{at: 10s, for: 6s, freeze: leaders, share: 1%}]\n", 3))
	if part["elections"] >= 4 {
		t.Errorf("%g of 4 leaders are one in a hundred", part["elections"])
	}
}
