package node_test

import (
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/node/devmesh"
)

// TestKillLoop kills daemons of a mesh of three with SIGKILL, one, the leader or
// all of them, while a workload is being submitted, awarded, run or closed, again
// and again, as clients go on submitting. In the end every workload that was
// acknowledged has ended exactly as its spec says, and no singleton was seen in
// two sandboxes at once. PERRIN_KILL_ROUNDS sets how often, PERRIN_KILL_SEED
// repeats a run's choices.
func TestKillLoop(t *testing.T) {
	k := newKillLoop(t, 6)
	watch, unwatch := context.WithCancel(t.Context())
	seen := watchSingletons(watch)
	clients, stop := context.WithCancel(t.Context())
	var submitting sync.WaitGroup
	for i := range k.Members {
		submitting.Go(func() { k.submitOn(clients, i) })
	}
	for round := range k.rounds {
		k.strike(round)
	}
	stop()
	submitting.Wait()
	k.allKept()
	unwatch()
	singles, again, twice := seen.verdict()
	t.Logf("%d workloads were acknowledged; of %d singletons seen %d ran in more than one sandbox", len(k.promises), singles, again)
	if len(twice) > 0 {
		t.Errorf("singletons ran twice at once: %v", twice)
	}
	if singles < len(k.promises)/10 {
		t.Errorf("the witness saw %d singletons only: it proves nothing", singles)
	}
}

// killLoop is a mesh that suffers.
type killLoop struct {
	*testMesh
	rounds int
	rng    *rand.Rand

	mu       sync.Mutex
	promises []*promise
}

func newKillLoop(t *testing.T, rounds int) *killLoop {
	m := startMesh(t, devmesh.Options{Nodes: 3, Cores: 4, Args: shortLease})
	m.learnIDs()
	seed := fromEnv(t, "PERRIN_KILL_SEED", int(time.Now().UnixNano()%1_000_000))
	t.Logf("PERRIN_KILL_SEED=%d", seed)
	return &killLoop{testMesh: m, rounds: fromEnv(t, "PERRIN_KILL_ROUNDS", rounds), rng: rand.New(rand.NewPCG(uint64(seed), 1))}
}

// fromEnv reads a number of the environment.
func fromEnv(t *testing.T, name string, normal int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return normal
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// submitEvery is how often each client submits, while its daemon answers.
const submitEvery = 200 * time.Millisecond

// calm is how long the mesh serves between two rounds.
const calm = time.Second

// submitOn submits on one member until ctx ends, and notes what is acknowledged.
func (k *killLoop) submitOn(ctx context.Context, member int) {
	for n := member; settle(ctx, submitEvery); n++ {
		c, err := api.Dial(k.Members[member].Socket)
		if err != nil {
			continue // its daemon is down
		}
		if p, err := ask(ctx, c, askers[n%len(askers)]); err == nil {
			k.note(p)
		}
		c.Close()
	}
}

func (k *killLoop) note(p *promise) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.promises = append(k.promises, p)
}

// settle lets time pass, and reports whether ctx still stands.
func settle(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// strike is one round: it waits for the moment, kills, and starts again.
func (k *killLoop) strike(round int) {
	phase := []string{"submit", "award", "run", "close"}[round%4]
	whom := []string{"leader", "all", "one"}[round%3]
	victims := k.victims(whom)
	settle(k.t.Context(), calm)
	delay := k.moment(phase, k.rng.IntN(len(k.Members)))
	settle(k.t.Context(), delay)
	began := time.Now()
	defer func() {
		k.t.Logf("round %d: %s killed during %s; whole again after %s", round, whom, phase, time.Since(began).Round(time.Millisecond))
	}()
	for _, v := range victims {
		k.Members[v].Kill()
	}
	settle(k.t.Context(), time.Duration(k.rng.IntN(1500))*time.Millisecond)
	for _, v := range victims {
		if err := k.Restart(k.Members[v]); err != nil {
			k.t.Fatal(err)
		}
	}
	for i := range k.Members {
		k.status(i, 40*time.Second, "it serves again", func(st *api.Status) bool { return st.Ready && len(st.Cells[0].Voters) == 3 })
	}
}

func (k *killLoop) victims(whom string) []int {
	switch whom {
	case "leader":
		return []int{k.leader(0)}
	case "one":
		return []int{k.rng.IntN(len(k.Members))}
	}
	return []int{0, 1, 2}
}

// moment submits a singleton on a member, returns when it is in the phase, and
// how long to wait still.
func (k *killLoop) moment(phase string, member int) time.Duration {
	c := k.client(member)
	upTo := func(ms int) time.Duration { return time.Duration(k.rng.IntN(ms*1000)) * time.Microsecond }
	if phase == "submit" {
		go func() {
			if p, err := ask(k.t.Context(), c, askSingle); err == nil {
				k.note(p)
			}
		}()
		return upTo(8)
	}
	p, err := ask(k.t.Context(), c, askSingle)
	if err != nil {
		k.t.Fatal(err)
	}
	k.note(p)
	if phase == "award" {
		return upTo(12)
	}
	waitFor(k.t, c, p.id, 20*time.Second, "it is taken", func(w *api.Workload) bool { return w.Tasks.Taken > 0 || w.Phase.Ended() })
	if phase == "run" {
		return upTo(250)
	}
	return 290*time.Millisecond + upTo(60) // its program ends after 0.3 s
}

// allKept holds that every promise is kept.
func (k *killLoop) allKept() {
	if len(k.promises) < 5*k.rounds {
		k.t.Errorf("only %d workloads were acknowledged in %d rounds", len(k.promises), k.rounds)
	}
	ctx := within(k.t, 2*time.Minute)
	var all errgroup.Group
	all.SetLimit(8)
	for i, p := range k.promises {
		c := k.client(i % len(k.Members))
		all.Go(func() error {
			if err := p.kept(ctx, c); err != nil {
				k.t.Error(err)
			}
			return nil
		})
	}
	began := time.Now()
	_ = all.Wait() // it has no errors: each was reported
	k.t.Logf("all had ended %s after the last round", time.Since(began).Round(time.Millisecond))
}
