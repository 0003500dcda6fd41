package report

import (
	"fmt"
	"math"

	"github.com/perrin-mesh/perrin/simulations/study"
)

// Compare returns the report of two folders that saw the same worlds; others are
// refused.
func Compare(first, second string) (*Report, error) {
	rows, err := study.Compare(first, second)
	if err != nil {
		return nil, err
	}
	var runs []*run
	var series []*study.Series
	names := []string{"A: " + first, "B: " + second}
	out := &Report{Title: "A and B", About: fmt.Sprintf("A is %s, B is %s. Both saw the same worlds.", first, second),
		Again: []string{"perrin sim compare " + quoted(first) + " " + quoted(second), "perrin sim report " + quoted(first) + " " + quoted(second)}}
	warmup := 0.0
	for i, dir := range []string{first, second} {
		r, s, err := readRun(dir)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", dir, err)
		}
		at, err := study.ReadSeries(dir)
		if err != nil {
			return nil, err
		}
		runs, series, warmup = append(runs, r), append(series, at), float64(s.Warmup)/1e9
		for _, f := range facts(r.manifest, s) {
			if f.Name != "made on" {
				out.Facts = append(out.Facts, Fact{"AB"[i:i+1] + ": " + f.Name, f.Value})
			}
		}
	}
	table := differences(out.next(), rows)
	out.add(&table)
	out.add(pareto(out.next(), []contender{{names[0], "", runs[0]}, {names[1], "", runs[1]}}))
	out.addDistributions(runs, names)
	for _, col := range columnsShown {
		out.add(overTime(out.next(), col, names, series, warmup))
	}
	return out, nil
}

// differences draws how far B is from A, in percent of A, with intervals.
func differences(id string, rows []study.Compared) Figure {
	f := Figure{Title: "B less A", Open: true, Columns: []string{"figure", "A", "B", "difference", "± 95 %", "effect", "p, corrected", "unit"},
		Note: "Differences pair by pair of replications, in percent of A’s mean, with 95 % intervals. In the second colour are those whose p-value, corrected for their number by Holm’s method, is below 0.05. The effect is the mean difference in standard deviations of the differences. A figure that is not marked was not shown to be the same."}
	same, other := line{marks: true, colour: 0, name: "not told from chance"}, line{marks: true, colour: 1, name: "differs"}
	c := chart{title: f.Title, x: axis{label: "difference, % of A"}}
	for i := len(rows) - 1; i >= 0; i-- {
		r := &rows[i]
		if r.First == nil || *r.First == 0 || math.IsNaN(r.Difference.Mean) || math.IsNaN(r.Difference.Half) {
			continue
		}
		at := point{100 * r.Difference.Mean / math.Abs(*r.First), float64(len(c.y.names))}
		c.y.names = append(c.y.names, r.Name)
		l := &same
		if r.Differs {
			l = &other
		}
		l.points, l.bars = append(l.points, at), append(l.bars, bar{at, 100 * r.Difference.Half / math.Abs(*r.First), math.NaN()})
	}
	for i := range rows {
		r := &rows[i]
		f.Rows = append(f.Rows, []string{r.Name, pointer(r.First), pointer(r.Second), number(r.Difference.Mean), number(r.Difference.Half), pointer(r.Effect), probability(r.P), r.Unit})
	}
	if len(c.y.names) == 0 {
		return f
	}
	c.fronts = [][]point{{{0, -0.5}, {0, float64(len(c.y.names)) - 0.5}}}
	c.lines = []line{same, other}
	c.height = 60 + 20*float64(len(c.y.names))
	c.wideLabels = true
	c.about = fmt.Sprintf("%d figures, %d of which differ.", len(rows), len(other.points))
	f.Drawing = c.svg(id)
	return f
}

func pointer(v *float64) string {
	if v == nil {
		return "–"
	}
	return number(*v)
}

func probability(p *float64) string {
	switch {
	case p == nil:
		return "–"
	case *p < 0.0001:
		return "< 0.0001"
	}
	return fmt.Sprintf("%.2g", *p)
}
