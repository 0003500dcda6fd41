package model

import (
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/simulations/chance"
	"github.com/perrin-mesh/perrin/simulations/scenario"
)

func parse(t testing.TB, text string) *scenario.Scenario {
	t.Helper()
	s, err := scenario.Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func runWorld(t testing.TB, sc *scenario.Scenario, seed uint64) *World {
	t.Helper()
	w, err := New(sc, chance.Seed(seed))
	if err != nil {
		t.Fatal(err)
	}
	for w.Step() {
	}
	if err := w.Err(); err != nil {
		t.Fatal(err)
	}
	return w
}

func TestTry(t *testing.T) {
	for _, text := range []string{`
name: try
duration: 10s
warmup: 2s
peers: 1000
machines: [{cores: 8}]
workloads: [{poisson: 200/s, service: {lognormal: {median: 1s, sigma: 0.8}}}]
`, `
name: try
duration: 60s
warmup: 2s
peers: 200
machines: [{cores: 8}]
workloads: [{poisson: 20/s, tasks: 10, service: {lognormal: {median: 1s, sigma: 0.8}}}, {clients: 20, think: 1s, service: 2s, shape: {class: thread, cpus: 3}}]
churn: {session: {weibull: {scale: 100s, shape: 0.6}}, absence: 10s, departures: [{at: 20s, share: 30%, back: 10s}]}
`} {
		begin := time.Now()
		w := runWorld(t, parse(t, text), 7)
		t.Log(time.Since(begin), w.events)
		for _, f := range w.Result().Figures {
			t.Logf("%-20s %12.3f %s", f.Name, f.Value, f.Unit)
		}
		for k, n := range w.messages {
			if n > 0 {
				t.Log(msgKind(k), n)
			}
		}
		t.Log(w.Result().Trace, runWorld(t, parse(t, text), 7).Result().Trace)
	}
}
