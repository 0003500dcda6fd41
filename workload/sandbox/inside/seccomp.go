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
	actEPROTO = unix.SECCOMP_RET_ERRNO | uint32(unix.EPROTONOSUPPORT)
	// Nothing is done, and the caller is told that it was.
	actNothing = unix.SECCOMP_RET_ERRNO
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

// freedom is what a filter leaves to a program that other walls hold.
type freedom struct {
	affinity bool // it may choose among its CPUs: a cpuset holds them
	memory   bool // it may have memory that it does not map: a cgroup counts it
}

// seccompFilter is the allow-list of every program. Whatever it does not name
// does not exist (ENOSYS); what programs are known to try and what would widen
// the kernel's surface is forbidden (EPERM).
//
// The kernel runs the filter once for every number there is when it is set, to
// remember what is always allowed, and translates it to machine code: both cost
// a start less when the verdict is searched for than when it is come upon.
func seccompFilter(f freedom) ([]unix.SockFilter, error) {
	filterMu.Lock()
	defer filterMu.Unlock()
	if made, ok := filters[f]; ok {
		return made, nil
	}
	made, err := makeFilter(f)
	if err == nil {
		filters[f] = made
	}
	return made, err
}

var (
	filterMu sync.Mutex
	filters  = map[freedom][]unix.SockFilter{}
)

func makeFilter(f freedom) ([]unix.SockFilter, error) {
	var p program
	p.load(offArch)
	p.add(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, 1, 0, auditArch)
	p.ret(actENOSYS) // another instruction set's table, as 32-bit calls on a 64-bit kernel
	p.load(offNumber)
	if foreignBit != 0 {
		p.ifAny(foreignBit, actENOSYS)
	}
	tree, err := search(verdicts(f))
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
func verdicts(f freedom) []span {
	result := func(action uint32) (p program) { p.ret(action); return p }
	bodies := argumentRules()
	for _, nr := range forbiddenCalls {
		bodies[nr] = result(actEPERM)
	}
	for _, nr := range slices.Concat(allowedCalls, archCalls) {
		bodies[nr] = result(actAllow)
	}
	if f.affinity {
		bodies[unix.SYS_SCHED_SETAFFINITY] = result(actAllow)
	}
	if f.memory {
		bodies[unix.SYS_MEMFD_CREATE], bodies[unix.SYS_SHMGET] = result(actAllow), result(actAllow)
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
	var clone, socket, pair, ioctl, personality, prlimit, setrlimit, fcntl program

	clone.load(offArgs)
	clone.ifAny(namespaceFlags, actEPERM)
	clone.ret(actAllow)

	// AF_VSOCK, AF_NETLINK, AF_PACKET, AF_ALG and the rest reach the kernel or,
	// for vsock, the hypervisor whatever the network namespace.
	pair.load(offArgs)
	for _, family := range []uint32{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6} {
		pair.ifEqual(family, actAllow)
	}
	pair.ret(actEAF)

	// Any other protocol would have the kernel load a module for it.
	protocols := []uint32{0, unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6}
	socket.load(offArgs + 16)
	for i, protocol := range protocols {
		socket.add(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, uint8(len(protocols)-i), 0, protocol)
	}
	socket.ret(actEPROTO)
	socket = append(socket, pair...)

	ioctl.load(offArgs + 8)
	ioctl.ifEqual(unix.TIOCSTI, actEPERM) // types into a terminal
	ioctl.ifEqual(unix.TIOCLINUX, actEPERM)
	ioctl.ret(actAllow)

	personality.load(offArgs)
	for _, persona := range []uint32{0, 0x0008, 0x20000, 0x20008, 0xffffffff} {
		personality.ifEqual(persona, actAllow)
	}
	personality.ret(actEPERM)

	// A limit of 0 would have the kernel give a crash to the machine's helper,
	// as root (setLimits): a program that sets it is told that it did.
	setrlimit.load(offArgs)
	setrlimit.ifEqual(unix.RLIMIT_CORE, actNothing)
	setrlimit.ret(actAllow)

	prlimit.load(offArgs) // only its own limits, not the init's
	prlimit.add(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, 1, 0, 0)
	prlimit.ret(actEPERM)
	prlimit.load(offArgs + 8)
	prlimit.add(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, 1, 0, unix.RLIMIT_CORE)
	prlimit.ret(actAllow)
	for _, half := range []uint32{0, 4} { // of the address of a new limit, nil to ask for the old one
		prlimit.load(offArgs + 16 + half)
		prlimit.add(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, 1, 0, 0)
		prlimit.ret(actNothing)
	}
	prlimit.ret(actAllow)

	// Watches, and leases that keep the owner of a file waiting, work on files
	// that tenants share.
	fcntl.load(offArgs + 8)
	fcntl.ifEqual(unix.F_NOTIFY, actEPERM)
	fcntl.ifEqual(unix.F_SETLEASE, actEPERM)
	fcntl.ret(actAllow)

	return map[uint32]program{
		unix.SYS_CLONE: clone, unix.SYS_SOCKET: socket, unix.SYS_SOCKETPAIR: pair, unix.SYS_FCNTL: fcntl,
		unix.SYS_IOCTL: ioctl, unix.SYS_PERSONALITY: personality, unix.SYS_PRLIMIT64: prlimit, unix.SYS_SETRLIMIT: setrlimit,
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
