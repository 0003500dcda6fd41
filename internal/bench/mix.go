package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"testing/fstest"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/perrin-mesh/perrin/node"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/node/load"
	"github.com/perrin-mesh/perrin/workload"
)

// mixed is a load of two kinds: services that hold a core each and are idle half
// of the time, and batch tasks that only compute.
type mixed struct {
	b       *bench
	backend api.Backend
	cores   int
	steps   int // of a service: each computes and then waits
	batch   int
	work    int // turns of a shell's loop that a batch task makes
}

// packed is one way to run it.
type packed struct {
	took     time.Duration // until all has ended
	tasks    []float64     // ms that each task of the first workload took
	cost     int64         // of the batch tasks, micro-credits
	finished int           // batch tasks
}

// ways are how the batch tasks are packed: a core for each, a thread for each, or
// the idle time of the services' cores.
var ways = []workload.Class{workload.Core, workload.Thread, workload.Spare}

// mixedLoad packs the same load in each way in turn, and then the batch tasks without
// the services: what idle time keeps of a core whose owner does nothing. The node is
// in this process, its sandboxes are real, and it takes the machine for idle but for
// its own work: what others do meanwhile slows all ways alike.
func mixedLoad(ctx context.Context, b *bench) error {
	dir, err := os.MkdirTemp(b.tmp, "mix")
	if err != nil {
		return err
	}
	backend, stop, err := idleNode(ctx, dir)
	if err != nil {
		return err
	}
	defer stop()
	m := &mixed{b: b, backend: backend, cores: runtime.NumCPU(), steps: b.sizes.mixSteps, batch: b.sizes.mixBatch, work: b.sizes.mixWork}
	packs, alone := map[workload.Class][]packed{}, map[workload.Class][]packed{}
	for round := range b.sizes.mixRounds {
		for i := range ways {
			way := ways[(i+round)%len(ways)] // none is always after the same one
			p, err := m.pack(ctx, way, true)
			if err != nil {
				return err
			}
			packs[way] = append(packs[way], p)
			if way == workload.Thread {
				continue
			}
			if p, err = m.pack(ctx, way, false); err != nil {
				return err
			}
			alone[way] = append(alone[way], p)
		}
	}
	m.report(packs)
	keeps := ratios(alone[workload.Core], alone[workload.Spare], packed.slow)
	m.b.out.add(atLeast("batch tasks alone: speed of one in idle time, of that with a core of its own", "%", median(keeps), 95).
		noting("median of %d rounds, from %.1f to %.1f %%", len(keeps), slices.Min(keeps), slices.Max(keeps)))
	return nil
}

func (p packed) ms() float64   { return p.took.Seconds() * 1000 }
func (p packed) each() float64 { return float64(p.cost) / float64(max(p.finished, 1)) }
func (p packed) slow() float64 { return median(p.tasks) }

// ratios are of pairs of one round, in percent: how fast the second was, by a time
// that each took.
func ratios(first, second []packed, took func(packed) float64) (percent []float64) {
	for i := range first {
		percent = append(percent, 100*took(first[i])/max(took(second[i]), 1))
	}
	return percent
}

func medianOf(ps []packed, f func(packed) float64) float64 {
	var v []float64
	for _, p := range ps {
		v = append(v, f(p))
	}
	return median(v)
}

func (m *mixed) report(packs map[workload.Class][]packed) {
	cores, threads, spare := packs[workload.Core], packs[workload.Thread], packs[workload.Spare]
	speed := ratios(cores, spare, packed.slow)
	what := fmt.Sprintf("%d services, idle half of the time, and %d batch tasks on %d cores", m.cores, m.batch, m.cores)
	m.b.out.add(atLeast(what+": speed of a service beside spare work", "%", median(speed), 95).
		noting("median of %d rounds, each beside one without spare work; from %.1f to %.1f %%", len(speed), slices.Min(speed), slices.Max(speed)))
	const one = "a core for each"
	m.b.out.add(atMost("the same: a batch task costs, in idle time", "µcr", medianOf(spare, packed.each), 0).against(one, medianOf(cores, packed.each)))
	m.b.out.add(atMost("the same: a batch task costs, with a thread for each", "µcr", medianOf(threads, packed.each), 0).against(one, medianOf(cores, packed.each)))
	m.b.out.add(atMost("the same: all has ended after, in idle time", "ms", medianOf(spare, packed.ms), 0).against(one, medianOf(cores, packed.ms)))
	m.b.out.add(atMost("the same: all has ended after, with a thread for each", "ms", medianOf(threads, packed.ms), 0).against(one, medianOf(cores, packed.ms)))
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}

// pack runs the load with the batch tasks in one class, beside the services or not.
func (m *mixed) pack(ctx context.Context, class workload.Class, services bool) (p packed, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	batch := shellTasks("batch", uint32(m.batch), class, fmt.Sprintf("n=0; while [ $n -lt %d ]; do n=$((n+1)); done", m.work))
	specs := []workload.Spec{batch}
	if services {
		specs = []workload.Spec{shellTasks("services", uint32(m.cores), workload.Core,
			fmt.Sprintf("i=0; while [ $i -lt %d ]; do i=$((i+1)); n=0; while [ $n -lt 6000 ]; do n=$((n+1)); done; sleep 0.02; done", m.steps)), batch}
	}
	began := time.Now()
	ended := make([]*api.Workload, len(specs))
	group, gctx := errgroup.WithContext(ctx)
	for i, spec := range specs { // in this order
		sub, err := m.backend.Submit(ctx, spec)
		if err != nil {
			return p, errors.Join(err, group.Wait())
		}
		group.Go(func() (err error) { ended[i], err = untilEnded(gctx, m.backend, sub.ID); return err })
	}
	if err := group.Wait(); err != nil {
		return p, err
	}
	last := ended[len(ended)-1]
	p.took, p.cost, p.finished = time.Since(began), last.Cost, int(last.Tasks.Done)
	tasks, err := m.backend.Tasks(ctx, ended[0].ID, 0, specs[0].Tasks.Count)
	for _, t := range tasks {
		if t.Result != nil {
			p.tasks = append(p.tasks, float64(t.Result.Usage.WallMs))
		}
	}
	return p, err
}

// shellTasks is a workload of tasks that run a script each.
func shellTasks(name string, count uint32, class workload.Class, script string) workload.Spec {
	spec := workload.DefaultSpec()
	spec.Name, spec.Program = name, workload.Program{Kind: workload.Process, Name: "sh", Host: "sh"}
	spec.Args, spec.Tasks.Count = []string{"-c", script}, count
	spec.Resources.Class, spec.Resources.Memory, spec.Resources.Disk = class, 32<<20, 1<<20
	return spec
}

func untilEnded(ctx context.Context, b api.Backend, id workload.ID) (*api.Workload, error) {
	for since := uint64(0); ; {
		w, err := b.Wait(ctx, id, since, 10*time.Second)
		if err != nil {
			return nil, err
		}
		if w.Phase.Ended() {
			if w.Phase != workload.Succeeded {
				return nil, fmt.Errorf("%s ended as %s", w.Name, w.Phase)
			}
			return w, nil
		}
		since = w.Version
	}
}

// idleNode starts a node in this process that offers this machine's cores and
// takes them for idle but for reserved work of its own.
func idleNode(ctx context.Context, dir string) (api.Backend, func(), error) {
	stat := ""
	watched := load.Machine{Used: func() (all, spare time.Duration) { return 0, 0 }}
	for i := range runtime.NumCPU() {
		stat += fmt.Sprintf("cpu%d 0 0 0 0 0 0 0 0 0 0\n", i)
		watched.CPUs = append(watched.CPUs, i)
	}
	watched.Proc = fs.FS(fstest.MapFS{"stat": {Data: []byte(stat)}})
	return nodeWatching(ctx, dir, &watched)
}

// nodeWatching starts a node in this process, named mix, that lends what it takes to
// be idle; nil is this machine.
func nodeWatching(ctx context.Context, dir string, watched *load.Machine) (api.Backend, func(), error) {
	if _, err := node.Init(dir, "mix"); err != nil {
		return nil, nil, err
	}
	n, err := node.New(ctx, node.Config{
		Data: dir, Listen: []string{"/ip4/127.0.0.1/udp/0/quic-v1"}, Loopback: true, Version: "bench", Watched: watched,
	})
	if err != nil {
		return nil, nil, err
	}
	run, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- n.Run(run) }()
	stop := func() { cancel(); <-done }
	select {
	case <-n.Ready():
		return n.Backend(), stop, nil
	case <-ctx.Done():
		stop()
		return nil, nil, ctx.Err()
	}
}
