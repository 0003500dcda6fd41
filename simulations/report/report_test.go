package report

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/simulations/scenario"
	"github.com/perrin-mesh/perrin/simulations/stats"
	"github.com/perrin-mesh/perrin/simulations/study"
	"github.com/perrin-mesh/perrin/simulations/sweep"
)

const text = `
name: "<script>alert(1)</script>"
about: "a & b"
duration: 2s
warmup: 500ms
interval: 500ms
peers: 30
cell_size: 15
replications: 3
seed: 5
machines: [{cores: 4, price: {uniform: {from: 500, to: 1500}}}]
workloads: [{poisson: 30/s, service: 300ms}]
network: {regions: [{name: "</title><b>", share: 3}, {name: there}, {name: far}], rtt: [[1ms, 30ms, 40ms], [30ms, 1ms, 50ms], [40ms, 50ms, 1ms]]}
`

// folder runs a scenario into a folder.
func folder(t *testing.T, text string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "out")
	s, err := scenario.Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	o, err := study.Run(context.Background(), s, study.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(study.Open(dir), o.Write(dir, o.Manifest("v1", []byte(text), time.Unix(0, 0)), []byte(text))); err != nil {
		t.Fatal(err)
	}
	return dir
}

// written is the page of a report; its drawings must be well-formed and the page
// must load nothing, run nothing and say what it shows to who cannot see it.
func written(t *testing.T, r *Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	for i, f := range r.Figures {
		if f.Drawing == "" && !f.Open || len(f.Rows) == 0 || f.Note == "" {
			t.Errorf("figure %d, %s, has no drawing, no numbers or no note", i+1, f.Title)
		}
		for _, row := range f.Rows {
			if len(row) != len(f.Columns) {
				t.Errorf("%s: a row of %d in a table of %d: %v", f.Title, len(row), len(f.Columns), row)
			}
		}
		if text := string(f.Drawing); text != "" {
			wellFormed(t, f.Title, text)
			if !strings.Contains(text, "<title id=") || !strings.Contains(text, "<desc id=") || strings.Contains(text, "NaN") || strings.Contains(text, "Inf") {
				t.Errorf("%s: %.300s", f.Title, text)
			}
		}
	}
	for _, bad := range []string{"<script", "http:", "https:", "<b>", "src=", "url(", "@import", "ZgotmplZ"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	ids := map[string]bool{}
	for _, m := range regexp.MustCompile(` id="([^"]+)"`).FindAllStringSubmatch(page, -1) {
		if ids[m[1]] {
			t.Errorf("the page has two of id %s", m[1])
		}
		ids[m[1]] = true
	}
	return page
}

func wellFormed(t *testing.T, title, text string) {
	for d := xml.NewDecoder(strings.NewReader(text)); ; {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Errorf("%s is not well-formed: %v", title, err)
			return
		}
	}
}

func TestRun(t *testing.T) {
	dir := folder(t, text)
	r, err := Of(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	page := written(t, r)
	for _, want := range []string{"Time from submission", "Threads in use", "The mesh", "&lt;script&gt;", "a &amp; b", "perrin sim replay"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	again, err := Of(dir, nil)
	if err != nil || written(t, again) != page {
		t.Errorf("another page the second time: %v", err)
	}
	for _, f := range r.Figures { // the curve goes through the figure of the table
		if f.Title == "Time from submission" {
			want, _ := (&run{summary: mustSummary(t, dir)}).interval("placement_p50")
			if got := f.Rows[3]; got[0] != "50 %" || got[3] != number(want.Mean) || got[4] != number(want.Half) {
				t.Errorf("at the half the curve is at %v, the figure %s ± %s", got, number(want.Mean), number(want.Half))
			}
		}
	}
}

func mustSummary(t *testing.T, dir string) *study.Summary {
	s, err := study.ReadSummary(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOneReplicationSaysItsBandIsTooNarrow(t *testing.T) {
	r, err := Of(folder(t, strings.Replace(text, "replications: 3", "replications: 1", 1)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if page := written(t, r); !strings.Contains(page, "Dvoretzky") || !strings.Contains(page, `class="band c0"`) {
		t.Error("no band, or not named")
	}
}

func TestCompare(t *testing.T) {
	a, b := folder(t, text), folder(t, text+"policy: random\n")
	r, err := Compare(a, b)
	if err != nil {
		t.Fatal(err)
	}
	if page := written(t, r); !strings.Contains(page, "B less A") || !strings.Contains(page, "Cost against latency") {
		t.Error("a figure is missing")
	}
	if _, err := Compare(a, folder(t, strings.Replace(text, "seed: 5", "seed: 6", 1))); err == nil {
		t.Error("two worlds are compared")
	}
}

func TestSweep(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "swept")
	for _, c := range []struct{ add, want string }{
		{"policy: [perrin, random]\ncell_size: [10, 15, 30]\n", "placement_p50 by policy and cell_size"},
		{"policy: [perrin, random, power-of-two]\n", "placement_p50 by policy"},
	} {
		experiment := []byte(strings.Replace(text, "cell_size: 15\n", "", 1) + c.add)
		e, err := sweep.Read("e.yaml", experiment, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := sweep.Run(context.Background(), e, experiment, dir, sweep.Options{}); err != nil {
			t.Fatal(err)
		}
		r, err := Of(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		if page := written(t, r); !strings.Contains(page, c.want) || !strings.Contains(page, "Cost against latency") {
			t.Errorf("the page lacks %q", c.want)
		}
	}
}

func TestNoFolder(t *testing.T) {
	if _, err := Of(t.TempDir(), nil); !errors.Is(err, ErrFolder) {
		t.Errorf("got %v", err)
	}
	dir := folder(t, text)
	if err := os.WriteFile(filepath.Join(dir, "spreads.csv"), []byte("replication,figure,unit,share,value,count\n1,a,ms,x,2,3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Of(dir, nil); err == nil || !strings.Contains(err.Error(), "not a row of a distribution") {
		t.Errorf("a damaged table: %v", err)
	}
}

// TestFront has two worlds: each has its own front.
func TestFront(t *testing.T) {
	all := []contender{{world: "a"}, {world: "a"}, {world: "a"}, {world: "b"}}
	at := []bar{{at: point{1, 5}}, {at: point{2, 2}}, {at: point{3, 3}}, {at: point{9, 9}}}
	for i, want := range []bool{false, false, true, false} {
		if got := beaten(i, at, all); got != want {
			t.Errorf("point %d is beaten: %v", i, got)
		}
	}
}

// TestScaled puts the corners of a rectangle back where they were.
func TestScaled(t *testing.T) {
	corners := []point{{0, 0}, {30, 0}, {30, 10}, {0, 10}}
	rtt := make([][]int64, len(corners))
	for i, a := range corners {
		for _, b := range corners {
			rtt[i] = append(rtt[i], int64(1e6*math.Hypot(a.x-b.x, a.y-b.y)))
		}
	}
	got := scaled(rtt)
	for i, a := range corners {
		for j, b := range corners {
			if d, want := math.Hypot(got[i].x-got[j].x, got[i].y-got[j].y), math.Hypot(a.x-b.x, a.y-b.y); math.Abs(d-want) > 0.01 {
				t.Errorf("from %d to %d it is %.3f, was %.3f", i, j, d, want)
			}
		}
	}
}

func TestTicksAreRoundAndFew(t *testing.T) {
	for _, values := range [][]float64{{0, 1}, {3, 3}, {-2, 7e6}, {0.00012, 0.00019}, {}, {math.NaN()}, {1e12, 1e13}} {
		for _, logarithmic := range []bool{false, true} {
			a := axis{log: logarithmic, from: 0, to: 100}
			a.fit(values)
			ticks := a.ticks()
			if len(ticks) > 12 || a.high <= a.low || len(ticks) < 2 && !logarithmic {
				t.Errorf("%v: %v from %g to %g", values, ticks, a.low, a.high)
			}
			for _, v := range ticks {
				if p := a.at(v); p < -1e-6 || p > 100+1e-6 || math.IsNaN(p) {
					t.Errorf("%v: the tick %g is at %g", values, v, p)
				}
			}
		}
	}
}

func TestNumbersRead(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 1234567: "1,234,567", -1234.5: "-1,235", 12.345: "12.3", 999.7: "1,000", 0.01234: "0.0123", 5: "5", math.Inf(1): "–", 1.5: "1.50",
	} {
		if got := number(v); got != want {
			t.Errorf("%g is written %s, want %s", v, got, want)
		}
	}
	if iv := stats.Of(nil); number(iv.Mean) != "–" {
		t.Error("no mean is a number")
	}
}
