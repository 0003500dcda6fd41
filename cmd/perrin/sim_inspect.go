package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perrin-mesh/perrin/cmd/perrin/internal/terminal"
	"github.com/perrin-mesh/perrin/simulations/inspect"
	"github.com/perrin-mesh/perrin/simulations/study"
	"github.com/perrin-mesh/perrin/simulations/sweep"
)

// inspectFlags say what to look at.
type inspectFlags struct {
	at          time.Duration
	peer        int
	workload    int
	replication int
	unchecked   bool
	svg         string
	all         bool
}

func (a *app) simInspectCommand() *cobra.Command {
	var f inspectFlags
	cmd := &cobra.Command{
		Use: "inspect DIR", Short: "Look at a peer or a workload of a run",
		Long: `Look into a run by running a replication of it again, bit for bit: the state of
a peer at a time, or what a workload waited for from its arrival to its end, as
the chain of events that caused each other. Without --peer and --workload it lists
the workloads that waited longest.

Afterwards the replication goes on to its end and must have the trace of the
folder; --unchecked stops once the answer is known.`,
		Example: examples("perrin sim inspect results", "perrin sim inspect results --at 8.4s --peer 17",
			"perrin sim inspect results --workload 1042 --svg path.svg", "perrin sim inspect results --workload 1042 --replication 3 --json"),
		Args: exactly(1, "one DIR"), ValidArgsFunction: cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(cmd); err != nil {
				return err
			}
			return a.simInspect(cmd, args[0], &f)
		},
	}
	cmd.Flags().DurationVar(&f.at, "at", 0, "simulated time, with --peer")
	cmd.Flags().IntVar(&f.peer, "peer", 0, "number of a peer, from 0, with --at")
	cmd.Flags().IntVar(&f.workload, "workload", 0, "number of a workload, from 0, in the order of arrival")
	cmd.Flags().IntVar(&f.replication, "replication", 1, "which replication, from 1")
	cmd.Flags().BoolVar(&f.unchecked, "unchecked", false, "stop once the answer is known, without comparing the trace")
	cmd.Flags().StringVar(&f.svg, "svg", "", "file for a drawing of the workload's path; - is standard output")
	cmd.Flags().BoolVar(&f.all, "all", false, "with --workload: also the events that are not on the path")
	a.jsonFlag(cmd)
	return cmd
}

func (f *inspectFlags) check(cmd *cobra.Command) error {
	at, peer, load := cmd.Flags().Changed("at"), cmd.Flags().Changed("peer"), cmd.Flags().Changed("workload")
	switch {
	case at != peer:
		return usagef("perrin sim inspect DIR --at 8.4s --peer 17", "--at and --peer go together")
	case peer && load:
		return usagef("run it twice", "--peer and --workload are two questions")
	case (f.svg != "" || f.all) && !load:
		return usagef("add --workload NUMBER", "--svg and --all are of a workload's path")
	}
	return nil
}

func (a *app) simInspect(cmd *cobra.Command, dir string, f *inspectFlags) error {
	m, s, err := study.Read(dir)
	if err != nil {
		return notStudy(dir, err)
	}
	if err := m.Exact(); err != nil {
		return &failure{err: err, code: exitUsage, hint: "`perrin sim report` draws it"}
	}
	if err := fits(s, 1); err != nil {
		return err
	}
	if err := policyStarts(s); err != nil {
		return err
	}
	a.noteCommand(s)
	ctx, stop := a.untilInterrupted(cmd.Context())
	defer stop()
	r := &inspect.Run{Manifest: m, Scenario: s, Replication: f.replication, Version: a.Version, Unchecked: f.unchecked}
	switch {
	case cmd.Flags().Changed("peer"):
		err = a.inspectPeer(ctx, r, f)
	case cmd.Flags().Changed("workload"):
		err = a.inspectPath(ctx, r, f)
	default:
		err = a.inspectSlowest(ctx, r)
	}
	return inspectFailure(err)
}

// notStudy says what a folder is that does not read as a study.
func notStudy(dir string, err error) error {
	if _, other := sweep.ReadIndex(dir); other == nil {
		return &failure{err: fmt.Errorf("%s is a sweep", dir), code: exitUsage, hint: "name one of its cells: " + dir + "/cells/..."}
	}
	return &failure{err: err, code: exitUsage, hint: "name a folder that `perrin sim run` has made"}
}

// inspectFailure words what can go wrong.
func inspectFailure(err error) error {
	var none *inspect.OutOfRange
	if errors.As(err, &none) {
		return &failure{err: err, code: exitNotFound, hint: "`perrin sim inspect DIR` says what there is"}
	}
	return simFailure(err)
}

// inspectSlowest lists where to begin.
func (a *app) inspectSlowest(ctx context.Context, r *inspect.Run) error {
	n, list, err := r.Slowest(ctx, 10)
	if err != nil {
		return err
	}
	type listed struct {
		Workloads int               `json:"workloads"`
		Peers     int               `json:"peers"`
		Slowest   []inspect.Summary `json:"slowest"`
	}
	return show(a, listed{n, r.Scenario.Peers, list}, func(listed) error {
		fmt.Fprintf(a.stdout, "replication %d: %s (0 to %s), %s (0 to %d), %s\n\nthe workloads that waited longest for their first slot:\n", r.Replication,
			terminal.Plural(n, "workload"), terminal.Count(int64(n-1)), terminal.Plural(r.Scenario.Peers, "peer"), r.Scenario.Peers-1, terminal.Duration(time.Duration(r.Scenario.Duration)))
		t := terminal.NewTable("WORKLOAD ", "STREAM", "PEER ", "CELL ", "ARRIVED ", "WAITED ", "PHASE")
		for _, l := range list {
			t.Row(fmt.Sprint(l.Number), terminal.Clean(l.Stream, 30), fmt.Sprint(l.Home), fmt.Sprint(l.Cell), fmt.Sprintf("%.3f s", float64(l.ArrivedNs)/1e9),
				fmt.Sprintf("%.1f ms", float64(l.PlacementNs)/1e6), l.Phase)
		}
		return t.Write(a.stdout)
	})
}

// inspectPath shows what a workload waited for.
func (a *app) inspectPath(ctx context.Context, r *inspect.Run, f *inspectFlags) error {
	p, err := r.PathOf(ctx, f.workload)
	if err != nil {
		return err
	}
	switch f.svg {
	case "":
	case "-":
		return p.WriteSVG(a.stdout)
	default:
		if err := replaceFile(f.svg, p.WriteSVG); err != nil {
			return err
		}
		a.note("drawn in %s", f.svg)
	}
	return show(a, p, func(p *inspect.Path) error { return a.printPath(p, f.all) })
}

func (a *app) printPath(p *inspect.Path, all bool) error {
	fmt.Fprintf(a.stdout, "workload %d (%s, %s) of owner %d, submitted on peer %d (%s) to cell %d\n%s\n\n", p.Number, terminal.Clean(p.Stream, 40),
		terminal.Plural(p.Tasks, "task"), p.Owner, p.Home, terminal.Clean(p.HomeRegion, 40), p.Cell, p.Headline())
	fmt.Fprintf(a.stdout, "what had to happen, one after another (%d of %s about it):\n", len(p.Steps), terminal.Plural(len(p.Steps)+len(p.Others), "event"))
	if text := p.Waited(); text != "" {
		fmt.Fprintln(a.stdout, text)
	}
	a.printPathSteps(p, p.Steps, true)
	if all && len(p.Others) > 0 {
		fmt.Fprintln(a.stdout, "\nwhat else happened about it:")
		a.printPathSteps(p, p.Others, false)
	}
	_, err := fmt.Fprintln(a.stdout, checkedText(p.Checked, p.Replication))
	return err
}

// printPathSteps prints a line for each step; those of a chain are joined, with what
// passed between them.
func (a *app) printPathSteps(p *inspect.Path, steps []inspect.Step, chain bool) {
	width := 0
	for i := range steps {
		width = max(width, len([]rune(p.Where(&steps[i]))))
	}
	before := p.ArrivedNs
	for i := range steps {
		s := &steps[i]
		mark := " "
		if chain {
			mark = "●"
			if took := s.AtNs - before; i > 0 {
				fmt.Fprintf(a.stdout, "%14s │ %s\n", "", afterText(took))
			}
		}
		where := terminal.Clean(p.Where(s), 60)
		fmt.Fprintf(a.stdout, "%+11.3f ms %s %s%s  %s\n", float64(s.AtNs-p.ArrivedNs)/1e6, mark, where,
			strings.Repeat(" ", max(0, width-len([]rune(where)))), terminal.Clean(s.Text(), 300))
		before = s.AtNs
	}
}

func afterText(ns int64) string {
	if ns == 0 {
		return "at once"
	}
	return fmt.Sprintf("%.3f ms", float64(ns)/1e6)
}

func checkedText(checked bool, replication int) string {
	if !checked {
		return "\nnot compared with the folder's trace"
	}
	return fmt.Sprintf("\nreplication %d has the trace of the folder", replication)
}

// inspectPeer shows a peer at a time.
func (a *app) inspectPeer(ctx context.Context, r *inspect.Run, f *inspectFlags) error {
	p, err := r.PeerAt(ctx, f.peer, int64(f.at))
	if err != nil {
		return err
	}
	return show(a, p, a.printPeer)
}

func (a *app) printPeer(p *inspect.Peer) error {
	state := "is there"
	if !p.Up {
		state = "is away"
	}
	fmt.Fprintf(a.stdout, "peer %d at %.6f s %s, its start number %d; %s (%s), %.2f x the reference core\n", p.Number, float64(p.AtNs)/1e9, state, p.Starts,
		terminal.Clean(p.Region, 40), terminal.Clean(p.Machine, 40), float64(p.Speed)/1000)
	if p.Attacks != "" {
		fmt.Fprintf(a.stdout, "one of the attackers %s\n", terminal.Clean(p.Attacks, 40))
	}
	role := "a member"
	if p.Voter {
		role = "a voter"
	}
	if p.Leads {
		role = "the leader"
	}
	leader := "no leader"
	if p.Leader >= 0 {
		leader = fmt.Sprintf("leader peer %d", p.Leader)
	}
	fmt.Fprintf(a.stdout, "%s of cell %d: %s, term %d, %s wanting slots\n", role, p.Cell, leader, p.Term, terminal.Plural(p.Open, "workload"))
	fmt.Fprintf(a.stdout, "free: %s, %s, %s of memory; asks %s µcr/s a core, %s a thread\n", terminal.Plural(int(p.Free.Cores), "core"),
		terminal.Plural(int(p.Free.Threads), "thread"), terminal.Size(p.Free.Memory), terminal.Count(p.Asks.Core), terminal.Count(p.Asks.Thread))
	if p.BusyNs > 0 {
		fmt.Fprintf(a.stdout, "its CPU handles messages for another %.3f ms\n", float64(p.BusyNs)/1e6)
	}
	a.printHeld(p)
	if p.Last > 0 {
		fmt.Fprintf(a.stdout, "its last event, number %s: %s, %.3f ms before\n", terminal.Count(int64(p.Last)), p.LastWords, float64(p.AtNs-p.LastAtNs)/1e6)
	}
	_, err := fmt.Fprintf(a.stdout, "%s events had happened\n%s\n", terminal.Count(int64(p.Events)), strings.TrimSpace(checkedText(p.Checked, p.Replication)))
	return err
}

// printHeld lists slots, holds and leases.
func (a *app) printHeld(p *inspect.Peer) {
	if len(p.Slots)+len(p.Holds)+len(p.Leases) == 0 {
		fmt.Fprintln(a.stdout, "no slots, no holds, no leases")
		return
	}
	for _, s := range p.Slots {
		fmt.Fprintf(a.stdout, "slot of workload %d (cell %d) on CPUs %s: %s", s.Workload, s.Cell, strings.Trim(fmt.Sprint(s.CPUs), "[]"), s.State)
		if s.State == "running" {
			fmt.Fprintf(a.stdout, " task %d for %.3f ms", s.Task, float64(s.ForNs)/1e6)
		}
		fmt.Fprintln(a.stdout)
	}
	for _, h := range p.Holds {
		fmt.Fprintf(a.stdout, "hold for workload %d for another %.3f ms\n", h.Workload, float64(h.ExpiresNs-p.AtNs)/1e6)
	}
	for _, l := range p.Leases {
		fmt.Fprintf(a.stdout, "lease with cell %d for another %.3f ms\n", l.Cell, float64(l.DeadlineNs-p.AtNs)/1e6)
	}
}
