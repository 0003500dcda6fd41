package leader

import (
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
// what voters are to countersign, who must know the workload by then.
func (l *Leader) early(id workload.ID, spec *workload.Spec, m *wire.Submit) {
	if lot, now := ledger.Prospect(id, m.Spec.By, spec, l.cellNow()); now && len(m.Token) == 0 && !spec.Countersign {
		l.feed(scheduler.Input{Lot: deskLot(lot)})
	}
}
