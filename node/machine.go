package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/perrin-mesh/perrin/node/gauge"
	"github.com/perrin-mesh/perrin/node/load"
	"github.com/perrin-mesh/perrin/node/worker"
	"github.com/perrin-mesh/perrin/scheduler/capacity"
	"github.com/perrin-mesh/perrin/scheduler/lease"
	"github.com/perrin-mesh/perrin/scheduler/pricing"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/oci"
	"github.com/perrin-mesh/perrin/workload/process"
	"github.com/perrin-mesh/perrin/workload/runner"
	"github.com/perrin-mesh/perrin/workload/sandbox"
	"github.com/perrin-mesh/perrin/workload/sandbox/advice"
	"github.com/perrin-mesh/perrin/workload/vm"
	"github.com/perrin-mesh/perrin/workload/wasm"
)

// machine is what this node has to offer.
type machine struct {
	topo       capacity.Topology
	alloc      *capacity.Allocator
	runners    map[workload.Kind]runner.Runner
	walls      []string
	unoffered  map[workload.Kind]string // why not
	advice     []string                 // what weakens them all on this machine
	supervisor Supervisor
	about      workload.Machine
	controls   sandbox.Controls
	used       usedTime // nil where no process is started
	groups     *load.Groups
	gauge      gauge.Result
}

// unguarded is the supervisor of runners that start no process.
type unguarded struct{}

func (unguarded) Slot(string) runner.Guard                             { return nil }
func (unguarded) Grant(runner.Instant, time.Duration, ...string) error { return nil }
func (unguarded) Forget(string) error                                  { return nil }
func (unguarded) Done() <-chan struct{}                                { return nil }

// maxSlots is how many attempts at once a node is willing to run.
const maxSlots = 1024

// checkReserve refuses to keep more for the machine's owner than the machine has:
// the node would offer nothing, and nobody would know why.
func (n *Node) checkReserve(topo capacity.Topology) error {
	if cores := len(topo.Cores); n.cfg.KeepCores > cores {
		return fmt.Errorf("reserve: cores=%d is more than the %d of this machine; cores=%d keeps all of them, and their idle time is lent", n.cfg.KeepCores, cores, cores)
	}
	if memory := n.memory(topo); n.cfg.KeepMemory > 0 && n.cfg.KeepMemory >= memory {
		return fmt.Errorf("reserve: memory=%d MiB leaves nothing of the %d MiB that this node may use", n.cfg.KeepMemory>>20, memory>>20)
	}
	return nil
}

// openMachine reads what the machine has, and proves what it can isolate.
func (n *Node) openMachine(ctx context.Context) error {
	topo, err := n.topology()
	if err != nil {
		return err
	}
	if err := n.checkReserve(topo); err != nil {
		return err
	}
	n.machine = &machine{topo: topo}
	n.measure(ctx)
	if err := n.openRunners(ctx); err != nil {
		return err
	}
	limits := capacity.Limits{
		Memory: max(0, n.memory(topo)-n.cfg.KeepMemory), Disk: freeDisk(n.cfg.Data), Slots: maxSlots,
		Keep: n.keep(topo), Cookies: n.machine.controls.Cookies,
	}
	alloc, err := capacity.New(topo, limits)
	if err != nil {
		return err
	}
	n.machine.alloc = alloc
	if n.machine.used != nil {
		alloc.SetSpare(0) // until it has been looked at
	}
	kinds := make([]workload.Kind, 0, len(n.machine.runners))
	for k := range n.machine.runners {
		kinds = append(kinds, k)
	}
	slices.Sort(kinds)
	n.machine.about = workload.Machine{
		Speeds: n.machine.speeds(),
		Name:   n.name, Arch: runtime.GOARCH, OS: runtime.GOOS, Labels: n.cfg.Labels, Total: alloc.Total(),
		SMT: int32(topo.SMT()), Kinds: kinds, Walls: n.machine.walls, Attests: n.attestor.Kinds(), Declared: n.cfg.Cores > 0, Version: n.cfg.Version,
	}
	return nil
}

// topology reads the CPUs that this process may use, or declares some.
func (n *Node) topology() (capacity.Topology, error) {
	if n.cfg.Given != nil {
		return n.cfg.Given.Topology, nil
	}
	topo, err := capacity.ReadTopology(os.DirFS("/sys"))
	if err != nil {
		return topo, fmt.Errorf("read the machine's CPUs: %w", err)
	}
	if n.cfg.Cores > 0 {
		return topo.Declare(n.cfg.Cores, n.cfg.First)
	}
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return topo, fmt.Errorf("read this process's CPUs: %w", err)
	}
	var cpus []int
	for i := range len(set) * 64 {
		if set.IsSet(i) {
			cpus = append(cpus, i)
		}
	}
	return topo.Restrict(cpus)
}

// memory is what is declared, or nine tenths of the machine's.
func (n *Node) memory(topo capacity.Topology) int64 {
	if n.cfg.Memory > 0 {
		return n.cfg.Memory
	}
	var info syscall.Sysinfo_t
	if err := syscall.Sysinfo(&info); err != nil {
		return topo.Memory() / 10 * 9
	}
	return int64(info.Totalram) * int64(info.Unit) / 10 * 9
}

// freeDisk is nine tenths of what is free where the data lies.
func freeDisk(dir string) int64 {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0
	}
	return int64(st.Bavail) * st.Bsize / 10 * 9
}

// scratch is how many bytes tasks may use of the disk: none once it is too full
// for the ledger to go on.
func (n *Node) scratch() int64 {
	if n.room() != nil {
		return 0
	}
	return freeDisk(n.cfg.Data)
}

// JournalFile is where, in the data folder, the supervisor records what ran when
// (watchdog.ReadJournal).
const JournalFile = "attempts"

// openRunners starts the supervisor and the runners.
func (n *Node) openRunners(ctx context.Context) error {
	if n.cfg.Runners != nil {
		n.machine.supervisor = unguarded{}
		if n.cfg.Given != nil {
			n.machine.supervisor = n.cfg.Given.Supervisor
		}
		return n.proveRunners(ctx, slices.Collect(maps.Values(n.cfg.Runners)))
	}
	n.machine.advice = advice.Of(os.DirFS("/"))
	for _, a := range n.machine.advice {
		n.log.Warn("this machine weakens every wall", "what", a)
	}
	log := n.log.With("part", "runner")
	prefix := "perrin-" + n.self.Short()
	host, err := sandbox.NewHost(sandbox.Config{Prefix: prefix, Logger: log})
	if err != nil {
		return err
	}
	n.onClose("sandbox", host.Close)
	n.machine.controls, n.machine.used = host.Controls(), host.Time
	if top, own := host.Unified(); top != "" {
		n.machine.groups = &load.Groups{FS: os.DirFS(top), Own: own}
	}
	data, err := filepath.Abs(n.cfg.Data)
	if err != nil {
		return err
	}
	guard, err := runner.StartSupervisor(runner.SupervisorConfig{
		Roots: host.Roots(), Journal: filepath.Join(data, JournalFile), Logger: log,
		OnKilled: func(k runner.Killed) { log.Warn("the supervisor ended a slot", "slot", k.Key, "why", k.Reason) },
	})
	if err != nil {
		return err
	}
	n.machine.supervisor = guard
	n.onClose("supervisor", guard.Close)
	candidates, err := n.candidates(host, data, log)
	if err != nil {
		return err
	}
	return n.proveRunners(ctx, candidates)
}

// candidates are the runners of the kinds that the node gets ready for.
func (n *Node) candidates(host *sandbox.Host, data string, log *slog.Logger) (out []runner.Runner, err error) {
	wants := func(k workload.Kind) bool { return n.cfg.Kinds == nil || slices.Contains(n.cfg.Kinds, k) }
	if wants(workload.Process) {
		out = append(out, process.New(host, log))
	}
	if wants(workload.Wasm) {
		r, err := wasm.New(wasm.Config{Host: host, CacheDir: filepath.Join(data, "compiled"), Logger: log})
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	if wants(workload.OCI) || wants(workload.GVisor) {
		r, err := oci.New(oci.Config{
			Host: host, Dir: filepath.Join(data, "images"), Limit: n.cfg.BlobLimit, Room: func() int64 { return freeDisk(data) }, Logger: log,
		})
		if err != nil {
			return nil, err
		}
		n.onClose("images", r.Close)
		if wants(workload.OCI) {
			out = append(out, r)
		}
		if wants(workload.GVisor) {
			out = append(out, r.GVisor())
		}
	}
	hardware, emulated := vm.New(vm.Config{Host: host, Dir: data, Logger: log})
	if wants(workload.VM) {
		out = append(out, hardware)
	}
	if wants(workload.EmulatedVM) {
		out = append(out, emulated)
	}
	return out, nil
}

// proveRunners runs each runner's self-test and keeps those that pass.
func (n *Node) proveRunners(ctx context.Context, candidates []runner.Runner) error {
	n.machine.runners, n.machine.unoffered = map[workload.Kind]runner.Runner{}, map[workload.Kind]string{}
	var failed error
	for i, p := range probeAll(ctx, candidates) {
		r := candidates[i]
		if p.err != nil {
			n.log.Warn("runner not offered: its self-test failed", "kind", r.Kind(), "err", p.err)
			n.machine.unoffered[r.Kind()] = workload.Cut(p.err.Error(), 300)
			failed = errors.Join(failed, p.err)
			continue
		}
		n.machine.runners[r.Kind()] = r
		if !slices.Contains(n.machine.walls, p.wall) {
			n.machine.walls = append(n.machine.walls, p.wall)
		}
	}
	slices.Sort(n.machine.walls)
	if len(n.machine.runners) == 0 && n.cfg.Kinds == nil {
		return fmt.Errorf("this machine can isolate nothing: %w", failed)
	}
	return nil
}

// Unoffered are the kinds of programs that this node does not run, with the reasons.
func (n *Node) Unoffered() map[workload.Kind]string { return maps.Clone(n.machine.unoffered) }

type proof struct {
	wall string
	err  error
}

// probeAll runs the self-tests side by side: one may wait for a machine to boot.
func probeAll(ctx context.Context, candidates []runner.Runner) []proof {
	proofs := make([]proof, len(candidates))
	var wg sync.WaitGroup
	for i, r := range candidates {
		wg.Go(func() {
			probe, cancel := context.WithTimeout(ctx, 30*time.Second)
			defer cancel()
			proofs[i].wall, proofs[i].err = r.Probe(probe)
		})
	}
	wg.Wait()
	return proofs
}

// watchSupervisor ends the node when its supervisor is gone: nothing may run here
// without one.
func (n *Node) watchSupervisor(ctx context.Context) error {
	select {
	case <-n.machine.supervisor.Done():
		return errors.New("the process that ends attempts with their lease has died")
	case <-ctx.Done():
		return nil
	}
}

func (n *Node) lease() lease.Config {
	cfg := lease.Default()
	cfg.TTL = n.cfg.LeaseTTL.Milliseconds()
	return cfg
}

func (n *Node) openWorker(context.Context) (err error) {
	slots := filepath.Join(n.cfg.Data, "slots")
	if err := sandbox.RemoveAll(slots); err != nil {
		return fmt.Errorf("clear what an earlier daemon left: %w", err)
	}
	boot, err := n.bootNumber()
	if err != nil {
		return err
	}
	m := n.machine
	n.worker, err = worker.New(worker.Config{
		Self: n.self, Key: n.id.key, Memo: n.memo, Revoked: n.id.trust.Revoked, Cell: n.homeCell, Machine: m.about, Dir: slots, Boot: boot,
		Alloc: m.alloc, Disk: n.scratch, Stream: n.cfg.Stream, Prices: m.prices(), Quota: m.controls.Quota, Runners: m.runners,
		Blobs: n.blobs, Fetch: n, Keep: n, Unseal: unsealer{n}, Leaders: n, Supervisor: m.supervisor, Lease: n.lease(), Clock: n.cfg.clock(), Log: n.log.With("part", "worker"),
	})
	if err != nil {
		return err
	}
	n.onClose("worker", func() error { n.worker.Close(); return nil })
	return nil
}

// prices are the default's with a thread's share of this machine's cores.
func (m *machine) prices() pricing.Config {
	cfg := pricing.Default()
	cfg.Width = int64(m.topo.SMT())
	cfg.SMT = min(cfg.SMT, 1000*cfg.Width)
	if m.gauge.SMT > 0 {
		cfg.SMT = m.gauge.SMT
	}
	return cfg
}

// kindsTold bounds the kinds of core that an offer tells of.
const kindsTold = 16

// speeds are those of the machine's kinds of core; none when there is one.
func (m *machine) speeds() []int64 {
	if len(m.topo.Speeds) < 2 {
		return nil
	}
	return m.topo.Speeds[:min(len(m.topo.Speeds), kindsTold)]
}

// gaugeFile is where, in the data folder, the node keeps what it measured.
const gaugeFile = "gauge.json"

// measure finds out what the machine's threads and kinds of core do among each
// other. Where it cannot, the defaults hold.
func (n *Node) measure(ctx context.Context) {
	m := n.machine
	if !n.cfg.Measure || m.topo.Declared || n.cfg.Given != nil {
		return
	}
	cpuinfo, err := os.ReadFile("/proc/cpuinfo")
	if err == nil {
		m.gauge, err = gauge.Load(ctx, m.topo, string(cpuinfo), filepath.Join(n.cfg.Data, gaugeFile))
	}
	if err != nil {
		n.log.Warn("what hyperthreads and slower cores do is not measured: defaults hold", "err", err)
	}
	if len(m.gauge.Speeds) > 0 {
		m.topo.Speeds = m.gauge.Speeds
	}
	if m.gauge.Key != "" {
		n.log.Info("measured", "smt_permille", m.gauge.SMT, "speeds_permille", m.gauge.Speeds)
	}
}

// levels names the isolation that this machine has proved, for people.
func (m *machine) levels() string { return strings.Join(m.walls, ", ") }
