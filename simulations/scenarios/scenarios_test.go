package scenarios

import (
	"context"
	"errors"
	"io/fs"
	"testing"

	"github.com/perrin-mesh/perrin/simulations/scenario"
	"github.com/perrin-mesh/perrin/simulations/study"
)

// small cuts a scenario down to what a test has time for.
func small(t *testing.T, name string) *scenario.Scenario {
	t.Helper()
	text, err := Read(name)
	if err != nil {
		t.Fatal(err)
	}
	s, err := scenario.Parse(name+".yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	share := float64(120) / float64(s.Peers)
	if s.Duration < 15_000_000_000 { // nothing settles in less
		s.Duration, s.Warmup = 3*s.Duration, 3*s.Warmup
	}
	s.Peers, s.CellSize, s.Replications = 120, min(s.CellSize, 40), 2
	for i := range s.Workloads {
		if rate := &s.Workloads[i].Poisson; *rate > 0 {
			*rate = max(int64(float64(*rate)*share), 10_000)
		}
	}
	speed := int64(3)
	s.Duration, s.Warmup, s.Cooldown = s.Duration/speed, s.Warmup/speed, s.Cooldown/speed
	for i := range s.Churn.Departures {
		s.Churn.Departures[i].At /= speed
	}
	for i := range s.Faults {
		s.Faults[i].At, s.Faults[i].For = s.Faults[i].At/speed, s.Faults[i].For/speed
	}
	for i := range s.Workloads {
		for k := range s.Workloads[i].Bursts {
			b := &s.Workloads[i].Bursts[k]
			b.At, b.For = b.At/speed, b.For/speed
		}
	}
	return s
}

// expected is what a scenario is there to show, in its small form.
var expected = map[string][]struct {
	figure      string
	least, most float64
}{
	"region-lost": {{"lost_attempts", 1, 1e3}, {"expired_leases", 1, 1e3}, {"success", 99, 100}},
	"flash-crowd": {{"price_p99", 1800, 1e4}, {"placement_p99", 1500, 1e5}, {"success", 100, 100}},
	"liars":       {{"to_attackers", 10, 90}, {"paid_to_attackers", 0, 0}, {"refused_awards", 10, 1e5}, {"expired_leases", 1, 1e3}, {"success", 100, 100}},
	"spare":       {{"lent", 3, 60}, {"preempted", 1, 1e4}, {"success", 100, 100}},
	"thin-links":  {{"fetch_p50", 1, 1e5}, {"moved", 0.1, 100}, {"success", 99, 100}},
	"behind-nat":  {{"lost_messages", 1, 1e6}, {"connections", 1, 1e6}, {"success", 99, 100}},
	"sybils":      {{"to_attackers", 5, 90}, {"success", 99, 100}, {"slowdown_p99", 1.5, 100}},
	"free-riders": {{"free_riders", 15, 45}, {"wrong", 1, 30}, {"success", 99, 100}},
	"peers-100k":  {{"success", 100, 100}, {"lost_attempts", 0, 0}},
	"peers-1m":    {{"success", 100, 100}, {"lost_attempts", 0, 0}},
}

func TestGallery(t *testing.T) {
	names := Names()
	if len(names) < 4 {
		t.Fatalf("the gallery is %v", names)
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			s := small(t, name)
			if testing.Short() {
				s.Replications = 1
			}
			out, err := study.Run(context.Background(), s, study.Options{Workers: 2})
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]float64{}
			for _, r := range out.Rows {
				got[r.Name] = r.Interval.Mean
			}
			if got["placed"] < 10 || got["placement_p50"] <= 0 || got["success"] < 90 || got["utilisation"] <= 0 {
				t.Errorf("got %v", got)
			}
			if name == "sparrow" && got["slowdown_p50"] > 1.12 {
				t.Errorf("the median is %.2f x ideal, the paper has 1.12 at most", got["slowdown_p50"])
			}
			for _, e := range expected[name] {
				if v := got[e.figure]; v < e.least || v > e.most {
					t.Errorf("%s is %g, want %g to %g", e.figure, v, e.least, e.most)
				}
			}
			if name == "churn" && (got["lost_attempts"] == 0 || got["expired_leases"] == 0) {
				t.Errorf("nobody left: %v", got)
			}
		})
	}
}

// TestAllKnowingPaysLess compares the market with its bound in the same worlds.
func TestAllKnowingPaysLess(t *testing.T) {
	paid := map[string][]float64{}
	for _, name := range []string{"price", "price-all-knowing"} {
		out, err := study.Run(context.Background(), small(t, name), study.Options{Workers: 2})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range out.Rows {
			switch r.Name {
			case "paid":
				paid[name] = []float64{*r.Values[0], *r.Values[1]}
			case "declines":
				if name == "price-all-knowing" && r.Interval.Mean > 0 {
					t.Errorf("who knows all was declined %g times", r.Interval.Mean)
				}
			}
		}
	}
	for i, market := range paid["price"] {
		if bound := paid["price-all-knowing"][i]; bound >= market {
			t.Errorf("replication %d: the market pays %.0f, who knows all %.0f", i+1, market, bound)
		}
	}
}

func TestNoSuchScenario(t *testing.T) {
	if _, err := Read("../scenarios"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
