package wasm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/runner"
)

// TestCompilerIsHeld: a program that is costly to compile takes neither the memory of
// the machine nor its time, and only what is to blame for certain is remembered as bad.
func TestCompilerIsHeld(t *testing.T) {
	k := kit(t)
	c := k.Runner.(*Runner).cache
	open := func(module []byte, class workload.Class) error {
		t.Helper()
		p := filepath.Join(t.TempDir(), "costly.wasm")
		if err := os.WriteFile(p, module, 0o644); err != nil {
			t.Fatal(err)
		}
		spec := workload.DefaultSpec()
		spec.Resources.Class = class
		spec.Program = workload.Program{Kind: workload.Wasm, Blob: workload.Ref{Digest: workload.DigestOf(module)}}
		s, err := k.Runner.Open(context.Background(), runner.Slot{Spec: &spec, Program: p, Dir: t.TempDir()})
		if err != nil {
			return err
		}
		return s.Close()
	}
	const pushAndDrop = "\x41\x01\x1a" // i32.const 1, drop
	c.memory = 48 << 20
	bomb := costly(2000, 50_000, "")
	if err := open(bomb, workload.Core); !errors.Is(err, runner.ErrProgramInvalid) || !strings.Contains(err.Error(), "MiB of memory") {
		t.Errorf("100,000,000 locals in %d bytes: %v", len(bomb), err)
	}
	c.memory = compileMemory
	if err := open(costly(1, 1<<32-1, ""), workload.Core); !errors.Is(err, errGaveUp) || !errors.Is(err, runner.ErrProgramInvalid) || strings.Contains(err.Error(), "goroutine") {
		t.Errorf("4,294,967,295 locals: %v", err)
	}
	slow := costly(1, 0, strings.Repeat(pushAndDrop, 50_000))
	c.patience = time.Millisecond
	if err := open(slow, workload.Core); !errors.Is(err, errSlow) || !errors.Is(err, runner.ErrProgramInvalid) {
		t.Errorf("slow: %v", err)
	}
	c.patience = compileTimeout
	for _, class := range []workload.Class{workload.Spare, workload.Core} {
		if err := open(slow, class); err != nil {
			t.Errorf("what was slow once is refused: %v", err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(c.dir, "new-*")); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// costly is a module of so many functions, each with so many locals and this body;
// the first is _start.
func costly(functions, locals uint64, body string) []byte {
	code := binary.AppendUvarint([]byte{1}, locals) // one group of locals: so many of
	code = append(append(code, 0x7e), body...)      // i64
	code = append(code, 0x0b)                       // end
	code = append(binary.AppendUvarint(nil, uint64(len(code))), code...)
	count := binary.AppendUvarint(nil, functions)
	module := []byte("\x00asm\x01\x00\x00\x00")
	for _, s := range []struct {
		id   byte
		data []byte
	}{
		{1, []byte("\x01\x60\x00\x00")}, // a type: nothing to nothing
		{3, append(bytes.Clone(count), make([]byte, functions)...)},
		{7, []byte("\x01\x06_start\x00\x00")},
		{10, append(bytes.Clone(count), bytes.Repeat(code, int(functions))...)},
	} {
		module = append(append(module, s.id), binary.AppendUvarint(nil, uint64(len(s.data)))...)
		module = append(module, s.data...)
	}
	return module
}
