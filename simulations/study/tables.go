package study

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// largestTable bounds what is read of a table of a folder, in bytes.
const largestTable = 256 << 20

// ReadSummary returns the figures of a folder. Their intervals are to be computed
// from the values of the replications: the file has null where there is none.
func ReadSummary(dir string) (*Summary, error) {
	data, err := readFile(filepath.Join(dir, "summary.json"))
	if err != nil {
		return nil, err
	}
	var s Summary
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("%s/summary.json: %w", dir, err)
	}
	if s.Schema != Schema {
		return nil, fmt.Errorf("%s/summary.json: schema %d, this version reads %d", dir, s.Schema, Schema)
	}
	return &s, nil
}

// Numbers returns the figure of each of the first n replications; NaN where there
// was nothing to measure.
func (r *Row) Numbers(n int) []float64 { return numbers(r.Values, n) }

// Series is a folder's time series.
type Series struct {
	At      []float64              // s, of each row
	Columns map[string][][]float64 // by replication and row; NaN is none
}

// ReadSeries reads the time series of a folder.
func ReadSeries(dir string) (*Series, error) {
	rows, err := readTable(filepath.Join(dir, "series.csv"), seriesHeader)
	if err != nil {
		return nil, err
	}
	s := &Series{Columns: map[string][][]float64{}}
	for _, row := range rows {
		n := int(row[0])
		if n == 1 {
			s.At = append(s.At, row[1])
		}
		for i, name := range seriesHeader[2:] {
			runs := s.Columns[name]
			for len(runs) < n {
				runs = append(runs, nil)
			}
			runs[n-1] = append(runs[n-1], row[i+2])
			s.Columns[name] = runs
		}
	}
	return s, nil
}

// Distribution is how a figure is spread within each replication.
type Distribution struct {
	Name   string
	Unit   string
	Shares []float64
	Counts []int       // of values, by replication
	Values [][]float64 // that each share of all is at most, by replication
}

// ReadSpreads reads the distributions of a folder, in the order of the file. Runs
// that had nothing to measure have no values.
func ReadSpreads(dir string) ([]Distribution, error) {
	file := filepath.Join(dir, "spreads.csv")
	rows, err := readText(file, spreadsHeader)
	if err != nil {
		return nil, err
	}
	var out []Distribution
	for _, row := range rows {
		run, err := figures(row[0], row[3], row[4], row[5])
		if err != nil || run[0] < 1 || run[0] > float64(maxRuns) {
			return nil, fmt.Errorf("%s: not a row of a distribution: %.100q", file, row)
		}
		i := slices.IndexFunc(out, func(d Distribution) bool { return d.Name == row[1] })
		if i < 0 {
			i = len(out)
			out = append(out, Distribution{Name: row[1], Unit: row[2]})
		}
		d := &out[i]
		n := int(run[0])
		for len(d.Values) < n {
			d.Values, d.Counts = append(d.Values, nil), append(d.Counts, 0)
		}
		d.Counts[n-1] = int(run[3])
		d.Values[n-1] = append(d.Values[n-1], run[2])
		if len(d.Values[n-1]) > len(d.Shares) {
			d.Shares = append(d.Shares, run[1])
		}
	}
	return out, nil
}

// maxRuns bounds the replications that a table may name.
const maxRuns = 1000

// readTable reads a table of numbers whose first column is a replication.
func readTable(file string, header []string) ([][]float64, error) {
	rows, err := readText(file, header)
	if err != nil {
		return nil, err
	}
	out := make([][]float64, len(rows))
	for i, row := range rows {
		if out[i], err = figures(row...); err != nil || !(out[i][0] >= 1 && out[i][0] <= maxRuns) {
			return nil, fmt.Errorf("%s: row %d is not of numbers: %.100q", file, i+2, row)
		}
	}
	return out, nil
}

func figures(words ...string) ([]float64, error) {
	out := make([]float64, len(words))
	for i, word := range words {
		v, err := strconv.ParseFloat(word, 64)
		switch {
		case word == "":
			v = math.NaN()
		case err != nil:
			return nil, err
		}
		out[i] = v
	}
	return out, nil
}

// readText reads a table that begins with a header.
func readText(file string, header []string) ([][]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size() > largestTable {
		return nil, errors.Join(err, fmt.Errorf("%s: more than %d bytes", file, largestTable))
	}
	rows, err := csv.NewReader(io.LimitReader(f, largestTable)).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if len(rows) == 0 || !slices.Equal(rows[0], header) {
		return nil, fmt.Errorf("%s: another version made this table: its columns are not %v", file, header)
	}
	return rows[1:], nil
}
