package guest

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	esys "github.com/tetratelabs/wazero/experimental/sys"
	"github.com/tetratelabs/wazero/experimental/sysfs"
	"github.com/tetratelabs/wazero/sys"
	"golang.org/x/sys/unix"

	"github.com/perrin-mesh/perrin/workload/wasm/frame"
)

// tree is what a guest sees as its root: a writable scratch folder with out
// and tmp in it, and the attempt's inputs read-only in their places. The
// scratch folder is made when the guest first touches a file, since many never
// do. Guests cannot make links: wazero would follow them out of the tree.
type tree struct {
	esys.UnimplementedFS
	base   string
	own    esys.FS
	mounts []mount
	make   func() error
}

type mount struct {
	target string
	dir    string // host folder
	file   string // the one file of dir that is shown, "" for all of it
	fs     esys.FS
}

func newTree(base string, mounts []frame.Mount) *tree {
	t := &tree{base: base, own: sysfs.DirFS(base)}
	for _, m := range mounts {
		src := filepath.Join(SlotPath, m.Source)
		mt := mount{target: m.Target, dir: src}
		if !m.Dir {
			mt.dir, mt.file = filepath.Split(src)
		}
		mt.fs = &sysfs.ReadFS{FS: sysfs.DirFS(mt.dir)}
		t.mounts = append(t.mounts, mt)
	}
	// The deepest first, so that the first match is the innermost.
	slices.SortFunc(t.mounts, func(a, b mount) int { return len(b.target) - len(a.target) })
	t.make = sync.OnceValue(t.build)
	return t
}

// build makes the scratch folder with an empty entry for each input, so that
// listings show them.
func (t *tree) build() error {
	for _, dir := range []string{t.base, filepath.Join(t.base, "out"), filepath.Join(t.base, "tmp")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	for _, m := range slices.Backward(t.mounts) {
		at := filepath.Join(t.base, m.target)
		if m.file == "" {
			if err := os.MkdirAll(at, 0o755); err != nil {
				return err
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(at, nil, 0o444); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// at returns what path names: a file system, the path in it, and the mount, if any.
func (t *tree) at(name string) (esys.FS, string, *mount, esys.Errno) {
	name = path.Clean(name)
	if name == "/" || name == "" {
		name = "."
	}
	if !fs.ValidPath(name) {
		return nil, "", nil, esys.EPERM
	}
	if t.make() != nil {
		return nil, "", nil, esys.EIO
	}
	for i := range t.mounts {
		m := &t.mounts[i]
		if name == m.target && m.file != "" {
			return m.fs, m.file, m, 0
		}
		if name == m.target {
			return m.fs, ".", m, 0
		}
		if rest, ok := strings.CutPrefix(name, m.target+"/"); ok && m.file == "" {
			return m.fs, rest, m, 0
		}
	}
	return t.own, name, nil, 0
}

// contained refuses a path of an input whose symlinks lead out of the input.
func (m *mount) contained(name string) esys.Errno {
	if m == nil {
		return 0
	}
	dir, err := unix.Open(m.dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return esys.EIO
	}
	defer unix.Close(dir)
	fd, err := unix.Openat2(dir, name, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS})
	if err == nil {
		unix.Close(fd)
		return 0
	}
	if errors.Is(err, unix.ENOENT) {
		return esys.ENOENT
	}
	return esys.EACCES
}

// covers reports whether an input lies at name or below it, so that name must
// stay where it is.
func (t *tree) covers(name string) bool {
	name = path.Clean(name)
	return slices.ContainsFunc(t.mounts, func(m mount) bool {
		return m.target == name || strings.HasPrefix(m.target, name+"/")
	})
}

// OpenFile opens a file or folder.
func (t *tree) OpenFile(name string, flag esys.Oflag, perm fs.FileMode) (esys.File, esys.Errno) {
	f, p, m, errno := t.at(name)
	if errno == 0 {
		errno = m.contained(p)
	}
	if errno != 0 {
		return nil, errno
	}
	return f.OpenFile(p, flag, perm)
}

// Lstat describes what name itself is.
func (t *tree) Lstat(name string) (sys.Stat_t, esys.Errno) {
	f, p, _, errno := t.at(name)
	if errno != 0 {
		return sys.Stat_t{}, errno
	}
	return f.Lstat(p)
}

// Stat describes what name leads to.
func (t *tree) Stat(name string) (sys.Stat_t, esys.Errno) {
	f, p, m, errno := t.at(name)
	if errno == 0 {
		errno = m.contained(p)
	}
	if errno != 0 {
		return sys.Stat_t{}, errno
	}
	return f.Stat(p)
}

// Readlink returns where a link of an input points.
func (t *tree) Readlink(name string) (string, esys.Errno) {
	f, p, _, errno := t.at(name)
	if errno != 0 {
		return "", errno
	}
	return f.Readlink(p)
}

// Mkdir makes a folder in the scratch.
func (t *tree) Mkdir(name string, perm fs.FileMode) esys.Errno {
	return t.change(name, func(f esys.FS, p string) esys.Errno { return f.Mkdir(p, perm) })
}

// Chmod changes a mode in the scratch.
func (t *tree) Chmod(name string, perm fs.FileMode) esys.Errno {
	return t.change(name, func(f esys.FS, p string) esys.Errno { return f.Chmod(p, perm) })
}

// Utimens changes times in the scratch.
func (t *tree) Utimens(name string, atim, mtim int64) esys.Errno {
	return t.change(name, func(f esys.FS, p string) esys.Errno { return f.Utimens(p, atim, mtim) })
}

func (t *tree) change(name string, do func(esys.FS, string) esys.Errno) esys.Errno {
	f, p, _, errno := t.at(name)
	if errno != 0 {
		return errno
	}
	return do(f, p)
}

// Rmdir removes an empty folder of the scratch.
func (t *tree) Rmdir(name string) esys.Errno {
	if t.covers(name) {
		return esys.EROFS
	}
	return t.change(name, func(f esys.FS, p string) esys.Errno { return f.Rmdir(p) })
}

// Unlink removes a file of the scratch.
func (t *tree) Unlink(name string) esys.Errno {
	if t.covers(name) {
		return esys.EROFS
	}
	return t.change(name, func(f esys.FS, p string) esys.Errno { return f.Unlink(p) })
}

// Rename moves within the scratch.
func (t *tree) Rename(from, to string) esys.Errno {
	a, pa, ma, errno := t.at(from)
	if errno != 0 {
		return errno
	}
	_, pb, mb, errno := t.at(to)
	switch {
	case errno != 0:
		return errno
	case ma != nil || mb != nil || t.covers(from) || t.covers(to):
		return esys.EROFS
	}
	return a.Rename(pa, pb)
}

// Link is refused.
func (t *tree) Link(string, string) esys.Errno { return esys.EPERM }

// Symlink is refused.
func (t *tree) Symlink(string, string) esys.Errno { return esys.EPERM }
