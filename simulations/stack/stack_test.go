package stack_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/simulations/stack"
)

// TestAMeshForms: machines join by invitation, all at once, the cell gets the
// voters it should have, and work from every side runs once.
func TestAMeshForms(t *testing.T) {
	for _, nodes := range []int{1, 3, 9, 30} {
		t.Run(fmt.Sprintf("%d nodes", nodes), func(t *testing.T) {
			if nodes > 3 {
				long(t)
			}
			live(t, stack.Options{Nodes: nodes, Link: wan(0)}, func(t *testing.T, w *world) {
				w.submit(w.Machines[nodes-1], stack.Spec(uint32(20*nodes), 200*time.Millisecond))
				w.submit(w.Machines[nodes/2], stack.Spec(1, 3*time.Second))
				w.submit(w.Machines[0], stack.Spec(uint32(nodes), time.Second))
				for _, p := range w.promised {
					v := w.until(w.Machines[0], p.id, time.Minute, "it ends", ended)
					if v.Lost != 0 || v.Retries != 0 || v.Tasks.Done != p.spec.Tasks.Count {
						t.Errorf("lost %d, retried %d, tasks %+v", v.Lost, v.Retries, v.Tasks)
					}
				}
				w.once()
			})
		})
	}
}

// TestLoss: packets that are lost cost time and nothing else.
func TestLoss(t *testing.T) {
	for _, c := range []struct {
		nodes int
		loss  float64
	}{{3, 0.02}, {9, 0.02}, {9, 0.1}} {
		t.Run(fmt.Sprintf("%d nodes, %g", c.nodes, c.loss), func(t *testing.T) {
			long(t)
			live(t, stack.Options{Nodes: c.nodes, Seed: 1, Link: wan(c.loss)}, func(t *testing.T, w *world) {
				for i := range 5 {
					w.submit(w.Machines[2*i%c.nodes], stack.Spec(60, 500*time.Millisecond))
				}
				for _, p := range w.promised {
					w.until(w.Machines[c.nodes-1], p.id, 2*time.Minute, "it ends", ended)
				}
			})
		})
	}
}

// TestANodeIsStoppedAndStarted: its owner stops it while it works. It says
// goodbye, so nobody waits for its leases, and it comes back as who it was.
func TestANodeIsStoppedAndStarted(t *testing.T) {
	live(t, stack.Options{Nodes: 3, Link: wan(0)}, func(t *testing.T, w *world) {
		id := w.submit(w.Machines[0], stack.Spec(60, time.Second))
		w.until(w.Machines[0], id, time.Minute, "every machine works", func(v *api.Workload) bool { return len(v.Slots) == 6 })
		for _, x := range w.Machines[1:] {
			was := x.ID()
			if err := x.Stop(); err != nil {
				t.Error(err)
			}
			if err := x.Start(w.ctx); err != nil {
				t.Fatal(err)
			}
			st := w.await(x, time.Minute, "it is ready", func(st *api.Status) bool { return st.Ready })
			if st.Node != was {
				t.Errorf("%s is %s now and was %s", x.Name, st.Node, was)
			}
		}
		w.until(w.Machines[0], id, 2*time.Minute, "it ends", ended)
	})
}
