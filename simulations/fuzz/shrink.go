package fuzz

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/perrin-mesh/perrin/simulations/model"
	"github.com/perrin-mesh/perrin/simulations/scenario"
	"github.com/perrin-mesh/perrin/workload/specfile/document"
)

// shrink makes the scenario smaller as long as the same invariant breaks: it takes
// out fields and items, ends the run soon after the failure, and halves numbers,
// each with the seed there is and a few others, since a smaller world is another.
func (f *Failure) shrink(ctx context.Context, o Options) {
	f.From = fields(f.root)
	if o.Shrinks > 0 {
		for f.smaller(ctx, o) {
		}
	}
	f.To = fields(f.root)
	f.Scenario = f.file(o.Plant)
}

// smaller makes one step; false when none works or the budget is spent.
func (f *Failure) smaller(ctx context.Context, o Options) bool {
	candidates := f.candidates()
	for _, seed := range []string{"", "1", "2", "3"} {
		for i, c := range candidates {
			if c == nil {
				continue
			}
			if f.Runs >= o.Shrinks || ctx.Err() != nil {
				return false
			}
			tree := c
			if seed != "" {
				tree = set(c, "seed", scalar(document.Number, seed))
			}
			if f.bounded && f.Invariant == model.EndsInTime && !stays(tree) {
				continue
			}
			f.Runs++
			o.tell(Progress{Shrinking: f.Runs, Of: o.Shrinks, Fields: fields(f.root)})
			v, err := judge(ctx, tree, o.Plant)
			if err != nil {
				candidates[i] = nil // it is no scenario, with whatever seed
				f.Runs--
				continue
			}
			if v.failure != nil && v.failure.Invariant == f.Invariant && f.Invariant != Repeated {
				f.Detail, f.Event, f.AtNs, f.Seed, f.root = v.failure.Detail, v.failure.Event, v.failure.AtNs, v.failure.Seed, tree
				return true
			}
		}
	}
	return false
}

// fields counts what a file says: scalars and items.
func fields(n *document.Node) int {
	count := 0
	for _, item := range n.Items {
		count += 1 + fields(item)
	}
	for _, f := range n.Fields {
		count += 1 + fields(f.Value)
	}
	return count
}

// candidates are smaller scenarios, the largest steps first.
func (f *Failure) candidates() (out []*document.Node) {
	root := f.root
	for _, field := range root.Fields {
		if field.Key != "seed" {
			out = append(out, set(root, field.Key, nil))
		}
	}
	out = append(out, shorter(root, f.AtNs)...)
	out = append(out, withoutParts(root, root)...)
	return append(out, halved(root, root)...)
}

// shorter ends the run soon after a time.
func shorter(root *document.Node, at int64) (out []*document.Node) {
	duration := root.Get("duration")
	s, err := scenario.ParseTree("drawn", root)
	if duration == nil || err != nil {
		return nil
	}
	for _, end := range []int64{at + 1_000_000, (at/1_000_000_000 + 1) * 1_000_000_000, s.Duration / 2, s.Duration * 9 / 10} {
		if end = end / 1_000_000 * 1_000_000; end > 0 && end < s.Duration {
			out = append(out, scenario.With(root, duration, scalar(document.String, span(end))))
		}
	}
	return out
}

// withoutParts takes out one item of a list, or one field of a mapping below the
// top.
func withoutParts(root, n *document.Node) (out []*document.Node) {
	for i, item := range n.Items {
		if len(n.Items) > 1 {
			less := *n
			less.Items = append(append([]*document.Node{}, n.Items[:i]...), n.Items[i+1:]...)
			out = append(out, scenario.With(root, n, &less))
		}
		out = append(out, withoutParts(root, item)...)
	}
	for _, f := range n.Fields {
		if n != root {
			out = append(out, scenario.With(root, n, set(n, f.Key, nil)))
		}
		out = append(out, withoutParts(root, f.Value)...)
	}
	return out
}

// halved halves one number, or brings it to 1 at once.
func halved(root, n *document.Node) (out []*document.Node) {
	for _, item := range n.Items {
		out = append(out, halved(root, item)...)
	}
	for _, f := range n.Fields {
		if f.Key == "seed" || f.Key == "duration" {
			continue
		}
		if f.Value.Kind == document.Map || f.Value.Kind == document.List {
			out = append(out, halved(root, f.Value)...)
			continue
		}
		for _, text := range less(f.Value.Text) {
			out = append(out, scenario.With(root, f.Value, scalar(f.Value.Kind, text)))
		}
	}
	return out
}

// less are smaller numbers of the same unit.
func less(text string) (out []string) {
	end := strings.IndexFunc(text, func(r rune) bool { return (r < '0' || r > '9') && r != '_' })
	digits, unit := text, ""
	if end >= 0 {
		digits, unit = text[:end], text[end:]
	}
	v, err := strconv.ParseInt(strings.ReplaceAll(digits, "_", ""), 10, 64)
	if err != nil || strings.HasPrefix(unit, ".") {
		return nil
	}
	for _, to := range []int64{1, v / 4, v / 2, v - v/8} {
		if to > 0 && to < v {
			out = append(out, strconv.FormatInt(to, 10)+unit)
		}
	}
	return out
}

// file is the scenario with what it is for. A plant is named: without it nothing
// fails.
func (f *Failure) file(plant model.Plant) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Found by perrin sim fuzz: invariant %q does not hold:\n# %s (event %d, at %.6f s).\n", f.Invariant, oneLine(f.Detail), f.Event, float64(f.AtNs)/1e9)
	if plant != "" {
		fmt.Fprintf(&b, "# The bug was planted: perrin sim fuzz FILE --tries 0 --plant %s\n", plant)
	}
	b.Write(scenario.Format(f.root))
	return b.String()
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
