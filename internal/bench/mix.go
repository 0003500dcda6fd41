package main

import (
	"context"
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
	service  []float64     // ms that each service took
	cost     int64         // of the batch tasks, micro-credits
	finished int           // batch tasks
}

// mixedLoad packs the same load twice in turn: once with a core for every task,
// once with the batch tasks in the services' idle time. The node is in this
// process, its sandboxes are real, and it takes the machine for idle but for its
// own work: what others do meanwhile slows both ways alike.
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
	var ways [2][]packed
	for range b.sizes.mixRounds {
		for way, class := range []workload.Class{workload.Core, workload.Spare} {
			p, err := m.pack(ctx, class)
			if err != nil {
				return err
			}
			ways[way] = append(ways[way], p)
		}
	}
	m.report(ways[0], ways[1])
	return nil
}

func (m *mixed) report(cores, spare []packed) {
	took := func(p packed) float64 { return p.took.Seconds() * 1000 }
	each := func(p packed) float64 { return float64(p.cost) / float64(max(p.finished, 1)) }
	service := func(p packed) float64 { return median(p.service) }
	of := func(ps []packed, f func(packed) float64) float64 {
		var v []float64
		for _, p := range ps {
			v = append(v, f(p))
		}
		return median(v)
	}
	var speed []float64 // of pairs of one round, which had about the same company
	for i := range cores {
		speed = append(speed, 100*service(cores[i])/max(service(spare[i]), 1))
	}
	what := fmt.Sprintf("%d services, idle half of the time, and %d batch tasks on %d cores", m.cores, m.batch, m.cores)
	m.b.out.add(atLeast(what+": speed of a service beside spare work", "%", median(speed), 95).
		noting("median of %d rounds, each beside one without spare work; from %.1f to %.1f %%", len(speed), slices.Min(speed), slices.Max(speed)))
	m.b.out.add(atMost("the same: a batch task costs, in idle time", "µcr", of(spare, each), 0).against("a core for each", of(cores, each)))
	m.b.out.add(atMost("the same: all has ended after", "ms", of(spare, took), 0).against("a core for each", of(cores, took)))
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}

// pack runs the load with the batch tasks in one class.
func (m *mixed) pack(ctx context.Context, class workload.Class) (p packed, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	service := shellTasks("services", uint32(m.cores), workload.Core,
		fmt.Sprintf("i=0; while [ $i -lt %d ]; do i=$((i+1)); n=0; while [ $n -lt 6000 ]; do n=$((n+1)); done; sleep 0.02; done", m.steps))
	batch := shellTasks("batch", uint32(m.batch), class, fmt.Sprintf("n=0; while [ $n -lt %d ]; do n=$((n+1)); done", m.work))
	began := time.Now()
	first, err := m.backend.Submit(ctx, service)
	if err != nil {
		return p, err
	}
	second, err := m.backend.Submit(ctx, batch)
	if err != nil {
		return p, err
	}
	group, gctx := errgroup.WithContext(ctx)
	var ended [2]*api.Workload
	for i, id := range []workload.ID{first.ID, second.ID} {
		group.Go(func() (err error) { ended[i], err = untilEnded(gctx, m.backend, id); return err })
	}
	if err := group.Wait(); err != nil {
		return p, err
	}
	p.took, p.cost, p.finished = time.Since(began), ended[1].Cost, int(ended[1].Tasks.Done)
	tasks, err := m.backend.Tasks(ctx, first.ID, 0, uint32(m.cores))
	for _, t := range tasks {
		if t.Result != nil {
			p.service = append(p.service, float64(t.Result.Usage.WallMs))
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
	if _, err := node.Init(dir, "mix"); err != nil {
		return nil, nil, err
	}
	stat := ""
	watched := load.Machine{Used: func() (all, spare time.Duration) { return 0, 0 }}
	for i := range runtime.NumCPU() {
		stat += fmt.Sprintf("cpu%d 0 0 0 0 0 0 0 0 0 0\n", i)
		watched.CPUs = append(watched.CPUs, i)
	}
	watched.Proc = fs.FS(fstest.MapFS{"stat": {Data: []byte(stat)}})
	n, err := node.New(ctx, node.Config{
		Data: dir, Listen: []string{"/ip4/127.0.0.1/udp/0/quic-v1"}, Loopback: true, Version: "bench", Watched: &watched,
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
