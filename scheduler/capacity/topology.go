// Package capacity is the bidder's side of the market: what CPUs a machine has
// and which of them a slot gets. It is pure: it has no clock and does no I/O of
// its own, and the same calls in the same order give the same answers.
//
// A Topology is read from the kernel (ReadTopology), then cut to what the
// daemon may use (Restrict) or replaced by a declaration (Declare). An Allocator
// is built on it and follows four rules:
//
//   - A slot of class core gets physical cores with all their sibling threads.
//   - A slot of class thread gets hyperthreads; as long as any thread of a core
//     is in use, the other threads of the core go to the same tenant (the owner's
//     PeerID, or all who share) or stay idle. On a machine without SMT a thread
//     is a core.
//   - A slot of class spare gets the idle time of threads. It takes nothing from
//     the other classes, and gives way to them (see Lent).
//   - What a bid promises is held by name until the hold is committed, released
//     or expired; nothing is ever promised twice.
//
// Time is milliseconds of any clock that the caller keeps to; memory is bytes.
package capacity

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/perrin-mesh/perrin/workload"
)

var (
	// ErrMalformed is returned when a file of the kernel holds something other
	// than what the kernel documents, or files contradict each other.
	ErrMalformed = errors.New("malformed topology")
	// ErrNoCPU is returned when a topology would have no CPU left.
	ErrNoCPU = errors.New("no CPU to offer")
)

// maxSiblings bounds the threads of one core; the widest known has 8.
const maxSiblings = 64

// Core is one physical core.
type Core struct {
	Socket int   // physical package, as the kernel numbers it
	Node   int   // NUMA node, as the kernel numbers it
	Tier   int   // 0 is the fastest kind of core in the machine; 1 and up are slower kinds
	CPUs   []int // its logical CPUs (threads) that may be used, ascending
	Shared bool  // it has threads outside these CPUs, so it can never be given whole
}

// Node is one NUMA node.
type Node struct {
	ID     int
	Memory int64 // bytes that the kernel counts there; 0 when it does not say
}

// Topology is the shape of a machine. Cores are ordered by node, then by their
// lowest CPU; declared ones stand as they were declared. It is immutable: the
// methods return changed copies.
type Topology struct {
	Cores    []Core
	Nodes    []Node  // ascending; nodes without CPUs included
	Speeds   []int64 // of each tier, in permille of the fastest; tiers beyond it count as the fastest
	Declared bool    // made by Declare: the cores are a promise, not a partition of the machine
}

// Uniform returns a machine of one node and cores of equal width with CPUs
// numbered core by core, for declarations on systems whose topology cannot be
// read and for models. Both numbers are raised to at least 1.
func Uniform(cores, width int) Topology {
	cores, width = min(max(cores, 1), workload.MaxCPUs), min(max(width, 1), maxSiblings)
	t := Topology{Cores: make([]Core, cores), Nodes: []Node{{}}}
	for i := range t.Cores {
		for s := range width {
			t.Cores[i].CPUs = append(t.Cores[i].CPUs, i*width+s)
		}
	}
	return t
}

// Threads returns the number of logical CPUs. Where declared cores share CPUs,
// each counts as often as it is declared.
func (t Topology) Threads() int {
	n := 0
	for _, c := range t.Cores {
		n += len(c.CPUs)
	}
	return n
}

// SMT returns the threads of the widest core, 1 when SMT is off or absent.
func (t Topology) SMT() int {
	width := 1
	for _, c := range t.Cores {
		width = max(width, len(c.CPUs))
	}
	return width
}

// Sockets returns the number of physical packages with CPUs.
func (t Topology) Sockets() int {
	seen := map[int]bool{}
	for _, c := range t.Cores {
		seen[c.Socket] = true
	}
	return len(seen)
}

// CPUs returns all logical CPUs, ascending, each once.
func (t Topology) CPUs() []int {
	var all []int
	for _, c := range t.Cores {
		all = append(all, c.CPUs...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Memory returns the bytes of all nodes as the kernel counts them per node,
// which may be less than the machine has (memory that was plugged in later).
func (t Topology) Memory() int64 {
	var sum int64
	for _, n := range t.Nodes {
		sum += n.Memory
	}
	return sum
}

// Restrict returns what is left when only cpus may be used: the daemon's
// affinity mask or cpuset. A core that loses a thread becomes Shared, since
// someone else may run on its sibling: it serves threads, never whole cores.
// The error wraps ErrNoCPU when nothing is left.
func (t Topology) Restrict(cpus []int) (Topology, error) {
	allowed := make(map[int]bool, len(cpus))
	for _, cpu := range cpus {
		allowed[cpu] = true
	}
	out := Topology{Nodes: slices.Clone(t.Nodes), Speeds: t.Speeds, Declared: t.Declared}
	for _, c := range t.Cores {
		kept := slices.DeleteFunc(slices.Clone(c.CPUs), func(cpu int) bool { return !allowed[cpu] })
		if len(kept) == 0 {
			continue
		}
		c.Shared = c.Shared || len(kept) < len(c.CPUs)
		c.CPUs = kept
		out.Cores = append(out.Cores, c)
	}
	if len(out.Cores) == 0 {
		return Topology{}, fmt.Errorf("%w: none of the machine's %d CPUs is among the %d allowed", ErrNoCPU, t.Threads(), len(cpus))
	}
	return out, nil
}

// Declare returns a topology of exactly cores cores (1 to workload.MaxCPUs) that
// stand on t's cores in turn, starting at core number first. It is for several
// daemons on one machine that each offer a declared capacity: they, and even one
// that declares more than there is, may map to the same CPUs, so the tenant rule
// holds among one daemon's declared cores only. Cores keep the order of the
// declaration, so daemons that start at different cores fill different ones
// first. A Shared core counts as whole when it is declared.
func (t Topology) Declare(cores, first int) (Topology, error) {
	if cores < 1 || cores > workload.MaxCPUs {
		return Topology{}, fmt.Errorf("declare %d cores: want 1 to %d", cores, workload.MaxCPUs)
	}
	if len(t.Cores) == 0 || first < 0 {
		return Topology{}, fmt.Errorf("declare %d cores from core %d: %w", cores, first, ErrNoCPU)
	}
	out := Topology{Nodes: slices.Clone(t.Nodes), Speeds: t.Speeds, Declared: true}
	for i := range cores {
		c := t.Cores[(first%len(t.Cores)+i)%len(t.Cores)]
		c.CPUs, c.Shared = slices.Clone(c.CPUs), false
		out.Cores = append(out.Cores, c)
	}
	return out, nil
}

// lowest returns which n cores have the lowest CPU numbers.
func (t Topology) lowest(n int) map[int]bool {
	order := make([]int, len(t.Cores))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return t.Cores[i].CPUs[0] - t.Cores[j].CPUs[0] })
	out := map[int]bool{}
	for _, i := range order[:min(max(n, 0), len(order))] {
		out[i] = true
	}
	return out
}

// order sorts cores and nodes as Topology documents.
func (t *Topology) order() {
	slices.SortStableFunc(t.Cores, func(a, b Core) int {
		if a.Node != b.Node {
			return a.Node - b.Node
		}
		return a.CPUs[0] - b.CPUs[0]
	})
	slices.SortFunc(t.Nodes, func(a, b Node) int { return a.ID - b.ID })
}

// check returns an error unless t is one an Allocator can stand on.
func (t Topology) check() error {
	if len(t.Cores) == 0 {
		return ErrNoCPU
	}
	if len(t.Cores) > workload.MaxCPUs {
		return fmt.Errorf("%w: %d cores, at most %d", ErrMalformed, len(t.Cores), workload.MaxCPUs)
	}
	owner := make(map[int]int)
	for i, c := range t.Cores {
		if len(c.CPUs) == 0 || len(c.CPUs) > maxSiblings {
			return fmt.Errorf("%w: core %d has %d threads, want 1 to %d", ErrMalformed, i, len(c.CPUs), maxSiblings)
		}
		for _, cpu := range c.CPUs {
			if other, taken := owner[cpu]; taken && !t.Declared {
				return fmt.Errorf("%w: CPU %d is on core %d and on core %d", ErrMalformed, cpu, other, i)
			}
			owner[cpu] = i
		}
	}
	return nil
}

// setTiers turns a speed per core (any unit, greater is faster) into tiers.
func (t *Topology) setTiers(speeds []int64) {
	distinct := map[int64]bool{}
	for _, s := range speeds {
		distinct[s] = true
	}
	order := slices.Sorted(maps.Keys(distinct))
	slices.Reverse(order)
	for i, s := range speeds {
		t.Cores[i].Tier = slices.Index(order, s)
	}
	t.Speeds = make([]int64, len(order))
	for i, s := range order {
		t.Speeds[i] = min(max(s*1000/max(order[0], 1), 1), 1000)
	}
}

// Speed is how fast a core of a tier is, in permille of the machine's fastest.
func (t Topology) Speed(tier int) int64 {
	if tier < 0 || tier >= len(t.Speeds) {
		return 1000
	}
	return t.Speeds[tier]
}
