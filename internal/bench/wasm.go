package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/runner"
	"github.com/perrin-mesh/perrin/workload/wasm"
)

// wasmStarts measures what a small wasm module costs of which the machine code is
// known, with the runner alone: a worker of its own in a sandbox and cgroups, beside
// `wazero run` with its own cache; and what further tasks of a workload hold.
func wasmStarts(ctx context.Context, b *bench) error {
	s, err := newStarter(b)
	if err != nil {
		return err
	}
	defer s.close()
	r, err := wasm.New(wasm.Config{Host: s.host, CacheDir: filepath.Join(b.tmp, "compiled"), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	s.r = r
	s.prepare = func(spec *workload.Spec, _ *runner.Slot) { wasmProgram(spec, wasmClock()) }
	module := filepath.Join(s.dir, "clock.wasm")
	if err := os.WriteFile(module, wasmClock(), 0o644); err != nil {
		return err
	}
	if _, err := s.attempt(ctx, module, nil); err != nil { // compiles it
		return err
	}
	if err := s.wasmCold(ctx, b, module); err != nil {
		return err
	}
	return s.wasmMemory(ctx, b, r)
}

// wasmProgram puts a module into a spec: its machine code is known by its digest.
func wasmProgram(spec *workload.Spec, module []byte) {
	ref := workload.Ref{Digest: workload.DigestOf(module), Size: int64(len(module))}
	spec.Program = workload.Program{Kind: workload.Wasm, Name: "program.wasm", Blob: ref}
}

// wasmCold is one worker at a time, and `wazero run` in rounds of its own.
func (s *starter) wasmCold(ctx context.Context, b *bench, module string) error {
	rounds := min(b.sizes.starts, 200)
	ours, err := inTurn(ctx, rounds, func() (time.Duration, error) { return s.attempt(ctx, module, nil) })
	if err != nil {
		return err
	}
	const cold = "small wasm module, its machine code known, runner alone: cold to its first output, p50"
	wazero, err := wazeroCommand(ctx, b)
	if err != nil {
		b.out.note("rival: %v", err)
		b.out.add(atMost(cold, "ms", percentile(ours, 50), 8))
		return ctx.Err()
	}
	run := func() (time.Duration, error) {
		return toFirstOutput(exec.CommandContext(ctx, wazero, "run", "-cachedir", filepath.Join(b.tmp, "wazero-cache"), module))
	}
	if _, err := run(); err != nil { // compiles it
		return fmt.Errorf("wazero run: %w", err)
	}
	bare, err := inTurn(ctx, rounds, run)
	if err != nil {
		return fmt.Errorf("wazero run: %w", err)
	}
	b.out.add(atMost(cold, "ms", percentile(ours, 50), 8).against("wazero run, to its first output", percentile(bare, 50)))
	b.out.add(atMost("the same as a multiple of wazero run", "x", percentile(ours, 50)/percentile(bare, 50), 1.5))
	return nil
}

// wazeroCommand builds the command of the engine that is linked here anyway.
func wazeroCommand(ctx context.Context, b *bench) (string, error) {
	exe := filepath.Join(b.tmp, "wazero")
	out, err := exec.CommandContext(ctx, "go", "build", "-o", exe, "github.com/tetratelabs/wazero/cmd/wazero").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("wazero's command does not build here: %w: %.300s", err, out)
	}
	return exe, nil
}

// wasmMemory is what stands beside the node for the first task of a workload, and for
// each further one that runs at the same time.
func (s *starter) wasmMemory(ctx context.Context, b *bench, r *wasm.Runner) error {
	const further = 8
	var open []runner.Session
	var group errgroup.Group
	ctx, stop := context.WithCancel(ctx)
	defer func() {
		stop()
		_ = group.Wait() // the tasks were ended by stop
		for _, session := range open {
			_ = session.Close()
		}
	}()
	waiting := filepath.Join(s.dir, "wait.wasm")
	if err := os.WriteFile(waiting, wasmWait(), 0o644); err != nil {
		return err
	}
	start := func() error {
		s.seq++
		dir := filepath.Join(s.dir, fmt.Sprint(s.seq))
		if err := os.Mkdir(dir, 0o711); err != nil {
			return err
		}
		spec := workload.DefaultSpec()
		smallShape(&spec)
		wasmProgram(&spec, wasmWait())
		session, err := r.Open(ctx, runner.Slot{Slot: workload.SlotID(s.seq), Owner: workload.PeerID{1}, Spec: &spec, Program: waiting, Dir: dir})
		if err != nil {
			return err
		}
		open = append(open, session)
		in, feed := io.Pipe()
		context.AfterFunc(ctx, func() { feed.Close() })
		var once sync.Once
		up, ended := make(chan struct{}), make(chan error, 1)
		group.Go(func() error {
			out := &firstWrite{began: time.Now(), first: func() { once.Do(func() { close(up) }) }}
			outcome, err := session.Run(ctx, runner.Attempt{Out: filepath.Join(dir, "out"), Stdin: in, Stdout: out})
			ended <- fmt.Errorf("the module ended as %s %d: %s (%w)", outcome.Exit, outcome.Code, outcome.Detail, err)
			return err
		})
		select {
		case <-up:
			return nil
		case err := <-ended:
			return err
		case <-time.After(30 * time.Second):
			return errors.New("the module did not begin")
		}
	}
	held := func() int64 {
		_, own := memoryOf(os.Getpid())
		return usageOf(os.Getpid()).pss - own
	}
	before := held()
	if err := start(); err != nil {
		return err
	}
	first := held() - before
	for range further {
		if err := start(); err != nil {
			return err
		}
	}
	each := (held() - before - first) / further
	const unit = 1 << 20
	b.out.add(atMost("memory of the first wasm task's processes beside the node, a page of the module's included", "MiB", float64(first)/unit, 12).
		noting("proportional set size"))
	b.out.add(atMost("the same for each further task of the workload", "MiB", float64(each)/unit, 2).noting("mean of %d", further))
	return nil
}
