package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/perrin-mesh/perrin/cmd/perrin/internal/terminal"
	"github.com/perrin-mesh/perrin/node/api"
)

func (a *app) psCommand() *cobra.Command {
	var all bool
	var labels []string
	cmd := &cobra.Command{
		Use:   "ps [-a] [--label NAME=VALUE]",
		Short: "List workloads",
		Long: `List your workloads that have not ended, or with -a all that the mesh remembers, the
newest first. With --token, list those of the owner who made the token, as far as it
is for them.`,
		Example: examples("perrin ps", "perrin ps -a --label project=cats", "perrin ps -a --json", "perrin ps --token attic.token"),
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			want, err := pairs("label", "NAME=VALUE", labels)
			if err != nil {
				return err
			}
			return a.withBackend(func(b *backend) error {
				list, err := b.List(cmd.Context(), all, want)
				if err != nil {
					return err
				}
				slices.SortStableFunc(list, func(x, y api.Workload) int { return y.Created.Compare(x.Created) })
				return show(a, append([]api.Workload{}, list...), func(list []api.Workload) error {
					return a.printWorkloads(list, all, len(want) > 0)
				})
			})
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "also those that have ended")
	cmd.Flags().StringArrayVarP(&labels, "label", "l", nil, "only those with this label; repeatable")
	a.tokenFlag(cmd)
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) printWorkloads(list []api.Workload, all, labels bool) error {
	if len(list) == 0 {
		switch {
		case labels && all:
			a.note("no workload has these labels; `perrin ps -a` lists all")
		case labels:
			a.note("nothing that runs has these labels; `perrin ps -a` with them also shows what has ended")
		case all:
			a.note("no workloads yet; try `perrin run -- echo hi`")
		default:
			a.note("nothing is running; `perrin ps -a` also shows what has ended")
		}
		return nil
	}
	t := terminal.NewTable("ID", "NAME", "PHASE", "TASKS ", "ON", "COST ", "AGE ")
	for _, w := range list {
		t.Row(w.ID.Short(), orElse(w.Name, "-"), string(w.Phase), taskCounts(w.Tasks), placedOn(&w), terminal.Credits(w.Cost), terminal.Duration(age(w.Created)))
	}
	return t.Write(a.stdout)
}

// taskCounts returns "3/10" and how many failed.
func taskCounts(c api.Counts) string {
	text := fmt.Sprintf("%d/%d", c.Done, c.Total)
	if c.Failed > 0 {
		text += fmt.Sprintf(", %d failed", c.Failed)
	}
	return text
}

// placedOn names the nodes of a workload, three at most.
func placedOn(w *api.Workload) string {
	var names []string
	for _, s := range w.Slots {
		if !slices.Contains(names, s.Name) {
			names = append(names, s.Name)
		}
	}
	for _, p := range w.Placed {
		if !slices.Contains(names, p.Name) {
			names = append(names, p.Name)
		}
	}
	slices.Sort(names)
	switch {
	case len(names) == 0:
		return "-"
	case len(names) > 3:
		return fmt.Sprintf("%s, %s and %d more", names[0], names[1], len(names)-2)
	}
	text := names[0]
	for _, n := range names[1:] {
		text += ", " + n
	}
	return text
}
