package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perrin-mesh/perrin/cmd/perrin/internal/terminal"
	"github.com/perrin-mesh/perrin/simulations/fuzz"
	"github.com/perrin-mesh/perrin/simulations/model"
	"github.com/perrin-mesh/perrin/simulations/scenario"
	"github.com/perrin-mesh/perrin/simulations/study"
)

// fuzzFlags say how long to look.
type fuzzFlags struct {
	fuzz.Options
	plant string
	out   string
}

func (a *app) simFuzzCommand() *cobra.Command {
	var f fuzzFlags
	cmd := &cobra.Command{
		Use: "fuzz SCENARIO", Short: "Break a scenario at random and look whether its rules hold",
		Long: `Add random faults, departures, attackers and work to a scenario, run it, and
check what every run checks: capacity is never negative, no core has two tenants,
no task runs twice at once, nothing acknowledged is lost, what is spent was
earned. What fails is shrunk to a small scenario that still does, which is
written to a file.

Try 0 is the scenario as it is; the others follow from --seed, so that the same
command makes the same tries. --plant switches a rule off, to see that it is
found: lease-ignored lets workers go on when their lease is over, ack-early
gives an ID before a majority has the workload, said-once has workers not repeat
what their leader never answered.

A quarter of the tries look for work that never ends: where a scenario has no
ends_within, no churn, no attackers and cores to spare, they draw only faults that
are over soon, run on, and want all work to end in the time that it can take.

Exit codes: 0 when every invariant held, 1 when one did not.`,
		Example: examples("perrin sim fuzz churn --tries 200", "perrin sim fuzz scenario.yaml --seed 7 --for 10m --tries 100000",
			"perrin sim fuzz churn --plant lease-ignored --out found.yaml; perrin sim fuzz found.yaml --tries 0 --plant lease-ignored"),
		Args: exactly(1, "one SCENARIO"), ValidArgsFunction: completeScenarios,
		RunE: func(cmd *cobra.Command, args []string) error { return a.simFuzz(cmd, args[0], &f) },
	}
	cmd.Flags().Uint64Var(&f.Seed, "seed", 1, "of the tries")
	cmd.Flags().IntVar(&f.Tries, "tries", 100, "how many, beside the scenario as it is")
	cmd.Flags().DurationVar(&f.For, "for", 5*time.Minute, "stop looking, and then shrinking, after so long; 0 is no limit")
	cmd.Flags().IntVar(&f.Shrinks, "shrink", 500, "runs that shrinking may take; 0 leaves what fails as it is")
	cmd.Flags().IntVar(&f.Workers, "workers", 0, "tries at once (default: one for each CPU)")
	cmd.Flags().StringVar(&f.plant, "plant", "", "a bug to put in: "+plantNames())
	cmd.Flags().StringVar(&f.out, "out", "", "file for a scenario that fails (default fuzz-NAME-SEED.yaml here; it must not be there yet)")
	oneOf(cmd, "plant", strings.Split(plantNames(), ", "))
	a.jsonFlag(cmd)
	return cmd
}

func plantNames() string {
	names := make([]string, len(model.Plants))
	for i, p := range model.Plants {
		names[i] = string(p)
	}
	return strings.Join(names, ", ")
}

func (f *fuzzFlags) check() error {
	f.Plant = model.Plant(f.plant)
	switch {
	case f.Tries < 0 || f.Tries > 10_000_000:
		return usagef("", "--tries: want 0 to 10000000, got %d", f.Tries)
	case f.Shrinks < 0 || f.Workers < 0 || f.For < 0:
		return usagef("", "--shrink, --workers and --for: want 0 or more")
	case f.plant != "" && !slices.Contains(model.Plants, f.Plant):
		return usagef("the plants are "+plantNames(), "--plant: there is no %.40q", f.plant)
	}
	return nil
}

func (a *app) simFuzz(cmd *cobra.Command, name string, f *fuzzFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	s, text, err := readScenario(name, cmd, &simFlags{})
	if err != nil {
		return err
	}
	f.Workers = f.AtOnce()
	for free := study.FreeMemory(); free > 0 && f.Workers > 1 && int64(f.Workers)*s.Memory() > free; f.Workers-- {
	}
	if err := fits(s, f.Workers); err != nil {
		return err
	}
	root, err := scenario.ReadTree(name, text)
	if err != nil {
		return err
	}
	if err := f.file(s); err != nil {
		return err
	}
	ctx, stop := a.untilInterrupted(cmd.Context())
	defer stop()
	a.noteCommand(s)
	f.Progress = a.fuzzProgress(time.Now())
	out, err := fuzz.Run(ctx, root, f.Options)
	if err != nil {
		return err
	}
	if out.Failure != nil {
		if err := replaceFile(f.out, func(w io.Writer) error { _, err := io.WriteString(w, out.Failure.Scenario); return err }); err != nil {
			return err
		}
	}
	if err := show(a, out, func(out *fuzz.Outcome) error { return a.printFuzz(out, s) }); err != nil || out.Failure == nil {
		return err
	}
	return fuzzFailure(out.Failure, f)
}

// file refuses a file that is there. Without a name it is fuzz-NAME-SEED.yaml, with a
// number behind it when that is taken.
func (f *fuzzFlags) file(s *scenario.Scenario) error {
	free := func(name string) bool { _, err := os.Lstat(name); return errors.Is(err, fs.ErrNotExist) }
	if f.out != "" {
		if !free(f.out) {
			return usagef("name a file that is not there yet", "--out: %s is there", f.out)
		}
		return nil
	}
	base := fmt.Sprintf("fuzz-%s-%d", fileName(s.Name), f.Seed)
	f.out = base + ".yaml"
	for n := 2; n < 1000 && !free(f.out); n++ {
		f.out = fmt.Sprintf("%s-%d.yaml", base, n)
	}
	if !free(f.out) {
		return failf("name one with --out", "there are a thousand files %s", base)
	}
	return nil
}

func (a *app) printFuzz(out *fuzz.Outcome, s *scenario.Scenario) error {
	fmt.Fprintf(a.stdout, "%s of %s: %s events, %s simulated\n", tries(out.Tries), terminal.Clean(s.Name, 60), terminal.Count(int64(out.Events)),
		terminal.Duration(time.Duration(out.Simulated)))
	if out.Skipped > 0 {
		fmt.Fprintf(a.stdout, "%s skipped: with what was drawn the scenario is none\n", tries(out.Skipped))
	}
	if out.Stopped {
		fmt.Fprintln(a.stdout, "the time was over before all tries were made")
	}
	if f := out.Failure; f != nil {
		_, err := fmt.Fprintf(a.stdout, "try %d fails; shrunk in %s from %d fields and items to %d:\n\n%s\n", f.Try, terminal.Plural(f.Runs, "run"), f.From, f.To, f.Scenario)
		return err
	}
	_, err := fmt.Fprintln(a.stdout, "every invariant held")
	return err
}

func tries(n int) string {
	if n == 1 {
		return "1 try"
	}
	return terminal.Count(int64(n)) + " tries"
}

// fuzzFailure names what broke and the command that shows it again.
func fuzzFailure(found *fuzz.Failure, f *fuzzFlags) error {
	hint := "`perrin sim run " + f.out + "` does it again"
	if f.Plant != "" {
		hint = fmt.Sprintf("the bug was planted; `perrin sim fuzz %s --tries 0 --plant %s` does it again", f.out, f.Plant)
	}
	return &failure{err: fmt.Errorf("invariant %q does not hold: %s", found.Invariant, found.Detail), code: exitFailure, hint: hint}
}

// fuzzProgress shows tries, then runs of the shrinker.
func (a *app) fuzzProgress(began time.Time) func(fuzz.Progress) {
	live := terminal.Is(a.stderr)
	p := terminal.NewProgress(a.stderr, live, terminal.Width(a.stderr), "tries", began)
	return func(s fuzz.Progress) {
		if s.Shrinking > 0 {
			p.Update(terminal.State{Done: s.Shrinking, Total: s.Of, Note: fmt.Sprintf("shrinking, %d fields and items left", s.Fields)}, time.Now())
			return
		}
		p.Update(terminal.State{Done: s.Tries, Total: s.Of, Note: terminal.Count(int64(s.Events)) + " events"}, time.Now())
		if s.Tries == s.Of {
			p.Clear()
		}
	}
}
