package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perrin-mesh/perrin/cmd/perrin/internal/terminal"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
)

// shownTasks is how many tasks inspect shows unasked.
const shownTasks = 10

func (a *app) inspectCommand() *cobra.Command {
	var tasks bool
	cmd := &cobra.Command{
		Use: "inspect ID", Short: "Show everything about a workload",
		Long:              "Show a workload: what was asked for, where it runs, what it cost and how its tasks\nended. ID may be a prefix or a name.",
		Example:           examples("perrin inspect abcdefghij", "perrin inspect train.py --tasks --json"),
		Args:              exactly(1, "one ID"),
		ValidArgsFunction: a.completeIDs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if id, task, err := splitTask(args[0]); err == nil && task != nil {
				return usagef(fmt.Sprintf("`perrin why %s` is about one task, `perrin logs %s` is what it printed", args[0], args[0]),
					"inspect shows a whole workload: want %.60q, got %.80q", id, args[0])
			}
			return a.withWorkload(cmd.Context(), args[0], func(b *backend, id workload.ID) error {
				return a.inspect(cmd.Context(), b, id, tasks)
			})
		},
	}
	cmd.Flags().BoolVar(&tasks, "tasks", false, "all tasks")
	a.jsonFlag(cmd)
	a.tokenFlag(cmd)
	return cmd
}

// inspected is what inspect prints as JSON.
type inspected struct {
	*api.Workload
	List []api.Task `json:"task_list,omitempty"`
}

func (a *app) inspect(ctx context.Context, b *backend, id workload.ID, all bool) error {
	w, err := b.Inspect(ctx, id)
	if err != nil {
		return err
	}
	out := inspected{Workload: w}
	limit := w.Tasks.Total
	if !all {
		limit = min(limit, shownTasks)
	}
	if !a.json || all {
		err = eachTask(ctx, b, id, limit, func(t api.Task) error {
			if uint32(len(out.List)) < limit {
				out.List = append(out.List, t)
			}
			return nil
		})
	}
	if err != nil {
		return err
	}
	return show(a, out, a.printInspected)
}

func (a *app) printInspected(v inspected) error {
	var out strings.Builder
	w := v.Workload
	p := func(name, format string, args ...any) {
		fmt.Fprintf(&out, "%-10s%s\n", name, terminal.Clean(fmt.Sprintf(format, args...), 500))
	}
	p("id", "%s", w.ID)
	p("name", "%s", orElse(w.Name, "-"))
	p("phase", "%s", phaseText(w))
	if w.Spec != nil && w.Spec.Sealed() && w.Program.Host == "" {
		p("program", "sealed (%s)", w.Program.Kind)
	} else {
		p("program", "%s", programText(w.Program))
	}
	if w.Spec != nil {
		printSpec(p, w.Spec)
	}
	p("tasks", "%s", taskCounts(w.Tasks))
	for _, line := range checkedLines(w.Checked, w.ID) {
		p("verify-by", "%s", line)
	}
	p("retries", "%d, and %d lost with a node", w.Retries, w.Lost)
	p("cost", "%s", terminal.Credits(w.Cost))
	p("owner", "%s", w.Owner.Short())
	p("created", "%s", w.Created.Format(time.RFC3339))
	if !w.Ended.IsZero() {
		p("ended", "%s, after %s", w.Ended.Format(time.RFC3339), terminal.Duration(w.Ended.Sub(w.Created)))
	}
	if !w.Held {
		p("leans on", "%s: its program or inputs lie on that node alone", w.Home.Short())
	}
	if err := writeTables(&out, w, v.List); err != nil {
		return err
	}
	_, err := io.WriteString(a.stdout, out.String())
	return err
}

func phaseText(w *api.Workload) string {
	text := string(w.Phase)
	if w.ExitCode != nil {
		text += fmt.Sprintf(", exit code %d", *w.ExitCode)
	}
	for _, more := range []string{w.Reason, w.ExitDetail} {
		if more != "" {
			text += ": " + more
		}
	}
	return text
}

func programText(p workload.Program) string {
	if p.Host != "" {
		return fmt.Sprintf("%s (%s, of the node)", p.Host, p.Kind)
	}
	return fmt.Sprintf("%s (%s, %s, %s)", p.Name, p.Kind, terminal.Size(p.Blob.Size), p.Blob.Digest.Short())
}

func printSpec(p func(name, format string, args ...any), s *workload.Spec) {
	if g := s.Guarantee(); g != "" {
		p("guarantee", "%s", terminal.Clean(g, 2000))
	}
	if len(s.Args) > 0 {
		p("args", "%s", strings.Join(s.Args, " "))
	}
	p("shape", "%s, %s of disk, %d processes", shapeText(s.Resources), terminal.Size(s.Resources.Disk), s.Resources.Pids)
	p("timeout", "%s", terminal.Duration(time.Duration(s.Timeout)*time.Millisecond))
	if s.Where != "" {
		p("where", "%s", s.Where)
	}
	if s.MaxPrice > 0 {
		p("max price", "%s", terminal.Rate(s.MaxPrice))
	}
	for _, name := range slices.Sorted(maps.Keys(s.Labels)) {
		p("label", "%s=%s", name, s.Labels[name])
	}
	for _, in := range s.Inputs {
		p("input", "%s (%s)", in.Path, terminal.Size(in.Blob.Size))
	}
	for _, after := range s.After {
		p("after", "%s (%s)", after.Name, after.Workload.Short())
	}
}

func writeTables(out io.Writer, w *api.Workload, list []api.Task) error {
	placed := terminal.NewTable("NODE", "TASKS ", "SLOTS ", "RATE ", "COST ")
	for _, p := range w.Placed {
		placed.Row(p.Name, fmt.Sprint(p.Tasks), fmt.Sprint(p.Slots), terminal.Rate(p.Rate), terminal.Credits(p.Cost))
	}
	tasks := terminal.NewTable("TASK ", "NAME", "PHASE", "ON", "TRY ", "EXIT ", "TIME ", "MEMORY ")
	for _, t := range list {
		row := []string{fmt.Sprint(t.Index), orElse(t.Name, "-"), string(t.Phase), orElse(t.On, "-"), "-", "-", "-", "-"}
		if r := t.Result; r != nil {
			row[4], row[5] = fmt.Sprint(r.Attempt), fmt.Sprint(r.ExitCode())
			row[6], row[7] = terminal.Duration(time.Duration(r.Usage.WallMs)*time.Millisecond), terminal.Size(r.Usage.PeakMem)
		}
		tasks.Row(row...)
	}
	for _, t := range []*terminal.Table{placed, tasks} {
		if t.Len() == 0 {
			continue
		}
		fmt.Fprintln(out)
		if err := t.Write(out); err != nil {
			return err
		}
	}
	writePublished(out, list)
	if more := int(w.Tasks.Total) - len(list); more > 0 {
		fmt.Fprintf(out, "and %s; --tasks shows all\n", terminal.Plural(more, "more task"))
	}
	return nil
}

// writePublished lists what running tasks have published so far.
func writePublished(out io.Writer, list []api.Task) {
	for _, t := range list {
		for _, o := range t.Published {
			fmt.Fprintf(out, "task %d has published %s (%s)\n", t.Index, terminal.Clean(o.Path, 200), terminal.Size(o.Blob.Size))
		}
	}
}
