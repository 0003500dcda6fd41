package main

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/perrin-mesh/perrin/workload/oci/ocitest"
)

// hostileCommand is "hostile KIND PATH": it writes an image layout that means harm.
func hostileCommand(t *testing.T) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) != 2 {
			ts.Fatalf("usage: hostile KIND PATH")
		}
		file := ocitest.File("x", []byte(args[0])) // so that no two have a layer in common
		layers := map[string][][]byte{
			"escape":   {ocitest.Tar(t, file, ocitest.File("../../escaped", nil))},
			"links":    {ocitest.Tar(t, append(linkBomb(), file, ocitest.File("l0/x", nil))...)},
			"whiteout": {ocitest.Tar(t, file), ocitest.Tar(t, ocitest.File(".wh..wh..opq", nil))},
			"sparse":   {ocitest.Sparse(t, "huge", 10<<30)},
			"zeros":    {zeros(t)},
			"lie":      {ocitest.Tar(t, file)},
		}[args[0]]
		if layers == nil {
			ts.Fatalf("no kind of image %q", args[0])
		}
		img := ocitest.Build(t, v1.ImageConfig{Cmd: []string{"/x"}}, layers...)
		if args[0] == "lie" {
			for d, content := range img.Blobs {
				if content[0] == 0x1f { // the layer
					img.Blobs[d] = append(bytes.Clone(content[:len(content)-1]), content[len(content)-1]^1)
				}
			}
		}
		img.Layout(t, ts.MkAbs(args[1]))
	}
}

// linkBomb is 60 links of which each goes twice through the next: to follow the
// first takes 2^60 steps.
func linkBomb() (out []ocitest.Entry) {
	for i := range 60 {
		out = append(out, ocitest.Link(fmt.Sprintf("l%d", i), fmt.Sprintf("l%d/l%d", i+1, i+1)))
	}
	return out
}

// zeros is a layer that promises a file of 11 GiB.
func zeros(t *testing.T) []byte {
	var buf bytes.Buffer
	if err := tar.NewWriter(&buf).WriteHeader(&tar.Header{Name: "zeros", Mode: 0o644, Size: 11 << 30}); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// moduleCommand is "module KIND PATH": it writes a WebAssembly module that takes all
// that it can get of something.
func moduleCommand(ts *testscript.TestScript, neg bool, args []string) {
	const (
		loop, again, end = "\x03\x40", "\x0c\x00", "\x0b"         // loop, br 0, end
		grow             = "\x41\x10\x40\x00\x41\x7f\x46"         // memory.grow 16 == -1
		giveUp           = "\x04\x40\x00\x0b"                     // if, unreachable, end
		all              = "\x41\x00\x41\x01\x3f\x00\x41\x10\x74" // 0, 1, memory.size << 16
		fill             = "\xfc\x0b\x00"                         // memory.fill
	)
	body, locals := map[string]string{
		"allocates": loop + grow + giveUp + all + fill + again + end,
		"recurses":  "\x10\x00", // call 0
		"spins":     loop + again + end,
		"locals":    "",
	}, uint64(0)
	if _, ok := body[args[0]]; neg || len(args) != 2 || !ok {
		ts.Fatalf("usage: module allocates|recurses|spins|locals PATH")
	}
	functions := 1
	if args[0] == "locals" {
		functions, locals = 20, 1<<32-1 // more than a function may have
	}
	if err := os.WriteFile(ts.MkAbs(args[1]), hostileModule(functions, locals, body[args[0]]), 0o644); err != nil {
		ts.Fatalf("%v", err)
	}
}

// hostileModule is a module of so many functions with so many locals and this body; the
// first is _start.
func hostileModule(functions int, locals uint64, body string) []byte {
	code := append(binary.AppendUvarint([]byte{1}, locals), "\x7e"+body+"\x0b"...) // of type i64
	code = append(binary.AppendUvarint(nil, uint64(len(code))), code...)
	module := []byte("\x00asm\x01\x00\x00\x00")
	for _, s := range []struct {
		id   byte
		data []byte
	}{
		{1, []byte("\x01\x60\x00\x00")}, // a type: nothing to nothing
		{3, append([]byte{byte(functions)}, make([]byte, functions)...)},
		{5, []byte("\x01\x00\x01")}, // a memory of one page or more
		{7, []byte("\x01\x06_start\x00\x00")},
		{10, append([]byte{byte(functions)}, bytes.Repeat(code, functions)...)},
	} {
		module = append(binary.AppendUvarint(append(module, s.id), uint64(len(s.data))), s.data...)
	}
	return module
}
