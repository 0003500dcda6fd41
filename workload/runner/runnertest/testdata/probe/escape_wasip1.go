//go:build wasip1

package main

import "syscall"

// platformRefusals: WASI says of what is outside of a preopened folder that the
// descriptor cannot do it.
var platformRefusals = []error{syscall.ENOTCAPABLE, syscall.EBADF, syscall.ENOTSUP, syscall.ELOOP, syscall.EINVAL}

func sockets() []way { return nil }

// platformGoals: a module has no way to name any of these.
func platformGoals() []goal {
	return []goal{
		{goalView, []way{writes("/etc/new"), writes("/usr/new"), writes("/dev/new"), writes("/proc/new")}},
		{what: goalProc}, {what: goalMounts}, {what: goalDevices}, {what: goalNamespaces}, {what: goalProcesses}, {what: goalKernel}, {what: goalSockets},
		{what: goalNetwork}, {what: goalMetadata}, {what: goalUsers}, {what: goalCapabilities}, {what: goalDescriptors, ways: []way{
			{"use descriptors from 3 on", strangeDescriptors},
		}}, {what: goalSettings}, {what: goalClock}, {what: goalLimits}, {what: goalTerminal}, {what: goalMemory}, {what: goalCPUs}, {what: goalFilter},
	}
}

// strangeDescriptors looks for one that is not a preopened folder: reading a
// folder is refused, reading anything else would not be.
func strangeDescriptors() error {
	for fd := 3; fd < 64; fd++ {
		var b [1]byte
		if _, err := syscall.Read(fd, b[:]); err == nil {
			return nil
		}
	}
	return errNothing
}
