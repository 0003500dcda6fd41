package rehearsal

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/perrin-mesh/perrin/simulations/scenario"
	"github.com/perrin-mesh/perrin/simulations/stack"
	"github.com/perrin-mesh/perrin/workload"
)

// Faults and churn of whole nodes. Whom and when they hit is what the model draws
// for the same seed; leaders and voters are those that the mesh has at that time. A
// machine that crashes is off the network from that instant and its attempts end;
// the process behind it takes a moment of virtual time to stop, and starts again no
// earlier.

const million = 1e6

// weather is what active faults do; it is replaced, never changed.
type weather struct {
	active []int     // faults of the scenario
	loss   []float64 // share of packets lost beside the network's, of each region
	hold   []time.Duration
}

// storms are the faults of a play.
type storms struct {
	now   atomic.Pointer[weather]
	kills []chan time.Duration // to the life of each machine: how long it is away, 0 for good
}

// mortal reports whether machines of a scenario come and go.
func mortal(s *scenario.Scenario) bool {
	crash := slices.ContainsFunc(s.Faults, func(f scenario.Fault) bool { return f.Kind == scenario.Crash })
	return crash || !s.Churn.Session.IsZero() || len(s.Churn.Departures) > 0
}

// moment is something of the scenario that begins or ends.
type moment struct {
	at   time.Duration
	does func(context.Context)
}

// moments lists what happens to the mesh, in order.
func (p *play) moments() (out []moment) {
	add := func(ns int64, does func(context.Context)) { out = append(out, moment{time.Duration(ns), does}) }
	for i := range p.sc.Faults {
		f := &p.sc.Faults[i]
		if f.Kind == scenario.Crash {
			add(f.At, func(ctx context.Context) { p.crash(ctx, i) })
			continue
		}
		add(f.At, func(context.Context) { p.change(i, true) })
		if f.For > 0 {
			add(f.At+f.For, func(context.Context) { p.change(i, false) })
		}
	}
	for i, d := range p.sc.Churn.Departures {
		add(d.At, func(context.Context) {
			for n := range p.peers {
				if p.world.Departs(i, n) {
					p.kill(n, time.Duration(d.Back))
				}
			}
		})
	}
	slices.SortStableFunc(out, func(a, b moment) int { return int(a.at - b.at) })
	return out
}

// once reports an error unless no task ran twice at once, as the machines saw it.
func (p *play) once() error {
	if doubled := p.mesh.Journal.Overlaps(); len(doubled) > 0 {
		return fmt.Errorf("invariant %q does not hold on whole nodes, seed of the replication %d: %w", "no task runs twice at once", uint64(p.seed), doubled[0])
	}
	return nil
}

// storm makes what happens happen, until ctx ends.
func (p *play) storm(ctx context.Context) {
	for _, m := range p.moments() {
		if !wait(ctx, p.began.Add(m.at)) {
			return
		}
		m.does(ctx)
	}
}

// wait waits for a time; false when ctx ends first.
func wait(ctx context.Context, at time.Time) bool {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// change begins or ends a fault of the network or of CPUs.
func (p *play) change(fault int, begins bool) {
	w := &weather{loss: make([]float64, len(p.sc.Network.Regions)), hold: make([]time.Duration, len(p.sc.Network.Regions))}
	if was := p.storms.now.Load(); was != nil {
		w.active = slices.DeleteFunc(slices.Clone(was.active), func(i int) bool { return i == fault })
	}
	if begins {
		w.active = append(w.active, fault)
	}
	var cuts []cut
	for _, i := range w.active {
		f := &p.sc.Faults[i]
		for r := range p.sc.Network.Regions {
			switch {
			case !p.in(f, r):
			case f.Kind == scenario.Loss:
				w.loss[r] += float64(f.Rate) / million
			case f.Kind == scenario.Reorder:
				w.hold[r] += time.Duration(f.By)
			}
		}
		if f.Kind == scenario.Cut {
			cuts = append(cuts, p.cutOf(f))
		}
	}
	p.storms.now.Store(w)
	if len(cuts) == 0 {
		p.mesh.Heal()
		return
	}
	p.mesh.Cut(func(from, to int) bool {
		a, b := p.peers[from].Region, p.peers[to].Region
		return slices.ContainsFunc(cuts, func(c cut) bool { return c.parts(a, b) })
	})
}

// cut is a fault of that kind.
type cut struct {
	inside []bool // of each region
	oneWay bool
}

func (p *play) cutOf(f *scenario.Fault) cut {
	c := cut{inside: make([]bool, len(p.sc.Network.Regions)), oneWay: f.OneWay}
	for r := range c.inside {
		c.inside[r] = p.in(f, r)
	}
	return c
}

// parts reports whether what a region sends another is lost.
func (c cut) parts(from, to int) bool {
	return c.inside[from] && !c.inside[to] || !c.oneWay && !c.inside[from] && c.inside[to]
}

// in reports whether a fault is in a region.
func (p *play) in(f *scenario.Fault, region int) bool {
	return len(f.Regions) == 0 || slices.Contains(f.Regions, p.sc.Network.Regions[region].Name)
}

// slowed is how long something takes on a machine now.
func (p *play) slowed(machine int, d time.Duration) time.Duration {
	w := p.storms.now.Load()
	if w == nil {
		return d
	}
	times := int64(1000)
	for _, i := range w.active {
		if f := &p.sc.Faults[i]; f.Kind == scenario.Slow && p.in(f, p.peers[machine].Region) && p.world.Hit(i, machine) {
			times = max(times, f.Times)
		}
	}
	return d / 1000 * time.Duration(times)
}

// crash crashes whom a fault hits.
func (p *play) crash(ctx context.Context, fault int) {
	f := &p.sc.Faults[fault]
	var hit []int
	switch leader, voters := p.seats(ctx); f.Crash {
	case scenario.Leaders:
		if leader >= 0 && p.world.Hit(fault, 0) { // of the one cell
			hit = []int{leader}
		}
	case scenario.Voters:
		hit = slices.DeleteFunc(voters, func(n int) bool { return !p.world.Hit(fault, n) })
	default:
		for n := range p.peers {
			if p.world.Hit(fault, n) {
				hit = append(hit, n)
			}
		}
	}
	for _, n := range hit {
		if p.in(f, p.peers[n].Region) {
			p.kill(n, time.Duration(f.For))
		}
	}
}

// seats are who leads the cell, -1 for nobody, and who votes, by the node that is
// the latest to say that it leads.
func (p *play) seats(ctx context.Context) (leader int, voters []int) {
	numbers, leader, term := map[workload.PeerID]int{}, -1, uint64(0)
	for _, x := range p.mesh.Machines {
		numbers[x.ID()] = x.Index
	}
	voters = p.voters
	for _, x := range p.mesh.Machines {
		st, err := x.Status(ctx)
		if err != nil || st.Cells[0].Leader != x.ID() || st.Cells[0].Term < term {
			continue
		}
		leader, term, voters = x.Index, st.Cells[0].Term, nil
		for _, id := range st.Cells[0].Voters {
			voters = append(voters, numbers[id])
		}
	}
	return leader, slices.Clone(voters)
}

// kill has a machine crash, if it is there, and come back after a while.
func (p *play) kill(machine int, back time.Duration) {
	select {
	case p.storms.kills[machine] <- back:
	default: // it is away, and nobody listens
	}
}

// live is a machine that comes and goes until ctx ends.
func (p *play) live(ctx context.Context, x *stack.Machine) error {
	for boot := 1; ; boot++ {
		away, left := p.stays(ctx, x.Index, boot)
		if !left {
			return nil
		}
		went := time.Now()
		p.leaves(x.Index)
		if err := x.Crash(); err != nil {
			return fmt.Errorf("%s crashes: %w", x.Name, err)
		}
		if away == 0 || !wait(ctx, went.Add(away)) {
			return nil
		}
		p.comes(x.Index)
		if err := x.Start(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// stays waits until a machine's session is over or something kills it, and says
// how long it is away then; 0 is for good. It is false when ctx ends first.
func (p *play) stays(ctx context.Context, machine, boot int) (away time.Duration, left bool) {
	var over <-chan time.Time
	churn := !p.sc.Churn.Session.IsZero()
	if churn {
		since := time.Now()
		if boot == 1 {
			since = p.began
		}
		timer := time.NewTimer(time.Until(since.Add(time.Duration(p.world.Session(machine, boot)))))
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-over:
		return time.Duration(p.world.Absence(machine, boot)), true
	case away = <-p.storms.kills[machine]:
		return away, true
	case <-ctx.Done():
		return 0, false
	}
}

// users are who waits on a machine for something, until it crashes.
type users struct {
	ctx context.Context
	end context.CancelFunc
}

// leaves ends the submissions that a machine has under way: who waits there for an
// ID is gone with it.
func (p *play) leaves(machine int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away[machine] = true
	if u, any := p.users[machine]; any {
		u.end()
		delete(p.users, machine)
	}
}

func (p *play) comes(machine int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.away, machine)
}

// from is where a workload is submitted, its home or the next machine that is there,
// and a context that ends when that crashes.
func (p *play) from(ctx context.Context, home int) (*stack.Machine, context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for range p.mesh.Machines {
		if !p.away[home] {
			break
		}
		home = (home + 1) % len(p.mesh.Machines)
	}
	u, any := p.users[home]
	if !any {
		u.ctx, u.end = context.WithCancel(ctx)
		p.users[home] = u
	}
	return p.mesh.Machines[home], u.ctx
}
