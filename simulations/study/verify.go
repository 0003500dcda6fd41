package study

import (
	"cmp"
	"context"
	"fmt"

	"github.com/perrin-mesh/perrin/simulations/chance"
	"github.com/perrin-mesh/perrin/simulations/model"
	"github.com/perrin-mesh/perrin/simulations/scenario"
)

// Verified is a run that came out the same twice.
type Verified struct {
	Seed   uint64 `json:"seed"` // of the replication
	Events uint64 `json:"events"`
	Trace  string `json:"trace"`
}

// Difference is the first event in which two runs of one seed differ.
type Difference struct {
	First, Second string // the event in each run; "" when that run had ended
	Effect        bool   // the events are the same and did different things
}

// Error says which event differs and how.
func (d *Difference) Error() string {
	switch {
	case d.Effect:
		return "the two runs differ in what this did: " + d.First
	case d.First == "" || d.Second == "":
		return fmt.Sprintf("one run has ended, the other goes on with %s%s", d.First, d.Second)
	}
	return fmt.Sprintf("the two runs differ: one has %s, the other %s", d.First, d.Second)
}

// Verify runs the first replication of a scenario twice, side by side. The error
// is a *Difference when they are not the same.
func Verify(ctx context.Context, sc *scenario.Scenario, o Options) (*Verified, error) {
	a, endA, err := o.world(ctx, sc, 0)
	if err != nil {
		return nil, err
	}
	defer endA()
	b, endB, err := o.world(ctx, sc, 0)
	if err != nil {
		return nil, err
	}
	defer endB()
	if err := lockstep(ctx, a, b); err != nil {
		return nil, err
	}
	return &Verified{Seed: uint64(chance.Seed(sc.Seed).Replication(0)), Events: a.Events(), Trace: fmt.Sprintf("%016x", a.Trace())}, nil
}

// lockstep runs two worlds event by event.
func lockstep(ctx context.Context, a, b *model.World) error {
	for {
		x, more := a.Next()
		y, also := b.Next()
		if x != y || more != also {
			return &Difference{First: words(x, more), Second: words(y, also)}
		}
		a.Step()
		b.Step()
		if err := cmp.Or(a.Err(), b.Err()); err != nil {
			return err
		}
		if a.Trace() != b.Trace() {
			return &Difference{First: words(x, more), Effect: true}
		}
		if !more {
			return a.Err()
		}
		if a.Events()%between == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

func words(e model.Event, is bool) string {
	if !is {
		return ""
	}
	return e.String()
}
