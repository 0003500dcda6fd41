package leader

import (
	"context"
	"time"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/tenancy"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/rights"
)

// asker is who put a question, with the token that came along.
type asker struct {
	from  workload.PeerID
	token []workload.Signed
	judge tenancy.Judge
}

func (l *Leader) asker(from workload.PeerID, token []workload.Signed) asker {
	return asker{from, token, l.judge()}
}

// may returns an error of kind wire.NotYours when a workload is none of the
// asker's. Signatures are verified without the ledger's lock.
func (l *Leader) may(a asker, c rights.Capability, id workload.ID) error {
	var w tenancy.Workload
	err := l.withOutline(id, func(_ *ledger.State, v *ledger.View, _ int) {
		w = tenancy.Workload{ID: v.ID, Owner: v.Owner, Payer: v.Payer, Home: v.Home}
	})
	if err != nil {
		return err
	}
	return a.judge.May(a.from, a.token, c, w, time.Now())
}

// lists returns which workloads the asker may see in a list: those that were
// submitted on its node and those that its token is about.
func (a asker) lists() (func(v *ledger.View) bool, error) {
	if len(a.token) == 0 {
		return func(v *ledger.View) bool { return v.Home == a.from }, nil
	}
	g, err := a.judge.Grant(a.from, a.token, rights.Observe, time.Now())
	if err != nil {
		return nil, err
	}
	return func(v *ledger.View) bool {
		return v.Home == a.from || g.Covers(v.Owner, v.ID) || g.Covers(v.Payer, v.ID)
	}, nil
}

// withReadable is withWorkload for who may read it.
func (l *Leader) withReadable(a asker, id workload.ID, f func(*ledger.State, *ledger.View)) error {
	if err := l.may(a, rights.Observe, id); err != nil {
		return err
	}
	return l.withWorkload(id, f)
}

// HandleQuery answers from the ledger and the desk. What it says of the ledger is
// no older than the question, so that nobody who reads twice, wherever, goes back.
// Of a workload it tells its owner and whom the owner gave a token.
func (l *Leader) HandleQuery(ctx context.Context, from workload.PeerID, m *wire.QueryMsg) (*wire.QueryAnswer, error) {
	v, err := l.query(ctx, l.asker(from, m.Token), m)
	if err != nil {
		return nil, err
	}
	return answerOf(m.Op, v)
}
