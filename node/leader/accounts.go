package leader

import (
	"context"
	"time"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/rights"
)

// QueryAccounts asks for accounts of the cell's ledger: the answer is the JSON of
// []api.Account. An operator's node gets all of them, any other its own and that of
// whoever gave it the token with the question, unless the token is for some workloads only.
const QueryAccounts = "accounts"

// maxAccounts bounds an answer.
const maxAccounts = 1000

// accounts answers QueryAccounts.
func (l *Leader) accounts(a asker) ([]api.Account, error) {
	mine, err := a.accounts(time.Now())
	if err != nil {
		return nil, err
	}
	all := l.cfg.Operates != nil && l.cfg.Operates(a.from)
	out := []api.Account{}
	l.cfg.Cell.Read(func(s *ledger.State) {
		for _, x := range s.Accounts() {
			if (all || mine[x.Peer]) && len(out) < maxAccounts {
				out = append(out, api.Account{
					Peer: x.Peer, Name: l.people(s).called(x.Peer), Spent: x.Spent, Due: s.Due(x.Peer), Earned: x.Earned, Limit: x.Limit,
				})
			}
		}
	})
	return out, nil
}

// accounts are those of whoever asks and, with a token for all of somebody's work, of that
// one: a token for some workloads says nothing of what others cost.
func (a asker) accounts(now time.Time) (map[workload.PeerID]bool, error) {
	mine := map[workload.PeerID]bool{a.from: true}
	if len(a.token) == 0 {
		return mine, nil
	}
	g, err := a.judge.Grant(a.from, a.token, rights.Observe, now)
	if err != nil {
		return nil, err
	}
	if len(g.Only()) == 0 {
		mine[g.Subject] = true
	}
	return mine, nil
}

// HandleQuota commits an operator's order about an account.
func (l *Leader) HandleQuota(ctx context.Context, _ workload.PeerID, m *wire.QuotaMsg) error {
	o, operator, err := admission.OpenQuota(l.cfg.Mesh, m)
	switch {
	case err != nil:
		return wire.Errorf(wire.Unauthorized, "%v", err)
	case o.Cell != l.cfg.Cell.ID():
		return wire.Errorf(wire.Refused, "the order is about cell %s", o.Cell)
	case l.cfg.IsOperator != nil && !l.cfg.IsOperator(operator):
		return wire.Errorf(wire.Unauthorized, "%s is no operator of the mesh any more", operator.Short())
	}
	q := &ledger.Quota{Account: o.Account, Limit: o.Limit, At: o.At, Order: m.Order, Operator: m.Operator}
	var stands bool
	var rej *ledger.Reject
	l.cfg.Cell.Read(func(s *ledger.State) { stands, rej = s.Ordered(q, time.Now().UnixMilli()) })
	switch {
	case rej != nil: // else whoever has an old order could fill the log with it
		return wire.Errorf(rejectKind(rej.Code), "%v", rej)
	case stands:
		return nil
	}
	_, err = l.propose(ctx, &ledger.Command{Quota: q})
	return err
}
