// Package guest is the half of the wasm runner that runs in the sandbox: the
// compile worker, which turns a module into machine code and never runs it,
// and the run worker, which runs one attempt after another, each in a fresh
// instance. It is linked into the shim. Nothing here is a wall: the sandbox
// around the worker is.
package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/perrin-mesh/perrin/workload/wasm/frame"
)

// Role names, the first argument of the shim.
const (
	RoleCompile = "wasm-compile"
	RoleRun     = "wasm-run"
)

// Where the sandbox of a worker has what it needs.
const (
	ProgramPath = "/perrin/program"
	CachePath   = "/perrin/cache" // of the run worker, read-only
	CompilePath = "/out"          // of the compile worker
	SlotPath    = "/perrin/slot"  // the slot's folder, read-only
	ScratchPath = "/work"
	SocketFD    = 3
)

// Exit codes of the compile worker beside 0.
const (
	CodeFault   = 1 // the worker's own trouble
	CodeInvalid = 3 // the module is to blame; standard error says why
)

// Compile fills the cache in CompilePath with the program's machine code.
func Compile() int {
	ctx := context.Background()
	code, err := os.ReadFile(ProgramPath)
	if err != nil {
		return complain(CodeFault, err)
	}
	cache, err := wazero.NewCompilationCacheWithDir(CompilePath)
	if err != nil {
		return complain(CodeFault, err)
	}
	rt := wazero.NewRuntimeWithConfig(ctx, runtimeConfig(cache))
	compiled, err := rt.CompileModule(ctx, code)
	if err != nil {
		return complain(CodeInvalid, err)
	}
	if err := check(compiled); err != nil {
		return complain(CodeInvalid, err)
	}
	wasi, err := wasi_snapshot_preview1.NewBuilder(rt).Compile(ctx)
	if err != nil {
		return complain(CodeFault, err)
	}
	if err := checkWASI(compiled, wasi); err != nil {
		return complain(CodeInvalid, err)
	}
	return 0
}

// checkWASI refuses a call that wasi lacks: of a later WASI, or misspelt.
func checkWASI(m, wasi wazero.CompiledModule) error {
	has := wasi.ExportedFunctions()
	for _, f := range m.ImportedFunctions() {
		if module, name, _ := f.Import(); module == wasiModule && has[name] == nil {
			return fmt.Errorf("the module imports %.80q.%.80q, which WASI preview 1 does not have", module, name)
		}
	}
	return nil
}

func complain(code int, err error) int {
	fmt.Fprintf(os.Stderr, "%.900s\n", err.Error())
	return code
}

func runtimeConfig(cache wazero.CompilationCache) wazero.RuntimeConfig {
	return wazero.NewRuntimeConfigCompiler().WithCompilationCache(cache).WithCoreFeatures(api.CoreFeaturesV2)
}

const wasiModule = wasi_snapshot_preview1.ModuleName

// check refuses what could not run: a library, or imports that no one gives.
func check(m wazero.CompiledModule) error {
	if _, ok := m.ExportedFunctions()[startFunction]; !ok {
		return errors.New("the module has no _start function: build it as a WASI command, not as a library")
	}
	for _, f := range m.ImportedFunctions() {
		module, name, _ := f.Import()
		if module != wasiModule && (module != hostModule || name != hostCall) {
			return fmt.Errorf("the module imports %.80q.%.80q, which is neither WASI preview 1 nor Perrin's", module, name)
		}
	}
	return nil
}

const startFunction = "_start"

// worker is the run worker. Its fields belong to the goroutine of Run.
type worker struct {
	rt      wazero.Runtime
	program wazero.CompiledModule
	min     int64 // bytes of memory that the module starts with
	out     *frame.Writer
}

// Run serves attempts until its socket closes.
func Run() int {
	// A file over its limit is an error for the guest, not the worker's death.
	signal.Ignore(syscall.SIGXFSZ, syscall.SIGTERM)
	sock := os.NewFile(SocketFD, "node")
	if sock == nil {
		return 2
	}
	w := &worker{out: frame.NewWriter(sock)}
	if err := w.load(context.Background()); err != nil {
		_ = w.out.Send(frame.Failed, 0, fmt.Appendf(nil, "%.900s", err.Error()))
		return 1
	}
	if err := w.out.Send(frame.Ready, 0, nil); err != nil {
		return 1
	}
	return w.serveAll(frame.NewReader(sock))
}

// serveAll serves one attempt after another, each where its request was read: a
// second goroutine would cost a no-op task more than all else here. Only the
// first attempt with a standard input brings one.
func (w *worker) serveAll(in *frame.Reader) int {
	for {
		f, err := in.Next()
		if err != nil {
			return 0
		}
		if f.Type != frame.Run {
			continue // of an attempt that is over
		}
		a := &attempt{id: f.Attempt, in: in, stdin: io.NopCloser(strings.NewReader(""))}
		if f.Decode(&a.req) != nil {
			return 0
		}
		if a.req.Stdin {
			return w.serveFed(in, f)
		}
		if !w.finish(a) {
			return 1
		}
	}
}

// serveFed serves the attempt that run asks for and all after it, while another
// goroutine reads.
func (w *worker) serveFed(in *frame.Reader, run frame.Frame) int {
	attempts := make(chan *attempt)
	go receive(in, run, attempts)
	for a := range attempts {
		if !w.finish(a) {
			return 1
		}
	}
	return 0
}

// finish serves an attempt and says how it ended.
func (w *worker) finish(a *attempt) bool { return w.out.SendJSON(frame.Done, a.id, w.serve(a)) == nil }

// load compiles the program, from the cache when it holds it.
func (w *worker) load(ctx context.Context) error {
	code, err := os.ReadFile(ProgramPath)
	if err != nil {
		return err
	}
	cache, err := wazero.NewCompilationCacheWithDir(CachePath)
	if err != nil {
		cache = wazero.NewCompilationCache() // of another version: compile afresh
	}
	w.rt = wazero.NewRuntimeWithConfig(ctx, runtimeConfig(cache))
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, w.rt); err != nil {
		return err
	}
	if err := instantiateHost(ctx, w.rt); err != nil {
		return err
	}
	if w.program, err = w.rt.CompileModule(ctx, code); err != nil {
		return err
	}
	for _, m := range w.program.ExportedMemories() {
		w.min = max(w.min, int64(m.Min())*pageSize)
	}
	return check(w.program)
}

const pageSize = 64 << 10

// attempt is one attempt as it arrives. What comes for it is read from in, or
// by receive when that is nil.
type attempt struct {
	id    uint32
	req   frame.Request
	in    *frame.Reader
	stdin io.ReadCloser
	unit  chan string // the answer to UnitAsk, from receive
}

// unitAt waits for the answer to UnitAsk: "" for none.
func (a *attempt) unitAt() string {
	if a.in == nil {
		select {
		case rel := <-a.unit:
			return rel
		case <-time.After(callTimeout):
			return ""
		}
	}
	for {
		f, err := a.in.Next()
		if err != nil {
			return "" // the node is gone: the reply says so
		}
		if f.Type == frame.UnitAt && f.Attempt == a.id {
			return string(f.Payload)
		}
	}
}

// receive hands over the attempt that run asks for, reads frames, hands over
// further attempts and feeds their stdin. It closes attempts when the node is
// gone or talks nonsense.
func receive(in *frame.Reader, run frame.Frame, attempts chan<- *attempt) {
	defer close(attempts)
	var current uint32
	var stdin *io.PipeWriter
	var unit chan string
	for f, err := run, error(nil); err == nil; f, err = in.Next() {
		switch {
		case f.Type == frame.Run:
			unit = make(chan string, 1)
			a := &attempt{id: f.Attempt, unit: unit}
			if f.Decode(&a.req) != nil {
				return
			}
			a.stdin, stdin = io.Pipe()
			if !a.req.Stdin {
				stdin.Close()
			}
			current = f.Attempt
			attempts <- a
		case f.Attempt != current || stdin == nil: // of an attempt that is over
		case f.Type == frame.Stdin:
			_, _ = stdin.Write(slices.Clone(f.Payload)) // fails once the attempt is over
		case f.Type == frame.StdinEnd:
			stdin.Close()
		case f.Type == frame.UnitAt:
			select {
			case unit <- string(f.Payload):
			default: // answered before
			}
		}
	}
}
