package main

import (
	"fmt"
	"math"
	"strings"

	"github.com/spf13/cobra"

	"github.com/perrin-mesh/perrin/cmd/perrin/internal/terminal"
	"github.com/perrin-mesh/perrin/simulations/study"
	"github.com/perrin-mesh/perrin/simulations/sweep"
)

func (a *app) simCompareCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "compare A B", Short: "Compare two folders that saw the same worlds",
		Long: `Compare two folders of perrin sim run, or cells of a sweep, replication by
replication: both must have the same peers, arrivals and services, which follow
from the seed. They may differ in policy, cell size, voters and costs.

DIFF is B less A with half of its 95 % interval over the pairs, EFFECT the mean
difference in standard deviations of the differences, P of a paired t test,
corrected for the number of figures (Holm).`,
		Example: examples("perrin sim run price --out auction && perrin sim run price --policy random --out random",
			"perrin sim compare auction random"),
		Args: exactly(2, "two folders, A and B"),
		RunE: func(_ *cobra.Command, args []string) error {
			first, err := folderWords(args[0])
			if err != nil {
				return err
			}
			second, err := folderWords(args[1])
			if err != nil {
				return err
			}
			rows, err := study.Compare(args[0], args[1])
			if err != nil {
				return folderFailure(err)
			}
			return show(a, rows, func(rows []study.Compared) error { return a.printCompared(rows, first, second) })
		},
	}
	a.jsonFlag(cmd)
	return cmd
}

// folderWords is a folder with what it was run on when that is not the model.
func folderWords(dir string) (string, error) {
	m, _, err := study.Read(dir)
	if _, other := sweep.ReadIndex(dir); err != nil && other == nil {
		return "", notStudy(dir, err)
	}
	if err != nil {
		return "", folderFailure(err)
	}
	if m.HowRun() == study.Model {
		return dir, nil
	}
	return fmt.Sprintf("%s (fidelity %.20s)", dir, m.HowRun()), nil
}

func (a *app) printCompared(rows []study.Compared, first, second string) error {
	t := terminal.NewTable("FIGURE", "A ", "B ", "DIFF ", "95 % ", "EFFECT ", "P ", "UNIT")
	var differ []string
	for i := range rows {
		r := &rows[i]
		t.Row(r.Name, optional(r.First), optional(r.Second), signed(r.Difference.Mean), halfText(r.Difference), optionalDigits(r.Effect), optionalDigits(r.P), r.Unit)
		if r.Differs {
			differ = append(differ, verdict(r))
		}
	}
	if err := t.Write(a.stdout); err != nil {
		return err
	}
	text := fmt.Sprintf("no difference can be told from chance with %s; that is no proof that there is none", terminal.Plural(pairsOf(rows), "pair"))
	if len(differ) > 0 {
		text = "B differs from A: " + strings.Join(differ, ", ")
	}
	_, err := fmt.Fprintf(a.stdout, "\nA is %s, B is %s\n%s\n", first, second, text)
	return err
}

// pairsOf is how many pairs were compared.
func pairsOf(rows []study.Compared) (n int) {
	for i := range rows {
		n = max(n, rows[i].Difference.N)
	}
	return n
}

// verdict says in words how a figure differs.
func verdict(r *study.Compared) string {
	way := "higher"
	if r.Difference.Mean < 0 {
		way = "lower"
	}
	if r.First == nil || *r.First == 0 {
		return r.Name + " is " + way
	}
	return fmt.Sprintf("%s is %.3g %% %s", r.Name, 100*math.Abs(r.Difference.Mean / *r.First), way)
}

func signed(v float64) string {
	if v < 0 {
		return "-" + figureText(-v)
	}
	return figureText(v)
}

func optional(v *float64) string {
	if v == nil {
		return "-"
	}
	return figureText(*v)
}

func optionalDigits(v *float64) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf("%.2g", *v)
}
