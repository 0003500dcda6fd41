package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perrin-mesh/perrin/cmd/perrin/internal/terminal"
	"github.com/perrin-mesh/perrin/simulations/model"
	"github.com/perrin-mesh/perrin/simulations/rehearsal"
	"github.com/perrin-mesh/perrin/simulations/scenario"
	"github.com/perrin-mesh/perrin/simulations/study"
)

// simRehearseCommand is the process that plays one replication: it is for perrin
// sim itself.
func (a *app) simRehearseCommand() *cobra.Command {
	return &cobra.Command{
		Use: "rehearse", Short: "Play one replication on whole nodes, for perrin sim itself", Hidden: true,
		Example: examples("perrin sim run bridge --fidelity stack"), Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			rehearsal.Main(a.stdin)
			return nil
		},
	}
}

// rehearse starts this program so that it plays.
func rehearse() []string { return []string{os.Args[0], "sim", "rehearse"} }

// ofTheModel are flags of perrin sim run that whole nodes do not honour.
var ofTheModel = []string{"against", "events", "history", "workers"}

// modelFlags refuses flags that a run of whole nodes would do nothing with.
func modelFlags(cmd *cobra.Command) error {
	var given []string
	for _, name := range ofTheModel {
		if cmd.Flags().Changed(name) {
			given = append(given, "--"+name)
		}
	}
	if len(given) > 0 {
		return usagef("leave "+strings.Join(given, ", ")+" out, or --fidelity stack", "--fidelity stack does not honour %s", strings.Join(given, ", "))
	}
	return nil
}

// stackFits refuses what whole nodes do not honour, or have no memory for, in the
// words of a command; instead is what to give otherwise than another scenario.
func stackFits(s *scenario.Scenario, command, instead string) error {
	var refused rehearsal.Refusals
	if err := rehearsal.Check(s); errors.As(err, &refused) {
		return usagef(refused.Hint()+instead, "%s does not play it: %v", command, err)
	}
	if free, need := study.FreeMemory(), rehearsal.Memory(s); free > 0 && need > free {
		return simFailure(&study.TooLarge{Needs: need, Has: free, Workers: 1})
	}
	return nil
}

// playAll plays every replication, one after another.
func (a *app) playAll(ctx context.Context, s *scenario.Scenario) ([]*rehearsal.Result, error) {
	bar := terminal.NewProgress(a.stderr, terminal.Is(a.stderr), terminal.Width(a.stderr), "simulated ms", time.Now())
	defer bar.Clear()
	var out []*rehearsal.Result
	for n := range s.Replications {
		show := func(at int64) {
			note := fmt.Sprintf("%d of %d runs of whole nodes", n, s.Replications)
			bar.Update(terminal.State{Done: int((int64(n)*s.Duration + at) / 1_000_000), Total: int(int64(s.Replications) * s.Duration / 1_000_000), Note: note}, time.Now())
		}
		show(0)
		r, err := rehearsal.Play(ctx, rehearse(), s, n, show)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// simRunStack is perrin sim run on whole nodes.
func (a *app) simRunStack(ctx context.Context, s *scenario.Scenario, text []byte, f *simFlags) error {
	if err := stackFits(s, "--fidelity stack", "; or leave --fidelity out"); err != nil {
		return err
	}
	dir, err := simFolder(f.out, s)
	if err != nil {
		return err
	}
	ctx, stop := a.untilInterrupted(ctx)
	defer stop()
	began, used := time.Now(), study.ChildrenTime()
	played, err := a.playAll(ctx, s)
	if err != nil {
		return errors.Join(err, os.Remove(dir)) // nothing is in it yet
	}
	results := make([]*model.Result, len(played))
	for i, r := range played {
		results[i] = &r.Result
	}
	out := study.Gather(s, results)
	out.Workers, out.Wall, out.CPU = 1, time.Since(began), study.ChildrenTime()-used
	m := out.Manifest(a.Version, text, began)
	m.Fidelity = study.Stack
	if err := out.Write(dir, m, text); err != nil {
		return fmt.Errorf("write the results: %w", err)
	}
	return show(a, out.Summary(), func(*study.Summary) error { return a.printStudy(out, m, dir) })
}
