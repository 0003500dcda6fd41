package specfile

import (
	"cmp"
	"math"
	"path"
	"slices"
	"strings"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/specfile/document"
)

// step reads one workload.
func (r *reader) step(n *document.Node) Step {
	s := Step{Pos: n.Pos, Spec: workload.DefaultSpec()}
	if n.Kind != document.Map {
		r.fail(n.Pos, "write fields such as program: and args:", "want a workload, got %s", n.Kind)
		return s
	}
	r.fields(n, "of a workload", r.stepFields(&s))
	r.whatItRuns(n, &s)
	if len(r.errs) == 0 {
		r.validate(&s)
	}
	return s
}

func (r *reader) stepFields(s *Step) map[string]func(*document.Node) {
	spec := &s.Spec
	return map[string]func(*document.Node){
		"$schema":      r.ignored,
		"name":         r.stepName(s),
		"program":      r.word("program", 4096, &s.Program),
		"args":         r.texts("args", 4096, &spec.Args),
		"env":          r.pairs("env", 512, envName, &spec.Env),
		"inputs":       r.inputs("inputs", 1024, &s.Inputs),
		"stdin":        r.word("stdin", 4096, &s.Stdin),
		"tasks":        r.tasks(s),
		"map":          r.word("map", 4096, &s.Map),
		"resources":    r.resources(&spec.Resources),
		"where":        r.condition(&spec.Where),
		"max_price":    r.whole("max_price", 0, math.MaxInt64, func(v int64) { spec.MaxPrice = v }),
		"timeout":      r.duration("timeout", workload.MaxTimeout, &spec.Timeout),
		"retries":      r.whole("retries", 0, workload.MaxRetries, func(v int64) { spec.Retries = uint32(v) }),
		"max_parallel": r.whole("max_parallel", 0, workload.MaxTasks, func(v int64) { spec.MaxParallel = uint32(v) }),
		"labels":       r.pairs("labels", workload.MaxLabels, labelName, &spec.Labels),
		"on_partition": r.choice("on_partition", func(v string) { spec.OnPartition = workload.Partition(v) }, "stop", "continue"),
		"keep_inputs":  r.choice("keep_inputs", func(v string) { spec.Keep = workload.Keep(v) }, "auto", "all"),
		"after":        r.after(s),
		"require":      r.require(spec),
		"countersign":  r.flag("countersign", &spec.Countersign),
		"verify_by":    r.verifyBy(spec),
		"seal":         r.flag("seal", &s.Seal),
		"seal_helpers": r.text("seal_helpers", 1024, &s.SealHelpers),
		"secrets":      r.pairs("secrets", workload.MaxSecrets, workload.SecretName, &s.Secrets),
	}
}

func (r *reader) stepName(s *Step) func(*document.Node) {
	return func(n *document.Node) {
		r.text("name", 255, &s.Name)(n)
		if strings.ContainsAny(s.Name, "/\x00") || s.Name == "." || s.Name == ".." {
			r.fail(n.Pos, "write a word without slashes", "name: %.60q cannot be a name", s.Name)
		}
	}
}

// whatItRuns checks the fields that depend on each other.
func (r *reader) whatItRuns(n *document.Node, s *Step) {
	misspelt := slices.ContainsFunc(n.Fields, func(f document.Field) bool {
		return document.Nearest(f.Key, []string{"program"}) != ""
	})
	if n.Get("program") == nil && !misspelt {
		r.fail(n.Pos, "write program: followed by a .wasm file or a program such as python3", "program: missing")
	}
	if both := n.Get("map"); both != nil && n.Get("tasks") != nil {
		r.fail(both.Pos, "keep one of them", "map and tasks exclude each other")
	}
	if s.Name == "" {
		s.Name = programName(s.Program.Value)
	}
	if n.Get("name") != nil || !s.Seal { // the name of sealed work is for all to see
		s.Spec.Name = s.Name
	}
	if extra := cmp.Or(n.Get("secrets"), n.Get("seal_helpers")); extra != nil && !s.Seal {
		r.fail(extra.Pos, "add seal: true", "secrets and seal_helpers are for sealed work")
	}
}

// validate asks the spec itself, with stand-ins for what is not known yet.
func (r *reader) validate(s *Step) {
	spec := s.Spec
	spec.Program = workload.Program{Kind: workload.Process, Blob: workload.Ref{Digest: workload.Digest{1}}}
	if err := spec.Validate(); err != nil {
		r.fail(s.Pos, "", "%s", err)
	}
}

// tasks reads a number of equal tasks, or a list of what each has of its own.
func (r *reader) tasks(s *Step) func(*document.Node) {
	return func(n *document.Node) {
		if n.Kind == document.Number {
			r.whole("tasks", 1, workload.MaxTasks, func(v int64) { s.Spec.Tasks.Count = uint32(v) })(n)
			return
		}
		if n.Kind != document.List {
			r.fail(n.Pos, "write tasks: 100 for equal tasks, or each task after a dash", "tasks: want a number or a list, got %s", n.Kind)
			return
		}
		items := r.list("tasks", n, workload.MaxTasks)
		if len(items) == 0 {
			r.fail(n.Pos, "leave tasks out for a single task", "tasks: the list is empty")
		}
		for _, item := range items {
			s.Tasks = append(s.Tasks, r.task(item))
		}
		s.Spec.Tasks.Count = uint32(max(1, len(items)))
	}
}

func (r *reader) task(n *document.Node) Task {
	t := Task{Pos: n.Pos}
	if n.Kind != document.Map {
		r.fail(n.Pos, "write {args: [...]} or {inputs: [...]}", "tasks: want args, inputs or a name for each, got %s", n.Kind)
		return t
	}
	r.fields(n, "of a task", map[string]func(*document.Node){
		"name": r.text("tasks.name", 1024, &t.Name), "args": r.texts("tasks.args", 1024, &t.Args),
		"inputs": r.inputs("tasks.inputs", 64, &t.Inputs),
	})
	return t
}

func (r *reader) resources(to *workload.Resources) func(*document.Node) {
	return func(n *document.Node) {
		if n.Kind != document.Map {
			r.fail(n.Pos, "write cores: and memory: below it", "resources: want a mapping, got %s", n.Kind)
			return
		}
		var kinds []string
		for _, kind := range []string{"cores", "threads", "spare"} {
			if field := n.Get(kind); field != nil {
				if kinds = append(kinds, kind); len(kinds) == 2 {
					r.fail(field.Pos, "a task has whole cores, single threads or idle time", "resources: %s and %s exclude each other", kinds[0], kinds[1])
				}
			}
		}
		cpus := func(class workload.Class) func(int64) {
			return func(v int64) { to.Class, to.CPUs = class, int32(v) }
		}
		r.fields(n, "of resources", map[string]func(*document.Node){
			"cores":     r.whole("resources.cores", 1, workload.MaxCPUs, cpus(workload.Core)),
			"threads":   r.whole("resources.threads", 1, workload.MaxCPUs, cpus(workload.Thread)),
			"spare":     r.whole("resources.spare", 1, workload.MaxCPUs, cpus(workload.Spare)),
			"share":     r.flag("resources.share", &to.Share),
			"cpu_limit": r.quota("resources.cpu_limit", &to.Quota),
			"memory":    r.size("resources.memory", workload.MinMemory, workload.MaxMemory, &to.Memory),
			"disk":      r.size("resources.disk", 0, workload.MaxMemory, &to.Disk),
			"pids":      r.whole("resources.pids", 1, workload.MaxPids, func(v int64) { to.Pids = int32(v) }),
		})
	}
}

// after reads one name, or a list of them.
func (r *reader) after(s *Step) func(*document.Node) {
	return func(n *document.Node) {
		items := []*document.Node{n}
		if n.Kind == document.List {
			items = r.list("after", n, 64)
		}
		for _, item := range items {
			var a Text
			r.word("after", 255, &a)(item)
			if slices.ContainsFunc(s.After, func(t Text) bool { return t.Value == a.Value && a.Value != "" }) {
				r.fail(item.Pos, "name it once", "after: %.60q is given twice", a.Value)
			}
			s.After = append(s.After, a)
		}
	}
}

// programName is what a workload is called by its program: the base name, and of
// an image the last part of its name, without tag and digest.
func programName(program string) string {
	base := path.Base(program)
	kind, _, named := strings.Cut(program, ":")
	if !named || !workload.Kind(kind).Image() {
		return base
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(base, kind+":"), "@")
	if name, _, _ = strings.Cut(name, ":"); name == "" {
		return base
	}
	return name
}
