package report

import (
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/perrin-mesh/perrin/simulations/scenario"
	"github.com/perrin-mesh/perrin/simulations/study"
	"github.com/perrin-mesh/perrin/simulations/sweep"
)

// Report is one page.
type Report struct {
	Title   string    `json:"title"`
	About   string    `json:"about,omitempty"`
	Facts   []Fact    `json:"facts"`
	Figures []*Figure `json:"figures"`
	Notes   []string  `json:"notes,omitempty"` // what was left out
	Again   []string  `json:"again"`           // commands that make the numbers again
}

// Fact is a line of what was run.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Funcs(template.FuncMap{"id": func(i int) string { return fmt.Sprintf("f%d", i+1) }}).Parse(pageText))

// Write writes the page.
func (r *Report) Write(to io.Writer) error { return page.Execute(to, r) }

// add adds a figure unless there is none.
func (r *Report) add(f *Figure) {
	if f != nil {
		r.Figures = append(r.Figures, f)
	}
}

// next is the id of the next figure's drawing.
func (r *Report) next() string { return fmt.Sprintf("d%d", len(r.Figures)+1) }

// ErrFolder is returned of a folder that no study and no sweep has made.
var ErrFolder = errors.New("neither a run's folder nor a sweep's")

// Of returns the report of a folder: a run's or a sweep's. figures are those to
// show of a sweep's cells.
func Of(dir string, figures []string) (*Report, error) {
	x, err := sweep.ReadIndex(dir)
	switch {
	case err == nil:
		return ofSweep(dir, x, figures)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	r, s, err := readRun(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w: %w", dir, ErrFolder, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return ofRun(dir, r, s)
}

// readRun reads what a run has left.
func readRun(dir string) (*run, *scenario.Scenario, error) {
	m, s, err := study.Read(dir)
	if err != nil {
		return nil, nil, err
	}
	r := &run{name: s.Name, manifest: m}
	if r.summary, err = study.ReadSummary(dir); err != nil {
		return nil, nil, err
	}
	r.spreads, err = study.ReadSpreads(dir)
	return r, s, err
}

func facts(m *study.Manifest, s *scenario.Scenario) []Fact {
	return []Fact{
		{"scenario", s.Name}, {"policy", s.Policy.Name}, {"peers", number(float64(s.Peers))}, {"cell size", fmt.Sprint(s.CellSize)},
		{"simulated", fmt.Sprintf("%s s; what arrived in the first %s s and the last %s s is not measured", number(float64(s.Duration)/1e9), number(float64(s.Warmup)/1e9), number(float64(s.Cooldown)/1e9))},
		{"replications", fmt.Sprint(len(m.Replications))}, {"seed", fmt.Sprint(m.Seed)}, {"scenario SHA-256", m.Hash},
		{"trace of the first replication", m.Replications[0].Trace}, {"Perrin", m.Perrin},
		{"made on", fmt.Sprintf("%s, %s/%s, %s", m.Began.Format("2 January 2006"), m.Machine.OS, m.Machine.Arch, m.Machine.Go)},
	}
}

// ofRun is the report of a run.
func ofRun(dir string, r *run, s *scenario.Scenario) (*Report, error) {
	out := &Report{Title: s.Name, About: s.About, Facts: facts(r.manifest, s), Again: []string{"perrin sim replay " + quoted(dir), "perrin sim report " + quoted(dir)}}
	if r.manifest.Exact() != nil {
		out.Again[0] = fmt.Sprintf("perrin sim run %s --fidelity stack --seed %d", quoted(dir+"/scenario.yaml"), s.Seed)
	}
	all := overall(r)
	out.add(&all)
	out.addDistributions([]*run{r}, []string{s.Name})
	series, err := study.ReadSeries(dir)
	if err != nil {
		return nil, err
	}
	for _, col := range columnsShown {
		out.add(overTime(out.next(), col, []string{"mean"}, []*study.Series{series}, float64(s.Warmup)/1e9))
	}
	mesh, err := meshMap(out.next(), s)
	out.add(mesh)
	return out, err
}

// distributionsShown are the charts of a run: figures of one unit share one.
var distributionsShown = []struct {
	title string
	names []string
	log   bool
}{
	{"Time from submission", []string{"ack", "placement", "start"}, false},
	{"Slow-down", []string{"slowdown"}, true},
	{"Price of a slot", []string{"price"}, false},
}

// addDistributions adds the distributions: of one run several figures in one
// chart, of several runs one figure in each.
func (r *Report) addDistributions(runs []*run, names []string) {
	for _, d := range distributionsShown {
		if len(runs) == 1 {
			var all []named
			unit := ""
			for _, name := range d.names {
				if s := runs[0].spread(name); s != nil {
					all, unit = append(all, named{name, s}), s.Unit
				}
			}
			r.add(distributions(r.next(), d.title, unit, all, d.log))
			continue
		}
		for _, name := range d.names {
			if name == "ack" {
				continue
			}
			var all []named
			unit := ""
			for i, each := range runs {
				if s := each.spread(name); s != nil {
					all, unit = append(all, named{names[i], s}), s.Unit
				}
			}
			r.add(distributions(r.next(), "Distribution of "+name, unit, all, d.log))
		}
	}
}

// Bounds of what a page shows of a sweep.
const (
	mostCurves = 8  // cells whose distributions share a chart
	mostHeats  = 12 // heat maps
)

// Figures are shown of each cell of a sweep unless others are named.
var Figures = []string{latencyFigure, "placement_p99", costFigure, "success"}

// ofSweep is the report of a sweep.
func ofSweep(dir string, x *sweep.Index, figures []string) (*Report, error) {
	if len(figures) == 0 {
		figures = Figures
	}
	out := &Report{Title: x.Name, Again: []string{"perrin sim sweep " + quoted(filepath.Join(dir, "experiment.yaml")) + " --out again", "perrin sim report " + quoted(dir)}}
	cells, first, err := out.readCells(dir, x)
	if err != nil {
		return nil, err
	}
	out.Facts = append([]Fact{{"cells", fmt.Sprint(len(cells))}, {"axes", strings.Join(x.Axes, ", ")}}, facts(cells[0].run.manifest, first)[5:]...)
	if x.Until != nil {
		out.Facts = append(out.Facts, Fact{"replications of a cell", x.Until.String()})
		out.Notes = append(out.Notes, "The number of replications was chosen by looking at the intervals: stopped so, a 95 % interval holds the true mean a little less often than that.")
	}
	out.Facts = dropFact(out.Facts, "trace of the first replication", "scenario SHA-256", "replications")
	axes := axesOf(x.Axes, cells)
	table := cellTable(axes, cells, figures)
	out.add(&table)
	out.addAxes(axes, cells, figures)
	names, runs, contenders := make([]string, len(cells)), make([]*run, len(cells)), make([]contender, len(cells))
	for i := range cells {
		names[i], runs[i] = cells[i].name(), cells[i].run
		contenders[i] = contender{names[i], cells[i].world(), runs[i]}
	}
	if len(cells) > 1 {
		out.add(pareto(out.next(), contenders))
	}
	if len(runs) > mostCurves {
		out.Notes = append(out.Notes, fmt.Sprintf("Distributions are drawn of the first %d cells of %d; spreads.csv of each cell has its own.", mostCurves, len(runs)))
		names, runs = names[:mostCurves], runs[:mostCurves]
	}
	out.addDistributions(runs, names)
	mesh, err := meshMap(out.next(), first)
	out.add(mesh)
	return out, err
}

func dropFact(facts []Fact, names ...string) (out []Fact) {
	for _, f := range facts {
		if !contains(names, f.Name) {
			out = append(out, f)
		}
	}
	return out
}

func contains(list []string, word string) bool {
	for _, each := range list {
		if each == word {
			return true
		}
	}
	return false
}

// readCells reads the cells that are there: an interrupted sweep lacks some.
func (r *Report) readCells(dir string, x *sweep.Index) (cells []cell, first *scenario.Scenario, err error) {
	missing := 0
	for _, c := range x.Cells {
		each, s, err := readRun(filepath.Join(dir, c.Folder))
		if errors.Is(err, fs.ErrNotExist) {
			missing++
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", filepath.Join(dir, c.Folder), err)
		}
		if first == nil {
			first = s
		}
		cells = append(cells, cell{c.Values, each})
	}
	if len(cells) == 0 {
		return nil, nil, fmt.Errorf("%s: no cell of the sweep has ended yet", dir)
	}
	if missing > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("%d of %d cells have not ended: the sweep was interrupted.", missing, len(x.Cells)))
	}
	return cells, first, nil
}

// addAxes draws each figure over the axes: a heat map of two, marks along one.
func (r *Report) addAxes(axes []axisOf, cells []cell, figures []string) {
	var wide []axisOf
	for _, a := range axes {
		if len(a.values) > 1 {
			wide = append(wide, a)
		}
	}
	if len(wide) == 0 {
		return
	}
	heats := 0
	for _, name := range figures {
		if len(wide) == 1 {
			f := alongOne(r.next(), name, wide[0], cells)
			r.add(&f)
			continue
		}
		for _, at := range slicesOf(wide[2:], cells) {
			if heats++; heats > mostHeats {
				continue
			}
			h := heatOf(name, wide[0], wide[1], at.cells)
			f := h.figure(r.next(), at.where)
			r.add(&f)
		}
	}
	if heats > mostHeats {
		r.Notes = append(r.Notes, fmt.Sprintf("%d of %d heat maps are drawn; the table and summary.csv have every cell.", mostHeats, heats))
	}
}

// slice is the cells with one combination of the values of some axes.
type slice struct {
	where string
	cells []cell
}

func slicesOf(axes []axisOf, cells []cell) (out []slice) {
	at := map[string]int{}
	for _, c := range cells {
		var words []string
		for _, a := range axes {
			words = append(words, a.name+" "+c.value(a.name))
		}
		where := strings.Join(words, ", ")
		i, known := at[where]
		if !known {
			i = len(out)
			at[where] = i
			out = append(out, slice{where: where})
		}
		out[i].cells = append(out[i].cells, c)
	}
	return out
}

// quoted is a path as a shell takes it.
func quoted(path string) string {
	if strings.ContainsAny(path, " '\"$&();<>|*?\\`!#~[]{}\t\n") {
		return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
	}
	return path
}
