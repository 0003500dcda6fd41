package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perrin-mesh/perrin/cmd/perrin/internal/terminal"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
)

func (a *app) nodesCommand() *cobra.Command {
	var find string
	cmd := &cobra.Command{
		Use: "nodes [NAME | --find EXPR]", Short: "List the nodes of the mesh, or draw one",
		Long: `List the nodes that this node knows; with NAME, draw one of this cell: its sockets,
cores and threads, who holds which, what is spare, its walls, prices and record (what
the cell remembers of its work, which fades by half in a week). --find lists those that meet a condition, and
asks the DHT for nodes of other cells too. What it can ask for: arch, os, name,
version, cores, threads, smt, memory, disk, slots, declared, kind-KIND,
wall-WALL, attest-KIND and every label.`,
		Example: examples("perrin nodes", "perrin nodes --find 'cores>=8 && memory>=16GiB'", "perrin nodes --find gpu --json", "perrin nodes attic    # draw the machine"),
		Args:    atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && find != "" {
				return usagef("name one node, or give a condition", "NAME and --find exclude each other")
			}
			if len(args) == 1 {
				return a.withBackend(func(b *backend) error {
					p, err := b.Picture(cmd.Context(), args[0])
					if err != nil {
						return err
					}
					if err := show(a, p, a.printPicture); err != nil || a.json {
						return err
					}
					return a.printRecord(cmd.Context(), b, p.Offer.Node)
				})
			}
			if _, err := workload.ParseWhere(find); err != nil {
				return usagef("a condition looks like 'cores>=8 && zone!=attic'", "--find: %s", strings.TrimPrefix(err.Error(), "where: "))
			}
			return a.withBackend(func(b *backend) error {
				list, err := b.Nodes(cmd.Context(), find)
				if err != nil {
					return err
				}
				return show(a, append([]api.Node{}, list...), a.printNodes)
			})
		},
	}
	cmd.Flags().StringVar(&find, "find", "", "a condition, such as 'cores>=8'")
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) printNodes(list []api.Node) error {
	if len(list) == 0 {
		a.note("no node that is known meets the condition")
		return nil
	}
	slices.SortStableFunc(list, func(x, y api.Node) int { return strings.Compare(x.Name, y.Name) })
	t := terminal.NewTable("NAME", "NODE", "CELL", "ROLE", "STATE", "ARCH", "FREE CORES ", "FREE THREADS ", "FREE MEMORY ", "CORE PRICE ", "RTT ", "RECORD ", "FOUND BY")
	for _, n := range list {
		free, ask := "?", "?"
		threads, memory := fmt.Sprint(n.Machine.Total.Threads), terminal.Size(n.Machine.Total.Memory)
		if n.Offer != nil {
			free, ask = fmt.Sprint(n.Offer.Free.Cores), terminal.Rate(n.Offer.Asks.Core)
			threads = fmt.Sprintf("%d/%s", n.Offer.Free.Threads, threads)
			memory = terminal.Size(n.Offer.Free.Memory) + "/" + memory
		}
		t.Row(n.Name, n.ID.Short(), n.Cell.String()[:8], orElse(n.Role, "-"), stateText(&n), n.Machine.Arch,
			fmt.Sprintf("%s/%d", free, n.Machine.Total.Cores), threads, memory, ask, rttText(&n), recordText(n.Record), orElse(n.Found, "-"))
	}
	return t.Write(a.stdout)
}

// recordText is the share of a node's workloads that is expected to end well.
func recordText(r *api.Record) string {
	if r == nil || r.Probation && r.Bad == 0 {
		return "new"
	}
	return fmt.Sprintf("%d %%", r.MeanPPM/10_000)
}

// printRecord says what the cell remembers of a node's work.
func (a *app) printRecord(ctx context.Context, b *backend, id workload.PeerID) error {
	list, err := b.Nodes(ctx, "")
	if err != nil {
		return err
	}
	at := slices.IndexFunc(list, func(n api.Node) bool { return n.ID == id })
	if at < 0 {
		return nil
	}
	text := "nothing is remembered of it yet"
	if r := list[at].Record; r != nil {
		text = fmt.Sprintf("%s: workloads count %.1f for it and %.1f against it, by %s; its bids compete as if they asked %.1f %% more",
			recordText(r), float64(r.Good)/1000, float64(r.Bad)/1000, terminal.Plural(r.Issuers, "owner"), float64(r.RiskPPM)/10_000)
	}
	_, err = fmt.Fprintf(a.stdout, "%-9s %s\n", "record", text)
	return err
}

func stateText(n *api.Node) string {
	switch {
	case n.Self:
		return "this node"
	case n.Offer != nil && n.Offer.Drain:
		return "draining"
	case !n.Alive:
		return "not heard of"
	}
	return "alive"
}

func rttText(n *api.Node) string {
	if n.Self || n.RTTMicros == 0 {
		return "-"
	}
	d := time.Duration(n.RTTMicros) * time.Microsecond
	if d < 10*time.Millisecond {
		return fmt.Sprintf("%.2fms", float64(n.RTTMicros)/1000)
	}
	return terminal.Duration(d)
}
