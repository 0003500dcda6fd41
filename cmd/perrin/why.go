package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perrin-mesh/perrin/cmd/perrin/internal/terminal"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
)

func (a *app) whyCommand() *cobra.Command {
	var task int64
	cmd := &cobra.Command{
		Use: "why ID[/TASK]", Short: "Explain where a workload runs, or why it does not",
		Long: `Explain a workload, or one task of it: every node that was asked, its bid or its
reasons, who won at which price, what was lost and tried again. For one that has
no slot it shows the last auction. Of work with --verify-by, ID/TASK shows what each
node returned for the task, and whether it was drawn for a check.`,
		Example:           examples("perrin why abcdefghij", "perrin why render/7", "perrin why train.py --json"),
		Args:              exactly(1, "one ID"),
		ValidArgsFunction: a.completeIDs,
		RunE: func(cmd *cobra.Command, args []string) error {
			text, index, err := splitTask(args[0])
			if err != nil {
				return err
			}
			if task >= 0 {
				n := uint32(min(task, 1<<32-1))
				index = &n
			}
			return a.withWorkload(cmd.Context(), text, func(b *backend, id workload.ID) error {
				w, err := b.Why(cmd.Context(), id, index)
				if err != nil {
					return err
				}
				return show(a, w, a.printWhy)
			})
		},
	}
	cmd.Flags().Int64Var(&task, "task", -1, "one task, by its number")
	a.jsonFlag(cmd)
	a.tokenFlag(cmd)
	return cmd
}

func (a *app) printWhy(w *api.Why) error {
	var out strings.Builder
	head := "workload " + w.ID.Short()
	if w.Task != nil {
		head += fmt.Sprintf(", task %d", *w.Task)
	}
	fmt.Fprintf(&out, "%s: %s\n%s\n", head, w.Phase, terminal.Clean(w.Summary, 500))
	if w.Guarantee != "" {
		fmt.Fprintf(&out, "%s\n", terminal.Clean(w.Guarantee, 2000))
	}
	var begin time.Time
	if len(w.Steps) > 0 {
		begin = w.Steps[0].At
		out.WriteString("\n")
	}
	for _, s := range w.Steps {
		fmt.Fprintf(&out, "%8s  %s\n", "+"+terminal.Duration(s.At.Sub(begin)), stepText(&s))
		if s.Auction != nil {
			if err := writeAuction(&out, s.Auction); err != nil {
				return err
			}
		}
	}
	if err := writeVotes(&out, w.Votes); err != nil {
		return err
	}
	writeGone(&out, w)
	if w.Pending != nil {
		fmt.Fprintf(&out, "\nstill wants slots; the last auction, %s:\n", "+"+terminal.Duration(w.Pending.At.Sub(orTime(begin, w.Pending.At))))
		if err := writeAuction(&out, w.Pending); err != nil {
			return err
		}
	}
	_, err := io.WriteString(a.stdout, out.String())
	return err
}

// writeGone says what is not shown, because the cell does not keep it, and where
// there is more.
func writeGone(out *strings.Builder, w *api.Why) {
	if w.Gone == nil {
		return
	}
	out.WriteString("\n")
	if w.Gone.Kept > 0 {
		fmt.Fprintf(out, "earlier steps are not kept: these are the last %d, and times count from the first of them\n", w.Gone.Kept)
	}
	if n := w.Gone.Retries; n > 0 {
		fmt.Fprintf(out, "no step here tells of %s that failed and had another try; `perrin inspect %s --tasks` has each task's last try\n",
			terminal.Plural(int(n), "attempt"), w.ID.Short())
	}
	if n := w.Gone.Results; n > 0 {
		fmt.Fprintf(out, "the results of %s that had another try are in no receipt: the ledger lists the first 4,096 ranges of such\n",
			terminal.Plural(int(n), "attempt"))
	}
}

func orTime(t, other time.Time) time.Time {
	if t.IsZero() {
		return other
	}
	return t
}

// stepText is one line about something that happened.
func stepText(s *api.WhyStep) string {
	text := terminal.Clean(s.What, 40)
	if s.Slot != 0 {
		text += fmt.Sprintf(" slot %d", s.Slot)
	}
	if s.Name != "" || !s.Node.IsZero() {
		text += " " + preposition(s.What) + " " + nodeName(s.Name, s.Node)
	}
	if s.Detail != "" {
		text += ": " + terminal.Clean(s.Detail, 300)
	}
	if len(s.Reasons) > 0 {
		text += ": " + plainReasons(s.Reasons)
	}
	return text
}

func preposition(what string) string {
	switch what {
	case "awarded":
		return "to"
	case "refused", "returned", "stopped":
		return "by"
	}
	return "on"
}

func nodeName(name string, id workload.PeerID) string {
	if name == "" {
		return id.Short()
	}
	return terminal.Clean(name, 64)
}

// writeAuction prints each node that was asked or passed over.
func writeAuction(out io.Writer, a *api.WhyAuction) error {
	head := fmt.Sprintf("auction for %s", terminal.Plural(int(a.Wanted), "slot"))
	if a.MaxPrice > 0 {
		head += ", at most " + terminal.Rate(a.MaxPrice) + " each"
	}
	if a.Sibling {
		head += "; nodes of other cells were asked too"
	}
	if a.DHT {
		head += "; the DHT was asked for nodes of this class"
	}
	fmt.Fprintf(out, "          %s\n", head)
	t := terminal.NewTable("NODE", "ASK ", "SCORE ", "SLOTS ", "WON ", "RATE ", "OUTCOME")
	t.Indent = "            "
	for _, b := range a.Bids {
		t.Row(nodeName(b.Name, b.Node), terminal.Count(b.Ask), terminal.Count(b.Score), fmt.Sprint(b.Slots), fmt.Sprint(b.Won),
			rateOrDash(b), bidOutcome(b))
	}
	for _, d := range a.Declines {
		t.Row(nodeName(d.Name, d.Node), "-", "-", "-", "-", "-", plainReasons(d.Reasons))
	}
	if t.Len() == 0 {
		_, err := fmt.Fprintln(out, "            no node was there to ask")
		return err
	}
	return t.Write(out)
}

func rateOrDash(b api.WhyBid) string {
	if b.Won == 0 {
		return "-"
	}
	return terminal.Count(b.Rate)
}

func bidOutcome(b api.WhyBid) string {
	text := plainOutcome(b)
	if b.RiskPPM > 0 {
		text += fmt.Sprintf("; its record adds %.1f %% to its ask", float64(b.RiskPPM)/10_000)
	}
	return text
}

func plainOutcome(b api.WhyBid) string {
	switch {
	case b.Reason == string(workload.Outbid):
		return "outbid: another scored lower"
	case b.Reason != "":
		return b.Reason
	case b.Won > 0:
		return "won"
	}
	return "did not win"
}
