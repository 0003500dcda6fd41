package worker

import (
	"fmt"
	"slices"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// countersigned returns why a worker does not begin with an award whose owner wants
// it countersigned: a majority of the voters that this node knows must have signed
// the slots that it is given, at their rates.
func (w *Worker) countersigned(award *wire.AwardMsg, c *wire.Countersigned) error {
	voters := w.cfg.Leaders.Voters(award.Cell)
	if c == nil || len(voters) == 0 {
		return fmt.Errorf("the owner wants it countersigned by a majority of the cell's voters: %d of %d did", 0, len(voters))
	}
	slots := wire.SlotsDigest(c.Slots)
	var by []workload.PeerID
	for _, s := range c.Sigs {
		said, err := wire.OpenCountersign(w.cfg.Memo, s)
		switch {
		case err != nil:
			return err
		case said.Cell != award.Cell || said.Workload != award.Workload || said.Auction != award.Auction || said.Slots != slots:
			return fmt.Errorf("%s countersigned another award", s.By.Short())
		case slices.Contains(voters, s.By) && !slices.Contains(by, s.By):
			by = append(by, s.By)
		}
	}
	if len(by)*2 <= len(voters) {
		return fmt.Errorf("%d of the cell's %d voters countersigned it, which is no majority", len(by), len(voters))
	}
	left := slices.Clone(c.Slots)
	for _, a := range award.Slots {
		i := slices.IndexFunc(left, func(s workload.AwardSlot) bool { return s.Node == w.cfg.Self && s.Rate == a.Rate })
		if i < 0 {
			return fmt.Errorf("slot %d at a rate of %d is none that the voters countersigned", a.Slot, a.Rate)
		}
		left = slices.Delete(left, i, i+1)
	}
	return nil
}
