package scenario

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/perrin-mesh/perrin/simulations/chance"
	"github.com/perrin-mesh/perrin/workload/specfile"
	"github.com/perrin-mesh/perrin/workload/specfile/document"
)

// reader turns nodes into a scenario and collects what is wrong.
type reader struct {
	file  string
	errs  document.Errors
	lists map[*document.Node]bool // lists that were wanted; nil when nobody asks
}

type field = func(*document.Node)

func (r *reader) fail(at document.Pos, hint, format string, args ...any) {
	r.errs = append(r.errs, &document.Error{File: r.file, Pos: at, Message: fmt.Sprintf(format, args...), Hint: hint})
}

// elsewhere says of words that are no field what there is in their place.
var elsewhere = map[string]struct{ why, hint string }{
	"nat":       {"is part of the network", "write network: {nat: {share: 60%}}"},
	"bandwidth": {"is part of the network", "write network: {bandwidth: {up: 20Mbit/s, down: 100Mbit/s}}"},
	"fidelity":  {"is chosen for a run, not in a scenario", "leave it out, and for whole nodes give perrin sim run --fidelity stack"},
	"energy":    {"is a figure of machines that have watts", "write watts: {idle: 60, busy: 180} in a class of machines"},
	"elections": {"are held without it: another leader comes after 2 to 4 s", "leave it out; on whole nodes Raft elects: perrin sim run --fidelity stack"},
}

// fields calls the reader of each field of n and refuses what has none.
func (r *reader) fields(n *document.Node, where string, readers map[string]field) {
	if n.Kind != document.Map {
		r.fail(n.Pos, "write NAME: VALUE below it", "%s: want a mapping, got %s", where, n.Kind)
		return
	}
	names := slices.Sorted(maps.Keys(readers))
	for _, f := range n.Fields {
		if read, ok := readers[f.Key]; ok {
			read(f.Value)
			continue
		}
		if other, ok := elsewhere[f.Key]; ok {
			r.fail(f.Pos, other.hint, "%s: %s %s", where, f.Key, other.why)
			continue
		}
		hint := "the fields are " + strings.Join(names, ", ")
		if near := document.Nearest(f.Key, names); near != "" {
			hint = fmt.Sprintf("did you mean %s?", near)
		}
		r.fail(f.Pos, hint, "%s: unknown field %.60q", where, f.Key)
	}
}

func (r *reader) list(name string, n *document.Node, limit int) []*document.Node {
	if r.lists != nil {
		r.lists[n] = true
	}
	switch {
	case n.Kind != document.List:
		r.fail(n.Pos, "write each item after a dash", "%s: want a list, got %s", name, n.Kind)
		return nil
	case len(n.Items) > limit:
		r.fail(n.Pos, "", "%s: %d are listed, at most %d", name, len(n.Items), limit)
		return nil
	}
	return n.Items
}

// text reads a word of at most 200 bytes.
func (r *reader) text(name string, to *string) field {
	return func(n *document.Node) {
		if n.Kind != document.String && n.Kind != document.Number || len(n.Text) > 200 {
			r.fail(n.Pos, "", "%s: want a text of at most 200 bytes", name)
			return
		}
		*to = n.Text
	}
}

// value reads one figure of a unit.
type value func(*document.Node) (float64, error)

// figure reads a figure and keeps it when it is in its range.
func (r *reader) figure(name string, of value, low, high float64, to func(float64)) field {
	return r.ranged(name, "", of, low, high, to)
}

// ranged is figure with a hint for what is out of the range.
func (r *reader) ranged(name, hint string, of value, low, high float64, to func(float64)) field {
	return func(n *document.Node) {
		v, err := of(n)
		switch {
		case err != nil:
			r.fail(n.Pos, "", "%s: %v", name, err)
		case !(v >= low) || v > high:
			r.fail(n.Pos, hint, "%s: %s is out of its range", name, shown(n))
		default:
			to(v)
		}
	}
}

func (r *reader) duration(name string, low, high int64, to *int64) field {
	return func(n *document.Node) {
		hint := fmt.Sprintf("want %s to %s", brief(low), brief(high))
		r.ranged(name, hint, span, float64(low), float64(high), func(v float64) { *to = int64(v) })(n)
	}
}

// brief is a duration in ns without units that are zero: 1h, not 1h0m0s.
func brief(ns int64) string {
	text := time.Duration(ns).String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// whole reads a whole number in a range.
func (r *reader) whole(name string, low, high int64, to func(int64)) field {
	return func(n *document.Node) {
		v, err := strconv.ParseInt(strings.ReplaceAll(n.Text, "_", ""), 10, 64)
		if n.Kind != document.Number || err != nil || v < low || v > high {
			r.fail(n.Pos, "", "%s: want a whole number from %d to %d, got %s", name, low, high, shown(n))
			return
		}
		to(v)
	}
}

func (r *reader) count(name string, low, high int, to *int) field {
	return r.whole(name, int64(low), int64(high), func(v int64) { *to = int(v) })
}

func shown(n *document.Node) string {
	if n.Kind == document.String || n.Kind == document.Number || n.Kind == document.Bool {
		return fmt.Sprintf("%.60q", n.Text)
	}
	return n.Kind.String()
}

// span is a duration in ns.
func span(n *document.Node) (float64, error) {
	if n.Kind == document.Number && n.Text == "0" {
		return 0, nil
	}
	d, err := specfile.ParseDuration(n.Text)
	return float64(d), err
}

// plain is a number without a unit.
func plain(n *document.Node) (float64, error) {
	v, err := strconv.ParseFloat(strings.ReplaceAll(n.Text, "_", ""), 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) || n.Kind != document.Number {
		return 0, fmt.Errorf("want a number, got %s", shown(n))
	}
	return v, nil
}

// times is a factor in permille.
func times(n *document.Node) (float64, error) {
	v, err := plain(n)
	return v * 1000, err
}

// percent is a share in ppm: "0.1%".
func percent(n *document.Node) (float64, error) {
	digits, ok := strings.CutSuffix(n.Text, "%")
	v, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
	if !ok || err != nil || v < 0 || v > 100 {
		return 0, fmt.Errorf("want a share such as 0.1%% or 30%%, got %s", shown(n))
	}
	return math.Round(v * 10_000), nil
}

// perSecond is a rate in thousandths a second: "100/s", "6000/m".
func perSecond(n *document.Node) (float64, error) {
	for _, unit := range []struct {
		suffix string
		factor float64
	}{{"/s", 1000}, {"/m", 1000.0 / 60}, {"/h", 1000.0 / 3600}} {
		if digits, ok := strings.CutSuffix(n.Text, unit.suffix); ok {
			if v, err := strconv.ParseFloat(strings.TrimSpace(digits), 64); err == nil && v > 0 {
				return math.Round(v * unit.factor), nil
			}
		}
	}
	return 0, fmt.Errorf("want a rate such as 100/s or 30/m, got %s", shown(n))
}

// bytesOf is a size: "256MiB".
func bytesOf(n *document.Node) (float64, error) {
	v, err := specfile.ParseSize(n.Text)
	return float64(v), err
}

// families says what the parameters of each distribution are called; those of a
// shape have no unit.
var families = map[chance.Kind]struct{ a, b string }{
	chance.Fixed: {"value", ""}, chance.Uniform: {"from", "to"}, chance.Exponential: {"mean", ""},
	chance.LogNormal: {"median", "sigma"}, chance.Pareto: {"least", "alpha"}, chance.Weibull: {"scale", "shape"},
}

// dist reads a distribution: one figure, or FAMILY: {PARAMETERS}, and max.
func (r *reader) dist(name string, of value, to *chance.Dist) field {
	return func(n *document.Node) {
		before := len(r.errs)
		d := chance.Dist{}
		if n.Kind != document.Map {
			d.Kind = chance.Fixed
			r.figure(name, of, 0, 1<<62, func(v float64) { d.A = v })(n)
		} else {
			r.family(name, of, n, &d)
		}
		if len(r.errs) > before {
			return
		}
		if err := d.Validate(); err != nil {
			r.fail(n.Pos, "", "%s: %v", name, err)
			return
		}
		*to = d
	}
}

func (r *reader) family(name string, of value, n *document.Node, d *chance.Dist) {
	readers := map[string]field{"max": r.figure(name+".max", of, 0, 1<<62, func(v float64) { d.Max = int64(v) })}
	for kind, p := range families {
		readers[string(kind)] = func(n *document.Node) {
			if d.Kind != "" {
				r.fail(n.Pos, "keep one of them", "%s: two distributions", name)
				return
			}
			d.Kind = kind
			r.parameters(name+"."+string(kind), of, n, p.a, p.b, d)
		}
	}
	before := len(r.errs)
	r.fields(n, name, readers)
	if d.Kind == "" && len(r.errs) == before {
		r.fail(n.Pos, "write "+name+": 100ms, or "+name+": {exponential: {mean: 100ms}}", "%s: no distribution is named", name)
	}
}

func (r *reader) parameters(name string, of value, n *document.Node, a, b string, d *chance.Dist) {
	if n.Kind != document.Map && b == "" {
		r.figure(name, of, 0, 1<<62, func(v float64) { d.A = v })(n)
		return
	}
	readers := map[string]field{a: r.figure(name+"."+a, of, 0, 1<<62, func(v float64) { d.A = v })}
	if b != "" {
		second := plain
		if d.Kind == chance.Uniform {
			second = of
		}
		readers[b] = r.figure(name+"."+b, second, 0, 1<<62, func(v float64) { d.B = v })
	}
	r.fields(n, name, readers)
	for want := range readers {
		if n.Kind == document.Map && n.Get(want) == nil {
			r.fail(n.Pos, "", "%s: %s is missing", name, strings.Join(slices.Sorted(maps.Keys(readers)), " or "))
			return
		}
	}
}
