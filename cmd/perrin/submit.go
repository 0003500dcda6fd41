package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/perrin-mesh/perrin/cmd/perrin/internal/terminal"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/seal"
	"github.com/perrin-mesh/perrin/workload/specfile"
	"github.com/perrin-mesh/perrin/workload/specfile/document"
)

func (a *app) submitCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "submit -f FILE",
		Short: "Submit the workloads of a file",
		Long: `Submit the workloads of a YAML or JSON file and print their IDs. Paths in it are
relative to its folder. Everything is checked before anything is submitted, and
when one of several workloads is refused, those submitted before it are stopped.

` + "`perrin spec schema`" + ` prints the JSON Schema of such a file, for editors.`,
		Example: examples("perrin submit -f job.yaml", "perrin submit -f - < job.json", "perrin wait $(perrin submit -f job.yaml)"),
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.submit(cmd.Context(), file)
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "the file; - is stdin")
	a.jsonFlag(cmd)
	a.tokenFlag(cmd)
	return cmd
}

// step is a workload of a file with its local files looked at.
type step struct {
	specfile.Step
	job   *job
	stdin string
	tasks []taskFiles
}

// taskFiles is one task with the local inputs it has of its own.
type taskFiles struct {
	workload.Task
	inputs []localInput
}

// readSteps reads a file and looks at every local file that it names.
func (a *app) readSteps(file string) ([]*step, error) {
	if file == "" {
		return nil, usagef("perrin submit -f job.yaml", "no file is given")
	}
	data, base, err := a.readSpecFile(file)
	if err != nil {
		return nil, err
	}
	parsed, err := specfile.Parse(file, data)
	var wrong document.Errors
	if errors.As(err, &wrong) {
		return nil, &failure{err: wrong, code: exitUsage, hint: orElse(wrong.Hint(), "`perrin spec schema` lists every field and its range")}
	}
	if err != nil {
		return nil, err
	}
	r := &resolver{app: a, file: file, base: base}
	steps := make([]*step, len(parsed.Steps))
	for i, s := range parsed.Steps {
		if steps[i], err = r.step(s); err != nil {
			return nil, err
		}
	}
	return steps, nil
}

func (a *app) readSpecFile(file string) (data []byte, base string, err error) {
	if file == "-" {
		data, err = io.ReadAll(io.LimitReader(a.stdin, document.MaxBytes+1))
		return data, ".", err
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, "", unreadable(file, err)
	}
	defer f.Close()
	data, err = io.ReadAll(io.LimitReader(f, document.MaxBytes+1))
	if err != nil {
		return nil, "", unreadable(file, err)
	}
	return data, filepath.Dir(file), nil
}

// resolver turns the names of a file into local files, below base.
type resolver struct {
	*app
	file string
	base string
}

// at puts the place in the file before an error.
func (r *resolver) at(pos document.Pos, err error) error {
	if err == nil {
		return nil
	}
	_, hint, _ := explain(err)
	return &failure{err: fmt.Errorf("%s:%d:%d: %w", r.file, pos.Line, pos.Column, err), code: exitUsage, hint: hint}
}

// path returns where a name of the file is from the working directory.
func (r *resolver) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(r.base, name)
}

func (r *resolver) step(s specfile.Step) (*step, error) {
	p, err := r.program(s.Program.Value)
	if err != nil {
		return nil, r.at(s.Program.Pos, err)
	}
	out := &step{Step: s, job: &job{spec: s.Spec, program: p}}
	out.job.spec.Program = p.Program
	if err := r.seal(&s, &out.job.spec); err != nil {
		return nil, err
	}
	p.placeOn(&out.job.spec)
	if out.job.inputs, err = r.inputs(s.Inputs); err != nil {
		return nil, err
	}
	if s.Stdin.Value != "" {
		out.stdin = r.path(s.Stdin.Value)
		if in, err := newInput(out.stdin, "stdin"); err != nil || in.kind != workload.File {
			return nil, r.at(s.Stdin.Pos, errors.Join(err, onlyFile(in)))
		}
	}
	for _, t := range s.Tasks {
		inputs, err := r.inputs(t.Inputs)
		if err != nil {
			return nil, err
		}
		if err := clashes(out.job.inputs, inputs); err != nil {
			return nil, r.at(t.Pos, err)
		}
		out.tasks = append(out.tasks, taskFiles{workload.Task{Name: t.Name, Args: t.Args}, inputs})
	}
	if s.Map.Value != "" {
		err = r.at(s.Map.Pos, r.glob(out))
	}
	return out, err
}

// seal reads the secrets of a step that is sealed, and salts it.
func (r *resolver) seal(s *specfile.Step, spec *workload.Spec) error {
	if !s.Seal {
		return nil
	}
	if _, err := parseHelpers(s.SealHelpers); err != nil {
		return r.at(s.Pos, err)
	}
	var err error
	spec.Seal = &workload.Seal{Salt: seal.NewSalt()}
	if spec.Secrets, err = readSecrets(s.Secrets, r.base); err != nil {
		return r.at(s.Pos, err)
	}
	checked := *spec
	if checked.Program.Host == "" {
		checked.Program.Blob = workload.Ref{Digest: workload.Digest{1}}
	}
	if len(s.After) > 0 {
		checked.After = []workload.After{{Name: "other"}}
	}
	return r.at(s.Pos, checked.Validate())
}

func onlyFile(in localInput) error {
	if in.kind == workload.Tree {
		return usagef("name a file", "%s is a folder", in.path)
	}
	return nil
}

// program finds the program that a file names: a path is relative to the file.
func (r *resolver) program(name string) (program, error) {
	if kind, files, ok := virtualProgram(name); ok {
		for i := range files {
			files[i] = r.path(files[i])
		}
		return findVirtual(kind, files)
	}
	if kind, image, ok := imageName(name); ok {
		p, err := findImage(kind, image)
		if p.image != nil && p.image.Path != "" {
			p.image.Path = r.path(p.image.Path)
		}
		return p, err
	}
	switch {
	case filepath.IsAbs(name):
		return findProgram(name, r.env)
	case strings.Contains(name, "/") || strings.HasSuffix(name, ".wasm"):
		return shipped(r.path(name))
	}
	if lookPath(name, r.env("PATH")) == "" {
		if info, err := os.Stat(r.path(name)); err == nil && info.Mode().IsRegular() {
			return shipped(r.path(name))
		}
	}
	return findProgram(name, r.env)
}

func (r *resolver) inputs(list []specfile.Input) ([]localInput, error) {
	out := make([]localInput, 0, len(list))
	for _, in := range list {
		as := in.As
		if as == "" {
			as = placeOf(in.Path)
		}
		found, err := newInput(r.path(in.Path), filepath.ToSlash(as))
		if err != nil {
			return nil, r.at(in.Pos, err)
		}
		out = append(out, found)
	}
	merged, err := merge(out)
	if err != nil {
		return nil, r.at(list[0].Pos, err)
	}
	return merged, nil
}

// glob makes one task of each match of the pattern, in the order of their names.
func (r *resolver) glob(s *step) error {
	matches, err := filepath.Glob(r.path(s.Map.Value))
	switch {
	case err != nil:
		return usagef("* stands for any text without a slash, ? for one character, [a-z] for one of a range", "map: %q is not a pattern", s.Map.Value)
	case len(matches) == 0:
		return usagef("the pattern is relative to the folder of the file", "map: %q matches no file", s.Map.Value)
	case len(matches) > workload.MaxTasks:
		return usagef("split them over several workloads", "map: %d matches; a workload has at most %d tasks", len(matches), workload.MaxTasks)
	}
	slices.Sort(matches)
	args := s.job.spec.Args
	s.job.spec.Args, s.job.spec.Tasks.Count = nil, uint32(len(matches))
	for _, m := range matches {
		as, err := r.mapPlace(m)
		if err != nil {
			return err
		}
		in, err := newInput(m, as)
		if err != nil {
			return err
		}
		s.tasks = append(s.tasks, taskFiles{workload.Task{Name: truncated(m, 1024), Args: withArgument(args, as)}, []localInput{in}})
	}
	for _, t := range s.tasks {
		if err := clashes(s.job.inputs, t.inputs); err != nil {
			return err
		}
	}
	return nil
}

func (r *resolver) mapPlace(match string) (string, error) {
	if rel, err := filepath.Rel(r.base, match); err == nil && filepath.IsLocal(rel) && !filepath.IsAbs(match) {
		return mapPlace(rel)
	}
	return mapPlace(match)
}

// submittedStep is what submit prints of one workload.
type submittedStep struct {
	ID   workload.ID `json:"id"`
	Name string      `json:"name"`
	Held bool        `json:"held"`
}

func (a *app) submit(ctx context.Context, file string) error {
	steps, err := a.readSteps(file)
	if err != nil {
		return err
	}
	return a.withBackend(func(b *backend) error {
		known, err := a.resolveAfter(ctx, b, file, steps)
		if err != nil {
			return err
		}
		var done []submittedStep
		err = a.interruptible(ctx, func(ctx context.Context) error {
			done, err = a.submitSteps(ctx, b, steps, known)
			return err
		})
		if err != nil {
			return a.undo(ctx, b, done, err)
		}
		return show(a, done, a.printSubmitted)
	})
}

// resolveAfter finds the workloads that after: names and the file does not hold.
func (a *app) resolveAfter(ctx context.Context, b *backend, file string, steps []*step) (map[string]workload.After, error) {
	known, own := map[string]workload.After{}, map[string]bool{}
	for _, s := range steps {
		own[s.Name] = true
	}
	for _, s := range steps {
		for _, t := range s.After {
			if own[t.Value] {
				continue
			}
			id, err := b.Resolve(ctx, t.Value)
			if err != nil {
				r := resolver{app: a, file: file}
				return nil, r.at(t.Pos, fmt.Errorf("after: %w", err))
			}
			name := t.Value
			if strings.HasPrefix(id.String(), name) {
				name = id.Short()
			}
			known[t.Value] = workload.After{Workload: id, Name: name}
		}
	}
	return known, nil
}

// submitSteps submits in order and returns what it has submitted, also when
// it fails.
func (a *app) submitSteps(ctx context.Context, b *backend, steps []*step, known map[string]workload.After) ([]submittedStep, error) {
	up := newUploader(b, a.PackTree)
	var done []submittedStep
	for _, s := range steps {
		for _, t := range s.After {
			s.job.spec.After = append(s.job.spec.After, known[t.Value])
		}
		if err := a.uploadSealed(ctx, b, up, s); err != nil {
			return done, fmt.Errorf("workload %s: %w", s.Name, err)
		}
		sub, err := b.Submit(ctx, s.job.spec)
		if err != nil {
			return done, fmt.Errorf("workload %s: %w", s.Name, err)
		}
		if sub.Note != "" {
			a.note("%s: %s", s.Name, terminal.Clean(sub.Note, 400))
		}
		known[s.Name] = workload.After{Workload: sub.ID, Name: s.Name}
		done = append(done, submittedStep{sub.ID, s.Name, sub.Held})
	}
	return done, nil
}

// uploadSealed is uploadStep, with contents that are sealed where the step is.
func (a *app) uploadSealed(ctx context.Context, b *backend, up *uploader, s *step) error {
	sealed, err := a.sealWith(ctx, b, s.SealHelpers, &s.job.spec)
	if err != nil {
		return err
	}
	if s.job.spec.Seal != nil {
		up = newUploader(sealed, a.PackTree)
	}
	return a.uploadStep(ctx, sealed, up, s)
}

func (a *app) uploadStep(ctx context.Context, b *backend, up *uploader, s *step) error {
	var err error
	if s.stdin != "" {
		if s.job.spec.Stdin, err = up.put(ctx, s.stdin, workload.File); err != nil {
			return err
		}
	}
	if len(s.tasks) > 0 {
		tasks, err := uploadTasks(ctx, up, s.tasks)
		if err != nil {
			return err
		}
		if err := putTasks(ctx, b, &s.job.spec, tasks); err != nil {
			return err
		}
	}
	return a.uploadJob(ctx, up, s.job)
}

func uploadTasks(ctx context.Context, up *uploader, list []taskFiles) ([]workload.Task, error) {
	tasks := make([]workload.Task, len(list))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(uploadParallel)
	for i, t := range list {
		group.Go(func() error {
			var err error
			tasks[i] = t.Task
			tasks[i].Inputs, err = up.inputs(ctx, t.inputs)
			return err
		})
	}
	return tasks, group.Wait()
}

// undo stops what was submitted before the failure err.
func (a *app) undo(ctx context.Context, b *backend, done []submittedStep, err error) error {
	for _, d := range done {
		if stopErr := b.Stop(context.WithoutCancel(ctx), d.ID); stopErr != nil {
			a.note("%s (%s) was submitted and could not be stopped: %v", d.ID.Short(), d.Name, stopErr)
			continue
		}
		a.note("stopped %s (%s) again", d.ID.Short(), d.Name)
	}
	return err
}

func (a *app) printSubmitted(done []submittedStep) error {
	for _, d := range done {
		line := d.ID.String()
		if len(done) > 1 {
			line += "  " + terminal.Clean(d.Name, 200)
		}
		if _, err := fmt.Fprintln(a.stdout, line); err != nil {
			return err
		}
	}
	return nil
}

// helpOrUnknown is what a verb with verbs below it does itself.
func helpOrUnknown(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("see `"+cmd.CommandPath()+" --help`", "%s has no verb %.40q", cmd.CommandPath(), args[0])
	}
	return cmd.Help()
}
