package study

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/perrin-mesh/perrin/simulations/model"
)

// Schema is the version of the files in a folder.
const Schema = 1

// How a scenario was run: with the production rules on modelled peers, or on whole
// nodes, which no second run repeats event by event.
const (
	Model = "model"
	Stack = "stack"
)

// Manifest is what a reviewer needs to run a study again.
type Manifest struct {
	Schema       int           `json:"schema"`
	Perrin       string        `json:"perrin"` // version of the binary
	Scenario     string        `json:"scenario"`
	Hash         string        `json:"scenario_sha256"` // with every default filled in, without seed and replications
	File         string        `json:"file_sha256"`     // of scenario.yaml
	Seed         uint64        `json:"seed"`
	Policy       string        `json:"policy"`
	Command      string        `json:"policy_command,omitempty"` // of a policy of a user's own
	Program      string        `json:"policy_sha256,omitempty"`  // over the files that it names
	Fidelity     string        `json:"fidelity,omitempty"`       // Model or Stack; "" is Model
	Began        time.Time     `json:"began"`
	WallSeconds  float64       `json:"wall_seconds"`
	CPUSeconds   float64       `json:"cpu_seconds"`
	Workers      int           `json:"workers"`
	Machine      Machine       `json:"machine"`
	Replications []Replication `json:"replications"`
	Logs         []LogFile     `json:"logs,omitempty"`    // as asked for, of each replication
	Modules      []string      `json:"modules,omitempty"` // of the binary, as Modules names them
}

// Replication is one run of a study.
type Replication struct {
	Seed   uint64 `json:"seed"`
	Events uint64 `json:"events"`
	Trace  string `json:"trace"`
}

// Open makes a folder for a study; it must not be there, or be empty.
func Open(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	err := os.Mkdir(dir, 0o755)
	if !errors.Is(err, os.ErrExist) {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		return taken(dir)
	}
	return nil
}

// taken is the error of a folder that is not empty; it is an fs.ErrExist.
type taken string

func (t taken) Error() string        { return string(t) + " is there and not empty" }
func (t taken) Is(target error) bool { return target == fs.ErrExist }

// Manifest describes a study that has ended; text is the scenario's file.
func (o *Outcome) Manifest(version string, text []byte, began time.Time) *Manifest {
	m := &Manifest{
		Schema: Schema, Perrin: version, Scenario: o.Scenario.Name, Hash: o.Scenario.Hash(), File: hash(text),
		Seed: o.Scenario.Seed, Policy: o.Scenario.Policy.Name, Command: o.Scenario.Policy.Command, Program: o.Scenario.Policy.Program, Began: began.UTC(), WallSeconds: o.Wall.Seconds(),
		CPUSeconds: o.CPU.Seconds(), Workers: o.Workers, Machine: ThisMachine(), Modules: Modules(),
	}
	for _, r := range o.Results {
		m.Replications = append(m.Replications, Replication{Seed: r.Seed, Events: r.Events, Trace: r.Trace})
	}
	m.Logs = slices.Concat(o.logs...)
	return m
}

// Write writes the files of a study into its folder: the scenario as it was given,
// the manifest, the summary, the time series and the distributions.
func (o *Outcome) Write(dir string, m *Manifest, text []byte) error {
	for name, write := range map[string]func(io.Writer) error{
		"scenario.yaml": func(w io.Writer) error { _, err := w.Write(text); return err },
		"manifest.json": func(w io.Writer) error { return indented(w, m) },
		"summary.json":  func(w io.Writer) error { return indented(w, o.Summary()) },
		"series.csv":    o.writeSeries,
		"spreads.csv":   o.writeSpreads,
	} {
		if err := writeFile(filepath.Join(dir, name), write); err != nil {
			return err
		}
	}
	return nil
}

// Summary is the content of summary.json.
type Summary struct {
	Schema     int     `json:"schema"`
	Scenario   string  `json:"scenario"`
	Confidence float64 `json:"confidence"`
	Figures    []Row   `json:"figures"`
}

// Summary returns every figure with its interval.
func (o *Outcome) Summary() *Summary {
	return &Summary{Schema: Schema, Scenario: o.Scenario.Name, Confidence: confidence, Figures: o.Rows}
}

func indented(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

var seriesHeader = []string{
	"replication", "at_s", "submitted", "placed", "succeeded", "live", "utilisation", "placement_p50_ms", "rate_mean", "messages", "threads_up",
}

func (o *Outcome) writeSeries(w io.Writer) error {
	out := csv.NewWriter(w)
	if err := out.Write(seriesHeader); err != nil {
		return err
	}
	for n, r := range o.Results {
		for i := range r.Series {
			if err := out.Write(seriesRow(n+1, &r.Series[i])); err != nil {
				return err
			}
		}
	}
	out.Flush()
	return out.Error()
}

var spreadsHeader = []string{"replication", "figure", "unit", "share", "value", "count"}

// writeSpreads writes the distributions: the value that a share of all is at most,
// and of how many there are.
func (o *Outcome) writeSpreads(w io.Writer) error {
	out := csv.NewWriter(w)
	if err := out.Write(spreadsHeader); err != nil {
		return err
	}
	for n, r := range o.Results {
		for _, s := range r.Spreads {
			for i, v := range s.Values {
				row := []string{strconv.Itoa(n + 1), s.Name, s.Unit, number(model.Grid[i]), number(v), strconv.FormatUint(s.N, 10)}
				if err := out.Write(row); err != nil {
					return err
				}
			}
		}
	}
	out.Flush()
	return out.Error()
}

func seriesRow(replication int, p *model.Point) []string {
	count := func(v uint64) string { return strconv.FormatUint(v, 10) }
	return []string{
		strconv.Itoa(replication), number(float64(p.At) / 1e9), count(p.Submitted), count(p.Placed), count(p.Succeeded),
		strconv.FormatInt(p.Live, 10), number(p.Utilisation), number(p.PlacementMs), number(p.Rate), count(p.Messages),
		strconv.FormatInt(p.Up, 10),
	}
}

// number is a figure, empty when there is none.
func number(v float64) string {
	if math.IsNaN(v) {
		return ""
	}
	return strconv.FormatFloat(v, 'g', 8, 64)
}

func finite(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}
