package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/perrin-mesh/perrin/workload/sandbox/cgroup"
)

// quotaPeriod is over which a quota counts, in us: the kernel's default.
const quotaPeriod = 100_000

// Controls is what this machine can enforce on CPUs, as tried at start-up.
type Controls struct {
	CPUSet  bool   `json:"cpuset"`  // cpusets hold CPUs and NUMA nodes; without, affinity does
	Quota   bool   `json:"quota"`   // CPU time can be bounded
	Freeze  bool   `json:"freeze"`  // the freezer pauses; without, SIGSTOP does
	Cookies bool   `json:"cookies"` // core scheduling keeps strangers off sibling threads
	Why     string `json:"why"`     // there are no Cookies
}

// Controls tells what holds here.
func (h *Host) Controls() Controls { return h.ctl }

func (h *Host) controls() Controls {
	c := Controls{CPUSet: h.tree.can(ctlCPUSet), Quota: h.tree.can(ctlCPU), Freeze: h.spare.can(ctlFreezer)}
	c.Cookies, c.Why = coreScheduling()
	return c
}

// can reports whether groups of the hierarchy can have a controller.
func (t hierarchy) can(controller string) bool {
	if t.unified == "" {
		return t.v1[controller] != ""
	}
	if controller == ctlFreezer {
		return true // not a controller there; every cgroup below the top has it
	}
	text, err := os.ReadFile(filepath.Join(t.unified, "cgroup.subtree_control"))
	return err == nil && strings.Contains(" "+strings.TrimSpace(string(text))+" ", " "+controller+" ")
}

// CountsMemory reports whether a cgroup counts and bounds the memory of groups; else
// it is watched, which misses what no process has mapped.
func (h *Host) CountsMemory() bool { return h.tree.can(ctlMemory) && h.spare.can(ctlMemory) }

// CountsThreads reports whether a cgroup counts and bounds the processes and threads
// of groups; else an rlimit does, which what runs programs (Program.Runtime) is not under.
func (h *Host) CountsThreads() bool { return h.tree.can(ctlPids) && h.spare.can(ctlPids) }

// coreScheduling asks the kernel for this thread's cookie: the answer tells
// whether there could be one (Linux 5.14, CONFIG_SCHED_CORE).
func coreScheduling() (works bool, why string) {
	var cookie uint64
	err := unix.Prctl(unix.PR_SCHED_CORE, unix.PR_SCHED_CORE_GET, 0, unix.PR_SCHED_CORE_SCOPE_THREAD, uintptr(unsafe.Pointer(&cookie)))
	switch {
	case err == nil:
		return true, ""
	case errors.Is(err, unix.ENODEV):
		return false, "no core has two threads"
	case errors.Is(err, unix.EINVAL):
		return false, "this kernel has no core scheduling"
	}
	return false, err.Error()
}

// lowest gives a folder the least of the CPU that there is: the kernel runs it
// when nothing else wants to, where it knows cpu.idle (Linux 5.15).
func lowest(dir string, unified bool) {
	name, least := "cpu.shares", "2"
	if unified {
		name, least = "cpu.weight", "1"
	}
	_ = cgroup.Write(dir, name, least) // SCHED_IDLE still holds where neither file is there
	_ = cgroup.Write(dir, "cpu.idle", "1")
}

// limitCPU sets the quota, and where the group is spare its weight.
func (g *Group) limitCPU(dir string, unified bool) error {
	if g.limits.Spare {
		lowest(dir, unified)
	}
	if g.limits.Quota == 0 {
		return nil
	}
	quota := fmt.Sprint(int64(g.limits.Quota) * quotaPeriod / 1000)
	settings := [][2]string{{"cpu.cfs_period_us", fmt.Sprint(quotaPeriod)}, {"cpu.cfs_quota_us", quota}}
	if unified {
		settings = [][2]string{{"cpu.max", quota + " " + fmt.Sprint(quotaPeriod)}}
	}
	return writeAll(dir, settings)
}

// Move has the group run on other CPUs and take its memory from other NUMA
// nodes, those that run included; no nodes leaves them as they are. It may be
// called while a program starts or runs.
func (g *Group) Move(cpus, nodes []int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.limits.CPUs, g.limits.Nodes = cpus, nodes
	dir, unified := g.dirs[""]
	if !unified {
		dir = g.dirs[ctlCPUSet]
	}
	if !g.has(ctlCPUSet) {
		return g.eachThread(func(tid int) error { return affine(tid, cpus) })
	}
	settings := [][2]string{{"cpuset.cpus", cpuList(cpus)}}
	if len(nodes) > 0 {
		settings = append(settings, [2]string{"cpuset.mems", cpuList(nodes)})
	}
	return writeAll(dir, settings)
}

func affine(tid int, cpus []int) error {
	var set unix.CPUSet
	for _, c := range cpus {
		set.Set(c)
	}
	return unix.SchedSetaffinity(tid, &set)
}

// rounds is how often a tree of processes is walked for those that were started
// during the last walk.
const rounds = 3

// eachThread calls do for every thread of the group's programs. Those that have
// ended meanwhile are left out.
func (g *Group) eachThread(do func(tid int) error) error {
	seen := map[int]bool{}
	var errs []error
	for range rounds {
		fresh := false
		for _, pid := range g.programs() {
			tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
			for _, t := range tasks {
				var tid int
				if _, err := fmt.Sscan(t.Name(), &tid); err != nil || seen[tid] {
					continue
				}
				seen[tid], fresh = true, true
				if err := do(tid); err != nil && !errors.Is(err, unix.ESRCH) {
					errs = append(errs, fmt.Errorf("thread %d: %w", tid, err))
				}
			}
		}
		if !fresh {
			break
		}
	}
	return errors.Join(errs...)
}

// programs lists the processes of the group, the inits not among them.
func (g *Group) programs() []int {
	var out []int
	g.live.Range(func(key, _ any) bool {
		todo := children(key.(*Proc).pid)
		for len(todo) > 0 && len(out) < maxTree {
			out = append(out, todo[0])
			todo = append(todo[1:], children(todo[0])...)
		}
		return true
	})
	return out
}

// freezePatience bounds the wait for a version 1 freezer, which stops one
// process after another.
const freezePatience = 200 * time.Millisecond

// Freeze pauses everything in the group until Thaw. What is started meanwhile
// waits too, where there is a freezer. It is idempotent. A paused group can be
// killed, which ends the pause.
func (g *Group) Freeze() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.frozen {
		return nil
	}
	g.frozen = true
	if dir, unified := g.dirs[""]; unified {
		return cgroup.Write(dir, "cgroup.freeze", "1")
	}
	dir := g.dirs[ctlFreezer]
	if dir == "" {
		return g.signal(unix.SIGSTOP)
	}
	for end := time.Now().Add(freezePatience); ; time.Sleep(5 * time.Millisecond) {
		if err := cgroup.Write(dir, "freezer.state", "FROZEN"); err != nil {
			return err
		}
		state, err := os.ReadFile(filepath.Join(dir, "freezer.state"))
		if err != nil || strings.TrimSpace(string(state)) == "FROZEN" || time.Now().After(end) {
			return err
		}
	}
}

// Thaw lets the group go on. It is idempotent.
func (g *Group) Thaw() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.frozen {
		return nil
	}
	g.frozen = false
	if dir, unified := g.dirs[""]; unified {
		return cgroup.Write(dir, "cgroup.freeze", "0")
	}
	if dir := g.dirs[ctlFreezer]; dir != "" {
		return cgroup.Write(dir, "freezer.state", "THAWED")
	}
	return g.signal(unix.SIGCONT)
}

// signal sends sig to every process of the group's programs.
func (g *Group) signal(sig unix.Signal) error {
	sent := map[int]bool{}
	for range rounds {
		for _, pid := range g.programs() {
			if !sent[pid] {
				sent[pid] = true
				_ = unix.Kill(pid, sig) // ESRCH: it has ended
			}
		}
	}
	return nil
}

// Time is CPU time used so far by all sandboxes of this machine, those of other
// nodes on it included, and by spare ones among them. Where no cgroup counts it,
// it is that of this node's living ones. It may fall when some end.
func (h *Host) Time() (all, spare time.Duration) {
	rest, ok := h.tree.cpuTime(false)
	spare, okSpare := h.spare.cpuTime(true)
	if ok && okSpare {
		return rest + spare, spare
	}
	rest, spare = 0, 0
	h.groups.Range(func(key, _ any) bool {
		g := key.(*Group)
		sum := &rest
		if g.limits.Spare {
			sum = &spare
		}
		for _, pid := range g.programs() {
			*sum += time.Duration(processTicks(pid)) * time.Second / ticksPerSecond
		}
		return true
	})
	return rest + spare, spare
}

// cpuTime sums the time of the folders of nodes beside the hierarchy's own, of
// those for spare work or of the others.
func (t hierarchy) cpuTime(spare bool) (sum time.Duration, ok bool) {
	own, file, key, unit := t.unified, "cpu.stat", "usage_usec", time.Microsecond
	if own == "" {
		own, file, key, unit = t.v1[ctlCPUAcct], "cpuacct.usage", "", time.Nanosecond
	}
	if own == "" {
		return 0, false
	}
	dirs, err := filepath.Glob(filepath.Join(filepath.Dir(own), "perrin*"))
	if err != nil {
		return 0, false
	}
	for _, dir := range dirs {
		if strings.HasSuffix(dir, spareSuffix) != spare {
			continue
		}
		n, err := readNumber(dir, file, key)
		sum += time.Duration(n) * unit
		ok = ok || dir == own && err == nil
	}
	return sum, ok
}
