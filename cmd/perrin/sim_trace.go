package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/perrin-mesh/perrin/cmd/perrin/internal/terminal"
	"github.com/perrin-mesh/perrin/simulations/scenario"
	"github.com/perrin-mesh/perrin/simulations/trace"
)

func (a *app) simTraceCommand() *cobra.Command {
	o := trace.Options{Format: trace.CSV, Most: 10_000, Speed: 1}
	cmd := &cobra.Command{
		Use: "trace FILE", Short: "Turn a trace of real work into a scenario's workloads",
		Long: `Read when work came, of how many tasks, how long they took and whose they were, and
print it as the workloads of a scenario, so that the scenario's file has all that was
simulated.

  csv                   a header with at_s and service_s, in seconds; tasks and owner are optional
  azure-functions-2021  the invocation trace of Azure Functions: app, func, end_timestamp, duration
  swf                   Standard Workload Format: jobs with their processors as tasks

The first arrival is at 0. --speed 60 has an hour's work come within a minute; how
long tasks take stays as it is. The file is of at most 5,000,000 rows, of which the
first --most are taken.`,
		Example: examples("perrin sim trace requests.csv > work.yaml",
			"perrin sim trace jobs.swf --format swf --most 500 --speed 600",
			`(perrin sim trace requests.csv; echo 'duration: 60s'; echo 'peers: 500'; echo 'machines: [{cores: 8}]') > mine.yaml && perrin sim run mine.yaml`),
		Args: exactly(1, "one FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			if !slices.Contains(trace.Formats, o.Format) {
				return usagef("the formats are "+strings.Join(trace.Formats, ", "), "--format: there is no %.40q", o.Format)
			}
			if o.Most < 1 || o.Most > scenario.MaxArrivals {
				return usagef("", "--most: want 1 to %d, got %d", scenario.MaxArrivals, o.Most)
			}
			return a.simTrace(args[0], o)
		},
	}
	cmd.Flags().StringVar(&o.Format, "format", o.Format, strings.Join(trace.Formats, ", "))
	cmd.Flags().IntVar(&o.Most, "most", o.Most, "rows to take, the earliest")
	cmd.Flags().Float64Var(&o.Speed, "speed", o.Speed, "how much faster time goes than in the trace")
	return cmd
}

func (a *app) simTrace(file string, o trace.Options) error {
	f, err := os.Open(file)
	if err != nil {
		return &failure{err: err, code: exitUsage, hint: "name a trace's file"}
	}
	rows, err := trace.Read(f, o)
	if err := f.Close(); err != nil {
		return err
	}
	if err != nil {
		return &failure{err: fmt.Errorf("%s: %w", file, err), code: exitUsage, hint: "`perrin sim trace --help` says what the formats have"}
	}
	last := rows[len(rows)-1].At
	a.note("%s within %.1f s", terminal.Plural(len(rows), "workload"), float64(last)/1e9)
	_, err = a.stdout.Write(trace.Workloads("trace", rows))
	return err
}
