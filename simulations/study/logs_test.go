package study

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/csv"
	"encoding/json"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/anishathalye/porcupine"

	"github.com/perrin-mesh/perrin/simulations/chance"
	"github.com/perrin-mesh/perrin/simulations/model"
	"github.com/perrin-mesh/perrin/simulations/parquet"
)

// TestEventLogs wants every event of a run in each format, the same in all, and the
// trace of a run without.
func TestEventLogs(t *testing.T) {
	s := parse(t, text)
	plain, err := Run(context.Background(), s, Options{})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, format := range LogFormats {
		out, err := Run(context.Background(), s, Options{Logs: Logs{Dir: dir, Events: format}})
		if err != nil {
			t.Fatal(err)
		}
		for n, r := range out.Results {
			if r.Trace != plain.Results[n].Trace {
				t.Errorf("%s changes replication %d", format, n+1)
			}
			f := out.logs[n][0]
			data, err := os.ReadFile(filepath.Join(dir, f.File))
			rows := r.Events + 1 // with the header
			if format == "parquet" {
				rows--
			}
			if err != nil || f.Rows != rows || f.Schema != "perrin.events/1" || len(f.SHA256) != 64 || f.SHA256 != hash(data) {
				t.Errorf("%+v of %d events, %v", f, r.Events, err)
			}
		}
	}
	lines := lines(t, filepath.Join(dir, "events-1.jsonl"))
	table, err := csv.NewReader(bytes.NewReader(zipped(t, filepath.Join(dir, "events-1.csv.gz")))).ReadAll()
	if err != nil || len(table) != len(lines) {
		t.Fatalf("%d rows and %d lines, %v", len(table), len(lines), err)
	}
	numbers := columnsOf(t, filepath.Join(dir, "events-1.parquet"), len(table), "event", "at_ns", "cause", "peer", "from", "cell", "workload")
	var head eventHead
	if err := json.Unmarshal(lines[0], &head); err != nil || head.Version != 1 || head.Hash != s.Hash() || head.Seed != plain.Results[0].Seed {
		t.Errorf("%+v, %v", head, err)
	}
	for i, line := range lines[1:] {
		var e map[string]any
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("line %d: %v", i+2, err)
		}
		for k, name := range eventHeader {
			want := ""
			switch v := e[name].(type) {
			case string:
				want = v
			case float64:
				want = strconv.FormatInt(int64(v), 10)
			}
			if table[i+1][k] != want {
				t.Fatalf("event %d: %s is %q in the table, %q on its line", i+1, name, table[i+1][k], want)
			}
			if c, ok := numbers[name]; ok && (want == "" && !math.IsNaN(c[i]) || want != "" && strconv.FormatInt(int64(c[i]), 10) != want) {
				t.Fatalf("event %d: %s is %g in Parquet, %q on its line", i+1, name, c[i], want)
			}
		}
	}
}

func columnsOf(t *testing.T, file string, rows int, names ...string) map[string][]float64 {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	columns, err := parquet.Read(data, rows, names...)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]float64{}
	for _, c := range columns {
		out[c.Name] = c.Values
	}
	return out
}

func lines(t *testing.T, file string) (out [][]byte) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
		out = append(out, bytes.Clone(s.Bytes()))
	}
	return out
}

func zipped(t *testing.T, file string) []byte {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestLogsThatCannotBeWritten wants an error and nothing left.
func TestLogsThatCannotBeWritten(t *testing.T) {
	s := parse(t, text)
	if _, err := Run(context.Background(), s, Options{Logs: Logs{Dir: filepath.Join(t.TempDir(), "none"), Events: "csv", History: true}}); err == nil {
		t.Error("a folder that is not there is no error")
	}
	dir := t.TempDir()
	if err := os.Symlink("/dev/full", filepath.Join(dir, "events-1.csv.part")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/full", filepath.Join(dir, "events-2.csv.part")); err != nil {
		t.Fatal(err)
	}
	_, err := Run(context.Background(), s, Options{Logs: Logs{Dir: dir, Events: "csv"}})
	if err == nil || !strings.Contains(err.Error(), "no space left on device") {
		t.Errorf("a disk that is full: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*.part")); err != nil || len(left) > 0 {
		t.Errorf("%v are left, %v", left, err)
	}
}

// tasks is what a history must be: a workload is there before any of its tasks runs,
// and no task runs in two slots at once.
var tasks = porcupine.Model{
	Partition: func(all []porcupine.Operation) (out [][]porcupine.Operation) {
		by := map[float64]int{}
		for _, o := range all {
			load := o.Input.(map[string]any)["workload"].(float64)
			if _, known := by[load]; !known {
				by[load] = len(out)
				out = append(out, nil)
			}
			out[by[load]] = append(out[by[load]], o)
		}
		return out
	},
	Init: func() any { return "" },
	Step: func(state, input, _ any) (bool, any) {
		in := input.(map[string]any)
		running, task, slot := state.(string), word(in["task"]), word(in["slot"])
		held := "," + task + ":"
		switch in["op"] {
		case "submit":
			return !strings.Contains(running, "there"), running + "there"
		case "run":
			return strings.Contains(running, "there") && !strings.Contains(running, held), running + held + slot
		}
		return strings.Contains(running, held+slot), strings.Replace(running, held+slot, "", 1)
	},
	Equal: func(a, b any) bool { return a == b },
}

func word(v any) string { return strconv.FormatFloat(v.(float64), 'f', 0, 64) }

const cuts = `
duration: 40s
peers: 12
cell_size: 12
owners: 2
replications: 1
machines: [{cores: 4}]
workloads: [{poisson: 2/s, tasks: 3, service: {exponential: 6s}}]
network: {regions: [{name: a, share: 2}, {name: b}], rtt: [[2ms, 40ms], [40ms, 2ms]]}
faults: [{at: 5s, for: 14s, cut: [b]}]
`

// TestHistory has Porcupine judge the history of a run under a cut, and that of one
// with a planted bug.
func TestHistory(t *testing.T) {
	for plant, want := range map[model.Plant]bool{"": true, model.LeaseIgnored: false} {
		sc := parse(t, cuts)
		dir := t.TempDir()
		w, err := model.New(sc, chance.Seed(4))
		if err != nil {
			t.Fatal(err)
		}
		w.Plant(plant)
		l, err := (&Logs{Dir: dir, History: true}).open(w, sc, 0)
		if err != nil {
			t.Fatal(err)
		}
		for w.Step() {
		}
		if err := l.close(nil); err != nil {
			t.Fatal(err)
		}
		if broken := w.Err() != nil; broken == want {
			t.Errorf("plant %q: the run ends with %v", plant, w.Err())
		}
		var ops []porcupine.Operation
		runs := 0
		for _, line := range lines(t, filepath.Join(dir, "history-1.jsonl")) {
			var o porcupine.Operation
			if err := json.Unmarshal(line, &o); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			if o.Input.(map[string]any)["op"] == "run" {
				runs++
			}
			ops = append(ops, o)
		}
		if got := porcupine.CheckOperations(tasks, ops); got != want || runs < 20 {
			t.Errorf("plant %q: Porcupine says %v of %d operations, %d of them runs", plant, got, len(ops), runs)
		}
	}
}
