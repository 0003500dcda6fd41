package inside

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// ControlFD is where the launcher finds the socket to the daemon.
const ControlFD = 3

// Launch is the life of the launcher's first process, which only makes the
// second: a machine, as a sibling of this process, and so a child of the
// daemon. It returns the exit code of the shim.
func Launch() int {
	if _, err := unix.FcntlInt(ControlFD, unix.F_GETFD, 0); err != nil {
		fmt.Fprintln(os.Stderr, "the sandbox role is started by a Perrin node, not by hand")
		return 2
	}
	runtime.LockOSThread()
	pid := split()
	if pid <= 0 {
		return 1
	}
	memory[atControl] = ControlFD
	report(Made, 0, uint64(pid))
	return 0
}

// split forks the machine. All signals stay blocked in it, and in what it forks
// until a program is executed.
//
//go:nosplit
//go:norace
func split() int {
	memory[atBytes] = ^uint64(0)
	call(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, address(atBytes), 0, 8, 0, 0)
	pid, errno := call(unix.SYS_CLONE, unix.CLONE_PARENT|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 {
		return -1
	}
	if pid == 0 {
		machine(ControlFD)
	}
	return int(pid)
}

// namespaces of every sandbox. The others it enters by its plan: the user
// namespace last, so that the program has no say over the ones it is in, the
// network namespace, and the cgroup namespace once it is in its cgroups.
const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS

// serve makes sandboxes: for each descriptor that comes, a sibling of this
// process that is pid 1 of new namespaces and waits for a plan on it. The
// answer is its pid. It returns in the new process.
//
//go:nosplit
//go:norace
func serve() {
	for {
		if receiveRights(1) != 1 {
			die(0)
		}
		fd := uintptr(right(0))
		pid, errno := call(unix.SYS_CLONE, namespaces|unix.CLONE_PARENT|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		if errno == 0 && pid == 0 {
			begin(fd)
			return
		}
		call(unix.SYS_CLOSE, fd, 0, 0, 0, 0, 0)
		if errno != 0 {
			report(Failed, 0, uint64(errno))
			continue
		}
		report(Made, 0, uint64(pid))
	}
}

// sandboxFD is where a sandbox has its socket to the daemon: above what the
// program gets.
const sandboxFD = 200

// begin is the first of a new sandbox: it keeps its own socket and nothing else
// of the launcher's but the null device as 0, 1 and 2.
//
//go:nosplit
//go:norace
func begin(fd uintptr) {
	call(unix.SYS_DUP3, fd, sandboxFD, unix.O_CLOEXEC, 0, 0, 0)
	call(unix.SYS_CLOSE_RANGE, 3, sandboxFD-1, 0, 0, 0, 0)
	call(unix.SYS_CLOSE_RANGE, sandboxFD+1, ^uintptr(0)>>32, 0, 0, 0, 0)
	memory[atControl] = sandboxFD
}
