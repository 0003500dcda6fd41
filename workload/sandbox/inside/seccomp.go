package inside

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"sync"

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

// namespaceFlags are the clone flags that would make new namespaces.
const namespaceFlags = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// maxFilter is the kernel's bound on instructions (BPF_MAXINSNS).
const maxFilter = 4096

// seccompFilter is the allow-list of every program. Whatever it does not name
// does not exist (ENOSYS); what programs are known to try and what would widen
// the kernel's surface is forbidden (EPERM). affinity tells whether the
// program may choose among its CPUs, which is safe where a cpuset holds them.
//
// The kernel runs the filter once for every number there is when it is set, to
// remember what is always allowed, and translates it to machine code: both cost
// a start less when the verdict is searched for than when it is come upon.
func seccompFilter(affinity bool) ([]unix.SockFilter, error) {
	if affinity {
		return freeFilter()
	}
	return pinnedFilter()
}

var (
	pinnedFilter = sync.OnceValues(func() ([]unix.SockFilter, error) { return makeFilter(false) })
	freeFilter   = sync.OnceValues(func() ([]unix.SockFilter, error) { return makeFilter(true) })
)

func makeFilter(affinity bool) ([]unix.SockFilter, error) {
	var p program
	p.load(offArch)
	p.add(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, 1, 0, auditArch)
	p.ret(actENOSYS) // another instruction set's table, as 32-bit calls on a 64-bit kernel
	p.load(offNumber)
	if foreignBit != 0 {
		p.ifAny(foreignBit, actENOSYS)
	}
	tree, err := search(verdicts(affinity))
	if err != nil {
		return nil, err
	}
	if p = append(p, tree...); len(p) > maxFilter {
		return nil, fmt.Errorf("seccomp filter of %d instructions", len(p))
	}
	return p, nil
}

// span is what holds for the calls from a number on, up to the next span.
type span struct {
	from uint32
	body program // ends in a result
}

// verdicts returns the spans in order. The first is from 0, and no two
// neighbours are the same.
func verdicts(affinity bool) []span {
	result := func(action uint32) (p program) { p.ret(action); return p }
	bodies := argumentRules()
	for _, nr := range forbiddenCalls {
		bodies[nr] = result(actEPERM)
	}
	for _, nr := range slices.Concat(allowedCalls, archCalls) {
		bodies[nr] = result(actAllow)
	}
	if affinity {
		bodies[unix.SYS_SCHED_SETAFFINITY] = result(actAllow)
	}
	unknown := result(actENOSYS)
	out := []span{{0, unknown}}
	last := slices.Max(slices.Collect(maps.Keys(bodies)))
	for nr := uint32(0); nr <= last+1; nr++ {
		body, ok := bodies[nr]
		if !ok {
			body = unknown
		}
		if prev := &out[len(out)-1]; !slices.Equal(prev.body, body) {
			out = append(out, span{nr, body})
		}
	}
	return out
}

// search returns the program that finds the span of the loaded number by halves.
func search(spans []span) (program, error) {
	if len(spans) == 1 {
		return spans[0].body, nil
	}
	mid := len(spans) / 2
	low, err := search(spans[:mid])
	if err != nil {
		return nil, err
	}
	high, err := search(spans[mid:])
	if err != nil {
		return nil, err
	}
	if len(low) > 255 { // what a jump can pass over
		return nil, fmt.Errorf("seccomp filter with a branch of %d instructions", len(low))
	}
	var p program
	p.add(unix.BPF_JMP|unix.BPF_JGE|unix.BPF_K, uint8(len(low)), 0, spans[mid].from)
	return slices.Concat(p, low, high), nil
}

// argumentRules decides the calls whose first arguments matter.
func argumentRules() map[uint32]program {
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

	return map[uint32]program{
		unix.SYS_CLONE: clone, unix.SYS_SOCKET: socket, unix.SYS_SOCKETPAIR: socket,
		unix.SYS_IOCTL: ioctl, unix.SYS_PERSONALITY: personality, unix.SYS_PRLIMIT64: prlimit,
	}
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
