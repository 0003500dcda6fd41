package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/perrin-mesh/perrin/cmd/perrin/internal/terminal"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
)

// uploadParallel is how many inputs are uploaded at once.
const uploadParallel = 8

// mapFlags are those that map has beside the shape.
type mapFlags struct {
	shape
	maxParallel uint32
}

func (a *app) mapCommand() *cobra.Command {
	var f mapFlags
	cmd := &cobra.Command{
		Use:   "map [flags] PROGRAM [ARGS...] -- INPUT...",
		Short: "Run a program once for each input",
		Long: `Run a program once for each INPUT, a file or a folder, as tasks of one workload.
A task finds its input, read-only, below its working directory and gets its path
in place of {} in ARGS, or as its last argument. A relative INPUT keeps its path;
an absolute one is found without the leading slash.

Tasks are numbered from 0 in the order of the inputs. With --output DIR the
results are gathered as DIR/INDEX/stdout, stderr, exit and the files the task
left in the folder $PERRIN_OUT; without it, what the tasks print comes here in their order. The exit code
is 0 when all succeeded and 1 otherwise. Flags stand before PROGRAM.`,
		Example: examples(
			"perrin map render.wasm -- frames/*",
			"perrin map --output out --retries 2 python3 resize.py --width 800 {} -- photos/*.jpg",
			"perrin map --threads 1 --max-parallel 16 --max-price 500 codestat.wasm -- /usr/local/go/src/*"),
		Args:              cobra.ArbitraryArgs,
		Annotations:       map[string]string{answersForProgram: "yes"},
		ValidArgsFunction: completeFiles,
		RunE: func(cmd *cobra.Command, args []string) error {
			args, err := f.spare.word(cmd.Flags(), args)
			if err != nil {
				return flagError(cmd, err)
			}
			return a.mapInputs(cmd.Context(), &f, args, cmd)
		},
	}
	f.register(cmd.Flags())
	cmd.Flags().Uint32Var(&f.maxParallel, "max-parallel", 0, "tasks at once; 0 is as many as there are")
	a.jsonFlag(cmd)
	cmd.Flags().SetInterspersed(false)
	a.tokenFlag(cmd)
	return cmd
}

// splitMap splits PROGRAM [ARGS...] -- INPUT... at the last --.
func splitMap(args []string) (program, inputs []string, err error) {
	at := -1
	for i, arg := range args {
		if arg == "--" {
			at = i
		}
	}
	const usage = "perrin map PROGRAM [ARGS...] -- INPUT..."
	switch {
	case len(args) == 0 || at == 0:
		return nil, nil, usagef(usage, "no PROGRAM is given")
	case at < 0:
		return nil, nil, usagef(usage, "no -- stands between the program and its inputs")
	case at == len(args)-1:
		return nil, nil, usagef("did the pattern match no file?", "no INPUT is given")
	case len(args)-at-1 > workload.MaxTasks:
		return nil, nil, usagef("split them over several workloads", "%d inputs; a workload has at most %d tasks", len(args)-at-1, workload.MaxTasks)
	}
	return args[:at], args[at+1:], nil
}

// mapTasks looks at every input and returns one of each; missing and double
// ones are refused.
func mapTasks(inputs []string) ([]localInput, error) {
	out := make([]localInput, 0, len(inputs))
	seen := make(map[string]string, len(inputs))
	for _, path := range inputs {
		as, err := mapPlace(path)
		if err != nil {
			return nil, err
		}
		if first, double := seen[as]; double {
			return nil, usagef("give each input once", "input %s is given twice (as %s before)", path, first)
		}
		seen[as] = path
		in, err := newInput(path, as)
		if err != nil {
			return nil, err
		}
		out = append(out, in)
	}
	return out, nil
}

// mapPlace returns where a task finds its input.
func mapPlace(path string) (string, error) {
	clean := filepath.Clean(path)
	if path == "" {
		return "", usagef("did a variable expand to nothing?", "an INPUT is empty")
	}
	if filepath.IsLocal(clean) && clean != "." {
		return filepath.ToSlash(clean), nil
	}
	abs, err := filepath.Abs(clean)
	if err != nil || abs == "/" {
		return "", usagef("name what is inside it", "input %s cannot be shipped as a whole", path)
	}
	return strings.TrimPrefix(filepath.ToSlash(abs), "/"), nil
}

// withArgument puts the path in place of every {} in args, or after them.
func withArgument(args []string, path string) []string {
	out, placed := make([]string, 0, len(args)+1), false
	for _, arg := range args {
		if strings.Contains(arg, "{}") {
			arg, placed = strings.ReplaceAll(arg, "{}", path), true
		}
		out = append(out, arg)
	}
	if !placed {
		out = append(out, path)
	}
	return out
}

func (a *app) mapInputs(ctx context.Context, f *mapFlags, args []string, cmd *cobra.Command) error {
	command, inputs, err := splitMap(args)
	if err != nil {
		return err
	}
	a.noteMisplacedFlags(cmd, command[1:])
	j, err := a.prepare(&f.shape, command)
	if err != nil {
		return err
	}
	if err := checkOutput(f.output); err != nil {
		return err
	}
	if f.detach && f.output != "" {
		return usagef("perrin wait ID, then perrin inspect ID", "--detach and --output exclude each other")
	}
	each, err := mapTasks(inputs)
	if err != nil {
		return err
	}
	if err := a.mapShared(j, f.noAutoInput); err != nil {
		return err
	}
	if err := clashes(j.inputs, each); err != nil {
		return err
	}
	j.spec.MaxParallel, j.spec.Tasks.Count = f.maxParallel, uint32(len(each))
	b, err := a.connectForRun(ctx, &f.shape, j)
	if err != nil {
		return err
	}
	defer b.close()
	if j.program.note != "" {
		a.note("%s", j.program.note)
	}
	return a.mapOn(ctx, b, j, each, f)
}

// mapShared ships what the fixed arguments name.
func (a *app) mapShared(j *job, noAuto bool) error {
	var err error
	if j.inputs, err = merge(j.inputs); err != nil || noAuto {
		return err
	}
	return a.addAutoInputs(j)
}

// noteMisplacedFlags warns when an argument of the program looks like a flag
// of map's own.
func (a *app) noteMisplacedFlags(cmd *cobra.Command, args []string) {
	for _, arg := range args {
		name, _, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
		if strings.HasPrefix(arg, "--") && cmd.Flags().Lookup(name) != nil {
			a.note("--%s stands after PROGRAM and goes to the program; Perrin's own flags stand before it", name)
		}
	}
}

// clashes refuses a task input where an input of all tasks is.
func clashes(shared, each []localInput) error {
	places := map[string]string{}
	for _, in := range shared {
		places[in.as] = in.path
	}
	for _, in := range each {
		for dir := in.as; dir != "."; dir = filepath.ToSlash(filepath.Dir(dir)) {
			if other, ok := places[dir]; ok {
				return usagef("leave it out of --input and of ARGS; each task gets its own input anyway",
					"input %s and %s would both be found at %s", in.path, other, dir)
			}
		}
	}
	return nil
}

func (a *app) mapOn(ctx context.Context, b *backend, j *job, each []localInput, f *mapFlags) error {
	var id workload.ID
	err := a.interruptible(ctx, func(ctx context.Context) error {
		var err error
		id, err = a.submitMap(ctx, b, j, each)
		return err
	})
	if err != nil {
		return err
	}
	if f.detach {
		return a.printID(id)
	}
	fo := &follower{app: a, b: b, id: id, stream: func(context.Context) error { return nil }}
	bar := terminal.NewProgress(a.stderr, terminal.Is(a.stderr), terminal.Width(a.stderr), "tasks", time.Now())
	fo.bar = bar
	fo.progress = func(w *api.Workload) { bar.Update(mapState(w), time.Now()) }
	w, err := fo.follow(ctx)
	fo.mu.Lock()
	bar.Finish()
	fo.progress = nil
	fo.mu.Unlock()
	if err != nil {
		return err
	}
	a.noteChecked(w)
	return a.concludeMap(ctx, b, w, f.output, fo.interrupted)
}

func mapState(w *api.Workload) terminal.State {
	s := terminal.State{Done: int(w.Tasks.Done + w.Tasks.Failed), Failed: int(w.Tasks.Failed), Total: int(w.Tasks.Total)}
	nodes := map[workload.PeerID]bool{}
	for _, slot := range w.Slots {
		nodes[slot.Node] = true
	}
	if len(nodes) > 0 {
		s.Note = "on " + terminal.Plural(len(nodes), "node")
	}
	return s
}

// submitMap uploads everything and submits.
func (a *app) submitMap(ctx context.Context, b *backend, j *job, each []localInput) (workload.ID, error) {
	up := newUploader(b, a.PackTree)
	args := j.spec.Args
	j.spec.Args = nil
	tasks := make([]workload.Task, len(each))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(uploadParallel)
	bar := terminal.NewProgress(a.stderr, terminal.Is(a.stderr), terminal.Width(a.stderr), "inputs uploaded", time.Now())
	done := make(chan struct{}, uploadParallel)
	go func() {
		defer close(done)
		for i, in := range each {
			group.Go(func() error {
				ref, err := up.put(groupCtx, in.path, in.kind)
				tasks[i] = workload.Task{
					Name: truncated(in.path, 1024), Args: withArgument(args, in.as),
					Inputs: []workload.Input{{Path: in.as, Kind: in.kind, Blob: ref, Exec: in.exec}},
				}
				done <- struct{}{}
				return err
			})
		}
		_ = group.Wait()
	}()
	a.countUploads(bar, done, len(each))
	if err := group.Wait(); err != nil {
		return workload.ID{}, err
	}
	if err := putTasks(ctx, b, &j.spec, tasks); err != nil {
		return workload.ID{}, err
	}
	return a.submitJob(ctx, b, j, false, nil)
}

// countUploads shows uploads on a terminal when they take a while.
func (a *app) countUploads(bar *terminal.Progress, done <-chan struct{}, total int) {
	began, n := time.Now(), 0
	for range done {
		n++
		if time.Since(began) > time.Second {
			bar.Update(terminal.State{Done: n, Total: total}, time.Now())
		}
	}
	bar.Clear()
}

func truncated(s string, n int) string { return s[:min(len(s), n)] }

// putTasks lists tasks in the spec, or in a table beside it when they are many.
func putTasks(ctx context.Context, b api.Backend, spec *workload.Spec, tasks []workload.Task) error {
	spec.Tasks = workload.Tasks{Count: uint32(len(tasks))}
	if len(tasks) <= workload.MaxInlineTasks {
		spec.Tasks.Inline = tasks
		return nil
	}
	table, err := wire.Marshal(&workload.TaskTable{Tasks: tasks})
	if err != nil {
		return fmt.Errorf("encode tasks: %w", err)
	}
	spec.Tasks.Table, err = b.PutBlob(ctx, bytes.NewReader(table))
	return err
}

// concludeMap gathers or prints the results and sums them up.
func (a *app) concludeMap(ctx context.Context, b *backend, w *api.Workload, output string, interrupted os.Signal) error {
	var err error
	switch {
	case output != "":
		err = (&gatherer{b: b, id: w.ID, dir: output}).all(ctx, w.Tasks.Total)
	case !a.json:
		err = a.printStdouts(ctx, b, w)
	}
	if err != nil {
		return err
	}
	if err := a.summary(ctx, b, w, output); err != nil {
		return err
	}
	switch {
	case interrupted != nil:
		return outcome(signalCode(interrupted))
	case w.Phase != workload.Succeeded:
		return outcome(exitFailure)
	}
	return nil
}

func (a *app) printStdouts(ctx context.Context, b *backend, w *api.Workload) error {
	return eachTask(ctx, b, w.ID, w.Tasks.Total, func(t api.Task) error {
		if t.Result == nil {
			return nil
		}
		return copyContent(ctx, b, w.ID, a.stdout, t.Result.Stdout.Blob, t.Result.Stdout.Data)
	})
}

// summary prints who ran what at which price, and what failed.
func (a *app) summary(ctx context.Context, b *backend, w *api.Workload, output string) error {
	if a.json {
		return a.printJSON(w)
	}
	c := w.Tasks
	head := fmt.Sprintf("%s: %d of %s succeeded for %s", w.ID.Short(), c.Done, terminal.Plural(int(c.Total), "task"), terminal.Credits(w.Cost))
	if w.Retries > 0 {
		head += ", " + terminal.Plural(int(w.Retries), "retried attempt")
	}
	if w.Lost > 0 {
		head += ", " + terminal.Plural(int(w.Lost), "attempt") + " lost with a node and run again"
	}
	fmt.Fprintln(a.stderr, head)
	t := terminal.NewTable("NODE", "TASKS ", "SLOTS ", "RATE ", "COST ")
	t.Indent = "  "
	placed := slices.Clone(w.Placed)
	slices.SortStableFunc(placed, func(x, y api.Placed) int { return int(y.Tasks) - int(x.Tasks) })
	for _, p := range placed {
		t.Row(p.Name, strconv.Itoa(int(p.Tasks)), strconv.Itoa(int(p.Slots)), terminal.Rate(p.Rate), terminal.Credits(p.Cost))
	}
	if t.Len() > 0 {
		if err := t.Write(a.stderr); err != nil {
			return err
		}
	}
	if output != "" {
		fmt.Fprintf(a.stderr, "  results in %s\n", output)
	}
	return a.listFailed(ctx, b, w)
}

// maxListed bounds how many failed tasks are told apart.
const maxListed = 20

func inBrackets(name string) string {
	if name == "" {
		return ""
	}
	return " (" + terminal.Clean(name, 60) + ")"
}

func (a *app) listFailed(ctx context.Context, b *backend, w *api.Workload) error {
	if w.Phase == workload.Succeeded {
		return nil
	}
	var failed, open []uint32
	err := eachTask(ctx, b, w.ID, w.Tasks.Total, func(t api.Task) error {
		switch {
		case t.Result == nil:
			open = append(open, t.Index)
		case !t.Result.OK():
			failed = append(failed, t.Index)
			if len(failed) <= maxListed {
				fmt.Fprintf(a.stderr, "  task %d%s failed: %s%s\n", t.Index, inBrackets(t.Name), howEnded(t.Result), lastWords(ctx, b, w.ID, t.Result))
			}
		}
		return nil
	})
	if len(failed) > 0 {
		fmt.Fprintf(a.stderr, "failed: %s\n", indexList(failed))
	}
	if len(open) > 0 {
		fmt.Fprintf(a.stderr, "not run: %s\n", indexList(open))
	}
	return err
}
