package history

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"
)

// Nemesis hurts a cluster at random: it kills and restarts daemons, freezes them
// for longer than a lease and an election take, and cuts the network. What it
// draws follows from its seed alone.
type Nemesis struct {
	c   *Cluster
	rng *rand.Rand
	log func(format string, args ...any)
}

// NewNemesis returns a nemesis that tells log what it does.
func NewNemesis(c *Cluster, seed uint64, log func(string, ...any)) *Nemesis {
	return &Nemesis{c: c, rng: rand.New(rand.NewPCG(seed, 1<<32)), log: log}
}

// Run hurts the cluster until the time is over. It does not repair it at the end.
func (n *Nemesis) Run(ctx context.Context, d time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	for pause(ctx, time.Duration(n.rng.IntN(700))*time.Millisecond) {
		if err := n.strike(ctx); err != nil {
			return err
		}
	}
	return nil
}

// strike does one thing, waits, and undoes it.
func (n *Nemesis) strike(ctx context.Context) error {
	victim := n.victim(ctx)
	long := time.Duration(1500+n.rng.IntN(4000)) * time.Millisecond
	kind := n.rng.IntN(8)
	if n.c.net == nil {
		kind = n.rng.IntN(5)
	}
	switch kind {
	case 0, 1:
		n.log("kill %s, back after %s", memberName(victim), long/2)
		n.c.Kill(victim)
		pause(ctx, long/2)
		return n.c.Restart(victim)
	case 2:
		n.log("freeze %s for %s", memberName(victim), long)
		return n.freeze(ctx, long, victim)
	case 3:
		return n.two(ctx, victim, long)
	case 4:
		return n.all(ctx, long/4)
	case 5:
		n.log("cut %s off for %s", memberName(victim), long)
		return n.cut(ctx, long, []int{victim})
	case 6:
		minority := n.minority()
		n.log("cut %v from the others for %s", minority, long)
		return n.cut(ctx, long, minority)
	}
	n.log("cut %s off for %s, and kill it", memberName(victim), long)
	err := n.c.Cut(n.c.Others(victim), []int{victim})
	pause(ctx, long)
	n.c.Kill(victim)
	return errors.Join(err, n.c.Cut(), n.c.Restart(victim))
}

// two hurts a second daemon while the first is frozen: with three voters, no
// majority is left for a while.
func (n *Nemesis) two(ctx context.Context, victim int, long time.Duration) error {
	other := (victim + 1 + n.rng.IntN(n.c.Size()-1)) % n.c.Size()
	n.log("freeze %s for %s, and kill %s meanwhile", memberName(victim), long, memberName(other))
	if err := n.c.Freeze(victim); err != nil {
		return err
	}
	pause(ctx, long/4)
	n.c.Kill(other)
	pause(ctx, long/4)
	err := n.c.Restart(other)
	pause(ctx, long/2)
	return errors.Join(err, n.c.Thaw(victim))
}

// all is a power cut.
func (n *Nemesis) all(ctx context.Context, dark time.Duration) error {
	n.log("kill all, back after %s", dark)
	for i := range n.c.Size() {
		n.c.Kill(i)
	}
	pause(ctx, dark)
	var err error
	for i := range n.c.Size() {
		err = errors.Join(err, n.c.Restart(i))
	}
	return err
}

func (n *Nemesis) freeze(ctx context.Context, long time.Duration, victims ...int) error {
	var err error
	for _, v := range victims {
		err = errors.Join(err, n.c.Freeze(v))
	}
	pause(ctx, long)
	for _, v := range victims {
		err = errors.Join(err, n.c.Thaw(v))
	}
	return err
}

func (n *Nemesis) cut(ctx context.Context, long time.Duration, side []int) error {
	err := n.c.Cut(n.c.Others(side...), side)
	pause(ctx, long)
	return errors.Join(err, n.c.Cut())
}

// victim is the leader every other time, as far as anybody knows.
func (n *Nemesis) victim(ctx context.Context) int {
	any, want := n.rng.IntN(n.c.Size()), n.rng.IntN(2) == 0
	if !want {
		return any
	}
	st, err := n.c.status(ctx, any)
	if err != nil {
		return any
	}
	return max(slices.Index(n.c.ids, st.Cells[0].Leader), 0)
}

func (n *Nemesis) minority() []int {
	all := n.rng.Perm(n.c.Size())
	return all[:1+n.rng.IntN((n.c.Size()+1)/2)]
}
