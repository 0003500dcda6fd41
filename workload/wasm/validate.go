package wasm

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/perrin-mesh/perrin/workload/runner"
)

// MaxProgram bounds a wasm program in bytes.
const MaxProgram = 256 << 20

// The first eight bytes of a module (WebAssembly Core Specification, 5.5.16)
// and of a component, which is another format.
var (
	moduleHeader    = [8]byte{0, 'a', 's', 'm', 1, 0, 0, 0}
	componentHeader = [8]byte{0, 'a', 's', 'm', 0x0d, 0, 1, 0}
)

// Validate looks at the size and header of the file at path, which costs next
// to nothing, and returns an error that wraps runner.ErrProgramInvalid and says
// what the file is not. Open finds the rest.
func Validate(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("wasm: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("wasm: %w", err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("wasm: %s is not a regular file: %w", path, runner.ErrProgramInvalid)
	}
	if info.Size() > MaxProgram {
		return fmt.Errorf("wasm: %s has %d bytes, at most %d: %w", path, info.Size(), MaxProgram, runner.ErrProgramInvalid)
	}
	var head [8]byte
	if _, err := io.ReadFull(f, head[:]); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("wasm: %w", err)
	}
	return checkHeader(path, head)
}

func checkHeader(path string, head [8]byte) error {
	switch {
	case head == moduleHeader:
		return nil
	case head == componentHeader:
		return fmt.Errorf("wasm: %s is a component; this version runs core modules with WASI preview 1: %w", path, runner.ErrProgramInvalid)
	case [4]byte(head[:4]) == [4]byte(moduleHeader[:4]):
		return fmt.Errorf("wasm: %s has an unknown WebAssembly version % x: %w", path, head[4:], runner.ErrProgramInvalid)
	}
	return fmt.Errorf("wasm: %s is not a WebAssembly module: %w", path, runner.ErrProgramInvalid)
}
