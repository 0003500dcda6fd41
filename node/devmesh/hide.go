package devmesh

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// What a daemon of a local mesh finds in its environment.
const (
	EnvHide  = "PERRIN_DEV_HIDE"  // a folder to empty in its mount namespace
	EnvFirst = "PERRIN_DEV_FIRST" // its number: the core that its declared ones begin at
)

// namespaces puts a daemon into a mount namespace of its own, and lets it go
// when its parent does. An ordinary user needs a user namespace for that, in
// which the daemon stays that user.
func namespaces(private bool) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
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

// First returns the number of this daemon in its local mesh.
func First() int {
	n, err := strconv.Atoi(os.Getenv(EnvFirst))
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// Hide empties the folder that EnvHide names, for this process and what it
// starts, but for keep (the data folder). It does nothing when none is named.
// The process must have been started by a Mesh.
func Hide(keep string) error {
	dir := os.Getenv(EnvHide)
	os.Unsetenv(EnvHide)
	if dir == "" || !Hideable(dir) {
		return nil
	}
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
