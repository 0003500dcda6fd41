package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perrin-mesh/perrin/simulations/scenario"
	"github.com/perrin-mesh/perrin/simulations/study"
)

// citeFormats are how a citation is written.
var citeFormats = []string{"plain", "bibtex", "cff"}

func (a *app) simCiteCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "cite [DIR]", Short: "Print how to cite the simulator, or a run",
		Long: `Print how to cite this version of the simulator. With a folder of perrin sim run
it is the version that made it, with the scenario's hash, the seed and the trace,
so that a reader can run the same again.`,
		Example: examples("perrin sim cite --format bibtex", "perrin sim cite results --format bibtex >> paper.bib", "perrin sim cite --format cff > CITATION.cff"),
		Args:    atMostOne, ValidArgsFunction: cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs),
		RunE: func(_ *cobra.Command, args []string) error {
			if !slices.Contains(citeFormats, format) {
				return usagef("the formats are "+strings.Join(citeFormats, ", "), "--format: there is no %.40q", format)
			}
			return a.simCite(args, format)
		},
	}
	cmd.Flags().StringVar(&format, "format", "plain", strings.Join(citeFormats, ", "))
	oneOf(cmd, "format", citeFormats)
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) simCite(args []string, format string) error {
	var m *study.Manifest
	var s *scenario.Scenario
	if len(args) == 1 {
		var err error
		if m, s, err = study.Read(args[0]); err != nil {
			return notStudy(args[0], err)
		}
	}
	return show(a, study.Cite(a.Version, time.Now().Year(), m, s), func(c *study.Cited) error {
		text := c.Plain()
		switch format {
		case "bibtex":
			text = c.BibTeX()
		case "cff":
			text = c.CFF()
		}
		_, err := fmt.Fprint(a.stdout, text)
		return err
	})
}
