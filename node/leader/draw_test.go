package leader

import (
	"testing"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/workload"
)

// An owner's node that says nothing holds up its own draws alone, however many they are,
// and no more goroutines ask it than may at once.
func TestASilentNodeHoldsUpItsOwnDrawsAlone(t *testing.T) {
	var q drawQueue
	silent, other := workload.PeerID{1}, workload.PeerID{2}
	begun := 0
	for i := range uint32(10 * maxDraws) {
		if q.add(&ledger.Undrawn{Home: silent, Task: i}) {
			begun++
			if u, ok := q.next(silent); !ok || u.Task != i { // and gets no answer
				t.Fatalf("%+v, %v", u, ok)
			}
		}
	}
	if begun != maxDraws {
		t.Errorf("%d ask the silent one", begun)
	}
	if !q.add(&ledger.Undrawn{Home: other, Task: 7}) {
		t.Error("nobody asks the other one")
	}
	if u, ok := q.next(other); !ok || u.Task != 7 {
		t.Errorf("%+v, %v", u, ok)
	}
	if _, ok := q.next(other); ok || len(q.asking) != 1 {
		t.Errorf("the other one has another: %v", q.asking)
	}
	for i := range uint32(9 * maxDraws) {
		if u, ok := q.next(silent); !ok || u.Task != maxDraws+i {
			t.Errorf("draw %d: %+v, %v", i, u, ok)
		}
	}
	for range begun {
		q.next(silent)
	}
	if len(q.waiting)+len(q.asking) != 0 {
		t.Errorf("left: %v, %v", q.waiting, q.asking)
	}
}
