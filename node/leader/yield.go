package leader

import (
	"slices"
	"time"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/scheduler"
	"github.com/perrin-mesh/perrin/workload"
)

// Sharing: a workload of many tasks must not keep others out until its last
// task. When a workload without any slot has waited for hungryAfter, slots of
// others that have more than one, or have had theirs for turn, end with their
// present tasks, and what they free is auctioned to the one that waits.
const (
	hungryAfter = 500 * time.Millisecond
	turn        = 5 * time.Second
	lookEvery   = time.Second // between two looks at who waits
	maxHungry   = 16
)

// hungry is a workload that waits for its first slot.
type hungry struct {
	id    workload.ID
	slots uint32                   // that may still be yielded to it
	nodes map[workload.PeerID]bool // whose capacity it lacks
}

// lookAround finds who waits for a first slot that a node could free.
func (l *Leader) lookAround(now int64) {
	if now < l.lookAt {
		return
	}
	l.lookAt = now + lookEvery.Milliseconds()
	l.hungry = l.hungry[:0]
	var ids []workload.ID
	cellNow := l.cellNow()
	l.cfg.Cell.Read(func(s *ledger.State) {
		for lot := range s.Lots(0) {
			if lot.Live == 0 && cellNow-lot.Since > hungryAfter.Milliseconds() {
				ids = append(ids, lot.ID)
			}
			if len(ids) == maxHungry {
				return
			}
		}
	})
	for _, id := range ids {
		if round := l.desk.Last(id); round != nil {
			l.hungry = append(l.hungry, hungry{id: id, slots: min(round.Wanted, 64), nodes: short(round)})
		}
	}
}

// short lists the nodes that a lot fits but for what is taken.
func short(r *scheduler.Round) map[workload.PeerID]bool {
	nodes := map[workload.PeerID]bool{}
	for _, d := range r.Declines {
		taken := len(d.Reasons) > 0 && !slices.ContainsFunc(d.Reasons, func(r workload.Reason) bool {
			switch r.Code {
			case workload.NoCores, workload.NoThreads, workload.NoMemory, workload.NoDisk, workload.NoSlots:
				return false
			}
			return true
		})
		if taken {
			nodes[d.Node] = true
		}
	}
	return nodes
}

// yields reports whether a slot is to end so that somebody who waits gets a
// turn. The owner calls it.
func (l *Leader) yields(slot *ledger.Slot, id workload.ID, slots int) bool {
	held := l.cellNow() - slot.Awarded
	if slots < 2 && held < turn.Milliseconds() {
		return false
	}
	for i := range l.hungry {
		h := &l.hungry[i]
		if h.id != id && h.slots > 0 && h.nodes[slot.Node] {
			h.slots--
			return true
		}
	}
	return false
}
