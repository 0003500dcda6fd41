package inside

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// View is what every sandbox of a kind sees beside its own mounts.
type View struct {
	host   bool
	mounts []Mount
	links  [][2]string // name without the slash, target
	files  []uint64    // device and inode of each of the host's mounts
}

// NewView looks at the machine: devices and, with host, /usr and what belongs
// to it.
func NewView(host bool) (*View, error) {
	v := &View{host: host, mounts: deviceMounts(), links: slices.Clone(deviceLinks)}
	if !host {
		return v, nil
	}
	for _, m := range hostMounts {
		info, err := os.Stat(m)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		v.mounts = append(v.mounts, Mount{Source: m, Target: m, Dir: info.IsDir()})
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			v.files = append(v.files, st.Dev, st.Ino)
		}
	}
	for _, p := range mergedDirs {
		if to, err := os.Readlink(p); err == nil {
			v.links = append(v.links, [2]string{p[1:], to})
		} else if info, err := os.Lstat(p); err == nil && info.IsDir() {
			v.mounts = append(v.mounts, Mount{Source: p, Target: p, Dir: true})
		}
	}
	slices.SortStableFunc(v.mounts, byTarget)
	return v, nil
}

func byTarget(a, b Mount) int { return strings.Compare(a.Target, b.Target) }

// Same reports whether the machine still has what the view was made of: a file
// may be replaced, as ldconfig does, and a mount would show the old one.
func (v *View) Same(of *View) bool {
	return slices.Equal(v.mounts, of.mounts) && slices.Equal(v.links, of.links) && slices.Equal(v.files, of.files)
}

// deviceMounts are the devices of the view. They keep no state of anyone.
func deviceMounts() []Mount {
	var out []Mount
	for _, name := range []string{"null", "zero", "full", "random", "urandom"} {
		out = append(out, Mount{Source: "/dev/" + name, Target: "/dev/" + name, Device: true})
	}
	return out
}

var deviceLinks = [][2]string{
	{"dev/fd", "/proc/self/fd"}, {"dev/stdin", "/proc/self/fd/0"},
	{"dev/stdout", "/proc/self/fd/1"}, {"dev/stderr", "/proc/self/fd/2"}, {"dev/shm", "/tmp"},
}

// hostMounts are the parts of the host that native programs need: /usr and the
// public configuration of its linker and of TLS.
var hostMounts = []string{
	"/usr", "/etc/ld.so.cache", "/etc/alternatives", "/etc/ssl/certs", "/etc/pki/tls/certs", "/etc/localtime",
}

// mergedDirs are folders that most systems link into /usr.
var mergedDirs = []string{"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"}

var etcFiles = [][2]string{
	{"passwd", "root:x:0:0:root:/:/sbin/nologin\nperrin:x:1000:1000:perrin:/tmp:/bin/sh\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n"},
	{"group", "root:x:0:\nperrin:x:1000:\nnogroup:x:65534:\n"},
	{"hosts", "127.0.0.1 localhost perrin\n::1 localhost perrin\n"},
	{"nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n"},
	{"resolv.conf", ""},
	{"hostname", hostname + "\n"},
}

const hostname = "perrin"

// rootSize and rootInodes bound the root file system, which holds only folders
// and a few small files and becomes read-only before the program runs.
const (
	rootSize   = 4 << 20
	rootInodes = 65536
)

// rootDirs are in every root, and commonTargets are where the mounts of most
// sandboxes go: a root that many share has a place for these, and no other.
var (
	rootDirs      = []string{"dev", "etc", "proc", "tmp", "out", "work", "perrin"}
	commonTargets = []string{"/perrin/program", "/perrin/unit.sock"}
)

// Fits reports whether a mount at target has its place in a view that was built
// before: below what is the sandbox's own, or at a common target.
func Fits(target string) bool {
	target = path.Clean(target)
	return target == "/work" || target == "/out" || strings.HasPrefix(target, "/work/") || slices.Contains(commonTargets, target)
}

// LaunchPlan is for the launcher, as root: it gets a mount namespace with the
// view as its root, which every sandbox copies, and serves.
func LaunchPlan(v *View) *Plan {
	p := &Plan{}
	p.seal(unix.CLONE_NEWNS | unix.CLONE_NEWNET)
	root, trees := p.newRoot(v, nil)
	for _, target := range commonTargets {
		p.close(p.mountPoint(root, target, false, "/perrin/"))
	}
	for _, t := range trees {
		p.place(root, t)
	}
	p.pivot(root, true)
	p.serve()
	return p
}

// PlainPlan is for a launcher that may do nothing but serve: every sandbox
// builds its own view.
func PlainPlan() *Plan {
	p := &Plan{}
	p.seal(unix.CLONE_NEWNS)
	p.serve()
	return p
}

// seal leaves the launcher without anything to look at, in namespaces of its own.
func (p *Plan) seal(namespaces int) {
	p.do("set undumpable", unix.SYS_PRCTL, num(unix.PR_SET_DUMPABLE), num(0))
	p.do("leave the host's namespaces", unix.SYS_UNSHARE, num(namespaces))
	p.do("make mounts private", unix.SYS_MOUNT, p.str("none"), p.str("/"), num(0), num(unix.MS_REC|unix.MS_PRIVATE), num(0))
	p.do("set the file mode mask", unix.SYS_UMASK, num(0o022))
	p.do("enter /", unix.SYS_CHDIR, p.str("/"))
}

func (p *Plan) serve() {
	p.step(stepReport, num(Ready))
	p.step(stepServe)
}

func (p *Plan) step(nr int, args ...arg) *op { return p.do("step", nr, args...) }

// tree is a detached mount that waits for its place.
type tree struct {
	fd     arg
	target string
	dir    bool
}

// newRoot opens what v shows, every source before anything is covered, and
// makes a root with v's folders, links and files, which is user's.
func (p *Plan) newRoot(v *View, user *User) (root arg, trees []tree) {
	for _, m := range v.mounts {
		trees = append(trees, p.openTree(m))
	}
	root = p.tmpfs("the root file system", rootSize, rootInodes, "0755", user)
	p.do("mount the root file system", unix.SYS_MOVE_MOUNT, root, p.str(""), here, p.str(rootAt), num(unix.MOVE_MOUNT_F_EMPTY_PATH))
	for _, dir := range rootDirs {
		p.do("mkdir /"+dir, unix.SYS_MKDIRAT, root, p.str(dir), num(0o755))
	}
	for _, l := range v.links {
		p.do("link /"+l[0], unix.SYS_SYMLINKAT, p.str(l[1]), root, p.str(l[0]))
	}
	for _, f := range etcFiles {
		what := "write /etc/" + f[0]
		fd := p.get(what, unix.SYS_OPENAT, root, p.str("etc/"+f[0]), num(unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC), num(0o644))
		if f[1] != "" {
			p.do(what, unix.SYS_WRITE, fd, p.bytes([]byte(f[1])), num(len(f[1])))
		}
		p.close(fd)
	}
	return root, trees
}

// rootAt is a folder that every machine has, and that the root covers until it
// is the only one.
const rootAt = "/usr"

// openTree returns a mount of m.Source that is attached nowhere, with the flags
// that m asks for.
func (p *Plan) openTree(m Mount) tree {
	what := fmt.Sprintf("open %q for %q", m.Source, m.Target)
	fd := p.get(what, unix.SYS_OPEN_TREE, here, p.str(m.Source), num(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE))
	attr := mountAttr(m)
	p.setattr(what, fd, unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, attr)
	return tree{fd: fd, target: m.Target, dir: m.Dir}
}

func (p *Plan) setattr(what string, fd arg, flags int, attr unix.MountAttr) {
	const size = 32 // MOUNT_ATTR_SIZE_VER0
	p.do(what, unix.SYS_MOUNT_SETATTR, fd, p.str(""), num(flags), p.words(attr.Attr_set, attr.Attr_clr, attr.Propagation, attr.Userns_fd), num(size))
}

func mountAttr(m Mount) unix.MountAttr {
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV, Propagation: unix.MS_PRIVATE}
	if m.Device {
		attr.Attr_set = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC
	}
	if !m.Write && !m.Device {
		attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	return attr
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
		attr := mountAttr(m)
		err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr)
	}
	if err != nil {
		unix.Close(fd)
		return -1, false, err
	}
	return fd, st.Mode&unix.S_IFMT == unix.S_IFDIR, nil
}

// tmpfs makes a detached tmpfs. inodes 0 is the kernel's default; user nil is
// who makes it.
func (p *Plan) tmpfs(what string, size int64, inodes int, mode string, user *User) arg {
	options := [][2]string{{"size", strconv.FormatInt(size, 10)}, {"mode", mode}}
	if inodes > 0 {
		options = append(options, [2]string{"nr_inodes", strconv.Itoa(inodes)})
	}
	if user != nil {
		options = append(options, [2]string{"uid", strconv.Itoa(user.UID)}, [2]string{"gid", strconv.Itoa(user.GID)})
	}
	return p.fileSystem(what, "tmpfs", options, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
}

func (p *Plan) fileSystem(what, kind string, options [][2]string, attr int) arg {
	fs := p.get(what, unix.SYS_FSOPEN, p.str(kind), num(unix.FSOPEN_CLOEXEC))
	for _, o := range options {
		p.do(what+": "+o[0]+"="+o[1], unix.SYS_FSCONFIG, fs, num(unix.FSCONFIG_SET_STRING), p.str(o[0]), p.str(o[1]), num(0))
	}
	p.do(what, unix.SYS_FSCONFIG, fs, num(unix.FSCONFIG_CMD_CREATE), num(0), num(0), num(0))
	fd := p.get(what, unix.SYS_FSMOUNT, fs, num(unix.FSMOUNT_CLOEXEC), num(attr))
	p.close(fs)
	return fd
}

// proc is the process folder of the new pid namespace, without the kernel-wide
// part (/proc/sys, kcore, keys, sysrq-trigger and the rest), unless it is to be
// whole: the kernel lets nobody without privilege mount more than what is seen.
func (p *Plan) proc(whole bool) tree {
	options := [][2]string{{"subset", "pid"}}
	if whole {
		options = nil
	}
	fd := p.fileSystem("a private /proc", "proc", options,
		unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	return tree{fd: fd, target: "/proc", dir: true}
}

// place makes the mount point of t below root, following no symlink, and moves
// t onto it.
func (p *Plan) place(root arg, t tree) {
	what := fmt.Sprintf("mount %q", t.target)
	at := p.mountPoint(root, t.target, t.dir, "/")
	p.do(what, unix.SYS_MOVE_MOUNT, t.fd, p.str(""), at, p.str(""), num(unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH))
	p.close(at)
	p.close(t.fd)
}

// mountPoint opens the folder or file target and makes what is missing of it,
// below the folder there, which ends in a slash.
func (p *Plan) mountPoint(root arg, target string, dir bool, there string) arg {
	what := fmt.Sprintf("mount point %q", target)
	at, opened := root, false
	rest := strings.TrimPrefix(target, "/")
	if there != "/" {
		at, opened = p.beneath(what, root, strings.Trim(there, "/")), true
		rest = strings.TrimPrefix(target, there)
	}
	parts := strings.Split(rest, "/")
	for i, part := range parts {
		name := p.str(part)
		if dir || i < len(parts)-1 {
			p.do(what, unix.SYS_MKDIRAT, at, name, num(0o755)).okay = anyErrno // it is there, or opening it says why not
		} else {
			p.do(what, unix.SYS_MKNODAT, at, name, num(unix.S_IFREG|0o644), num(0)).okay = anyErrno
		}
		next := p.beneath(what, at, part)
		if opened {
			p.close(at)
		}
		at, opened = next, true
	}
	return at
}

// beneath opens the path name of the folder at. No symlink is followed.
func (p *Plan) beneath(what string, at arg, name string) arg {
	how := p.words(unix.O_PATH|unix.O_CLOEXEC, 0, unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_BENEATH)
	return p.get(what, unix.SYS_OPENAT2, at, p.str(name), how, num(24))
}

// pivot makes the new root the only one and, if asked, read-only.
func (p *Plan) pivot(root arg, readOnly bool) {
	p.do("enter the new root", unix.SYS_FCHDIR, root)
	p.do("pivot_root", unix.SYS_PIVOT_ROOT, p.str("."), p.str("."))
	p.do("detach the old root", unix.SYS_UMOUNT2, p.str("."), num(unix.MNT_DETACH))
	p.do("chdir /", unix.SYS_CHDIR, p.str("/"))
	if readOnly {
		p.setattr("make the root read-only", root, unix.AT_EMPTY_PATH, unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	}
	p.close(root)
}

// cleanTargets returns the mounts in an order in which a folder comes before
// what is mounted below it. Dots in a target lead no further than the root.
func cleanTargets(mounts []Mount) ([]Mount, error) {
	out := slices.Clone(mounts)
	for i := range out {
		m := &out[i]
		clean := path.Clean(m.Target)
		if !path.IsAbs(clean) || clean == "/" {
			return nil, fmt.Errorf("nothing can be mounted at %q", m.Target)
		}
		m.Target = clean
	}
	slices.SortStableFunc(out, byTarget)
	return out, nil
}
