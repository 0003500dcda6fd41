// Package shim finds and starts the shim: the small program that a node runs
// as launcher of sandboxes, wasm worker, supervisor and self-test. It also keeps
// the program that unpacks container images, which links what the shim does not.
//
// A release build, with the tag embedshim, carries the shim inside perrin:
//
//	CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o workload/shim/embedded/perrin-shim ./workload/shim/cmd/perrin-shim
//	CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o workload/shim/embedded/perrin-unpack ./workload/oci/unpack/cmd/perrin-unpack
//	go build -tags embedshim ./cmd/perrin
//
// A plain `go build` or `go test` does not; then the running program takes the
// shim's place, so its main function or TestMain must call Main first. Either
// way the shim runs from a sealed copy in memory: nothing inside a sandbox can
// reach or change a file of the host through /proc/self/exe.
package shim

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/perrin-mesh/perrin/workload/oci/unpack/unpacker"
	"github.com/perrin-mesh/perrin/workload/shim/role"
)

// Main lives the life of the shim when this process was started as one, and
// does not return then. It must come before anything else in main and TestMain.
func Main() {
	if len(os.Args) > 1 && os.Args[0] == role.Name {
		if os.Args[1] == unpacker.Role { // in place of perrin-unpack, which the shim does not link
			os.Exit(unpacker.Serve())
		}
		os.Exit(role.Run(os.Args[1:]))
	}
}

// Embedded reports whether this build carries the small shim.
func Embedded() bool {
	f, err := embedded(role.Name)
	if err != nil {
		return false
	}
	f.Close()
	return true
}

// Path returns a path that executes the shim, valid in this process and, until
// they execute something, in its children.
func Path() (string, error) {
	f, err := image()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("/proc/self/fd/%d", f.Fd()), nil
}

// Dynamic reports whether the shim needs the host's dynamic linker, and with it
// a view of /usr. The embedded one never does; perrin in its place does when it
// was built with cgo.
func Dynamic() bool { return dynamic() }

var dynamic = sync.OnceValue(func() bool {
	f, err := image()
	if err != nil {
		return false
	}
	e, err := elf.NewFile(f)
	return err == nil && slices.ContainsFunc(e.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
})

// Command returns a command that starts the shim in the given role, with an
// empty environment. The caller sets the rest.
func Command(name string, args ...string) (*exec.Cmd, error) {
	path, err := Path()
	if err != nil {
		return nil, err
	}
	return &exec.Cmd{Path: path, Args: append([]string{role.Name, name}, args...), Env: []string{}}, nil
}

// Unpacker returns the program that unpacks images, open to be executed with
// role.Name and unpacker.Role as its first arguments. It is kept for the life of the
// process; the caller does not close it.
func Unpacker() (*os.File, error) { return unpackerExe() }

// The sealed copies, made when they are first needed and kept for the life of the
// process. Where this build carries no such program, this one takes its place.
var (
	image       = sync.OnceValues(func() (*os.File, error) { return load(role.Name) })
	unpackerExe = sync.OnceValues(func() (*os.File, error) { return load(unpackerName) })
	self        = sync.OnceValues(func() (*os.File, error) {
		f, err := os.Open("/proc/self/exe")
		if err != nil {
			return nil, fmt.Errorf("shim: %w", err)
		}
		defer f.Close()
		return inMemory(f)
	})
)

// unpackerName is the program of workload/oci/unpack/cmd.
const unpackerName = "perrin-unpack"

func load(name string) (*os.File, error) {
	f, err := embedded(name)
	if err != nil {
		return self()
	}
	defer f.Close()
	return inMemory(f)
}

func inMemory(src io.Reader) (*os.File, error) {
	f, err := sealedCopy(src)
	if err != nil {
		return nil, fmt.Errorf("shim: copy to memory: %w", err)
	}
	return f, nil
}

const memfdExec = 0x10 // MFD_EXEC, Linux 6.3; older kernels refuse it

func sealedCopy(src io.Reader) (*os.File, error) {
	fd, err := unix.MemfdCreate(role.Name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|memfdExec)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate(role.Name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), role.Name)
	if _, err := io.Copy(f, src); err != nil {
		f.Close()
		return nil, err
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		f.Close()
		return nil, err
	}
	// A file that anyone has open for writing cannot be executed.
	defer f.Close()
	ro, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err != nil {
		return nil, err
	}
	defer ro.Close()
	high, err := unix.FcntlInt(ro.Fd(), unix.F_DUPFD_CLOEXEC, highFD())
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(high), role.Name), nil
}

// MaxFiles bounds how many files a shim process may be given: the shim's own
// descriptor lies above, or a child's would take its place before the execve.
const MaxFiles = 3500

func highFD() int {
	const want = MaxFiles + 100
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) == nil && l.Cur < want+64 {
		return int(l.Cur) - 64
	}
	return want
}
