package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/perrin-mesh/perrin/cmd/perrin/internal/terminal"
	"github.com/perrin-mesh/perrin/simulations/report"
	"github.com/perrin-mesh/perrin/simulations/study"
	"github.com/perrin-mesh/perrin/simulations/sweep"
)

func (a *app) simReportCommand() *cobra.Command {
	var out, chart string
	var figures []string
	cmd := &cobra.Command{
		Use: "report DIR [DIR]", Short: "Draw a run, a sweep or two runs in one page",
		Long: `Draw what is in a folder of perrin sim run or perrin sim sweep, or compare two
runs that saw the same worlds, in one HTML file that needs nothing else: no
network, no script. It has distributions and time series with 95 % confidence
bands, of a sweep a heat map and cost against latency, a map of the mesh, and
the numbers beside each figure.

The file is report.html in the (first) folder. It is written anew each time.

With --chart one of the drawings is written as an SVG file for a paper or slides,
CHART.svg in the folder. Without a name that fits, the names are listed.`,
		Example: examples("perrin sim run quickstart --out results && perrin sim report results",
			"perrin sim report load --figure utilisation --figure paid",
			"perrin sim report auction random --out difference.html",
			"perrin sim report auction --chart time-from-submission --out figure.svg"),
		Args: oneOrTwo, ValidArgsFunction: cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := knownFigures(figures); err != nil {
				return err
			}
			if cmd.Flags().Changed("chart") {
				return a.simChart(args, chart, out, figures)
			}
			if strings.HasSuffix(out, ".svg") {
				return usagef("add --chart time-from-submission, or write --out report.html", "--out: %s is for a drawing, and no --chart says which", out)
			}
			return a.simReport(args, out, figures)
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "file to write; - is standard output (default report.html in the folder)")
	cmd.Flags().StringVar(&chart, "chart", "", "write only this drawing, as SVG: its title such as time-from-submission, or a part of it")
	cmd.Flags().StringArrayVar(&figures, "figure", nil, "of a sweep: figure to show of each cell, again for more")
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) simReport(dirs []string, out string, figures []string) error {
	if err := a.checkReport(dirs, out, figures); err != nil {
		return err
	}
	r, err := readReport(dirs, figures)
	if err != nil {
		return err
	}
	if out == "" {
		out = filepath.Join(dirs[0], "report.html")
	}
	if out == "-" {
		return r.Write(a.stdout)
	}
	if err := replaceFile(out, r.Write); err != nil {
		return err
	}
	type written struct {
		File string `json:"file"`
		*report.Report
	}
	return show(a, written{out, r}, func(written) error {
		_, err := fmt.Fprintf(a.stdout, "%s: %s\n", out, terminal.Plural(len(r.Figures), "figure"))
		return err
	})
}

func readReport(dirs, figures []string) (r *report.Report, err error) {
	if len(dirs) == 2 {
		r, err = report.Compare(dirs[0], dirs[1])
	} else {
		r, err = report.Of(dirs[0], figures)
	}
	if err != nil {
		return nil, folderFailure(err)
	}
	return r, nil
}

// simChart writes one drawing.
func (a *app) simChart(dirs []string, name, out string, figures []string) error {
	if err := a.checkReport(dirs, out, figures); err != nil {
		return err
	}
	r, err := readReport(dirs, figures)
	if err != nil {
		return err
	}
	f := r.Chart(name)
	if f == nil {
		return usagef("write --chart and one of "+strings.Join(r.Charts(), ", "), "--chart: no drawing, or more than one, is called %.60q", name)
	}
	if out == "-" {
		return f.WriteSVG(a.stdout)
	}
	if out == "" {
		out = filepath.Join(dirs[0], f.Key()+".svg")
	}
	if err := replaceFile(out, f.WriteSVG); err != nil {
		return err
	}
	type drawn struct {
		File  string `json:"file"`
		Title string `json:"title"`
		Note  string `json:"note"`
	}
	return show(a, drawn{out, f.Title, f.Note}, func(d drawn) error {
		_, err := fmt.Fprintf(a.stdout, "%s: %s\n%s\n", d.File, d.Title, d.Note)
		return err
	})
}

// checkReport refuses flags that would do nothing. A folder that is not a sweep's
// may be no folder at all: then its own error says so.
func (a *app) checkReport(dirs []string, out string, figures []string) error {
	if a.json && out == "-" {
		return usagef("give --out a file, or leave --json out", "--json and --out -: standard output takes one of the two")
	}
	if len(figures) == 0 {
		return nil
	}
	if len(dirs) == 2 {
		return usagef("leave it out: a comparison has all figures", "--figure: it chooses figures of a sweep, not of two runs")
	}
	if _, err := sweep.ReadIndex(dirs[0]); errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(dirs[0]); err == nil {
			return usagef("leave it out: a run's report has all figures", "--figure: it chooses figures of a sweep, and %s is not one", dirs[0])
		}
	}
	return nil
}

// folderFailure words what can be wrong with a folder of the simulator.
func folderFailure(err error) error {
	hint := "name a folder that `perrin sim run` or `perrin sim sweep` has made"
	switch {
	case errors.Is(err, study.ErrOnePair):
		hint = "run both again with --replications 2 or more, into new folders"
	case errors.Is(err, study.ErrOtherWorlds):
		hint = "run one scenario with one seed and two policies, and compare their folders"
	case !errors.Is(err, fs.ErrNotExist):
		hint = "run it again with this version, or report it with the one that made the folder"
	}
	return &failure{err: err, code: exitUsage, hint: hint}
}

// replaceFile writes a file beside its place and moves it there, so that nobody
// sees half of it.
func replaceFile(name string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if err != nil {
		return err
	}
	err = errors.Join(write(f), f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
