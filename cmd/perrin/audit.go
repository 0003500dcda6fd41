package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perrin-mesh/perrin/cmd/perrin/internal/terminal"
	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/node/notary"
	"github.com/perrin-mesh/perrin/workload"
)

func (a *app) auditCommand() *cobra.Command {
	var save, root, trust string
	var against, named []string
	var offline bool
	cmd := &cobra.Command{
		Use: "audit [CELL]", Short: "Check the history of a cell, and that its voters tell the same one",
		Long: `Have every voter of a cell sign the head of its hash chain at some entries, and
compare. On a server of the cell, also compute the chain from the log and clear
every award in it again. Without CELL, audit this node's own.

It finds: a voter that signs two histories (equivocation), voters that tell
different ones (fork), awards that do not replay (bad-award, against the leader that
signed it), entries that nobody signed as their leader (unsigned), and a log that
does not give the chain (gap).

--save keeps the signed marks in a proof file. --against reads such files and
counts them with what is found now: a voter that signs another past than last
week is caught. With --offline nothing is asked; the files are checked alone.

Marks of peers that are no voters do not count. Who the voters are says --voters; or,
when the daemon is asked, the daemon; or else the files themselves, which is nobody's
signed word, so that then no history counts as a majority's.

--trust takes what ` + "`perrin trust export`" + ` wrote: marks of voters that were removed or
denied by then are in no majority, and prove no fork. They have no date, so that what
such a voter signed before is left out too. Who signs two histories is named anyway.

Returns 0 when a majority signed one history, 1 when something is wrong, 6 when
nothing is, and too few voters answered or nobody says who they are.`,
		Example: examples("perrin audit", "perrin audit --save today.json", "perrin audit --against monday.json --json",
			"perrin audit --offline --against monday.json --against today.json --root 12D3KooW… --voters 12D3KooW…,12D3KooW…,12D3KooW…",
			"perrin audit --offline --against monday.json --trust trust.json"),
		Args: atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			var cell workload.CellID
			var key workload.PeerID
			if err := peerFlag("--root", root, &key); err != nil {
				return err
			}
			if len(args) == 1 {
				if err := cell.UnmarshalText([]byte(args[0])); err != nil {
					return usagef("`perrin status` names this node's cell", "%w", err)
				}
			}
			voters, err := votersFlag(named)
			if err != nil {
				return err
			}
			past, err := readTrust(trust)
			switch {
			case err != nil:
				return err
			case past != nil && key.IsZero():
				key = past.Root
			case past != nil && key != past.Root:
				return usagef("", "--trust: it is of the root %s, --root says %s", past.Root, key)
			}
			r := &auditReport{}
			proofs, err := readProofs(against, key)
			switch {
			case err != nil:
				return err
			case offline && (len(proofs) == 0 || len(args) == 1 || save != ""):
				return usagef("see `perrin audit --help`", "--offline: want --against FILE, and neither CELL nor --save")
			case !offline:
				if proofs, err = a.auditOnline(cmd, r, cell, save, proofs); err != nil {
					return err
				}
				if key.IsZero() {
					key = r.Gathered.Root
				}
				if len(voters) == 0 {
					voters = r.Gathered.Voters
				}
			}
			if r.Audited, err = notary.CheckProof(proofs, key, past, voters...); err != nil {
				return usagef("give proof files of one cell", "%w", err)
			}
			if err := show(a, r, a.printAudit); err != nil {
				return err
			}
			return r.verdict()
		},
	}
	cmd.Flags().StringVar(&save, "save", "", "write the signed marks to this new file")
	cmd.Flags().StringArrayVar(&against, "against", nil, "a proof file of before; may be given again")
	cmd.Flags().BoolVar(&offline, "offline", false, "check the proof files alone")
	cmd.Flags().StringVar(&root, "root", "", "the mesh's root key; without it the daemon's, or with --offline whichever the proof leads to")
	cmd.Flags().StringSliceVar(&named, "voters", nil, "the voters of the cell, with commas, as perrin status --json lists them; others' marks do not count")
	cmd.Flags().StringVar(&trust, "trust", "", "who was removed and denied, as perrin trust export wrote it; its root counts as --root")
	a.jsonFlag(cmd)
	return cmd
}

// auditReport is what perrin audit prints.
type auditReport struct {
	*notary.Audited
	Gathered *api.Audit `json:"gathered,omitempty"` // not with --offline
}

// verdict is the exit code.
func (r *auditReport) verdict() error {
	_, whole := r.Countersigned()
	switch {
	case len(r.Findings) > 0 || r.Gathered != nil && len(r.Gathered.Faults)+len(r.Gathered.Refused) > 0:
		return outcome(exitFailure)
	case !whole || r.Claimed:
		return outcome(exitUnchecked)
	}
	return nil
}

// auditOnline asks the daemon, and adds what it gathered to the proofs.
func (a *app) auditOnline(cmd *cobra.Command, r *auditReport, cell workload.CellID, save string, proofs []*notary.Proof) ([]*notary.Proof, error) {
	err := a.withBackend(func(b *backend) (err error) {
		r.Gathered, err = b.Audit(cmd.Context(), cell)
		return err
	})
	if err != nil {
		return nil, err
	}
	p, err := notary.ReadProof(r.Gathered.Proof)
	if err != nil {
		return nil, err
	}
	if save != "" {
		if err := writeNew(save, r.Gathered.Proof); err != nil {
			return nil, usagef("name a new file with --save", "--save %s: %w", save, plain(err))
		}
	}
	r.Gathered.Proof = nil // it is printed as what it proves
	return append(proofs, p), nil
}

func writeNew(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// readProofs reads proof files. One that is of another root than wanted, or was changed, is
// an error: it says nothing about the voters. A root of zero is whichever a file has.
func readProofs(names []string, root workload.PeerID) (out []*notary.Proof, err error) {
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return nil, usagef("`perrin audit --save FILE` writes one", "--against %s: %w", name, plain(err))
		}
		raw, err := io.ReadAll(io.LimitReader(f, notary.MaxProof+1))
		f.Close()
		if err != nil {
			return nil, failf("", "--against %s: %w", name, plain(err))
		}
		p, err := notary.ReadProof(raw)
		if err != nil {
			return nil, failf("`perrin audit --save FILE` writes one", "--against %s: %w", name, err)
		}
		if err := whole(p, root); err != nil {
			return nil, fmt.Errorf("--against %s: %w", name, err)
		}
		out = append(out, p)
	}
	return out, nil
}

// whole checks the roots and signatures of a proof file.
func whole(p *notary.Proof, root workload.PeerID) error {
	for i, raw := range p.Certificates {
		c, err := admission.OpenChain(raw)
		if err != nil {
			return damaged("certificate %d: %w", i, err)
		}
		if !root.IsZero() && c.Root != root {
			return usagef("name the mesh's own root, as `perrin trust status` prints it, or the file of that mesh", "it is of the root %s, not of %s", c.Root, root)
		}
	}
	for i, s := range p.Marks {
		if err := s.Verify(workload.DomainMark); err != nil {
			return damaged("mark %d: %w", i, err)
		}
	}
	return nil
}

// damaged is the error of a proof file that was changed.
func damaged(format string, args ...any) error {
	return failf("somebody changed the file, or its disk did; that is no proof against a voter. Get it again from who saved it", "the file is damaged: "+format, args...)
}

func (a *app) printAudit(r *auditReport) error {
	var out strings.Builder
	fmt.Fprintf(&out, "cell %s, below the root %s\n", r.Cell, r.Root)
	if g := r.Gathered; g != nil {
		if g.Walked {
			fmt.Fprintf(&out, "  %s of the log, from %d to %d, give the chain; %s cleared again\n",
				terminal.Plural(g.Entries, "command"), g.From, g.To, terminal.Plural(g.Awards, "award"))
		} else {
			fmt.Fprintln(&out, "  this node has no log of the cell: the voters' marks are compared, no award is cleared again")
		}
		if c := g.Checkpoint; c != nil {
			fmt.Fprintf(&out, "  the last checkpoint is entry %d, which %d of %d voters countersigned at %s; %d are kept\n",
				c.Index, c.Signed, c.Voters, c.At.UTC().Format(time.RFC3339), c.Kept)
		}
		for _, fault := range g.Faults {
			fmt.Fprintf(&out, "  FAIL  %-12s  %s\n", notary.Gap, terminal.Clean(fault, 300))
		}
		for _, x := range g.Refused {
			fmt.Fprintf(&out, "  FAIL  %-12s  entry %d, which every replica refuses (%s): %s\n", "bad-entry", x.Index, x.Code, terminal.Clean(x.Detail, 300))
		}
		for _, silent := range g.Silent {
			fmt.Fprintf(&out, "  ?     voter %s did not answer\n", silent.Short())
		}
	}
	if r.AsOf != nil {
		fmt.Fprintf(&out, "  the trust file is of %s, by the word of %s\n", r.AsOf.UTC().Format(time.RFC3339), r.AsOfBy.Short())
	}
	for _, d := range r.Doubted {
		fmt.Fprintf(&out, "  ?     the marks of %s are in no majority: %s\n", d.Node.Short(), terminal.Clean(d.Why, 300))
	}
	if len(r.Outsiders) > 0 {
		fmt.Fprintf(&out, "  ?     the marks of %s are of no voter, and do not count\n", shorts(r.Outsiders))
	}
	for _, d := range r.Disputes {
		fmt.Fprintf(&out, "  ?     entry %d: %s, which is no voter, %s\n", d.Index, d.Nodes[0].Short(), terminal.Clean(d.Detail, 300))
	}
	if r.Claimed {
		fmt.Fprintln(&out, "  ?     who the voters are is the word of these files alone: name them with --voters")
	}
	for _, f := range r.Findings {
		fmt.Fprintf(&out, "  FAIL  %-12s  entry %d: %s\n", f.Kind, f.Index, terminal.Clean(f.Detail, 300))
	}
	if c, ok := r.Countersigned(); ok {
		fmt.Fprintf(&out, "  ok    %d of %d voters signed %s at entry %d\n", len(c.Signed), r.Voters, c.Head.Short(), c.Index)
	} else {
		fmt.Fprintf(&out, "  ?     no entry has the marks of a majority of the %d voters\n", r.Voters)
	}
	switch r.verdict() {
	case nil:
		fmt.Fprintln(&out, "one history, and nothing wrong in it")
	case outcome(exitUnchecked):
		fmt.Fprintln(&out, "nothing is wrong, but too little could be compared")
	default:
		fmt.Fprintln(&out, "somebody in this cell lies, or its disk does")
	}
	_, err := io.WriteString(a.stdout, out.String())
	return err
}

// shorts lists peers, at most eight of them.
func shorts(peers []workload.PeerID) string {
	var out []string
	for _, p := range peers[:min(len(peers), 8)] {
		out = append(out, p.Short())
	}
	if len(peers) > len(out) {
		out = append(out, "others")
	}
	return strings.Join(out, ", ")
}
