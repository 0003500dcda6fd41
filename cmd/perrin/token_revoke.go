package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/perrin-mesh/perrin/node/api"
)

func (a *app) tokenRevokeCommand() *cobra.Command {
	o := api.TokenToRevoke{}
	cmd := &cobra.Command{
		Use: "revoke FILE", Short: "Take a token back that was given or handed on here",
		Long: `Take a token back that this node, or its owner, gave or handed on: for good, and on
every node that hears of it. FILE is the token's text, as ` + "`perrin token issue`" + ` printed
it, or as anybody else has it who was handed it on; - is stdin. What was handed on
further from it counts no more either. --link takes only a part back: the links
from there on.

Leaders accept nothing under it from then on and stop what runs under it; what it let
its holder read, no node shows any more. Receipts of what ran before still hold, and
what was read is not undone. Whoever gave a link or one before it may revoke it. It
cannot be taken back: make a new token. A node that is cut off hears of it when it is
back. 256 are remembered, 32 from each node, until their tokens end by themselves.`,
		Example: examples("perrin token revoke guest.token", "perrin token revoke cellar.token --link 2    # the token of link 1 still counts"),
		Args:    exactly(1, "one FILE"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if cmd.Flags().Changed("link") && o.Link < 1 {
				return usagef("`perrin token inspect FILE` numbers the links", "--link: want 1 or more, got %d", o.Link)
			}
			if o.Token, err = a.readToken(args[0]); err != nil {
				return err
			}
			return a.withBackend(func(b *backend) error {
				r, err := b.RevokeToken(cmd.Context(), o)
				if err != nil {
					return err
				}
				return show(a, r, a.printRevoked)
			})
		},
	}
	cmd.Flags().IntVar(&o.Link, "link", 0, "revoke this link and what follows it (default: the last)")
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) printRevoked(r *api.RevokedLink) error {
	text := "is revoked"
	if r.Already {
		text = "was revoked already"
	}
	_, err := fmt.Fprintf(a.stdout, "link %d, for %s, %s\n", r.Link, r.Holder.Short(), text)
	return err
}

// askRevoked asks the daemon, if one runs, whether it has heard that a token was revoked.
func (a *app) askRevoked(ctx context.Context, text string, v *tokenView) {
	b, err := a.connect()
	if err != nil {
		return
	}
	defer b.close()
	c, err := b.CheckToken(ctx, text)
	if err != nil {
		return // of another mesh, say: what is wrong with it by itself was found before
	}
	if v.Asked = true; c.Revoked != "" && v.Valid {
		v.Valid, v.Wrong = false, c.Revoked
	}
}
