package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/perrin-mesh/perrin/cmd/perrin/internal/terminal"
	"github.com/perrin-mesh/perrin/simulations/model"
	"github.com/perrin-mesh/perrin/simulations/scenarios"
	"github.com/perrin-mesh/perrin/simulations/study"
	"github.com/perrin-mesh/perrin/simulations/sweep"
)

// sweepFlags are what a sweep is told beside its file.
type sweepFlags struct {
	out     string
	workers int
	dryRun  bool
	figures []string
}

// sweepFigures are shown of each cell unless others are named.
var sweepFigures = []string{"placement_p50", "placement_p99", "paid", "success"}

func (a *app) simSweepCommand() *cobra.Command {
	var f sweepFlags
	cmd := &cobra.Command{
		Use: "sweep EXPERIMENT", Short: "Run a scenario for every combination of some values",
		Long: `Run an experiment: a scenario's file in which some fields are lists where a
scenario has one value. Each list is an axis; every combination of their values
is a cell, with the scenario's seed and replications.

  base: quickstart                # a scenario's file or one of the gallery to start from
  policy: [perrin, random]
  peers: [500, 1000, 2000]
  replications: 5
  until: {figure: placement_p50, within: 5%, at_most: 40}   # optional

With until, a cell has as many replications as it takes for half of the figure's
95 % interval to be at most that share of the mean (or that much, without %).

The folder keeps every replication. Given again, the command goes on where it was
interrupted, and after a change to the experiment runs only what is new. A cell's
folder is one that perrin sim replay reads.`,
		Example: examples("perrin sim sweep experiment.yaml", "perrin sim sweep cells --figure paid --figure messages", "perrin sim sweep experiment.yaml --dry-run",
			"perrin sim sweep experiment.yaml --out load --figure paid --figure utilisation"),
		Args: exactly(1, "one EXPERIMENT"),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return scenarios.Experiments(), cobra.ShellCompDirectiveDefault
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.simSweep(cmd.Context(), args[0], &f)
		},
	}
	cmd.Flags().StringVar(&f.out, "out", "", "folder for the results, new or of this sweep (default sweep-NAME here)")
	cmd.Flags().IntVar(&f.workers, "workers", 0, "replications at once (default: one for each CPU)")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "list the cells and what they need, and run nothing")
	cmd.Flags().StringArrayVar(&f.figures, "figure", nil, "figure to show of each cell, again for more (default "+strings.Join(sweepFigures, ", ")+")")
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) simSweep(ctx context.Context, name string, f *sweepFlags) error {
	if f.workers < 0 {
		return usagef("", "--workers: want 1 or more, got %d", f.workers)
	}
	if err := knownFigures(f.figures); err != nil {
		return err
	}
	text, err := readBounded(name)
	if errors.Is(err, fs.ErrNotExist) && slices.Contains(scenarios.Experiments(), name) {
		text, err = scenarios.ReadExperiment(name)
		name += ".yaml"
	}
	if err != nil {
		hint := "name an experiment's file, a scenario with lists of values, or one of the gallery: " + strings.Join(scenarios.Experiments(), ", ")
		if slices.Contains(scenarios.Names(), name) {
			hint = name + " is a scenario: perrin sim run " + name + ", or an experiment with base: " + name + " and lists of values"
		}
		return &failure{err: err, code: exitUsage, hint: hint}
	}
	e, err := sweep.Read(name, text, readBase)
	if err != nil {
		return &failure{err: err, code: exitUsage, hint: sweep.Hint(err)}
	}
	for i := range e.Cells {
		if err := knownPolicy(e.Cells[i].Scenario); err != nil {
			return err
		}
	}
	if err := e.Fits(study.FreeMemory()); err != nil {
		return sweepFailure(err, "")
	}
	if f.dryRun {
		return a.listCells(e)
	}
	a.noteCommands(e)
	if f.out == "" {
		f.out = "sweep-" + fileName(e.Name)
	}
	ctx, stop := a.untilInterrupted(ctx)
	defer stop()
	if a.env("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	out, err := sweep.Run(ctx, e, text, f.out, sweep.Options{
		Workers: f.workers, Memory: study.FreeMemory(), Version: a.Version, Code: study.Binary(), Progress: a.sweepProgress(time.Now()),
	})
	if err != nil {
		return sweepFailure(err, f.out)
	}
	return show(a, sweepResult(out), func(any) error { return a.printSweep(out, f.figures) })
}

// noteCommands is noteCommand for each process that a sweep names.
func (a *app) noteCommands(e *sweep.Experiment) {
	told := map[string]bool{}
	for i := range e.Cells {
		s := e.Cells[i].Scenario
		if !told[s.Policy.Command] {
			a.noteCommand(s)
		}
		told[s.Policy.Command] = true
	}
}

// aboutExperiment is what an experiment of the gallery says of itself.
func aboutExperiment(name string) (string, error) {
	text, err := scenarios.ReadExperiment(name)
	if err != nil {
		return "", err
	}
	e, err := sweep.Read(name, text, readBase)
	if err != nil {
		return "", err
	}
	return e.Cells[0].Scenario.About, nil
}

// readBase reads what an experiment names as its base.
func readBase(name string) ([]byte, error) {
	text, err := readBounded(name)
	if inGallery(name, err) {
		return scenarios.Read(name)
	}
	return text, err
}

func knownFigures(names []string) error {
	known := model.FigureNames()
	for _, name := range names {
		if !slices.Contains(known, name) {
			return usagef("the figures are "+strings.Join(known, ", "), "--figure: there is no %.40q", name)
		}
	}
	return nil
}

// sweepFailure words what can go wrong with a sweep; dir is where it goes on.
func sweepFailure(err error, dir string) error {
	var large *sweep.TooLarge
	goesOn := "what is done is kept in " + dir + ": give the same command again to go on"
	switch {
	case errors.As(err, &large):
		return &failure{err: err, code: exitUsage, hint: "fewer peers or a shorter duration there, or a machine with more memory"}
	case errors.Is(err, context.Canceled):
		return &failure{err: errors.New("interrupted"), code: exitInterrupted, hint: goesOn}
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		return &failure{err: err, code: exitFailure, hint: "make room; " + goesOn}
	case errors.Is(err, sweep.ErrBusy):
		return &failure{err: err, code: exitUnavailable, hint: "wait for it, or name another folder with --out"}
	case errors.Is(err, fs.ErrExist):
		return &failure{err: fmt.Errorf("--out: %w", err), code: exitUsage, hint: "name a folder that is not there yet, or one of this sweep"}
	}
	return simFailure(err)
}

// listCells says what a sweep would run.
func (a *app) listCells(e *sweep.Experiment) error {
	type row struct {
		Values       []sweep.Value `json:"values"`
		Replications int           `json:"replications"`
		Memory       int64         `json:"memory"`
		Events       int64         `json:"events"`
	}
	var rows []row
	for i := range e.Cells {
		s := e.Cells[i].Scenario
		rows = append(rows, row{e.Cells[i].Values, s.Replications, s.Memory(), s.Events()})
	}
	return show(a, rows, func([]row) error {
		t := terminal.NewTable(append(slices.Clone(e.Axes), "REPLICATIONS ", "MEMORY ", "EVENTS ")...)
		for i := range e.Cells {
			c := &e.Cells[i]
			t.Row(append(axisValues(e, c), terminal.Count(int64(rows[i].Replications)), terminal.Size(rows[i].Memory), terminal.Count(rows[i].Events))...)
		}
		if err := t.Write(a.stdout); err != nil {
			return err
		}
		text := ""
		if e.Until != nil {
			text = ", " + e.Until.String()
		}
		_, err := fmt.Fprintf(a.stdout, "\n%s%s; memory and events are estimates for one replication\n", terminal.Plural(len(e.Cells), "cell"), text)
		return err
	})
}

func axisValues(e *sweep.Experiment, c *sweep.Cell) []string {
	var values []string
	for _, axis := range e.Axes {
		v := c.Value(axis)
		if v == "" {
			v = "-"
		}
		values = append(values, terminal.Clean(v, 40))
	}
	return values
}

// cellResult is a cell as --json shows it.
type cellResult struct {
	Folder  string        `json:"folder"`
	Values  []sweep.Value `json:"values"`
	Figures []study.Row   `json:"figures"`
}

func sweepResult(out *sweep.Outcome) any {
	var cells []cellResult
	for i := range out.Cells {
		c := &out.Cells[i]
		cells = append(cells, cellResult{out.Dir + "/cells/" + c.Key, c.Values, c.Outcome.Rows})
	}
	return any(map[string]any{"folder": out.Dir, "ran": out.Ran, "reused": out.Reused, "cells": cells})
}

func (a *app) printSweep(out *sweep.Outcome, figures []string) error {
	if len(figures) == 0 {
		figures = sweepFigures
	}
	e := out.Experiment
	header := slices.Clone(e.Axes)
	if len(header) == 0 {
		header = []string{"CELL"}
	}
	header = append(header, "N ")
	for _, name := range figures {
		header = append(header, name+" ")
	}
	t := terminal.NewTable(header...)
	for i := range out.Cells {
		c := &out.Cells[i]
		row := axisValues(e, c.Cell)
		if len(row) == 0 {
			row = []string{c.Name()}
		}
		row = append(row, terminal.Count(int64(len(c.Outcome.Results))))
		for _, name := range figures {
			r, _ := c.Row(name)
			row = append(row, strings.TrimSuffix(figureText(r.Interval.Mean)+" "+halfText(r.Interval), " -"))
		}
		t.Row(row...)
	}
	if err := t.Write(a.stdout); err != nil {
		return err
	}
	_, err := fmt.Fprintf(a.stdout, "\n%s run, %s found, %s events in %s; results in %s\n", terminal.Plural(out.Ran, "replication"),
		terminal.Count(int64(out.Reused)), terminal.Count(out.Events), terminal.Duration(out.Wall), out.Dir)
	return err
}

// sweepProgress shows cells, events and the time that is left.
func (a *app) sweepProgress(began time.Time) func(sweep.Progress) {
	p := terminal.NewProgress(a.stderr, terminal.Is(a.stderr), terminal.Width(a.stderr), "events, estimated", began)
	return func(s sweep.Progress) {
		if s.Finished {
			p.Clear()
			return
		}
		note := fmt.Sprintf("%d of %d cells, %s events/s", s.DoneCells, s.Cells, terminal.Count(int64(float64(s.Events)/max(s.Wall.Seconds(), 1e-3))))
		if s.Reused > 0 {
			note += fmt.Sprintf(", %s found", terminal.Plural(s.Reused, "replication"))
		}
		p.Update(terminal.State{Done: int(min(s.Events, s.Expected)), Total: int(s.Expected), Note: note}, time.Now())
	}
}
