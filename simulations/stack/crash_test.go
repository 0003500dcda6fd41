package stack_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/simulations/stack"
)

// TestMachinesCrash: one after another, at work, as in a power cut; in the end
// all at once. What was acknowledged ends as it should.
func TestMachinesCrash(t *testing.T) {
	long(t)
	live(t, stack.Options{Nodes: 5, Link: wan(0)}, func(t *testing.T, w *world) {
		for round := range 3 {
			lead := w.leader(w.anyone())
			victim := w.rest(lead)[round]
			if round == 1 {
				victim = lead
			}
			other := w.rest(victim)[0]
			id := w.submit(other, stack.Spec(60, time.Second))
			w.until(other, id, time.Minute, "every machine works", func(v *api.Workload) bool { return len(v.Slots) == 10 })
			if err := victim.Crash(); err != nil {
				t.Error(err)
			}
			w.submit(other, stack.Spec(5, time.Second))
			w.until(other, id, 2*time.Minute, "it ends without the machine", func(v *api.Workload) bool { return v.Phase.Ended() })
			if err := victim.Start(w.ctx); err != nil {
				t.Fatal(err)
			}
			w.whole()
		}
		id := w.submit(w.Machines[0], stack.Spec(60, time.Second))
		w.until(w.Machines[0], id, time.Minute, "it runs", func(v *api.Workload) bool { return v.Tasks.Done > 20 })
		w.submit(w.Machines[3], stack.Spec(7, time.Second))
		for _, x := range w.Machines {
			if err := x.Crash(); err != nil {
				t.Error(err)
			}
		}
		for _, x := range w.Machines {
			if err := x.Start(w.ctx); err != nil {
				t.Fatal(err)
			}
		}
		w.until(w.Machines[0], id, 2*time.Minute, "it is known", func(*api.Workload) bool { return true })
	})
}

// TestEveryVoterIsReplaced: each of the first voters in turn loses its disk, and
// comes back as somebody else; the founder, which alone can invite, last and for
// good. All that was promised and its results are there.
func TestEveryVoterIsReplaced(t *testing.T) {
	long(t)
	live(t, stack.Options{Nodes: 5, Link: wan(0)}, func(t *testing.T, w *world) {
		w.until(w.Machines[0], w.submit(w.Machines[1], stack.Spec(20, time.Second)), time.Minute, "it ends", func(v *api.Workload) bool { return v.Phase.Ended() })
		first := w.voters()
		for _, x := range first {
			if x == w.Machines[0] {
				continue
			}
			was := x.ID()
			w.submit(x, stack.Spec(10, time.Second))
			if err := x.Crash(); err != nil {
				t.Error(err)
			}
			if err := x.Wipe(); err != nil {
				t.Fatal(err)
			}
			if err := w.Rejoin(w.ctx, x); err != nil {
				t.Fatal(err)
			}
			w.wiped++
			w.await(w.Machines[0], 2*time.Minute, "the voter is replaced", func(st *api.Status) bool {
				home := st.Cells[0]
				return st.Ready && len(home.Voters) >= 3 && !slices.Contains(home.Voters, was)
			})
		}
		w.submit(w.Machines[0], stack.Spec(10, time.Second))
		if err := w.Machines[0].Crash(); err != nil {
			t.Error(err)
		}
		if err := w.Machines[0].Wipe(); err != nil {
			t.Fatal(err)
		}
		w.Machines, w.fewer = w.Machines[1:], true
	})
}

// TestEverythingGoesWrong: clients submit while a nemesis with a seed crashes,
// stops, cuts and mutes machines on a network that loses packets. A bubble is not
// deterministic, so that more seeds, and the same ones again, find more:
// PERRIN_TEST_SEEDS says how many.
func TestEverythingGoesWrong(t *testing.T) {
	seeds, err := strconv.ParseUint(cmp.Or(os.Getenv("PERRIN_TEST_SEEDS"), "3"), 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			long(t)
			opt := stack.Options{
				Nodes: 7, Seed: seed, Link: wan(0.01),
				Drift: func(i int) float64 { return 0.001 * float64(i%3-1) },
			}
			live(t, opt, func(t *testing.T, w *world) {
				r := rand.New(rand.NewPCG(seed, 0))
				for range 12 {
					w.strike(r)
					for range 2 {
						at := w.Machines[r.IntN(len(w.Machines))]
						spec := stack.Spec(1+r.Uint32N(30), time.Duration(1+r.IntN(5000))*time.Millisecond)
						if _, err := w.trySubmit(at, 5*time.Second, spec); err != nil {
							t.Logf("%s acknowledged nothing: %.100s", at.Name, err)
						}
					}
					w.pass(time.Duration(r.IntN(15_000)) * time.Millisecond)
				}
				t.Logf("%d workloads were acknowledged", len(w.promised))
			})
		})
	}
}

// strike does one thing to the mesh, or lets it heal.
func (w *world) strike(r *rand.Rand) {
	w.t.Helper()
	victim := w.Machines[r.IntN(len(w.Machines))]
	var err error
	what := r.IntN(7)
	switch what {
	case 0:
		w.Heal()
	case 1:
		w.Split(victim)
	case 2:
		w.Mute(victim)
	case 3:
		w.Mute(w.rest(victim)...)
	case 4:
		shuffled := r.Perm(len(w.Machines))[:1+r.IntN(len(w.Machines)/2)]
		var group []*stack.Machine
		for _, i := range shuffled {
			group = append(group, w.Machines[i])
		}
		w.Split(group...)
	case 5:
		err = victim.Crash()
	case 6:
		err = victim.Stop()
	}
	if err != nil {
		w.t.Errorf("%s: %v", victim.Name, err)
	}
	for _, x := range w.Machines { // what was down stays down for a round
		if x != victim && !x.Running() {
			if err := x.Start(w.ctx); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	w.t.Logf("%s: %s, %s", time.Since(w.began).Round(time.Second), []string{"heal", "split", "mute", "deafen", "part", "crash", "stop"}[what], victim.Name)
}

// pass lets time go by.
func (w *world) pass(d time.Duration) {
	select {
	case <-time.After(d):
	case <-w.ctx.Done():
	}
}
