package trace

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/perrin-mesh/perrin/simulations/chance"
	"github.com/perrin-mesh/perrin/simulations/scenario"
)

const second = int64(1_000_000_000)

func read(t *testing.T, format, text string) []scenario.Arrival {
	t.Helper()
	rows, err := Read(strings.NewReader(text), Options{Format: format, Most: 10_000, Speed: 1})
	if err != nil {
		t.Fatalf("%s: %v", format, err)
	}
	return rows
}

// TestPublished reads a few rows of each published format.
func TestPublished(t *testing.T) {
	for format, want := range map[string]string{
		Alibaba: "[{0 4 5000000000 0} {10000000000 2 30000000000 1}]",
		Google:  "[{0 1 10500000000 0}]",
		Pods:    "[{0 1 19000000000 0} {10000000000 1 35000000000 1}]",
		Tokens:  "[{0 1 1161600000 0} {500000000 1 796000000 0}]",
	} {
		if got := fmt.Sprint(read(t, format, samples[slices.Index(Formats, format)])); got != want {
			t.Errorf("%s: %s, want %s", format, got, want)
		}
	}
}

// TestPublishedWrong wants the line and the column of what is wrong.
func TestPublishedWrong(t *testing.T) {
	for text, want := range map[string]string{
		Alibaba + "|M1,2,j_1,1,Terminated,100,90,1,1\n":                              "line 1: end_time: it ends 10 s before its start_time",
		Alibaba + "|M1,2,j_1,1,Terminated,100\n":                                     "line 1: 6 columns, the format has 9 and no header",
		Alibaba + "|M1,2,j_1,1,Terminated,-5,90,1,1\n":                               "line 1: start_time: want seconds of 0 or more",
		Google + "|5000000,,7,0,,0,ann,2,9,0,0,0,0\n4000000,,7,0,,1,ann,2,9,0,0,0,0": "line 2: timestamp (column 1): 1 s before the line above",
		Pods + "|creation_time,deletion_time\n":                                      "the column scheduled_time is missing",
		Pods + "|creation_time,deletion_time,scheduled_time\n5,6,7\n":                "line 2: deletion_time: 1 s before scheduled_time",
		Tokens + "|TIMESTAMP,ContextTokens,GeneratedTokens\nnoon,1,2\n":              "line 2: TIMESTAMP: want a time such as",
		Tokens + "|TIMESTAMP,ContextTokens\n":                                        "the column GeneratedTokens is missing",
	} {
		format, body, _ := strings.Cut(text, "|")
		if _, err := Read(strings.NewReader(body), Options{Format: format, Most: 10, Speed: 1}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// TestOperators thins, superposes and resamples arrivals of one a second.
func TestOperators(t *testing.T) {
	rows := make([]scenario.Arrival, 2000)
	for i := range rows {
		rows[i] = scenario.Arrival{At: int64(i) * second, Tasks: 1 + i%2, Service: second, Owner: i % 3}
	}
	thin := Thin(rows, 250_000, 5)
	if n := len(thin); n < 420 || n > 580 || thin[0].At != 0 {
		t.Errorf("a quarter of 2000 is %d, from %d", n, thin[0].At)
	}
	if !slices.Equal(thin, Thin(rows, 250_000, 5)) || slices.Equal(thin, Thin(rows, 250_000, 6)) {
		t.Error("a seed does not say which rows are kept")
	}
	both := Superpose(rows[:10], rows[:5])
	if len(both) != 15 || both[0].At != both[1].At || both[1].Owner != 3 || !slices.IsSortedFunc(both, func(a, b scenario.Arrival) int { return int(a.At - b.At) }) {
		t.Errorf("superposed: %+v", both)
	}
	again, err := Resample(rows, 300, 1)
	if err != nil || len(again) != 300 || again[299].At != 299*second || again[0].At != 0 {
		t.Errorf("resampled: %d, %v", len(again), err)
	}
	if _, err := Resample(rows[:1], 5, 1); err == nil {
		t.Error("one arrival is resampled")
	}
}

// TestFits draws from each family and wants it found again, near what it was drawn
// from, and the others refused where they are far.
func TestFits(t *testing.T) {
	for _, c := range []struct {
		dist chance.Dist
		text string
	}{
		{chance.Dist{Kind: chance.LogNormal, A: 3e9, B: 1.2}, "{lognormal: {median: "},
		{chance.Dist{Kind: chance.Weibull, A: 2e9, B: 0.6}, "{weibull: {scale: "},
		{chance.Dist{Kind: chance.Pareto, A: 1e9, B: 1.5}, "{pareto: {least: "},
	} {
		family, s := string(c.dist.Kind), chance.Seed(8).Stream(0, 0)
		values := make([]float64, 400)
		for i := range values {
			values[i] = float64(c.dist.Draw(&s)) / 1e9
		}
		fits, err := Fits(values, 1)
		if err != nil {
			t.Fatal(err)
		}
		best := fits[0]
		if best.Family != family || best.P < 0.02 || best.Distance > 0.06 || !strings.HasPrefix(best.Text, c.text) {
			t.Errorf("%s: fitted %+v", family, best)
		}
		if ratio := best.dist.A / c.dist.A; ratio < 0.8 || ratio > 1.25 || best.dist.B < 0.8*c.dist.B || best.dist.B > 1.25*c.dist.B {
			t.Errorf("%s: drawn from %+v, fitted %+v", family, c.dist, best.dist)
		}
		if worst := fits[len(fits)-1]; worst.P > 0.02 {
			t.Errorf("%s: the worst, %s, is not refused: p %g", family, worst.Family, worst.P)
		}
	}
	if _, err := Fits([]float64{1, 2}, 1); err == nil {
		t.Error("two values are fitted")
	}
}

// samples is a short trace of each of Formats.
var samples = []string{
	"at_s,service_s,tasks,owner\n1,2,3,ann\n2.5,0.5,1,bob\n",
	"app,func,end_timestamp,duration\na,f,10,2\nb,g,9,0.5\n",
	"; swf\n1 0 0 10 4 -1 -1 4 -1 -1 1 3 1 1 1 1 -1 -1\n",
	"M1,2,j_1,1,Terminated,100,130,100.0,0.5\nR2_1,1,j_1,1,Failed,130,140,100.0,0.5\nM1,4,j_2,1,Terminated,90,95,50.0,0.2\n",
	"600000000,,7,0,,0,ann,2,9,0.1,0.1,0,0\n601000000,,7,0,5,1,ann,2,9,0.1,0.1,0,0\n611500000,,7,0,5,4,ann,2,9,0.1,0.1,0,0\n",
	"name,cpu_milli,qos,creation_time,deletion_time,scheduled_time\np1,100,LS,50,90,55\np2,100,BE,40,60,41\np3,1,BE,70,,\n",
	"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:04.4799600,3180,8\n",
	countsOf2019,
	"PAR1 and nothing more",
}
