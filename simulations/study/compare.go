package study

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/perrin-mesh/perrin/simulations/scenario"
	"github.com/perrin-mesh/perrin/simulations/stats"
)

// Compared is one figure of two studies of the same worlds.
type Compared struct {
	Name       string         `json:"name"`
	Unit       string         `json:"unit"`
	First      *float64       `json:"first"` // means
	Second     *float64       `json:"second"`
	Difference stats.Interval `json:"difference"` // of the second less the first, by pairs
	Effect     *float64       `json:"effect"`     // Cohen's d_z
	P          *float64       `json:"p"`          // corrected for the number of figures (Holm)
	Differs    bool           `json:"differs"`    // P is below 1 - confidence
}

// treatments are the fields in which two scenarios may differ and still have the
// same peers, arrivals, services and departures.
var treatments = []string{"name", "about", "seed", "replications", "interval", "policy", "cell_size", "voters", "start", "costs", "cells"}

// Why two folders are not compared.
var (
	ErrOtherWorlds = errors.New("the two did not see the same worlds")
	ErrOnePair     = errors.New("want two replications or more in both, there is one pair")
)

// Compare compares two folders, pair by pair of replications of one seed. Folders
// that did not see the same worlds are refused.
func Compare(first, second string) ([]Compared, error) {
	a, sa, err := Read(first)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", first, err)
	}
	b, sb, err := Read(second)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", second, err)
	}
	if other := otherWorlds(sa, sb); len(other) > 0 {
		return nil, fmt.Errorf("%w: %s differs", ErrOtherWorlds, strings.Join(other, ", "))
	}
	pairs := min(len(a.Replications), len(b.Replications))
	for i := range pairs {
		if a.Replications[i].Seed != b.Replications[i].Seed {
			return nil, fmt.Errorf("%w: replication %d has seed %d here and %d there", ErrOtherWorlds, i+1, a.Replications[i].Seed, b.Replications[i].Seed)
		}
	}
	if pairs < 2 {
		return nil, ErrOnePair
	}
	rows, err := readRows(first)
	if err != nil {
		return nil, err
	}
	others, err := readRows(second)
	if err != nil {
		return nil, err
	}
	return compareRows(rows, others, pairs), nil
}

// otherWorlds names the fields that make other worlds and differ.
func otherWorlds(a, b *scenario.Scenario) (names []string) {
	fields := func(s *scenario.Scenario) map[string]json.RawMessage {
		var out map[string]json.RawMessage
		text, err := json.Marshal(s)
		if err == nil {
			err = json.Unmarshal(text, &out)
		}
		if err != nil { // numbers and strings alone
			panic(fmt.Sprintf("study: %v", err))
		}
		return out
	}
	x, y := fields(a), fields(b)
	for _, name := range slices.Sorted(maps.Keys(x)) {
		if !slices.Contains(treatments, name) && !bytes.Equal(x[name], y[name]) {
			names = append(names, name)
		}
	}
	return names
}

func readRows(dir string) ([]Row, error) {
	s, err := ReadSummary(dir)
	if err != nil {
		return nil, err
	}
	return s.Figures, nil
}

// compareRows pairs the figures that both have.
func compareRows(a, b []Row, pairs int) (out []Compared) {
	var p []float64
	for _, row := range a {
		i := slices.IndexFunc(b, func(r Row) bool { return r.Name == row.Name })
		if i < 0 {
			continue
		}
		x, y := numbers(row.Values, pairs), numbers(b[i].Values, pairs)
		pair := stats.Pair(x, y)
		p = append(p, pair.P)
		out = append(out, Compared{Name: row.Name, Unit: row.Unit, First: finite(stats.Of(x).Mean), Second: finite(stats.Of(y).Mean),
			Difference: pair.Difference, Effect: finite(pair.D)})
	}
	for i, v := range stats.Holm(p) {
		out[i].P, out[i].Differs = finite(v), v < 1-confidence
	}
	return out
}

func numbers(values []*float64, n int) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = math.NaN()
		if i < len(values) && values[i] != nil {
			out[i] = *values[i]
		}
	}
	return out
}
