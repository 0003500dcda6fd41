package main

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perrin-mesh/perrin/cmd/perrin/internal/terminal"
	"github.com/perrin-mesh/perrin/simulations/rehearsal"
	"github.com/perrin-mesh/perrin/simulations/study"
)

// bridged is what perrin sim bridge says.
type bridged struct {
	Scenario  string               `json:"scenario"`
	Peers     int                  `json:"peers"`
	Seed      uint64               `json:"seed"`
	Tolerance float64              `json:"tolerance"`
	Worst     float64              `json:"worst"`
	WorstOf   string               `json:"worst_of"`
	Figures   []rehearsal.Compared `json:"figures"`
}

func (a *app) simBridgeCommand() *cobra.Command {
	var f simFlags
	var tolerance string
	cmd := &cobra.Command{
		Use: "bridge SCENARIO", Short: "Run a scenario on whole nodes and in the model, and compare",
		Long: `Run a scenario on whole nodes in virtual time and in the model, on the same
worlds: peers, places, leaders, voters, arrivals and services. The table has the
mean of each figure over the replications in both, and the model's error. It is
held to the tolerance in the figures marked with *: beyond it the exit code is 1.

The CPUs and disks of whole nodes take no virtual time, so the model runs with
costs of zero.`,
		Example: examples("perrin sim bridge bridge", "perrin sim bridge scenario.yaml --tolerance 10% --replications 3 --json"),
		Args:    exactly(1, "one SCENARIO"), ValidArgsFunction: completeScenarios,
		RunE: func(cmd *cobra.Command, args []string) error {
			limit, err := shareOf(tolerance)
			if err != nil {
				return usagef("write --tolerance 15%", "--tolerance: want a share such as 15%%, got %.40q", tolerance)
			}
			s, _, err := readScenario(args[0], cmd, &f)
			if err != nil {
				return err
			}
			if err := stackFits(s, "perrin sim bridge", ""); err != nil {
				return err
			}
			ctx, stop := a.untilInterrupted(cmd.Context())
			defer stop()
			played, err := a.playAll(ctx, s)
			if err != nil {
				return err
			}
			b := &bridged{Scenario: s.Name, Peers: s.Peers, Seed: s.Seed, Tolerance: limit}
			if b.Figures, err = rehearsal.Bridge(s, played); err != nil {
				return simFailure(err)
			}
			b.Worst, b.WorstOf = rehearsal.Worst(b.Figures)
			if err := show(a, b, a.printBridge); err != nil {
				return err
			}
			if !(b.Worst <= limit) {
				return failf("docs/simulation.md says what the model leaves out; a wider --tolerance accepts it", "%s of the model is off by %s, more than the tolerance of %s",
					b.WorstOf, errorText(b.Worst), errorText(limit))
			}
			return nil
		},
	}
	f.registerSeed(cmd)
	cmd.Flags().IntVar(&f.replications, "replications", 0, "independently sampled networks, in place of the scenario's")
	cmd.Flags().StringVar(&tolerance, "tolerance", "15%", "largest error of a figure that the bridge is held to")
	a.jsonFlag(cmd)
	return cmd
}

func shareOf(text string) (float64, error) {
	v, err := strconv.ParseFloat(strings.TrimSuffix(text, "%"), 64)
	if err != nil || !strings.HasSuffix(text, "%") || !(v >= 0) || v > 1e6 {
		return 0, fmt.Errorf("not a share: %.40q", text)
	}
	return v / 100, nil
}

func errorText(e float64) string {
	if math.IsNaN(e) || math.IsInf(e, 0) {
		return "-"
	}
	return fmt.Sprintf("%.1f %%", 100*e)
}

func (a *app) printBridge(b *bridged) error {
	fmt.Fprintf(a.stdout, "%s: %s as whole nodes and in the model, seed %d\n\n", terminal.Clean(b.Scenario, 60), terminal.Plural(b.Peers, "peer"), b.Seed)
	t := terminal.NewTable("FIGURE", "STACK ", "95 % ", "MODEL ", "95 % ", "ERROR ", "UNIT")
	for i := range b.Figures {
		c := &b.Figures[i]
		name := c.Name
		if c.Held {
			name += " *"
		}
		t.Row(name, figureText(c.Stack.Mean), halfText(c.Stack), figureText(c.Model.Mean), halfText(c.Model), errorText(c.Error), c.Unit)
	}
	if err := t.Write(a.stdout); err != nil {
		return err
	}
	_, err := fmt.Fprintf(a.stdout, "\nthe largest error of a figure with * is that of %s: %s\n", b.WorstOf, errorText(b.Worst))
	return err
}

func (a *app) simCalibrateCommand() *cobra.Command {
	var seed uint64
	cmd := &cobra.Command{
		Use: "calibrate", Short: "Measure on whole nodes what the model adds to its own count",
		Long: `Play meshes of 7 to 50 whole nodes, almost idle and at work, and find what
they send that the model does not count by itself: what an idle peer says in a
second, and what a message takes beside its own bytes. The calibration goes to stdout, with
where it comes from. The model reads the one that is built in
(simulations/model/calibration.json).`,
		Example: examples("perrin sim calibrate > simulations/model/calibration.json"),
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, s := range rehearsal.Plan(seed) {
				if err := stackFits(s, "perrin sim calibrate", ""); err != nil {
					return err
				}
			}
			ctx, stop := a.untilInterrupted(cmd.Context())
			defer stop()
			c, err := rehearsal.Calibrate(ctx, rehearse(), seed, func(done, all int) { a.note("%d of %d runs are done", done, all) })
			if err != nil {
				return err
			}
			c.Perrin, c.Command, c.Date = versionAndCommit(a.Version, buildCommit()), fmt.Sprintf("perrin sim calibrate --seed %d", seed), time.Now().UTC().Format(time.DateOnly)
			c.Machine = study.ThisMachine().String()
			enc := json.NewEncoder(a.stdout)
			enc.SetIndent("", "  ")
			return enc.Encode(c)
		},
	}
	cmd.Flags().Uint64Var(&seed, "seed", 1, "seed of the worlds that are played")
	return cmd
}
