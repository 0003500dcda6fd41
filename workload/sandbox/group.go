package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/perrin-mesh/perrin/workload/sandbox/cgroup"
	"github.com/perrin-mesh/perrin/workload/sandbox/inside"
)

// Limits bound everything that runs in one Group together.
type Limits struct {
	Memory int64 // bytes, swap and /tmp included
	Pids   int64 // processes and threads
	CPUs   []int // logical CPUs; empty: not pinned
	Disk   int64 // bytes of one file; see Watch for all of them
	// Owner is who the programs are of. What costs much to make and nothing can
	// be left in (nets) serves one owner again; "" shares nothing.
	Owner string

	Nodes []int // NUMA nodes that memory comes from; empty: any
	Quota int32 // CPU time in permille of one CPU; 0: no bound
	Spare bool  // runs only when nothing else wants to
	Apart bool  // nothing else may run on the sibling of a CPU meanwhile, where the kernel can (Host.Controls)
}

// Group is what one session's programs share, one after another: a user of
// their own and cgroups with limits.
type Group struct {
	host   *Host
	limits Limits
	uid    int
	dirs   map[string]string // controller to folder; "" is the unified one
	procs  []*os.File        // cgroup.procs or tasks of each, to be joined through
	counts counts
	owner  *os.File // maps root to the group's user (root.go); nil until an image needs it
	peak   *os.File // memory.peak, kept open because a reset belongs to the descriptor
	live   sync.Map // *Proc, not waited for

	mu     sync.Mutex // guards limits.CPUs, limits.Nodes and frozen
	frozen bool
}

// counts is what the group's cgroups bound and count.
type counts struct{ memory, pids, cpus, cpu bool }

// NewGroup makes the cgroups. name must be unique on this node while the group
// is open; it is bounded and cleaned here.
func (h *Host) NewGroup(name string, l Limits) (*Group, error) {
	g := &Group{host: h, limits: l, uid: h.users.next(), dirs: map[string]string{}}
	name = cleanName(name)
	tree, prefix := h.tree, h.prefix
	if l.Spare {
		tree, prefix = h.spare, h.prefix+spareSuffix
	}
	if l.Quota > 0 && !tree.can(ctlCPU) {
		return nil, fmt.Errorf("%w: CPU time cannot be bounded, no cpu cgroup is writable", ErrUnavailable)
	}
	g.limits.Apart = l.Apart && h.ctl.Cookies
	h.groups.Store(g, nil)
	err := g.makeIn(tree, name)
	if errors.Is(err, os.ErrNotExist) { // an earlier daemon's supervisor removed the node's folder, which was empty
		if m, merr := currentMounts(); merr == nil {
			err = g.makeIn(m.claim(prefix, l.Spare, h.log), name)
		}
	}
	if err == nil {
		g.procs, err = g.open()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cgroup %s: %w", name, err), g.Close())
	}
	g.counts = g.controllers()
	return g, nil
}

func (g *Group) makeIn(tree hierarchy, name string) error {
	for c, dir := range tree.folders() {
		if c == ctlCPU && g.limits.Quota == 0 && !g.limits.Spare || c == ctlFreezer && !g.limits.Spare {
			continue // each costs time to make
		}
		g.dirs[c] = filepath.Join(dir, name)
	}
	return g.make()
}

func (t hierarchy) folders() map[string]string {
	if t.unified != "" {
		return map[string]string{"": t.unified}
	}
	return t.v1
}

func cleanName(name string) string {
	clean := strings.Map(func(r rune) rune {
		if r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' {
			return r
		}
		return '-'
	}, strings.ToLower(name))
	return fmt.Sprintf("w%d-%s", os.Getpid(), clean[:min(len(clean), 100)])
}

func (g *Group) make() error {
	for _, dir := range g.dirs {
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	if dir, ok := g.dirs[""]; ok {
		return g.limitUnified(dir)
	}
	return g.limitV1()
}

func (g *Group) limitUnified(dir string) error {
	l := g.limits
	settings := [][2]string{{"memory.max", number(l.Memory)}, {"pids.max", number(l.Pids)}}
	if _, err := os.Stat(filepath.Join(dir, "memory.swap.max")); err == nil {
		settings = append(settings, [2]string{"memory.swap.max", "0"})
	}
	if g.has(ctlCPUSet) && len(l.CPUs) > 0 {
		settings = append(settings, [2]string{"cpuset.cpus", cpuList(l.CPUs)})
	}
	if g.has(ctlCPUSet) && len(l.Nodes) > 0 {
		settings = append(settings, [2]string{"cpuset.mems", cpuList(l.Nodes)})
	}
	g.peak, _ = os.OpenFile(filepath.Join(dir, "memory.peak"), os.O_RDWR, 0) // absent before Linux 5.19
	if err := writeAll(dir, settings); err != nil {
		return err
	}
	return g.limitCPU(dir, true)
}

func number(n int64) string {
	if n <= 0 {
		return "max"
	}
	return strconv.FormatInt(n, 10)
}

func cpuList(cpus []int) string {
	s := make([]string, len(cpus))
	for i, c := range cpus {
		s[i] = strconv.Itoa(c)
	}
	return strings.Join(s, ",")
}

func writeAll(dir string, settings [][2]string) error {
	for _, s := range settings {
		if err := cgroup.Write(dir, s[0], s[1]); err != nil {
			return fmt.Errorf("%s=%s: %w", s[0], s[1], err)
		}
	}
	return nil
}

func (g *Group) limitV1() error {
	l := g.limits
	if dir := g.dirs[ctlMemory]; dir != "" && l.Memory > 0 {
		if err := limitMemoryV1(dir, number(l.Memory)); err != nil {
			return err
		}
	}
	if dir := g.dirs[ctlPids]; dir != "" {
		if err := cgroup.Write(dir, "pids.max", number(l.Pids)); err != nil {
			return fmt.Errorf("pids.max: %w", err)
		}
	}
	if dir := g.dirs[ctlCPU]; dir != "" {
		if err := g.limitCPU(dir, false); err != nil {
			return err
		}
	}
	dir := g.dirs[ctlCPUSet]
	if dir == "" {
		return nil
	}
	if len(l.Nodes) > 0 {
		if err := cgroup.Write(dir, "cpuset.mems", cpuList(l.Nodes)); err != nil {
			return fmt.Errorf("cpuset.mems=%v: %w", l.Nodes, err)
		}
	}
	if len(l.CPUs) > 0 {
		if err := cgroup.Write(dir, "cpuset.cpus", cpuList(l.CPUs)); err != nil {
			return fmt.Errorf("cpuset.cpus=%v: %w", l.CPUs, err)
		}
	}
	return copyCPUSet(dir)
}

// limitMemoryV1 sets the limit on memory and then the one on memory and swap,
// which may never be the lower of the two. Kernels may have no swap accounting.
func limitMemoryV1(dir, limit string) error {
	if err := cgroup.Write(dir, "memory.limit_in_bytes", limit); err != nil {
		return fmt.Errorf("memory.limit_in_bytes=%s: %w", limit, err)
	}
	err := cgroup.Write(dir, "memory.memsw.limit_in_bytes", limit)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// has reports whether the group has the controller.
func (g *Group) has(controller string) bool {
	dir, unified := g.dirs[""]
	if !unified {
		return g.dirs[controller] != ""
	}
	probe := map[string]string{ctlMemory: "memory.max", ctlPids: "pids.max", ctlCPUSet: "cpuset.cpus", ctlCPUAcct: "cpu.stat"}
	_, err := os.Stat(filepath.Join(dir, probe[controller]))
	return err == nil
}

func (g *Group) controllers() counts {
	return counts{g.has(ctlMemory), g.has(ctlPids), g.has(ctlCPUSet), g.has(ctlCPUAcct)}
}

// UID is the host user that the group's programs run as.
func (g *Group) UID() int { return g.uid }

// Cgroups returns the folders of the group's cgroups, sorted in no order.
func (g *Group) Cgroups() []string {
	out := make([]string, 0, len(g.dirs))
	for _, dir := range g.dirs {
		out = append(out, dir)
	}
	return out
}

// Chown gives path itself to the group's user, where that is another than the
// node's own. It does not follow a symlink.
func (g *Group) Chown(path string) error {
	if g.uid == os.Geteuid() {
		return nil
	}
	return os.Lchown(path, g.uid, g.uid)
}

// open opens the files through which a program joins the cgroups. It is one thread
// then. In version 1 a thread moves itself without waiting for every CPU of the
// machine to have passed by, which costs some 10 ms where nothing was moved of late
// (cgroup_procs_write_start); version 2 moves whole processes only.
func (g *Group) open() ([]*os.File, error) {
	var files []*os.File
	for controller, dir := range g.dirs {
		name := "tasks"
		if controller == "" {
			name = "cgroup.procs"
		}
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY, 0)
		if err != nil {
			closeFiles(files)
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// insideLimits are the limits that the sandbox itself must set, in place of
// the controllers that are missing too.
func (g *Group) insideLimits() inside.Limits {
	g.mu.Lock()
	defer g.mu.Unlock()
	l := inside.Limits{FileSize: g.limits.Disk, Files: openFiles, CPUs: g.limits.CPUs, TmpSize: max(g.limits.Memory, 1<<20),
		Idle: g.limits.Spare, Apart: g.limits.Apart}
	if !g.counts.memory && g.limits.Memory > 0 {
		l.Data = 2*g.limits.Memory + dataSlack
		l.TmpSize = max(g.limits.Memory/4, 1<<20) // nothing else counts it
	}
	if !g.counts.pids {
		l.Procs = g.limits.Pids + initThreads
	}
	l.Pinned = g.counts.cpus
	if l.Pinned && g.limits.Spare {
		l.CPUs = nil // an affinity of its own would not follow the cpuset when that moves
	}
	if !l.Pinned {
		l.Nodes = g.limits.Nodes
	}
	return l
}

const (
	openFiles   = 4096
	dataSlack   = 128 << 20 // what a Go or Python runtime maps before it uses it
	initThreads = 16        // pid 1 counts where RLIMIT_NPROC counts
)

// Meter is a reading of what a group has used so far.
type Meter struct {
	CPUMs    int64 // -1 when the group cannot tell
	PeakMem  int64 // bytes since the last Reset, -1 when the group cannot tell
	OOMKills int64
}

// Read returns what has been used.
func (g *Group) Read() Meter {
	if dir, ok := g.dirs[""]; ok {
		return g.readUnified(dir)
	}
	m := Meter{CPUMs: -1, PeakMem: -1}
	if dir := g.dirs[ctlCPUAcct]; dir != "" {
		if ns, err := readNumber(dir, "cpuacct.usage", ""); err == nil {
			m.CPUMs = ns / 1e6
		}
	}
	if dir := g.dirs[ctlMemory]; dir != "" {
		if n, err := readNumber(dir, "memory.max_usage_in_bytes", ""); err == nil {
			m.PeakMem = n
		}
		m.OOMKills, _ = readNumber(dir, "memory.oom_control", "oom_kill")
	}
	return m
}

func (g *Group) readUnified(dir string) Meter {
	m := Meter{CPUMs: -1, PeakMem: -1}
	if us, err := readNumber(dir, "cpu.stat", "usage_usec"); err == nil {
		m.CPUMs = us / 1e3
	}
	m.OOMKills, _ = readNumber(dir, "memory.events", "oom_kill")
	if g.peak != nil {
		var buf [32]byte
		if n, err := g.peak.ReadAt(buf[:], 0); n > 0 {
			if v, perr := strconv.ParseInt(strings.TrimSpace(string(buf[:n])), 10, 64); perr == nil {
				m.PeakMem, err = v, nil
			}
			_ = err // a short read is the whole number
		}
	}
	return m
}

// Reset starts a new reading of the peak.
func (g *Group) Reset() {
	if g.peak != nil {
		_, _ = g.peak.WriteAt([]byte("reset\n"), 0) // kept since the start before Linux 6.12
	}
	if dir := g.dirs[ctlMemory]; dir != "" {
		_ = cgroup.Write(dir, "memory.max_usage_in_bytes", "0") // the peak then is the session's
	}
}

// readNumber reads the file's number, or the one after key on a line of its own.
func readNumber(dir, name, key string) (int64, error) {
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if key == "" && len(f) == 1 {
			return strconv.ParseInt(f[0], 10, 64)
		}
		if len(f) == 2 && f[0] == key {
			return strconv.ParseInt(f[1], 10, 64)
		}
	}
	return 0, fmt.Errorf("%s: no %s", name, key)
}

// Kill sends SIGKILL to every process of the group.
func (g *Group) Kill() {
	for _, dir := range g.dirs {
		cgroup.Kill(dir)
	}
	_ = g.Thaw() // what is stopped by a signal needs no more than its death
}

// Close kills what is left and removes the cgroups. It is idempotent.
func (g *Group) Close() error {
	g.host.groups.Delete(g)
	g.Kill() // in every folder first: what is frozen in one does not die for another
	var errs []error
	closeFiles(g.procs)
	g.procs = nil
	for _, dir := range g.dirs {
		errs = append(errs, cgroup.Remove(dir))
	}
	closeFiles([]*os.File{g.peak, g.owner}) // closing none is harmless
	return errors.Join(errs...)
}
