package inside

import "golang.org/x/sys/unix"

// Root is a folder that a sandbox has as its / in place of an empty one. The
// folder stays as it is: an overlay takes what the program writes.
type Root struct {
	Lower   Mount // the folder; Target is not used
	Scratch Mount // a writable folder with the folders upper and work; Target is not used
}

// Where the overlay's parts are while it is put together.
const (
	lowerAt   = "/lower"
	scratchAs = "/scratch"
	mergedAt  = "/merged"
)

// RootAt is where a Runtime finds its Root, with the mounts in it.
const RootAt = "/perrin/root"

// surround makes a root of v's view around the one at hand, which becomes a folder
// of it.
func (p *Plan) surround(inner arg, v *View, user *User) (root arg) {
	root, _ = p.newRoot(&View{links: v.links}, user)
	at := p.mountPoint(root, RootAt, true, "/")
	p.do("mount "+RootAt, unix.SYS_MOVE_MOUNT, inner, p.str(""), at, p.str(""), num(unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH))
	p.close(at)
	p.close(inner)
	return root
}

// overlay makes a root of cfg.Root, with v's links and a /dev of its own, and
// returns it and v's mounts. It is made by who may do everything to its parts:
// the folder in which an overlay prepares its files is closed to everyone else.
func (p *Plan) overlay(v *View, r *Root, given func(int) arg) (root arg, trees []tree) {
	parts := []tree{p.part(r.Lower, lowerAt, given), p.part(r.Scratch, scratchAs, given)} // what is given comes first
	for _, m := range v.mounts {
		trees = append(trees, p.openTree(m))
	}
	base := p.tmpfs("the parts of the root", rootSize, rootInodes, "0755", nil)
	p.do("mount the parts of the root", unix.SYS_MOVE_MOUNT, base, p.str(""), here, p.str(rootAt), num(unix.MOVE_MOUNT_F_EMPTY_PATH))
	for _, t := range parts {
		p.place(base, t)
	}
	const what = "the root's overlay"
	fs := p.get(what, unix.SYS_FSOPEN, p.str("overlay"), num(unix.FSOPEN_CLOEXEC))
	for _, o := range [][2]string{
		{"lowerdir", rootAt + lowerAt}, {"upperdir", rootAt + scratchAs + "/upper"}, {"workdir", rootAt + scratchAs + "/work"},
	} {
		p.do(what+": "+o[0], unix.SYS_FSCONFIG, fs, num(unix.FSCONFIG_SET_STRING), p.str(o[0]), p.str(o[1]), num(0))
	}
	for _, flag := range []string{"userxattr", "volatile"} { // marks that need no privilege; nothing outlives a crash
		p.do(what+": "+flag, unix.SYS_FSCONFIG, fs, num(unix.FSCONFIG_SET_FLAG), p.str(flag), num(0), num(0))
	}
	p.do(what, unix.SYS_FSCONFIG, fs, num(unix.FSCONFIG_CMD_CREATE), num(0), num(0), num(0))
	root = p.get(what, unix.SYS_FSMOUNT, fs, num(unix.FSMOUNT_CLOEXEC), num(unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV))
	p.close(fs)
	at := p.mountPoint(base, mergedAt, true, "/")
	p.do(what, unix.SYS_MOVE_MOUNT, root, p.str(""), at, p.str(""), num(unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH))
	p.close(at)
	p.close(base)
	return root, trees
}

func (p *Plan) part(m Mount, target string, given func(int) arg) tree {
	if m.FD != 0 {
		return tree{fd: given(m.FD), target: target, dir: true}
	}
	t := p.openTree(m)
	t.target, t.dir = target, true
	return t
}

// devSize bounds /dev, which holds a few links and places for devices.
const devSize = 64 << 10

// furnish mounts a /dev onto an overlay, with v's links, and makes the working
// directory where the image has none.
func (p *Plan) furnish(root arg, v *View, dir string, user *User) {
	dev := p.tmpfs("/dev", devSize, 0, "0755", user)
	p.place(root, tree{fd: dev, target: "/dev", dir: true})
	for _, l := range v.links {
		p.do("link /"+l[0], unix.SYS_SYMLINKAT, p.str(l[1]), root, p.str(l[0]))
	}
	p.workFolder(root, dir)
}

// workFolder makes the working directory where an image has none.
func (p *Plan) workFolder(root arg, dir string) {
	if dir != "/" {
		p.close(p.mountPoint(root, dir, true, "/"))
	}
}

// execute appends the calls that become the program: one, or where it is to be
// searched for one for each folder, the last of which tells what was wrong.
func (p *Plan) execute(path string, search []string, args, env arg) {
	at := []string{path}
	if len(search) > 0 {
		at = at[:0]
		for _, dir := range search {
			at = append(at, dir+"/"+path)
		}
	}
	var places []arg
	for _, name := range at {
		places = append(places, p.str(name))
	}
	p.exec = len(p.ops)
	for i, place := range places {
		o := p.do(path, unix.SYS_EXECVE, place, args, env)
		if i < len(places)-1 {
			o.okay = anyErrno
		}
	}
	p.execEnd = len(p.ops)
}
