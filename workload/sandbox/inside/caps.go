package inside

import "golang.org/x/sys/unix"

// Securebits that make user 0 an ordinary user for good (linux/securebits.h):
// no root, no set-user-ID fix-up, no kept capabilities, no ambient ones, all
// locked.
const securebits = 1<<0 | 1<<1 | 1<<2 | 1<<3 | 1<<5 | 1<<6 | 1<<7

// lastCap is above every capability of today's kernels (CAP_CHECKPOINT_RESTORE, 40).
const lastCap = 47

// dropPrivileges leaves the process without any capability, without a way to
// get one back and without what execve could add.
func (p *Plan) dropPrivileges() {
	p.do("clear ambient capabilities", unix.SYS_PRCTL, num(unix.PR_CAP_AMBIENT), num(unix.PR_CAP_AMBIENT_CLEAR_ALL), num(0), num(0), num(0))
	p.do("set securebits", unix.SYS_PRCTL, num(unix.PR_SET_SECUREBITS), num(securebits), num(0), num(0), num(0))
	for c := range lastCap + 1 {
		p.do("drop a capability from the bounding set", unix.SYS_PRCTL, num(unix.PR_CAPBSET_DROP), num(c), num(0), num(0), num(0)).
			okay = uint64(unix.EINVAL) // beyond the last capability of this kernel
	}
	p.dropCapabilities()
}

func (p *Plan) dropCapabilities() {
	header := p.words(unix.LINUX_CAPABILITY_VERSION_3) // and pid 0 in the upper half: this process
	p.do("drop capabilities", unix.SYS_CAPSET, header, p.words(0, 0, 0))
	p.do("set no_new_privs", unix.SYS_PRCTL, num(unix.PR_SET_NO_NEW_PRIVS), num(1), num(0), num(0), num(0))
}
