package wasm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/runner"
	"github.com/perrin-mesh/perrin/workload/sandbox"
	"github.com/perrin-mesh/perrin/workload/wasm/guest"
)

// cache keeps the machine code of programs, one folder for each digest. A
// folder is filled by a compile worker in a sandbox that sees this one program
// and nothing else and never runs it, sealed by the node, and only then shown,
// read-only, to the workers that run this same program. So no program can
// change what another runs.
type cache struct {
	host  *sandbox.Host
	dir   string // of this engine version
	limit int64
	log   *slog.Logger

	turns, spareTurns chan struct{} // of compiling
	patience          time.Duration // with one program
	memory            int64         // for one, beside what its size asks for

	mu      sync.Mutex
	entries map[programKey]*entry
}

// programKey keeps spare work's compilers apart: they may take long, and who has
// CPUs of its own does not wait for them.
type programKey struct {
	digest workload.Digest
	spare  bool
}

// entry is one program.
type entry struct {
	turn  chan struct{} // holds a token; whoever has it may fill
	full  bool          // of the token's holder
	bad   error         // of the token's holder: the module itself is to blame
	users int           // guarded by cache.mu
}

func newCache(host *sandbox.Host, dir string, limit int64, log *slog.Logger) (*cache, error) {
	c := &cache{host: host, dir: filepath.Join(dir, engineVersion()), limit: limit, log: log, entries: map[programKey]*entry{},
		turns: make(chan struct{}, maxCompiling), spareTurns: make(chan struct{}, maxSpareCompiling), patience: compileTimeout, memory: compileMemory}
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return nil, fmt.Errorf("wasm cache: %w", err)
	}
	stale, err := filepath.Glob(filepath.Join(c.dir, "new-*"))
	if err != nil {
		return nil, fmt.Errorf("wasm cache: %w", err)
	}
	for _, d := range stale {
		if err := sandbox.RemoveAll(d); err != nil {
			return nil, fmt.Errorf("wasm cache: %w", err)
		}
	}
	return c, nil
}

// engineVersion names the compiler, whose output only itself can load.
func engineVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "wazero-unknown"
	}
	for _, m := range info.Deps {
		if m.Path == "github.com/tetratelabs/wazero" {
			return "wazero-" + m.Version
		}
	}
	return "wazero-unknown"
}

// get returns the folder with the machine code of the program, compiled when it
// is the first. release must be called when nothing uses the folder any more.
func (c *cache) get(ctx context.Context, slot runner.Slot) (dir string, release func(), err error) {
	digest := slot.Spec.Program.Blob.Digest
	e := c.claim(programKey{digest, spare(slot)})
	release = sync.OnceFunc(func() { c.release(e) })
	if err := c.ensure(ctx, e, slot); err != nil {
		release()
		return "", nil, err
	}
	return c.folder(digest), release, nil
}

func spare(slot runner.Slot) bool { return slot.Spec.Resources.Class == workload.Spare }

// private compiles a slot's program into a folder below its own, for it alone.
func (c *cache) private(ctx context.Context, name string, slot runner.Slot) (string, error) {
	out := filepath.Join(slot.Dir, "code")
	if err := os.Mkdir(out, 0o755); err != nil {
		return "", fmt.Errorf("wasm: compile: %w", err)
	}
	if err := c.compile(ctx, name, out, slot); err != nil {
		return "", err
	}
	return out, seal(out)
}

func (c *cache) folder(digest workload.Digest) string { return filepath.Join(c.dir, digest.Hex()) }

func (c *cache) claim(key programKey) *entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[key]
	if e == nil {
		e = &entry{turn: make(chan struct{}, 1)}
		e.turn <- struct{}{}
		c.entries[key] = e
	}
	e.users++
	return e
}

func (c *cache) release(e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e.users--
}

// ensure compiles at most once at a time.
func (c *cache) ensure(ctx context.Context, e *entry, slot runner.Slot) error {
	select {
	case <-e.turn:
		defer func() { e.turn <- struct{}{} }()
	case <-ctx.Done():
		return fmt.Errorf("wasm: wait for the compiler: %w", ctx.Err())
	}
	if e.full || e.bad != nil {
		return e.bad
	}
	now := time.Now()
	if os.Chtimes(c.folder(slot.Spec.Program.Blob.Digest), now, now) == nil { // an earlier daemon's; the time says what was used last
		e.full = true
		return nil
	}
	err := c.fill(ctx, slot)
	if errors.Is(err, runner.ErrProgramInvalid) && !errors.Is(err, errSlow) && !errors.Is(err, errGaveUp) {
		e.bad = err
	}
	e.full = err == nil
	return err
}

// How many programs are compiled at once: for slots that hold their CPUs, and for
// those that have idle time alone.
const (
	maxCompiling      = 2
	maxSpareCompiling = 1
)

// Bounds of one compilation, beside the slot's own CPUs and share of them. Programs
// of Go take some 25 times their size, one made to be costly some 120 times.
const (
	compileMemory    = 512 << 20 // bytes, and
	compileFactor    = 32        // of the program's size, but at most
	maxCompileMemory = 2 << 30
	compileDisk      = 1 << 30
	compilePids      = 64
	compileTimeout   = 10 * time.Minute
)

// errSlow is returned for a program that was still being compiled at compileTimeout:
// most likely it was made for that, but a busy machine may be to blame too.
var errSlow = fmt.Errorf("wasm: it takes more than %d minutes to compile: %w", compileTimeout/time.Minute, runner.ErrProgramInvalid)

// errGaveUp is returned for a program at which the compiler itself broke, as at one
// that wants more memory at once than there are addresses. A machine that has none
// left may be to blame too.
var errGaveUp = fmt.Errorf("the compiler gave up: %w", runner.ErrProgramInvalid)

// codeBroken is the exit code of a Go program that panics or is out of memory.
const codeBroken = 2

// fill compiles into a new folder and puts it in place.
func (c *cache) fill(ctx context.Context, slot runner.Slot) (err error) {
	tmp, err := os.MkdirTemp(c.dir, "new-")
	if err != nil {
		return fmt.Errorf("wasm: compile: %w", err)
	}
	defer func() { err = errors.Join(err, sandbox.RemoveAll(tmp)) }()
	out := filepath.Join(tmp, "out")
	if err := os.Mkdir(out, 0o755); err != nil {
		return fmt.Errorf("wasm: compile: %w", err)
	}
	if err := c.compile(ctx, filepath.Base(tmp), out, slot); err != nil {
		return err
	}
	if err := seal(out); err != nil {
		return fmt.Errorf("wasm: compile: %w", err)
	}
	err = os.Rename(out, c.folder(slot.Spec.Program.Blob.Digest))
	if err != nil && !errors.Is(err, fs.ErrExist) { // who is of the other kind was first
		return fmt.Errorf("wasm: compile: %w", err)
	}
	c.shrink()
	return nil
}

// compile has a worker fill out with the machine code of the slot's program. It is
// held to what the slot has: CPUs, share, priority.
func (c *cache) compile(ctx context.Context, name, out string, slot runner.Slot) (err error) {
	turns, res := c.turns, slot.Spec.Resources
	if spare(slot) {
		turns = c.spareTurns
	}
	select {
	case turns <- struct{}{}:
		defer func() { <-turns }()
	case <-ctx.Done():
		return fmt.Errorf("wasm: wait for the compiler: %w", ctx.Err())
	}
	info, err := os.Stat(slot.Program)
	if err != nil {
		return fmt.Errorf("wasm: compile: %w", err)
	}
	memory := min(c.memory+compileFactor*info.Size(), maxCompileMemory)
	g, err := c.host.NewGroup("compile-"+name, sandbox.Limits{
		Memory: memory, Pids: compilePids, CPUs: slot.CPUs, Disk: compileDisk, Nodes: slot.Nodes,
		Quota: res.Quota, Spare: spare(slot), Apart: res.Class != workload.Thread,
	})
	if err != nil {
		return fmt.Errorf("wasm: compile: %w", err)
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	return c.compileIn(ctx, g, memory, out, slot.Program)
}

func (c *cache) compileIn(ctx context.Context, g *sandbox.Group, memory int64, out, program string) error {
	within, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	said, code, err := g.RunRole(within, sandbox.Program{
		Role: guest.RoleCompile, Out: out, Dir: "/", Env: []string{fmt.Sprintf("GOMEMLIMIT=%d", memory/4*3)},
		Mounts: []sandbox.Mount{{Source: program, Target: guest.ProgramPath}},
	})
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("wasm: compile: %w", ctx.Err())
	case within.Err() != nil:
		return errSlow
	case errors.Is(err, sandbox.ErrMemory):
		return fmt.Errorf("wasm: to compile it takes more than %d MiB of memory: %w", memory>>20, runner.ErrProgramInvalid)
	case err != nil:
		return fmt.Errorf("wasm: compile: %w", err)
	case code == guest.CodeInvalid:
		return fmt.Errorf("wasm: %.900s: %w", strings.TrimSpace(said), runner.ErrProgramInvalid)
	case code == codeBroken:
		why, _, _ := strings.Cut(said, "\n") // a stack trace follows
		return fmt.Errorf("wasm: %.200q: %w", why, errGaveUp)
	case code != 0:
		return fmt.Errorf("wasm: compile: the worker exited with %d: %.400q", code, said)
	}
	return nil
}

// seal takes over what the compile worker made: folders and plain files only,
// owned by the node, readable by all, writable by none but the node.
func seal(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if d.IsDir() {
			mode = 0o755
		} else if !d.Type().IsRegular() {
			return fmt.Errorf("the compiler left %.80q, which is not a plain file", d.Name())
		}
		if err := os.Lchown(path, os.Geteuid(), os.Getegid()); err != nil {
			return err
		}
		return os.Chmod(path, mode)
	})
}

// shrink removes what was used longest ago, and is not in use, until the rest
// is within the limit. A folder that cannot be removed stays and is logged.
func (c *cache) shrink() {
	type aged struct {
		digest workload.Digest
		size   int64
		used   time.Time
	}
	var all []aged
	var sum int64
	names, err := os.ReadDir(c.dir)
	if err != nil {
		c.log.Warn("wasm cache cannot be read", "error", err)
		return
	}
	for _, n := range names {
		digest, derr := workload.ParseDigest("sha256:" + n.Name())
		info, ierr := n.Info()
		size, uerr := sandbox.Usage(0, filepath.Join(c.dir, n.Name()))
		if derr == nil && ierr == nil && uerr == nil {
			all = append(all, aged{digest, size, info.ModTime()})
			sum += size
		}
	}
	slices.SortFunc(all, func(a, b aged) int { return cmp.Compare(a.used.UnixNano(), b.used.UnixNano()) })
	for _, a := range all {
		if sum <= c.limit {
			return
		}
		if c.drop(a.digest) {
			sum -= a.size
		}
	}
}

// drop removes one folder unless it is in use.
func (c *cache) drop(digest workload.Digest) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	keys := []programKey{{digest, false}, {digest, true}}
	for _, k := range keys {
		if e := c.entries[k]; e != nil && e.users > 0 {
			return false
		}
	}
	for _, k := range keys {
		delete(c.entries, k)
	}
	if err := os.RemoveAll(c.folder(digest)); err != nil {
		c.log.Warn("wasm cache entry stays", "digest", digest, "error", err)
		return false
	}
	return true
}
