package main

// Goals of processes; a wasm module has no words for most.
const (
	goalView         = "a change to the view: /, /usr, /etc, /dev"
	goalProc         = "a file of the host, through /proc"
	goalMounts       = "mounts: mount, umount2, pivot_root, chroot, open_tree, move_mount, mount_setattr, fsopen, fspick"
	goalDevices      = "a device: mknod of memory and of a disk"
	goalNamespaces   = "namespaces: unshare and clone of each kind, clone3, setns"
	goalProcesses    = "processes outside: their list, signals, ptrace, memory, descriptors, pid 1's environment"
	goalKernel       = "the kernel's inside: bpf, modules, kexec, perf, io_uring, userfaultfd, keys, handles, swap, log, quota, ports"
	goalSockets      = "raw sockets, netlink, packet, vsock, alg"
	goalNetwork      = "the host's loopback and abstract sockets"
	goalMetadata     = "a cloud's metadata address"
	goalUsers        = "another user: setuid, setgid, setgroups, set-user-ID programs"
	goalCapabilities = "a capability"
	goalDescriptors  = "a descriptor that it was not given"
	goalSettings     = "the kernel's settings: /proc/sys, /sys, sysrq, cgroups, its own OOM score"
	goalClock        = "the machine's clock and name"
	goalLimits       = "more than its limits: rlimits, priorities, real time"
	goalTerminal     = "typing into a terminal"
	goalMemory       = "shared memory of the host"
	goalCPUs         = "a CPU that it was not given, the sibling thread of another's among them"
	goalFilter       = "calls past the filter: 32 bit, x32, unknown numbers, lifting it"
)
