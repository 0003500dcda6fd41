package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/perrin-mesh/perrin/workload/sandbox/inside"
	"github.com/perrin-mesh/perrin/workload/shim"
)

// Root is a folder of the host that a program has as its /, with an overlay that
// takes what it writes (Linux 5.11; as root 5.19). Lower belongs to this
// process's user and is never changed. Scratch is an empty folder on a disk of
// this machine: the overlay's, and the caller's to remove.
type Root struct {
	Lower   string
	Scratch string
}

// prepareRoot makes the overlay's folders and says where they are. As root the
// lower folder is shown as the group's user's own, so that the program may write
// in it.
func (g *Group) prepareRoot(cfg *inside.Config, r *Root, own *[]*os.File) error {
	for _, name := range []string{"upper", "work"} {
		dir := filepath.Join(r.Scratch, name)
		if err := errors.Join(os.Mkdir(dir, 0o755), os.Chmod(dir, 0o755), g.Chown(dir)); err != nil {
			return fmt.Errorf("root: %w", err)
		}
	}
	cfg.Root = &inside.Root{Lower: inside.Mount{Source: r.Lower}, Scratch: inside.Mount{Source: r.Scratch, Write: true}}
	if !g.host.root {
		return nil
	}
	for _, m := range []*inside.Mount{&cfg.Root.Lower, &cfg.Root.Scratch} {
		fd, _, err := inside.Detach(*m)
		if err != nil {
			return fmt.Errorf("mount %q for the root: %w", m.Source, err)
		}
		*own = append(*own, os.NewFile(uintptr(fd), m.Source))
		m.FD = fd
	}
	return g.giveToUser(cfg.Root.Lower.FD)
}

// giveToUser shows a detached mount's files as the group's user's.
func (g *Group) giveToUser(mount int) error {
	if g.uid == os.Geteuid() {
		return nil
	}
	ns, err := g.ownerNamespace()
	if err == nil {
		attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns.Fd())}
		err = unix.MountSetattr(mount, "", unix.AT_EMPTY_PATH, &attr)
	}
	if err != nil {
		return fmt.Errorf("give an image's files to the program's user (Linux 5.19, and a file system that can): %w", err)
	}
	return nil
}

// ownerNamespace returns a user namespace that maps this process's user to the
// group's. It is made once and open until Close.
func (g *Group) ownerNamespace() (*os.File, error) {
	if g.owner != nil {
		return g.owner, nil
	}
	path, err := shim.Path()
	if err != nil {
		return nil, err
	}
	// A child stops at its execve because it is traced, and its namespace is
	// open by then; only the thread that started it may trace it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	child, err := os.StartProcess(path, []string{inside.ShimName}, &os.ProcAttr{Sys: &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER, Ptrace: true,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: os.Geteuid(), HostID: g.uid, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: g.uid, Size: 1}},
	}})
	if err != nil {
		return nil, fmt.Errorf("user namespace: %w", err)
	}
	g.owner, err = os.Open(fmt.Sprintf("/proc/%d/ns/user", child.Pid))
	_ = child.Kill()
	_, _ = child.Wait()
	return g.owner, err
}
