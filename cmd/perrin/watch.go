package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/perrin-mesh/perrin/cmd/perrin/internal/terminal"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/specfile"
)

func (a *app) logsCommand() *cobra.Command {
	var follow, stderr bool
	var task int64
	cmd := &cobra.Command{
		Use: "logs [-f] [--task N] [--stderr] ID", Short: "Print what a workload wrote",
		Long: `Print the stdout of a workload's tasks in their order, or of one; what they wrote
to stderr goes to stderr. With -f it waits for more until the end.`,
		Example:           examples("perrin logs abcdefghij", "perrin logs -f train.py", "perrin logs --task 7 --stderr render"),
		Args:              exactly(1, "one ID"),
		ValidArgsFunction: a.completeIDs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withWorkload(cmd.Context(), args[0], func(b *backend, id workload.ID) error {
				return a.logs(cmd.Context(), b, id, logOptions{task, follow, stderr})
			})
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "wait for more until the end")
	cmd.Flags().Int64Var(&task, "task", -1, "one task, by its number")
	cmd.Flags().BoolVar(&stderr, "stderr", false, "print stderr, to stdout, and nothing else")
	a.tokenFlag(cmd)
	return cmd
}

type logOptions struct {
	task   int64 // -1 is all
	follow bool
	stderr bool
}

func (a *app) logs(ctx context.Context, b *backend, id workload.ID, opt logOptions) error {
	w, err := b.Inspect(ctx, id)
	if err != nil {
		return err
	}
	from, to := int64(0), int64(w.Tasks.Total)
	if opt.task >= 0 {
		from, to = opt.task, opt.task+1
	}
	if opt.task >= int64(w.Tasks.Total) || opt.task < -1 {
		return &failure{err: fmt.Errorf("%s has no task %d", id.Short(), opt.task), code: exitNotFound,
			hint: fmt.Sprintf("its tasks are 0 to %d", w.Tasks.Total-1)}
	}
	for i := from; i < to; i++ {
		if to-from > 1 && terminal.Is(a.stdout) {
			fmt.Fprintf(a.stderr, "==> task %d\n", i)
		}
		attach := api.AttachOptions{Task: uint32(i), Follow: opt.follow, Stdout: a.stdout, Stderr: a.stderr}
		if opt.stderr {
			attach.Stdout, attach.Stderr = io.Discard, a.stdout
		}
		if err := b.Attach(ctx, id, attach); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) waitCommand() *cobra.Command {
	var timeout string
	cmd := &cobra.Command{
		Use: "wait ID...", Short: "Wait for workloads to end and return their exit code",
		Long: `Wait until each workload has ended. For one workload of one task the exit code is
the program's own; otherwise 0 when all succeeded and 1 when not. With --timeout
it gives up with 124, and the workloads go on.`,
		Example:           examples("perrin wait abcdefghij", "perrin wait --timeout 1m $(perrin submit -f job.yaml)"),
		Args:              cobra.ArbitraryArgs,
		Annotations:       map[string]string{answersForProgram: "yes"},
		ValidArgsFunction: a.completeIDs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.waitFor(cmd.Context(), args, timeout)
		},
	}
	cmd.Flags().StringVar(&timeout, "timeout", "", "how long to wait (default: as long as it takes)")
	a.jsonFlag(cmd)
	a.tokenFlag(cmd)
	return cmd
}

func (a *app) waitFor(ctx context.Context, texts []string, timeout string) error {
	if len(texts) == 0 {
		return usagef("`perrin ps` lists what runs", "wait: no ID is given")
	}
	if timeout != "" {
		d, err := specfile.ParseDuration(timeout)
		if err != nil || d <= 0 {
			return usagef("write a time such as 30s", "--timeout: %.40q is not a time above 0", timeout)
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	return a.withBackend(func(b *backend) error {
		ended, err := waitAll(ctx, b, texts)
		if errors.Is(err, context.DeadlineExceeded) {
			a.note("still running after %s", timeout)
			return outcome(exitTimeout)
		}
		if err != nil {
			return err
		}
		if a.json {
			if err := a.printJSON(ended); err != nil {
				return err
			}
		}
		return a.waitOutcome(ctx, b, ended)
	})
}

func waitAll(ctx context.Context, b *backend, texts []string) ([]*api.Workload, error) {
	var ids []workload.ID
	for _, text := range texts {
		id, err := b.Resolve(ctx, text)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	var ended []*api.Workload
	for _, id := range ids {
		w, err := untilEnded(ctx, b, id)
		if err != nil {
			return nil, err
		}
		ended = append(ended, w)
	}
	return ended, nil
}

func untilEnded(ctx context.Context, b api.Backend, id workload.ID) (*api.Workload, error) {
	for {
		w, err := b.Wait(ctx, id, api.UntilEnd, waitStep)
		if err != nil || w.Phase.Ended() {
			return w, err
		}
	}
}

func (a *app) waitOutcome(ctx context.Context, b *backend, ended []*api.Workload) error {
	if len(ended) == 1 && ended[0].Tasks.Total == 1 {
		return a.concludeRun(ctx, b, ended[0], "", nil)
	}
	failed := false
	for _, w := range ended {
		if w.Phase != workload.Succeeded {
			failed = true
			a.note("%s (%s) %s: %s", w.ID.Short(), orElse(w.Name, "-"), w.Phase, taskCounts(w.Tasks))
		}
	}
	if failed {
		return outcome(exitFailure)
	}
	return nil
}

func (a *app) stopCommand() *cobra.Command {
	var wait bool
	cmd := &cobra.Command{
		Use: "stop ID...", Short: "Stop workloads",
		Long:              "Stop workloads: what runs is ended, and no task starts any more. It returns when\nthat is decided; with --wait, when nothing runs any more.",
		Example:           examples("perrin stop abcdefghij", "perrin stop --wait train.py"),
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: a.completeIDs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("`perrin ps` lists what runs", "stop: no ID is given")
			}
			for _, text := range args {
				if err := a.stop(cmd.Context(), text, wait); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until nothing runs any more")
	a.tokenFlag(cmd)
	return cmd
}

func (a *app) stop(ctx context.Context, text string, wait bool) error {
	return a.withWorkload(ctx, text, func(b *backend, id workload.ID) error {
		if err := b.Stop(ctx, id); err != nil {
			return err
		}
		if wait {
			if _, err := untilEnded(ctx, b, id); err != nil {
				return err
			}
		}
		_, err := fmt.Fprintln(a.stdout, id)
		return err
	})
}

// completeIDs offers the IDs and names of workloads when a daemon answers
// quickly.
func (a *app) completeIDs(cmd *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), time.Second)
	defer cancel()
	b, err := a.connect()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer b.close()
	list, err := b.List(ctx, true, nil)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out []string
	for _, w := range list {
		if id := w.ID.String(); len(begun) <= len(id) && id[:len(begun)] == begun {
			out = append(out, w.ID.Short()+"\t"+terminal.Clean(w.Name, 40)+" "+string(w.Phase))
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// splitTask splits ID/TASK.
func splitTask(text string) (string, *uint32, error) {
	for i := len(text) - 1; i > 0; i-- {
		if text[i] != '/' {
			continue
		}
		n, err := strconv.ParseUint(text[i+1:], 10, 32)
		if err != nil {
			return "", nil, usagef("write ID/3 for task 3", "%.60q: the task is not a number", text)
		}
		task := uint32(n)
		return text[:i], &task, nil
	}
	return text, nil, nil
}
