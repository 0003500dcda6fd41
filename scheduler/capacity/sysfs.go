package capacity

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/perrin-mesh/perrin/workload"
)

// Where the kernel says it, below the root of sysfs
// (Documentation/ABI/stable/sysfs-devices-system-cpu and -node).
const (
	cpuDir  = "devices/system/cpu/"
	nodeDir = "devices/system/node/"
)

// maxFile bounds what is read of one file; meminfo is the longest, at 2 KiB.
const maxFile = 64 << 10

// slowCPUs are the lists of the efficient cores of an Intel hybrid machine:
// the perf PMU's, which every kernel since 5.13 has, and the CPU types'.
var slowCPUs = []string{"devices/cpu_atom/cpus", cpuDir + "types/intel_atom_0/cpulist", cpuDir + "types/intel_atom/cpulist"}

// ReadTopology reads the machine's topology from sysfs rooted at sys, such as
// os.DirFS("/sys"). Only online CPUs count. What a kernel does not say is taken
// as its simplest form: without topology files each CPU is a core, without node
// files there is one node. What it says must agree with itself: the error then
// wraps ErrMalformed and names the file. Any other error is of the file system.
func ReadTopology(sys fs.FS) (Topology, error) {
	r := sysReader{sys: sys}
	t, err := r.topology()
	if err != nil {
		return Topology{}, fmt.Errorf("read topology: %w", err)
	}
	return t, nil
}

type sysReader struct{ sys fs.FS }

func (r sysReader) topology() (Topology, error) {
	online, err := r.list(cpuDir + "online")
	if err != nil {
		return Topology{}, err
	}
	if len(online) == 0 {
		return Topology{}, ErrNoCPU
	}
	var t Topology
	if t.Cores, err = r.cores(online); err != nil {
		return Topology{}, err
	}
	if err := r.nodes(&t); err != nil {
		return Topology{}, err
	}
	t.order()
	if err := r.tiers(&t); err != nil {
		return Topology{}, err
	}
	return t, t.check()
}

// cores groups online CPUs by their sibling lists. Numbers of cores (core_id)
// are not used: they repeat across packages and dies.
func (r sysReader) cores(online []int) ([]Core, error) {
	var cores []Core
	coreOf := make(map[int]int, len(online))
	for _, cpu := range online {
		siblings, err := r.siblings(cpu, online)
		if err != nil {
			return nil, err
		}
		if i, known := coreOf[cpu]; known {
			if !slices.Equal(cores[i].CPUs, siblings) {
				return nil, fmt.Errorf("%w: CPU %d names siblings %v, CPU %d names %v", ErrMalformed, cpu, siblings, cores[i].CPUs[0], cores[i].CPUs)
			}
			continue
		}
		socket, err := r.number(fmt.Sprintf("%scpu%d/topology/physical_package_id", cpuDir, cpu), 0)
		if err != nil {
			return nil, err
		}
		for _, s := range siblings {
			if _, known := coreOf[s]; known {
				return nil, fmt.Errorf("%w: CPU %d is a sibling of CPU %d, which names others", ErrMalformed, s, cpu)
			}
			coreOf[s] = len(cores)
		}
		cores = append(cores, Core{Socket: int(max(socket, 0)), CPUs: siblings})
	}
	return cores, nil
}

// siblings returns the online threads of cpu's core, cpu among them.
func (r sysReader) siblings(cpu int, online []int) ([]int, error) {
	dir := fmt.Sprintf("%scpu%d/topology/", cpuDir, cpu)
	for _, name := range []string{"core_cpus_list", "thread_siblings_list"} {
		all, err := r.list(dir + name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		here := slices.DeleteFunc(all, func(c int) bool { _, on := slices.BinarySearch(online, c); return !on })
		if !slices.Contains(here, cpu) || len(here) > maxSiblings {
			return nil, fmt.Errorf("%s%s: %w: %d siblings, CPU %d itself must be among them", dir, name, ErrMalformed, len(here), cpu)
		}
		return here, nil
	}
	return []int{cpu}, nil
}

// nodes reads the NUMA nodes and puts each core on its node.
func (r sysReader) nodes(t *Topology) error {
	ids, err := r.list(nodeDir + "online")
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(ids) == 0 {
		t.Nodes = []Node{{}}
		return nil
	}
	if err != nil {
		return err
	}
	nodeOf := make(map[int]int)
	for _, id := range ids {
		cpus, err := r.list(fmt.Sprintf("%snode%d/cpulist", nodeDir, id))
		if err != nil {
			return err
		}
		for _, cpu := range cpus {
			if other, taken := nodeOf[cpu]; taken {
				return fmt.Errorf("%w: CPU %d is on node %d and on node %d", ErrMalformed, cpu, other, id)
			}
			nodeOf[cpu] = id
		}
		memory, err := r.nodeMemory(id)
		if err != nil {
			return err
		}
		t.Nodes = append(t.Nodes, Node{ID: id, Memory: memory})
	}
	return placeOnNodes(t, nodeOf)
}

func placeOnNodes(t *Topology, nodeOf map[int]int) error {
	for i, c := range t.Cores {
		for _, cpu := range c.CPUs {
			node, known := nodeOf[cpu]
			if !known {
				return fmt.Errorf("%w: CPU %d is online, but on no node", ErrMalformed, cpu)
			}
			if node != nodeOf[c.CPUs[0]] {
				return fmt.Errorf("%w: the core of CPUs %v lies on two nodes", ErrMalformed, c.CPUs)
			}
		}
		t.Cores[i].Node = nodeOf[c.CPUs[0]]
	}
	return nil
}

// nodeMemory reads "Node 0 MemTotal:  4155604 kB"; 0 where the kernel does not say.
func (r sysReader) nodeMemory(id int) (int64, error) {
	name := fmt.Sprintf("%snode%d/meminfo", nodeDir, id)
	text, err := r.read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 5 || f[2] != "MemTotal:" {
			continue
		}
		kib, err := strconv.ParseInt(f[3], 10, 64)
		if err != nil || kib < 0 || kib > workload.MaxMemory>>10 || f[4] != "kB" {
			return 0, fmt.Errorf("%s: %w: %.80q", name, ErrMalformed, strings.TrimSpace(line))
		}
		return kib << 10, nil
	}
	return 0, nil
}

// slowSpeed is what an efficient core of a hybrid machine is taken to do, in
// permille of a fast one, until that is measured.
const slowSpeed = 600

// tiers ranks the kinds of core: by cpu_capacity where the kernel gives it
// (Arm, RISC-V), else by Intel's list of efficient cores.
func (r sysReader) tiers(t *Topology) error {
	speeds := make([]int64, len(t.Cores))
	slow, err := r.slow()
	if err != nil {
		return err
	}
	for i, c := range t.Cores {
		speeds[i], err = r.number(fmt.Sprintf("%scpu%d/cpu_capacity", cpuDir, c.CPUs[0]), 1024)
		if err != nil {
			return err
		}
		if slices.Contains(slow, c.CPUs[0]) {
			speeds[i] = speeds[i] * slowSpeed / 1000
		}
	}
	t.setTiers(speeds)
	return nil
}

func (r sysReader) slow() ([]int, error) {
	for _, name := range slowCPUs {
		cpus, err := r.list(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		return cpus, err
	}
	return nil, nil
}

// number reads a file of one decimal number, or returns missing when there is
// no such file.
func (r sysReader) number(name string, missing int64) (int64, error) {
	text, err := r.read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return missing, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%s: %w: %.40q is not a number", name, ErrMalformed, text)
	}
	return n, nil
}

func (r sysReader) list(name string) ([]int, error) {
	text, err := r.read(name)
	if err != nil {
		return nil, err
	}
	cpus, err := ParseCPUs(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return cpus, nil
}

// read returns the content of a file of at most maxFile bytes.
func (r sysReader) read(name string) (string, error) {
	f, err := r.sys.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	if len(b) > maxFile {
		return "", fmt.Errorf("%s: %w: longer than %d bytes", name, ErrMalformed, maxFile)
	}
	return string(b), nil
}
