package leader

import (
	"errors"
	"sync"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/scheduler"
	"github.com/perrin-mesh/perrin/workload"
)

// early puts a workload on the desk while its ACCEPT is being committed, so that
// the calls for bids are out meanwhile. Nothing rests on their order: an award
// that comes to the log before the ACCEPT, or without it, is rejected, and
// refresh then takes the lot off the desk again. What waits for other workloads
// is not called for, nor what a token pays for, which the ledger may refuse, nor
// what voters are to countersign, who must know the workload by then. The caller
// calls settled when the ACCEPT has been committed, or has failed.
func (l *Leader) early(id workload.ID, spec *workload.Spec, m *wire.Submit) (settled func()) {
	lot, now := ledger.Prospect(id, m.Spec.By, spec, l.cellNow())
	if !now || len(m.Token) > 0 || spec.Countersign {
		return func() {}
	}
	settled = l.accepting.begin(id)
	l.feed(scheduler.Input{Lot: deskLot(lot)})
	return settled
}

// unsettled are the workloads whose ACCEPT is being committed. Its methods are safe
// for concurrent use.
type unsettled struct {
	mu   sync.Mutex
	over map[workload.ID]chan struct{} // closed by who began it
}

func (u *unsettled) begin(id workload.ID) (settled func()) {
	over := make(chan struct{})
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.over == nil {
		u.over = map[workload.ID]chan struct{}{}
	}
	u.over[id] = over
	return func() {
		close(over)
		u.mu.Lock()
		defer u.mu.Unlock()
		if u.over[id] == over { // and not that of the same submission, sent once more
			delete(u.over, id)
		}
	}
}

// of returns what is closed when a workload's ACCEPT is settled, nil when none is
// under way.
func (u *unsettled) of(id workload.ID) chan struct{} {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.over[id]
}

// proposeAward commits an award. One that overtook its workload's ACCEPT on the way
// to the log is proposed once more when that is settled, since its bids still hold.
func (l *Leader) proposeAward(a *ledger.Award) (ledger.Result, error) {
	accepting := l.accepting.of(a.Workload)
	command := func() *ledger.Command {
		return &ledger.Command{Certs: l.certsOf(append(signers(a), l.cfg.Self)...), Award: a}
	}
	res, err := l.propose(l.ctx, command())
	if accepting == nil || !errors.Is(err, wire.NotFound) {
		return res, err
	}
	select {
	case <-accepting:
	case <-l.ctx.Done():
	}
	return l.propose(l.ctx, command())
}
