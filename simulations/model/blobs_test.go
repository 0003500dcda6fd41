package model

import (
	"math"
	"strings"
	"testing"

	"github.com/perrin-mesh/perrin/workload"
)

// still is a world in which nothing is left to chance.
const still = `
duration: 120s
warmup: 5s
cooldown: 50s
peers: 20
cell_size: 20
network: {regions: [{name: one}], rtt: [[10ms]], access: 0, jitter: 0%, loss: 0%, bandwidth: {up: 80Mbit/s, down: 800Mbit/s}}
costs: {verify: 0s, sign: 0s, message: 0s, fsync: 1ms}
machines: [{cores: 64}]
`

// TestFetchTakesWhatTheLineTakes computes by hand how long inputs take that no voter
// has: each is asked for the manifest first, then the home sends all.
func TestFetchTakesWhatTheLineTakes(t *testing.T) {
	w := run(t, still+"workloads: [{poisson: 3/m, service: 1s, inputs: 100MiB, start: 20ms}]\n", 3)
	f := figures(w)
	const want = 5*10 + 10 + 100*1048.576/10 // ms: five voters, the manifest, 100 MiB at 10 MB/s
	if got := f["fetch_p50"]; math.Abs(got-want) > 0.02*want {
		t.Errorf("a fetch takes %.0f ms, by hand %.0f", got, want)
	}
	if f["success"] != 100 || f["fetch_p99"] > 2.5*want {
		t.Errorf("got %v", f)
	}
}

// TestVotersHoldInputsFirst has small inputs be on a majority of the voters before
// the ID is back, and programs be fetched once.
func TestVotersHoldInputsFirst(t *testing.T) {
	small := figures(run(t, still+"workloads: [{poisson: 6/m, service: 1s, inputs: 1MiB, start: 20ms}]\n", 3))
	// the way there, the call to hold, one chunk to four others (a request, four times
	// 1 MiB on the home's line, the way; the third of them is the majority), the ACCEPT
	if got := small["ack_p50"]; got < 5+10+3*104.8+5+11+5 || got > 5+10+4*104.8+30+11+5 {
		t.Errorf("the ID is back after %.0f ms", got)
	}
	again := figures(run(t, still+"workloads: [{poisson: 4/s, service: 100ms, program: 1MiB, start: 20ms}]\n", 3))
	if again["ack_p50"] > 25 || again["moved"] > 0.2 {
		t.Errorf("a program is held again and again: the ID is back after %.0f ms, %.2f MB a placement", again["ack_p50"], again["moved"])
	}
}

// TestWorkersServe has workers that fetched a program serve it, if a scenario says so:
// each workload takes nodes that the ones before it left.
func TestWorkersServe(t *testing.T) {
	text := strings.Replace(still, "peers: 20\ncell_size: 20", "peers: 60\ncell_size: 60", 1)
	text = strings.Replace(text, "duration: 120s\nwarmup: 5s\ncooldown: 50s", "duration: 1000s", 1)
	text = strings.Replace(text, "machines: [{cores: 64}]", "machines: [{cores: 2}]", 1)
	// Later ones have more to ask.
	text += "workloads: [{poisson: 20/h, tasks: 20, service: 900s, timeout: 1h, program: 60MiB}]\nblobs: {from: holders}\n"
	asks := figures(run(t, text, 5))["fetch_p50"]
	swarm := figures(run(t, strings.Replace(text, "from: holders", "from: anyone", 1), 5))["fetch_p50"]
	if !(swarm < 0.9*asks) {
		t.Errorf("a fetch takes %.0f ms where workers serve, %.0f where they do not", swarm, asks)
	}
}

// TestFetchUnderFaults keeps the invariants where those who serve fall and lines
// are thin.
func TestFetchUnderFaults(t *testing.T) {
	text := strings.ReplaceAll(storm, "tasks: 20,", "tasks: 20, inputs: {uniform: {from: 1KiB, to: 3MiB}, max: 3MiB},")
	text = strings.ReplaceAll(text, "[40ms, 90ms, 2ms]]", "[40ms, 90ms, 2ms]], bandwidth: {up: {uniform: {from: 5Mbit/s, to: 50Mbit/s}}, down: 50Mbit/s}")
	text = strings.ReplaceAll(text, "{poisson: 8/s,", "{poisson: 8/s, program: 4MiB,")
	for seed := range uint64(3) {
		f := figures(run(t, text, seed))
		if f["succeeded"] == 0 || !(f["fetch_p50"] > 0) {
			t.Errorf("seed %d: %v succeeded, fetches take %v ms", seed, f["succeeded"], f["fetch_p50"])
		}
	}
}

func TestLine(t *testing.T) {
	l := line{rate: 1_000_000}
	const ms = millisecond
	if got := l.content(0, 100_000); got != 100*ms {
		t.Errorf("100 kB at 1 MB/s take %d", got)
	}
	if got := l.message(0, 1000, 20*ms); got != 21*ms { // it waits for content 20 ms at most
		t.Errorf("a message is through at %d", got)
	}
	if got := l.message(0, 1000, 20*ms); got != 22*ms { // and its turn
		t.Errorf("the next message is through at %d", got)
	}
	if got := l.content(0, 1000); got != 103*ms {
		t.Errorf("content goes after all else: %d", got)
	}
	if got := (&line{rate: 1 << 40}).takes(64 << 30); got != 62_500_000 {
		t.Errorf("64 GiB at 1 TiB/s take %d", got)
	}
	if blobs := int64(workload.KeepAutoLimit); blobs != 64<<20 {
		t.Errorf("voters copy up to %d bytes: docs/simulation.md says 64 MiB", blobs)
	}
}
