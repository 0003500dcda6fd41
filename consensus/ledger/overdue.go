package ledger

import (
	"math"
	"time"

	"github.com/perrin-mesh/perrin/workload"
)

// overdueGrace is the time, in ms, that a node has beside its tasks' timeouts:
// to fetch what a task needs and to hand in what came out.
const overdueGrace = int64(time.Hour / time.Millisecond)

// Overdue returns the slots of node that must have closed a task by now: since
// the award, its last close and from, every task that it holds could have run
// into its timeout, and an hour more has passed. Who renews its lease and returns
// nothing would keep the tasks for ever (giving them back and taking others in
// their place ends no such time): a leader tells it to end the slot, and
// does not renew it if it goes on. Spare work has no such time: it waits for as
// long as its node's owner needs the machine. now and from are ms of the ledger's
// time.
func (s *State) Overdue(node workload.PeerID, now, from int64) (late []SlotRef) {
	n := s.nodes[node]
	if n == nil {
		return nil
	}
	for _, key := range n.sorted() {
		l := n.slots[key]
		if sl := l.slots[key.slot]; sl.open.n > 0 && now-max(sl.Since, from) > l.patience(sl) {
			late = append(late, SlotRef{l.ID, key.slot, node})
		}
	}
	return late
}

// patience is how long in ms a slot may return nothing.
func (l *load) patience(sl *slot) int64 {
	if l.Spec.Resources.Class == workload.Spare {
		return math.MaxInt64
	}
	return min(saturatedMul(l.Spec.Timeout, int64(sl.open.n)), math.MaxInt64-overdueGrace) + overdueGrace
}
