package report

import (
	"cmp"
	"fmt"
	"html"
	"html/template"
	"math"
	"slices"
	"strings"

	"github.com/perrin-mesh/perrin/simulations/stats"
	"github.com/perrin-mesh/perrin/simulations/sweep"
)

// cell is a cell of a sweep and what it came to.
type cell struct {
	values []sweep.Value
	run    *run
}

func (c *cell) value(axis string) string {
	for _, v := range c.values {
		if v.Axis == axis {
			return v.Value
		}
	}
	return ""
}

// name is the cell's values, for a legend.
func (c *cell) name() string {
	words := make([]string, len(c.values))
	for i, v := range c.values {
		words[i] = v.Value
	}
	return strings.Join(words, ", ")
}

// world is the cell's values on the axes that are circumstances and no choice of
// who runs a mesh: "" when there is no such axis.
func (c *cell) world() string {
	var words []string
	for _, v := range c.values {
		first, _, _ := strings.Cut(v.Axis, ".")
		if !slices.Contains(choices, first) {
			words = append(words, v.Axis+" "+v.Value)
		}
	}
	return strings.Join(words, ", ")
}

// choices are the fields of a scenario that who runs a mesh decides on.
var choices = []string{"policy", "cell_size", "voters", "start", "costs", "cells"}

// axisOf is an axis of a sweep with its values in the order of the cells.
type axisOf struct {
	name   string
	values []string
}

func axesOf(names []string, cells []cell) []axisOf {
	var out []axisOf
	for _, name := range names {
		a := axisOf{name: name}
		for i := range cells {
			if v := cells[i].value(name); v != "" && !slices.Contains(a.values, v) {
				a.values = append(a.values, v)
			}
		}
		out = append(out, a)
	}
	return out
}

// cellTable lists figures of every cell.
func cellTable(axes []axisOf, cells []cell, figures []string) Figure {
	f := Figure{Title: "Cells", Open: len(cells) <= 60,
		Note: "A cell is one combination of the values. Means over its replications, with half of the 95 % confidence interval."}
	for _, a := range axes {
		f.Columns = append(f.Columns, a.name)
	}
	f.Columns = append(f.Columns, "replications")
	for _, name := range figures {
		f.Columns = append(f.Columns, name, "± 95 %")
	}
	for i := range cells {
		c := &cells[i]
		var row []string
		for _, a := range axes {
			v := c.value(a.name)
			if v == "" {
				v = "–"
			}
			row = append(row, v)
		}
		row = append(row, fmt.Sprint(len(c.run.manifest.Replications)))
		for _, name := range figures {
			iv, _ := c.run.interval(name)
			row = append(row, number(iv.Mean), number(iv.Half))
		}
		f.Rows = append(f.Rows, row)
	}
	return f
}

// heat is a heat map of one figure over two axes.
type heat struct {
	title, unit string
	rows, cols  axisOf
	at          [][]stats.Interval
}

const (
	heatLeft  = 150.0
	heatCell  = 38.0
	heatAbove = 12.0
)

// heatOf arranges a figure of the cells by their values of two axes. Where no cell
// has both values the interval is of nothing.
func heatOf(figure string, rows, cols axisOf, cells []cell) heat {
	h := heat{title: figure, rows: rows, cols: cols}
	for _, r := range rows.values {
		var line []stats.Interval
		for _, c := range cols.values {
			iv := stats.Of(nil)
			for i := range cells {
				if cells[i].value(rows.name) == r && cells[i].value(cols.name) == c {
					iv, h.unit = cells[i].run.interval(figure)
				}
			}
			line = append(line, iv)
		}
		h.at = append(h.at, line)
	}
	return h
}

// span is the least and the greatest value.
func (h *heat) span() (low, high float64) {
	low, high = math.Inf(1), math.Inf(-1)
	for _, row := range h.at {
		for _, iv := range row {
			if !math.IsNaN(iv.Mean) {
				low, high = math.Min(low, iv.Mean), math.Max(high, iv.Mean)
			}
		}
	}
	return low, high
}

// figure draws the heat map.
func (h *heat) figure(id, where string) Figure {
	title := h.title + " by " + h.rows.name + " and " + h.cols.name
	if where != "" {
		title += ", with " + where
	}
	low, high := h.span()
	logarithmic := low > 0 && high/low > 20
	f := Figure{Title: title, Columns: []string{h.rows.name, h.cols.name, h.title, "± 95 %"},
		Note: fmt.Sprintf("In %s. The stronger the colour, the higher: from %s to %s.", unitOr(h.unit), number(low), number(high))}
	if logarithmic {
		f.Note += " Colours are on a logarithmic scale."
	}
	var b strings.Builder
	wide := math.Min(110, (chartWidth-heatLeft-marginRight)/float64(len(h.cols.values)))
	height := heatAbove + heatCell*float64(len(h.rows.values)) + 48
	open(&b, id, chartWidth, height, title, fmt.Sprintf("A heat map; the least is %s, the greatest %s.", number(low), number(high)))
	for i, row := range h.at {
		y := heatAbove + heatCell*float64(i)
		fmt.Fprintf(&b, `<text class="end" x="%.1f" y="%.1f">%s</text>`, heatLeft-8, y+heatCell/2+4, html.EscapeString(short(h.rows.values[i], 20)))
		for k, iv := range row {
			x := heatLeft + wide*float64(k)
			drawCell(&b, x, y, wide, shade(iv.Mean, low, high, logarithmic), iv)
			f.Rows = append(f.Rows, []string{h.rows.values[i], h.cols.values[k], number(iv.Mean), number(iv.Half)})
		}
	}
	below := heatAbove + heatCell*float64(len(h.rows.values))
	for k, v := range h.cols.values {
		fmt.Fprintf(&b, `<text class="mid" x="%.1f" y="%.1f">%s</text>`, heatLeft+wide*(float64(k)+0.5), below+17, html.EscapeString(short(v, int(wide/letterWidth))))
	}
	fmt.Fprintf(&b, `<text class="mid name" x="%.1f" y="%.1f">%s</text>`, heatLeft+wide*float64(len(h.cols.values))/2, below+38, html.EscapeString(h.cols.name))
	fmt.Fprintf(&b, `<text class="mid name" transform="translate(13 %.1f) rotate(-90)">%s</text></svg>`, heatAbove+(below-heatAbove)/2, html.EscapeString(short(h.rows.name, 30)))
	f.Drawing = template.HTML(b.String()) //nolint:gosec // every text in it went through html.EscapeString
	return f
}

func unitOr(unit string) string {
	if unit == "" {
		return "a count"
	}
	return unit
}

// shade is where a value is between the least and the greatest, from 0 to 1.
func shade(v, low, high float64, logarithmic bool) float64 {
	if logarithmic {
		v, low, high = math.Log(v), math.Log(low), math.Log(high)
	}
	if high <= low {
		return 0.5
	}
	return (v - low) / (high - low)
}

func drawCell(b *strings.Builder, x, y, wide, share float64, iv stats.Interval) {
	if math.IsNaN(iv.Mean) {
		fmt.Fprintf(b, `<text class="mid" x="%.1f" y="%.1f">–</text>`, x+wide/2, y+heatCell/2+4)
		return
	}
	on := "mid"
	if share > 0.5 {
		on = "mid on"
	}
	fmt.Fprintf(b, `<rect class="heat" x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill-opacity="%.3f"/><text class="%s" x="%.1f" y="%.1f">%s</text>`,
		x+1, y+1, wide-2, heatCell-2, 0.06+0.94*share, on, x+wide/2, y+heatCell/2+4, html.EscapeString(number(iv.Mean)))
}

// alongOne draws a figure over the values of one axis, a line of marks for each
// combination of the others.
func alongOne(id, figure string, along axisOf, cells []cell) Figure {
	c := chart{title: figure + " by " + along.name, x: axis{label: along.name, names: along.values}, y: axis{}}
	f := Figure{Title: c.title, Columns: []string{along.name, "with", figure, "± 95 %"},
		Note: "Means over the replications; bars are 95 % confidence intervals. Do not read from overlapping bars that two cells are the same: cells with one seed saw the same worlds, and `perrin sim compare` tests them pair by pair."}
	groups := map[string]int{}
	for i := range cells {
		var rest []string
		for _, v := range cells[i].values {
			if v.Axis != along.name {
				rest = append(rest, v.Axis+" "+v.Value)
			}
		}
		name := strings.Join(rest, ", ")
		g, known := groups[name]
		if !known {
			g = len(groups)
			groups[name] = g
			c.lines = append(c.lines, line{name: name, marks: true, colour: g})
		}
		iv, unit := cells[i].run.interval(figure)
		c.y.label = unit
		at := point{float64(slices.Index(along.values, cells[i].value(along.name))) + 0.12*float64(g%5), iv.Mean}
		c.lines[g].points = append(c.lines[g].points, at)
		c.lines[g].bars = append(c.lines[g].bars, bar{at, math.NaN(), iv.Half})
		f.Rows = append(f.Rows, []string{cells[i].value(along.name), name, number(iv.Mean), number(iv.Half)})
	}
	c.about = fmt.Sprintf("%s for %d values of %s, with confidence intervals.", figure, len(along.values), along.name)
	f.Drawing = c.svg(id)
	return f
}

// The two that a mesh trades against each other.
const (
	costFigure    = "paid"
	latencyFigure = "placement_p50"
)

// contender is a point of cost against latency, in its world.
type contender struct {
	name, world string
	run         *run
}

const (
	frontNote = "To the left is faster, below is cheaper. A ring is around the means that no other beats in both, and a dashed line joins them; bars are 95 % confidence intervals, and where they overlap the front may go the other way."
	worldNote = " Each colour is a world of its own, with its own front: only those of one colour had the same work to do."
)

// pareto draws cost against latency; who is beaten by nobody of its world in both
// is on the front of that world.
func pareto(id string, all []contender) *Figure {
	c := chart{title: "Cost against latency", height: 380}
	f := Figure{Title: c.title, Columns: []string{"", "cell", latencyFigure, "± 95 %", costFigure, "± 95 %", "on the front"}, Note: frontNote}
	var worlds []string
	for _, each := range all {
		if !slices.Contains(worlds, each.world) {
			worlds = append(worlds, each.world)
		}
	}
	at := make([]bar, len(all))
	for i, each := range all {
		x, ux := each.run.interval(latencyFigure)
		y, uy := each.run.interval(costFigure)
		c.x.label, c.y.label = latencyFigure+" in "+ux, costFigure+" in "+uy
		at[i] = bar{point{x.Mean, y.Mean}, x.Half, y.Half}
		f.Rows = append(f.Rows, []string{fmt.Sprint(i + 1), each.name, number(x.Mean), number(x.Half), number(y.Mean), number(y.Half), ""})
		if len(all) <= 40 {
			c.labels = append(c.labels, label{at[i].at, fmt.Sprint(i + 1)})
		}
	}
	onFront := 0
	for k, world := range worlds {
		l, front := line{name: world, marks: true, colour: k}, []point(nil)
		for i := range all {
			if all[i].world != world || math.IsNaN(at[i].at.x) || math.IsNaN(at[i].at.y) {
				continue
			}
			l.points, l.bars = append(l.points, at[i].at), append(l.bars, at[i])
			if !beaten(i, at, all) {
				front, f.Rows[i][6] = append(front, at[i].at), "yes"
			}
		}
		onFront += len(front)
		c.rings = append(c.rings, front...)
		slices.SortFunc(front, func(a, b point) int { return cmp.Compare(a.x, b.x) })
		c.lines, c.fronts = append(c.lines, l), append(c.fronts, front)
	}
	if onFront == 0 {
		return nil
	}
	if len(worlds) > 1 {
		f.Note += worldNote
	}
	c.about = fmt.Sprintf("%d points, %d of them beaten by no other of their world in both cost and latency.", len(at), onFront)
	f.Drawing = c.svg(id)
	return &f
}

// beaten says whether another of the same world is no worse in both and better in
// one.
func beaten(i int, at []bar, all []contender) bool {
	a := at[i].at
	for k, b := range at {
		if all[k].world == all[i].world && b.at.x <= a.x && b.at.y <= a.y && (b.at.x < a.x || b.at.y < a.y) {
			return true
		}
	}
	return false
}
