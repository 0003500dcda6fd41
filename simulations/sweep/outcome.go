package sweep

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/perrin-mesh/perrin/simulations/study"
)

// Outcome is what a sweep came to.
type Outcome struct {
	Experiment *Experiment
	Dir        string
	Wall       time.Duration
	Ran        int // replications that were run now
	Reused     int
	Events     int64 // of those that were run now
	Cells      []CellOutcome
}

// CellOutcome is what one cell came to.
type CellOutcome struct {
	*Cell
	Key     string
	Outcome *study.Outcome
}

// Row returns a figure of a cell.
func (c *CellOutcome) Row(name string) (study.Row, bool) {
	i := slices.IndexFunc(c.Outcome.Rows, func(r study.Row) bool { return r.Name == name })
	if i < 0 {
		return study.Row{}, false
	}
	return c.Outcome.Rows[i], true
}

// Index is the content of sweep.json.
type Index struct {
	Schema int         `json:"schema"`
	Name   string      `json:"name"`
	Perrin string      `json:"perrin"`
	Until  *Until      `json:"until,omitempty"`
	Axes   []string    `json:"axes"`
	Whole  bool        `json:"finished"`
	Cells  []IndexCell `json:"cells"`
}

// IndexCell is where a cell's folder is.
type IndexCell struct {
	Folder string  `json:"folder"`
	Values []Value `json:"values"`
}

func (e *Experiment) index(o Options, whole bool) *Index {
	x := &Index{Schema: study.Schema, Name: e.Name, Perrin: o.Version, Until: e.Until, Axes: e.Axes, Whole: whole}
	for i := range e.Cells {
		c := &e.Cells[i]
		x.Cells = append(x.Cells, IndexCell{filepath.Join(folderCells, key(c, o.Code)), c.Values})
	}
	return x
}

// largestIndex bounds what is read of an index, in bytes.
const largestIndex = 64 << 20

// ReadIndex reads the index of a sweep's folder; fs.ErrNotExist when it is none.
func ReadIndex(dir string) (*Index, error) {
	f, err := os.Open(filepath.Join(dir, fileSweep))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var x Index
	if err := json.NewDecoder(io.LimitReader(f, largestIndex)).Decode(&x); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	if x.Schema != study.Schema || len(x.Cells) > MaxCells {
		return nil, fmt.Errorf("%s: schema %d with %d cells, this version reads %d", f.Name(), x.Schema, len(x.Cells), study.Schema)
	}
	for _, c := range x.Cells {
		if !filepath.IsLocal(c.Folder) {
			return nil, fmt.Errorf("%s: the folder %.60q is not inside", f.Name(), c.Folder)
		}
	}
	return &x, nil
}

// writeCell writes a cell as a study's folder, unless it is there as it should be.
func (s *sweeper) writeCell(w *work) error {
	dir := filepath.Join(s.store.dir, folderCells, w.key)
	if m, _, err := study.Read(dir); err == nil && len(m.Replications) == w.first {
		return nil
	}
	o := w.gather()
	part := dir + ".part"
	if err := errors.Join(os.RemoveAll(part), os.Mkdir(part, 0o755)); err != nil {
		return err
	}
	if err := o.Write(part, o.Manifest(s.o.Version, w.Text, s.began), w.Text); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Rename(part, dir)
}

// writeSummary writes a row for each figure of each cell.
func (o *Outcome) writeSummary(s *store) error {
	return replace(filepath.Join(s.dir, fileSummary), func(to io.Writer) error {
		w := csv.NewWriter(to)
		rows := [][]string{append(append([]string{"cell"}, o.Experiment.Axes...), "figure", "unit", "n", "mean", "half", "stddev")}
		for i := range o.Cells {
			c := &o.Cells[i]
			for _, r := range c.Outcome.Rows {
				row := []string{c.Key}
				for _, axis := range o.Experiment.Axes {
					row = append(row, c.Value(axis))
				}
				rows = append(rows, append(row, r.Name, r.Unit, strconv.Itoa(r.Interval.N), figure(r.Interval.Mean), figure(r.Interval.Half), figure(r.Interval.StdDev)))
			}
		}
		return w.WriteAll(rows)
	})
}

// figure is a number, empty when there is none.
func figure(v float64) string {
	if math.IsNaN(v) {
		return ""
	}
	return strconv.FormatFloat(v, 'g', 8, 64)
}
