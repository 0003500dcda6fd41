package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/perrin-mesh/perrin/cmd/perrin/internal/terminal"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/specfile"
)

func (a *app) specCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "spec", Short: "Check workload files; print their JSON Schema",
		Example: examples("perrin spec schema > workload.schema.json", "perrin spec check job.yaml"),
		Args:    cobra.ArbitraryArgs,
		RunE:    helpOrUnknown,
	}
	cmd.AddCommand(&cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of workload files",
		Long: `Print the JSON Schema (draft 2020-12) of workload files. An editor with a YAML
language server completes and checks a file that begins with

  # yaml-language-server: $schema=workload.schema.json`,
		Example: examples("perrin spec schema > workload.schema.json"),
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := a.stdout.Write(specfile.Schema())
			return err
		},
	}, a.specCheckCommand())
	return cmd
}

func (a *app) specCheckCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "check FILE", Short: "Check a workload file and what it names, without a mesh",
		Example: examples("perrin spec check job.yaml"),
		Args:    exactly(1, "one FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			steps, err := a.readSteps(args[0])
			if err != nil {
				return err
			}
			return a.printSteps(steps)
		},
	}
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) printSteps(steps []*step) error {
	if a.json {
		specs := make([]workload.Spec, len(steps))
		for i, s := range steps {
			specs[i] = s.job.spec
		}
		return a.printJSON(specs)
	}
	t := terminal.NewTable("NAME", "PROGRAM", "TASKS ", "SHAPE", "AFTER")
	for _, s := range steps {
		var after []string
		for _, x := range s.After {
			after = append(after, x.Value)
		}
		how := "shipped"
		if s.job.program.path == "" && s.job.program.image == nil {
			how = "named"
		}
		t.Row(s.Name, fmt.Sprintf("%s (%s, %s)", s.job.program.Name, s.job.program.Kind, how), terminal.Count(int64(s.job.spec.Tasks.Count)),
			shapeText(s.job.spec.Resources), orElse(strings.Join(after, ", "), "-"))
	}
	return t.Write(a.stdout)
}

// shapeText returns "2 threads, 1.5 GiB".
func shapeText(r workload.Resources) string {
	return terminal.Plural(int(r.CPUs), string(r.Class)) + ", " + terminal.Size(r.Memory)
}
