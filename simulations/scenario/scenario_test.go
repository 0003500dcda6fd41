package scenario

import (
	"errors"
	"github.com/perrin-mesh/perrin/workload/specfile/document"
	"math"
	"strings"
	"testing"
)

const good = `
name: a test
seed: 7
duration: 10s
warmup: 1s
peers: 1_000
policy: {name: random-k, k: 4}
network: {regions: [{name: a, share: 3}, {name: b}], rtt: [[1ms, 80ms], [81ms, 1ms]], jitter: 5%, loss: 0.1%}
machines: [{name: big, cores: 32, speed: {lognormal: {median: 1.5, sigma: 0.2}}, memory: 64GiB}]
workloads:
  - {poisson: 90/m, service: {pareto: {least: 250ms, alpha: 1.5}, max: 1m}, shape: {class: thread, cpus: 2, memory: 1GiB}}
  - {clients: 5, think: {exponential: 2s}, tasks: 10, service: 1s}
churn: {session: {weibull: {scale: 1h, shape: 0.6}}, absence: 10m, departures: [{at: 5s, share: 30%, back: 2s}]}
`

func TestParse(t *testing.T) {
	s, err := Parse("good.yaml", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	w := &s.Workloads[0]
	if s.Peers != 1000 || s.Policy.K != 4 || s.Network.RTT[1][0] != 81*ms || s.Network.Loss != 1000 || s.Network.Jitter != 50_000 ||
		w.Poisson != 1500 || w.Service.A != 250e6 || w.Service.Max != 60*second || w.Shape.CPUs != 2 || w.Shape.Memory != 1<<30 ||
		s.Machines[0].Speed.A != 1500 || s.Churn.Departures[0].Share != 300_000 || s.Workloads[1].Think.A != 2e9 || s.CellSize != 64 {
		t.Errorf("got %+v", s)
	}
	if got := s.Offered(); math.Abs(got-1.5*0.75/1000/32/1.5/math.Exp(0.02)) > 1e-6 { // a 16th of two threads wide
		t.Errorf("the offered load is %g", got)
	}
}

// wrong are files with one mistake each, and what is said of it.
var wrong = []struct{ from, to, want, hint string }{
	{"peers: 1_000", "peeers: 1_000", `scenario.yaml:6:1: scenario: unknown field "peeers"`, "did you mean peers?"},
	{"peers: 1_000", "peers: 0", "6:8: peers: want a whole number from 1 to 4000000", ""},
	{"peers: 1_000", "", "peers is missing", "write peers: 1000"},
	{"duration: 10s", "duration: 10", "4:11: duration: ", ""},
	{"warmup: 1s", "warmup: 10s", "warmup: nothing would be measured", ""},
	{"warmup: 1s", "warmup: 1s\ncooldown: 9s", "cooldown: nothing would be measured", ""},
	{"random-k", "rondom-k", `policy: there is no "rondom-k"`, "did you mean random-k?"},
	{"{name: random-k, k: 4}", "{name: random, k: 4}", "policy.k: random has no k", ""},
	{"[81ms, 1ms]", "[81ms]", "network.rtt: row 2 has 1 round trips for 2 regions", ""},
	{", rtt: [[1ms, 80ms], [81ms, 1ms]]", "", "regions and rtt go together", ""},
	{"loss: 0.1%", "loss: 0.1", "network.loss: want a share", ""},
	{"loss: 0.1%", "loss: 80%", "network.loss: ", ""},
	{"cores: 32, ", "", "cores is missing", ""},
	{"cpus: 2", "cpus: 65", "no machine is large enough for workload-1", ""},
	{"class: thread", "class: shared", `"shared" is not simulated`, "write core, thread or spare"},
	{"lognormal: {median: 1.5, sigma: 0.2}", "lognormal: {median: 1.5}", "machines.speed.lognormal: median or sigma is missing", ""},
	{"lognormal: {median", "lognorml: {median", `machines.speed: unknown field "lognorml"`, "did you mean lognormal?"},
	{"sigma: 0.2", "sigma: 99", "sigma 99: want 0 to 10", ""},
	{"alpha: 1.5", "alpha: 0", "a shape of 0", ""},
	{"pareto: {least: 250ms, alpha: 1.5}", "pareto: {least: 250ms, alpha: 1.5}, fixed: 1s", "two distributions", ""},
	{"poisson: 90/m, ", "", "want either poisson or clients", ""},
	{"poisson: 90/m", "poisson: 90", "want a rate such as 100/s", ""},
	{"clients: 5, think", "poisson: 5/s, think", "only clients think", ""},
	{"at: 5s", "at: 50s", "number 1 is after the end", ""},
	{"share: 30%, ", "", "churn.departures: share is missing", ""},
	{"session: {weibull: {scale: 1h, shape: 0.6}}, ", "", "churn.absence: without a session nobody leaves", "write session: as well, or leave it out: departures have back:"},
	{"{poisson: 90/m, ", "{poisson: 90/m, bursts: [{at: 1s, for: 1s, times: 2}, {at: 20s, for: 1s, times: 2}], ", "workloads.bursts: number 2 is after the end", ""},
	{"{clients: 5, think: {exponential: 2s}, tasks: 10, service: 1s}", "{arrivals: [0s 1 1s, 20s 1 1s, 30s 1 1s]}",
		"workloads.arrivals: number 2 of 3 comes after the end", "make the duration longer than 30 s, or take fewer rows"},
	{"seed: 7", "voters: 4", "voters: want an odd number", ""},
	{"seed: 7", "energy: []", "energy is a figure of machines that have watts", "write watts: {idle: 60, busy: 180} in a class of machines"},
	{"seed: 7", "nat: []", "nat is part of the network", "write network: {nat: {share: 60%}}"},
	{"seed: 7", "bandwidth: []", "bandwidth is part of the network", ""},
	{"jitter: 5%", "bandwidth: {up: 20Mbit/s}", "network.bandwidth.down is missing", "write bandwidth: {up: 20Mbit/s, down: 100Mbit/s}"},
	{"jitter: 5%", "bandwidth: {up: 20Mbps, down: 1Gbit/s}", `network.bandwidth.up: want a rate such as 20Mbit/s or 1Gbit/s, got "20Mbps"`, ""},
	{"jitter: 5%", "bandwidth: {up: 20bit/s, down: 1Gbit/s}", "network.bandwidth.up is out of its range", "want 8.2kbit/s to 8Tbit/s"},
	{"jitter: 5%", "bandwidth: {up: 1Mbit/s, down: 1Gbit/s, buffer: 11s}", "network.bandwidth.buffer: ", "want 0s to 10s"},
	{"jitter: 5%", "nat: {relay: true}", "network.nat: share is missing", "write nat: {share: 60%}"},
	{"jitter: 5%", "nat: {share: 60%, punched: 70%}", "network.nat.punched: holes are punched over a relay", "write relay: true beside it"},
	{"jitter: 5%", "nat: {share: 0.6}", "network.nat.share: want a share", ""},
	{"jitter: 5%", "connections: {keep: 0}", "network.connections.keep: want a whole number from 1 to 10000", ""},
	{"jitter: 5%", "connections: 90", "network.connections: want a mapping", ""},
	{"jitter: 5%", "gossip: {degree: 1}", "network.gossip.degree: want a whole number from 2 to 100", ""},
	{"jitter: 5%", "dht: 3", "network.dht: want true or false", ""},
	{"poisson: 90/m", "poisson: 90/m, program: 20MiB", "would be moved in no time without network.bandwidth", "write network: {bandwidth: {up: 20Mbit/s, down: 100Mbit/s}}"},
	{"poisson: 90/m", "poisson: 90/m, program: lots", "workloads.program: ", ""},
	{"poisson: 90/m", "poisson: 90/m, runner: docker", `workloads.runner: there is no "docker"`, "write wasm, process, oci, gvisor or vm"},
	{"seed: 7", "blobs: {from: anyone}", "blobs: no workload has a program or inputs", ""},
	{"seed: 7", "blobs: {from: all}", `blobs.from: there is no "all"`, ""},
	{"seed: 7", "fidelity: stack", "fidelity is chosen for a run", "leave it out, and for whole nodes give perrin sim run --fidelity stack"},
	{"policy: {name: random-k, k: 4}", "policy: {name: own, timeout: 0s}", "policy.timeout: \"0s\" is out of its range", "want 1ms to 1h"},
	{"seed: 7", "faults: [{at: 2s}]", "faults: it does not say what breaks", "write one of crash, cut, disk, duplicate, freeze, loss, reorder, slow"},
	{"seed: 7", "faults: [{at: 2s, freeze: voters}]", "faults.freeze: only leaders freeze, not \"voters\"", "write leaders"},
	{"seed: 7", "faults: [{crash: leaders}]", "faults: at is missing", "write at: 20s"},
	{"seed: 7", "faults: [{at: 2s, crash: kings}]", `faults.crash: there are no "kings"`, "write leaders, voters or peers"},
	{"seed: 7", "faults: [{at: 2s, cut: [paris]}]", `faults: there is no region "paris"`, "the regions are a, b"},
	{"seed: 7", "faults: [{at: 2s, cut: [a, b]}]", "leaves nobody on the other side", "name fewer"},
	{"seed: 7", "faults: [{at: 2s, cut: a, share: 10%}]", "faults.share: a fault of kind cut has none", "leave it out"},
	{"seed: 7", "faults: [{at: 2s, slow: 0.5}]", `faults.slow: "0.5" is out of its range`, ""},
	{"seed: 7", "faults: [{at: 2s, loss: 20%, slow: 2}]", "faults: loss and slow in one", "write two faults"},
	{"seed: 7", "faults: [{at: 2s, duplicate: 110%}]", "faults.duplicate: want a share", ""},
	{"seed: 7", "faults: [{at: 2s, duplicate: 10%, share: 10%}]", "faults.share: a fault of kind duplicate has none", "leave it out"},
	{"seed: 7", "faults: [{at: 2s, reorder: 2h}]", "faults.reorder: ", "want 1ms to 1m"},
	{"seed: 7", "faults: [{at: 20s, loss: 20%}]", "faults: number 1 begins after the end", ""},
	{"seed: 7", "faults: [{at: 2s, crsh: peers}]", `unknown field "crsh"`, "did you mean crash?"},
	{"seed: 7", "attackers: [{share: 10%}]", "attackers: does is missing", ""},
	{"seed: 7", "attackers: [{does: lye, share: 10%}]", `attackers.does: there is no "lye"`, ""},
	{"seed: 7", "attackers: [{does: lie, share: 10%, identities: 4}]", "attackers.identities: who does lie has none", "leave it out, or write does: sybil"},
	{"seed: 7", "attackers: [{does: collude, share: 10%, above: 20%, below: 10%}]", "above and below in one", "keep one of them"},
	{"seed: 7", "attackers: [{does: sybil, share: 10%, identities: 1}]", "attackers.identities: want a whole number from 2 to 64", ""},
	{"poisson: 90/m", "poisson: 90/m, verify_by: adaptive", "workloads.verify_by: the draws of an owner are not simulated", "write verify_by: 2of3"},
	{"poisson: 90/m", "poisson: 90/m, verify_by: 2of9", "workloads.verify_by: ", ""},
	{"seed: 7", "attackers: [{does: fail}]", "attackers: share is missing", "write share: 10%"},
	{"seed: 7", "attackers: [{does: fail, share: 10%, claims: 4}]", "attackers.claims: who does fail has none", ""},
	{"seed: 7", "attackers: [{does: fail, share: 60%}, {does: refuse, share: 60%}]", "the shares are 120 % together", ""},
	{"poisson: 90/m", "poisson: 90/m, bursts: [{at: 1s}]", "workloads.bursts: for and times are needed", ""},
	{"poisson: 90/m", "poisson: 90/m, bursts: [{at: 1s, for: 2s, times: 3}, {at: 2s, for: 1s, times: 3}]", "one begins before the other is over", "write them in order"},
	{"{clients: 5, think: {exponential: 2s}, tasks: 10, service: 1s}", "{arrivals: [1s 2 3s, 500ms 1 1s]}", "workloads.arrivals: it comes before the one above", "sort them by time"},
	{"{clients: 5, think: {exponential: 2s}, tasks: 10, service: 1s}", "{arrivals: [1s 2]}", `workloads.arrivals: want AT TASKS SERVICE and perhaps OWNER, got "1s 2"`, "write 250ms 4 2s, or 250ms 4 2s 7"},
	{"{clients: 5, think: {exponential: 2s}, tasks: 10, service: 1s}", "{arrivals: [1s 2 -3s]}", "workloads.arrivals: ", ""},
	{"{clients: 5, think: {exponential: 2s}, tasks: 10, service: 1s}", "{arrivals: [1s 2 3s], tasks: 4}", "workloads.tasks: the arrivals say it", "leave it out"},
	{"clients: 5", "clients: 5, bursts: [{at: 1s, for: 2s, times: 3}]", "workloads.bursts: clients come one after another", ""},
	{"cores: 32", "cores: 32, smt: 3", "machines.smt: 2 threads of a core are at most 2 times as fast as one", ""},
	{"seed: 7", "seed: 7\nseed: 8", "already defined", ""},
	{"seed: 7", "interval: 1ms\nduration: 90h", "", ""},
	{"machines: [", "machines: [cores, ", "want a mapping, got a text", ""},
}

func TestMistakesAreNamed(t *testing.T) {
	for _, c := range wrong {
		if !strings.Contains(good, c.from) {
			t.Fatalf("%q is not in the file", c.from)
		}
		text := strings.Replace(good, c.from, c.to, 1)
		s, err := Parse("scenario.yaml", []byte(text))
		var errs document.Errors
		if !errors.As(err, &errs) || s != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q in place of %q: got %v, want %q", c.to, c.from, err, c.want)
			continue
		}
		if c.hint != "" && errs.Hint() != c.hint {
			t.Errorf("%q: the hint is %q, want %q", c.to, errs.Hint(), c.hint)
		}
	}
}

func TestHash(t *testing.T) {
	hash := func(from, to string) string {
		s, err := Parse("a.yaml", []byte(strings.Replace(good, from, to, 1)))
		if err != nil {
			t.Fatal(err)
		}
		return s.Hash()
	}
	same := hash("", "")
	if hash("seed: 7", "seed: 9") != same || hash("a test", "other") != same || hash("seed: 7", "seed: 7\ncell_size: 64") != same {
		t.Error("the hash is of more than the experiment")
	}
	if hash("0.1%", "0.2%") == same || hash("k: 4", "k: 5") == same {
		t.Error("the hash is of less than the experiment")
	}
}

func TestMemoryGrowsWithTheScenario(t *testing.T) {
	s, err := Parse("a.yaml", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	before := s.Memory()
	s.Peers *= 1000
	if after := s.Memory(); after < 500*(before-fixedBytes) || after < 1_000_000*perPeer {
		t.Errorf("%d bytes for a thousand peers, %d for a million", before, after)
	}
	s.Duration = 1 << 62
	if s.Memory() <= 0 {
		t.Error("the estimate overflows")
	}
}

func TestWorld(t *testing.T) {
	n := World()
	at := func(name string) int {
		for i, r := range n.Regions {
			if r.Name == name {
				return i
			}
		}
		t.Fatal(name)
		return 0
	}
	// The great circle is 5,570 km; cables take 1.6 times that, light 5 ms for 1,000 km.
	got := float64(n.RTT[at("london")][at("new-york")]) / float64(ms)
	if math.Abs(got-(1+2*1.6*5570/200)) > 1 {
		t.Errorf("London to New York and back takes %.1f ms", got)
	}
	for i := range n.RTT {
		for j := range n.RTT {
			if n.RTT[i][j] != n.RTT[j][i] || n.RTT[i][j] <= 0 {
				t.Fatalf("from %d to %d in %d ns, back in %d", i, j, n.RTT[i][j], n.RTT[j][i])
			}
		}
	}
}
