package model

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/perrin-mesh/perrin/simulations/chance"
	"github.com/perrin-mesh/perrin/simulations/scenario"
)

var rewrite = flag.Bool("rewrite", false, "rewrite testdata/golden.txt")

func parse(t testing.TB, text string) *scenario.Scenario {
	t.Helper()
	s, err := scenario.Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func world(t testing.TB, text string, seed uint64) *World {
	t.Helper()
	w, err := New(parse(t, text), chance.Seed(seed))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func run(t testing.TB, text string, seed uint64) *World {
	t.Helper()
	w := world(t, text, seed)
	for w.Step() {
	}
	if err := w.Err(); err != nil {
		t.Fatal(err)
	}
	return w
}

func figures(w *World) map[string]float64 {
	out := map[string]float64{}
	for _, f := range w.Result().Figures {
		out[f.Name] = f.Value
	}
	return out
}

// Small worlds: an open stream, churn, a rival.
const (
	open = `
duration: 4s
warmup: 1s
peers: 100
cell_size: 25
machines: [{cores: 4, price: {uniform: {from: 500, to: 1500}}}]
workloads: [{poisson: 60/s, service: {lognormal: {median: 500ms, sigma: 1}}}]
`
	busy = `
duration: 40s
warmup: 5s
peers: 60
cell_size: 15
owners: 3
machines: [{cores: 4, share: 2}, {cores: 8, speed: 0.7, threads: 1}]
workloads:
  - {poisson: 10/s, service: {pareto: {least: 1s, alpha: 2}, max: 20s}, shape: {class: thread, cpus: 3}, max_price: 9000}
  - {clients: 4, think: 1s, tasks: 30, service: {uniform: {from: 100ms, to: 900ms}}}
churn: {session: {weibull: {scale: 90s, shape: 0.7}}, absence: 6s, departures: [{at: 15s, share: 30%, back: 5s}]}
network: {regions: [{name: a, share: 2}, {name: b}], rtt: [[2ms, 80ms], [80ms, 2ms]], loss: 1%}
`
	rival = `
duration: 5s
peers: 80
cell_size: 20
policy: {name: random-k, k: 2}
machines: [{cores: 4}]
workloads: [{poisson: 30/s, service: 1s}, {clients: 5, tasks: 6, service: 300ms}]
`
)

// storm is a world in which everything goes wrong.
const storm = `
duration: 40s
warmup: 5s
peers: 60
cell_size: 15
owners: 3
machines: [{cores: 4, share: 2}, {cores: 8, speed: 0.7, threads: 1}]
network: {regions: [{name: a}, {name: b}, {name: c}], rtt: [[2ms, 80ms, 40ms], [80ms, 2ms, 90ms], [40ms, 90ms, 2ms]]}
workloads:
  - {poisson: 8/s, service: {pareto: {least: 1s, alpha: 2}, max: 20s}, shape: {class: thread, cpus: 2}, bursts: [{at: 10s, for: 3s, times: 4}]}
  - {clients: 3, think: 1s, tasks: 20, service: {uniform: {from: 100ms, to: 900ms}}}
  - {clients: 2, think: 1s, tasks: 10, service: 2s, shape: {class: spare}}
churn: {session: {weibull: {scale: 200s, shape: 0.7}}, absence: 6s}
faults:
  - {at: 8s, for: 6s, cut: [a]}
  - {at: 12s, for: 6s, cut: [b], one_way: true}
  - {at: 15s, for: 5s, crash: voters, share: 60%}
  - {at: 22s, for: 5s, crash: peers, regions: [c]}
  - {at: 25s, for: 5s, crash: leaders, share: 50%}
  - {at: 5s, for: 30s, slow: 3, share: 20%}
  - {at: 6s, for: 30s, disk: 20}
  - {at: 20s, for: 10s, loss: 25%, regions: [a, b]}
  - {at: 9s, for: 25s, duplicate: 30%, regions: [b]}
  - {at: 11s, for: 20s, reorder: 400ms, regions: [a]}
attackers: [{does: refuse, share: 4%}, {does: fail, share: 4%}, {does: vanish, share: 4%}, {does: withhold, share: 4%}, {does: oversell, share: 4%, claims: 3}, {does: overcharge, share: 4%}]
`

var small = []struct{ name, text string }{{"open", open}, {"busy", busy}, {"rival", rival}, {"storm", storm}}

// TestGolden holds what small worlds come to. A rule of the product or of the
// model that changes changes them: then look at the figures, and rewrite.
func TestGolden(t *testing.T) {
	var got strings.Builder
	for _, s := range small {
		w := run(t, s.text, 7)
		f := figures(w)
		fmt.Fprintf(&got, "%s trace=%s events=%d placed=%.0f succeeded=%.0f\n", s.name, w.Result().Trace, w.Events(), f["placed"], f["succeeded"])
	}
	const file = "testdata/golden.txt"
	if *rewrite {
		if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(file, []byte(got.String()), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("a rule of the product or of the model has changed. If that is meant:\n"+
			"go test ./simulations/model -run Golden -rewrite\ngot\n%swant\n%s", got.String(), want)
	}
}

// TestSeeds runs worlds that do everything; the invariants are checked on the way.
func TestSeeds(t *testing.T) {
	most := uint64(12)
	if testing.Short() {
		most = 3
	}
	var lost, expired, elected, declined float64
	for seed := range most {
		f := figures(run(t, busy, seed))
		lost, expired, elected, declined = lost+f["lost_attempts"], expired+f["expired_leases"], elected+f["elections"], declined+f["declines"]
		if f["succeeded"] == 0 {
			t.Errorf("seed %d: nothing succeeded", seed)
		}
	}
	if lost == 0 || expired == 0 || elected == 0 || declined == 0 {
		t.Errorf("%g attempts lost, %g leases expired, %g elections, %g declines: the worlds are too kind", lost, expired, elected, declined)
	}
}

// TestLatenciesAddUp computes by hand what a placement takes where nothing is
// left to chance, and nobody waits.
func TestLatenciesAddUp(t *testing.T) {
	f := figures(run(t, `
duration: 20s
warmup: 5s
peers: 60
cell_size: 60
network: {regions: [{name: one}], rtt: [[10ms]], access: 0, jitter: 0%, loss: 0%}
costs: {verify: 0s, sign: 0s, message: 0s, fsync: 1ms}
start: 20ms
machines: [{cores: 64}]
workloads: [{poisson: 20/s, service: 200ms}]
`, 1))
	const way, commit = 5.0, 11.0
	const placed = way + way + way + commit // the bids come while the ACCEPT is being committed
	for name, want := range map[string]float64{
		"ack_p50":       way + commit + way,
		"placement_p50": placed,
		"start_p50":     placed + way + 20,
	} {
		if got := f[name]; math.Abs(got-want) > 0.01*want {
			t.Errorf("%s is %.3f ms, by hand %.3f", name, got, want)
		}
	}
	if want := (placed + way + 20 + 200 + way + commit) / 200; math.Abs(f["slowdown_p50"]-want) > 0.02 {
		t.Errorf("the slow-down is %.3f, by hand %.3f", f["slowdown_p50"], want)
	}
}

// TestPoliciesSeeTheSameWorld compares what comes from outside under two policies.
func TestPoliciesSeeTheSameWorld(t *testing.T) {
	var want []string
	for _, name := range scenario.Policies[:len(scenario.Policies)-1] { // all but a user's own
		w := run(t, strings.Replace(rival, "{name: random-k, k: 2}", name, 1), 7)
		var got []string
		for i := range w.loads {
			if l := &w.loads[i]; l.stream == 0 {
				got = append(got, fmt.Sprint(l.arrived, l.home, l.owner, w.service(int32(i), 0)))
			}
		}
		if want == nil {
			want = got
		}
		if len(got) == 0 || !slices.Equal(got, want) {
			t.Errorf("under %s other work comes than under %s", name, scenario.Policies[0])
		}
		if f := figures(w); f["placed"] == 0 || f["success"] != 100 {
			t.Errorf("under %s: %v", name, f)
		}
	}
}

// TestInvariantsAreSeen breaks each and wants the run to end with its name.
func TestInvariantsAreSeen(t *testing.T) {
	for name, damage := range map[string]func(w *World){
		coresApart: func(w *World) {
			s := running(t, w)
			w.occupy(peerOf(w, s), &slot{owner: s.owner + 1, cpus: s.cpus})
		},
		capacityKept: func(w *World) {
			s := running(t, w)
			w.occupy(peerOf(w, s), s)
		},
		runsOnce:    func(w *World) { w.began(running(t, w)) },
		moneyKept:   func(w *World) { w.charged++; w.finish() },
		nothingLost: func(w *World) { w.loads = append(w.loads, load{known: true}); w.finish() },
	} {
		w := world(t, open, 1)
		for w.Now() < 2_000_000_000 {
			w.Step()
		}
		damage(w)
		var v *Violation
		if !errors.As(w.Err(), &v) || v.Invariant != name || v.Event == 0 || uint64(v.Seed) != 1 {
			t.Errorf("%s is broken, and the run says %v", name, w.Err())
		}
		if w.Step() {
			t.Errorf("%s is broken, and the run goes on", name)
		}
	}
}

func running(t *testing.T, w *World) *slot {
	t.Helper()
	for i := range w.slots {
		if w.slots[i].running {
			return &w.slots[i]
		}
	}
	t.Fatal("nothing runs")
	return nil
}

func peerOf(w *World, s *slot) *peer {
	for i := range w.peers {
		for _, k := range w.peers[i].slots {
			if &w.slots[k] == s {
				return &w.peers[i]
			}
		}
	}
	return nil
}

// decides are the packages of the product that decide in a simulation.
var decides = []string{
	"consensus/ledger", "scheduler", "scheduler/capacity", "scheduler/lease", "scheduler/pricing", "workload",
}

// TestTheProductDecides wants the model to be built of the same packages as the
// daemon, and of none that brings a network or a disk.
func TestTheProductDecides(t *testing.T) {
	deps := func(pkg string) []string {
		out, err := exec.Command("go", "list", "-deps", pkg).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.Fields(string(out))
	}
	const module = "github.com/perrin-mesh/perrin/"
	here, daemon := deps("."), deps(module+"node")
	for _, d := range decides {
		if !slices.Contains(here, module+d) || !slices.Contains(daemon, module+d) {
			t.Errorf("%s is not in both the model and the daemon", d)
		}
	}
	for _, d := range here {
		if strings.Contains(d, "libp2p") || strings.Contains(d, "badger") || strings.HasPrefix(d, module+"node") || strings.HasPrefix(d, module+"mesh") {
			t.Errorf("the model links %s", d)
		}
	}
}

func BenchmarkMesh(b *testing.B) {
	for _, peers := range []int{1_000, 10_000} {
		b.Run(fmt.Sprintf("%d-peers", peers), func(b *testing.B) {
			text := fmt.Sprintf("duration: 5s\npeers: %d\nmachines: [{cores: 8}]\nworkloads: [{poisson: %d/s, service: 1s}]", peers, peers/10)
			for range b.N {
				w := run(b, text, 1)
				b.ReportMetric(5*float64(b.N)/b.Elapsed().Seconds(), "x-real-time")
				b.ReportMetric(float64(w.Events())*float64(b.N)/b.Elapsed().Seconds(), "events/s")
			}
		})
	}
}
