package node

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"time"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/node/leader"
	"github.com/perrin-mesh/perrin/workload"
)

// Accounts implements api.Backend. What this node's owner has not used is there too.
func (g gateway) Accounts(ctx context.Context) ([]api.Account, error) {
	var out []api.Account
	if err := g.n.query(ctx, g.n.homeCell(), &wire.QueryMsg{Op: leader.QueryAccounts}, &out); err != nil {
		return nil, err
	}
	for i := range out {
		out[i].Own = out[i].Peer == idOf(g.n.id.owner)
	}
	if !slices.ContainsFunc(out, func(a api.Account) bool { return a.Own }) {
		out = append(out, api.Account{Peer: idOf(g.n.id.owner), Own: true, Limit: -1})
	}
	return out, nil
}

// SetQuota implements api.Backend.
func (g gateway) SetQuota(ctx context.Context, c api.QuotaChange) (*api.Account, error) {
	n := g.n
	issuer, err := n.operatorHere()
	if err != nil {
		return nil, err
	}
	if c.Limit < -1 {
		return nil, api.Errorf(api.Invalid, "limit: want micro-credits, 0 or more, or -1 for none, got %d", c.Limit)
	}
	account, err := g.accountNamed(ctx, c.Account)
	if refused := n.refuseNodeQuota(n.names(ctx), c, account); refused != nil {
		return nil, refused
	}
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	m := issuer.Quota(n.homeCell(), account, c.Limit, time.Now())
	if err := n.CallLeader(ctx, n.homeCell(), wire.ProtoQuota, &m, &wire.Ack{}); err != nil {
		return nil, apiError(err)
	}
	list, err := g.Accounts(ctx)
	if err != nil {
		return nil, err
	}
	for i := range list {
		if list[i].Peer == account {
			return &list[i], nil
		}
	}
	return &api.Account{Peer: account, Limit: c.Limit}, nil
}

// refuseNodeQuota refuses a limit of a node's account, which only earns: what is submitted
// on a node counts for its owner's key, which is another. Account is zero when c names
// none. A limit that such an account has can be taken away.
func (n *Node) refuseNodeQuota(names map[workload.PeerID]string, c api.QuotaChange, account workload.PeerID) error {
	node := nodeMeant(names, c.Account, account)
	if node.IsZero() || c.Limit < 0 && !account.IsZero() {
		return nil
	}
	limit, name := "none", names[node]
	if c.Limit >= 0 {
		limit = strconv.FormatInt(c.Limit, 10)
	}
	if owner := n.submitsAt(node); !owner.IsZero() {
		return &api.Error{Kind: api.Refused, Message: fmt.Sprintf("%s is a node, whose account only earns; what is submitted there counts for its owner, %s", name, owner),
			Hint: fmt.Sprintf("`perrin quota set %s %s`", owner, limit)}
	}
	return &api.Error{Kind: api.Refused, Message: name + " is a node, whose account only earns; what is submitted there counts for its owner, whose key is another",
		Hint: fmt.Sprintf("`perrin quota` on %s shows that key whole with --json: `perrin quota set KEY %s` here", name, limit)}
}

// nodeMeant returns the node of names whose account that is, or that is called text, or
// the zero value.
func nodeMeant(names map[workload.PeerID]string, text string, account workload.PeerID) (node workload.PeerID) {
	if names[account] != "" {
		return account
	}
	for id, name := range names {
		if account.IsZero() && name == text && text != "" {
			node = id
		}
	}
	return node
}

// submitsAt returns the key that owns what is submitted on a node: that of the newest
// workload from there that this node's copy of the cell's ledger has, or the zero value.
func (n *Node) submitsAt(node workload.PeerID) (owner workload.PeerID) {
	if node == n.self {
		return idOf(n.id.owner)
	}
	if c := n.currentCell(); c != nil {
		c.Read(func(s *ledger.State) { owner = newestOwner(s.List(ledger.Filter{}), node) })
	}
	return owner
}

// newestOwner is whose the newest of some workloads is that were submitted on a node.
func newestOwner(all iter.Seq[ledger.View], node workload.PeerID) (owner workload.PeerID) {
	var newest uint64
	for v := range all {
		if v.Home == node && v.Seq >= newest {
			owner, newest = v.Owner, v.Seq
		}
	}
	return owner
}

// accountNamed finds an account by the beginning or the end of its key as it is shown.
// A whole key need not be known yet.
func (g gateway) accountNamed(ctx context.Context, text string) (account workload.PeerID, err error) {
	if key, err := workload.ParsePeerID(text); err == nil {
		return key, nil
	}
	list, err := g.Accounts(ctx)
	if err != nil {
		return account, err
	}
	for _, a := range list {
		switch {
		case !a.Called(text):
		case !account.IsZero():
			return account, &api.Error{Kind: "ambiguous", Message: "several accounts begin with " + text, Hint: "`perrin quota --json` has their whole keys"}
		default:
			account = a.Peer
		}
	}
	if account.IsZero() {
		return account, &api.Error{Kind: api.NotFound, Message: "no account begins with " + text,
			Hint: "name an owner by the whole key, which `perrin quota` shows on its node, to set a quota before it runs anything"}
	}
	return account, nil
}

// operates reports whether a node is an operator's.
func (n *Node) operates(node workload.PeerID) bool {
	ops := n.id.trust.Charter().Operators
	if len(ops) == 0 { // nobody but the founder, whose node says so itself
		return node == n.self && n.id.issuer.Load() != nil
	}
	return slices.ContainsFunc(ops, func(o admission.Operator) bool { return o.Node == node })
}

// isOperator reports whether a key is an operator's that counts.
func (n *Node) isOperator(key workload.PeerID) bool {
	ops := n.id.trust.Charter().Operators
	return len(ops) == 0 || slices.ContainsFunc(ops, func(o admission.Operator) bool { return o.Key == key })
}

// openQuota verifies that an operator of the cell's mesh gave an order.
func openQuota(mesh workload.MeshID, cell workload.CellID, c *ledger.Quota) error {
	o, _, err := admission.OpenQuota(mesh, &wire.QuotaMsg{Order: c.Order, Operator: c.Operator})
	switch {
	case err != nil:
		return err
	case o.Cell != cell || o.Account != c.Account || o.Limit != c.Limit || o.At != c.At:
		return wire.Errorf(wire.Refused, "the signed order is about something else")
	}
	return nil
}
