package report

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"slices"
	"strings"

	"github.com/perrin-mesh/perrin/simulations/chance"
	"github.com/perrin-mesh/perrin/simulations/model"
	"github.com/perrin-mesh/perrin/simulations/scenario"
)

// mostDrawn is up to how many peers the peers themselves are drawn again; of more,
// the map has the shares of the scenario.
const mostDrawn = 100_000

// place is a region on the map.
type place struct {
	name    string
	x, y    float64 // degrees east and north, or ms
	peers   float64
	leaders int
	inCell  int // members of the cell that is drawn
	leads   bool
}

// meshMap draws where the peers of the first replication are.
func meshMap(id string, s *scenario.Scenario) (*Figure, error) {
	places, onEarth := positions(&s.Network)
	note := "The area of a circle is how many peers are there."
	if s.Peers <= mostDrawn {
		if err := settle(places, s); err != nil {
			return nil, err
		}
		note += " Lines join the members of cell 0 to its leader’s place: members of a cell are drawn from everywhere."
	} else {
		var total float64
		for _, r := range s.Network.Regions {
			total += float64(r.Share)
		}
		for i := range places {
			places[i].peers = math.Round(float64(s.Peers) * float64(s.Network.Regions[i].Share) / total)
		}
		note += " Numbers follow from the shares of the scenario."
	}
	if onEarth {
		note += " Longitude and latitude, 30° between two lines."
	} else {
		note += " Places are put so that distances are as near to the round trips as a plane allows (classical scaling); the bar is a round trip."
	}
	f := &Figure{Title: "The mesh", Note: note, Columns: []string{"region", "peers", "leaders of cells", "members of cell 0", "median round trip to the others, ms"}}
	for i, p := range places {
		f.Rows = append(f.Rows, []string{p.name, number(p.peers), fmt.Sprint(p.leaders), fmt.Sprint(p.inCell), number(medianTrip(&s.Network, i))})
	}
	f.Drawing = drawMap(id, places, onEarth)
	return f, nil
}

// settle counts the peers of the first replication, drawn again from its seed.
func settle(places []place, s *scenario.Scenario) error {
	drawn := *s
	drawn.Policy.Name = scenario.Perrin // peers are the same under all, and nobody is asked
	w, err := model.New(&drawn, chance.Seed(s.Seed).Replication(0))
	if err != nil {
		return err
	}
	at := map[string]int{}
	for i, p := range places {
		at[p.name] = i
	}
	for n := range s.Peers {
		p, _ := w.Peer(n)
		to := &places[at[p.Region]]
		to.peers++
		if p.Cell == 0 {
			to.inCell++
		}
		if p.Leads {
			to.leaders++
			to.leads = to.leads || p.Cell == 0
		}
	}
	return nil
}

// positions returns the regions where they are on Earth, or else in a plane.
func positions(n *scenario.Network) ([]place, bool) {
	out := make([]place, len(n.Regions))
	onEarth := true
	for i, r := range n.Regions {
		lat, lon, known := scenario.Coordinates(r.Name)
		out[i] = place{name: r.Name, x: lon, y: lat}
		onEarth = onEarth && known
	}
	if onEarth {
		return out, true
	}
	for i, p := range scaled(n.RTT) {
		out[i].x, out[i].y = p.x, p.y
	}
	return out, false
}

// scaled puts places in a plane by classical multidimensional scaling of their
// round trips (Torgerson, Psychometrika 17, 1952), in ms.
func scaled(rtt [][]int64) []point {
	n := len(rtt)
	square := make([][]float64, n)
	mean, total := make([]float64, n), 0.0
	for i := range rtt {
		square[i] = make([]float64, n)
		for j := range rtt {
			if i != j {
				d := float64(rtt[i][j]+rtt[j][i]) / 2e6
				square[i][j] = d * d
			}
			mean[i] += square[i][j] / float64(n)
		}
		total += mean[i] / float64(n)
	}
	for i := range square {
		for j := range square {
			square[i][j] = -(square[i][j] - mean[i] - mean[j] + total) / 2
		}
	}
	x := strongest(square, nil)
	y := strongest(square, x)
	out := make([]point, n)
	for i := range out {
		out[i] = point{x[i], y[i]}
	}
	return out
}

// strongest is the eigenvector of the greatest eigenvalue, as long as its root, by
// iteration; beside is one to stay perpendicular to.
func strongest(m [][]float64, beside []float64) []float64 {
	v := make([]float64, len(m))
	for i := range v {
		v[i] = math.Sin(float64(i) + 1)
	}
	value := 0.0
	for range 300 {
		if beside != nil {
			along := dot(v, beside) / math.Max(dot(beside, beside), 1e-12)
			for i := range v {
				v[i] -= along * beside[i]
			}
		}
		next := make([]float64, len(m))
		for i := range m {
			next[i] = dot(m[i], v)
		}
		value = math.Sqrt(dot(next, next))
		if value < 1e-12 {
			return make([]float64, len(m))
		}
		for i := range next {
			v[i] = next[i] / value
		}
	}
	for i := range v {
		v[i] *= math.Sqrt(value)
	}
	return v
}

func dot(a, b []float64) (sum float64) {
	for i := range a {
		sum += a[i] * b[i]
	}
	return sum
}

func medianTrip(n *scenario.Network, from int) float64 {
	var trips []float64
	for to := range n.RTT {
		if to != from {
			trips = append(trips, float64(n.RTT[from][to])/1e6)
		}
	}
	if len(trips) == 0 {
		return math.NaN()
	}
	slices.Sort(trips)
	return trips[len(trips)/2]
}

// drawMap draws the places and the cell that spans them.
func drawMap(id string, places []place, onEarth bool) template.HTML {
	var most, all float64
	var lead *place
	for i := range places {
		most, all = math.Max(most, places[i].peers), all+places[i].peers
		if places[i].leads {
			lead = &places[i]
		}
	}
	c := chart{height: 400}
	at, frame := c.project(places, onEarth)
	var b strings.Builder
	open(&b, id, chartWidth, c.height, "Where the peers are", fmt.Sprintf("A map of %s peers in %d places.", number(all), len(places)))
	b.WriteString(frame)
	for i := range places {
		if lead != nil && places[i].inCell > 0 && !places[i].leads {
			from, to := at(lead), at(&places[i])
			fmt.Fprintf(&b, `<path class="link c0" d="M%.1f %.1fL%.1f %.1f" stroke-width="%.1f"/>`, from.x, from.y, to.x, to.y, math.Min(1+float64(places[i].inCell)/2, 5))
		}
	}
	for i := range places {
		p := at(&places[i])
		k := 0
		if places[i].leads {
			k = 1
		}
		r := 3 + 15*math.Sqrt(places[i].peers/math.Max(most, 1))
		fmt.Fprintf(&b, `<circle class="place c%d" cx="%.1f" cy="%.1f" r="%.1f"><title>%s: %s peers</title></circle>`, k, p.x, p.y, r,
			html.EscapeString(places[i].name), number(places[i].peers))
	}
	drawNames(&b, places, at)
	b.WriteString("</svg>")
	return template.HTML(b.String()) //nolint:gosec // every text in it went through html.EscapeString
}

// drawNames names the places, the largest first, where a name covers no other.
func drawNames(b *strings.Builder, places []place, at func(*place) point) {
	order := make([]int, len(places))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return int(places[b].peers - places[a].peers) })
	type box struct{ x0, y0, x1, y1 float64 }
	var taken []box
	for _, i := range order {
		p, name := at(&places[i]), short(places[i].name, 24)
		wide := letterWidth * float64(len([]rune(name)))
		for _, dy := range []float64{-20, 28, -34, 42} {
			t := box{p.x - wide/2, p.y + dy - 10, p.x + wide/2, p.y + dy + 3}
			if slices.ContainsFunc(taken, func(o box) bool { return t.x0 < o.x1 && o.x0 < t.x1 && t.y0 < o.y1 && o.y0 < t.y1 }) {
				continue
			}
			taken = append(taken, t)
			fmt.Fprintf(b, `<text class="mid halo" x="%.1f" y="%.1f">%s</text>`, p.x, p.y+dy, html.EscapeString(name))
			break
		}
	}
}

// project returns where a place is in the drawing, and what is behind the places.
func (c *chart) project(places []place, onEarth bool) (func(*place) point, string) {
	var b strings.Builder
	const side, above = 40.0, 36.0
	wide, high := chartWidth-2*side, c.height-2*above
	west, east, south, north := math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)
	for _, p := range places {
		west, east, south, north = math.Min(west, p.x), math.Max(east, p.x), math.Min(south, p.y), math.Max(north, p.y)
	}
	scale := math.Min(wide/math.Max(east-west, 1e-3), high/math.Max(north-south, 1e-3))
	if len(places) == 1 {
		scale = 1
	}
	middleX, middleY := (west+east)/2, (south+north)/2
	at := func(x, y float64) point {
		return point{chartWidth/2 + (x-middleX)*scale, c.height/2 - (y-middleY)*scale}
	}
	if onEarth {
		for lon := -180.0; lon <= 180; lon += 30 {
			if x := at(lon, 0).x; x > 4 && x < chartWidth-4 {
				fmt.Fprintf(&b, `<path class="grid" d="M%.1f 4V%.1f"/>`, x, c.height-4)
			}
		}
		for lat := -90.0; lat <= 90; lat += 30 {
			if y := at(0, lat).y; y > 4 && y < c.height-4 {
				fmt.Fprintf(&b, `<path class="grid" d="M4 %.1fH%.1f"/>`, y, chartWidth-4)
			}
		}
	} else if len(places) > 1 {
		length := math.Pow(10, math.Floor(math.Log10(wide/2/scale)))
		fmt.Fprintf(&b, `<path class="axis" d="M20 %.1fh%.1f"/><text x="20" y="%.1f">%s ms</text>`, c.height-12, length*scale, c.height-18, tick(length))
	}
	return func(p *place) point { return at(p.x, p.y) }, b.String()
}
