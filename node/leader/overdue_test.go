package leader

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/fuzzpeers"
)

// TestOverdueSlotIsToldToEnd: a node that renews and returns nothing is told to end
// the slot after its task's timeout and an hour, its other slots go on; when it
// goes on with that one, it is not renewed.
func TestOverdueSlotIsToldToEnd(t *testing.T) {
	base := fuzzBase(t)
	synctest.Test(t, func(t *testing.T) {
		d := newDuel(t, base)
		defer d.end()
		ref := wire.SlotRef{Workload: duelID(runs), Slot: 1, Fence: baseFence}
		node := fuzzpeers.ID(asWorker)
		var open uint32
		d.cell.Read(func(s *ledger.State) {
			slot, _ := s.Slot(ref.Workload, ref.Slot)
			for _, r := range slot.Open {
				open += r.Count
			}
		})
		patience := time.Duration(open)*10*time.Minute + time.Hour
		began, toldAt := time.Now(), time.Duration(0)
		for time.Since(began) < patience+time.Minute {
			answer, err := d.leader.HandleRenew(t.Context(), node, &wire.RenewMsg{Cell: duelCell, Slots: []wire.SlotRef{ref}})
			passed := time.Since(began)
			switch {
			case err == nil && len(answer.Stop) > 0 && toldAt == 0:
				if toldAt = passed; passed < patience || answer.Stop[0] != ref {
					t.Fatalf("after %s: told to end %+v", passed, answer.Stop)
				}
			case errors.Is(err, wire.Expired):
				if toldAt == 0 || passed < toldAt+2*time.Duration(d.leader.cfg.Lease.TTL)*time.Millisecond {
					t.Fatalf("refused after %s, told after %s", passed, toldAt)
				}
				return
			case err != nil:
				t.Fatalf("after %s: %v", passed, err)
			}
			time.Sleep(3 * time.Second) // virtual time
		}
		t.Errorf("it is renewed for ever; told after %s of %s", toldAt, patience)
	})
}
