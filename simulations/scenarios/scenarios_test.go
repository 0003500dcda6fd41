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
	s.Peers, s.CellSize, s.Replications = 120, min(s.CellSize, 40), 2
	for i := range s.Workloads {
		s.Workloads[i].Poisson = int64(float64(s.Workloads[i].Poisson) * share)
	}
	speed := int64(3)
	s.Duration, s.Warmup = s.Duration/speed, s.Warmup/speed
	for i := range s.Churn.Departures {
		s.Churn.Departures[i].At /= speed
	}
	return s
}

func TestGallery(t *testing.T) {
	names := Names()
	if len(names) < 4 {
		t.Fatalf("the gallery is %v", names)
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			s := small(t, name)
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
