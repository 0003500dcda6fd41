package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/perrin-mesh/perrin/consensus/cell"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/simulations/stack"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/runner"
)

// How long a mesh may take to form, and how long it then rests so that everybody
// has heard of everybody, in virtual time.
const (
	formWithin = 5 * time.Minute
	rest       = 15 * time.Second
)

// play is one run of a script on a mesh.
type play struct {
	*script
	mesh  *stack.Mesh
	seen  watcher
	began time.Time // of the script

	leader    int
	voters    []int
	followers int // servers beside the leader

	storms storms

	mu    sync.Mutex // guards the rest
	acked []acked    // of each workload
	away  map[int]bool
	users map[int]users // of machines that are there
}

type acked struct {
	id     workload.ID
	at     time.Time // zero is never
	missed bool      // who submitted it was gone before the ID came
}

// perform runs a script; it must be in a bubble of virtual time. told is called
// now and then with the simulated time so far.
func (s *script) perform(ctx context.Context, dir string, told func(time.Duration)) (p *play, readings [2]reading, err error) {
	p = &play{script: s, acked: make([]acked, len(s.work)), away: map[int]bool{}, users: map[int]users{}}
	p.seen.ends = map[workload.ID]ended{}
	for range s.peers {
		p.storms.kills = append(p.storms.kills, make(chan time.Duration))
	}
	m := &s.sc.Machines[0]
	forming, cancel := context.WithTimeout(ctx, formWithin)
	defer cancel()
	p.mesh, err = stack.Start(forming, stack.Options{
		Nodes: s.sc.Peers, Seed: uint64(s.seed), Path: p.link, Cores: m.Cores, Threads: m.Threads, Memory: m.Memory,
		CellSize: s.sc.CellSize, Program: p.program, Watch: p.seen.applied, Dir: dir,
		Drift: func(index int) float64 { return float64(s.peers[index].Drift) / 1e6 },
	})
	if err != nil {
		return nil, readings, err
	}
	defer func() { err = errors.Join(err, p.mesh.Stop()) }()
	if err := p.seat(forming); err != nil {
		return nil, readings, err
	}
	if readings, err = p.run(ctx, told); err != nil {
		return nil, readings, err
	}
	return p, readings, p.once()
}

// seat waits until the cell is whole and notes who leads and votes.
func (p *play) seat(ctx context.Context) error {
	n := p.sc.Peers
	voters := cell.DefaultLimits().Voters(n)
	standbys := min(n-voters, cell.DefaultLimits().Standbys)
	st, err := p.mesh.Await(ctx, p.mesh.Machines[0], func(st *api.Status) bool {
		home := st.Cells[0]
		return st.Ready && home.Members == n && len(home.Voters) == voters && len(home.Standby) == standbys && !home.Leader.IsZero()
	})
	if err != nil {
		return fmt.Errorf("the mesh does not form: %w", err)
	}
	p.followers = voters + standbys - 1
	numbers := map[workload.PeerID]int{}
	for _, x := range p.mesh.Machines {
		numbers[x.ID()] = x.Index
	}
	p.leader = numbers[st.Cells[0].Leader]
	for _, id := range st.Cells[0].Voters {
		p.voters = append(p.voters, numbers[id])
	}
	return nil
}

// program is what a task does: it takes as long as the script says, on the speed of
// its machine. The first of a slot takes a while to start.
func (p *play) program(machine int, a *runner.Attempt) stack.Act {
	n, err := numberOf(a.Args)
	if err != nil || n < 0 || n >= len(p.work) || int(a.Index) >= len(p.work[n].services) {
		return stack.Act{Code: 2}
	}
	chance := p.seed.Stream(uint32(n), forStarts).From(uint64(a.Index)<<20 + uint64(a.Number)<<6)
	return stack.Act{
		Starts: p.slowed(machine, time.Duration(p.sc.Start.Draw(&chance))),
		Takes:  p.slowed(machine, p.work[n].services[a.Index]*1000/time.Duration(p.peers[machine].Speed)),
	}
}

// forStarts is a stream of chance that the model does not use.
const forStarts = 1 << 24

// run submits what the script says and reads the counters after the warm-up and
// before the cool-down.
func (p *play) run(ctx context.Context, told func(time.Duration)) (readings [2]reading, err error) {
	time.Sleep(rest)
	p.began = time.Now()
	ctx, cancel := context.WithCancel(ctx)
	var open errgroup.Group
	defer func() { cancel(); err = errors.Join(err, open.Wait()) }()
	for i := range p.work {
		open.Go(func() error { p.submit(ctx, i); return nil })
	}
	open.Go(func() error { p.storm(ctx); return nil })
	if mortal(p.sc) {
		for _, x := range p.mesh.Machines {
			open.Go(func() error { return p.live(ctx, x) })
		}
	}
	for i, at := range []time.Duration{time.Duration(p.sc.Warmup), time.Duration(p.sc.Duration)} {
		for now := time.Since(p.began); now < at; now = time.Since(p.began) {
			time.Sleep(min(at-now, time.Second))
			told(time.Since(p.began))
		}
		readings[i] = p.seen.read(p.mesh)
	}
	return readings, nil
}

// submit submits a workload at its time from its home, and notes when it is known.
func (p *play) submit(ctx context.Context, i int) {
	w := &p.work[i]
	if !wait(ctx, p.began.Add(w.at)) {
		return
	}
	home, with := p.from(ctx, w.home)
	b, err := home.Backend()
	if err != nil {
		p.miss(i)
		return
	}
	s := &p.sc.Workloads[w.stream]
	spec := workload.DefaultSpec()
	spec.Program = workload.Program{Kind: workload.Process, Name: s.Name, Host: s.Name}
	spec.Args, spec.Name, spec.Resources, spec.MaxPrice = argsOf(i), s.Name, s.Shape, s.MaxPrice
	spec.Timeout = s.Timeout / int64(time.Millisecond)
	spec.Tasks.Count = uint32(len(w.services))
	sub, err := b.Submit(with, spec)
	if err != nil {
		if ctx.Err() == nil {
			p.miss(i)
		}
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.acked[i] = acked{id: sub.ID, at: time.Now()}
}

// miss notes that a workload never had an ID.
func (p *play) miss(i int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.acked[i].missed = true
}
