package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// tempAge is how old a folder must be before it can be taken for one that was
// left: whoever makes one holds it a moment later.
const tempAge = time.Minute

// TempDir makes a folder in the system's temporary folder, whose name begins with
// prefix, and removes those that processes left which were killed: whoever lives
// holds a lock on theirs. remove removes the folder.
func TempDir(prefix string) (dir string, remove func() error, err error) {
	left, err := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*"))
	if err != nil {
		return "", nil, err
	}
	for _, old := range left {
		removeLeft(old)
	}
	dir, err = os.MkdirTemp("", prefix)
	if err != nil {
		return "", nil, err
	}
	lock, err := hold(dir)
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("hold %s: %w", dir, err), os.Remove(dir))
	}
	return dir, func() error {
		err := RemoveAll(dir)
		unix.Close(lock)
		return err
	}, nil
}

// hold locks a folder for as long as the descriptor is open.
func hold(dir string) (fd int, err error) {
	fd, err = unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// removeLeft removes a folder of this user that nobody holds. One that cannot be
// removed stays: it is in nobody's way.
func removeLeft(dir string) {
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() || time.Since(info.ModTime()) < tempAge {
		return
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Geteuid() {
		return
	}
	lock, err := hold(dir)
	if err != nil {
		return
	}
	defer unix.Close(lock)
	_ = RemoveAll(dir)
}
