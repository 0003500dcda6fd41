package main

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/perrin-mesh/perrin/cmd/perrin/internal/terminal"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/oci/source"
)

// maxProgram is the largest program that is shipped, in bytes. More than that
// is data, and an input.
const maxProgram = 1 << 30

// program is what the user named: to be shipped from path, or known to the
// nodes by workload.Program.Host.
type program struct {
	workload.Program
	path  string   // of the file to ship; "" when the nodes have it
	parts []string // of files to ship beside it
	arch  string   // the only architecture that can run it; "" for any

	image *source.Name // of a container image; nil for other programs

	note string // for the user

	unknown bool // this machine does not have it
}

// findProgram resolves the PROGRAM argument. oci: begins an image. A .wasm file, a script and a
// native program of the user's are shipped; one under /usr, /bin or /sbin is
// named, and so is a bare name that this machine does not know, or has there as
// well as where PATH finds it first.
func findProgram(arg string, getenv func(string) string) (program, error) {
	if kind, files, ok := virtualProgram(arg); ok {
		return findVirtual(kind, files)
	}
	if kind, name, ok := imageName(arg); ok {
		return findImage(kind, name)
	}
	switch {
	case arg == "" || strings.ContainsRune(arg, 0):
		return program{}, usagef("perrin run -- echo hi", "PROGRAM is empty")
	case strings.Contains(arg, "/"):
		return programAt(arg)
	case strings.HasSuffix(arg, ".wasm"):
		return shipped(arg)
	}
	if path := lookPath(arg, getenv("PATH")); path != "" {
		p, err := programFound(arg, path)
		if err == nil && p.path != "" && !isWasm(path) && onHost(arg) {
			p = named(arg)
			p.note = fmt.Sprintf("using the node's own %s, not %s; give its path to ship that one", arg, path)
		}
		return p, err
	}
	if info, err := os.Stat(arg); err == nil && info.Mode().IsRegular() {
		return shipped(arg)
	}
	if strings.Trim(arg, "0123456789") == "" {
		return program{}, usagef("a number belongs to the flag before it, as in --spare "+arg, "no program %.60q", arg)
	}
	p := named(arg)
	p.unknown = true
	p.note = fmt.Sprintf("this machine has no program %.60q; a node that has it may run it", arg)
	return p, nil
}

// programAt resolves a path.
func programAt(arg string) (program, error) {
	if !filepath.IsAbs(arg) || strings.HasSuffix(arg, ".wasm") {
		return shipped(arg)
	}
	clean := filepath.Clean(arg)
	if !workload.HostProgram(clean) || leavesHost(clean) {
		return shipped(arg)
	}
	p := named(clean)
	if _, err := os.Stat(clean); err != nil {
		p.unknown = true
		p.note = fmt.Sprintf("this machine has no %.80q; a node that has it may run it", clean)
	} else if isWasm(clean) {
		return shipped(clean)
	}
	return p, nil
}

// programFound decides for a bare name that stands at path.
func programFound(name, path string) (program, error) {
	if isWasm(path) || leavesHost(path) {
		return shipped(path)
	}
	if workload.HostProgram(path) {
		return named(name), nil
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return program{}, unreadable(path, err)
	}
	return named(real), nil
}

// onHost reports whether this machine has a program of that name where every
// node looks for its own. Version managers put wrappers of interpreters before
// those, which are of no use elsewhere.
func onHost(name string) bool {
	path := lookPath(name, "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
	return path != "" && !leavesHost(path)
}

// leavesHost reports whether path ends, links followed, at a file outside of
// the folders whose programs every node is expected to have of its own.
func leavesHost(path string) bool {
	real, err := filepath.EvalSymlinks(path)
	return err == nil && !workload.HostProgram(real)
}

func named(host string) program {
	return program{Program: workload.Program{Kind: workload.Process, Name: filepath.Base(host), Host: host}}
}

// lookPath returns the first executable file of that name in the absolute
// folders of a PATH, or "".
func lookPath(name, path string) string {
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) {
			continue
		}
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return file
		}
	}
	return ""
}

var wasmMagic = []byte("\x00asm")

func isWasm(path string) bool {
	head, err := readHead(path, len(wasmMagic))
	return err == nil && bytes.Equal(head, wasmMagic)
}

func readHead(path string, n int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	head := make([]byte, n)
	got, err := io.ReadFull(f, head)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		err = nil
	}
	return head[:got], err
}

// shipped looks at a file that is to travel with the workload.
func shipped(path string) (program, error) {
	info, err := os.Stat(path)
	if err != nil {
		return program{}, unreadable(path, err)
	}
	if err := travelsAs(path, info); err != nil {
		return program{}, err
	}
	head, err := readHead(path, 8)
	if err != nil {
		return program{}, unreadable(path, err)
	}
	p := program{Program: workload.Program{Kind: workload.Process, Name: filepath.Base(path)}, path: path}
	return p.recognise(head)
}

// travelsAs returns an error unless a file can be shipped as a program.
func travelsAs(path string, info fs.FileInfo) error {
	switch {
	case info.IsDir():
		return usagef("name the program inside it", "%s is a folder, not a program", path)
	case !info.Mode().IsRegular():
		return usagef("", "%s is not a regular file", path)
	case info.Size() == 0:
		return usagef("was it built or downloaded completely?", "%s is empty", path)
	case info.Size() > maxProgram:
		return usagef("ship large data with --input and keep the program small",
			"%s has %s; a program may have at most %s", path, terminal.Size(info.Size()), terminal.Size(maxProgram))
	}
	return nil
}

// recognise tells the kind of a program by its first bytes.
func (p program) recognise(head []byte) (program, error) {
	switch {
	case bytes.Equal(head, []byte("\x00asm\x01\x00\x00\x00")):
		p.Kind = workload.Wasm
		return p, nil
	case bytes.HasPrefix(head, wasmMagic):
		return p, usagef("build a core module for WASI preview 1 (wasip1)",
			"%s is a WebAssembly component or of an unknown version; this version runs core modules", p.path)
	case strings.HasSuffix(p.path, ".wasm"):
		return p, usagef("compile it first: GOOS=wasip1 GOARCH=wasm go build, or cargo build --target wasm32-wasip1",
			"%s is not WebAssembly: it does not begin with \\0asm", p.path)
	case bytes.HasPrefix(head, []byte(elf.ELFMAG)):
		return p.readELF()
	case bytes.HasPrefix(head, []byte("#!")):
		return p, nil
	}
	return p, usagef(interpreterHint(p.path), "%s is not a program: neither WebAssembly, nor ELF, nor a script that begins with #!", p.path)
}

func interpreterHint(path string) string {
	switch filepath.Ext(path) {
	case ".py":
		return "perrin run -- python3 " + path
	case ".sh":
		return "perrin run -- sh " + path
	case ".js":
		return "perrin run -- node " + path
	case ".go":
		return "build it first: GOOS=wasip1 GOARCH=wasm go build -o prog.wasm " + path
	}
	return "name an interpreter before it, as in `perrin run -- python3 " + path + "`"
}

var elfArch = map[elf.Machine]string{
	elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64", elf.EM_386: "386", elf.EM_ARM: "arm",
	elf.EM_RISCV: "riscv64", elf.EM_S390: "s390x", elf.EM_LOONGARCH: "loong64", elf.EM_PPC64: "ppc64le",
}

func (p program) readELF() (program, error) {
	f, err := elf.Open(p.path)
	if err != nil {
		return p, usagef("was it built or downloaded completely?", "%s is a damaged ELF file: %w", p.path, err)
	}
	defer f.Close()
	if f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN {
		return p, usagef("link it first", "%s is an ELF file, but not a program (%s)", p.path, f.Type)
	}
	p.arch = elfArch[f.Machine]
	return p, nil
}

// unreadable is the failure to read what the user named.
func unreadable(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return usagef("paths are relative to the folder you are in", "%s: no such file", path)
	case errors.Is(err, fs.ErrPermission):
		return usagef("check the permissions of the file and of the folders above it", "%s: this user may not read it", path)
	}
	return usagef("", "%s: %w", path, plain(err))
}

// plain drops the operation and path that the os package puts before an error.
func plain(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// placeOn restricts a spec to the architecture that can run p.
func (p program) placeOn(spec *workload.Spec) {
	if p.arch == "" {
		return
	}
	only := "arch==" + p.arch
	if strings.TrimSpace(spec.Where) != "" {
		only = "(" + spec.Where + ") && " + only
	}
	spec.Where = only
}
