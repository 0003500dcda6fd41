package scenario

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/perrin-mesh/perrin/workload/specfile/document"
)

// ParseTree checks a scenario that was read already; name is for errors. An error
// is of type document.Errors.
func ParseTree(name string, root *document.Node) (*Scenario, error) {
	r := &reader{file: name}
	s := Default()
	r.root(root, &s)
	if len(r.errs) == 0 {
		r.check(root, &s)
	}
	if len(r.errs) > 0 {
		return nil, document.Sorted(r.errs)
	}
	return &s, nil
}

// ReadTree reads a file as a tree without checking what it says. An error is of
// type document.Errors.
func ReadTree(name string, data []byte) (*document.Node, error) {
	root, err := document.Parse(name, data)
	return root, document.AsErrors(err)
}

// Axis is a list where a scenario has one value.
type Axis struct {
	Path string // such as "workloads.poisson"
	Node *document.Node
}

// Axes returns the lists of a tree that stand where a scenario wants one value, in
// the order of the file. Those inside another axis's values are not among them.
func Axes(root *document.Node) []Axis {
	r := &reader{lists: map[*document.Node]bool{}}
	s := Default()
	r.root(root, &s)
	return r.axes(root, "")
}

func (r *reader) axes(n *document.Node, path string) (found []Axis) {
	switch n.Kind {
	case document.List:
		if !r.lists[n] {
			return []Axis{{path, n}}
		}
		for i, item := range n.Items {
			found = append(found, r.axes(item, itemPath(path, n, i))...)
		}
	case document.Map:
		for _, f := range n.Fields {
			found = append(found, r.axes(f.Value, strings.TrimPrefix(path+"."+f.Key, "."))...)
		}
	}
	return found
}

// itemPath names an item by its name, or its number when it has none and is not
// alone.
func itemPath(path string, list *document.Node, i int) string {
	if name := list.Items[i].Get("name"); name != nil && name.Text != "" {
		return path + "." + name.Text
	}
	if len(list.Items) > 1 {
		return fmt.Sprintf("%s[%d]", path, i+1)
	}
	return path
}

// With returns a tree in which one node is another. Nodes that do not change are
// shared.
func With(root, old, now *document.Node) *document.Node {
	if root == old {
		return now
	}
	out, changed := *root, false
	out.Items, out.Fields = slices.Clone(root.Items), slices.Clone(root.Fields)
	for i, item := range root.Items {
		out.Items[i] = With(item, old, now)
		changed = changed || out.Items[i] != item
	}
	for i, f := range root.Fields {
		out.Fields[i].Value = With(f.Value, old, now)
		changed = changed || out.Fields[i].Value != f.Value
	}
	if !changed {
		return root
	}
	return &out
}

// Format writes a tree as YAML that reads back the same.
func Format(root *document.Node) []byte {
	var b strings.Builder
	if root.Kind != document.Map {
		b.WriteString(Flow(root) + "\n")
		return []byte(b.String())
	}
	for _, f := range root.Fields {
		b.WriteString(plainOr(f.Key) + ":")
		if f.Value.Kind == document.List && len(f.Value.Items) > 0 {
			for _, item := range f.Value.Items {
				b.WriteString("\n  - " + Flow(item))
			}
			b.WriteString("\n")
			continue
		}
		b.WriteString(" " + Flow(f.Value) + "\n")
	}
	return []byte(b.String())
}

// Flow writes a tree in one line.
func Flow(n *document.Node) string {
	switch n.Kind {
	case document.List:
		items := make([]string, len(n.Items))
		for i, item := range n.Items {
			items[i] = Flow(item)
		}
		return "[" + strings.Join(items, ", ") + "]"
	case document.Map:
		fields := make([]string, len(n.Fields))
		for i, f := range n.Fields {
			fields[i] = plainOr(f.Key) + ": " + Flow(f.Value)
		}
		return "{" + strings.Join(fields, ", ") + "}"
	case document.String:
		return plainOr(n.Text)
	case document.Null:
		return "null"
	}
	return n.Text
}

// plain texts stand in YAML without quotes and are no number, truth or nothing:
// words, and figures with a unit.
var (
	plainWord   = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_/ -]*$`)
	plainFigure = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h|d|%|/s|/m|/h|[KMGT]iB)$`)
	notWords    = []string{"true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf"}
)

func plainOr(text string) string {
	if plainFigure.MatchString(text) || plainWord.MatchString(text) && !slices.Contains(notWords, strings.ToLower(text)) && strings.TrimSpace(text) == text {
		return text
	}
	quoted, err := json.Marshal(text)
	if err != nil { // a text always is JSON
		panic(fmt.Sprintf("scenario: %v", err))
	}
	return string(quoted)
}
