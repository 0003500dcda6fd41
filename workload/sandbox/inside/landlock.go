package inside

import (
	"sync"

	"golang.org/x/sys/unix"
)

// Landlock rights by ABI version (kernel documentation, userspace-api/landlock).
const (
	landlockRead  = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	landlockWrite = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_SYM
	landlockNever = unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK
	landlockDev   = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE
	landlockGiven = landlockDev | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV // of a device that the node gives: KVM is all ioctl
)

var landlockVersion = sync.OnceValue(landlockABI)

// landlockABI returns the version the kernel speaks, 0 for none.
func landlockABI() int {
	v, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(v)
}

// landlockAttr is what the given ABI can handle, and what writers may do.
func landlockAttr(abi int) (attr unix.LandlockRulesetAttr, write uint64) {
	write = landlockRead | landlockWrite
	attr.Handled_access_fs = landlockRead | landlockWrite | landlockNever
	if abi >= 2 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_REFER
		write |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if abi >= 3 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
		write |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if abi >= 4 {
		attr.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	}
	if abi >= 5 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	if abi >= 6 {
		attr.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
	}
	return attr, write
}

// landlockRuleset makes the rules of every sandbox: read and execute anywhere
// in the view, write only where writing is meant, which with a Root is the whole
// view, no TCP. It reports false where the kernel has no Landlock: the view itself
// is the wall, this is the second.
func (p *Plan) landlockRuleset(root bool, mounts []Mount) (arg, bool) {
	abi := landlockVersion()
	if abi == 0 {
		return arg{}, false
	}
	attr, write := landlockAttr(abi)
	size := 24 // an older kernel refuses fields that it does not know
	if abi < 4 {
		size = 8
	} else if abi < 6 {
		size = 16
	}
	all := uint64(landlockRead)
	if root {
		all = write
	}
	rules := p.get("landlock ruleset", unix.SYS_LANDLOCK_CREATE_RULESET,
		p.words(attr.Handled_access_fs, attr.Handled_access_net, attr.Scoped), num(size), num(0))
	allowed := []struct {
		path   string
		access uint64
	}{{"/", all}, {"/work", write}, {"/out", write}, {"/tmp", write}, {"/dev", landlockDev}}
	for _, m := range mounts {
		if m.Device {
			allowed = append(allowed, struct {
				path   string
				access uint64
			}{m.Target, landlockGiven})
		}
	}
	for _, r := range allowed {
		what := "landlock rule for " + r.path
		fd := p.get(what, unix.SYS_OPENAT, here, p.str(r.path), num(unix.O_PATH|unix.O_CLOEXEC), num(0))
		rule := p.words(r.access&attr.Handled_access_fs, 0) // struct landlock_path_beneath_attr
		p.step(stepPut32, num(rule.value/8+1), fd)
		p.do(what, unix.SYS_LANDLOCK_ADD_RULE, rules, num(unix.LANDLOCK_RULE_PATH_BENEATH), rule, num(0))
		p.close(fd)
	}
	return rules, true
}
