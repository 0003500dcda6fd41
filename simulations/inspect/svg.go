package inspect

import (
	"fmt"
	"html"
	"io"
	"slices"
	"strings"
)

// Sizes of the drawing, in its own units.
const (
	svgWidth  = 960.0
	laneAbove = 58.0
	laneHigh  = 46.0
	laneLeft  = 190.0
	laneRight = 30.0
	rowHigh   = 19.0
	mostLanes = 40 // peers that have a lane
)

const svgStyle = `<style>
:root { color-scheme: light dark }
.paper { fill: #ffffff } text { fill: #1c1c1a; font: 12px system-ui, "DejaVu Sans", sans-serif } .soft { fill: #5c5c57 } .end { text-anchor: end } .mid { text-anchor: middle }
.lane { stroke: #dcdcd6 } .path { stroke: #c2410c; stroke-width: 2; fill: none } .dot { fill: #c2410c } .on { fill: #ffffff; font-size: 10px; text-anchor: middle } .other { fill: #0b62a4; opacity: .45 }
@media (prefers-color-scheme: dark) {
.paper { fill: #17181a } text { fill: #ecebe7 } .soft { fill: #a9a8a2 } .lane { stroke: #383a3d } .path { stroke: #ff9a5c } .dot { fill: #ff9a5c } .on { fill: #17181a } .other { fill: #63b3f2 } }
</style>`

// WriteSVG draws the path: a lane for each peer, time to the right, and below it
// what each number is.
func (p *Path) WriteSVG(to io.Writer) error {
	lanes := p.lanes()
	below := laneAbove + laneHigh*float64(len(lanes)) + 34
	height := below + rowHigh*float64(len(p.Steps)) + 20
	var b strings.Builder
	title := fmt.Sprintf("What workload %d waited for", p.Number)
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" width="%g" height="%g" role="img" aria-labelledby="t d">`, svgWidth, height, svgWidth, height)
	fmt.Fprintf(&b, `<title id="t">%s</title><desc id="d">%d events, each the cause of the next, on %d peers; the list below the drawing names them.</desc>%s`,
		html.EscapeString(title), len(p.Steps), len(lanes), svgStyle)
	fmt.Fprintf(&b, `<rect class="paper" width="%g" height="%g"/><text x="16" y="24" font-weight="600">%s</text><text class="soft" x="16" y="42">%s</text>`,
		svgWidth, height, html.EscapeString(title), html.EscapeString(p.Headline()))
	p.drawLanes(&b, lanes)
	p.drawSteps(&b, lanes)
	for i := range p.Steps {
		s := &p.Steps[i]
		y := below + rowHigh*float64(i+1)
		fmt.Fprintf(&b, `<text class="end soft" x="40" y="%.1f">%d</text><text class="end" x="120" y="%.1f">%s ms</text><text x="136" y="%.1f">%s</text>`,
			y, i+1, y, sinceText(s.AtNs-p.ArrivedNs), y, html.EscapeString(clipped(p.Where(s)+": "+s.Text(), 120)))
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(to, b.String())
	return err
}

func clipped(text string, most int) string {
	if r := []rune(text); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return text
}

// lanes are the peers of the path, then others, in the order of appearance.
func (p *Path) lanes() (peers []int32) {
	for _, list := range [][]Step{p.Steps, p.Others} {
		for i := range list {
			if n := list[i].Peer; n >= 0 && !slices.Contains(peers, n) && len(peers) < mostLanes {
				peers = append(peers, n)
			}
		}
	}
	return peers
}

// x is where a time is in the drawing.
func (p *Path) x(at int64) float64 {
	from, to := p.ArrivedNs, p.ArrivedNs+1
	for _, list := range [][]Step{p.Steps, p.Others} {
		for i := range list {
			from, to = min(from, list[i].AtNs), max(to, list[i].AtNs)
		}
	}
	return laneLeft + (svgWidth-laneLeft-laneRight)*float64(at-from)/float64(to-from)
}

func y(lanes []int32, peer int32) (float64, bool) {
	i := slices.Index(lanes, peer)
	return laneAbove + laneHigh*(float64(i)+0.5), i >= 0
}

func (p *Path) drawLanes(b *strings.Builder, lanes []int32) {
	for _, peer := range lanes {
		at, _ := y(lanes, peer)
		fmt.Fprintf(b, `<path class="lane" d="M%g %.1fH%g"/><text class="end" x="%g" y="%.1f">peer %d</text><text class="end soft" x="%g" y="%.1f">%s</text>`,
			laneLeft, at, svgWidth-laneRight, laneLeft-14, at-1, peer, laneLeft-14, at+13, html.EscapeString(clipped(p.Regions[peer], 24)))
	}
	for i := range p.Others {
		if at, ok := y(lanes, p.Others[i].Peer); ok {
			fmt.Fprintf(b, `<circle class="other" cx="%.1f" cy="%.1f" r="3"><title>%s</title></circle>`, p.x(p.Others[i].AtNs), at, html.EscapeString(p.Others[i].Text()))
		}
	}
	bottom := laneAbove + laneHigh*float64(len(lanes)) + 14
	fmt.Fprintf(b, `<text class="soft" x="%g" y="%.1f">arrival</text>`, p.x(p.ArrivedNs), bottom)
	if len(p.Steps) > 0 {
		last := p.Steps[len(p.Steps)-1].AtNs
		fmt.Fprintf(b, `<text class="soft end" x="%.1f" y="%.1f">%s ms</text>`, p.x(last), bottom, sinceText(last-p.ArrivedNs))
	}
}

func (p *Path) drawSteps(b *strings.Builder, lanes []int32) {
	var path strings.Builder
	var dots strings.Builder
	pen := "M"
	for i := range p.Steps {
		at, ok := y(lanes, p.Steps[i].Peer)
		if !ok {
			continue
		}
		x := p.x(p.Steps[i].AtNs)
		fmt.Fprintf(&path, "%s%.1f %.1f", pen, x, at)
		pen = "L"
		fmt.Fprintf(&dots, `<circle class="dot" cx="%.1f" cy="%.1f" r="8"/><text class="on" x="%.1f" y="%.1f">%d</text>`, x, at, x, at+3.5, i+1)
	}
	fmt.Fprintf(b, `<path class="path" d="%s"/>%s`, path.String(), dots.String())
}
