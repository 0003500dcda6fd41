package inside

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data (linux/seccomp.h), little-endian.
const (
	offNumber = 0
	offArch   = 4
	offArgs   = 16
)

// Results of a filter.
const (
	actAllow = unix.SECCOMP_RET_ALLOW
	actEPERM = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	// ENOSYS makes C libraries fall back to the older call, as for clone3.
	actENOSYS = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	actEAF    = unix.SECCOMP_RET_ERRNO | uint32(unix.EAFNOSUPPORT)
)

// program is a classic BPF program under construction.
type program []unix.SockFilter

func (p *program) add(code uint16, jt, jf uint8, k uint32) {
	*p = append(*p, unix.SockFilter{Code: code, Jt: jt, Jf: jf, K: k})
}

func (p *program) load(offset uint32) { p.add(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, 0, 0, offset) }
func (p *program) ret(action uint32)  { p.add(unix.BPF_RET|unix.BPF_K, 0, 0, action) }

// ifEqual returns action when the loaded word is k.
func (p *program) ifEqual(k, action uint32) {
	p.add(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, 0, 1, k)
	p.ret(action)
}

// ifAny returns action when the loaded word has a bit of mask.
func (p *program) ifAny(mask, action uint32) {
	p.add(unix.BPF_JMP|unix.BPF_JSET|unix.BPF_K, 0, 1, mask)
	p.ret(action)
}

// onCall runs body, which must end in a result, when the call is nr. The
// number must be loaded; body may load anything.
func (p *program) onCall(nr uint32, body program) {
	p.add(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, 0, uint8(len(body)), nr)
	*p = append(*p, body...)
}

// namespaceFlags are the clone flags that would make new namespaces.
const namespaceFlags = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// maxFilter is the kernel's bound on instructions (BPF_MAXINSNS).
const maxFilter = 4096

// seccompFilter is the allow-list of every program. Whatever it does not name
// does not exist (ENOSYS); what programs are known to try and what would widen
// the kernel's surface is forbidden (EPERM). affinity tells whether the
// program may choose among its CPUs, which is safe where a cpuset holds them.
func seccompFilter(affinity bool) ([]unix.SockFilter, error) {
	var p program
	p.load(offArch)
	p.add(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, 1, 0, auditArch)
	p.ret(actENOSYS) // another instruction set's table, as 32-bit calls on a 64-bit kernel
	p.load(offNumber)
	if foreignBit != 0 {
		p.ifAny(foreignBit, actENOSYS)
	}
	p.argumentRules()
	if affinity {
		p.ifEqual(unix.SYS_SCHED_SETAFFINITY, actAllow)
	}
	for _, nr := range allowedCalls {
		p.ifEqual(nr, actAllow)
	}
	for _, nr := range archCalls {
		p.ifEqual(nr, actAllow)
	}
	for _, nr := range forbiddenCalls {
		p.ifEqual(nr, actEPERM)
	}
	p.ret(actENOSYS)
	if len(p) > maxFilter {
		return nil, fmt.Errorf("seccomp filter of %d instructions", len(p))
	}
	return p, nil
}

// argumentRules decides the calls whose first arguments matter.
func (p *program) argumentRules() {
	var clone, socket, ioctl, personality, prlimit program

	clone.load(offArgs)
	clone.ifAny(namespaceFlags, actEPERM)
	clone.ret(actAllow)

	// AF_VSOCK, AF_NETLINK, AF_PACKET, AF_ALG and the rest reach the kernel or,
	// for vsock, the hypervisor whatever the network namespace.
	socket.load(offArgs)
	for _, family := range []uint32{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6} {
		socket.ifEqual(family, actAllow)
	}
	socket.ret(actEAF)

	ioctl.load(offArgs + 8)
	ioctl.ifEqual(unix.TIOCSTI, actEPERM) // types into a terminal
	ioctl.ifEqual(unix.TIOCLINUX, actEPERM)
	ioctl.ret(actAllow)

	personality.load(offArgs)
	for _, persona := range []uint32{0, 0x0008, 0x20000, 0x20008, 0xffffffff} {
		personality.ifEqual(persona, actAllow)
	}
	personality.ret(actEPERM)

	prlimit.load(offArgs) // only its own limits, not the init's
	prlimit.ifEqual(0, actAllow)
	prlimit.ret(actEPERM)

	p.onCall(unix.SYS_CLONE, clone)
	p.onCall(unix.SYS_SOCKET, socket)
	p.onCall(unix.SYS_SOCKETPAIR, socket)
	p.onCall(unix.SYS_IOCTL, ioctl)
	p.onCall(unix.SYS_PERSONALITY, personality)
	p.onCall(unix.SYS_PRLIMIT64, prlimit)
}

// seccompEnforce confines the process; no_new_privs must be set.
func (p *Plan) seccompEnforce(filter []unix.SockFilter) {
	insns := make([]uint64, len(filter))
	for i, f := range filter { // struct sock_filter
		var b [8]byte
		binary.NativeEndian.PutUint16(b[:], f.Code)
		b[2], b[3] = f.Jt, f.Jf
		binary.NativeEndian.PutUint32(b[4:], f.K)
		insns[i] = binary.NativeEndian.Uint64(b[:])
	}
	prog := p.words(uint64(len(filter)), p.words(insns...).value) // struct sock_fprog
	p.pointer(prog, 1)
	p.do("seccomp", unix.SYS_SECCOMP, num(unix.SECCOMP_SET_MODE_FILTER), num(0), prog)
}
