package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perrin-mesh/perrin/cmd/perrin/internal/terminal"
	"github.com/perrin-mesh/perrin/simulations/scenario"
	"github.com/perrin-mesh/perrin/simulations/trace"
)

// traceFlags say what is made of a trace.
type traceFlags struct {
	trace.Options
	perToken time.Duration
	thin     float64
	resample int
	seed     uint64
	fit      bool

	durations string // file
}

func (a *app) simTraceCommand() *cobra.Command {
	f := traceFlags{Options: trace.Options{Format: trace.CSV, Most: 10_000, Speed: 1}}
	cmd := &cobra.Command{
		Use: "trace FILE...", Short: "Turn a trace of real work into a scenario's workloads",
		Long: `Read when work came, of how many tasks, how long they took and whose they were, and
print it as the workloads of a scenario, so that the scenario's file has all that was
simulated. Several files are laid over each other. --json prints the same as JSON,
which a scenario's file may be too.

  csv                   a header with at_s and service_s, in seconds; tasks and owner are optional
  azure-functions-2021  the invocation trace of Azure Functions: app, func, end_timestamp, duration
  azure-functions-2019  counts of calls a minute, with --durations: calls are drawn from both by --seed
  azure-llm-2023        requests to language models: TIMESTAMP, ContextTokens, GeneratedTokens
  alibaba-2018-batch    batch_task.csv of Alibaba's cluster: the tasks that terminated
  google-2011           task_events of Google's cluster: the tasks that finished
  opendc                tasks.parquet of OpenDC: submission_time, duration, cpu_count
  openb-pods            pods of Alibaba's cluster of GPUs: creation_time, scheduled_time, deletion_time
  swf                   Standard Workload Format: jobs with their processors as tasks

The first arrival is at 0. --speed 60 has an hour's work come within a minute; how
long tasks take stays as it is. --thin keeps a share of the arrivals, --resample draws
gaps and workloads of the trace with replacement. A file is of at most 5,000,000 rows,
of which the first --most are taken.

--fit prints which distributions gaps and service times are like, and how well: each
family by maximum likelihood, the best by Akaike's criterion first, with the distance
of Kolmogorov and Smirnov and its p-value by a parametric bootstrap.`,
		Example: examples("perrin sim trace requests.csv > work.yaml", "perrin sim trace requests.csv --fit",
			"perrin sim trace jobs.swf --format swf --most 500 --speed 600",
			"perrin sim trace monday.csv tuesday.csv --thin 20%",
			"perrin sim trace invocations_per_function_md.anon.d01.csv --format azure-functions-2019 --durations function_durations_percentiles.anon.d01.csv",
			`(perrin sim trace requests.csv; echo 'duration: 60s'; echo 'peers: 500'; echo 'machines: [{cores: 8}]') > mine.yaml && perrin sim run mine.yaml`),
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("see `perrin sim trace --help`", "trace: want one FILE or more")
			}
			thin, _ := cmd.Flags().GetString("thin") // it is a flag of this command
			if err := f.check(thin); err != nil {
				return err
			}
			return a.simTrace(args, &f)
		},
	}
	cmd.Flags().StringVar(&f.Format, "format", f.Format, strings.Join(trace.Formats, ", "))
	cmd.Flags().IntVar(&f.Most, "most", f.Most, "rows of each file to take, the earliest")
	cmd.Flags().Float64Var(&f.Speed, "speed", f.Speed, "how much faster time goes than in the trace")
	cmd.Flags().DurationVar(&f.perToken, "per-token", 20*time.Millisecond, "how long a token takes that is generated; one of the context takes a hundredth of it")
	cmd.Flags().StringVar(&f.durations, "durations", "", "of azure-functions-2019: the day's table of durations")
	cmd.Flags().String("thin", "100%", "share of the arrivals to keep, each by chance")
	cmd.Flags().IntVar(&f.resample, "resample", 0, "draw so many arrivals from those of the trace")
	cmd.Flags().Uint64Var(&f.seed, "seed", 1, "seed of --thin, --resample, --fit and of calls that are drawn")
	cmd.Flags().BoolVar(&f.fit, "fit", false, "fit distributions in place of printing workloads")
	a.jsonFlag(cmd)
	return cmd
}

func (f *traceFlags) check(thin string) error {
	if !slices.Contains(trace.Formats, f.Format) {
		return usagef("the formats are "+strings.Join(trace.Formats, ", "), "--format: there is no %.40q", f.Format)
	}
	if f.Most < 1 || f.Most > scenario.MaxArrivals {
		return usagef("", "--most: want 1 to %d, got %d", scenario.MaxArrivals, f.Most)
	}
	if f.resample < 0 || f.resample > scenario.MaxArrivals {
		return usagef("", "--resample: want 1 to %d, got %d", scenario.MaxArrivals, f.resample)
	}
	if f.perToken <= 0 || f.perToken > time.Hour {
		return usagef("", "--per-token: want more than 0 and at most 1h, got %s", f.perToken)
	}
	share, percent := strings.CutSuffix(thin, "%")
	if _, err := fmt.Sscanf(share+" ", "%g ", &f.thin); err != nil || !percent || !(f.thin > 0) || f.thin > 100 {
		return usagef("write --thin 20%", "--thin: want a share above 0%% and at most 100%%, got %.40q", thin)
	}
	if counts := f.Format == trace.AzureCounts; counts != (f.durations != "") {
		return usagef("perrin sim trace COUNTS --format azure-functions-2019 --durations DURATIONS", "--durations: it goes with --format azure-functions-2019, which needs it")
	}
	f.PerToken, f.Seed = f.perToken.Seconds(), f.seed
	return nil
}

// readTraces reads the files and applies the operators, in the order of thinning,
// laying over each other and resampling.
func (a *app) readTraces(files []string, f *traceFlags) ([]scenario.Arrival, error) {
	var all [][]scenario.Arrival
	for i, file := range files {
		rows, err := a.readTrace(file, f)
		if err != nil {
			return nil, err
		}
		if f.thin < 100 {
			rows = trace.Thin(rows, int64(f.thin*10_000), f.seed+uint64(i))
		}
		all = append(all, rows)
	}
	rows := all[0]
	if len(all) > 1 {
		rows = trace.Superpose(all...)
	}
	switch {
	case len(rows) == 0:
		return nil, usagef("keep a larger share", "--thin: no arrival is left")
	case len(rows) > scenario.MaxArrivals:
		return nil, usagef("fewer files, --most or --thin", "%d arrivals, a scenario takes %d", len(rows), scenario.MaxArrivals)
	}
	if f.resample > 0 {
		again, err := trace.Resample(rows, f.resample, f.seed)
		if err != nil {
			return nil, &failure{err: err, code: exitUsage, hint: "take more rows"}
		}
		rows = again
	}
	return rows, nil
}

// readTrace reads one file, and says what it leaves out.
func (a *app) readTrace(file string, f *traceFlags) ([]scenario.Arrival, error) {
	in, err := os.Open(file)
	if err != nil {
		return nil, &failure{err: err, code: exitUsage, hint: "name a trace's file"}
	}
	defer in.Close() // it was only read
	o := f.Options
	if f.durations != "" {
		table, err := os.Open(f.durations)
		if err != nil {
			return nil, &failure{err: fmt.Errorf("--durations: %w", err), code: exitUsage, hint: "name the table of the same day"}
		}
		defer table.Close()
		o.Durations = table
		o.LeftOut = func(calls, functions int) {
			a.note("%s of %s left out: --durations has no row for them", terminal.Plural(calls, "call"), terminal.Plural(functions, "function"))
		}
	}
	rows, err := trace.Read(in, o)
	if err != nil {
		return nil, &failure{err: fmt.Errorf("%s: %w", file, err), code: exitUsage, hint: "`perrin sim trace --help` says what the formats have"}
	}
	return rows, nil
}

func (a *app) simTrace(files []string, f *traceFlags) error {
	rows, err := a.readTraces(files, f)
	if err != nil {
		return err
	}
	if f.fit {
		return a.fitTrace(rows, f.seed)
	}
	last := rows[len(rows)-1].At
	a.note("%s within %.1f s", terminal.Plural(len(rows), "workload"), float64(last)/1e9)
	out := traced{[]trace.Stream{trace.NewStream("trace", rows)}}
	return show(a, out, func(t traced) error { _, err := a.stdout.Write(t.Workloads[0].YAML()); return err })
}

// traced is the part of a scenario's file that a trace becomes.
type traced struct {
	Workloads []trace.Stream `json:"workloads"`
}

// fitted is what one quantity of a trace is like.
type fitted struct {
	Of   string      `json:"of"`
	Fits []trace.Fit `json:"fits"`
}

func (a *app) fitTrace(rows []scenario.Arrival, seed uint64) error {
	gaps, services := make([]float64, 0, len(rows)), make([]float64, len(rows))
	for i, r := range rows {
		services[i] = float64(r.Service) / 1e9
		if i > 0 {
			gaps = append(gaps, float64(r.At-rows[i-1].At)/1e9)
		}
	}
	var out []fitted
	for _, of := range []struct {
		name   string
		values []float64
	}{{"gaps between arrivals", gaps}, {"service times", services}} {
		fits, err := trace.Fits(of.values, seed)
		if err != nil {
			return &failure{err: fmt.Errorf("%s: %w", of.name, err), code: exitUsage, hint: "take more rows"}
		}
		out = append(out, fitted{of.name, fits})
	}
	return show(a, out, a.printFits)
}

// refused is the p-value below which a fit is called bad.
const refused = 0.05

func (a *app) printFits(all []fitted) error {
	for i, f := range all {
		if i > 0 {
			fmt.Fprintln(a.stdout)
		}
		fmt.Fprintf(a.stdout, "%s, %s:\n", f.Of, terminal.Plural(f.Fits[0].N, "value"))
		t := terminal.NewTable("DISTRIBUTION", "DISTANCE", "P ", "AIC")
		for _, fit := range f.Fits {
			t.Row(fit.Text, fmt.Sprintf("%.3f", fit.Distance), fmt.Sprintf("%.3f", fit.P), fmt.Sprintf("%.0f", fit.AIC))
		}
		if err := t.Write(a.stdout); err != nil {
			return err
		}
		if best := f.Fits[0]; best.P < refused {
			fmt.Fprintf(a.stdout, "none is a good fit: the best is off by up to %.0f %% of all values (p %.3f); replay the trace instead\n", 100*best.Distance, best.P)
		}
	}
	return nil
}
