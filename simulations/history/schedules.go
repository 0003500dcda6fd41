package history

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
)

// Schedule is a nemesis that knows what it is after. It leaves the cluster to be
// repaired.
type Schedule struct {
	Nodes int
	Lease time.Duration
	Run   func(context.Context, *Cluster, *History) error
}

// shortLease is that of most schedules: a node is given up after some 3 s.
const shortLease = 2 * time.Second

// Schedules are the directed ones, by name.
var Schedules = map[string]Schedule{
	"frozen-worker": {3, shortLease, frozenWorker},
	"late-result":   {3, shortLease, lateResult},
	"lost-majority": {3, shortLease, lostMajority},
	"frozen-leader": {3, shortLease, frozenLeader},
	"killed-leader": {5, 10 * time.Second, killedLeader},
}

// rerunWithin bounds how long a cell may take to run elsewhere what a lost node ran.
const rerunWithin = 90 * time.Second

// begin submits a job and returns the member that runs it.
func begin(ctx context.Context, c *Cluster, h *History, j *Job) (worker int, id workload.ID, err error) {
	if err := h.Submit(ctx, 0, j); err != nil {
		return 0, id, err
	}
	id, _ = j.named()
	err = await(ctx, rerunWithin, j.Key+" runs", func() bool {
		runs, rerr := c.Runs(id)
		if rerr == nil && len(runs) > 0 {
			worker = runs[0]
		}
		return rerr == nil && len(runs) > 0
	})
	return worker, id, err
}

// again waits until a workload runs for the second time.
func again(ctx context.Context, c *Cluster, id workload.ID) error {
	return await(ctx, rerunWithin, "it runs elsewhere", func() bool {
		runs, err := c.Runs(id)
		return err == nil && len(runs) > 1
	})
}

// frozenWorker freezes the daemon that runs a singleton, for as long as the cell
// needs to run it elsewhere.
func frozenWorker(ctx context.Context, c *Cluster, h *History) error {
	leader, err := c.Leader(ctx, 0)
	if err != nil {
		return err
	}
	worker, id, err := begin(ctx, c, h, newJob("frozen-worker", leader, 1, "sleep 6").where(c.Others(leader)...))
	if err != nil {
		return err
	}
	return errors.Join(c.Freeze(worker), again(ctx, c, id), c.Thaw(worker))
}

// lateResult freezes a daemon while its attempt, which may outlive the lease,
// ends. It wakes, with a result, when the cell has another attempt running.
func lateResult(ctx context.Context, c *Cluster, h *History) error {
	leader, err := c.Leader(ctx, 0)
	if err != nil {
		return err
	}
	j := newJob("late-result", leader, 1, untilThen(time.Now().Add(2500*time.Millisecond), 1.5, 6)).where(c.Others(leader)...)
	j.Spec.OnPartition = workload.Continue
	worker, id, err := begin(ctx, c, h, j)
	if err != nil {
		return err
	}
	return errors.Join(c.Freeze(worker), again(ctx, c, id), c.Thaw(worker))
}

// lostMajority freezes the leader's followers, submits to it, and kills them all:
// what the followers had not read is gone. The cell that they form when they start
// again, without the leader, is asked for the workload.
func lostMajority(ctx context.Context, c *Cluster, h *History) error {
	leader, err := c.Leader(ctx, 0)
	if err != nil {
		return err
	}
	rest := c.Others(leader)
	for _, i := range rest {
		err = errors.Join(err, c.Freeze(i))
	}
	if err != nil {
		return err
	}
	j := newJob("lost-majority", leader, 1, "sleep 0.1")
	short, cancel := context.WithTimeout(ctx, 800*time.Millisecond)
	defer cancel()
	_ = h.Submit(short, 0, j) // recorded
	for i := range c.Size() {
		c.Kill(i)
	}
	for _, i := range rest {
		err = errors.Join(err, c.Restart(i))
	}
	if err != nil {
		return err
	}
	if _, err := c.Leader(ctx, rest[0]); err != nil {
		return err
	}
	return await(ctx, time.Minute, "a read of the new cell", func() bool {
		_, err := h.Look(ctx, 0, rest[0], j, 2*time.Second)
		return err == nil
	})
}

// frozenLeader freezes the leader until there is another, which takes a workload
// on, and asks the old one for it while it wakes.
func frozenLeader(ctx context.Context, c *Cluster, h *History) error {
	old, err := c.Leader(ctx, 0)
	if err != nil {
		return err
	}
	other := c.Others(old)[0]
	if err := c.Freeze(old); err != nil {
		return err
	}
	if _, err := c.Leader(ctx, other); err != nil {
		return err
	}
	j := newJob("frozen-leader", other, 1, "sleep 0.1")
	if err := h.Submit(ctx, 0, j); err != nil {
		return err
	}
	id, _ := j.named()
	var asked errgroup.Group
	const clients = 10
	for client := range clients {
		asked.Go(func() error {
			if client%2 == 0 {
				return ignoreUnavailable(h.Inspect(ctx, client, old, j, 0))
			}
			_, err := h.Look(ctx, client, old, j, patience)
			return ignoreUnavailable(err)
		})
	}
	if !pause(ctx, 300*time.Millisecond) { // until they stand in line
		return ctx.Err()
	}
	if err := c.Thaw(old); err != nil {
		return err
	}
	if err := asked.Wait(); err != nil {
		return fmt.Errorf("%s: %w", id, err)
	}
	return nil
}

func ignoreUnavailable(err error) error {
	if api.KindOf(err) == api.Unavailable {
		return nil
	}
	return err
}

// killedLeader kills the leader and freezes the daemon that runs a singleton, and
// does not vote, at once: the next leader knows of no lease.
func killedLeader(ctx context.Context, c *Cluster, h *History) error {
	leader, err := c.Leader(ctx, 0)
	if err != nil {
		return err
	}
	standbys, err := c.Standbys(ctx, leader)
	if err == nil && len(standbys) != 2 {
		err = fmt.Errorf("%d of five members do not vote, want 2", len(standbys))
	}
	if err != nil {
		return err
	}
	worker, id, err := begin(ctx, c, h, newJob("killed-leader", standbys[0], 1, "sleep 11").where(standbys...))
	if err != nil {
		return err
	}
	err = c.Freeze(worker)
	c.Kill(leader)
	return errors.Join(err, again(ctx, c, id), c.Thaw(worker))
}
