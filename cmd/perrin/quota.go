package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/perrin-mesh/perrin/cmd/perrin/internal/terminal"
	"github.com/perrin-mesh/perrin/node/api"
)

func (a *app) quotaCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "quota [OWNER]", Short: "Show what owners have spent and may spend",
		Long: `Show what the owner of this node has spent in this cell, in micro-credits, what is
due for results that are not judged yet, what may be spent, and what this node has
earned. An operator's node shows all accounts of the cell.

An owner whose quota is spent submits nothing more, and what runs for it is stopped.
It is counted when results are paid, so what runs then may exceed it, by the whole
price of a task: --max-price and --timeout bound that.
Tokens carry quotas of their own: perrin token issue --help.`,
		Example: examples("perrin quota", "perrin quota 12D3KooW… --json", "perrin quota set 12D3KooW… 5000000    # on an operator's node", "perrin quota set 12D3KooW… none"),
		Args:    atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withBackend(func(b *backend) error {
				list, err := b.Accounts(cmd.Context())
				if err != nil {
					return err
				}
				if len(args) == 1 {
					list = slices.DeleteFunc(list, func(x api.Account) bool { return !x.Called(args[0]) })
					if len(list) == 0 {
						return &api.Error{Kind: api.NotFound, Message: fmt.Sprintf("no account that this node may see begins with %.80q", args[0]),
							Hint: "`perrin quota` lists them; an operator's node sees all, and one that has neither spent nor a quota is in none"}
					}
				}
				return show(a, list, a.printAccounts)
			})
		},
	}
	set := &cobra.Command{
		Use: "set OWNER LIMIT", Short: "Set what an owner may spend in this cell",
		Long: `Set what an owner may spend in this cell, in micro-credits since its first workload;
"none" lifts the limit. OWNER is its key, which perrin quota shows on its node, or the
beginning of one that the cell knows. Type it on an operator's node: the operator signs
the order, every server of the cell checks it, and a later order stands.`,
		Example: examples("perrin quota set 12D3KooW… 5000000    # 5 credits", "perrin quota set 12D3KooW… none"),
		Args:    exactly(2, "OWNER and LIMIT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			limit, err := limitOf(args[1])
			if err != nil {
				return err
			}
			return a.withBackend(func(b *backend) error {
				x, err := b.SetQuota(cmd.Context(), api.QuotaChange{Account: args[0], Limit: limit})
				if err != nil {
					return err
				}
				return show(a, x, func(x *api.Account) error { return a.printAccounts([]api.Account{*x}) })
			})
		},
	}
	a.jsonFlag(cmd)
	a.jsonFlag(set)
	cmd.AddCommand(set)
	return cmd
}

func limitOf(text string) (int64, error) {
	if text == "none" {
		return -1, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, usagef("perrin quota set OWNER 5000000", "LIMIT: want a number of micro-credits, 0 or more, or none; got %.40q", text)
	}
	return n, nil
}

// micro returns an amount in the unit that limits are typed in.
func micro(n int64) string { return terminal.Count(n) + " µcr" }

func (a *app) printAccounts(list []api.Account) error {
	slices.SortStableFunc(list, func(x, y api.Account) int { return cmp.Compare(y.Spent, x.Spent) })
	t := terminal.NewTable("ACCOUNT", "WHO", "SPENT ", "DUE ", "LIMIT ", "LEFT ", "EARNED ")
	for _, x := range list {
		limit, left := "none", "-"
		if x.Limit >= 0 {
			limit, left = micro(x.Limit), micro(max(0, x.Limit-min(x.Limit, x.Spent)-x.Due))
		}
		who := orElse(terminal.Clean(x.Name, 64), "-")
		if x.Own {
			who = "you"
		}
		t.Row(x.Peer.String(), who, micro(x.Spent), micro(x.Due), limit, left, micro(x.Earned))
	}
	return t.Write(a.stdout)
}
