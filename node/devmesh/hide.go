package devmesh

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// What a daemon of a local mesh finds in its environment.
const (
	envMember = "PERRIN_DEV_MEMBER" // it is one, and its stdin ends with its mesh
	envHide   = "PERRIN_DEV_HIDE"   // the folder to empty in its mount namespace
)

// namespaces puts a daemon into a mount namespace of its own. An ordinary user needs a user namespace for that, in
// which the daemon stays that user.
func namespaces(private bool) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if !private {
		return attr
	}
	attr.Cloneflags = syscall.CLONE_NEWNS
	if os.Getuid() != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}}
		attr.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN}
	}
	return attr
}

// Enter makes this process a member of the Mesh that started it: it empties the
// folder that is to be hidden, but for keep (the data folder), and returns a
// context that ends when the mesh does. In any other process it does nothing.
func Enter(ctx context.Context, keep string) (context.Context, error) {
	if os.Getenv(envMember) == "" {
		return ctx, nil
	}
	dir := os.Getenv(envHide)
	os.Unsetenv(envMember)
	os.Unsetenv(envHide)
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	if dir == "" || !Hideable(dir) {
		return ctx, nil
	}
	return ctx, hide(dir, keep)
}

// hide empties dir for this process and what it starts, but for keep.
func hide(dir, keep string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("hide %s: private mounts: %w", dir, err)
	}
	fd, err := unix.Open(keep, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("hide %s: %w", dir, err)
	}
	defer unix.Close(fd)
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=1m,mode=755"); err != nil {
		return fmt.Errorf("hide %s: %w", dir, err)
	}
	rel, err := filepath.Rel(dir, keep)
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return nil // the data folder is elsewhere
	}
	if err := os.MkdirAll(keep, 0o700); err != nil {
		return err
	}
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", fd), keep, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("hide %s: keep %s: %w", dir, keep, err)
	}
	return os.Chdir(keep)
}

// Hideable reports whether a folder can be emptied without taking the system
// away: it is a real folder and no system folder or the parent of one.
func Hideable(dir string) bool {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil || real == "/" {
		return false
	}
	for _, system := range []string{"/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc", "/proc", "/sys", "/dev", "/run"} {
		if real == system || strings.HasPrefix(real, system+"/") {
			return false
		}
	}
	return true
}
