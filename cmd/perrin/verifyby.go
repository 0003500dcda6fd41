package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/pflag"

	"github.com/perrin-mesh/perrin/cmd/perrin/internal/terminal"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
)

// verifyFlag is what run and map are told of comparing results.
type verifyFlag struct{ by string }

func (v *verifyFlag) register(f *pflag.FlagSet) {
	f.StringVar(&v.by, "verify-by", "", "KofN, such as 2of3: run each task on nodes of different operators, at most N, until K of them return the same")
}

// fill puts into a spec what the flag says.
func (v *verifyFlag) fill(spec *workload.Spec) (err error) {
	if v.by == "" {
		return nil
	}
	if spec.VerifyBy, err = workload.ParseVerifyBy(v.by); err != nil {
		return usagef("perrin run --verify-by 2of3 -- app.wasm", "--%w", err)
	}
	return nil
}

// noteChecked says on stderr what came of comparing results.
func (a *app) noteChecked(w *api.Workload) {
	for _, line := range checkedLines(w.Checked, w.ID) {
		a.note("%s", line)
	}
}

// checkedLines is what came of comparing results, in sentences; none when nothing
// was compared.
func checkedLines(c *api.Checked, id workload.ID) (lines []string) {
	if c == nil {
		return nil
	}
	by := strings.Replace(c.By, "of", " of at most ", 1)
	if c.Accepted+c.Split == 0 {
		lines = append(lines, fmt.Sprintf("to be checked: %s nodes must return the same; no task is decided yet", by))
	}
	if c.Accepted > 0 {
		lines = append(lines, fmt.Sprintf("checked: %s agree on %s, on nodes of %s", by, terminal.Plural(int(c.Accepted), "task"), apart(c)))
	}
	if c.Split > 0 {
		lines = append(lines, fmt.Sprintf("no %s agree on %s: what a program prints and writes must not depend on where or when it runs", by, terminal.Plural(int(c.Split), "task")))
	}
	for _, d := range c.Who {
		lines = append(lines, fmt.Sprintf("%s returned something else for task %d: it does not count and is not paid (`perrin why %s/%d`)",
			nodeName(d.Name, d.Node), d.Task, id.Short(), d.Task))
	}
	if more := int(c.Differs) - len(c.Who); more > 0 {
		lines = append(lines, fmt.Sprintf("and %s that did not agree", terminal.Plural(more, "more result")))
	}
	return lines
}

// apart says how far apart the nodes were that agree.
func apart(c *api.Checked) string {
	switch c.Alike {
	case 0:
		return "different operators"
	case c.Accepted:
		return "one operator: no node of another bid"
	}
	return fmt.Sprintf("different operators, but for %s: no node of another operator bid", terminal.Plural(int(c.Alike), "task"))
}

// writeVotes lists what each node returned for a task.
func writeVotes(out io.Writer, votes []api.WhyVote) error {
	if len(votes) == 0 {
		return nil
	}
	t := terminal.NewTable("NODE", "RETURNED", "RESULT", "VERDICT", "COST ")
	for _, v := range votes {
		t.Row(nodeName(v.Name, v.Node), fmt.Sprintf("%s %d", terminal.Clean(string(v.Exit), 16), v.Code), v.Result.Short(),
			orElse(terminal.Clean(v.Verdict, 16), "not known yet"), terminal.Credits(v.Cost))
	}
	fmt.Fprintln(out)
	return t.Write(out)
}
