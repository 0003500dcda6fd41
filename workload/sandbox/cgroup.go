package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/perrin-mesh/perrin/workload/sandbox/cgroup"
)

// hierarchy is where this node may make cgroups: the unified hierarchy
// (version 2) with the controllers it needs, or one folder for each version 1
// controller. The zero value is a machine where it may not.
type hierarchy struct {
	unified string            // the node's folder, "" when not version 2
	v1      map[string]string // controller to the node's folder
}

// Controllers that bound a program.
const (
	ctlMemory  = "memory"
	ctlPids    = "pids"
	ctlCPUSet  = "cpuset"
	ctlCPUAcct = "cpuacct" // version 1 only
	ctlCPU     = "cpu"
	ctlFreezer = "freezer" // version 1 only
)

// mounted is where the hierarchies of this machine are and which cgroup this
// process is in.
type mounted struct {
	unified    string // folder of the process's own cgroup, "" for none
	unifiedTop string
	v1         map[string]string // controller to the folder of the process's own cgroup
}

// readMounted parses /proc/self/mountinfo and /proc/self/cgroup (proc(5), cgroups(7)).
func readMounted(mountinfo, membership string) mounted {
	own := map[string]string{}
	for line := range strings.Lines(membership) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		for _, c := range strings.Split(f[1], ",") {
			own[c] = f[2]
		}
	}
	m := mounted{v1: map[string]string{}}
	for line := range strings.Lines(mountinfo) {
		m.addMount(strings.Fields(line), own)
	}
	return m
}

func (m *mounted) addMount(f []string, own map[string]string) {
	sep := slices.Index(f, "-")
	if sep < 5 || len(f) < sep+4 {
		return
	}
	root, at, kind, options := f[3], f[4], f[sep+1], f[sep+3]
	below := func(controller string) (string, bool) {
		p, ok := own[controller]
		rel, inside := strings.CutPrefix(p, strings.TrimSuffix(root, "/"))
		return filepath.Join(at, rel), ok && inside
	}
	switch kind {
	case "cgroup2":
		if dir, ok := below(""); ok && m.unified == "" {
			m.unified, m.unifiedTop = dir, at
		}
	case "cgroup":
		for _, c := range strings.Split(options, ",") {
			if dir, ok := below(c); ok && m.v1[c] == "" {
				m.v1[c] = dir
			}
		}
	}
}

func currentMounts() (mounted, error) {
	mountinfo, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return mounted{}, err
	}
	membership, err := os.ReadFile("/proc/self/cgroup")
	return readMounted(string(mountinfo), string(membership)), err
}

// claim makes the node's folder wherever it may.
// spare work's is as high up as it may be, where it competes with everything else.
func (m mounted) claim(prefix string, spare bool, log *slog.Logger) hierarchy {
	if dir, err := m.claimUnified(prefix, spare); err == nil {
		if spare {
			lowest(dir, true)
		}
		return hierarchy{unified: dir}
	} else if m.unified != "" {
		log.Debug("cgroup version 2 is not usable", "reason", err)
	}
	h := hierarchy{v1: map[string]string{}}
	for _, c := range []string{ctlMemory, ctlPids, ctlCPUSet, ctlCPUAcct, ctlCPU, ctlFreezer} {
		own, ok := m.v1[c]
		if !ok {
			continue
		}
		dir := filepath.Join(own, prefix)
		if err := claimV1(c, dir); err != nil {
			log.Debug("cgroup controller is not usable", "controller", c, "reason", err)
			continue
		}
		h.v1[c] = dir
		if c == ctlCPU && spare {
			lowest(dir, false)
		}
	}
	return h
}

func claimV1(controller, dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if unix.Access(dir, unix.W_OK) != nil {
		return fs.ErrPermission
	}
	if controller == ctlCPUSet {
		return copyCPUSet(dir)
	}
	return nil
}

// copyCPUSet fills a new version 1 cpuset, which starts empty, from its parent.
func copyCPUSet(dir string) error {
	for _, name := range []string{"cpus", "mems"} {
		have, err := os.ReadFile(filepath.Join(dir, "cpuset."+name))
		if err == nil && strings.TrimSpace(string(have)) != "" {
			continue
		}
		v, err := os.ReadFile(filepath.Join(filepath.Dir(dir), "cpuset.effective_"+name))
		if err != nil {
			return err
		}
		if err := cgroup.Write(dir, "cpuset."+name, strings.TrimSpace(string(v))); err != nil {
			return err
		}
	}
	return nil
}

// claimUnified makes the node's folder in the process's own cgroup, or, for
// root, in the top one, with the controllers handed down.
func (m mounted) claimUnified(prefix string, top bool) (string, error) {
	if m.unified == "" {
		return "", errors.New("not mounted")
	}
	parents := []string{m.unified}
	if os.Geteuid() == 0 && m.unifiedTop != m.unified {
		parents = append(parents, m.unifiedTop)
		if top {
			slices.Reverse(parents)
		}
	}
	var errs []error
	for _, parent := range parents {
		dir := filepath.Join(parent, prefix)
		err := delegate(parent)
		if err == nil {
			err = os.MkdirAll(dir, 0o755)
		}
		if err == nil {
			err = handDown(dir)
		}
		if err == nil {
			return dir, nil
		}
		errs = append(errs, err)
	}
	return "", errors.Join(errs...)
}

// v2Controllers are handed down to every attempt; cpu and io only where there.
const v2Controllers = "+memory +pids"

// delegate hands the controllers of parent down. A cgroup with processes of its
// own cannot; when this process is the only one (a systemd service with
// Delegate=yes) it moves itself into a leaf first.
func delegate(parent string) error {
	err := handDown(parent)
	if !errors.Is(err, unix.EBUSY) {
		return err
	}
	pids, perr := cgroup.Pids(parent)
	if perr != nil || len(pids) != 1 || pids[0] != os.Getpid() {
		return err
	}
	leaf := filepath.Join(parent, "daemon")
	if err := os.MkdirAll(leaf, 0o755); err != nil {
		return err
	}
	if err := cgroup.Write(leaf, "cgroup.procs", "0"); err != nil {
		return err
	}
	return handDown(parent)
}

func handDown(dir string) error {
	if err := cgroup.Write(dir, "cgroup.subtree_control", v2Controllers); err != nil {
		return err
	}
	// Not delegated to users by every systemd: affinity serves in place of the
	// one, and without the other there is no quota.
	_ = cgroup.Write(dir, "cgroup.subtree_control", "+cpuset")
	_ = cgroup.Write(dir, "cgroup.subtree_control", "+cpu")
	return nil
}

// Sweep kills and removes every cgroup that a node with this prefix left
// behind. It must not run beside a node that uses the prefix.
func Sweep(prefix string) error {
	if err := checkPrefix(prefix); err != nil {
		return err
	}
	m, err := currentMounts()
	if err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	dirs := map[string]bool{m.unified: true, m.unifiedTop: true}
	for _, own := range m.v1 {
		dirs[own] = true
	}
	if freezer := m.v1[ctlFreezer]; freezer != "" { // first: what is frozen leaves no other folder
		_ = cgroup.Remove(filepath.Join(freezer, prefix+spareSuffix))
	}
	var errs []error
	for dir := range dirs {
		if dir != "" {
			errs = append(errs, cgroup.Remove(filepath.Join(dir, prefix)), cgroup.Remove(filepath.Join(dir, prefix+spareSuffix)))
		}
	}
	return errors.Join(errs...)
}

// spareSuffix marks the folder of spare work, which stands beside the node's.
const spareSuffix = "-spare"

func checkPrefix(prefix string) error {
	ok := strings.HasPrefix(prefix, "perrin") && len(prefix) <= 64 && !strings.ContainsAny(prefix, "/\x00\n") && prefix != ""
	if !ok {
		return fmt.Errorf("cgroup prefix %.80q: want a file name that starts with \"perrin\"", prefix)
	}
	return nil
}
