package rehearsal

import (
	"context"

	"github.com/perrin-mesh/perrin/simulations/chance"
	"github.com/perrin-mesh/perrin/simulations/model"
	"github.com/perrin-mesh/perrin/simulations/scenario"
	"github.com/perrin-mesh/perrin/workload"
)

// Plan is the scenarios that a calibration plays: two sizes of a cell, each almost
// idle and with work, and two more.
func Plan(seed uint64) []*scenario.Scenario {
	var plan []*scenario.Scenario
	for _, peers := range []int{10, 30} {
		for _, rate := range []int64{500, 20_000} {
			plan = append(plan, planned(seed, peers, rate))
		}
	}
	return append(plan, planned(seed, 7, 6_000), planned(seed, 50, 20_000))
}

// planned is half a minute of a mesh with so many thousandths of arrivals a second, and
// two minutes of one that is almost idle, whose traffic comes in bursts.
func planned(seed uint64, peers int, rate int64) *scenario.Scenario {
	const second = 1_000_000_000
	s := scenario.Default()
	s.Seed, s.Replications, s.Peers, s.Owners, s.Duration, s.Warmup = seed, 1, peers, 1, 35*second, 5*second
	if rate < 1000 {
		s.Duration = 125 * second
	}
	s.Machines = []scenario.Machine{{
		Name: "machine", Share: 1, Cores: 8, Threads: 2, Memory: 32 << 30, Disk: 100 << 30, Speed: chance.Always(1000), Price: chance.Always(1000), Slope: 3000,
	}}
	s.Workloads = []scenario.Workloads{{
		Name: "work", Poisson: rate, Tasks: 1, Shape: workload.DefaultResources(), Timeout: 600 * second,
		Service: chance.Dist{Kind: chance.LogNormal, A: second / 2, B: 0.5, Max: 5 * second},
	}}
	return &s
}

// Calibrate plays the plan, with argv as in Play, and fits what the model lacks. told
// is told how many runs are done.
func Calibrate(ctx context.Context, argv []string, seed uint64, told func(done, all int)) (*model.Calibration, error) {
	var samples []model.Sample
	plan := Plan(seed)
	for i, sc := range plan {
		told(i, len(plan))
		r, err := Play(ctx, argv, sc, 0, func(int64) {})
		if err != nil {
			return nil, err
		}
		w, err := twin(sc, 0, r)
		if err != nil {
			return nil, err
		}
		samples = append(samples, model.Sample{
			Peers: sc.Peers, Seconds: float64(sc.Duration-sc.Warmup) / 1e9, Placed: r.Placed, Stack: r.Traffic, Model: w.Traffic(),
		})
	}
	c := &model.Calibration{}
	return c, c.Fit(samples)
}
