package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/perrin-mesh/perrin/cmd/perrin/internal/settings"
	"github.com/perrin-mesh/perrin/cmd/perrin/internal/terminal"
	"github.com/perrin-mesh/perrin/node"
	"github.com/perrin-mesh/perrin/workload"
)

// NewKey is what a node is after it got another key.
type NewKey struct {
	Identity
	Old workload.PeerID `json:"old"` // put out from now on
}

func (a *app) rotateKeyCommand() *cobra.Command {
	var abort bool
	cmd := &cobra.Command{
		Use: "rotate-key", Short: "Give this machine's node a new key",
		Long: `Give this machine's node a new key, which is its identity, because somebody may
have read the old one or because it is time. The daemon must not run: drain it, so
that what runs here ends, and stop it. An operator's node has to be reached; it
certifies the new key and denies the old one in one step.

The node keeps its name, its blobs and its owner's key, and with it what it has
submitted; its reputation follows. To its cell it is a newcomer. Tokens that were
made for the old identity, and keys of sealed work that it was to release, are lost
with it: make new tokens, and wait for sealed work to end.

After a crash, or when no operator's node answers, the next start of the daemon or
another perrin rotate-key ends what was begun, and --abort gives it up. A key changes
once a day at most. An operator's node keeps its key: name another operator first,
and take the right from this one. One of two voters of a cell,
or its only one, keeps it too; of three the others have to be up. Whoever else has the old
key can do the same before you do; then this is refused, and an operator has to deny
the other one.`,
		Example: examples("perrin drain && systemctl stop perrin && perrin rotate-key && systemctl start perrin", "perrin rotate-key --data ~/mesh --json", "perrin rotate-key --abort    # keep the old key"),
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := a.daemon()
			if err != nil {
				return err
			}
			v, err := a.settings(cmd)
			if err != nil {
				return err
			}
			if abort {
				return a.abortRotation(d, v.Text("data"))
			}
			k, err := d.RotateKey(cmd.Context(), v.Text("data"))
			if err != nil {
				return err
			}
			return show(a, k, func(k *NewKey) error {
				_, err := fmt.Fprintf(a.stdout, "node  %s (%s)\nwas   %s, which is denied now\n", terminal.Clean(k.Name, 64), k.Node, k.Old)
				a.note("next: `perrin up%s`, or start its service", dataFlag(v))
				return err
			})
		},
	}
	settings.Register(cmd.Flags(), settings.Find("data"))
	cmd.Flags().BoolVar(&abort, "abort", false, "keep the old key, where a change of it was begun and not ended")
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) abortRotation(d Daemon, data string) error {
	id, err := d.AbortRotation(data)
	if err != nil {
		return err
	}
	return show(a, id, func(id *Identity) error {
		_, err := fmt.Fprintf(a.stdout, "node  %s (%s) keeps its key\n", terminal.Clean(id.Name, 64), id.Node)
		a.note("should it be denied now, an operator had taken the new key already: another `perrin rotate-key` goes on with that one")
		return err
	})
}

// AbortRotation implements Daemon.
func (daemon) AbortRotation(data string) (*Identity, error) {
	f, err := node.AbortRotation(data)
	if err != nil {
		return nil, rotateFailure(err)
	}
	return &Identity{Mesh: f.Mesh, Node: f.Node, Name: f.Name, Data: data}, nil
}

func rotateFailure(err error) error {
	hint := node.StartHint(err)
	if errors.Is(err, node.ErrBegun) {
		hint = "the next start of the daemon, or another `perrin rotate-key`, ends it once an operator's node is up; `perrin rotate-key --abort` gives it up"
	}
	return &failure{err: err, code: exitFailure, hint: hint}
}

// RotateKey implements Daemon.
func (daemon) RotateKey(ctx context.Context, data string) (*NewKey, error) {
	r, err := node.RotateKey(ctx, data)
	if err != nil {
		return nil, rotateFailure(err)
	}
	return &NewKey{Identity{Mesh: r.Mesh, Node: r.Node, Name: r.Name, Data: data}, r.Old}, nil
}
