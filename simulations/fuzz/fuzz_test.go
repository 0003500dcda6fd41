package fuzz

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/perrin-mesh/perrin/simulations/model"
	"github.com/perrin-mesh/perrin/simulations/scenario"
	"github.com/perrin-mesh/perrin/workload/specfile/document"
)

const base = `
name: base
duration: 30s
peers: 24
cell_size: 12
owners: 2
machines: [{cores: 2}]
workloads: [{name: long, poisson: 1/s, service: {exponential: 6s}}]
network: {regions: [{name: a, share: 2}, {name: b}], rtt: [[2ms, 40ms], [40ms, 2ms]]}
churn: {departures: [{at: 29s, share: 10%}]}
`

func tree(t testing.TB, text string) *document.Node {
	t.Helper()
	root, err := scenario.ReadTree("a.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// TestEveryTryIsAScenario draws many: none may be refused, and all must be other
// than the rest and the same the second time.
func TestEveryTryIsAScenario(t *testing.T) {
	root := tree(t, base)
	s, err := scenario.ParseTree("a.yaml", root)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for try := range 300 {
		drawn, err := Draw(root, s, 3, try)
		if err != nil {
			t.Fatal(err)
		}
		text := string(scenario.Format(drawn))
		if _, err := scenario.Parse("b.yaml", []byte(text)); err != nil {
			t.Fatalf("try %d: %v\n%s", try, err, text)
		}
		if again, _ := Draw(root, s, 3, try); string(scenario.Format(again)) != text {
			t.Errorf("try %d is another the second time", try)
		}
		if try > 0 && !strings.Contains(text, "faults:") || seen[text] {
			t.Errorf("try %d: %s", try, text)
		}
		seen[text] = true
	}
	all := strings.Join(slices.Collect(maps.Keys(seen)), "")
	for _, word := range []string{
		"crash:", "slow:", "disk:", "loss:", "freeze:", "cut:", "duplicate:", "reorder:", "refuse", "fail", "vanish", "withhold", "oversell", "overcharge",
		"lie", "sybil", "collude", "forge", "free-ride",
	} {
		if !strings.Contains(all, word) {
			t.Errorf("%s is never drawn", word)
		}
	}
}

// TestOnlyWhatFitsIsDrawn has a base that is full of attackers and of cores: no
// try may stop the search.
func TestOnlyWhatFitsIsDrawn(t *testing.T) {
	for _, text := range []string{
		base + "attackers: [{does: refuse, share: 60%}, {does: fail, share: 39.5%}]\n",
		base + "attackers: [{does: refuse, share: 70%}]\n",
		strings.Replace(base, "cores: 2", "cores: 1500", 1), strings.Replace(base, "cores: 2", "cores: 4096", 1),
	} {
		root := tree(t, text)
		s, err := scenario.ParseTree("a.yaml", root)
		if err != nil {
			t.Fatal(err)
		}
		more := 0
		for try := range 200 {
			drawn, err := Draw(root, s, 5, try)
			if err != nil {
				t.Fatal(err)
			}
			got, err := scenario.ParseTree("b.yaml", drawn)
			if err != nil {
				t.Fatalf("try %d: %v\n%s", try, err, scenario.Format(drawn))
			}
			if len(got.Attackers) > len(s.Attackers) {
				more++
			}
		}
		if full := len(s.Attackers) == 2; full == (more > 0) {
			t.Errorf("%d tries have attackers more:\n%s", more, text)
		}
	}
}

// TestWhatIsNoScenarioIsSkipped has as many faults as a scenario may.
func TestWhatIsNoScenarioIsSkipped(t *testing.T) {
	text := base + "faults:\n" + strings.Repeat("  - {at: 28s, loss: 1%}\n", 1024)
	out, err := Run(context.Background(), tree(t, strings.Replace(text, "duration: 30s", "duration: 29500ms", 1)), Options{Seed: 1, Tries: 6, Workers: 2})
	if err != nil || out.Tries != 7 || out.Skipped != 6 || out.Failure != nil {
		t.Errorf("%+v, %v", out, err)
	}
}

// TestInvariantsHold is a short search: the product must not fail it.
func TestInvariantsHold(t *testing.T) {
	tries := 12
	if testing.Short() {
		tries = 8
	}
	out, err := Run(context.Background(), tree(t, base), Options{Seed: 11, Tries: tries, Shrinks: 100})
	if err != nil {
		t.Fatal(err)
	}
	if out.Failure != nil {
		t.Fatalf("try %d:\n%s", out.Failure.Try, out.Failure.Scenario)
	}
	if out.Tries != tries+1 || out.Events == 0 || out.Simulated == 0 {
		t.Errorf("got %+v", out)
	}
}

// TestPlantsAreFound puts each bug in, and wants it to be found, shrunk, and to be
// gone without the plant.
func TestPlantsAreFound(t *testing.T) {
	if testing.Short() {
		t.Skip("some seconds of simulations")
	}
	lasting := strings.Replace(base, "churn: {departures: [{at: 29s, share: 10%}]}", "", 1) // of which all work must end
	for plant, want := range map[model.Plant]struct {
		base, invariant string
		fields          int // that may be left
	}{
		model.LeaseIgnored: {base, "no task runs twice at once", 42}, model.AckEarly: {base, "nothing acknowledged is lost", 16},
		model.SaidOnce: {lasting, model.EndsInTime, 24},
	} {
		out, err := Run(context.Background(), tree(t, want.base), Options{Seed: 1, Tries: 200, Shrinks: 160, Plant: plant})
		if err != nil {
			t.Fatal(err)
		}
		f := out.Failure
		if f == nil || f.Invariant != want.invariant {
			t.Errorf("%s: in %d tries there was %+v", plant, out.Tries, f)
			continue
		}
		if f.To > want.fields || f.To > f.From || f.Runs == 0 || !strings.Contains(f.Scenario, "--plant "+string(plant)) {
			t.Errorf("%s: shrunk from %d to %d in %d runs:\n%s", plant, f.From, f.To, f.Runs, f.Scenario)
		}
		again := tree(t, f.Scenario)
		if v, err := judge(context.Background(), again, plant); err != nil || v.failure == nil || v.failure.Event != f.Event || v.failure.Detail != f.Detail {
			t.Errorf("%s: the file does otherwise: %+v, %v", plant, v.failure, err)
		}
		if v, err := judge(context.Background(), again, ""); err != nil || v.failure != nil {
			t.Errorf("%s: it fails without the plant too: %+v, %v", plant, v.failure, err)
		}
	}
}

func TestLess(t *testing.T) {
	for text, want := range map[string]string{"8": "1 2 4 7", "1": "", "1_000": "1 250 500 875", "30%": "1% 7% 15% 27%", "1.5s": "", "core": ""} {
		if got := strings.Join(less(text), " "); got != want {
			t.Errorf("less than %s are %q, want %q", text, got, want)
		}
	}
}

func TestOutOfTime(t *testing.T) {
	out, err := Run(context.Background(), tree(t, base), Options{Tries: 1000, For: 1})
	if err != nil || !out.Stopped || out.Failure != nil {
		t.Errorf("%+v, %v", out, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Run(ctx, tree(t, base), Options{Tries: 10}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
