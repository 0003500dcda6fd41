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
	f.StringVar(&v.by, "verify-by", "", "KofN, such as 2of3: run each task on nodes of different operators, at most N, until K of them return the same; adaptive:2of3 (or adaptive) lets nodes whose results agreed 10 times in a row run most tasks alone, where the node that you submit on is a server of the cell; in a cell of one operator its own nodes are compared, and earn the record")
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
	kOfN, adaptive := strings.CutPrefix(c.By, "adaptive:")
	by := strings.Replace(kOfN, "of", " of at most ", 1)
	together := c.Accepted - min(c.Alone, c.Accepted)
	if c.Accepted+c.Split == 0 {
		but := ""
		if adaptive {
			but = ", but for most tasks of nodes with a record"
		}
		lines = append(lines, fmt.Sprintf("to be checked: %s nodes must return the same%s; no task is decided yet", by, but))
	}
	if together > 0 {
		lines = append(lines, fmt.Sprintf("checked: %s agree on %s, on nodes of %s", by, terminal.Plural(int(together), "task"), apart(c, together)))
	}
	if c.Alone > 0 {
		lines = append(lines, fmt.Sprintf("ran once: %s, on nodes whose results had agreed %d times in a row or more; the draw did not pick them for a check", terminal.Plural(int(c.Alone), "task"), workload.TrustedAfter))
	}
	if c.Doubtful > 0 {
		lines = append(lines, fmt.Sprintf("do not trust %s of those: their node returned something else elsewhere; `perrin why %s/TASK` says which node ran which, run them again", terminal.Plural(int(c.Doubtful), "task"), id.Short()))
	}
	if c.Picked > 0 {
		lines = append(lines, fmt.Sprintf("picked for a check though their node has a record: %s", terminal.Plural(int(c.Picked), "task")))
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
func apart(c *api.Checked, together uint32) string {
	switch c.Alike {
	case 0:
		return "different operators"
	case together:
		return "one operator: no node of another bid"
	}
	return fmt.Sprintf("different operators, but for %s: no node of another operator bid", terminal.Plural(int(c.Alike), "task"))
}

// writeVotes lists what each node returned for a task.
func writeVotes(out io.Writer, votes []api.WhyVote) error {
	if len(votes) == 0 {
		return nil
	}
	t := terminal.NewTable("NODE", "RETURNED", "RESULT", "VERDICT", "COST ", "DRAW")
	for _, v := range votes {
		t.Row(nodeName(v.Name, v.Node), fmt.Sprintf("%s %d", terminal.Clean(string(v.Exit), 16), v.Code), v.Result.Short(),
			orElse(terminal.Clean(v.Verdict, 16), "not known yet"), terminal.Credits(v.Cost), drawText(&v))
	}
	fmt.Fprintln(out)
	return t.Write(out)
}

// drawText says whether the first result of a task was to be checked, and why.
func drawText(v *api.WhyVote) string {
	record := fmt.Sprintf("%d agreed in a row before", v.Streak)
	switch {
	case v.Streak == 0:
		return "-"
	case v.Drawn == "passed":
		return "ran once: " + record + ", not picked for a check"
	case v.Drawn == "picked":
		return "picked for a check: " + record
	case v.Drawn == "silent":
		return "checked: " + record + ", but the owner's node did not draw"
	}
	return "the owner's node is asked: " + record
}
