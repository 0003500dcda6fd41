package inside

import (
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	schedIdle = 5    // linux/sched.h
	bindNodes = 2    // MPOL_BIND of linux/mempolicy.h
	maxNodes  = 1024 // the most that any kernel is built for (CONFIG_NODES_SHIFT)
)

// schedule sets how the program is scheduled and where its memory comes from. It
// cannot undo it: leaving SCHED_IDLE needs RLIMIT_NICE, which is 0, and the filter
// forbids the calls.
func (p *Plan) schedule(l *Limits) {
	p.bindMemory(l.Nodes)
	if l.Idle {
		p.do("schedule at the lowest priority", unix.SYS_SCHED_SETSCHEDULER, num(0), num(schedIdle), p.words(0))
		p.lowerSession()
	}
	if l.Apart {
		p.do("keep sibling threads apart", unix.SYS_PRCTL, num(unix.PR_SCHED_CORE), num(unix.PR_SCHED_CORE_CREATE), num(0),
			num(unix.PR_SCHED_CORE_SCOPE_THREAD), num(0))
	}
}

// lowerSession gives the program's session the least weight among sessions, which
// the kernel schedules as groups where no cgroup does (sched(7), autogroup). Where
// that is off, not allowed, or asked for more than ten times a second on this
// machine, only the policy holds.
func (p *Plan) lowerSession() {
	const least = "19"
	// Its files in /proc are root's unless it may be dumped; nothing of the
	// program is in its memory yet.
	p.do("set dumpable", unix.SYS_PRCTL, num(unix.PR_SET_DUMPABLE), num(1))
	fd := p.slot()
	open := p.do("open autogroup", unix.SYS_OPENAT, here, p.str("/proc/self/autogroup"), num(unix.O_WRONLY|unix.O_CLOEXEC), num(0))
	open.save, open.okay, open.skip = fd.value+1, anyErrno, 2
	p.do("lower the session", unix.SYS_WRITE, fd, p.str(least), num(len(least))).okay = anyErrno
	p.close(fd)
	p.do("set undumpable", unix.SYS_PRCTL, num(unix.PR_SET_DUMPABLE), num(0))
}

// bindMemory has all memory of the program come from nodes; a kernel without NUMA
// has only one.
func (p *Plan) bindMemory(nodes []int) {
	var mask [maxNodes / 64]uint64
	for _, n := range nodes {
		if n >= 0 && n < maxNodes {
			mask[n/64] |= 1 << (n % 64)
		}
	}
	if len(nodes) > 0 {
		p.do(fmt.Sprintf("take memory from NUMA nodes %v", nodes), unix.SYS_SET_MEMPOLICY, num(bindNodes), p.words(mask[:]...),
			num(maxNodes+1)).okay = uint64(unix.ENOSYS)
	}
}
