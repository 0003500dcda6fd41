package inside

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// tree is a detached mount that waits for its place.
type tree struct {
	fd     int
	target string
	dir    bool
}

// rootSize and rootInodes bound the root file system, which holds only folders
// and a few small files and becomes read-only before the program runs.
const (
	rootSize   = 4 << 20
	rootInodes = 65536
)

// buildView makes the new root, pivots into it and leaves nothing of the old.
func buildView(cfg *Config) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	// Every source is taken before anything is covered.
	trees, err := openTrees(cfg)
	if err != nil {
		return err
	}
	root, at, err := newRoot()
	if err != nil {
		return err
	}
	if err := fillRoot(root, cfg); err != nil {
		return err
	}
	for _, t := range trees {
		if err := place(root, t); err != nil {
			return fmt.Errorf("mount %q: %w", t.target, err)
		}
	}
	if err := mountProc(root); err != nil {
		return err
	}
	return enterRoot(root, at)
}

// openTrees returns a detached mount for each part of the view, in an order in
// which a folder comes before what is mounted below it.
func openTrees(cfg *Config) ([]tree, error) {
	mounts := slices.Concat(deviceMounts(), cfg.Mounts)
	if cfg.Host {
		mounts = append(mounts, hostMounts()...)
	}
	var trees []tree
	for _, m := range mounts {
		t, err := openTree(m)
		if m.Optional && errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("open %q for %q: %w", m.Source, m.Target, err)
		}
		trees = append(trees, t)
	}
	slices.SortStableFunc(trees, func(a, b tree) int { return strings.Compare(a.target, b.target) })
	return trees, nil
}

func openTree(m Mount) (tree, error) {
	if m.FD != 0 {
		return tree{fd: m.FD, target: m.Target, dir: m.Dir}, nil
	}
	fd, dir, err := Detach(m)
	return tree{fd: fd, target: m.Target, dir: dir}, err
}

// Detach returns a mount of m.Source that is attached nowhere, with the flags
// that m asks for, and whether it is a folder. It needs CAP_SYS_ADMIN in the
// user namespace of the caller's mount namespace.
func Detach(m Mount) (fd int, dir bool, err error) {
	fd, err = unix.OpenTree(unix.AT_FDCWD, m.Source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return -1, false, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil {
		err = setFlags(fd, m)
	}
	if err != nil {
		unix.Close(fd)
		return -1, false, err
	}
	return fd, st.Mode&unix.S_IFMT == unix.S_IFDIR, nil
}

func setFlags(fd int, m Mount) error {
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV, Propagation: unix.MS_PRIVATE}
	if m.Device {
		attr.Attr_set = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC
	}
	if !m.Write && !m.Device {
		attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
		return fmt.Errorf("set mount flags: %w", err)
	}
	return nil
}

// deviceMounts are the devices of the view. They keep no state of anyone.
func deviceMounts() []Mount {
	var out []Mount
	for _, name := range []string{"null", "zero", "full", "random", "urandom"} {
		out = append(out, Mount{Source: "/dev/" + name, Target: "/dev/" + name, Device: true})
	}
	return out
}

// hostMounts are the parts of the host that native programs need: /usr and the
// public configuration of its linker and of TLS.
func hostMounts() []Mount {
	out := []Mount{{Source: "/usr", Target: "/usr"}}
	for _, p := range []string{"/etc/ld.so.cache", "/etc/alternatives", "/etc/ssl/certs", "/etc/pki/tls/certs", "/etc/localtime"} {
		out = append(out, Mount{Source: p, Target: p, Optional: true})
	}
	for _, p := range mergedDirs {
		if st, err := os.Lstat(p); err == nil && st.IsDir() {
			out = append(out, Mount{Source: p, Target: p})
		}
	}
	return out
}

// mergedDirs are folders that most systems link into /usr.
var mergedDirs = []string{"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"}

// newRoot mounts an empty root file system over some folder of the private
// mount namespace and returns a descriptor of it and where it is.
func newRoot() (fd int, at string, err error) {
	fd, err = newTmpfs(rootSize, rootInodes, "0755", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	if err != nil {
		return -1, "", fmt.Errorf("root file system: %w", err)
	}
	for _, at := range []string{"/tmp", "/usr", "/var", "/etc"} {
		if err = unix.MoveMount(fd, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH); err == nil {
			return fd, at, nil
		}
	}
	return -1, "", fmt.Errorf("mount the root file system: %w", err)
}

// newTmpfs returns a detached tmpfs. inodes 0 is the kernel's default.
func newTmpfs(size int64, inodes int, mode string, attr int) (int, error) {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("fsopen tmpfs: %w", err)
	}
	defer unix.Close(fs)
	options := [][2]string{{"size", strconv.FormatInt(size, 10)}, {"mode", mode}}
	if inodes > 0 {
		options = append(options, [2]string{"nr_inodes", strconv.Itoa(inodes)})
	}
	for _, o := range options {
		if err := unix.FsconfigSetString(fs, o[0], o[1]); err != nil {
			return -1, fmt.Errorf("tmpfs %s=%s: %w", o[0], o[1], err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, fmt.Errorf("create tmpfs: %w", err)
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attr)
}

// fillRoot makes the folders, links and small files of the root.
func fillRoot(root int, cfg *Config) error {
	for _, dir := range []string{"dev", "etc", "proc", "tmp", "out", "work", "perrin"} {
		if err := unix.Mkdirat(root, dir, 0o755); err != nil {
			return fmt.Errorf("mkdir /%s: %w", dir, err)
		}
	}
	links := map[string]string{
		"dev/fd": "/proc/self/fd", "dev/stdin": "/proc/self/fd/0",
		"dev/stdout": "/proc/self/fd/1", "dev/stderr": "/proc/self/fd/2", "dev/shm": "/tmp",
	}
	if cfg.Host {
		for _, p := range mergedDirs {
			if to, err := os.Readlink(p); err == nil {
				links[p[1:]] = to
			}
		}
	}
	for name, to := range links {
		if err := unix.Symlinkat(to, root, name); err != nil {
			return fmt.Errorf("link /%s: %w", name, err)
		}
	}
	for name, text := range etcFiles {
		if err := writeAt(root, "etc/"+name, text); err != nil {
			return fmt.Errorf("write /etc/%s: %w", name, err)
		}
	}
	tmp, err := newTmpfs(cfg.Limits.TmpSize, 0, "0777", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	if err != nil {
		return fmt.Errorf("/tmp: %w", err)
	}
	return place(root, tree{fd: tmp, target: "/tmp", dir: true})
}

var etcFiles = map[string]string{
	"passwd":        "root:x:0:0:root:/:/sbin/nologin\nperrin:x:1000:1000:perrin:/tmp:/bin/sh\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n",
	"group":         "root:x:0:\nperrin:x:1000:\nnogroup:x:65534:\n",
	"hosts":         "127.0.0.1 localhost perrin\n::1 localhost perrin\n",
	"nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
	"resolv.conf":   "",
	"hostname":      hostname + "\n",
}

const hostname = "perrin"

func writeAt(root int, name, text string) error {
	fd, err := unix.Openat(root, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if text == "" {
		return nil
	}
	_, err = unix.Write(fd, []byte(text))
	return err
}

// place makes the mount point of t below root, following no symlink, and moves
// t onto it.
func place(root int, t tree) error {
	defer unix.Close(t.fd)
	at, err := mountPoint(root, strings.TrimPrefix(path.Clean(t.target), "/"), t.dir)
	if err != nil {
		return err
	}
	defer unix.Close(at)
	return unix.MoveMount(t.fd, "", at, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

// mountPoint returns a descriptor of the folder or empty file name below root
// and makes what is missing.
func mountPoint(root int, name string, dir bool) (int, error) {
	parts := strings.Split(name, "/")
	at, err := unix.FcntlInt(uintptr(root), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	for i, part := range parts {
		if part == "" || part == "." || part == ".." {
			unix.Close(at)
			return -1, fmt.Errorf("%q is not a clean path", name)
		}
		next, err := step(at, part, dir || i < len(parts)-1)
		unix.Close(at)
		if err != nil {
			return -1, err
		}
		at = next
	}
	return at, nil
}

// step opens the entry name of the folder at, and makes it when it is missing.
func step(at int, name string, dir bool) (int, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_BENEATH}
	fd, err := unix.Openat2(at, name, &how)
	if !errors.Is(err, unix.ENOENT) {
		return fd, err
	}
	if dir {
		err = unix.Mkdirat(at, name, 0o755)
	} else {
		err = writeAt(at, name, "")
	}
	if err != nil {
		return -1, fmt.Errorf("make mount point %q: %w", name, err)
	}
	return unix.Openat2(at, name, &how)
}

// mountProc mounts the process folder of the new pid namespace, without the
// kernel-wide part (/proc/sys, kcore, keys, sysrq-trigger and the rest).
func mountProc(root int) error {
	fs, err := unix.Fsopen("proc", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("fsopen proc: %w", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigSetString(fs, "subset", "pid"); err != nil {
		return fmt.Errorf("proc subset=pid: %w", err)
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return fmt.Errorf("create a private /proc: %w", err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return fmt.Errorf("mount a private /proc: %w", err)
	}
	return place(root, tree{fd: fd, target: "/proc", dir: true})
}

// enterRoot makes the new root the only one and read-only.
func enterRoot(root int, at string) error {
	defer unix.Close(root)
	if err := unix.Fchdir(root); err != nil {
		return fmt.Errorf("enter the new root at %s: %w", at, err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("detach the old root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("chdir /: %w", err)
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(unix.AT_FDCWD, "/", 0, &attr); err != nil {
		return fmt.Errorf("make the root read-only: %w", err)
	}
	return nil
}
