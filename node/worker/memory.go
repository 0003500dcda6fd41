package worker

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/perrin-mesh/perrin/workload/sandbox"
)

// errNoMemoryFolder is returned when there is no file system in memory for what
// sealed work shows in the clear while it runs.
var errNoMemoryFolder = errors.New("sealed work needs a file system in memory that programs may run from, such as /dev/shm")

// MemoryFolders are where a node's folder for sealed work may lie, the best first.
// Only those that are in memory and not mounted noexec are used.
func MemoryFolders(dir string) []string {
	sum := sha256.Sum256([]byte(dir))
	name := "perrin-" + hex.EncodeToString(sum[:6])
	var out []string
	for _, base := range []string{"/dev/shm", os.Getenv("XDG_RUNTIME_DIR"), "/run/user/" + strconv.Itoa(os.Geteuid()), "/run"} {
		var fs unix.Statfs_t
		if base == "" || unix.Statfs(base, &fs) != nil || fs.Flags&unix.ST_NOEXEC != 0 {
			continue
		}
		if kind := int64(fs.Type); kind == unix.TMPFS_MAGIC || kind == unix.RAMFS_MAGIC {
			out = append(out, filepath.Join(base, name))
		}
	}
	return out
}

// dropMemory removes what an earlier daemon left behind.
func dropMemory(dir string) error {
	var err error
	for _, path := range MemoryFolders(dir) {
		err = errors.Join(err, sandbox.RemoveAll(path))
	}
	return err
}

// moveToMemory makes the folder of a slot of sealed work. Of the other users of
// this machine only root passes through its parents: they learn its name, from the
// mounts that /proc shows of each process. The sandbox mounts what is in it before
// it becomes the program's user.
func (s *slot) moveToMemory() error {
	err := errNoMemoryFolder
	for _, base := range MemoryFolders(s.w.cfg.Dir) {
		memory := filepath.Join(base, rand.Text())
		dir := filepath.Join(memory, filepath.Base(s.dir))
		made := makePrivate(base, memory, dir)
		if errors.Is(made, fs.ErrNotExist) { // another slot just removed the empty base
			made = makePrivate(base, memory, dir)
		}
		if made == nil {
			s.memory, s.dir = memory, dir
			return nil
		}
		err = fmt.Errorf("%w: %w", errNoMemoryFolder, made)
	}
	return err
}

// makePrivate makes folders, each in the one before, the first of which may be
// there. Its name is no secret and all may make folders beside it, so that it has
// to be this user's and closed to others: its owner could put another in its place.
func makePrivate(base string, below ...string) error {
	if err := os.Mkdir(base, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Lstat(base)
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Geteuid() || !info.IsDir() || info.Mode().Perm() != 0o700 {
		return fmt.Errorf("%s is not a folder that only this user opens: remove it", base)
	}
	for _, dir := range below {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
	}
	return nil
}

// forget lets go of a slot's key and of what it had in memory.
func (s *slot) forget() error {
	if !s.spec.Sealed() {
		return nil
	}
	s.secret.Close()
	s.w.cfg.Blobs.Unpin("slot/" + keyText(s.key))
	if s.memory == "" {
		return nil
	}
	err := sandbox.RemoveAll(s.memory)
	_ = os.Remove(filepath.Dir(s.memory)) // unless another slot has its folder there
	return err
}
