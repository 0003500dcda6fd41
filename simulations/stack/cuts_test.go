package stack_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/simulations/stack"
	"github.com/perrin-mesh/perrin/workload"
)

// TestTheLeaderIsCutOff: the others elect one of them and go on, the old one
// acknowledges nothing, and what runs on it ends with its lease.
func TestTheLeaderIsCutOff(t *testing.T) {
	for name, cut := range map[string]func(w *world, lead *stack.Machine){
		"from everybody":               func(w *world, lead *stack.Machine) { w.Split(lead) },
		"and hears what others say":    func(w *world, lead *stack.Machine) { w.Mute(lead) },
		"and is heard, and hears none": func(w *world, lead *stack.Machine) { w.Mute(w.rest(lead)...) },
	} {
		t.Run(name, func(t *testing.T) {
			long(t)
			live(t, stack.Options{Nodes: 5, Link: wan(0)}, func(t *testing.T, w *world) {
				lead := w.leader(w.Machines[4])
				other := w.rest(lead)[0]
				id := w.submit(other, stack.Spec(100, time.Second))
				w.until(lead, id, time.Minute, "every machine works", func(v *api.Workload) bool { return len(v.Slots) == 10 })
				cut(w, lead)
				if id, err := w.trySubmit(lead, 20*time.Second, stack.Spec(1, time.Second)); err == nil {
					t.Errorf("a leader that is cut off acknowledged %s", id.Short())
				}
				next := w.leader(other, lead)
				w.until(next, w.submit(other, stack.Spec(8, time.Second)), time.Minute, "what comes after ends", ended)
				w.until(next, id, 3*time.Minute, "what came before ends", ended)
				w.Heal()
				st := w.await(lead, time.Minute, "the old leader follows", func(st *api.Status) bool { return st.Ready })
				if st.Cells[0].Leader == lead.ID() {
					t.Log("the old leader leads again")
				}
			})
		})
	}
}

// TestThirtyLoseTheirLeader: thirty nodes on lossy links, whose leader is cut off
// while they work, go on with another, and it follows when it is back.
func TestThirtyLoseTheirLeader(t *testing.T) {
	long(t)
	live(t, stack.Options{Nodes: 30, Seed: 1, Link: wan(0.02)}, func(t *testing.T, w *world) {
		lead := w.leader(w.Machines[4])
		other := w.rest(lead)[0]
		id := w.submit(other, stack.Spec(120, time.Second))
		w.until(lead, id, time.Minute, "half of the machines work", func(v *api.Workload) bool { return len(v.Slots) >= 30 })
		w.Split(lead)
		next := w.leader(other, lead)
		w.until(next, w.submit(other, stack.Spec(8, time.Second)), time.Minute, "what comes after ends", ended)
		w.until(next, id, 3*time.Minute, "what came before ends", ended)
		w.Heal()
		w.await(lead, time.Minute, "the old leader follows", func(st *api.Status) bool { return st.Ready })
	})
}

// TestAMinorityIsCutOff: two of five voters and two members lose the rest. The
// majority serves its clients; the minority says that it cannot.
func TestAMinorityIsCutOff(t *testing.T) {
	for _, withLeader := range []bool{false, true} {
		t.Run(fmt.Sprintf("the leader among it: %t", withLeader), func(t *testing.T) {
			long(t)
			live(t, stack.Options{Nodes: 9, Link: wan(0)}, func(t *testing.T, w *world) {
				voters := w.voters()
				few := voters[3:]
				if withLeader {
					few = voters[:2]
				}
				members := w.rest(voters...)
				few = append(slices.Clone(few), members[:2]...)
				many := w.rest(few...)
				id := w.submit(few[0], stack.Spec(150, time.Second))
				w.until(many[0], id, time.Minute, "every machine works", func(v *api.Workload) bool { return len(v.Slots) == 18 })
				w.Split(few...)
				for _, x := range few {
					if id, err := w.trySubmit(x, 20*time.Second, stack.Spec(1, time.Second)); err == nil {
						t.Errorf("%s, in the minority, got %s acknowledged", x.Name, id.Short())
					}
				}
				after := w.submit(many[len(many)-1], stack.Spec(30, time.Second))
				w.until(many[0], after, 2*time.Minute, "what comes after ends", ended)
				v := w.until(many[0], id, 3*time.Minute, "what came before ends", ended)
				if v.Lost == 0 {
					t.Error("four machines were cut off at work, and no attempt was lost")
				}
			})
		})
	}
}

// TestAStandbyIsCutOffAsItJoins: it has opened its server and not heard a single
// entry when it is cut off, and the leader that added it dies. The next leader
// is one that its empty log does not name.
func TestAStandbyIsCutOffAsItJoins(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		t.Run(fmt.Sprintf("and restarts: %t", restarted), func(t *testing.T) {
			live(t, stack.Options{Nodes: 3, Link: wan(0)}, func(t *testing.T, w *world) {
				if err := w.Grow(w.ctx, 1); err != nil {
					t.Fatal(err)
				}
				fresh, lead := w.Machines[3], w.leader(w.Machines[0])
				for tick := time.NewTicker(time.Millisecond); ; <-tick.C {
					if s, ok := fresh.Ledger(); ok {
						w.Split(fresh)
						t.Logf("cut off at entry %d", s.Index)
						break
					}
				}
				if err := lead.Crash(); err != nil {
					t.Error(err)
				}
				w.leader(w.rest(lead, fresh)[0], lead)
				if restarted {
					if err := fresh.Crash(); err != nil {
						t.Error(err)
					}
					if err := fresh.Start(w.ctx); err != nil {
						t.Fatal(err)
					}
				}
				w.Heal()
				w.await(fresh, time.Minute, "it serves", func(st *api.Status) bool { return st.Ready && st.Cells[0].Members == 4 })
			})
		})
	}
}

// TestAWorkerIsCutOffForLongerThanItsLease: its attempt ends with its lease, by
// its own clock, and only then does the task run elsewhere.
func TestAWorkerIsCutOffForLongerThanItsLease(t *testing.T) {
	for _, drift := range []float64{0, 0.001, -0.001} {
		t.Run(fmt.Sprint(drift), func(t *testing.T) {
			if drift >= 0 { // a slow clock is the one that could do harm
				long(t)
			}
			opt := stack.Options{Nodes: 4, Link: wan(0), Drift: func(i int) float64 { return drift * float64(i%2) }}
			live(t, opt, func(t *testing.T, w *world) {
				victim, id, cut := w.cutAtWork(30 * time.Second)
				v := w.until(w.Machines[0], id, 2*time.Minute, "it ends", ended)
				if v.Lost != 1 {
					t.Errorf("%d attempts were lost, want one", v.Lost)
				}
				stints := w.Journal.Of(id)
				if len(stints) != 2 || stints[0].Machine != victim.Index || stints[0].End != stack.LeaseEnded || stints[1].End != stack.Done {
					t.Fatalf("it ran as %+v", stints)
				}
				ran, gap := stints[0].To.Sub(cut), stints[1].From.Sub(stints[0].To)
				if ran > 9100*time.Millisecond || ran < 5*time.Second {
					t.Errorf("the attempt ran for %s after the cut; a lease is 9 s", ran)
				}
				if gap < 0 || gap > 5*time.Second {
					t.Errorf("the task stood still for %s, want 1 s of guard and what placing takes", gap)
				}
				t.Logf("clock %+.1f%%: ran %s after the cut, stood still for %s", 100*drift, ran, gap)
			})
		})
	}
}

// TestAWorkerIsCutOffWithItsLeader: a leader that cannot ask a majority must not
// go on granting leases to those that still hear it.
func TestAWorkerIsCutOffWithItsLeader(t *testing.T) {
	for name, cut := range map[string]func(w *world, pair ...*stack.Machine){
		"both ways":                func(w *world, pair ...*stack.Machine) { w.Split(pair...) },
		"and hear what others say": func(w *world, pair ...*stack.Machine) { w.Mute(pair...) },
		"and are heard":            func(w *world, pair ...*stack.Machine) { w.Mute(w.rest(pair...)...) },
	} {
		t.Run(name, func(t *testing.T) {
			long(t)
			opt := stack.Options{Nodes: 7, Link: wan(0), Drift: func(i int) float64 { return 0.001 * float64(i%3-1) }}
			live(t, opt, func(t *testing.T, w *world) {
				victim, id := w.atWork(40 * time.Second)
				lead := w.leader(victim)
				cut(w, lead, victim)
				began := time.Now()
				v := w.until(w.rest(lead, victim)[0], id, 3*time.Minute, "it ends", ended)
				// One that is heard may say that its lease has ended before the cell concludes it.
				if v.Lost+v.Retries != 1 {
					t.Errorf("%d attempts were lost and %d reported as ended, want one", v.Lost, v.Retries)
				}
				stints := w.Journal.Of(id)
				if len(stints) != 2 || stints[0].End != stack.LeaseEnded || stints[1].End != stack.Done {
					t.Fatalf("it ran as %+v", stints)
				}
				t.Logf("ran %s after the cut, stood still for %s", stints[0].To.Sub(began), stints[1].From.Sub(stints[0].To))
			})
		})
	}
}

// TestTheJournalSeesALeaseThatLastsTooLong plants what leases must not have, a
// clock that runs a fifth slow: the worker's lease lasts until after the cell has
// given its task to somebody else. The journal must show it.
func TestTheJournalSeesALeaseThatLastsTooLong(t *testing.T) {
	opt := stack.Options{Nodes: 4, Link: wan(0), Drift: func(i int) float64 { return -0.2 * min(1, float64(i)) }}
	live(t, opt, func(t *testing.T, w *world) {
		_, id, _ := w.cutAtWork(30 * time.Second)
		w.until(w.Machines[0], id, 2*time.Minute, "it ends", ended)
		if len(w.Journal.Overlaps()) == 0 {
			t.Errorf("two machines ran it at once, and the journal shows %+v", w.Journal.Of(id))
		}
		w.doubled = true
	})
}

// cutAtWork cuts off a machine that runs a long task.
func (w *world) cutAtWork(d time.Duration) (victim *stack.Machine, id workload.ID, cut time.Time) {
	w.t.Helper()
	victim, id = w.atWork(d)
	w.Split(victim)
	return victim, id, time.Now()
}

// atWork submits long tasks one by one until one runs on a machine that is
// neither the leader nor the one that asks.
func (w *world) atWork(d time.Duration) (victim *stack.Machine, id workload.ID) {
	w.t.Helper()
	lead := w.leader(w.Machines[0])
	for range len(w.Machines) {
		id = w.submit(w.Machines[0], stack.Spec(1, d))
		w.until(w.Machines[0], id, time.Minute, "it runs", func(*api.Workload) bool { return len(w.Journal.Of(id)) == 1 })
		victim = w.Machines[w.Journal.Of(id)[0].Machine]
		if victim != lead && victim != w.Machines[0] {
			return victim, id
		}
	}
	w.t.Fatal("the leader and the machine that asks got all the work")
	return nil, id
}
