package guest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/experimental/sysfs"
	"github.com/tetratelabs/wazero/sys"

	"github.com/perrin-mesh/perrin/workload/wasm/frame"
)

// TrapCode is the exit code of a module that trapped, as of a native program
// that aborted (128 plus SIGABRT).
const TrapCode = 134

// serve runs one attempt to its end.
func (w *worker) serve(a *attempt) (reply frame.Reply) {
	before := cpuTime()
	mem := &allocator{limit: a.req.Memory}
	defer func() {
		if r := recover(); r != nil { // the first memory was refused, or a bug of the engine
			reply.Code, reply.Trap = TrapCode, fmt.Sprintf("%.500v", r)
		}
		a.stdin.Close()
		reply.Memory, reply.Peak = mem.refused, mem.peak
		reply.CPUUs = (cpuTime() - before).Microseconds()
	}()
	if w.min > a.req.Memory {
		mem.refused = true
		return frame.Reply{Code: TrapCode, Trap: fmt.Sprintf("needs %d bytes of memory to start", w.min)}
	}
	unit := &unit{}
	if a.req.Unit {
		unit.find = sync.OnceValue(func() string { return w.findUnit(a) })
	}
	ctx := experimental.WithMemoryAllocator(context.Background(), mem)
	ctx = context.WithValue(ctx, unitKey{}, unit)
	mod, err := w.rt.InstantiateModule(ctx, w.program, w.moduleConfig(a))
	if mod != nil {
		mod.Close(ctx)
	}
	return ended(err)
}

// findUnit asks the node for the attempt's unit socket: most guests never need it.
func (w *worker) findUnit(a *attempt) string {
	if w.out.Send(frame.UnitAsk, a.id, nil) != nil {
		return ""
	}
	rel := a.unitAt()
	if rel == "" {
		return ""
	}
	return filepath.Join(SlotPath, rel)
}

// ended turns what the engine says into a reply.
func ended(err error) frame.Reply {
	if err == nil {
		return frame.Reply{}
	}
	if exit := (*sys.ExitError)(nil); errors.As(err, &exit) {
		return frame.Reply{Code: int32(exit.ExitCode())}
	}
	// The trap comes first, the guest's own stack trace after it.
	return frame.Reply{Code: TrapCode, Trap: fmt.Sprintf("%.900s", strings.TrimPrefix(err.Error(), "module[] function[_start] failed: "))}
}

func (w *worker) moduleConfig(a *attempt) wazero.ModuleConfig {
	files := newTree(filepath.Join(ScratchPath, filepath.Base(a.req.Work)), a.req.Mounts)
	fsc := wazero.NewFSConfig().(sysfs.FSConfig).WithSysFSMount(files, "/")
	c := wazero.NewModuleConfig().WithName("").WithArgs(a.req.Args...).WithFSConfig(fsc).
		WithStdin(a.stdin).
		WithStdout(stream{w.out, frame.Stdout, a.id}).WithStderr(stream{w.out, frame.Stderr, a.id}).
		WithSysWalltime().WithSysNanotime().WithSysNanosleep().WithRandSource(rand.Reader).
		WithStartFunctions(startFunction)
	for _, e := range a.req.Env {
		name, value, _ := strings.Cut(e, "=")
		c = c.WithEnv(name, value)
	}
	return c
}

// stream sends what the guest writes as frames.
type stream struct {
	out     *frame.Writer
	kind    frame.Type
	attempt uint32
}

// Write sends p. When the node is gone, so is the worker.
func (s stream) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(len(rest), frame.MaxStream)
		if err := s.out.Send(s.kind, s.attempt, rest[:n]); err != nil {
			os.Exit(1)
		}
		rest = rest[n:]
	}
	return len(p), nil
}

// cpuTime is what the worker has used. Attempts run one at a time.
func cpuTime() time.Duration {
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

// allocator gives linear memory up to limit bytes for one attempt. Only pages
// that the guest touches cost anything.
type allocator struct {
	limit, used, peak int64
	refused           bool
}

// Allocate reserves address space for one memory.
func (a *allocator) Allocate(_, most uint64) experimental.LinearMemory {
	return &linearMemory{owner: a, most: min(most, uint64(max(a.limit, pageSize)))}
}

type linearMemory struct {
	owner *allocator
	most  uint64
	buf   []byte // the whole reservation
	size  int64
}

// Reallocate grows the memory in place, or returns nil over the limit.
func (m *linearMemory) Reallocate(size uint64) []byte {
	grown := m.owner.used + int64(size) - m.size
	if size > m.most || grown > m.owner.limit {
		m.owner.refused = true
		return nil
	}
	if m.buf == nil && m.most > 0 {
		buf, err := syscall.Mmap(-1, 0, int(m.most), syscall.PROT_READ|syscall.PROT_WRITE,
			syscall.MAP_ANON|syscall.MAP_PRIVATE|syscall.MAP_NORESERVE)
		if err != nil {
			m.owner.refused = true
			return nil
		}
		m.buf = buf
	}
	m.owner.used, m.size = grown, int64(size)
	m.owner.peak = max(m.owner.peak, grown)
	return m.buf[:size]
}

// Free gives the memory back.
func (m *linearMemory) Free() {
	if m.buf != nil {
		_ = syscall.Munmap(m.buf)
		m.buf = nil
	}
}
