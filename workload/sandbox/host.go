// Package sandbox starts programs that can reach nothing they were not given:
// the node's half of the sandbox, whose other half is workload/sandbox/inside.
//
// A Host is what this machine lets the node do. A Group is one session's user
// and limits; a Proc is one sandbox with one program in it. Linux 5.14 or later
// is required (open_tree, mount_setattr, close_range, per-namespace limits),
// and user namespaces that this user may make.
//
// As root each group runs as a host user of its own that owns nothing. As an
// ordinary user everything runs as that user, who keeps their supplementary
// groups (the kernel lets nobody drop those without privilege); the view, not
// the user, keeps files out of reach.
//
// Memory, processes and CPUs are bounded by cgroups, version 1 or 2, where the
// node may make them, else by rlimits, affinity and a watch on resident memory.
// Disk is bounded by RLIMIT_FSIZE for one file and by Watch for the sum of all.
package sandbox

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/perrin-mesh/perrin/workload/shim"
)

// ErrUnavailable is returned when this machine does not let the node make a sandbox.
var ErrUnavailable = errors.New("sandbox unavailable")

// Config is what a node says about its sandboxes.
type Config struct {
	// Prefix names the node's folder of cgroups: "perrin" and something that
	// no other daemon of this machine has. At most 64 bytes, no slash.
	Prefix string
	// Logger is told what this machine cannot do. It must be set.
	Logger *slog.Logger
}

// Host is what this machine lets the node do. It is safe for concurrent use.
type Host struct {
	log    *slog.Logger
	prefix string
	tree   hierarchy
	spare  hierarchy // of spare work
	groups sync.Map  // *Group, open
	ctl    Controls
	users  *userRange

	root     bool // this process may mount as it is
	launcher *launcher
	nets     *nets
}

// NewHost looks at the machine, makes the node's folders of cgroups where it
// may, and removes what an earlier daemon with the same prefix left there.
func NewHost(cfg Config) (*Host, error) {
	if err := Sweep(cfg.Prefix); err != nil {
		cfg.Logger.Warn("some cgroups of an earlier run are still there", "error", err)
	}
	m, err := currentMounts()
	if err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	users, err := readUserRange()
	if err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	if _, err := shim.Path(); err != nil {
		return nil, fmt.Errorf("sandbox: %w: %w", ErrUnavailable, err)
	}
	h := &Host{log: cfg.Logger, prefix: cfg.Prefix, users: users,
		tree: m.claim(cfg.Prefix, false, cfg.Logger), spare: m.claim(cfg.Prefix+spareSuffix, true, cfg.Logger)}
	h.ctl = h.controls()
	h.root = mayMount()
	h.launcher, h.nets = &launcher{host: true, root: h.root}, &nets{may: h.root}
	cfg.Logger.Info("sandbox", "cgroups", h.Cgroups(), "own_users", users.own())
	return h, nil
}

// Cgroups says what bounds memory, processes and CPUs: "v2", "v1" or "none".
func (h *Host) Cgroups() string {
	switch {
	case h.tree.unified != "":
		return "v2"
	case len(h.tree.v1) > 0:
		return "v1"
	}
	return "none"
}

// Roots returns the node's folders of cgroups, which Close removes.
func (h *Host) Roots() []string {
	var out []string
	for _, tree := range []hierarchy{h.tree, h.spare} {
		for _, dir := range tree.folders() {
			out = append(out, dir)
		}
	}
	return out
}

// Unified returns the top of the machine's version 2 cgroups, and those of them, by
// their paths from there, that are this node's own: this process's and its
// sandboxes'. The top is "" where sandboxes are in version 1 or in none.
func (h *Host) Unified() (top string, own []string) {
	m, err := currentMounts()
	if err != nil || h.tree.unified == "" {
		return "", nil
	}
	for _, dir := range []string{m.unified, h.tree.unified, h.spare.unified} {
		if rel, err := filepath.Rel(m.unifiedTop, dir); err == nil && dir != "" && rel != "." {
			own = append(own, rel)
		}
	}
	return m.unifiedTop, own
}

// Close kills whatever still runs in the node's cgroups and removes them. No
// sandbox can be started any more.
func (h *Host) Close() error {
	h.launcher.close()
	h.nets.close()
	return Sweep(h.prefix)
}

// userRange hands out host users for sandboxes.
type userRange struct {
	mu          sync.Mutex
	base, count int // count 1: always base
	turn        int
}

// Sandbox users start where no distribution, container manager or systemd
// allocates (systemd's UIDS-GIDS.md lists 1879048192 to 2147483647 as unused).
const (
	userBase  = 1_900_000_000
	userCount = 65536
)

// readUserRange finds users that root may map; an ordinary user has only its own.
func readUserRange() (*userRange, error) {
	if os.Geteuid() != 0 {
		return &userRange{base: os.Geteuid(), count: 1}, nil
	}
	text, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return nil, err
	}
	return rangeFrom(string(text)), nil
}

func rangeFrom(uidMap string) *userRange {
	best := &userRange{base: os.Geteuid(), count: 1}
	for line := range strings.Lines(uidMap) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		first, _ := strconv.Atoi(f[0])
		n, _ := strconv.Atoi(f[2])
		if first <= userBase && first+n >= userBase+userCount {
			return &userRange{base: userBase, count: userCount, turn: os.Getpid() % userCount}
		}
		if n > 1024 && n/2 > best.count {
			best = &userRange{base: first + n/2, count: min(n/2, userCount)}
		}
	}
	return best
}

func (r *userRange) own() bool { return r.count > 1 }

func (r *userRange) next() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turn++
	return r.base + r.turn%r.count
}
