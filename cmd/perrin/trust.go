package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perrin-mesh/perrin/cmd/perrin/internal/terminal"
	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload/specfile"
)

func (a *app) trustCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "trust", Short: "Who may admit to the mesh, and who is put out",
		Example: examples("perrin trust status", "perrin trust export > trust.json"), Args: cobra.ArbitraryArgs, RunE: helpOrUnknown,
	}
	sub := &cobra.Command{
		Use: "status", Short: "Show the root, the operators, this node's certificate and who is denied",
		Long: `Show the key that the mesh is named by, its operators, this node's certificate and
when it is renewed, and who is put out.

A node certificate lasts 24 hours. Any operator's node that is reached renews it
after half of them. While no operator's node is up, certificates count for 7 days
beyond their end; for an hour after one is back, in which all renew.`,
		Example: examples("perrin trust status", "perrin trust status --json"),
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withBackend(func(b *backend) error {
				t, err := b.Trust(cmd.Context())
				if err != nil {
					return err
				}
				t.Said = nil // perrin trust export
				return show(a, t, a.printTrust)
			})
		},
	}
	a.jsonFlag(sub)
	cmd.AddCommand(sub, a.trustExportCommand())
	return cmd
}

const trustTime = "2006-01-02 15:04"

// whose names the operator that a node counts as, when another signed its certificate.
func whose(c *api.Certificate) string {
	if c.Admitter == c.Operator || c.Admitter == "" {
		return ""
	}
	return "; it counts as operator " + terminal.Clean(c.Admitter, 64) + "'s, which admitted it"
}

func (a *app) printTrust(t *api.Trust) error {
	var out strings.Builder
	p := func(name, format string, args ...any) {
		fmt.Fprintf(&out, "%-13s%s\n", name, fmt.Sprintf(format, args...))
	}
	where := "its key is not on this node"
	if t.RootHere {
		where = "its key is on this node: keep a copy elsewhere (keys/root in the data folder)"
	}
	p("mesh", "%s", t.Mesh.String()[:16])
	p("root", "%s; %s", t.Root, where)
	c := t.Node
	p("certificate", "%s, signed by operator %s%s", terminal.Clean(c.Name, 64), terminal.Clean(c.Operator, 64), whose(&c))
	p("", "made %s, renewed from %s on, ends %s", c.Issued.Local().Format(trustTime), c.Renews.Local().Format(trustTime), c.Ends.Local().Format(trustTime))
	p("", "while no operator is up: good until %s", c.Grace.Local().Format(trustTime))
	p("asks", "of machines that prove something: %s (to be the same on every voter)", rulesText(t))
	if t.Invited > 0 {
		p("invitations", "%d open, made on this node", t.Invited)
	}
	out.WriteString("\n")
	if t.Charter == 0 {
		out.WriteString("This node has not heard from the root who the operators are.\n")
	} else if err := operatorTable(t).Write(&out); err != nil {
		return err
	}
	for _, r := range t.Removed {
		fmt.Fprintf(&out, "removed: %s (key %s), counts no more from %s\n", orElse(terminal.Clean(r.Name, 64), "an operator"), r.Key.Short(), r.Time.Local().Format(trustTime))
	}
	out.WriteString("\n")
	if len(t.Denied) == 0 {
		out.WriteString("Nobody is denied.\n")
	} else if err := deniedTable(t).Write(&out); err != nil {
		return err
	}
	_, err := fmt.Fprint(a.stdout, out.String())
	return err
}

// rulesText says what the node asks of machines, or why nobody can answer that.
func rulesText(t *api.Trust) string {
	switch {
	case t.RulesWrong != "":
		return "NOT IN FORCE, no machine counts: " + terminal.Clean(t.RulesWrong, 500)
	case t.Rules.IsZero():
		return "the defaults: there is no policy in " + orElse(terminal.Clean(t.RulesFolder, 300), "the folder attest")
	}
	return t.Rules.Short()
}

func operatorTable(t *api.Trust) *terminal.Table {
	table := terminal.NewTable("OPERATOR", "NODE", "KEY", "SINCE", "STATE")
	for _, o := range t.Operators {
		state := "not connected"
		switch {
		case o.Self:
			state = "this node"
		case o.Reached:
			state = "connected"
		}
		table.Row(terminal.Clean(o.Name, 64), o.Node.Short(), o.Key.Short(), o.Time.Local().Format(trustTime), state)
	}
	return table
}

func deniedTable(t *api.Trust) *terminal.Table {
	table := terminal.NewTable("DENIED", "NAME", "BY", "SINCE", "UNTIL", "REASON")
	for _, d := range t.Denied {
		table.Row(d.Peer.Short(), orElse(terminal.Clean(d.Name, 64), "-"), terminal.Clean(d.By, 64), d.Since.Local().Format(trustTime),
			untilText(d.Until), orElse(terminal.Clean(d.Reason, admission.MaxDenyReason), "-"))
	}
	return table
}

func untilText(until *time.Time) string {
	if until == nil {
		return "for good"
	}
	return until.Local().Format(trustTime)
}

func (a *app) operatorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "operator", Short: "Name the nodes that may admit and renew others",
		Example: examples("perrin operator add attic", "perrin trust status    # lists them"), Args: cobra.ArbitraryArgs, RunE: helpOrUnknown,
	}
	var change api.OperatorChange
	add := &cobra.Command{
		Use: "add NODE", Short: "Make a node an operator's",
		Long: `Make a node an operator's: it can invite, it renews certificates, and it can deny.
NODE is its name or the beginning of its identity; it has to be up. Type this where
the root key is, which is the node that founded the mesh; the root signs the
operator's key, and nothing but that key leaves either machine.

Two operators or more keep the mesh going when the founder's machine is away.`,
		Example: examples("perrin operator add attic", "perrin operator add attic --rotate    # with a new key; the old one ends in an hour"),
		Args:    exactly(1, "one NODE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeOperator(cmd, args[0], change, "is an operator: it can invite, renew and deny")
		},
	}
	add.Flags().BoolVar(&change.Rotate, "rotate", false, "give it a new key; certificates by the old one count for an hour, in which its nodes renew")
	remove := &cobra.Command{
		Use: "remove NODE", Short: "Take an operator's right away",
		Long: `Take an operator's right away. It signs nothing from now on, and for an hour the
certificates that it signed count, in which their nodes renew at another operator.
What it denied stays denied, by the operator of the node that you type this on.
With --now its certificates count no more at once: for an operator's key that somebody
else may have. Its nodes then need new invitations, and what it denied is denied no
more: look at ` + "`perrin trust status`" + ` before, and ` + "`perrin deny`" + ` again what you mean.`,
		Example: examples("perrin operator remove attic", "perrin operator remove attic --now    # its key was stolen"),
		Args:    exactly(1, "one NODE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c := change
			c.Remove, c.Rotate = true, false
			return a.changeOperator(cmd, args[0], c, "is no operator any more")
		},
	}
	remove.Flags().BoolVar(&change.Now, "now", false, "its certificates count no more at once")
	a.jsonFlag(add)
	a.jsonFlag(remove)
	cmd.AddCommand(add, remove)
	return cmd
}

func (a *app) changeOperator(cmd *cobra.Command, node string, c api.OperatorChange, done string) error {
	c.Node = node
	return a.withBackend(func(b *backend) error {
		o, err := b.ChangeOperator(cmd.Context(), c)
		if err != nil {
			return err
		}
		return show(a, o, func(o *api.TrustOperator) error {
			if c.Remove && !c.Now {
				done += "; certificates that it signed count until " + o.Time.Local().Format(trustTime)
			}
			if o.Already {
				done = "is an operator already"
			}
			if o.Lapsing > 0 {
				fmt.Fprintf(a.stderr, "warning: what it denied (%d) counts until %s: `perrin deny` it again on another operator's node\n", o.Lapsing, o.Time.Local().Format(trustTime))
			}
			_, err := fmt.Fprintf(a.stdout, "%s (key %s) %s\n", terminal.Clean(o.Name, 64), o.Key.Short(), done)
			return err
		})
	})
}

func (a *app) denyCommand() *cobra.Command {
	var change api.DenyChange
	var forText string
	cmd := &cobra.Command{
		Use: "deny PEER", Short: "Put a node out of the mesh",
		Long: `Put a node out of the mesh, at once and everywhere: every node that hears of it
closes its connections to it and takes none; the cell evicts it, and what ran there
is started again elsewhere when its leases have ended. Nodes that are away hear of
it as they come back. PEER is a name, an identity or the beginning of one. Type it
on an operator's node.

What the node has read before is not undone.`,
		Example: examples("perrin deny shed", "perrin deny shed --for 7d --reason 'lost laptop'", "perrin deny --lift shed"),
		Args:    exactly(1, "one PEER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c := change
			c.Peer = args[0]
			if forText != "" {
				d, err := specfile.ParseDuration(forText)
				if err != nil || d < time.Second || d > 10*365*24*time.Hour {
					return usagef("write a time such as 7d", "--for: want 1s to 10 years, got %.40q", forText)
				}
				c.ForMs = d.Milliseconds()
			}
			switch {
			case len(c.Reason) > admission.MaxDenyReason:
				return usagef("", "--reason: want at most %d bytes, got %d", admission.MaxDenyReason, len(c.Reason))
			case c.Lift && (forText != "" || c.Reason != "" || c.Force):
				return usagef("perrin deny --lift "+c.Peer, "--lift takes no other flag")
			}
			return a.changeDenied(cmd, c)
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.StringVar(&forText, "for", "", "how long, such as 7d (default: until it is lifted)")
	fl.StringVar(&change.Reason, "reason", "", "why, for everyone to read; at most 128 bytes")
	fl.BoolVar(&change.Lift, "lift", false, "let it in again")
	fl.BoolVar(&change.Force, "force", false, "also the cell's only voter, whose workloads are lost with it")
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) changeDenied(cmd *cobra.Command, c api.DenyChange) error {
	return a.withBackend(func(b *backend) error {
		d, err := b.ChangeDenied(cmd.Context(), c)
		if err != nil {
			return err
		}
		return show(a, d, func(d *api.Denied) error {
			who := d.Peer.Short()
			if d.Name != "" {
				who = terminal.Clean(d.Name, 64) + " (" + who + ")"
			}
			text := who + " may come back"
			if c.Lift && len(d.Others) > 0 {
				text = "this operator denies " + who + " no more; it stays out, since " + terminal.Clean(strings.Join(d.Others, ", "), 256) + " does: lift it there too"
			}
			if !c.Lift {
				text = who + " is put out for good"
			}
			if d.Until != nil {
				text = who + " is put out until " + untilText(d.Until)
			}
			if d.Successor != nil && !c.Lift {
				fmt.Fprintf(a.stderr, "warning: that key was changed: its node has %s now, which this does not put out. To put the node out: `perrin deny %s`\n", d.Successor.Short(), d.Successor.Short())
			}
			_, err := fmt.Fprintln(a.stdout, text)
			return err
		})
	})
}
