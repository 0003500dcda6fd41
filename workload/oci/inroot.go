package oci

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/perrin-mesh/perrin/workload/oci/image"
)

// inRoot opens a path as the programs of an image see it: links lead nowhere but
// inside of root.
func inRoot(root *os.Root, name string, flags int) (*os.File, error) {
	at, err := root.Open(".")
	if err != nil {
		return nil, err
	}
	defer at.Close()
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(int(at.Fd()), strings.TrimPrefix(name, "/"), &how)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// openPlain opens a regular file of an image for reading.
func openPlain(root *os.Root, name string) (*os.File, error) {
	f, err := inRoot(root, name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("%s: not a regular file", name)
	}
	return f, nil
}

// resolve returns the working directory with its links followed, so that inputs
// can be mounted below it; one that is not there yet stays as it is named. "" and
// / are the ordinary one, "".
func resolve(root *os.Root, dir string) (string, error) {
	dir = path.Clean("/" + dir)
	if dir == "/" {
		return "", nil
	}
	at, err := inRoot(root, dir, unix.O_PATH)
	if errors.Is(err, unix.ENOENT) {
		return dir, nil
	}
	if err != nil {
		return "", fmt.Errorf("%w: its WorkingDir: %w", image.ErrInvalid, err)
	}
	defer at.Close()
	if info, err := at.Stat(); err != nil || !info.IsDir() {
		return "", fmt.Errorf("%w: its WorkingDir %.200q is not a folder", image.ErrInvalid, dir)
	}
	top, err := root.Open(".")
	if err != nil {
		return "", err
	}
	defer top.Close()
	base, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", top.Fd()))
	if err != nil {
		return "", err
	}
	real, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", at.Fd()))
	if err != nil {
		return "", err
	}
	inside, ok := strings.CutPrefix(real, base+"/")
	if !ok {
		return "", fmt.Errorf("%w: its WorkingDir %.200q is not in it", image.ErrInvalid, dir)
	}
	return "/" + inside, nil
}
