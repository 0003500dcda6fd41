package model

import (
	"fmt"
	"math"
	"testing"

	"github.com/perrin-mesh/perrin/simulations/chance"
	"github.com/perrin-mesh/perrin/simulations/scenario"
)

// drawScenario is a small scenario of any kind, from a seed.
func drawScenario(seed uint64) string {
	s := chance.Seed(seed).Stream(0, 0)
	pick := func(of ...string) string { return of[s.IntN(len(of))] }
	class := pick("core", "core", "thread")
	return fmt.Sprintf(`
duration: 20s
warmup: 2s
peers: %d
cell_size: %d
owners: 4
machines:
  - {cores: %d, threads: %d, price: {uniform: {from: 300, to: 1800}}, speed: {uniform: {from: 0.5, to: 1.5}}, slope: %d}
  - {cores: 2, share: 2, price: %d}
workloads:
  - {poisson: %d/s, tasks: %d, shape: {class: %s, cpus: %d}, service: {exponential: 2s, max: 10s}}
  - {poisson: 1/s, shape: {memory: 2GiB}, service: {lognormal: {median: 500ms, sigma: 1}, max: 10s}}
%s
`, 8+s.IntN(40), 8+s.IntN(16), 2+s.IntN(6), 1+s.IntN(2), s.IntN(6000), 400+s.IntN(1500), 1+s.IntN(8), 1+s.IntN(3), class, 1+s.IntN(2), pick(
		"", "churn: {session: {exponential: 20s}, absence: {exponential: 5s}}", "attackers: [{does: fail, share: 20%, below: 60%}]",
		"attackers: [{does: overcharge, share: 20%}]", "attackers: [{does: oversell, share: 30%, claims: 3}]", "faults: [{at: 4s, for: 5s, slow: 3}]"))
}

// TestNothingBeatsTheBound runs drawn scenarios under every policy: no work costs
// less than the bound says it can.
func TestNothingBeatsTheBound(t *testing.T) {
	measured, least := 0, math.Inf(1)
	for seed := range uint64(5) {
		text := drawScenario(seed)
		for _, name := range scenario.Policies[:len(scenario.Policies)-1] {
			w := run(t, text+"policy: "+name+"\n", seed)
			if w.Err() != nil {
				t.Fatalf("seed %d, %s: %v", seed, name, w.Err())
			}
			paid, bound := w.costs()
			if math.IsNaN(paid) {
				continue
			}
			measured++
			least = min(least, paid/bound)
			if paid < bound || bound <= 0 {
				t.Errorf("seed %d, %s: a second of work cost %g µcr, and the bound is %g\n%s", seed, name, paid, bound, text)
			}
		}
	}
	if measured < 40 || least > 3 {
		t.Errorf("%d runs were measured, the nearest at %g times the bound", measured, least)
	}
}

// TestLeast compares the bound with a solution by hand: 10 peers with 4 cores at
// 500 µcr/s of a core and speed 1, 10 with 2 cores at 900 and speed 2.
func TestLeast(t *testing.T) {
	w := world(t, `
duration: 12s
warmup: 2s
peers: 20
machines: [{name: a, cores: 4, threads: 1, memory: 4GiB, price: 500}, {name: b, cores: 2, threads: 1, price: 900, speed: 2}]
workloads: [{poisson: 1/s, service: 1s, shape: {cpus: 2, memory: 1MiB}}]
`, 1)
	a := 0
	for i := range w.peers {
		if w.peers[i].class == 0 {
			a++
		}
	}
	b := 20 - a
	// A slot of two cores, and 1 µcr/s for memory, is (2 x 900 + 1) / 2 = 900.5 µcr a
	// second of work on b, 2 x 500 + 1 on a; b does 1 slot x 2 x 10 s = 20 s of work.
	for _, seconds := range []float64{1, float64(20 * b), float64(20*b) + 30} {
		w.done.service[0] = seconds * 1e9
		want := 900.5*min(seconds, float64(20*b)) + 1001*max(0, seconds-float64(20*b))
		if got := w.least(0); a < 2 || b < 2 || math.Abs(got-want) > 1e-6*want {
			t.Errorf("%g s of work cost %g µcr at least, by hand %g", seconds, got, want)
		}
	}
	if w.done.service[0] = 1e15; !math.IsInf(w.least(0), 1) {
		t.Errorf("more than the mesh can do costs %g", w.least(0))
	}
}

// TestBoundIsReached has machines that are all alike and cost the same however busy:
// there the bound is what work costs.
func TestBoundIsReached(t *testing.T) {
	w := run(t, `
duration: 20s
peers: 20
machines: [{cores: 4, price: 800, slope: 0}]
workloads: [{poisson: 8/s, service: 2s}]
`, 1)
	if paid, bound := w.costs(); paid < bound || paid > 1.005*bound {
		t.Errorf("a second of work cost %g µcr, and the bound is %g", paid, bound)
	}
}

// TestFairness has Jain's index by hand.
func TestFairness(t *testing.T) {
	w := &World{}
	w.owners = []ownerTime{{1, 1}, {1, 2}, {}, {3, 12}} // x = 1, 0.5, 0.25
	if got, want := w.fairness(), 1.75*1.75/(3*(1+0.25+0.0625)); math.Abs(got-want) > 1e-12 {
		t.Errorf("fairness is %g, by hand %g", got, want)
	}
}

// TestEnergy has one machine idle for most of the time: 10 s at 20 W, and 4 tasks of
// 1 s each on one thread of two that take 30 W more together.
func TestEnergy(t *testing.T) {
	w := run(t, `
duration: 10s
peers: 1
machines: [{cores: 2, threads: 1, price: 1, watts: {idle: 20, busy: 50}}]
network: {regions: [{name: a}], rtt: [[0s]], access: 0s, jitter: 0%, loss: 0%}
start: 1us
workloads: [{clients: 1, think: 1s, service: 1s, shape: {memory: 1MiB}}]
`, 1)
	f := figures(w)
	if n := f["succeeded"]; n < 3 || n > 6 || f["energy"] < (200+14*n)/n || f["energy"] > (200+16*(n+1))/n {
		t.Errorf("%v workloads took %v J each", n, f["energy"])
	}
	if f["cores_used"] != f["utilisation"] || f["cores_used"] < 15 || f["cores_used"] > 30 {
		t.Errorf("%v %% of the cores and %v %% of the threads are used", f["cores_used"], f["utilisation"])
	}
}

// TestRecovery loses a region with running tasks: they run again when their leases
// are over, within the TTL of 9 s, a guard of 1 s and a placement.
func TestRecovery(t *testing.T) {
	w := run(t, `
duration: 40s
peers: 40
cell_size: 40
machines: [{cores: 4}]
workloads: [{poisson: 8/s, service: 4s}]
churn: {departures: [{at: 15s, share: 50%}]}
`, 3)
	f := figures(w)
	if w.recovery.N() < 5 || f["recovery_p50"] < 2000 || f["recovery_p99"] > 15_000 {
		t.Errorf("%d tasks recovered, %v attempts were lost, p50 %v ms, p99 %v ms", w.recovery.N(), f["lost_attempts"], f["recovery_p50"], f["recovery_p99"])
	}
	if len(w.lost) > 2 {
		t.Errorf("%d tasks are lost and never ran again", len(w.lost))
	}
}
