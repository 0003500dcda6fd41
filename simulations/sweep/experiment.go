package sweep

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/perrin-mesh/perrin/simulations/model"
	"github.com/perrin-mesh/perrin/simulations/scenario"
	"github.com/perrin-mesh/perrin/workload/specfile/document"
)

// Bounds of an experiment.
const (
	MaxCells        = 10_000
	maxReplications = 200_000 // of all cells together
)

// Experiment is what a file describes, every cell checked.
type Experiment struct {
	Name  string
	Until *Until // nil is the scenario's replications for every cell
	Axes  []string
	Cells []Cell
}

// Until is when a cell has enough replications: from the scenario's replications
// on, once half of the figure's interval is at most Within.
type Until struct {
	Figure   string  `json:"figure"`
	Within   float64 `json:"within"`   // of the mean when Relative, else in the figure's unit
	Relative bool    `json:"relative"` // Within is a share
	AtMost   int     `json:"at_most"`
}

// String returns the rule in words.
func (u *Until) String() string {
	if u.Relative {
		return fmt.Sprintf("until %s is known to %g %%, at most %d replications", u.Figure, 100*u.Within, u.AtMost)
	}
	return fmt.Sprintf("until %s is known to ± %g, at most %d replications", u.Figure, u.Within, u.AtMost)
}

// Value is where a cell is on an axis.
type Value struct {
	Axis  string `json:"axis"`
	Value string `json:"value"`
}

// Cell is one combination of the axes' values.
type Cell struct {
	Scenario *scenario.Scenario
	Text     []byte // a scenario's file
	Values   []Value
}

// Name is the values of a cell in words.
func (c *Cell) Name() string {
	if len(c.Values) == 0 {
		return "the only cell"
	}
	words := make([]string, len(c.Values))
	for i, v := range c.Values {
		words[i] = v.Axis + " " + v.Value
	}
	return strings.Join(words, ", ")
}

// Value returns the cell's value on an axis, "" when it has none.
func (c *Cell) Value(axis string) string {
	for _, v := range c.Values {
		if v.Axis == axis {
			return v.Value
		}
	}
	return ""
}

// Read reads an experiment; name is for errors. base returns the file that the
// field base names. What is wrong with the text is a document.Errors, wrapped with
// the cell when only some have it.
func Read(name string, text []byte, base func(string) ([]byte, error)) (*Experiment, error) {
	root, err := scenario.ReadTree(name, text)
	if err != nil {
		return nil, err
	}
	r := &reader{file: name}
	if root, err = r.withBase(root, base); err != nil {
		return nil, err
	}
	e := &Experiment{}
	if root, e.Until, err = r.until(root); err != nil {
		return nil, err
	}
	if err := r.idle(root); err != nil {
		return nil, err
	}
	if err := r.expand(e, root, nil); err != nil {
		return nil, err
	}
	return e, r.check(e)
}

type reader struct{ file string }

func (r *reader) fail(at document.Pos, hint, format string, args ...any) error {
	return document.Errors{{File: r.file, Pos: at, Message: fmt.Sprintf(format, args...), Hint: hint}}
}

// withBase puts the fields of the experiment over those of its base.
func (r *reader) withBase(root *document.Node, read func(string) ([]byte, error)) (*document.Node, error) {
	named := root.Get("base")
	if named == nil {
		return root, nil
	}
	text, err := read(named.Text)
	if err != nil || named.Kind != document.String {
		return nil, r.fail(named.Pos, "name a scenario's file, or one of the gallery", "base: %.60q cannot be read: %v", named.Text, err)
	}
	under, err := scenario.ReadTree(named.Text, text)
	if err != nil {
		return nil, err
	}
	if _, err := scenario.ParseTree(named.Text, under); err != nil {
		return nil, err
	}
	out := without(root, "base")
	for _, f := range under.Fields {
		if out.Get(f.Key) == nil {
			out.Fields = append(out.Fields, f)
		}
	}
	return out, nil
}

func without(root *document.Node, key string) *document.Node {
	out := *root
	out.Fields = slices.DeleteFunc(slices.Clone(root.Fields), func(f document.Field) bool { return f.Key == key })
	return &out
}

// until takes the stopping rule out of the tree.
func (r *reader) until(root *document.Node) (*document.Node, *Until, error) {
	n := root.Get("until")
	if n == nil {
		return root, nil, nil
	}
	u := &Until{AtMost: 100}
	if n.Kind != document.Map {
		return nil, nil, r.fail(n.Pos, "write until: {figure: placement_p50, within: 5%}", "until: want a mapping, got %s", n.Kind)
	}
	for _, f := range n.Fields {
		if err := r.untilField(u, f.Key, f.Value); err != nil {
			return nil, nil, err
		}
	}
	if u.Figure == "" || u.Within == 0 {
		return nil, nil, r.fail(n.Pos, "write until: {figure: placement_p50, within: 5%}", "until: figure or within is missing")
	}
	return without(root, "until"), u, nil
}

func (r *reader) untilField(u *Until, key string, v *document.Node) error {
	switch key {
	case "figure":
		names := model.FigureNames()
		if !slices.Contains(names, v.Text) {
			return r.fail(v.Pos, nearest(v.Text, names, "the figures are "), "until.figure: there is no %.60q", v.Text)
		}
		u.Figure = v.Text
	case "within":
		digits, share := strings.CutSuffix(v.Text, "%")
		n, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
		if err != nil || !(n > 0) || math.IsInf(n, 0) || share && n >= 100 {
			return r.fail(v.Pos, "", "until.within: want a share of the mean such as 5%%, or a number above 0 in the figure's unit, got %.60q", v.Text)
		}
		if u.Within, u.Relative = n, share; share {
			u.Within /= 100
		}
	case "at_most":
		n, err := strconv.Atoi(v.Text)
		if err != nil || n < 2 || n > scenario.MaxReplications {
			return r.fail(v.Pos, "", "until.at_most: want 2 to %d, got %.60q", scenario.MaxReplications, v.Text)
		}
		u.AtMost = n
	default:
		return r.fail(v.Pos, nearest(key, []string{"figure", "within", "at_most"}, "the fields are "), "until: unknown field %.60q", key)
	}
	return nil
}

func nearest(word string, names []string, all string) string {
	if near := document.Nearest(word, names); near != "" {
		return "did you mean " + near + "?"
	}
	return all + strings.Join(names, ", ")
}

// unchanging are fields that make no other world, with what to do instead.
var unchanging = map[string]string{
	"name": "leave the list out", "about": "leave the list out", "interval": "it only changes the rows of the time series: give one",
	"replications": "give one number, and until: {figure: placement_p50, within: 5%} to have more where they are needed",
}

// idle refuses axes along which nothing changes.
func (r *reader) idle(root *document.Node) error {
	for _, key := range slices.Sorted(maps.Keys(unchanging)) {
		if n := root.Get(key); n != nil && n.Kind == document.List {
			return r.fail(n.Pos, unchanging[key], "%s is no axis: every value of it would be the same experiment", key)
		}
	}
	return nil
}

// expand adds the cells of a tree, one after another along its axes.
func (r *reader) expand(e *Experiment, root *document.Node, at []Value) error {
	axes := scenario.Axes(root)
	cells := 1
	for _, a := range axes {
		if err := r.checkAxis(a); err != nil {
			return err
		}
		if cells *= len(a.Node.Items); cells > MaxCells {
			return r.fail(a.Node.Pos, "fewer values, or several experiments", "the axes make more than %d cells", MaxCells)
		}
	}
	if len(axes) == 0 {
		return r.cell(e, root, at)
	}
	for _, a := range axes {
		if !slices.Contains(e.Axes, a.Path) {
			e.Axes = append(e.Axes, a.Path)
		}
	}
	for n := range cells {
		tree, values := root, slices.Clone(at)
		for i, a := range axes {
			rest := 1
			for _, later := range axes[i+1:] {
				rest *= len(later.Node.Items)
			}
			item := a.Node.Items[n/rest%len(a.Node.Items)]
			tree = scenario.With(tree, a.Node, item)
			values = append(values, Value{a.Path, valueText(item)})
		}
		if err := r.expand(e, tree, values); err != nil {
			return err
		}
	}
	return nil
}

// valueText names a value: of a list or mapping that has axes of its own only what
// does not change.
func valueText(n *document.Node) string {
	if name := n.Get("name"); name != nil && n.Kind == document.Map {
		return name.Text
	}
	if n.Kind == document.String || n.Kind == document.Number {
		return n.Text
	}
	return scenario.Flow(n)
}

func (r *reader) checkAxis(a scenario.Axis) error {
	if len(a.Node.Items) == 0 {
		return r.fail(a.Node.Pos, "give it values, or leave the field out", "%s: an axis without values", a.Path)
	}
	seen := map[string]bool{}
	for _, item := range a.Node.Items {
		text := scenario.Flow(item)
		if seen[text] {
			return r.fail(item.Pos, "keep one of them", "%s: %.60s is listed twice", a.Path, text)
		}
		seen[text] = true
	}
	return nil
}

func (r *reader) cell(e *Experiment, root *document.Node, at []Value) error {
	c := Cell{Values: at, Text: scenario.Format(root)}
	if len(e.Cells) == MaxCells {
		return r.fail(root.Pos, "fewer values, or several experiments", "the axes make more than %d cells", MaxCells)
	}
	s, err := scenario.ParseTree(r.file, root)
	if err != nil {
		return inCell(&c, err)
	}
	again, err := scenario.Parse("scenario.yaml", c.Text)
	if err != nil || again.Hash() != s.Hash() || again.Seed != s.Seed {
		return fmt.Errorf("sweep: %s does not read back as it was written: %w", c.Name(), err)
	}
	c.Scenario, e.Name = s, s.Name
	e.Cells = append(e.Cells, c)
	return nil
}

// inCell says in which cell a scenario is wrong.
func inCell(c *Cell, err error) error {
	if len(c.Values) == 0 {
		return err
	}
	return fmt.Errorf("with %s: %w", c.Name(), err)
}

// check refuses cells that are one, and an experiment that never ends.
func (r *reader) check(e *Experiment) error {
	first := map[string]*Cell{}
	total := 0
	for i := range e.Cells {
		c := &e.Cells[i]
		key := fmt.Sprint(c.Scenario.Hash(), c.Scenario.Seed)
		if other := first[key]; other != nil {
			return r.fail(document.Pos{Line: 1, Column: 1}, "an axis is without effect there: leave one of the two out",
				"two cells are the same scenario: %s; and %s", other.Name(), c.Name())
		}
		first[key] = c
		total += c.Scenario.Replications
		if u := e.Until; u != nil && (c.Scenario.Replications < 2 || c.Scenario.Replications > u.AtMost) {
			return r.fail(document.Pos{Line: 1, Column: 1}, "replications is the least, until.at_most the most",
				"until: from %d to %d replications is no range; one has no interval", c.Scenario.Replications, u.AtMost)
		}
	}
	if total > maxReplications {
		return r.fail(document.Pos{Line: 1, Column: 1}, "fewer cells or replications", "%d replications in all, at most %d", total, maxReplications)
	}
	return nil
}

// Hint returns what to do about an error of Read, "" when there is nothing to say.
func Hint(err error) string {
	var wrong document.Errors
	if errors.As(err, &wrong) {
		return wrong.Hint()
	}
	return ""
}
