package model

import (
	"math"
	"strings"
	"testing"

	"github.com/perrin-mesh/perrin/scheduler/pricing"
	"github.com/perrin-mesh/perrin/simulations/scenario"
)

// one is a peer of one core of two threads, and an owner with tasks of a second.
const one = `
duration: 200s
peers: 1
owners: 1
network: {regions: [{name: one}], rtt: [[0s]], access: 0, jitter: 0%, loss: 0%}
costs: {verify: 0s, sign: 0s, message: 0s, fsync: 0}
start: 0
machines: [{cores: 1}]
workloads: [{clients: 1, think: 1s, tasks: 2, service: 10s, shape: {class: thread}}]
`

// TestThreadsSlowEachOther computes by hand what two tasks on one core take.
func TestThreadsSlowEachOther(t *testing.T) {
	for _, c := range []struct {
		from, to string
		want     float64 // s
	}{
		{"class: thread", "class: thread", 10 * 2 / 1.25}, // the product's figure
		{"cores: 1", "cores: 1, smt: 1.6", 10 * 2 / 1.6},
		{"cores: 1", "cores: 2", 16},             // the product puts an owner's threads on one core
		{"cores: 1", "cores: 1, threads: 1", 20}, // one after the other
		{"class: thread", "class: core", 20},
		{"cores: 1", "cores: 1, threads: 4, smt: 2.2", 10 / (1.4 / 2)}, // two of four threads: 1.4 times one
	} {
		f := figures(run(t, strings.Replace(one, c.from, c.to, 1), 1))
		if got := 10 * f["slowdown_p50"]; math.Abs(got-c.want) > 0.02*c.want+0.1 {
			t.Errorf("%s: two tasks of 10 s take %.2f s, by hand %.2f", c.to, got, c.want)
		}
	}
}

// TestATaskThatIsLeftAloneIsFaster has one task end before the other.
func TestATaskThatIsLeftAloneIsFaster(t *testing.T) {
	w := run(t, strings.Replace(one, "workloads: [{clients: 1, think: 1s, tasks: 2, service: 10s, shape: {class: thread}}]",
		"workloads: [{clients: 1, think: 900s, service: 4s, shape: {class: thread}}, {clients: 1, think: 900s, service: 10s, shape: {class: thread}}]", 1), 5)
	var ends [2]float64
	var begins [2]float64
	for l := range w.Workloads() {
		k := 0
		if l.Stream == "workload-2" {
			k = 1
		}
		begins[k], ends[k] = float64(l.Began)/1e9, float64(l.Ended)/1e9
	}
	over := func(k int) float64 { return max(0, min(ends[0], ends[1])-max(begins[0], begins[1])) }
	for k, alone := range []float64{4, 10} {
		if ends[k] == 0 {
			continue // it came too late
		}
		want := alone + over(k)*(1-1.25/2)
		if got := ends[k] - begins[k]; math.Abs(got-want) > 0.2 {
			t.Errorf("the task of %g s takes %.2f s, by hand %.2f: they shared the core for %.2f s", alone, got, want, over(k))
		}
	}
}

// TestThePriceIsTheProducts wants the figure that tasks run by to be that which
// the product prices threads by.
func TestThePriceIsTheProducts(t *testing.T) {
	m := scenario.Machine{Threads: 2}
	if want := pricing.Default().SMT; smt(&m) != want || 2*perThread(&m, 2) != want {
		t.Errorf("two threads run at %d together, the product sells them as %d", 2*perThread(&m, 2), want)
	}
	w := world(t, strings.Replace(one, "cores: 1", "cores: 1, smt: 1.6", 1), 1)
	if got := w.prices(&w.peers[0]).SMT; got != 1600 {
		t.Errorf("the node prices its threads by %d", got)
	}
}

const lending = `
duration: 80s
peers: 40
cell_size: 20
owners: 3
machines: [{cores: 2}]
workloads:
  - {name: reserved, poisson: 5/s, service: {lognormal: {median: 5s, sigma: 0.6}, max: 40s}, bursts: [{at: 30s, for: 15s, times: 3}]}
  - {name: batch, clients: 4, think: 1s, tasks: 30, service: 4s, shape: {class: spare}}
`

// TestSpareWorkGivesWay wants idle time to be used, reserved work not to feel it,
// and spare work to pay less and lose no task.
func TestSpareWorkGivesWay(t *testing.T) {
	alone, _, _ := strings.Cut(lending, "  - {name: batch")
	without, w := figures(run(t, alone, 3)), run(t, lending, 3)
	with := figures(w)
	if with["lent"] < 5 || with["preempted"] == 0 || with["success"] != 100 {
		t.Errorf("%g %% of all threads are lent, %g slots gave way, success %g %%", with["lent"], with["preempted"], with["success"])
	}
	if math.Abs(with["utilisation"]-without["utilisation"]) > 0.05*without["utilisation"] {
		t.Errorf("reserved work uses %g %% beside spare work, %g %% alone", with["utilisation"], without["utilisation"])
	}
	paid := map[string]float64{}
	ended := map[string]float64{}
	for l := range w.Workloads() {
		if l.Ended > 0 {
			paid[l.Stream] += float64(l.Paid) / float64(l.Tasks)
			ended[l.Stream]++
		}
	}
	if ended["batch"] == 0 || paid["batch"]/ended["batch"] > 0.5*paid["reserved"]/ended["reserved"] {
		t.Errorf("a spare task pays %g, a reserved one %g", paid["batch"]/ended["batch"], paid["reserved"]/ended["reserved"])
	}
}
