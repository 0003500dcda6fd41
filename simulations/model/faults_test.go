package model

import (
	"errors"
	"strings"
	"testing"
)

// mesh is a world of two places on which faults and attackers are tried.
const mesh = `
duration: 30s
peers: 60
cell_size: 15
machines: [{cores: 4}]
network: {regions: [{name: east, share: 2}, {name: west}], rtt: [[4ms, 60ms], [60ms, 4ms]]}
workloads: [{poisson: 15/s, service: {lognormal: {median: 800ms, sigma: 0.5}, max: 10s}}]
`

// upAt counts the peers of a region that are there at a time.
func upAt(t *testing.T, w *World, at int64, region int32) (up, all int) {
	t.Helper()
	for {
		if next, more := w.Next(); !more || next.At > at {
			break
		}
		w.Step()
	}
	for i := range w.peers {
		if w.peers[i].region == region {
			all++
			if w.peers[i].up {
				up++
			}
		}
	}
	return up, all
}

const second = 1000 * millisecond

func TestARegionIsLostAndComesBack(t *testing.T) {
	w := world(t, mesh+"faults: [{at: 10s, for: 8s, crash: peers, regions: [west]}]\n", 3)
	if up, all := upAt(t, w, 9*second, 1); up != all || all == 0 {
		t.Fatalf("%d of %d are up before", up, all)
	}
	if up, _ := upAt(t, w, 11*second, 1); up != 0 {
		t.Errorf("%d are up in the region that is lost", up)
	}
	if up, all := upAt(t, w, 19*second, 1); up != all {
		t.Errorf("%d of %d are back", up, all)
	}
	if up, all := upAt(t, w, 12*second, 0); up != all {
		t.Errorf("%d of %d are up elsewhere", up, all)
	}
	for w.Step() {
	}
	if f := figures(w); w.Err() != nil || f["lost_attempts"] == 0 || f["expired_leases"] == 0 {
		t.Errorf("%v: %v", w.Err(), f)
	}
}

// TestACutHeals wants nobody to run anything twice or lose it while regions are
// parted, and all to go on after.
func TestACutHeals(t *testing.T) {
	elections := 0.0
	for seed, way := range []string{"", ", one_way: true", "", ", one_way: true"} {
		w := world(t, mesh+"faults: [{at: 5s, for: 12s, cut: [east]"+way+"}]\n", uint64(seed))
		upAt(t, w, 14*second, 1)
		n := len(w.sc.Network.Regions)
		if there, back := w.weather.cuts[1], w.weather.cuts[n]; there != 1 || (back == 1) != (way == "") {
			t.Errorf("%q: from the region %d, to it %d", way, there, back)
		}
		for w.Step() {
		}
		f := figures(w)
		if w.Err() != nil || f["lost_messages"] == 0 || f["success"] != 100 {
			t.Errorf("%q: %v: %v", way, w.Err(), f)
		}
		if w.weather.cuts[n] != 0 || w.weather.cuts[1] != 0 {
			t.Errorf("%q: the cut does not heal", way)
		}
		for i := range w.cells {
			if w.cells[i].leader < 0 {
				t.Errorf("%q: cell %d has no leader at the end", way, i)
			}
		}
		elections += f["elections"]
	}
	if elections == 0 {
		t.Error("no cell has another leader")
	}
}

// TestFaultsAreFelt compares each fault with the same world without it.
func TestFaultsAreFelt(t *testing.T) {
	calm := figures(run(t, mesh, 5))
	for _, c := range []struct{ fault, figure string }{
		{"crash: leaders", "elections"},
		{"crash: voters, share: 60%", "elections"},
		{"slow: 10, share: 50%", "slowdown_p99"},
		{"disk: 500", "ack_p99"},
		{"loss: 30%", "ack_p99"},
		{"loss: 30%, regions: [west]", "ack_p99"},
	} {
		text := mesh + "faults: [{at: 5s, for: 20s, " + c.fault + "}]\n"
		f := figures(run(t, text, 5))
		if f[c.figure] <= 1.1*calm[c.figure] {
			t.Errorf("%s: %s is %g, without it %g", c.fault, c.figure, f[c.figure], calm[c.figure])
		}
	}
}

// TestFaultsEnd wants what makes a world slow to be over when it is over.
func TestFaultsEnd(t *testing.T) {
	w := run(t, mesh+"faults: [{at: 2s, for: 3s, slow: 10}, {at: 3s, for: 3s, disk: 5, share: 50%}, {at: 4s, for: 3s, loss: 10%}]\n", 6)
	for i := range w.peers {
		if p := &w.peers[i]; p.slow != 0 || p.disk != 0 {
			t.Fatalf("peer %d stays slow", i)
		}
	}
	for r, loss := range w.weather.loss {
		if loss != 0 {
			t.Errorf("region %d stays lossy", r)
		}
	}
}

// TestPoliciesSeeTheSameFaults wants the same peers to be hit whoever decides.
func TestPoliciesSeeTheSameFaults(t *testing.T) {
	var want string
	for _, policy := range []string{"perrin", "random", "omega"} {
		w := world(t, mesh+"policy: "+policy+"\nfaults: [{at: 5s, for: 20s, crash: peers, share: 30%}, {at: 5s, slow: 4, share: 20%}]\nattackers: [{does: fail, share: 20%}]\n", 8)
		upAt(t, w, 6*second, 0)
		var got strings.Builder
		for i := range w.peers {
			p := &w.peers[i]
			got.WriteByte("DUdu"[b2i(p.up)|b2i(p.slow > 0)<<1])
			got.WriteByte("-a"[p.attack])
		}
		if want == "" {
			want = got.String()
		}
		if got.String() != want || !strings.ContainsAny(want, "D") || !strings.Contains(want, "a") || !strings.Contains(want, "u") {
			t.Errorf("%s: %s, want %s", policy, got.String(), want)
		}
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// TestWhatTheRulesDoAboutAttackers holds what the product's rules make of each
// attack, the good and the bad.
func TestWhatTheRulesDoAboutAttackers(t *testing.T) {
	honest := figures(run(t, mesh, 9))
	attacked := func(who string) (*World, map[string]float64) {
		w := run(t, mesh+"attackers: [{"+who+", share: 25%}]\n", 9)
		return w, figures(w)
	}
	for _, who := range []string{"does: refuse", "does: fail", "does: vanish"} {
		if _, f := attacked(who); f["to_attackers"] < 5 || f["paid_to_attackers"] != 0 || f["success"] != 100 || f["slowdown_p99"] <= honest["slowdown_p99"] {
			t.Errorf("%s: it wins %g %% of the slots and is paid %g %%, success %g %%, slow-down %g against %g",
				who, f["to_attackers"], f["paid_to_attackers"], f["success"], f["slowdown_p99"], honest["slowdown_p99"])
		}
	}
	// Who refuses or vanishes is found out at once, or when its lease is over.
	if _, f := attacked("does: vanish"); f["expired_leases"] == 0 {
		t.Error("nobody gives up the nodes that vanish")
	}
	// Who renews its lease and returns nothing keeps its tasks for a while.
	if w, f := attacked("does: withhold"); f["unfinished"] <= honest["unfinished"] || stuck(w) == 0 {
		t.Errorf("%g workloads are unfinished, %g without attackers; %d slots are kept", f["unfinished"], honest["unfinished"], stuck(w))
	}
	if _, f := attacked("does: oversell, claims: 16"); f["to_attackers"] < 50 || f["success"] != 100 {
		t.Errorf("who oversells gets %g %% of the slots", f["to_attackers"])
	}
	// A node's word for its time counts for no more than the time that it held the
	// slot: who says "all the time allowed" (ten minutes for some 0.9 s of work) gets
	// what it asks for the waiting in between too, and no more than others would get.
	honestly := run(t, mesh, 9).charged
	if w, f := attacked("does: overcharge"); w.charged > honestly*3/2 || f["success"] != 100 {
		t.Errorf("where some overcharge, %d micro-credits are paid for what costs %d among honest nodes", w.charged, honestly)
	}
}

// TestWithholdersAreGivenUp: a node that returns nothing has its tasks for their
// timeout and an hour, and a lease to end.
func TestWithholdersAreGivenUp(t *testing.T) {
	w := run(t, `
duration: 2h
peers: 30
cell_size: 15
machines: [{cores: 4}]
workloads: [{poisson: 0.01/s, timeout: 60s, service: {lognormal: {median: 8s, sigma: 0.5}, max: 50s}}]
attackers: [{does: withhold, share: 25%}]
`, 9)
	f := figures(w)
	if f["succeeded"] == 0 || f["expired_leases"] == 0 || stuck(w) == 0 {
		t.Errorf("%g workloads succeed, %g leases end, %d slots are kept", f["succeeded"], f["expired_leases"], stuck(w))
	}
	for i := range w.peers {
		p := &w.peers[i]
		for _, c := range w.cells {
			if late := c.state.Overdue(p.id, ms(w.now)-30_000, 0); len(late) > 0 {
				t.Errorf("peer %d keeps %+v", i, late)
			}
		}
	}
}

// stuck counts the slots on attackers that began long ago and run nothing.
func stuck(w *World) (n int) {
	for i := range w.peers {
		for _, k := range w.peers[i].slots {
			if s := &w.slots[k]; w.peers[i].attack > 0 && !s.running && len(s.queue) > 0 {
				n++
			}
		}
	}
	return n
}

// TestBurst counts what comes in a burst and beside it.
func TestBurst(t *testing.T) {
	w := run(t, strings.Replace(mesh, "poisson: 15/s", "poisson: 15/s, bursts: [{at: 10s, for: 5s, times: 6}, {at: 20s, for: 5s, times: 0.01}]", 1), 2)
	var during, quiet, else1 int
	for i := range w.loads {
		switch at := w.loads[i].arrived; {
		case at >= 10*second && at < 15*second:
			during++
		case at >= 20*second && at < 25*second:
			quiet++
		default:
			else1++
		}
	}
	if during < 350 || during > 550 || quiet > 8 || else1 < 220 || else1 > 390 {
		t.Errorf("%d in the burst, of 450; %d in the lull; %d in the other 20 s, of 300", during, quiet, else1)
	}
}

// TestStorms runs worlds in which all goes wrong at once; the invariants are
// checked on the way.
func TestStorms(t *testing.T) {
	most := uint64(8)
	if testing.Short() {
		most = 2
	}
	for seed := range most {
		w := world(t, storm, seed)
		for w.Step() {
		}
		var v *Violation
		if errors.As(w.Err(), &v) {
			t.Errorf("seed %d: %v", seed, v)
		}
		if f := figures(w); f["succeeded"] == 0 {
			t.Errorf("seed %d: nothing succeeded", seed)
		}
	}
}

// TestTwiceAndOutOfOrder has every message arrive twice and late messages be overtaken:
// nothing runs twice or is lost, and all that is acknowledged ends.
func TestTwiceAndOutOfOrder(t *testing.T) {
	text := strings.Replace(busy, "cell_size: 15", "cell_size: 15\nfaults: [{at: 2s, duplicate: 100%}, {at: 3s, for: 30s, reorder: 900ms, regions: [a]}]", 1)
	for seed := range uint64(4) {
		f := figures(run(t, text, seed))
		if f["succeeded"] < 100 || f["doubled_messages"] < 1000 {
			t.Errorf("seed %d: %v succeeded, %v messages came twice", seed, f["succeeded"], f["doubled_messages"])
		}
	}
	f := figures(run(t, strings.Replace(open, "cell_size: 25", "cell_size: 25\nfaults: [{at: 0s, duplicate: 100%}]", 1), 1))
	if f["refused_awards"] != 0 || f["success"] != 100 {
		t.Errorf("%v awards that came twice were refused; %v %% succeeded", f["refused_awards"], f["success"])
	}
}
