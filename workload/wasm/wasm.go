// Package wasm runs WebAssembly programs: core modules that are WASI preview 1
// commands. One worker process for each slot, in a sandbox that has nothing of
// the host but the module, its machine code and the slot's folder, serves the
// slot's attempts one after another, each in a fresh instance. So an attempt
// costs microseconds, not a process.
//
// A guest sees "/" as its working directory: its inputs in their places,
// read-only, a writable /out and /tmp, and scratch everywhere else. It can make
// no links. It has no sockets; the host function "perrin" "call" (package
// guest) carries requests to its unit socket. A trap ends an attempt as exit
// code 134 with the trap as its detail; memory refused over the limit, followed
// by a failure, ends it as out-of-memory. SIGTERM does not exist in WASI:
// Interrupt only waits, and the unit's own protocol tells the guest.
package wasm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/runner"
	"github.com/perrin-mesh/perrin/workload/sandbox"
	"github.com/perrin-mesh/perrin/workload/sandbox/inside"
)

// Config is what a node says about its wasm runner.
type Config struct {
	Host *sandbox.Host
	// CacheDir keeps compiled code across restarts. It is the runner's own.
	CacheDir string
	// CacheBytes bounds CacheDir; 0 is DefaultCacheBytes.
	CacheBytes int64
	Logger     *slog.Logger
}

// DefaultCacheBytes holds the code of some 100 Go programs.
const DefaultCacheBytes = 2 << 30

// Runner runs wasm programs. It is safe for concurrent use.
type Runner struct {
	host  *sandbox.Host
	cache *cache
	log   *slog.Logger
	seq   atomic.Uint64
}

var _ runner.Runner = (*Runner)(nil)

// New returns a runner.
func New(cfg Config) (*Runner, error) {
	if cfg.CacheBytes == 0 {
		cfg.CacheBytes = DefaultCacheBytes
	}
	c, err := newCache(cfg.Host, cfg.CacheDir, cfg.CacheBytes, cfg.Logger)
	if err != nil {
		return nil, err
	}
	return &Runner{host: cfg.Host, cache: c, log: cfg.Logger}, nil
}

// Kind returns workload.Wasm.
func (r *Runner) Kind() workload.Kind { return workload.Wasm }

// Available returns nil: a wasm program always travels with its workload.
func (r *Runner) Available(*workload.Spec) error { return nil }

// Probe runs the shim's self-test in a sandbox like a worker's.
func (r *Runner) Probe(ctx context.Context) (string, error) {
	dir, err := os.MkdirTemp(r.cache.dir, "new-probe-")
	if err != nil {
		return "", fmt.Errorf("probe: %w", err)
	}
	defer sandbox.RemoveAll(dir)
	if err := r.host.SelfTest(ctx, dir, false, inside.RoleProbe); err != nil {
		return "", fmt.Errorf("wasm: %w: %w", runner.ErrUnavailable, err)
	}
	return runner.WallWasm, nil
}

// A worker needs more memory than its guest: its own, and the machine code.
const (
	workerMemory  = 96 << 20
	workerFactor  = 24 // of the module's size
	workerThreads = 32
)

// Open validates and compiles the program and prepares the slot's user and
// cgroups. The worker starts with the first attempt. The slot's folder is given
// to the worker's group to read.
func (r *Runner) Open(ctx context.Context, slot runner.Slot) (runner.Session, error) {
	if err := Validate(slot.Program); err != nil {
		return nil, err
	}
	info, err := os.Stat(slot.Program)
	if err != nil {
		return nil, fmt.Errorf("wasm: %w", err)
	}
	code, release, err := r.compiled(ctx, slot)
	if err != nil {
		return nil, err
	}
	s := &session{slot: slot, log: r.log, code: code, release: release}
	res := slot.Spec.Resources
	s.group, err = r.host.NewGroup(fmt.Sprintf("%s-%d-%d", slot.Workload.Short(), slot.Slot, r.seq.Add(1)), sandbox.Limits{
		Memory: res.Memory + workerMemory + workerFactor*info.Size(),
		Pids:   max(int64(res.Pids), workerThreads), CPUs: slot.CPUs, Disk: res.Disk, Nodes: slot.Nodes,
		Quota: res.Quota, Spare: res.Class == workload.Spare, Apart: res.Class != workload.Thread,
	})
	if err != nil {
		release()
		return nil, err
	}
	if err := s.prepare(); err != nil {
		return nil, errors.Join(fmt.Errorf("wasm: %w", err), s.Close())
	}
	return s, nil
}

// compiled returns the folder with the machine code of the slot's program: the
// cache's, or one in the folder of a slot that must leave nothing behind.
func (r *Runner) compiled(ctx context.Context, slot runner.Slot) (dir string, release func(), err error) {
	if !slot.Private {
		return r.cache.get(ctx, slot)
	}
	name := fmt.Sprintf("%s-%d-%d", slot.Workload.Short(), slot.Slot, r.seq.Add(1))
	dir, err = r.cache.private(ctx, name, slot)
	return dir, func() {}, err
}

// prepare makes the scratch folder and lets the worker read the slot's.
func (s *session) prepare() error {
	s.scratch = filepath.Join(s.slot.Dir, "wasm-scratch")
	if err := os.Mkdir(s.scratch, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if s.group.UID() == os.Geteuid() {
		return nil
	}
	if err := os.Lchown(s.slot.Dir, -1, s.group.UID()); err != nil {
		return err
	}
	return os.Chmod(s.slot.Dir, 0o750)
}

// below returns path relative to the slot's folder, where everything that a
// worker sees must lie.
func (s *session) below(path string) (string, error) {
	rel, err := filepath.Rel(s.slot.Dir, path)
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return "", fmt.Errorf("%.200q is not below the slot's folder", path)
	}
	return rel, nil
}
