package rehearsal

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perrin-mesh/perrin/simulations/scenario"
)

const tiny = `
duration: 10s
warmup: 2s
cooldown: 2s
replications: 1
peers: 5
voters: 3
owners: 1
machines: [{cores: 4, speed: 0.5}]
network: {regions: [{name: here}], rtt: [[40ms]], jitter: 2%, loss: 0%}
workloads: [{poisson: 4/s, service: 300ms, tasks: 2}]
`

func parsed(t *testing.T, text string) *scenario.Scenario {
	t.Helper()
	s, err := scenario.Parse("tiny.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestAPlay plays a few seconds, and wants what whole nodes must come to whatever
// the order of their goroutines, and the model close to it.
func TestAPlay(t *testing.T) {
	if testing.Short() {
		t.Skip("too long for a short run: whole nodes")
	}
	sc := parsed(t, tiny)
	s, err := write(sc, 0)
	if err != nil {
		t.Fatal(err)
	}
	var r *Result
	last := time.Duration(0)
	synctest.Test(t, func(t *testing.T) {
		if r, err = s.play(t.Context(), t.TempDir(), func(now time.Duration) { last = now }); err != nil {
			t.Fatal(err)
		}
	})
	if last != 10*time.Second || len(r.Voters) != 3 || !slices.Contains(r.Voters, r.Leader) || len(r.Series) != 10 {
		t.Errorf("it was told of %s, %d leads %v, %d rows", last, r.Leader, r.Voters, len(r.Series))
	}
	f := func(name string) float64 { return valueOf(r.Figures, name) }
	if f("workloads") < 10 || f("success") != 100 || f("unfinished") != 0 || f("placed") != 2*f("workloads") {
		t.Errorf("%g workloads, %g %% succeed, %g are open, %g slots", f("workloads"), f("success"), f("unfinished"), f("placed"))
	}
	// A submission takes a round trip and a commit of 40 ms each and more, a task
	// twice its 300 ms on these machines.
	if p := f("ack_p50"); p < 80 || p > 200 {
		t.Errorf("the ID is back after %g ms", p)
	}
	if x := f("slowdown_p50"); x < 2 || x > 4 {
		t.Errorf("slowed down %g times", x)
	}
	rows, err := Bridge(sc, []*Result{r})
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		if row.Held && math.Abs(row.Error) > 0.5 {
			t.Errorf("%s: whole nodes %g, the model %g", row.Name, row.Stack.Mean, row.Model.Mean)
		}
	}
}

// TestWhatIsRefused names the field that whole nodes do not honour.
func TestWhatIsRefused(t *testing.T) {
	if err := Check(parsed(t, tiny)); err != nil {
		t.Fatal(err)
	}
	for field, change := range map[string][2]string{
		"peers":             {"peers: 5", "peers: 101\ncell_size: 128"},
		"cell_size":         {"peers: 5", "peers: 5\ncell_size: 3"},
		"voters":            {"voters: 3", "voters: 5"},
		"owners":            {"owners: 1", "owners: 2"},
		"duration":          {"duration: 10s", "duration: 1h"},
		"machines":          {"speed: 0.5}", "speed: 0.5}, {cores: 2}"},
		"machines.price":    {"speed: 0.5", "price: 900"},
		"machines.slope":    {"speed: 0.5", "slope: 10"},
		"machines.smt":      {"speed: 0.5", "smt: 1.2"},
		"workloads.shape":   {"tasks: 2", "shape: {class: thread}"},
		"workloads.clients": {"poisson: 4/s", "clients: 2"},
		"policy":            {"owners: 1", "owners: 1\npolicy: random"},
		"faults.freeze":     {"owners: 1", "owners: 1\nfaults: [{at: 1s, freeze: leaders}]"},
		"faults.disk":       {"owners: 1", "owners: 1\nfaults: [{at: 1s, disk: 2}]"},
		"faults.duplicate":  {"owners: 1", "owners: 1\nfaults: [{at: 1s, duplicate: 2%}]"},
		"attackers":         {"owners: 1", "owners: 1\nattackers: [{does: refuse, share: 10%}]"},
		"costs":             {"owners: 1", "owners: 1\ncosts: {verify: 1ms}"},
		"cells":             {"owners: 1", "owners: 1\ncells: {keep: 7}"},
		"ends_within":       {"owners: 1", "owners: 1\nends_within: 9s"},
	} {
		text := strings.Replace(tiny, change[0], change[1], 1)
		var refused Refusals
		if err := Check(parsed(t, text)); !errors.As(err, &refused) || len(refused) != 1 || refused[0].Field != field || refused.Hint() == "" {
			t.Errorf("%s: %v", field, err)
		}
	}
	err := Check(parsed(t, strings.Replace(tiny, "owners: 1", "owners: 2\npolicy: random\nends_within: 9s", 1)))
	if all, ok := err.(Refusals); !ok || len(all) != 3 || all.Hint() != "write owners: 1; leave policy out; leave ends_within out" {
		t.Errorf("of three fields: %v", err)
	}
}
