package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	cellrules "github.com/perrin-mesh/perrin/consensus/cell"
	"github.com/perrin-mesh/perrin/node"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/node/leader"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/runner"
)

// nullRunner runs nothing: every attempt succeeds as soon as the gate is open.
type nullRunner struct {
	mu   sync.Mutex
	gate chan struct{} // closed while attempts may end
}

func newNullRunner() *nullRunner {
	r := &nullRunner{gate: make(chan struct{})}
	close(r.gate)
	return r
}

// hold keeps the attempts that come from now on from ending.
func (r *nullRunner) hold() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gate = make(chan struct{})
}

func (r *nullRunner) open() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.gate
}

func (*nullRunner) Kind() workload.Kind                   { return workload.Wasm }
func (*nullRunner) Probe(context.Context) (string, error) { return runner.WallWasm, nil }
func (*nullRunner) Available(*workload.Spec) error        { return nil }
func (r *nullRunner) Open(context.Context, runner.Slot) (runner.Session, error) {
	return nullSession{r}, nil
}

type nullSession struct{ r *nullRunner }

func (s nullSession) Run(ctx context.Context, _ runner.Attempt) (runner.Outcome, error) {
	select {
	case <-s.r.open():
		return runner.Outcome{Exit: workload.Exited, Wall: runner.WallWasm}, nil
	case <-ctx.Done():
		return runner.Outcome{Exit: workload.StoppedExit, Wall: runner.WallWasm}, nil
	}
}
func (nullSession) Interrupt(time.Duration) {}
func (nullSession) Kill()                   {}
func (nullSession) Close() error            { return nil }

// cell is whole nodes in this process, one cell, over QUIC on loopback.
type cell struct {
	dir   string
	null  *nullRunner
	log   *slog.Logger
	nodes []*node.Node
	stop  context.CancelFunc
	over  sync.WaitGroup
	mu    sync.Mutex
}

// placement measures how fast one workload's tasks are placed: named by a range
// that is committed and synced by a majority of the voters, and that its worker
// has accepted. Everything is real but the runner, whose attempts end at once:
// two slots on each node take range after range, and their results are closed
// meanwhile. Then awards alone: every task gets a slot, and no attempt ends.
func placement(ctx context.Context, b *bench) error {
	commits, err := plainRaft(b, 64, 12_800)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(b.tmp, "cell")
	if err != nil {
		return err
	}
	nodes, tasks := b.sizes.placeNodes, b.sizes.placeTasks
	cores := (tasks + nodes - 1) / nodes * 5 / 4 // bids are less even than that
	began := time.Now()
	c, err := startCell(ctx, dir, nodes, cores)
	defer c.close()
	if err != nil {
		return err
	}
	b.out.note("%d nodes of %d cores in this process, over QUIC, up in %.0f s", nodes, cores, time.Since(began).Seconds())
	if _, err := c.place(ctx, nodes, 0, false); err != nil { // the nodes get the program
		return err
	}
	run := func(name string, slots uint32, alone bool) (p placed, err error) {
		err = b.profiledHere("place-"+name, func() (err error) {
			p, err = c.place(ctx, tasks, slots, alone)
			return err
		})
		return p, err
	}
	taken, err := run("takes", uint32(2*nodes), false)
	if err != nil {
		return err
	}
	alone, err := run("alone", 0, true)
	if err != nil {
		return err
	}
	b.out.add(taken.line(fmt.Sprintf("%d tasks placed on %d nodes, null runner, two slots each", tasks, nodes), 20_000).
		against("commits of plain Raft, 3 voters, fsync, 64 at once", commits))
	b.out.add(alone.line("the same, a slot for each task, none of which ends", 0))
	return nil
}

// line is a placement beside its limit.
func (p *placed) line(what string, limit float64) line {
	n := float64(p.named)
	l := atLeast(what, "/s", n/p.placed.Seconds(), limit).
		noting("%d of them in %.0f ms; %s; %.2f ms of CPU a task for all nodes; %d voters", p.named, millis(p.placed), p.did, millis(p.cpu)/n, p.voters)
	if p.closed > 0 {
		l.Note += fmt.Sprintf("; all closed in %.0f ms", millis(p.closed))
	}
	return l
}

// startCell starts the nodes: the first founds the mesh, the others join it.
func startCell(ctx context.Context, dir string, nodes, cores int) (*cell, error) {
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	c := &cell{dir: dir, null: newNullRunner(), stop: stop}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return c, err
	}
	c.log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn})) // the last node may write late: left open
	first := filepath.Join(dir, "0")
	if _, err := node.Init(first, "n0"); err != nil {
		return c, err
	}
	if err := c.run(ctx, run, first, cores); err != nil {
		return c, err
	}
	invitation, err := c.nodes[0].Backend().Invite(ctx, nodes, time.Hour)
	if err != nil {
		return c, err
	}
	group, joining := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for i := 1; i < nodes; i++ {
		group.Go(func() error {
			data := filepath.Join(dir, strconv.Itoa(i))
			if _, err := node.Join(joining, data, "n"+strconv.Itoa(i), invitation.Token); err != nil {
				return err
			}
			return c.run(joining, run, data, cores)
		})
	}
	if err := group.Wait(); err != nil {
		return c, err
	}
	return c, c.whole(ctx, nodes, cores)
}

// run starts one node, which runs until the cell is closed, and returns when it
// takes work.
func (c *cell) run(ctx, run context.Context, data string, cores int) error {
	n, err := node.New(ctx, node.Config{
		Data: data, Listen: []string{"/ip4/127.0.0.1/udp/0/quic-v1"}, Loopback: true, Cores: cores, Memory: int64(cores) << 30,
		Runners: map[workload.Kind]runner.Runner{workload.Wasm: c.null}, Log: c.log,
	})
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	c.over.Go(func() { done <- n.Run(run) })
	c.mu.Lock()
	c.nodes = append(c.nodes, n)
	c.mu.Unlock()
	select {
	case <-n.Ready():
		return nil
	case err := <-done:
		return fmt.Errorf("a node ended: %w", err)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// whole waits until every node's offer is known and the cell has its voters.
func (c *cell) whole(ctx context.Context, nodes, cores int) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		st, err := c.nodes[0].Backend().Status(ctx, false)
		if err == nil && st.Capacity.Total.Cores == int32(nodes*cores) && len(st.Cells[0].Voters) >= cellrules.DefaultLimits().Voters(nodes) {
			return restful(ctx)
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return errors.New("the cell did not become whole in two minutes")
		}
	}
}

// restful waits until this process uses less than half a core for a second: the
// nodes have then found each other. It gives up after 30 s.
func restful(ctx context.Context) error {
	for range 30 {
		before := ownCPU()
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
		if ownCPU()-before < 500*time.Millisecond {
			return nil
		}
	}
	return nil
}

// close stops every node.
func (c *cell) close() {
	c.stop()
	c.over.Wait()
}

// placed is how a placement went.
type placed struct {
	placed, closed, cpu time.Duration
	named               uint32 // tasks that are placed
	did                 string // by the leader
	voters              int
}

// placeWithin bounds one placement.
const placeWithin = 30 * time.Second

// place submits a workload at the node that leads and watches. Alone means that
// no attempt ends before the cell is closed; then it returns once all are placed.
func (c *cell) place(ctx context.Context, tasks int, slots uint32, alone bool) (p placed, err error) {
	b, term, before, err := c.leading(ctx)
	if err != nil {
		return p, err
	}
	spec, err := nullSpec(ctx, b, tasks)
	if err != nil {
		return p, err
	}
	spec.MaxParallel = slots
	watch := func(id workload.ID, began time.Time) error { return c.untilClosed(ctx, b, &p, id, began) }
	if alone {
		c.null.hold()
		accepted := c.accepted()
		watch = func(_ workload.ID, began time.Time) error {
			return c.untilAccepted(ctx, &p, accepted+tasks, tasks, began)
		}
	}
	cpu, began := ownCPU(), time.Now()
	sub, err := b.Submit(ctx, spec)
	if err != nil {
		return p, err
	}
	if err := watch(sub.ID, began); err != nil {
		return p, err
	}
	p.cpu = ownCPU() - cpu
	st, err := b.Status(ctx, false)
	if err != nil {
		return p, err
	}
	p.voters, p.did = len(st.Cells[0].Voters), "the leader changed meanwhile"
	if _, now, after, err := c.leading(ctx); err == nil && now == term {
		p.did = fmt.Sprintf("%d slots awarded, %d refused, %d takes", after.Awards-before.Awards, after.Refused-before.Refused, after.Takes-before.Takes)
	}
	return p, nil
}

// untilClosed follows a workload in the ledger to its end.
func (c *cell) untilClosed(ctx context.Context, b api.Backend, p *placed, id workload.ID, began time.Time) error {
	for all := false; p.closed == 0 && time.Since(began) < placeWithin; {
		w, err := b.Inspect(ctx, id)
		if err != nil {
			return err
		}
		since := time.Since(began)
		if p.named = w.Tasks.Total - w.Tasks.Open; !all {
			p.placed = since
		}
		all = w.Tasks.Open == 0 // a worker that refuses opens tasks again
		if w.Phase.Ended() {
			p.closed = since
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// untilAccepted follows what the workers say that they have accepted.
func (c *cell) untilAccepted(ctx context.Context, p *placed, want, tasks int, began time.Time) error {
	for left := tasks; left > 0 && time.Since(began) < placeWithin; {
		left = max(want-c.accepted(), 0)
		p.placed, p.named = time.Since(began), uint32(tasks-left)
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// accepted is how many slots the workers of all nodes have accepted.
func (c *cell) accepted() (sum int) {
	for _, n := range c.nodes {
		sum += int(n.WorkerStats().Awards)
	}
	return sum
}

func nullSpec(ctx context.Context, b api.Backend, tasks int) (workload.Spec, error) {
	spec := workload.DefaultSpec()
	var err error
	spec.Program.Kind, spec.Program.Name = workload.Wasm, "null.wasm"
	spec.Program.Blob, err = b.PutBlob(ctx, bytes.NewReader(wasmClock()))
	smallShape(&spec)
	spec.Tasks.Count = uint32(tasks)
	return spec, err
}

// leading finds the node that leads, its term, and what it has done in it.
func (c *cell) leading(ctx context.Context) (api.Backend, uint64, leader.Stats, error) {
	for _, n := range c.nodes {
		st, err := n.Backend().Status(ctx, true)
		if err != nil {
			return nil, 0, leader.Stats{}, err
		}
		if stats, ok := st.Stats["leader"].(leader.Stats); ok {
			return n.Backend(), st.Cells[0].Term, stats, nil
		}
	}
	return nil, 0, leader.Stats{}, errors.New("no node leads")
}

// ownCPU is what this process has used.
func ownCPU() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
