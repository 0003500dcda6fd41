package report

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"strconv"
	"strings"
)

// Sizes of a drawing, in its own units.
const (
	chartWidth  = 720.0
	chartHeight = 330.0
	marginLeft  = 66.0
	marginRight = 18.0
	marginBelow = 46.0
	letterWidth = 6.9 // of the small text, on the whole
)

// colours is how many classes c0, c1 and so on the page has.
const colours = 8

// point is a place in the units of the axes.
type point struct{ x, y float64 }

// line is one curve, or one mark with bars.
type line struct {
	name   string
	points []point
	band   []point // a closed outline; nil is none
	marks  bool    // points are marked and not joined
	bars   []bar
	colour int
}

// bar is an interval around a point; a half that is not a number is not drawn.
type bar struct {
	at           point
	halfX, halfY float64
}

// chart is a drawing with two axes.
type chart struct {
	title, about string // about is what a reader who cannot see it is told
	x, y         axis
	lines        []line
	shaded       [2]float64 // of x; nothing when both are 0
	fronts       [][]point  // lines through some points
	rings        []point    // points that stand out
	labels       []label
	height       float64 // 0 is chartHeight
	wideLabels   bool    // of the y axis
}

// label is a text beside a point.
type label struct {
	at   point
	text string
}

type axis struct {
	label     string
	log       bool
	low, high float64
	zero      bool     // begins at 0
	names     []string // of whole numbers from 0, in place of figures
	from, to  float64  // in the drawing
}

// fit spans an axis over the values there are.
func (a *axis) fit(values []float64) {
	a.low, a.high = math.Inf(1), math.Inf(-1)
	for _, v := range values {
		if !math.IsNaN(v) && !math.IsInf(v, 0) && (!a.log || v > 0) {
			a.low, a.high = math.Min(a.low, v), math.Max(a.high, v)
		}
	}
	switch {
	case a.names != nil:
		a.low, a.high = -0.5, float64(len(a.names))-0.5
	case a.low > a.high:
		a.low, a.high = 0, 1
		if a.log {
			a.low = 0.1
		}
	case a.log:
		a.low, a.high = a.low/1.1, a.high*1.1
	case a.zero && a.low > 0:
		a.low = 0
		a.high += 0.04 * a.high
	default:
		room := 0.04 * (a.high - a.low)
		a.low, a.high = a.low-room, a.high+room
		if a.zero && a.low > -2*room {
			a.low = 0
		}
	}
	if a.low == a.high {
		a.low, a.high = a.low-math.Max(1, math.Abs(a.low)/10), a.high+math.Max(1, math.Abs(a.high)/10)
	}
}

// at is where a value is in the drawing.
func (a *axis) at(v float64) float64 {
	low, high := a.low, a.high
	if a.log {
		v, low, high = math.Log(math.Max(v, a.low)), math.Log(low), math.Log(high)
	}
	v = math.Min(math.Max(v, low), high)
	return a.from + (v-low)/(high-low)*(a.to-a.from)
}

// ticks are round values on the axis.
func (a *axis) ticks() []float64 {
	if a.names != nil {
		out := make([]float64, len(a.names))
		for i := range out {
			out[i] = float64(i)
		}
		return out
	}
	if a.log {
		return a.logTicks()
	}
	step := math.Pow(10, math.Floor(math.Log10((a.high-a.low)/4)))
	for _, f := range []float64{1, 2, 2.5, 5, 10} {
		if (a.high-a.low)/(step*f) <= 6 {
			step *= f
			break
		}
	}
	var out []float64
	for k := math.Ceil(a.low/step - 1e-9); k*step <= a.high+step*1e-9; k++ {
		out = append(out, k*step)
	}
	return out
}

func (a *axis) logTicks() (out []float64) {
	within := []float64{1, 2, 5}
	if math.Log10(a.high/a.low) > 3 {
		within = within[:1]
	}
	for e := math.Floor(math.Log10(a.low)); e <= math.Log10(a.high); e++ {
		for _, f := range within {
			if v := f * math.Pow(10, e); v >= a.low && v <= a.high {
				out = append(out, v)
			}
		}
	}
	return out
}

func (a *axis) text(v float64) string {
	if a.names != nil {
		return a.names[int(v)]
	}
	return tick(v)
}

// tick is a round value without what rounding has left.
func tick(v float64) string {
	if math.Abs(v) < 1e-12 {
		return "0"
	}
	if math.Abs(v) >= 1000 && math.Abs(v) < 1e15 && v == math.Trunc(v) {
		return number(v)
	}
	return strconv.FormatFloat(v, 'g', 6, 64)
}

// number is a figure in about four digits, with commas.
func number(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return "–"
	}
	if a := math.Abs(v); a < 999.5 && v != math.Trunc(v) {
		digits := 2
		if a >= 1 {
			digits = max(0, 2-int(math.Log10(a)))
		} else if a > 0 {
			digits = min(8, 2-int(math.Floor(math.Log10(a))))
		}
		return strconv.FormatFloat(v, 'f', digits, 64)
	}
	text := strconv.FormatFloat(math.Round(v), 'f', 0, 64)
	sign := ""
	if strings.HasPrefix(text, "-") {
		sign, text = "-", text[1:]
	}
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return sign + text
}

// svg draws the chart; id must be of its own in the page.
func (c *chart) svg(id string) template.HTML {
	if c.height == 0 {
		c.height = chartHeight
	}
	legend, above := c.legend()
	height := c.height + above
	c.span(above)
	var b strings.Builder
	open(&b, id, chartWidth, height, c.title, c.about)
	c.frame(&b, height)
	for i := range c.lines {
		c.drawBand(&b, &c.lines[i])
	}
	for i := range c.lines {
		c.drawLine(&b, &c.lines[i])
	}
	c.drawFronts(&b)
	b.WriteString(legend)
	b.WriteString("</svg>")
	return template.HTML(b.String()) //nolint:gosec // every text in it went through html.EscapeString
}

// open begins a drawing with its title and description.
func open(b *strings.Builder, id string, width, height float64, title, about string) {
	fmt.Fprintf(b, `<svg viewBox="0 0 %g %g" role="img" aria-labelledby="%s-t %s-d"><title id="%s-t">%s</title><desc id="%s-d">%s</desc>`,
		width, height, id, id, id, html.EscapeString(title), id, html.EscapeString(about))
}

// span fits the axes to the lines.
func (c *chart) span(above float64) {
	var xs, ys []float64
	for _, l := range c.lines {
		for _, p := range append(append([]point{}, l.points...), l.band...) {
			xs, ys = append(xs, p.x), append(ys, p.y)
		}
		for _, r := range l.bars {
			if !math.IsNaN(r.halfX) {
				xs = append(xs, r.at.x-r.halfX, r.at.x+r.halfX)
			}
			if !math.IsNaN(r.halfY) {
				ys = append(ys, r.at.y-r.halfY, r.at.y+r.halfY)
			}
		}
	}
	c.x.from, c.x.to = marginLeft, chartWidth-marginRight
	if c.wideLabels {
		c.x.from += 60
	}
	c.y.from, c.y.to = above+c.height-marginBelow, above+10
	c.x.fit(xs)
	c.y.fit(ys)
}

// legend names the lines above the drawing, and returns how high it is.
func (c *chart) legend() (string, float64) {
	var b strings.Builder
	x, y, named := marginLeft, 14.0, 0
	for i, l := range c.lines {
		if l.name == "" {
			continue
		}
		named++
		name := short(l.name, 60)
		wide := 34 + letterWidth*float64(len([]rune(name)))
		if x+wide > chartWidth && x > marginLeft {
			x, y = marginLeft, y+18
		}
		k := c.lines[i].colour % colours
		if l.marks {
			fmt.Fprintf(&b, `<circle class="m c%d" cx="%.1f" cy="%.1f" r="4"/>`, k, x+10, y-4)
		} else {
			fmt.Fprintf(&b, `<path class="l c%d" d="M%.1f %.1fh20"/>`, k, x, y-4)
		}
		fmt.Fprintf(&b, `<text x="%.1f" y="%.1f">%s</text>`, x+26, y, html.EscapeString(name))
		x += wide
	}
	if named == 0 {
		return "", 0
	}
	return b.String(), y + 8
}

func short(text string, most int) string {
	if r := []rune(text); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return text
}

// frame draws the axes, their ticks and their labels.
func (c *chart) frame(b *strings.Builder, height float64) {
	if c.shaded != [2]float64{} {
		from, to := c.x.at(c.shaded[0]), c.x.at(c.shaded[1])
		fmt.Fprintf(b, `<rect class="shade" x="%.1f" y="%.1f" width="%.1f" height="%.1f"/>`, from, c.y.to, to-from, c.y.from-c.y.to)
	}
	for _, v := range c.y.ticks() {
		y := c.y.at(v)
		fmt.Fprintf(b, `<path class="grid" d="M%.1f %.1fH%.1f"/><text class="end" x="%.1f" y="%.1f">%s</text>`,
			c.x.from, y, c.x.to, c.x.from-7, y+4, html.EscapeString(short(c.y.text(v), 18)))
	}
	ticks := c.x.ticks()
	room := int((c.x.to - c.x.from) / float64(max(len(ticks), 1)) / letterWidth)
	for _, v := range ticks {
		x := c.x.at(v)
		fmt.Fprintf(b, `<path class="grid" d="M%.1f %.1fV%.1f"/><text class="mid" x="%.1f" y="%.1f">%s</text>`,
			x, c.y.from, c.y.to, x, c.y.from+17, html.EscapeString(short(c.x.text(v), max(room, 4))))
	}
	fmt.Fprintf(b, `<path class="axis" d="M%.1f %.1fV%.1fH%.1f"/>`, c.x.from, c.y.to, c.y.from, c.x.to)
	fmt.Fprintf(b, `<text class="mid name" x="%.1f" y="%.1f">%s</text>`, (c.x.from+c.x.to)/2, height-8, html.EscapeString(c.x.label))
	fmt.Fprintf(b, `<text class="mid name" transform="translate(13 %.1f) rotate(-90)">%s</text>`, (c.y.from+c.y.to)/2, html.EscapeString(c.y.label))
}

// path is a line through points; where one is not a number it breaks.
func (c *chart) path(points []point) string {
	var b strings.Builder
	pen := byte('M')
	for _, p := range points {
		if math.IsNaN(p.x) || math.IsNaN(p.y) {
			pen = 'M'
			continue
		}
		fmt.Fprintf(&b, "%c%.1f %.1f", pen, c.x.at(p.x), c.y.at(p.y))
		pen = 'L'
	}
	return b.String()
}

func (c *chart) drawBand(b *strings.Builder, l *line) {
	if len(l.band) > 0 {
		class := "band"
		if len(c.lines) > 3 {
			class = "faint band"
		}
		fmt.Fprintf(b, `<path class="%s c%d" d="%sZ"/>`, class, l.colour%colours, c.path(l.band))
	}
}

func (c *chart) drawLine(b *strings.Builder, l *line) {
	k := l.colour % colours
	for _, r := range l.bars {
		if !math.IsNaN(r.halfX) {
			fmt.Fprintf(b, `<path class="bar c%d" d="M%.1f %.1fH%.1f"/>`, k, c.x.at(r.at.x-r.halfX), c.y.at(r.at.y), c.x.at(r.at.x+r.halfX))
		}
		if !math.IsNaN(r.halfY) {
			fmt.Fprintf(b, `<path class="bar c%d" d="M%.1f %.1fV%.1f"/>`, k, c.x.at(r.at.x), c.y.at(r.at.y-r.halfY), c.y.at(r.at.y+r.halfY))
		}
	}
	if !l.marks {
		if d := c.path(l.points); d != "" {
			fmt.Fprintf(b, `<path class="l c%d" d="%s"/>`, k, d)
		}
		return
	}
	for _, p := range l.points {
		if !math.IsNaN(p.x) && !math.IsNaN(p.y) {
			fmt.Fprintf(b, `<circle class="m c%d" cx="%.1f" cy="%.1f" r="4"/>`, k, c.x.at(p.x), c.y.at(p.y))
		}
	}
}

func (c *chart) drawFronts(b *strings.Builder) {
	for k, front := range c.fronts {
		if len(front) > 1 {
			fmt.Fprintf(b, `<path class="front f%d" d="%s"/>`, k%colours, c.path(front))
		}
	}
	for _, p := range c.rings {
		fmt.Fprintf(b, `<circle class="ring" cx="%.1f" cy="%.1f" r="7"/>`, c.x.at(p.x), c.y.at(p.y))
	}
	for _, l := range c.labels {
		x, y, class := c.x.at(l.at.x)+8, c.y.at(l.at.y)-8, "note"
		if x+letterWidth*float64(len([]rune(l.text))) > chartWidth {
			x, class = x-16, "note end"
		}
		fmt.Fprintf(b, `<text class="%s" x="%.1f" y="%.1f">%s</text>`, class, x, y, html.EscapeString(l.text))
	}
}
