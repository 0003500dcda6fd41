package stack_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perrin-mesh/perrin/consensus/cell"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/simulations/packetnet"
	"github.com/perrin-mesh/perrin/simulations/stack"
	"github.com/perrin-mesh/perrin/workload"
)

// world is a mesh under test and what its clients were promised.
type world struct {
	*stack.Mesh
	t     *testing.T
	ctx   context.Context // of the whole story
	began time.Time

	promised []promise
	fewer    bool // machines are gone for good: the cell may lack servers
	doubled  bool // the story made a task run twice at once on purpose
	wiped    int  // nodes whose disk is gone: the cell counts them as members for an hour
}

// promise is a workload that was acknowledged.
type promise struct {
	id   workload.ID
	spec workload.Spec
}

// wan is a path of 40 ms round trip with some jitter.
func wan(loss float64) packetnet.Link {
	return packetnet.Link{Latency: 20 * time.Millisecond, Jitter: 2 * time.Millisecond, Loss: loss}
}

// patience bounds a story, in virtual time.
const patience = 15 * time.Minute

// live starts a mesh in a bubble of virtual time, lets the story happen and then
// checks that every promise was kept, that nothing ran twice at once, that the
// voters agree, and, by the bubble's end, that no goroutine is left.
func live(t *testing.T, opt stack.Options, story func(t *testing.T, w *world)) {
	t.Helper()
	wall := time.Now()
	var took time.Duration
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		opt.Log = testLog()
		m, err := stack.Start(ctx, opt)
		if err != nil {
			t.Fatal(err)
		}
		w := &world{Mesh: m, t: t, ctx: ctx, began: time.Now()}
		defer func() {
			if err := m.Stop(); err != nil {
				t.Errorf("stop: %v", err)
			}
			took = time.Since(w.began)
		}()
		w.whole()
		story(t, w)
		w.settle()
	})
	t.Logf("%d nodes, %s of virtual time in %s", opt.Nodes, took.Round(time.Second), time.Since(wall).Round(10*time.Millisecond))
}

// testLog shows what the nodes say when PERRIN_TEST_LOGS is set.
func testLog() *slog.Logger {
	if os.Getenv("PERRIN_TEST_LOGS") == "" {
		return nil
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// long skips a story in a short run.
func long(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("too long for a short run: many nodes")
	}
}

// whole waits until every machine's node is a member with all it has free, and
// the cell has the voters and standbys that its rules ask for.
func (w *world) whole() *api.Status {
	w.t.Helper()
	n := len(w.Machines)
	voters := min(cell.DefaultLimits().Voters(n+w.wiped), n)
	standbys := min(n-voters, cell.DefaultLimits().Standbys)
	return w.await(w.anyone(), time.Minute, "the mesh is whole", func(st *api.Status) bool {
		home := st.Cells[0]
		return st.Ready && home.Members == n+w.wiped && len(home.Voters) == voters && len(home.Standby) == standbys &&
			st.Capacity.Free.Cores == int32(2*n)
	})
}

// anyone is a machine whose node runs.
func (w *world) anyone() *stack.Machine {
	w.t.Helper()
	i := slices.IndexFunc(w.Machines, (*stack.Machine).Running)
	if i < 0 {
		w.t.Fatal("no node runs")
	}
	return w.Machines[i]
}

// await asks a machine's node until its status is as wanted.
func (w *world) await(asked *stack.Machine, d time.Duration, what string, ok func(*api.Status) bool) *api.Status {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, d)
	defer cancel()
	st, err := w.Await(ctx, asked, ok)
	if err != nil {
		w.t.Fatalf("not within %s: %s: %v\n%s", d, what, err, w.describe(asked))
	}
	return st
}

// describe lists what a node knows of the others.
func (w *world) describe(asked *stack.Machine) string {
	b, err := asked.Backend()
	if err != nil {
		return err.Error()
	}
	nodes, err := b.Nodes(w.ctx, "")
	if err != nil {
		return err.Error()
	}
	var out strings.Builder
	for _, n := range nodes {
		fmt.Fprintf(&out, "%s %s, offer %d, free %d cores, %d slots run\n", n.Name, n.Role, n.Offer.Seq&0xfffff, n.Offer.Free.Cores, n.Offer.Running)
	}
	return out.String()
}

// machine finds the machine of a node.
func (w *world) machine(id workload.PeerID) *stack.Machine {
	w.t.Helper()
	for _, x := range w.Machines {
		if x.ID() == id {
			return x
		}
	}
	w.t.Fatalf("no machine is %s", id.Short())
	return nil
}

// leader asks a machine's node who leads, until somebody does who is not one of
// the others.
func (w *world) leader(asked *stack.Machine, others ...*stack.Machine) *stack.Machine {
	w.t.Helper()
	st := w.await(asked, time.Minute, "somebody leads", func(st *api.Status) bool {
		lead := st.Cells[0].Leader
		return st.Ready && !lead.IsZero() && !slices.ContainsFunc(others, func(x *stack.Machine) bool { return x.ID() == lead })
	})
	return w.machine(st.Cells[0].Leader)
}

// voters are the machines of the home cell's voters, the leader first.
func (w *world) voters() []*stack.Machine {
	w.t.Helper()
	lead := w.leader(w.anyone())
	st := w.await(lead, time.Minute, "a status", func(st *api.Status) bool { return st.Ready })
	out := []*stack.Machine{lead}
	for _, id := range st.Cells[0].Voters {
		if id != lead.ID() {
			out = append(out, w.machine(id))
		}
	}
	return out
}

// rest are the machines that are not in a group.
func (w *world) rest(group ...*stack.Machine) []*stack.Machine {
	return slices.DeleteFunc(slices.Clone(w.Machines), func(x *stack.Machine) bool { return slices.Contains(group, x) })
}

// submit has a node acknowledge a workload, which is a promise from then on.
func (w *world) submit(at *stack.Machine, spec workload.Spec) workload.ID {
	w.t.Helper()
	id, err := w.trySubmit(at, time.Minute, spec)
	if err != nil {
		w.t.Fatalf("submit at %s: %v", at.Name, err)
	}
	return id
}

func (w *world) trySubmit(at *stack.Machine, d time.Duration, spec workload.Spec) (workload.ID, error) {
	b, err := at.Backend()
	if err != nil {
		return workload.ID{}, err
	}
	ctx, cancel := context.WithTimeout(w.ctx, d)
	defer cancel()
	sub, err := b.Submit(ctx, spec)
	if err != nil {
		return workload.ID{}, err
	}
	w.promised = append(w.promised, promise{sub.ID, spec})
	return sub.ID, nil
}

// until asks a node for a workload until it is as wanted.
func (w *world) until(asked *stack.Machine, id workload.ID, d time.Duration, what string, ok func(*api.Workload) bool) *api.Workload {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, d)
	defer cancel()
	var last string
	for tick := time.NewTicker(100 * time.Millisecond); ; {
		b, err := asked.Backend()
		var v *api.Workload
		if err == nil {
			v, err = b.Inspect(ctx, id)
		}
		if err == nil && ok(v) {
			return v
		}
		if last = fmt.Sprint(err); err == nil {
			last = fmt.Sprintf("%s %s, tasks %+v, slots %d, lost %d", v.Phase, v.Reason, v.Tasks, len(v.Slots), v.Lost)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			w.t.Fatalf("not within %s: %s: %s", d, what, last)
		}
	}
}

func ended(v *api.Workload) bool { return v.Phase.Ended() }

// settle heals the network, starts every node that does not run, and holds the
// mesh to what it has promised.
func (w *world) settle() {
	w.t.Helper()
	w.Heal()
	for _, x := range w.Machines {
		if !x.Running() {
			if err := x.Start(w.ctx); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	asked := w.Machines[len(w.Machines)-1]
	for _, p := range w.promised {
		w.until(asked, p.id, 5*time.Minute, "a promised workload ends", ended)
		w.kept(asked, p)
	}
	for _, err := range w.Journal.Overlaps() {
		if !w.doubled {
			w.t.Error(err)
		}
	}
	if !w.fewer {
		w.whole()
	}
	w.agree()
}

// kept checks a promise: each task has one result, which is right, of an
// attempt that ran to its end.
func (w *world) kept(asked *stack.Machine, p promise) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
	defer cancel()
	b, err := asked.Backend()
	if err != nil {
		w.t.Fatal(err)
	}
	tasks, err := b.Tasks(ctx, p.id, 0, p.spec.Tasks.Count)
	if err != nil || len(tasks) != int(p.spec.Tasks.Count) {
		w.t.Fatalf("%d results of %d, %v", len(tasks), p.spec.Tasks.Count, err)
	}
	done := map[[2]uint32]bool{} // task and attempt
	for _, s := range w.Journal.Of(p.id) {
		if s.End == stack.Done {
			done[[2]uint32{s.Task, s.Number}] = true
		}
	}
	for i, task := range tasks {
		r := task.Result
		switch {
		case r == nil || !r.OK() || r.Index != uint32(i):
			w.t.Errorf("task %d of %s: %s, result %+v", i, p.id.Short(), task.Phase, r)
		case string(r.Stdout.Data) != stack.Printed(uint32(i)):
			w.t.Errorf("task %d of %s printed %q", i, p.id.Short(), r.Stdout.Data)
		case !done[[2]uint32{r.Index, r.Attempt}]:
			w.t.Errorf("task %d of %s: the result is of attempt %d, which no machine ran to its end", i, p.id.Short(), r.Attempt)
		}
	}
}

// agree waits until the ledgers of all voters and standbys are at the same
// entry, and checks that they are the same.
func (w *world) agree() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		// Asked each time: one that was away may name servers that are none any more.
		home := w.await(w.anyone(), time.Minute, "a status", func(st *api.Status) bool { return st.Ready }).Cells[0]
		heads := map[uint64]map[workload.Digest][]string{}
		for _, id := range slices.Concat(home.Voters, home.Standby) {
			i := slices.IndexFunc(w.Machines, func(x *stack.Machine) bool { return x.ID() == id })
			if i < 0 {
				continue // it is gone for good
			}
			x := w.Machines[i]
			if s, ok := x.Ledger(); ok {
				if heads[s.Index] == nil {
					heads[s.Index] = map[workload.Digest][]string{}
				}
				heads[s.Index][s.Head] = append(heads[s.Index][s.Head], x.Name)
			}
		}
		for index, at := range heads {
			if len(at) > 1 {
				w.t.Fatalf("the ledgers differ at entry %d: %v", index, at)
			}
		}
		if len(heads) == 1 {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			w.t.Fatalf("the ledgers do not come together: %v", heads)
		}
	}
}

// once checks that no task of a story without faults ran twice.
func (w *world) once() {
	w.t.Helper()
	for _, p := range w.promised {
		ran := map[uint32]int{}
		for _, s := range w.Journal.Of(p.id) {
			ran[s.Task]++
		}
		for task := range p.spec.Tasks.Count {
			if ran[task] != 1 {
				w.t.Errorf("task %d of %s ran %d times", task, p.id.Short(), ran[task])
			}
		}
	}
}
