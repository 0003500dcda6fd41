package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"runtime"
	"strconv"
	"strings"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
)

// The programs that tasks run print the clock of the machine when they start,
// so that it is known when a task was started in truth: by the guest's first
// instructions, after all that the node does before.

// wasmClock is a WASI command of some 200 bytes. It writes the time in
// nanoseconds, as eight bytes with the lowest first, to stdout:
//
//	clock_time_get(REALTIME, 1, 16); fd_write(1, 0, 1, 8)
func wasmClock() []byte {
	return wasmCommand([2]string{"clock_time_get", "fd_write"}, [2][]byte{{i32, i64, i32}, {i32, i32, i32, i32}},
		0x41, 0, 0x42, 1, 0x41, 16, 0x10, 0, 0x1a, // clock_time_get(0, 1, 16), drop
		0x41, 1, 0x41, 0, 0x41, 1, 0x41, 8, 0x10, 1, 0x1a) // fd_write(1, 0, 1, 8), drop
}

// wasmWait is a WASI command that writes eight bytes and then reads stdin to its end:
//
//	fd_write(1, 0, 1, 8); fd_read(0, 0, 1, 8)
func wasmWait() []byte {
	return wasmCommand([2]string{"fd_write", "fd_read"}, [2][]byte{{i32, i32, i32, i32}, {i32, i32, i32, i32}},
		0x41, 1, 0x41, 0, 0x41, 1, 0x41, 8, 0x10, 0, 0x1a, // fd_write(1, 0, 1, 8), drop
		0x41, 0, 0x41, 0, 0x41, 1, 0x41, 8, 0x10, 1, 0x1a) // fd_read(0, 0, 1, 8), drop
}

// Types of WebAssembly.
const i32, i64 = 0x7f, 0x7e

// wasmCommand is a WASI command whose code calls two functions of WASI, which take
// these types and return an i32. At 0 lies the one buffer of the lists that some of
// them take: eight bytes at 16.
func wasmCommand(functions [2]string, takes [2][]byte, code ...byte) []byte {
	name := func(s string) []byte { return append([]byte{byte(len(s))}, s...) }
	list := func(items ...[]byte) []byte {
		return append([]byte{byte(len(items))}, bytes.Join(items, nil)...)
	}
	section := func(id byte, content []byte) []byte {
		return append([]byte{id, byte(len(content))}, content...) // all are shorter than 128 bytes
	}
	wasi := func(i int) []byte {
		return bytes.Join([][]byte{name("wasi_snapshot_preview1"), name(functions[i]), {0, byte(i)}}, nil)
	}
	kind := func(i int) []byte { return append(append([]byte{0x60}, name(string(takes[i]))...), 1, i32) }
	body := append(append([]byte{0}, code...), 0x0b) // no locals
	return bytes.Join([][]byte{
		[]byte("\x00asm\x01\x00\x00\x00"),
		section(1, list(kind(0), kind(1), []byte{0x60, 0, 0})),
		section(2, list(wasi(0), wasi(1))),
		section(3, list([]byte{2})),
		section(5, list([]byte{0, 1})),
		section(7, list(append(name("memory"), 2, 0), append(name("_start"), 0, 2))),
		section(10, list(append([]byte{byte(len(body))}, body...))),
		section(11, list([]byte{0, 0x41, 0, 0x0b, 8, 16, 0, 0, 0, 8, 0, 0, 0})),
	}, nil)
}

// Machine code for amd64, with nothing linked: what an exec costs, and no more.
var (
	// clock_gettime(CLOCK_REALTIME, buf); write(1, buf, 16); exit(0)
	clockCode = []byte{
		0xb8, 228, 0, 0, 0, 0x31, 0xff, 0x48, 0x8d, 0x74, 0x24, 0xf0, 0x0f, 0x05,
		0xb8, 1, 0, 0, 0, 0xbf, 1, 0, 0, 0, 0x48, 0x8d, 0x74, 0x24, 0xf0, 0xba, 16, 0, 0, 0, 0x0f, 0x05,
		0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05,
	}
	// exit(0)
	noopCode = []byte{0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05}
)

// elf wraps machine code for amd64 into a static program of one segment.
func elf(code []byte) []byte {
	const base, header = 0x400000, 64 + 56
	var b bytes.Buffer
	put := func(v any) { _ = binary.Write(&b, binary.LittleEndian, v) } // a Buffer takes everything
	b.WriteString("\x7fELF\x02\x01\x01")
	b.Write(make([]byte, 9))
	put([]uint16{2, 62}) // an executable, for amd64
	put(uint32(1))
	put([]uint64{base + header, 64, 0}) // entry, program headers, no sections
	put(uint32(0))
	put([]uint16{64, 56, 1, 0, 0, 0})
	put([]uint32{1, 5}) // load, to read and execute
	size := uint64(header + len(code))
	put([]uint64{0, base, base, size, size, 4096})
	b.Write(code)
	return b.Bytes()
}

// noopProgram is a native program that ends at once, and what to call it. On
// machines other than amd64 it is nil: the system's true has to do.
func noopProgram() ([]byte, string) {
	if runtime.GOARCH != "amd64" {
		return nil, "/bin/true"
	}
	return elf(noopCode), fmt.Sprintf("a static no-op of %d bytes", len(elf(noopCode)))
}

// wasmSpec is a workload of the wasm program, which it uploads.
func wasmSpec(ctx context.Context, c *api.Client) (workload.Spec, error) {
	ref, err := c.PutBlob(ctx, bytes.NewReader(wasmClock()))
	spec := workload.DefaultSpec()
	spec.Program = workload.Program{Kind: workload.Wasm, Name: "clock.wasm", Blob: ref}
	smallShape(&spec)
	return spec, err
}

// nativeSpec is a workload of the native program, which it uploads: 165 bytes
// of amd64, and date(1) elsewhere.
func nativeSpec(ctx context.Context, c *api.Client) (workload.Spec, error) {
	spec := workload.DefaultSpec()
	smallShape(&spec)
	if runtime.GOARCH != "amd64" {
		spec.Program = workload.Program{Kind: workload.Process, Name: "date", Host: "date"}
		spec.Args = []string{"+%s%N"}
		return spec, nil
	}
	ref, err := c.PutBlob(ctx, bytes.NewReader(elf(clockCode)))
	spec.Program = workload.Program{Kind: workload.Process, Name: "clock", Blob: ref}
	return spec, err
}

// smallShape keeps memory and disk from deciding how much runs at once.
func smallShape(spec *workload.Spec) {
	spec.Resources.Memory, spec.Resources.Disk = 16<<20, 1<<20
}

// clockOf reads what a program printed: ns since 1970.
func clockOf(stdout []byte) (int64, error) {
	switch len(stdout) {
	case 8:
		return int64(binary.LittleEndian.Uint64(stdout)), nil
	case 16:
		sec, ns := binary.LittleEndian.Uint64(stdout), binary.LittleEndian.Uint64(stdout[8:])
		return int64(sec)*1_000_000_000 + int64(ns), nil
	}
	ns, err := strconv.ParseInt(strings.TrimSpace(string(stdout)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("a program printed %.40q, which is no clock", stdout)
	}
	return ns, nil
}
