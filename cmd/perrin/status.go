package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/perrin-mesh/perrin/cmd/perrin/internal/terminal"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
)

func (a *app) statusCommand() *cobra.Command {
	var wait bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "The mesh at a glance",
		Long: `Show whether the mesh takes work and why not, its cells, voters and leader, its
capacity in physical cores, hyperthreads and spare (idle time), what is used,
prices and versions.
It returns 4 when the mesh is not ready. --json also carries each component's
figures.`,
		Example: examples("perrin status", "perrin status --json", "perrin status --wait    # returns when the mesh is ready"),
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ask := a.askStatus
			if wait {
				ask = a.untilReady
			}
			st, err := ask(cmd.Context())
			if err != nil {
				return err
			}
			return a.showStatus(st)
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until the mesh is ready, also for a daemon that does not answer yet")
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) showStatus(st *api.Status) error {
	if err := show(a, st, a.printStatus); err != nil {
		return err
	}
	if !st.Ready {
		return outcome(exitUnavailable)
	}
	return nil
}

func (a *app) printStatus(st *api.Status) error {
	var out strings.Builder
	p := func(name, format string, args ...any) {
		fmt.Fprintf(&out, "%-10s%s\n", name, fmt.Sprintf(format, args...))
	}
	if st.Ready {
		p("ready", "yes")
	} else {
		p("ready", "no: %s", orElse(st.Why, "no reason is known"))
	}
	p("node", "%s (%s), %s", terminal.Clean(st.Name, 64), st.Node.Short(), terminal.Clean(st.Version, 64))
	p("mesh", "%s", st.Mesh.String()[:16])
	p("nodes", "%s", nodesText(st))
	p("capacity", "%s, %s, %s%s", terminal.Plural(int(st.Capacity.Total.Cores), "physical core"),
		terminal.Plural(int(st.Capacity.Total.Threads), "thread"), terminal.Size(st.Capacity.Total.Memory), declaredText(st.Declared))
	used, total := usedOf(st.Capacity), st.Capacity.Total
	p("used", "%d of %d cores, %d of %d threads, %s of %s", used.Cores, total.Cores, used.Threads, total.Threads,
		terminal.Size(used.Memory), terminal.Size(total.Memory))
	if total.Spare > 0 {
		p("spare", "%d of %s idle and free to be lent", st.Capacity.Free.Spare, terminal.Plural(int(total.Spare), "thread"))
	}
	p("prices", "%s", pricesText(st.Prices))
	if len(st.Enforced) > 0 {
		p("held by", "%s", terminal.Clean(strings.Join(st.Enforced, ", "), 300))
	}
	p("programs", "%s", programsText(st))
	p("running", "%s", terminal.Plural(st.Running, "workload"))
	out.WriteString("\n")
	if err := cellTable(st).Write(&out); err != nil {
		return err
	}
	for _, w := range warnings(st) {
		fmt.Fprintf(&out, "\nnote: %s\n", terminal.Clean(w, 400))
	}
	_, err := io.WriteString(a.stdout, out.String())
	return err
}

// programsText says which programs this node runs, and why not others.
func programsText(st *api.Status) string {
	kinds := make([]string, len(st.Runs))
	for i, k := range st.Runs {
		kinds[i] = terminal.Clean(string(k), 16)
	}
	text := orElse(strings.Join(kinds, ", "), "none")
	for _, k := range slices.Sorted(maps.Keys(st.RunsNot)) {
		text += fmt.Sprintf("\n%-10snot %s: %s", "", terminal.Clean(string(k), 16), terminal.Clean(st.RunsNot[k], 300))
	}
	return text
}

func nodesText(st *api.Status) string {
	members, cells := 0, len(st.Cells)
	for _, c := range st.Cells {
		members += c.Members
	}
	text := fmt.Sprintf("%s in %s", terminal.Plural(members, "node"), terminal.Plural(cells, "cell"))
	var versions []string
	for _, v := range slices.Sorted(maps.Keys(st.Versions)) {
		versions = append(versions, fmt.Sprintf("%d on %s", st.Versions[v], terminal.Clean(v, 64)))
	}
	if len(versions) > 0 {
		text += " (" + strings.Join(versions, ", ") + ")"
	}
	return text
}

func declaredText(declared bool) string {
	if declared {
		return " (declared: nodes may share a machine)"
	}
	return ""
}

func usedOf(c api.CapacitySum) workload.Capacity {
	return workload.Capacity{
		Cores: c.Total.Cores - c.Free.Cores, Threads: c.Total.Threads - c.Free.Threads, Memory: c.Total.Memory - c.Free.Memory,
	}
}

func pricesText(prices map[string]int64) string {
	var words []string
	for _, class := range slices.Sorted(maps.Keys(prices)) {
		words = append(words, fmt.Sprintf("%s from %s", terminal.Clean(class, 16), terminal.Rate(prices[class])))
	}
	if len(words) == 0 {
		return "nothing is free to be sold"
	}
	return strings.Join(words, ", ")
}

func cellTable(st *api.Status) *terminal.Table {
	t := terminal.NewTable("CELL", "MEMBERS ", "VOTERS ", "STANDBY ", "LEADER", "TERM ", "EPOCH ", "FREE CORES ", "QUORUM")
	for _, c := range st.Cells {
		name := c.ID.String()[:8]
		if c.Home {
			name += " (home)"
		}
		leader := orElse(c.Name, c.Leader.Short())
		if c.Leader.IsZero() {
			leader = "none"
		}
		t.Row(name, fmt.Sprint(c.Members), fmt.Sprint(len(c.Voters)), fmt.Sprint(len(c.Standby)), leader,
			fmt.Sprint(c.Term), fmt.Sprint(c.Epoch), fmt.Sprint(c.Free.Cores), yesNo(c.Quorum))
	}
	return t
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "NO"
}

// warnings are the node's own; where it has none, what a cell of one voter risks.
func warnings(st *api.Status) []string {
	if len(st.Warnings) > 0 {
		return st.Warnings
	}
	return voterWarnings(st)
}

// voterWarnings says what a cell of one voter risks.
func voterWarnings(st *api.Status) []string {
	var out []string
	for _, c := range st.Cells {
		if !c.Home || len(c.Voters) != 1 {
			continue
		}
		if len(c.Standby) == 0 {
			out = append(out, "the cell has one voter: if its disk is lost, so is every workload; with three nodes any one of them may be lost")
			continue
		}
		out = append(out, "the cell has one voter and a standby: while the voter is away nothing is placed, and what it acknowledged last may be lost with its disk; with three nodes any one of them may be lost")
	}
	return out
}
