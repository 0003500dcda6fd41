package vm

import (
	"testing"

	"github.com/perrin-mesh/perrin/workload/runner/runnertest"
)

// TestEscape: the command is root of a kernel of its own, so only what is outside of
// the machine is tried for.
func TestEscape(t *testing.T) {
	if testing.Short() {
		t.Skip("too long for a short run")
	}
	runnertest.Escape(t, kit(t), runnertest.ColumnVM, ofTheMachine...)
}

// ofTheMachine are the goals whose objects a virtual machine has itself.
var ofTheMachine = []string{
	"own=a change to the view: /, /usr, /etc, /dev",
	"own=a file of the host, through /proc",
	"own=raw sockets, netlink, packet, vsock, alg",
	"kernel=mounts: mount, umount2, pivot_root, chroot, open_tree, move_mount, mount_setattr, fsopen, fspick",
	"kernel=a device: mknod of memory and of a disk",
	"kernel=namespaces: unshare and clone of each kind, clone3, setns",
	"kernel=processes outside: their list, signals, ptrace, memory, descriptors, pid 1's environment",
	"kernel=the kernel's inside: bpf, modules, kexec, perf, io_uring, userfaultfd, keys, handles, swap, log, quota, ports",
	"kernel=another user: setuid, setgid, setgroups, set-user-ID programs",
	"kernel=a capability",
	"kernel=the kernel's settings: /proc/sys, /sys, sysrq, cgroups, its own OOM score",
	"kernel=the machine's clock and name",
	"kernel=more than its limits: rlimits, priorities, real time",
	"kernel=typing into a terminal",
	"kernel=calls past the filter: 32 bit, x32, unknown numbers, lifting it",
}
