package study

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/simulations/chance"
	"github.com/perrin-mesh/perrin/simulations/model"
	"github.com/perrin-mesh/perrin/simulations/scenario"
)

const text = `
duration: 3s
warmup: 500ms
interval: 500ms
peers: 60
cell_size: 20
replications: 4
seed: 5
machines: [{cores: 4}]
workloads: [{poisson: 30/s, service: 300ms}]
churn: {departures: [{at: 2s, share: 20%, back: 500ms}]}
`

func parse(t *testing.T, text string) *scenario.Scenario {
	t.Helper()
	s, err := scenario.Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestWorkersChangeNothing(t *testing.T) {
	var first *Outcome
	for _, workers := range []int{1, 2} {
		var last Progress
		o, err := Run(context.Background(), parse(t, text), Options{Workers: workers, Progress: func(p Progress) { last = p }})
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = o
		}
		a, errA := json.Marshal(first.Summary())
		b, errB := json.Marshal(o.Summary())
		if errA != nil || errB != nil || string(a) != string(b) {
			t.Errorf("%d workers give %s, one gives %s", workers, b, a)
		}
		for i := range o.Results {
			if o.Results[i].Trace != first.Results[i].Trace {
				t.Errorf("replication %d: other events with %d workers", i, workers)
			}
			if i > 0 && o.Results[i].Trace == o.Results[0].Trace {
				t.Errorf("replications 0 and %d are one", i)
			}
		}
		if last.Replications != 4 || last.Total != 12_000_000_000 {
			t.Errorf("the progress ends with %+v", last)
		}
	}
}

func TestFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "results")
	if err := Open(dir); err != nil {
		t.Fatal(err)
	}
	o, err := Run(context.Background(), parse(t, text), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Write(dir, o.Manifest("v1", []byte(text), time.Now()), []byte(text)); err != nil {
		t.Fatal(err)
	}
	var m Manifest
	read := func(name string, v any) string {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil && v != nil {
			err = json.Unmarshal(data, v)
		}
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	read("manifest.json", &m)
	if m.Schema != Schema || m.Perrin != "v1" || len(m.Replications) != 4 || m.Replications[0].Trace != o.Results[0].Trace || m.Hash != o.Scenario.Hash() {
		t.Errorf("the manifest is %+v", m)
	}
	if s := read("summary.json", nil); !strings.Contains(s, `"placement_p50"`) {
		t.Errorf("the summary is %s", s)
	}
	if rows := strings.Split(strings.TrimSpace(read("series.csv", nil)), "\n"); len(rows) != 1+4*6 || strings.Count(rows[3], ",") != len(seriesHeader)-1 {
		t.Errorf("%d rows, the third %s", len(rows), rows[3])
	}
	if read("scenario.yaml", nil) != text {
		t.Error("the scenario is another")
	}
	again, sc, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	repeated, err := Replay(context.Background(), again, sc, "v2", Options{})
	if err != nil {
		t.Fatalf("the same again: %v", err)
	}
	checkAltered(t, dir, repeated)
	var unlike *Unlike
	again.Replications[2].Trace = "0000000000000000"
	if _, err := Replay(context.Background(), again, sc, "v2", Options{}); !errors.As(err, &unlike) || unlike.Replication != 3 || unlike.Made != "v1" {
		t.Errorf("another trace: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "scenario.yaml"), []byte(text+"#"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Read(dir); err == nil || !strings.Contains(err.Error(), "was changed") {
		t.Errorf("another scenario: %v", err)
	}
	if err := Open(dir); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a folder that is not empty: %v", err)
	}
}

// checkAltered changes the figures of a folder, one after another.
func checkAltered(t *testing.T, dir string, o *Outcome) {
	t.Helper()
	if err := o.CheckFigures(dir); err != nil {
		t.Fatalf("the folder as it was written: %v", err)
	}
	p50 := number(*o.Rows[slices.IndexFunc(o.Rows, func(r Row) bool { return r.Name == "placement_p50" })].Values[1])
	for _, c := range []struct{ file, pattern, with, says string }{
		{"summary.json", `(?s)("placement_p50".*?"values": \[\s+[0-9.e-]+,\s+)[0-9.e-]+`, "${1}12.5", "placement_p50 of replication 2 is 12.5, the run gives " + p50[:4]},
		{"summary.json", `(?s)("ack_p50".*?"mean": )[0-9.e-]+`, "${1}7", "the interval of ack_p50 is {"},
		{"summary.json", `"placement_p99"`, `"placement_p98"`, "a figure is placement_p98 (ms), the run gives placement_p99 (ms)"},
		{"summary.json", `,\s+\{\s+"name": "\w+",\s+"unit": "[^"]*",\s+"interval": \{[^{}]*\},\s+"values": \[[^\]]*\]\s+\}\s+\]\s+\}\s*$`, "]}", "the number of figures"},
		{"summary.json", `"confidence": 0.95`, `"confidence": 0.99`, "line 4 is"},
		{"series.csv", `(?m)^(2,1\.5,\d+),\d+,`, "${1},99999,", "line 10, placed is 99999, the run gives "},
		{"series.csv", `(?m)^4,3,.*\n`, "", "line 25 is "},
		{"spreads.csv", `(?m)^(3,placement,ms,0\.5,)[^,]+`, "${1}1", ", value is 1, the run gives "},
	} {
		name := filepath.Join(dir, c.file)
		was, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		forged := regexp.MustCompile(c.pattern).ReplaceAll(was, []byte(c.with))
		if err := os.WriteFile(name, forged, 0o600); err != nil || bytes.Equal(was, forged) {
			t.Fatalf("%s: nothing changed by %s (%v)", c.file, c.pattern, err)
		}
		var altered *Altered
		if err := o.CheckFigures(dir); !errors.As(err, &altered) || altered.File != c.file || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s with %s: %v, want %q", c.file, c.with, err, c.says)
		}
		if err := os.WriteFile(name, was, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTooLarge(t *testing.T) {
	var large *TooLarge
	s := parse(t, text)
	if _, err := Run(context.Background(), s, Options{Memory: s.Memory() - 1}); !errors.As(err, &large) || large.Workers != 1 {
		t.Errorf("got %v", err)
	}
	o, err := Run(context.Background(), s, Options{Memory: 2*s.Memory() - 1, Workers: 2})
	if err != nil || o.Workers != 1 {
		t.Errorf("with memory for one: %v", err)
	}
}

func TestVerify(t *testing.T) {
	s := parse(t, text)
	v, err := Verify(context.Background(), s, Options{})
	if err != nil || v.Events == 0 {
		t.Fatalf("%+v, %v", v, err)
	}
	o, err := Run(context.Background(), s, Options{})
	if err != nil || o.Results[0].Trace != v.Trace {
		t.Errorf("run gives %s, verify %s, %v", o.Results[0].Trace, v.Trace, err)
	}
}

// TestVerifyNamesTheFirstDifference runs two worlds that are the same up to a
// departure of more peers in one.
func TestVerifyNamesTheFirstDifference(t *testing.T) {
	world := func(text string) *model.World {
		w, err := model.New(parse(t, text), chance.Seed(1))
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	var d *Difference
	err := lockstep(context.Background(), world(text), world(strings.Replace(text, "20%", "90%", 1)))
	if !errors.As(err, &d) || !strings.Contains(err.Error(), "at 2.") {
		t.Errorf("got %v", err)
	}
	err = lockstep(context.Background(), world(text), world(strings.Replace(text, "duration: 3s", "duration: 2500ms", 1)))
	if !errors.As(err, &d) || !strings.Contains(err.Error(), "one run has ended") && !strings.Contains(err.Error(), "differ") {
		t.Errorf("got %v", err)
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s := parse(t, text)
	s.Duration *= 100
	if _, err := Run(ctx, s, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
