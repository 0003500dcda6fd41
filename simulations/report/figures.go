package report

import (
	"fmt"
	"html/template"
	"math"
	"strings"

	"github.com/perrin-mesh/perrin/simulations/stats"
	"github.com/perrin-mesh/perrin/simulations/study"
)

// Figure is a drawing and the numbers it shows.
type Figure struct {
	Title   string        `json:"title"`
	Note    string        `json:"note"` // what a reader must know to read it
	Columns []string      `json:"columns"`
	Rows    [][]string    `json:"rows"`
	Drawing template.HTML `json:"-"`
	Open    bool          `json:"-"` // the table is shown without a click
}

// run is a folder of one study.
type run struct {
	name     string
	manifest *study.Manifest
	summary  *study.Summary
	spreads  []study.Distribution
}

func (r *run) spread(name string) *study.Distribution {
	for i := range r.spreads {
		if r.spreads[i].Name == name {
			return &r.spreads[i]
		}
	}
	return nil
}

// row returns a figure of a run over its replications; of an unknown one none.
func (r *run) interval(name string) (stats.Interval, string) {
	for i := range r.summary.Figures {
		if f := &r.summary.Figures[i]; f.Name == name {
			return stats.Of(f.Numbers(len(f.Values))), f.Unit
		}
	}
	return stats.Of(nil), ""
}

// overall is the table of every figure.
func overall(r *run) Figure {
	f := Figure{Title: "Figures", Columns: []string{"figure", "mean", "± 95 %", "standard deviation", "replications", "unit"}, Open: true,
		Note: "Means over the replications, each an independently sampled network, with half of the 95 % confidence interval by Student’s t."}
	for i := range r.summary.Figures {
		row := &r.summary.Figures[i]
		iv := stats.Of(row.Numbers(len(row.Values)))
		f.Rows = append(f.Rows, []string{row.Name, number(iv.Mean), number(iv.Half), number(iv.StdDev), fmt.Sprint(iv.N), row.Unit})
	}
	return f
}

// quantiles is one distribution as intervals over replications, by share.
func quantiles(d *study.Distribution) []stats.Interval {
	out := make([]stats.Interval, len(d.Shares))
	for i := range d.Shares {
		var values []float64
		for _, run := range d.Values {
			if i < len(run) {
				values = append(values, run[i])
			}
		}
		out[i] = stats.Of(values)
	}
	return out
}

// curve is a cumulative distribution with its band.
func curve(name string, d *study.Distribution, colour int) line {
	l := line{name: name, colour: colour}
	var low, high []point
	q := quantiles(d)
	for i, iv := range q {
		l.points = append(l.points, point{iv.Mean, d.Shares[i]})
		if !math.IsNaN(iv.Half) {
			low = append(low, point{math.Max(iv.Mean-iv.Half, 0), d.Shares[i]})
			high = append(high, point{iv.Mean + iv.Half, d.Shares[i]})
		}
	}
	if len(low) == 0 {
		low, high = dkw(d)
	}
	for i := len(high) - 1; i >= 0; i-- {
		low = append(low, high[i])
	}
	l.band = low
	return l
}

// dkw is the band of Dvoretzky, Kiefer and Wolfowitz with Massart's constant around
// the distribution of a single replication, as if its values were independent.
func dkw(d *study.Distribution) (low, high []point) {
	if len(d.Values) == 0 || len(d.Counts) == 0 || d.Counts[0] == 0 {
		return nil, nil
	}
	eps := math.Sqrt(math.Log(2/(1-stats.Confidence)) / (2 * float64(d.Counts[0])))
	for i, v := range d.Values[0] {
		if i < len(d.Shares) {
			low = append(low, point{v, math.Min(1, d.Shares[i]+eps)})
			high = append(high, point{v, math.Max(0, d.Shares[i]-eps)})
		}
	}
	return low, high
}

const (
	bandNote = "The line is the mean over the replications of the value that each share of all is at most; " +
		"the band is its 95 % confidence interval over the replications, share by share."
	dkwNote = "There is one replication: the band is that of Dvoretzky, Kiefer and Wolfowitz, which takes values as independent. " +
		"Workloads wait in the same queues and are not, so the true band is wider. Run more replications."
)

// shown are the shares that a table of a distribution lists.
var shown = []float64{0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1}

// named is a distribution and what it is called in a figure.
type named struct {
	name string
	of   *study.Distribution
}

// distributions draws distributions of one unit in one chart; nil when there is
// none.
func distributions(id, title, unit string, all []named, log bool) *Figure {
	c := chart{title: title, x: axis{label: unit, log: log}, y: axis{label: "share of all", zero: true}}
	f := Figure{Title: title, Columns: []string{"share"}, Note: bandNote}
	var about []string
	var columns [][]stats.Interval
	for i, d := range all {
		c.lines = append(c.lines, curve(d.name, d.of, i))
		f.Columns = append(f.Columns, d.name, "± 95 %")
		q := quantiles(d.of)
		columns = append(columns, q)
		if len(q) > 49 {
			about = append(about, fmt.Sprintf("%s has the median %s %s", d.name, number(q[49].Mean), unit))
		}
		if len(d.of.Values) < 2 {
			f.Note = dkwNote
		}
	}
	if len(all) == 0 {
		return nil
	}
	for i, share := range all[0].of.Shares {
		if !among(shown, share) {
			continue
		}
		row := []string{number(100*share) + " %"}
		for _, q := range columns {
			if i >= len(q) {
				row = append(row, "–", "–")
				continue
			}
			row = append(row, number(q[i].Mean), number(q[i].Half))
		}
		f.Rows = append(f.Rows, row)
	}
	c.about = "Cumulative distributions: " + strings.Join(about, "; ") + "."
	f.Drawing = c.svg(id)
	return &f
}

func among(list []float64, v float64) bool {
	for _, each := range list {
		if math.Abs(each-v) < 1e-9 {
			return true
		}
	}
	return false
}

// column is a column of the time series and how it is drawn.
type column struct {
	name, title, unit string
	scale             float64
	rate              bool // per second
	zero              bool
	whenItMoves       bool // left out when it is the same all the time
}

var columnsShown = []column{
	{"utilisation", "Threads in use", "%", 100, false, true, false},
	{"placement_p50_ms", "Median placement of each interval", "ms", 1, false, true, false},
	{"live", "Workloads that have not ended", "workloads", 1, false, true, false},
	{"rate_mean", "Price of slots awarded", "µcr/slot-s", 1, false, false, false},
	{"messages", "Messages", "messages/s", 1, true, true, false},
	{"threads_up", "Threads of peers that are there", "threads", 1, false, false, true},
}

// longest is how many rows of a time series are drawn; of more, neighbours are
// taken together.
const longest = 400

// overTime draws one column of several runs.
func overTime(id string, col column, names []string, series []*study.Series, warmup float64) *Figure {
	if col.whenItMoves && !moves(series, col.name) {
		return nil
	}
	c := chart{title: col.title, x: axis{label: "simulated seconds"}, y: axis{label: col.unit, zero: col.zero}, height: 250}
	if warmup > 0 {
		c.shaded = [2]float64{0, warmup}
	}
	f := Figure{Title: col.title, Columns: []string{"s"}, Note: "Mean over the replications, with its 95 % confidence interval, row by row. What is shaded is the warm-up, which no other figure counts."}
	var about []string
	for i, s := range series {
		at, values := thinned(s, col)
		l := line{colour: i}
		if len(series) > 1 {
			l.name = names[i]
		}
		var low, high []point
		for k, iv := range values {
			l.points = append(l.points, point{at[k], iv.Mean})
			if !math.IsNaN(iv.Half) {
				low, high = append(low, point{at[k], iv.Mean - iv.Half}), append(high, point{at[k], iv.Mean + iv.Half})
			}
		}
		for k := len(high) - 1; k >= 0; k-- {
			low = append(low, high[k])
		}
		l.band = low
		c.lines = append(c.lines, l)
		if len(values) > 0 {
			about = append(about, fmt.Sprintf("%s at %s s: %s %s", names[i], number(at[len(at)-1]), number(values[len(values)-1].Mean), col.unit))
		}
		f.Columns = append(f.Columns, names[i]+", "+col.unit, "± 95 %")
		f.addColumn(at, values)
	}
	c.about = col.title + " over simulated time. " + strings.Join(about, "; ") + "."
	f.Drawing = c.svg(id)
	return &f
}

// moves reports whether a column changes within any replication.
func moves(series []*study.Series, name string) bool {
	for _, s := range series {
		for _, run := range s.Columns[name] {
			for _, v := range run {
				if v != run[0] {
					return true
				}
			}
		}
	}
	return false
}

// addColumn puts a mean and its half beside what the table has.
func (f *Figure) addColumn(at []float64, values []stats.Interval) {
	width := len(f.Columns)
	for k, iv := range values {
		if k == len(f.Rows) {
			f.Rows = append(f.Rows, []string{number(at[k])})
		}
		for len(f.Rows[k]) < width-2 {
			f.Rows[k] = append(f.Rows[k], "–")
		}
		f.Rows[k] = append(f.Rows[k], number(iv.Mean), number(iv.Half))
	}
}

// thinned is a column over the replications, with neighbours averaged where there
// are too many rows.
func thinned(s *study.Series, col column) (at []float64, out []stats.Interval) {
	runs := s.Columns[col.name]
	step := (len(s.At) + longest - 1) / longest
	length := 1.0
	if len(s.At) > 1 {
		length = s.At[1] - s.At[0]
	} else if len(s.At) == 1 {
		length = s.At[0]
	}
	for from := 0; from < len(s.At); from += step {
		to := min(from+step, len(s.At))
		var values []float64
		for _, run := range runs {
			var sum, n float64
			for k := from; k < to && k < len(run); k++ {
				if !math.IsNaN(run[k]) {
					sum, n = sum+run[k], n+1
				}
			}
			v := sum / n * col.scale
			if col.rate {
				v /= length
			}
			values = append(values, v)
		}
		at, out = append(at, s.At[to-1]), append(out, stats.Of(values))
	}
	return at, out
}
