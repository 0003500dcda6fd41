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
	"sync/atomic"
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

// nullRunner runs nothing: every attempt succeeds at once.
type nullRunner struct {
	ran atomic.Int64
}

func (*nullRunner) Kind() workload.Kind                   { return workload.Wasm }
func (*nullRunner) Probe(context.Context) (string, error) { return runner.WallWasm, nil }
func (*nullRunner) Available(*workload.Spec) error        { return nil }
func (r *nullRunner) Open(context.Context, runner.Slot) (runner.Session, error) {
	return nullSession{r}, nil
}

type nullSession struct{ r *nullRunner }

func (s nullSession) Run(context.Context, runner.Attempt) (runner.Outcome, error) {
	s.r.ran.Add(1)
	return runner.Outcome{Exit: workload.Exited, Wall: runner.WallWasm}, nil
}
func (nullSession) Interrupt(time.Duration) {}
func (nullSession) Kill()                   {}
func (nullSession) Close() error            { return nil }

// cell is whole nodes in this process, one cell, over QUIC on loopback.
type cell struct {
	dir   string
	null  *nullRunner
	nodes []*node.Node
	stop  context.CancelFunc
	over  sync.WaitGroup
	mu    sync.Mutex
}

// placement measures how fast one workload's tasks are placed: named by a range
// that is committed and synced by a majority of the voters, and that its worker
// has not refused. Everything is real but the runner.
func placement(ctx context.Context, b *bench) error {
	commits, err := plainRaft(b, 64, 12_800)
	if err != nil {
		return err
	}
	b.out.add(atLeast("rival: commits of 256 bytes, plain Raft, 3 voters, 64 at once", "/s", commits, 0))
	for _, cores := range []int{2, (b.sizes.placeTasks + b.sizes.placeNodes - 1) / b.sizes.placeNodes} {
		if err := placeOn(ctx, b, cores); err != nil {
			return err
		}
	}
	return nil
}

// placeOn places the tasks on nodes that declare some cores: with few, slots
// take range after range; with enough for all, each task has a slot of its own.
func placeOn(ctx context.Context, b *bench, cores int) error {
	dir, err := os.MkdirTemp(b.tmp, "cell")
	if err != nil {
		return err
	}
	began := time.Now()
	c, err := startCell(ctx, dir, b.sizes.placeNodes, cores)
	defer c.close()
	if err != nil {
		return err
	}
	up := time.Since(began)
	if _, err := c.place(ctx, b.sizes.placeNodes); err != nil { // every node gets the program
		return err
	}
	p, err := c.place(ctx, b.sizes.placeTasks)
	if err != nil {
		return err
	}
	n := float64(b.sizes.placeTasks)
	what := fmt.Sprintf("%d tasks placed on %d nodes of %d cores, null runner", b.sizes.placeTasks, b.sizes.placeNodes, cores)
	b.out.add(atLeast(what, "/s", n/p.placed.Seconds(), 20_000).
		noting("placed in %.0f ms, run in %.0f, closed in %.0f; %d awards, %d refused, %d takes; %.2f ms of CPU a task for all nodes; %d voters; up in %.1f s",
			millis(p.placed), millis(p.ran), millis(p.closed), p.stats.Awards, p.stats.Refused, p.stats.Takes, millis(p.cpu)/n, p.voters, up.Seconds()))
	return nil
}

// startCell starts the nodes: the first founds the mesh, the others join it.
func startCell(ctx context.Context, dir string, nodes, cores int) (*cell, error) {
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	c := &cell{dir: dir, null: &nullRunner{}, stop: stop}
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
		Runners: map[workload.Kind]runner.Runner{workload.Wasm: c.null}, Log: slog.New(slog.DiscardHandler),
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
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		st, err := c.nodes[0].Backend().Status(ctx, false)
		if err == nil && st.Capacity.Total.Cores == int32(nodes*cores) && len(st.Cells[0].Voters) >= cellrules.DefaultLimits().Voters(nodes) {
			return nil
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return errors.New("the cell did not become whole in a minute")
		}
	}
}

// close stops every node.
func (c *cell) close() {
	c.stop()
	c.over.Wait()
}

// placed is how a placement went.
type placed struct {
	placed, ran, closed, cpu time.Duration
	stats                    leader.Stats
	voters                   int
}

// place submits a workload at the node that leads and watches the ledger.
func (c *cell) place(ctx context.Context, tasks int) (p placed, err error) {
	b, before, err := c.leading(ctx)
	if err != nil {
		return p, err
	}
	spec, err := nullSpec(ctx, b, tasks)
	if err != nil {
		return p, err
	}
	ran, cpu := c.null.ran.Load(), ownCPU()
	began := time.Now()
	sub, err := b.Submit(ctx, spec)
	if err != nil {
		return p, err
	}
	for p.closed == 0 {
		w, err := b.Inspect(ctx, sub.ID)
		if err != nil {
			return p, err
		}
		since := time.Since(began)
		switch {
		case p.placed == 0 && w.Tasks.Open == 0:
			p.placed = since
		case p.placed > 0 && w.Tasks.Open > 0: // a worker has refused
			p.placed = 0
		}
		if p.ran == 0 && c.null.ran.Load()-ran >= int64(tasks) {
			p.ran = since
		}
		if w.Phase.Ended() {
			p.closed = since
		}
		if err := pause(ctx, 2*time.Millisecond); err != nil {
			return p, err
		}
	}
	p.cpu = ownCPU() - cpu
	_, after, err := c.leading(ctx)
	p.stats = leader.Stats{Awards: after.Awards - before.Awards, Refused: after.Refused - before.Refused, Takes: after.Takes - before.Takes}
	st, statusErr := b.Status(ctx, false)
	if statusErr == nil {
		p.voters = len(st.Cells[0].Voters)
	}
	return p, errors.Join(err, statusErr)
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

// leading finds the node that leads, and what it has done in its term.
func (c *cell) leading(ctx context.Context) (api.Backend, leader.Stats, error) {
	for _, n := range c.nodes {
		st, err := n.Backend().Status(ctx, true)
		if err != nil {
			return nil, leader.Stats{}, err
		}
		if stats, ok := st.Stats["leader"].(leader.Stats); ok {
			return n.Backend(), stats, nil
		}
	}
	return nil, leader.Stats{}, errors.New("no node leads")
}

// ownCPU is what this process has used.
func ownCPU() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
