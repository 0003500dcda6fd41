package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perrin-mesh/perrin/cmd/perrin/internal/terminal"
	"github.com/perrin-mesh/perrin/simulations/external"
	"github.com/perrin-mesh/perrin/simulations/model"
	"github.com/perrin-mesh/perrin/simulations/scenario"
	"github.com/perrin-mesh/perrin/simulations/scenarios"
	"github.com/perrin-mesh/perrin/simulations/study"
	"github.com/perrin-mesh/perrin/workload/specfile/document"
)

func (a *app) simCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "sim VERB", Short: "Simulate a mesh of thousands of peers",
		Long: `Simulate a mesh of up to millions of peers in one process, without root and
without a daemon. What decides is the code that runs in the daemon: the auction,
the allocator, the prices, the leases and the ledger. The network, the machines
and the work are models that a scenario describes. docs/simulation.md says what
is modelled and what a simulation cannot tell.`,
		Example: examples("perrin sim run quickstart", "perrin sim run scenario.yaml --seed 7 --out results", "perrin sim scenarios"),
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return usagef("see `perrin sim --help`", "perrin sim has no verb %.40q", args[0])
		},
	}
	cmd.AddCommand(a.simTraceCommand(), a.simRunCommand(), a.simReplayCommand(), a.simVerifyCommand(), a.simScenariosCommand(), a.simSweepCommand(), a.simCompareCommand(), a.simReportCommand(), a.simInspectCommand())
	cmd.AddCommand(a.simFuzzCommand(), a.simCiteCommand(), a.simBridgeCommand(), a.simCalibrateCommand(), a.simRehearseCommand())
	return cmd
}

// simFlags change what a scenario says.
type simFlags struct {
	seed         uint64
	replications int
	policy       string
	command      string
	workers      int
	out          string
	fidelity     string
	events       string
	history      bool
	against      string
}

func (f *simFlags) registerSeed(cmd *cobra.Command) {
	cmd.Flags().Uint64Var(&f.seed, "seed", 0, "seed in place of the scenario's")
}

func (f *simFlags) register(cmd *cobra.Command) {
	f.registerSeed(cmd)
	cmd.Flags().StringVar(&f.policy, "policy", "", "policy in place of the scenario's: "+strings.Join(scenario.Policies, ", "))
	cmd.Flags().StringVar(&f.command, "command", "", "process that decides, as policy own: words that spaces divide, no shell (docs/policies.md)")
	oneOf(cmd, "policy", scenario.Policies)
}

func (a *app) simRunCommand() *cobra.Command {
	var f simFlags
	cmd := &cobra.Command{
		Use: "run SCENARIO", Short: "Run a scenario and measure",
		Long: `Run every replication of a scenario, a YAML file or one of the gallery, and print
each figure with its 95 % confidence interval over the replications. The figures
with their intervals, the time series, the scenario and a manifest go to a folder:
the seeds and the trace hashes in the manifest let somebody else check the run.

With --fidelity stack whole nodes run, with real connections, DHT, gossip and Raft
over a simulated network of packets, in virtual time. A minute of fifty of them
takes some minutes, and two runs differ a little.`,
		Example: examples("perrin sim run quickstart", "perrin sim run bridge --fidelity stack",
			"perrin sim run scenario.yaml --seed 7 --out results",
			"perrin sim run price --policy random --replications 10 --json",
			`perrin sim run price --command "python3 mine.py" --out mine`,
			"perrin sim run quickstart --replications 1 --events jsonl.gz --history"),
		Args: exactly(1, "one SCENARIO"), ValidArgsFunction: completeScenarios,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains(fidelities, f.fidelity) {
				return usagef("write --fidelity model or --fidelity stack", "--fidelity: there is no %.40q", f.fidelity)
			}
			if f.fidelity == study.Stack {
				if err := modelFlags(cmd); err != nil {
					return err
				}
			}
			if f.against == scenario.Own || f.against != "" && !slices.Contains(scenario.Policies, f.against) {
				return usagef(scenario.PolicyHint(f.against), "--against: there is no policy %.40q to compare with", f.against)
			}
			if f.events != "" && !slices.Contains(study.LogFormats, f.events) {
				return usagef("the formats are "+strings.Join(study.LogFormats, ", "), "--events: there is no format %.40q", f.events)
			}
			s, text, err := readScenario(args[0], cmd, &f)
			if err != nil {
				return err
			}
			if f.fidelity == study.Stack {
				return a.simRunStack(cmd.Context(), s, text, &f)
			}
			return a.simRun(cmd.Context(), s, text, &f)
		},
	}
	f.register(cmd)
	cmd.Flags().IntVar(&f.replications, "replications", 0, "independently sampled networks, in place of the scenario's")
	cmd.Flags().IntVar(&f.workers, "workers", 0, "replications at once (default: one for each CPU)")
	cmd.Flags().StringVar(&f.out, "out", "", "folder for the results (default sim-NAME-SEED here; it must not be there yet)")
	cmd.Flags().StringVar(&f.fidelity, "fidelity", study.Model, "model: the production rules on modelled peers; stack: whole nodes in virtual time, up to a hundred of them, with fewer fields of a scenario")
	cmd.Flags().StringVar(&f.events, "events", "", "also write every event, events-N of each replication: "+strings.Join(study.LogFormats, ", "))
	cmd.Flags().BoolVar(&f.history, "history", false, "also write history-N.jsonl: the operations of each replication, as Porcupine reads them")
	cmd.Flags().StringVar(&f.against, "against", "", "also run the same worlds under this policy and say how much dearer the work is; all-knowing gives the price of decentralisation")
	a.jsonFlag(cmd)
	return cmd
}

// fidelities are how a scenario can be run.
var fidelities = []string{study.Model, study.Stack}

func (a *app) simReplayCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "replay DIR", Short: "Run a study again and compare its traces and figures",
		Long: `Run the scenario of a folder that perrin sim run has made, with its seed and
policy, and compare the trace of every replication, a hash over all its events,
with the manifest, and every figure, byte by byte: summary.json, series.csv and
spreads.csv. Another one than the folder's is an error, and so is a scenario or a
file of events that was changed since, or a scenario that this version reads
otherwise. A run with --against is run under both policies again.

When it began, how long it took and on which machine is the word of who ran it.`,
		Example: examples("perrin sim run quickstart --out results && perrin sim replay results"),
		Args:    exactly(1, "one DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, s, err := study.Read(args[0])
			if err != nil {
				return notStudy(args[0], err)
			}
			if err := m.Exact(); err != nil {
				return &failure{err: err, code: exitUsage, hint: "`perrin sim bridge` compares such a run with the model"}
			}
			if err := fits(s, 1); err != nil {
				return err
			}
			rival, err := study.Rival(args[0])
			if err != nil {
				return folderFailure(err)
			}
			if err := m.CheckLogs(args[0]); err != nil {
				return &failure{err: err, code: exitFailure, hint: "the events of the run are not what it wrote; `perrin sim run` with the scenario and seed writes them again"}
			}
			if err := policyStarts(s); err != nil {
				return err
			}
			a.noteCommand(s)
			ctx, stop := a.untilInterrupted(cmd.Context())
			defer stop()
			out, err := study.Replay(ctx, m, s, a.Version, study.Options{Memory: study.FreeMemory(), Progress: a.simProgress(time.Now()), Against: rival})
			if err == nil {
				err = out.CheckFigures(args[0])
			}
			if err != nil {
				return simFailure(err)
			}
			return show(a, m.Replications, func(r []study.Replication) error {
				_, err := fmt.Fprintf(a.stdout, "%s, every one as in %s\n", terminal.Plural(len(r), "replication"), args[0])
				return err
			})
		},
	}
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) simVerifyCommand() *cobra.Command {
	var f simFlags
	cmd := &cobra.Command{
		Use: "verify SCENARIO", Short: "Run a scenario twice and compare event by event",
		Long: `Run the first replication of a scenario twice, side by side, and compare every
event and what it did to the ledgers. It names the first event that differs.`,
		Example: examples("perrin sim verify quickstart", "perrin sim verify scenario.yaml --seed 7"),
		Args:    exactly(1, "one SCENARIO"), ValidArgsFunction: completeScenarios,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, _, err := readScenario(args[0], cmd, &f)
			if err != nil {
				return err
			}
			if err := fits(s, 2); err != nil {
				return err
			}
			if f.command == "" {
				a.noteCommand(s)
			}
			v, err := study.Verify(cmd.Context(), s, study.Options{})
			if err != nil {
				return verifyFailure(err, s)
			}
			return show(a, v, func(v *study.Verified) error {
				_, err := fmt.Fprintf(a.stdout, "%s events, the same in both runs; trace hash %s\n", terminal.Count(int64(v.Events)), v.Trace)
				return err
			})
		},
	}
	f.register(cmd)
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) simScenariosCommand() *cobra.Command {
	return &cobra.Command{
		Use: "scenarios [NAME]", Short: "List the gallery, or print one of it",
		Example: examples("perrin sim scenarios", "perrin sim scenarios quickstart > mine.yaml"),
		Args:    atMostOne, ValidArgsFunction: completeScenarios,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				text, err := scenarios.Read(args[0])
				if err != nil && slices.Contains(scenarios.Experiments(), args[0]) {
					text, err = scenarios.ReadExperiment(args[0])
				}
				if err != nil {
					return &failure{err: err, code: exitNotFound, hint: "`perrin sim scenarios` lists them"}
				}
				_, err = a.stdout.Write(text)
				return err
			}
			t := terminal.NewTable("NAME", "ABOUT")
			for _, name := range scenarios.Names() {
				text, err := scenarios.Read(name)
				if err != nil {
					return err
				}
				s, err := scenario.Parse(name, text)
				if err != nil {
					return err
				}
				t.Row(name, s.About)
			}
			for _, name := range scenarios.Experiments() {
				about, err := aboutExperiment(name)
				if err != nil {
					return err
				}
				t.Row(name, about+" (perrin sim sweep)")
			}
			return t.Write(a.stdout)
		},
	}
}

func completeScenarios(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return scenarios.Names(), cobra.ShellCompDirectiveDefault
}

// maxScenario bounds a scenario's file in bytes.
const maxScenario = 4 << 20

// readScenario reads a file, or one of the gallery when there is no such file, and
// applies the flags that were given.
func readScenario(name string, cmd *cobra.Command, f *simFlags) (*scenario.Scenario, []byte, error) {
	text, err := readBounded(name)
	if inGallery(name, err) {
		text, err = scenarios.Read(name)
		name += ".yaml"
	}
	if err != nil {
		return nil, nil, &failure{err: err, code: exitUsage, hint: noScenario(name)}
	}
	s, err := scenario.Parse(name, text)
	var wrong document.Errors
	if errors.As(err, &wrong) {
		return nil, nil, &failure{err: err, code: exitUsage, hint: wrong.Hint()}
	}
	if err != nil {
		return nil, nil, err
	}
	if err := f.apply(cmd, s); err != nil {
		return nil, nil, err
	}
	return s, text, knownPolicy(s)
}

// noScenario says what could have been meant by the name of a scenario that is not there.
func noScenario(name string) string {
	if slices.Contains(scenarios.Experiments(), name) {
		return name + " is an experiment: perrin sim sweep " + name
	}
	if near := document.Nearest(name, scenarios.Names()); near != "" {
		return "did you mean " + near + "?"
	}
	return "name a scenario's file, or one of the gallery: " + strings.Join(scenarios.Names(), ", ")
}

// inGallery reports whether a scenario that could not be read is one of the
// gallery: a folder of results may well have its name.
func inGallery(name string, err error) bool {
	return (errors.Is(err, fs.ErrNotExist) || errors.Is(err, errFolder)) && slices.Contains(scenarios.Names(), name)
}

// errFolder is returned of a folder where a file is wanted.
var errFolder = errors.New("want a file, it is a folder")

func readBounded(name string) ([]byte, error) {
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, fmt.Errorf("%s: %w", name, errFolder)
	case !info.Mode().IsRegular() || info.Size() > maxScenario:
		return nil, fmt.Errorf("%s: want a file of at most %s", name, terminal.Size(maxScenario))
	}
	return os.ReadFile(name)
}

func (f *simFlags) apply(cmd *cobra.Command, s *scenario.Scenario) error {
	if cmd.Flags().Changed("seed") {
		s.Seed = f.seed
	}
	if cmd.Flags().Changed("replications") {
		if f.replications < 1 || f.replications > scenario.MaxReplications {
			return usagef("", "--replications: want 1 to %d, got %d", scenario.MaxReplications, f.replications)
		}
		s.Replications = f.replications
	}
	if err := f.applyPolicy(cmd, s); err != nil {
		return err
	}
	if f.workers < 0 {
		return usagef("", "--workers: want 1 or more, got %d", f.workers)
	}
	return nil
}

// fits refuses a scenario of which so many runs at once are too large for memory.
func fits(s *scenario.Scenario, runs int) error {
	if free, need := study.FreeMemory(), int64(runs)*s.Memory(); free > 0 && need > free {
		return simFailure(&study.TooLarge{Needs: need, Has: free, Workers: runs})
	}
	return nil
}

// simFailure words what can go wrong with a run.
func simFailure(err error) error {
	var large *study.TooLarge
	var broken *model.Violation
	var differ *study.Difference
	var unlike *study.Unlike
	var altered *study.Altered
	var process *external.Broken
	switch {
	case errors.As(err, &process):
		return &failure{err: err, code: exitFailure, hint: "docs/policies.md has the protocol, and an example that keeps to it; what it prints for people must go to standard error"}
	case errors.As(err, &unlike):
		return &failure{err: err, code: exitFailure, hint: "a replay needs the version that made the folder; with the same one this is a bug"}
	case errors.As(err, &altered):
		return &failure{err: err, code: exitFailure, hint: "the events are those of the run: the file was changed since, or another version wrote it; `perrin sim run` with the scenario and seed writes it again"}
	case errors.As(err, &large):
		return &failure{err: err, code: exitUsage, hint: "fewer peers, a shorter duration, --workers 1, or a machine with more memory"}
	case errors.As(err, &broken):
		return &failure{err: err, code: exitFailure, hint: "this is a bug of Perrin or of the model: please report it with the scenario and its seed"}
	case errors.As(err, &differ):
		return &failure{err: err, code: exitFailure, hint: "this is a bug of the model: please report it with the scenario and its seed"}
	}
	return err
}

// verifyFailure is simFailure for two runs beside each other, whose policy may be
// what differs.
func verifyFailure(err error, s *scenario.Scenario) error {
	var differ *study.Difference
	if errors.As(err, &differ) && s.Policy.Name == scenario.Own {
		return &failure{err: err, code: exitFailure, hint: "the policy's process answered otherwise the second time: its answers must follow from the questions and from the seed in its first line, not from a clock, a random seed of its own or the order of a set"}
	}
	return simFailure(err)
}

func (a *app) simRun(ctx context.Context, s *scenario.Scenario, text []byte, f *simFlags) error {
	if err := fits(s, 1); err != nil {
		return err
	}
	dir, err := simFolder(f.out, s)
	if err != nil {
		return err
	}
	ctx, stop := a.untilInterrupted(ctx)
	defer stop()
	if load := s.Offered(); load > 1 {
		a.note("the open streams offer %.0f %% of all cores: queues grow for as long as the run lasts", 100*load)
	}
	if a.env("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if a.env("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(max(study.Workers(s, f.workers)*s.Memory()/100*liveShare, alwaysSpent))
	}
	if f.command == "" {
		a.noteCommand(s)
	}
	began := time.Now()
	out, err := study.Run(ctx, s, study.Options{Workers: f.workers, Memory: study.FreeMemory(), Progress: a.simProgress(began),
		Logs: study.Logs{Dir: dir, Events: f.events, History: f.history}, Against: f.against})
	if err != nil {
		return errors.Join(simFailure(err), os.RemoveAll(dir)) // it was empty, and has nothing but logs of replications that have ended
	}
	m := out.Manifest(a.Version, text, began)
	if err := out.Write(dir, m, text); err != nil {
		return fmt.Errorf("write the results: %w", err)
	}
	return show(a, out.Summary(), func(*study.Summary) error { return a.printStudy(out, m, dir) })
}

// gcPercent spends memory on speed: a run is a sixth faster than with Go's 100,
// and the estimate that it is refused by counts with it.
const gcPercent = 400

// liveShare is the percentage of the estimate beyond which memory is not spent on
// speed: what lives takes half of it or more.
const liveShare = 70

// alwaysSpent is the bytes that a run may have however little it was estimated to
// need: with ten thousand peers it is a quarter faster than under a tight limit.
const alwaysSpent = 256 << 20

// untilInterrupted returns a context that ends with the first Ctrl-C.
func (a *app) untilInterrupted(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	signals, stop := a.interrupts()
	go func() {
		select {
		case <-signals:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(); stop() }
}

// simFolder makes the folder of the results. Without a name it is sim-NAME-SEED,
// with a number behind it when that is taken.
func simFolder(named string, s *scenario.Scenario) (string, error) {
	if named != "" {
		if err := study.Open(named); err != nil {
			return "", &failure{err: fmt.Errorf("--out: %w", err), code: exitUsage, hint: "name a folder that is not there yet"}
		}
		return named, nil
	}
	base := fmt.Sprintf("sim-%s-%d", fileName(s.Name), s.Seed)
	dir := base
	for n := 2; n < 1000; n++ {
		err := study.Open(dir)
		if !errors.Is(err, fs.ErrExist) {
			return dir, err
		}
		dir = fmt.Sprintf("%s-%d", base, n)
	}
	return "", failf("name one with --out", "there are a thousand folders %s", base)
}

// fileName keeps letters, digits and dashes of a name.
func fileName(name string) string {
	clean := strings.Map(func(r rune) rune {
		if r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '-'
	}, name)
	return filepath.Clean(clean[:min(len(clean), 60)])
}

// simProgress shows simulated seconds, events a second and the interval so far.
func (a *app) simProgress(began time.Time) func(study.Progress) {
	p := terminal.NewProgress(a.stderr, terminal.Is(a.stderr), terminal.Width(a.stderr), "simulated ms", began)
	return func(s study.Progress) {
		note := fmt.Sprintf("%d of %d runs, %s events/s", s.Done, s.Replications, terminal.Count(int64(float64(s.Events)/max(s.Wall.Seconds(), 1e-3))))
		if s.SoFar.N > 1 {
			note += fmt.Sprintf(", median placement %.1f ± %.1f ms", s.SoFar.Mean, s.SoFar.Half)
		}
		total := int(s.Total / 1_000_000)
		done := min(int(s.Simulated/1_000_000), max(0, total-1)) // 100 % is when every run has ended
		if s.Done == s.Replications {
			done = total
		}
		p.Update(terminal.State{Done: done, Total: total, Note: note}, time.Now())
		if s.Done == s.Replications {
			p.Clear()
		}
	}
}
