package specfile

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/specfile/document"
)

// MaxSteps bounds the steps of a file.
const MaxSteps = 1000

//go:embed schema.json
var schema []byte

// Schema returns the JSON Schema (draft 2020-12) of a workload file.
func Schema() []byte { return slices.Clone(schema) }

// Text is a word of the file and where it stands.
type Text struct {
	document.Pos
	Value string
}

// Input names a local file or folder and where a task finds it; As may be
// empty.
type Input struct {
	document.Pos
	Path string
	As   string
}

// Task is what one task has of its own.
type Task struct {
	document.Pos
	Name   string
	Args   []string
	Inputs []Input
}

// Step is one workload of a file. Spec is complete but for what the other
// fields name: its Program, Inputs, Tasks (unless only counted), Stdin and After.
type Step struct {
	document.Pos
	Name    string
	Spec    workload.Spec
	Program Text
	Stdin   Text // empty for none
	Inputs  []Input
	Tasks   []Task
	Map     Text   // a glob, one task for each match; empty for none
	After   []Text // names of other steps, or IDs

	Seal        bool
	SealHelpers string            // as --seal-helpers; "" is none
	Secrets     map[string]string // files by the secrets' names
}

// File is a parsed file. Steps stand in an order in which each comes after
// those that it waits for.
type File struct {
	Name  string
	Steps []Step
}

// Parse reads a file; name is for errors. An error is of type document.Errors.
func Parse(name string, data []byte) (*File, error) {
	root, err := document.Parse(name, data)
	if err != nil {
		return nil, document.AsErrors(err)
	}
	r := &reader{file: name}
	steps := r.root(root)
	if len(r.errs) == 0 {
		steps = r.order(steps)
	}
	if len(r.errs) > 0 {
		return nil, document.Sorted(r.errs)
	}
	return &File{Name: name, Steps: steps}, nil
}

func (r *reader) root(n *document.Node) []Step {
	if n.Kind != document.Map {
		r.fail(n.Pos, "begin with program: PROGRAM", "want a workload, got %s", n.Kind)
		return nil
	}
	list := n.Get("workloads")
	if list == nil {
		return []Step{r.step(n)}
	}
	r.fields(n, "beside workloads", map[string]func(*document.Node){
		"workloads": func(*document.Node) {}, "$schema": r.ignored,
	})
	if list.Kind != document.List || len(list.Items) == 0 {
		r.fail(list.Pos, "write each workload after a dash", "workloads: want a list of one or more, got %s", list.Kind)
		return nil
	}
	if len(list.Items) > MaxSteps {
		r.fail(list.Pos, "split the file, or use tasks", "workloads: %d are listed, at most %d", len(list.Items), MaxSteps)
		return nil
	}
	steps := make([]Step, len(list.Items))
	for i, item := range list.Items {
		steps[i] = r.step(item)
	}
	return steps
}

// order sorts steps so that each stands after those it waits for. The order of
// the file is kept where it can be.
func (r *reader) order(steps []Step) []Step {
	index := map[string]int{}
	for i, s := range steps {
		if first, double := index[s.Name]; double && s.Name != "" {
			r.fail(s.Pos, "give each a name of its own", "two workloads are called %.60q (first in line %d)", s.Name, steps[first].Line)
		}
		index[s.Name] = i
	}
	if len(r.errs) > 0 {
		return nil
	}
	o := &ordering{reader: r, steps: steps, index: index, state: make([]int, len(steps))}
	for i := range steps {
		if !o.visit(i) {
			return nil
		}
	}
	return o.out
}

// ordering is a depth-first walk along after.
type ordering struct {
	*reader
	steps []Step
	index map[string]int
	state []int // 0 new, 1 on the path, 2 done
	path  []int
	out   []Step
}

func (o *ordering) visit(i int) bool {
	switch o.state[i] {
	case 1:
		o.cycle(i)
		return false
	case 2:
		return true
	}
	o.state[i] = 1
	o.path = append(o.path, i)
	for _, a := range o.steps[i].After {
		if k, inFile := o.index[a.Value]; inFile && !o.visit(k) {
			return false
		}
	}
	o.path = o.path[:len(o.path)-1]
	o.state[i] = 2
	o.out = append(o.out, o.steps[i])
	return true
}

// cycle names the steps that wait for each other.
func (o *ordering) cycle(i int) {
	from := slices.Index(o.path, i)
	var names []string
	for _, k := range append(slices.Clone(o.path[from:]), i) {
		names = append(names, o.steps[k].Name)
	}
	at := o.steps[o.path[len(o.path)-1]]
	pos := at.Pos
	for _, a := range at.After {
		if a.Value == o.steps[i].Name {
			pos = a.Pos
		}
	}
	o.fail(pos, "leave one after: out", "after: a cycle, so that none could begin: %s", strings.Join(names, " after "))
}

// reader turns nodes into steps and collects what is wrong.
type reader struct {
	file string
	errs document.Errors
}

func (r *reader) fail(at document.Pos, hint, format string, args ...any) {
	r.errs = append(r.errs, &document.Error{File: r.file, Pos: at, Message: fmt.Sprintf(format, args...), Hint: hint})
}
