package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perrin-mesh/perrin/cmd/perrin/internal/terminal"
	"github.com/perrin-mesh/perrin/node/notary"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/receipt"
)

func (a *app) receiptCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "receipt ID", Short: "Write the signed receipt of a workload that has ended",
		Long: `Write the receipt of a workload to stdout: the owner's signed spec, each auction
with its bids, who ran what under which fence and isolation, what it used, what
came out and what it cost, signed by the workers and a majority of the cell's
voters, with everybody's certificates.

It is a DSSE envelope around an in-toto statement (docs/receipts.md), which
` + "`perrin verify`" + ` checks without a daemon, a mesh or a network.`,
		Example:           examples("perrin receipt abcdefghij > r.json", "perrin receipt render | perrin verify - --root KEY"),
		Args:              exactly(1, "one ID"),
		ValidArgsFunction: a.completeIDs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withWorkload(cmd.Context(), args[0], func(b *backend, id workload.ID) error {
				raw, err := b.Receipt(cmd.Context(), id)
				if err != nil {
					return err
				}
				_, err = a.stdout.Write(raw)
				return err
			})
		},
	}
	a.tokenFlag(cmd)
	return cmd
}

func (a *app) verifyCommand() *cobra.Command {
	var root, owner, trust string
	var voters []string
	cmd := &cobra.Command{
		Use: "verify FILE", Short: "Check a receipt, offline",
		Long: `Check a receipt: each signature, certificate and digest, and each auction, which
is cleared again from its bids. Nothing but the file is needed, the root key of
the mesh, which ` + "`perrin trust status`" + ` prints on any of its nodes, and who the
voters of the workload's cell are, which ` + "`perrin status --json`" + ` lists there:
without that, one node that knows the spec could have made the whole tale up.

Each link of the chain is printed with ok, or with FAIL and the exact reason, or
with ? where something that it needs is not at hand. FILE may be - for stdin.

Returns 0 when every link holds, 1 when one fails or the file is no receipt, 6
when none fails and one could not be checked.`,
		Example: examples("perrin verify r.json --root 12D3KooW…", "perrin verify r.json --root 12D3KooW… --voters 12D3KooW…,12D3KooW…,12D3KooW… --owner 12D3KooW…", "perrin verify r.json --trust trust.json", "perrin verify r.json --json"),
		Args:    exactly(1, "one FILE, or -"),
		RunE: func(_ *cobra.Command, args []string) error {
			var opt receipt.Options
			if err := errors.Join(peerFlag("--root", root, &opt.Root), peerFlag("--owner", owner, &opt.Owner)); err != nil {
				return err
			}
			var err error
			if opt.Voters, err = votersFlag(voters); err != nil {
				return err
			}
			past, err := readTrust(trust)
			if err != nil {
				return err
			}
			if past != nil {
				if opt.Root.IsZero() {
					opt.Root = past.Root
				} else if opt.Root != past.Root {
					return usagef("", "--trust: it is of the root %s, --root says %s", past.Root, opt.Root)
				}
				opt.Stood = func(node, operator workload.PeerID, at int64) error {
					return past.Stood(node, operator, time.UnixMilli(at))
				}
				if !past.Written.IsZero() {
					opt.StoodAsOf = past.Written.UnixMilli()
				}
			}
			raw, err := a.readReceipt(args[0])
			if err != nil {
				return err
			}
			report, err := receipt.Verify(notary.Rules(nil), raw, opt)
			if err != nil {
				return failf("`perrin receipt ID` writes receipts; this file is another thing, cut short, or changed", "%s: %w", args[0], err)
			}
			if err := show(a, report, a.printReceipt); err != nil {
				return err
			}
			return checked(report.Status())
		},
	}
	cmd.Flags().StringVar(&root, "root", "", "the mesh's root key, as perrin trust status prints it")
	cmd.Flags().StringSliceVar(&voters, "voters", nil, "the voters of the cell, with commas: a majority of them must have signed")
	cmd.Flags().StringVar(&trust, "trust", "", "who was removed and denied, as perrin trust export wrote it on a node of yours; its root counts as --root")
	cmd.Flags().StringVar(&owner, "owner", "", "whose workload it has to be")
	a.jsonFlag(cmd)
	return cmd
}

// checked is the exit code of a check.
func checked(s receipt.Status) error {
	switch s {
	case receipt.Holds:
		return nil
	case receipt.Unchecked:
		return outcome(exitUnchecked)
	}
	return outcome(exitFailure)
}

// peerFlag parses a flag that names a key; without one, into stays as it is.
func peerFlag(name, text string, into *workload.PeerID) error {
	if text == "" {
		return nil
	}
	key, err := workload.ParsePeerID(text)
	if err != nil {
		return usagef("a key is 52 letters and digits that begin with 12D3KooW, as `perrin trust status` prints it", "%s: %w", name, err)
	}
	*into = key
	return nil
}

// readReceipt reads a bounded file, or stdin for "-".
func (a *app) readReceipt(name string) ([]byte, error) {
	in := a.stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, usagef("`perrin receipt ID > r.json` writes one", "%s: %w", name, plain(err))
		}
		defer f.Close()
		in = f
	}
	var raw bytes.Buffer
	if _, err := io.Copy(&raw, io.LimitReader(in, receipt.MaxFile+1)); err != nil {
		return nil, failf("", "%s: %w", name, plain(err))
	}
	return raw.Bytes(), nil
}

func (a *app) printReceipt(r *receipt.Report) error {
	var out strings.Builder
	fmt.Fprintf(&out, "receipt of workload %s: %s, %s, ended %s\n", r.Workload.Short(), terminal.Clean(string(r.Phase), 20),
		terminal.Plural(int(r.Tasks.Total), "task"), time.UnixMilli(r.Ended).UTC().Format(time.RFC3339))
	marks := map[receipt.Status]string{receipt.Holds: "ok", receipt.Fails: "FAIL", receipt.Unchecked: "?"}
	failed, unsure := 0, 0
	for _, l := range r.Links {
		fmt.Fprintf(&out, "  %-4s  %-17s  %s\n", marks[l.Status], l.Name, terminal.Clean(l.Detail, 1000))
		switch l.Status {
		case receipt.Fails:
			failed++
		case receipt.Unchecked:
			unsure++
		}
	}
	switch {
	case failed > 0:
		fmt.Fprintf(&out, "do not trust it: %s of %d fail\n", terminal.Plural(failed, "link"), len(r.Links))
	case unsure > 0:
		fmt.Fprintf(&out, "nothing is wrong, but %s of %d could not be checked\n", terminal.Plural(unsure, "link"), len(r.Links))
	default:
		fmt.Fprintf(&out, "all %d links hold\n", len(r.Links))
	}
	_, err := io.WriteString(a.stdout, out.String())
	return err
}

// votersFlag reads what --voters names.
func votersFlag(list []string) (out []workload.PeerID, err error) {
	for _, text := range list {
		var voter workload.PeerID
		if err := peerFlag("--voters", text, &voter); err != nil {
			return nil, err
		}
		out = append(out, voter)
	}
	return out, nil
}
