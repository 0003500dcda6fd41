package inside

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The machine makes the calls of a Plan in a process that was forked from one
// that runs Go, without anything of Go's runtime: no allocation, no goroutine,
// no growing stack, no write barrier. So no function below is split, and all of
// its memory is here.

// memoryWords bounds a plan with its slots, in words of 8 bytes. What is not
// touched costs nothing.
const memoryWords = 1 << 20

// memory holds header, slots, ops, data and fixups of the current plan, one
// after another, and the machine's scratch at its end.
var memory [memoryWords]uint64

// Scratch, in words from scratchAt on.
const (
	scratchWords = 256
	scratchAt    = memoryWords - scratchWords

	atStatus  = scratchAt      // statusWords
	atPoll    = scratchAt + 8  // two struct pollfd
	atWait    = scratchAt + 16 // an int, of wait4
	atUsage   = scratchAt + 24 // struct rusage, 18 words
	atMsg     = scratchAt + 48 // struct msghdr, 7 words, then struct iovec, 2 words
	atAction  = scratchAt + 64 // struct sigaction, 4 words
	atBytes   = scratchAt + 72 // 16 words that nobody looks at
	atControl = scratchAt + 95 // the descriptor that plans come from
	atRights  = scratchAt + 96 // struct cmsghdr, 2 words, and descriptors
)

//go:nosplit
//go:norace
func address(word uint64) uintptr {
	return uintptr(unsafe.Pointer(&memory[0])) + uintptr(word)*8
}

//go:nosplit
//go:norace
func call(nr, a, b, c, d, e, f uintptr) (uintptr, uintptr) {
	r, _, errno := syscall.RawSyscall6(nr, a, b, c, d, e, f)
	return r, uintptr(errno)
}

//go:nosplit
//go:norace
func die(code uintptr) {
	for {
		call(unix.SYS_EXIT_GROUP, code, 0, 0, 0, 0, 0)
	}
}

// machine runs plans that come in on the socket control, or on what a step puts
// in its place, until one of them ends the process.
//
//go:nosplit
//go:norace
func machine(control uintptr) {
	memory[atControl] = uint64(control)
	for {
		if !load() {
			die(2)
		}
		for pc := run(0); pc < memory[2]; {
			fork(pc)
			pc = run(memory[headerWords+memory[1]+pc*opWords+5])
		}
	}
}

//go:nosplit
//go:norace
func control() uintptr { return uintptr(memory[atControl]) }

// readAll fills n bytes at to and reports whether that many came.
//
//go:nosplit
//go:norace
func readAll(fd, to, n uintptr) bool {
	for n > 0 {
		r, errno := call(unix.SYS_READ, fd, to, n, 0, 0, 0)
		if errno == uintptr(unix.EINTR) {
			continue
		}
		if errno != 0 || r == 0 {
			return false
		}
		to, n = to+r, n-r
	}
	return true
}

// load receives one plan. Only the daemon can send one, and it checked the
// sizes; a plan that does not fit ends the process all the same.
//
//go:nosplit
//go:norace
func load() bool {
	if !readAll(control(), address(0), headerWords*8) {
		return false
	}
	fds, slots, ops, data, fixups := memory[0], memory[1], memory[2], memory[3], memory[4]
	const most = scratchAt
	if slots > most || ops > most/opWords || data > most || fixups > most || fds > slots ||
		headerWords+slots+ops*opWords+data+fixups > most {
		return false
	}
	for i := uint64(0); i < fds; {
		n := receiveRights(1)
		if n == 0 || i+n > fds {
			return false
		}
		for j := uint64(0); j < n; j++ {
			memory[headerWords+i] = right(j)
			i++
		}
	}
	body := headerWords + slots
	if !readAll(control(), address(body), uintptr(ops*opWords+data+fixups)*8) {
		return false
	}
	dataAt := body + ops*opWords
	for i := uint64(0); i < fixups; i++ {
		w := memory[dataAt+data+i]
		if w >= data {
			return false
		}
		memory[dataAt+w] += uint64(address(dataAt))
	}
	return true
}

// receiveRights receives a message of at most size bytes and returns how many
// descriptors came along. They are closed by execve.
//
//go:nosplit
//go:norace
func receiveRights(size uintptr) uint64 {
	memory[atMsg+7], memory[atMsg+8] = uint64(address(atBytes)), uint64(size)
	memory[atMsg], memory[atMsg+1] = 0, 0
	memory[atMsg+2], memory[atMsg+3] = uint64(address(atMsg+7)), 1
	memory[atMsg+4], memory[atMsg+5] = uint64(address(atRights)), (scratchAt+scratchWords-atRights)*8
	memory[atMsg+6] = 0
	memory[atRights] = 0
	for {
		n, errno := call(unix.SYS_RECVMSG, control(), address(atMsg), unix.MSG_CMSG_CLOEXEC, 0, 0, 0)
		if errno == uintptr(unix.EINTR) {
			continue
		}
		if errno != 0 || n == 0 || memory[atMsg+5] < 16 || memory[atRights] < 16 {
			return 0
		}
		return (memory[atRights] - 16) / 4
	}
}

// right returns descriptor j of what receiveRights received.
//
//go:nosplit
//go:norace
func right(j uint64) uint64 { return memory[atRights+2+j/2] >> (32 * (j % 2)) & 0xffffffff }

// run makes the calls of the loaded plan from pc on, up to its end or a fork,
// and returns where that is.
//
//go:nosplit
//go:norace
func run(pc uint64) uint64 {
	ops := memory[2]
	opsAt := headerWords + memory[1]
	dataAt := opsAt + ops*opWords
	for pc < ops {
		o := opsAt + pc*opWords
		for i := uint64(0); i < 6; i++ { // the arguments, in place: no plan is run twice
			switch memory[o+1] >> (4 * i) & 15 {
			case kindData:
				memory[o+5+i] += uint64(address(dataAt))
			case kindSlot:
				memory[o+5+i] = memory[headerWords+memory[o+5+i]]
			}
		}
		if memory[o] == stepFork {
			break
		}
		if memory[o] > stepFork {
			pc = step(pc, o, dataAt)
			continue
		}
		r, errno := call(uintptr(memory[o]), uintptr(memory[o+5]), uintptr(memory[o+6]), uintptr(memory[o+7]),
			uintptr(memory[o+8]), uintptr(memory[o+9]), uintptr(memory[o+10]))
		if errno != 0 {
			if memory[o+3] != anyErrno && memory[o+3] != uint64(errno) {
				report(Failed, pc, uint64(errno))
				die(1)
			}
			pc += 1 + memory[o+4]
			continue
		}
		if memory[o+2] > 0 {
			memory[headerWords+memory[o+2]-1] = uint64(r)
		}
		pc++
	}
	return pc
}

// step does what is no call, and returns the next op.
//
//go:nosplit
//go:norace
func step(pc, o, dataAt uint64) uint64 {
	switch memory[o] {
	case stepPut32:
		memory[dataAt+memory[o+5]] = memory[dataAt+memory[o+5]]&^0xffffffff | memory[o+6]&0xffffffff
	case stepDefaults:
		for sig := uintptr(1); sig <= 64; sig++ { // SIGKILL and SIGSTOP cannot be set
			call(unix.SYS_RT_SIGACTION, sig, address(atAction), 0, 8, 0, 0)
		}
	case stepReport:
		report(memory[o+5], 0, 0)
	case stepServe:
		serve()
		return memory[2] // a new sandbox leaves the launcher's plan
	case stepWatch:
		watch(uintptr(memory[o+5]))
	default:
		die(2)
	}
	return pc + 1
}

// rawVfork is clone(2) with the flags for a child that shares this process's
// memory, stack included.
func rawVfork(flags uintptr) (pid uintptr)

// fork makes the child that goes on after op pc. It returns when the child has
// executed a program or is gone: until then the child has the memory to itself,
// and it leaves no trace on the stack above this frame, for it never returns.
//
//go:nosplit
//go:norace
//go:noinline
func fork(pc uint64) {
	pid := rawVfork(unix.CLONE_VM | unix.CLONE_VFORK | uintptr(unix.SIGCHLD))
	if pid == 0 {
		run(pc + 1)
		die(2)
	}
	forked(pc, uint64(pid))
}

// forked keeps the pid in the slot of op pc.
//
//go:nosplit
//go:norace
func forked(pc, pid uint64) {
	if pid > 1<<31 { // a negative errno
		report(Failed, pc, -pid)
		die(1)
	}
	memory[headerWords+memory[headerWords+memory[1]+pc*opWords+2]-1] = pid
}

// report sends a Status. CPUUs and MaxRSS are what is in atStatus.
//
//go:nosplit
//go:norace
func report(kind, op, value uint64) {
	memory[atStatus], memory[atStatus+1], memory[atStatus+2] = kind, op, value
	call(unix.SYS_SENDTO, control(), address(atStatus), statusWords*8, unix.MSG_NOSIGNAL, 0, 0)
}

// Terminate is what the daemon sends to pid 1 to have it ask the program to end.
const Terminate = 't'

// watch is the life of pid 1 once the program runs: it reaps, passes on
// Terminate, and reports how child ended. It ends with the daemon.
//
//go:nosplit
//go:norace
func watch(child uintptr) {
	signals := signalfd()
	for {
		reap(child)
		memory[atPoll] = memory[atControl] | unix.POLLIN<<32
		memory[atPoll+1] = uint64(signals) | unix.POLLIN<<32
		call(unix.SYS_PPOLL, address(atPoll), 2, 0, 0, 8, 0)
		if memory[atPoll+1]>>48 != 0 {
			call(unix.SYS_READ, signals, address(atBytes), 128, 0, 0, 0)
		}
		if memory[atPoll]>>48 == 0 {
			continue
		}
		n, errno := call(unix.SYS_READ, control(), address(atBytes), 1, 0, 0, 0)
		if errno == uintptr(unix.EINTR) {
			continue
		}
		if errno != 0 || n == 0 {
			die(1)
		}
		if memory[atBytes]&0xff == Terminate {
			call(unix.SYS_KILL, child, uintptr(unix.SIGTERM), 0, 0, 0, 0)
		}
	}
}

// signalfd returns a descriptor that can be read when a child has ended. Every
// signal is blocked (Launch).
//
//go:nosplit
//go:norace
func signalfd() uintptr {
	memory[atBytes] = 1 << (uint64(unix.SIGCHLD) - 1)
	fd, errno := call(unix.SYS_SIGNALFD4, ^uintptr(0), address(atBytes), 8, unix.SFD_CLOEXEC, 0, 0)
	if errno != 0 {
		die(2)
	}
	return fd
}

// reap takes every child that has ended. When child has, it says so and ends
// this process, and with it the pid namespace.
//
//go:nosplit
//go:norace
func reap(child uintptr) {
	for {
		pid, errno := call(unix.SYS_WAIT4, ^uintptr(0), address(atWait), unix.WNOHANG, address(atUsage), 0, 0)
		if errno != 0 || pid == 0 {
			return
		}
		if pid != child {
			continue
		}
		us := memory[atUsage]*1e6 + memory[atUsage+1] + memory[atUsage+2]*1e6 + memory[atUsage+3]
		memory[atStatus+3], memory[atStatus+4] = us, memory[atUsage+4]*1024
		report(Ended, 0, memory[atWait]&0xffffffff)
		die(0)
	}
}
