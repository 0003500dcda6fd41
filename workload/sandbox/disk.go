package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrTooBig is returned when folders hold more than they may.
var ErrTooBig = errors.New("too big")

// inodeCost is what each file counts beside its blocks, so that empty files
// are not free.
const inodeCost = 512

// Usage sums the disk space, in bytes, of everything below the folders, and
// returns ErrTooBig as soon as the sum passes limit (0 is no limit). It follows
// no symlink and leaves out what it cannot read or what vanishes meanwhile.
func Usage(limit int64, dirs ...string) (int64, error) {
	u := usage{limit: limit}
	for _, dir := range dirs {
		if dir == "" {
			continue
		}
		fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return u.sum, fmt.Errorf("measure %s: %w", dir, err)
		}
		if err := u.folder(fd, 0); err != nil {
			return u.sum, err
		}
	}
	return u.sum, nil
}

type usage struct{ sum, limit int64 }

// maxDepth bounds how deep a folder may be nested. Programs can nest deeper
// than descriptors last; that counts as too big.
const maxDepth = 256

// folder measures the open folder fd and closes it.
func (u *usage) folder(fd, depth int) error {
	f := os.NewFile(uintptr(fd), "")
	defer f.Close()
	if depth > maxDepth {
		return fmt.Errorf("folders nested deeper than %d: %w", maxDepth, ErrTooBig)
	}
	for {
		names, err := f.Readdirnames(256)
		for _, name := range names {
			if err := u.entry(fd, name, depth); err != nil {
				return err
			}
		}
		if err != nil { // the end, or a folder that is gone
			return nil
		}
	}
}

func (u *usage) entry(parent int, name string, depth int) error {
	var st unix.Stat_t
	if unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return nil
	}
	u.sum += st.Blocks*512 + inodeCost
	if u.limit > 0 && u.sum > u.limit {
		return ErrTooBig
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	return u.folder(fd, depth+1)
}

// RemoveAll removes dir and everything below it, also folders that a program
// left unreadable for this user. It follows no symlink. Nothing may still be
// running that can write there.
func RemoveAll(dir string) error {
	err := os.RemoveAll(dir)
	if err == nil || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	if err := Open(dir); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// Open gives the owner read, write and search permission on every folder below
// dir, dir included, and read permission on every file, so that the node can
// gather and remove what a program left. It follows no symlink. Nothing may
// still be running that can write there.
func Open(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil && d == nil {
			return err
		}
		// WalkDir calls once before it reads a folder, and again when it cannot.
		switch {
		case d.IsDir():
			return chmodMissing(path, d, 0o700)
		case d.Type().IsRegular():
			return chmodMissing(path, d, 0o400)
		}
		return nil
	})
}

func chmodMissing(path string, d fs.DirEntry, want fs.FileMode) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	if info.Mode().Perm()&want == want {
		return nil
	}
	err = os.Chmod(path, info.Mode().Perm()|want)
	if errors.Is(err, syscall.ENOENT) {
		return nil
	}
	return err
}
