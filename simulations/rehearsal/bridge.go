package rehearsal

import (
	"math"

	"github.com/perrin-mesh/perrin/simulations/chance"
	"github.com/perrin-mesh/perrin/simulations/model"
	"github.com/perrin-mesh/perrin/simulations/scenario"
	"github.com/perrin-mesh/perrin/simulations/stats"
)

// Compared is a figure of one scenario in both fidelities, over its replications.
type Compared struct {
	Name  string         `json:"name"`
	Unit  string         `json:"unit"`
	Stack stats.Interval `json:"stack"`
	Model stats.Interval `json:"model"`
	Error float64        `json:"error"` // of the model's mean, as a share of the stack's
	Held  bool           `json:"held"`  // whether the bridge is held to it
}

// held are the figures that a bridge is held to: the others are told.
var held = map[string]bool{
	"placement_p50": true, "placement_p99": true, "messages": true, "bytes": true, "price_mean": true, "success": true,
}

// Bridge runs the model on the worlds that were played, with the same leaders and
// voters, and compares the figures that both have.
func Bridge(sc *scenario.Scenario, played []*Result) ([]Compared, error) {
	var twins []*model.Result
	for n, r := range played {
		t, err := twin(sc, n, r)
		if err != nil {
			return nil, err
		}
		twins = append(twins, t.Result())
	}
	var out []Compared
	for _, f := range played[0].Figures {
		var whole, modelled []float64
		for n := range played {
			whole = append(whole, valueOf(played[n].Figures, f.Name))
			modelled = append(modelled, valueOf(twins[n].Figures, f.Name))
		}
		c := Compared{Name: f.Name, Unit: f.Unit, Stack: stats.Of(whole), Model: stats.Of(modelled), Held: held[f.Name]}
		c.Error = c.Model.Mean/c.Stack.Mean - 1
		if c.Model.Mean == c.Stack.Mean {
			c.Error = 0
		}
		out = append(out, c)
	}
	return out, nil
}

// Worst is the largest error, either way, of the figures that a bridge is held to.
// One that a side could not measure is an infinite error.
func Worst(rows []Compared) (worst float64, name string) {
	for i := range rows {
		e := math.Abs(rows[i].Error)
		if math.IsNaN(e) {
			e = math.Inf(1)
		}
		if rows[i].Held && (name == "" || e > worst) {
			worst, name = e, rows[i].Name
		}
	}
	return worst, name
}

// twin is the model's run of a replication that was played.
func twin(sc *scenario.Scenario, n int, r *Result) (*model.World, error) {
	w, err := model.New(Twin(sc), chance.Seed(sc.Seed).Replication(n))
	if err != nil {
		return nil, err
	}
	var voters []int32
	for _, v := range r.Voters {
		voters = append(voters, int32(v))
	}
	if err := w.Seat(0, int32(r.Leader), voters); err != nil {
		return nil, err
	}
	for w.Step() {
	}
	if err := w.Err(); err != nil {
		return nil, err
	}
	return w, nil
}

func valueOf(figures []model.Figure, name string) float64 {
	for _, f := range figures {
		if f.Name == name {
			return f.Value
		}
	}
	return math.NaN()
}
