//go:build linux && amd64

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// Of the kernel, and not of the standard library.
const (
	afALG             = 0x26
	afBluetooth       = 0x1f
	afVsock           = 0x28
	afXDP             = 0x2c
	capSysAdmin       = 0x15
	cloneNewCgroup    = 0x2000000
	cloneNewTime      = 0x80
	prCapAmbient      = 0x2f
	prCapAmbientRaise = 0x2
	prCapbsetRead     = 0x17
	prSetNoNewPrivs   = 0x26
	rlimitNice        = 0xd
	stNosuid          = 0x2
	tiocLinux         = 0x541c
)

// platformRefusals: what the socket rule answers.
var platformRefusals = []error{syscall.EAFNOSUPPORT, syscall.EPROTONOSUPPORT}

func sockets() []way {
	return []way{{"connect", func() error { return dial("unix", outside["socket"]) }}}
}

func dial(network, address string) error {
	c, err := net.DialTimeout(network, address, time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write([]byte("x"))
	return err
}

// page is memory to point calls at, so that one that is let through does not
// fail for its arguments alone.
var page [4096]byte

// raw tries a call with harmless arguments: only the filter may answer.
func raw(name, call string, args ...uintptr) way { return rawNumber(name, numbers[call], args...) }

func rawNumber(name string, nr uintptr, args ...uintptr) way {
	return way{name, func() error {
		var a [6]uintptr
		copy(a[:], args)
		_, _, errno := syscall.Syscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
		if errno == syscall.EPERM || errno == syscall.ENOSYS {
			return errno
		}
		return nil // the kernel's own answer, whichever
	}}
}

func platformGoals() []goal {
	p := uintptr(unsafe.Pointer(&page[0]))
	secret := outside["secret"]
	return []goal{
		{goalView, []way{writes("/new"), writes("/usr/new"), writes("/usr/bin/new"), writes("/etc/new"), writes("/dev/new"),
			writes("/perrin/new"), writes("/proc/new"), {"chmod", func() error { return os.Chmod("/usr", 0o777) }}, {"chown", func() error { return os.Chown("/etc/passwd", 1000, 1000) }}}},
		{goalProc, []way{reads("/proc/1/root" + secret), reads("/proc/1/cwd" + secret), reads("/proc/self/root/.." + secret), reads("/proc/self/cwd/../../.." + secret),
			{"descriptors of pid 1", func() error { _, err := os.ReadDir("/proc/1/fd"); return err }}}},
		{goalMounts, []way{raw("mount", "mount", p, p, p), raw("umount2", "umount2", p), raw("pivot_root", "pivot_root", p, p), raw("chroot", "chroot", p),
			raw("open_tree", "open_tree", 0, p, 1), raw("move_mount", "move_mount", 0, p, 0, p), raw("mount_setattr", "mount_setattr", 0, p, 0, p, 32),
			raw("fsopen", "fsopen", p), raw("fspick", "fspick", 0, p)}},
		{goalDevices, []way{{"memory", func() error { return syscall.Mknod("/tmp/mem", syscall.S_IFCHR|0o666, 1<<8|1) }},
			{"disk", func() error { return syscall.Mknod("/work/disk", syscall.S_IFBLK|0o666, 254<<8) }}}},
		{goalNamespaces, namespaceWays(p)},
		{goalProcesses, processWays()},
		{goalKernel, kernelWays(p)},
		{goalSockets, socketWays()},
		{goalNetwork, []way{{"tcp", func() error { return dial("tcp", outside["tcp"]) }}, {"abstract", func() error { return dial("unix", "@"+outside["abstract"]) }},
			{"the hypervisor, by vsock", hypervisor}}},
		{goalMetadata, []way{{"tcp", func() error { return dial("tcp", "169.254.169.254:80") }}, {"udp", func() error { return dial("udp", "169.254.169.254:53") }},
			{"tcp6", func() error { return dial("tcp", "[fd00:ec2::254]:80") }}, {"another", func() error { return dial("tcp", "100.100.100.200:80") }}}},
		{goalUsers, []way{{"setuid", func() error { return noUser(syscall.Setuid(0)) }}, {"setgid", func() error { return noUser(syscall.Setgid(0)) }},
			{"setgroups", func() error { return noUser(syscall.Setgroups([]int{0})) }}, {"setresuid", func() error { return noUser(syscall.Setresuid(0, 0, 0)) }},
			{"set-user-ID", setUserID}}},
		{goalCapabilities, []way{{"capset", capset}, {"bounding set", boundingSet},
			{"ambient", func() error { _, err := prctl(prCapAmbient, prCapAmbientRaise, capSysAdmin); return err }}}},
		{goalDescriptors, []way{{"look", strangeDescriptors}}},
		{goalSettings, settingWays()},
		{goalClock, []way{raw("settimeofday", "settimeofday", p), raw("clock_settime", "clock_settime", 0, p), raw("adjtimex", "adjtimex", p),
			raw("clock_adjtime", "clock_adjtime", 0, p), raw("sethostname", "sethostname", p, 1), raw("setdomainname", "setdomainname", p, 1)}},
		{goalLimits, limitWays()},
		{goalTerminal, []way{raw("TIOCSTI", "ioctl", 0, syscall.TIOCSTI, p), raw("TIOCLINUX", "ioctl", 0, tiocLinux, p)}},
		{goalMemory, []way{{"shmget", shared},
			{"/dev/shm", func() error { _, err := os.Stat("/dev/shm/" + outside["mark"]); return err }}}},
		{goalCPUs, []way{{"affinity", otherCPUs}}},
		{goalFilter, []way{rawNumber("x32 getpid", 0x40000000+39), rawNumber("unknown", 9999), raw("clone3", "clone3", p, 64),
			{"32 bit", func() error {
				if err := abi(nil); err != nil {
					return nil
				}
				return syscall.ENOSYS
			}},
			{"no_new_privs", func() error {
				if _, err := prctl(prSetNoNewPrivs, 0, 0); errors.Is(err, syscall.EINVAL) {
					return syscall.EPERM // the kernel knows no way back
				}
				return nil
			}}}},
	}
}

// otherCPUs tries each CPU that it may not run on.
func otherCPUs() error {
	var given [16]uint64
	size := unsafe.Sizeof(given)
	if _, _, errno := syscall.RawSyscall(syscall.SYS_SCHED_GETAFFINITY, 0, size, uintptr(unsafe.Pointer(&given))); errno != 0 {
		return errno
	}
	for cpu := range len(given) * 64 {
		if given[cpu/64]&(1<<(cpu%64)) != 0 {
			continue
		}
		var want [16]uint64
		want[cpu/64] = 1 << (cpu % 64)
		_, _, errno := syscall.RawSyscall(syscall.SYS_SCHED_SETAFFINITY, 0, size, uintptr(unsafe.Pointer(&want)))
		if errno != syscall.EINVAL && errno != syscall.EPERM { // of the cpuset, and of the filter
			return nil
		}
	}
	return syscall.EPERM
}

// hypervisor tries a port of the machine below, if there is one (vsock(7)).
func hypervisor() error {
	fd, err := syscall.Socket(afVsock, syscall.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	address := struct {
		family, reserved uint16
		port, cid        uint32
		rest             [4]byte
	}{family: afVsock, port: 1024, cid: 2} // VMADDR_CID_HOST
	_, _, errno := syscall.Syscall(syscall.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&address)), unsafe.Sizeof(address))
	if errno != 0 {
		return errno
	}
	return nil
}

func atoi(s string) int64 {
	n, _ := strconv.ParseInt(s, 10, 64)
	return n
}

func namespaceWays(p uintptr) []way {
	ways := []way{raw("setns", "setns", 0, 0), raw("clone3", "clone3", p, 64)}
	for name, flag := range map[string]uintptr{"user": syscall.CLONE_NEWUSER, "mount": syscall.CLONE_NEWNS, "pid": syscall.CLONE_NEWPID, "net": syscall.CLONE_NEWNET,
		"ipc": syscall.CLONE_NEWIPC, "uts": syscall.CLONE_NEWUTS, "cgroup": cloneNewCgroup, "time": cloneNewTime} {
		ways = append(ways, raw("unshare "+name, "unshare", flag))
		if flag != cloneNewTime { // which is no flag of clone(2)
			ways = append(ways, raw("clone "+name, "clone", flag|uintptr(syscall.SIGCHLD)))
		}
	}
	return ways
}

func processWays() []way {
	daemon := int(atoi(outside["pid"]))
	opens := func(path string, flag int) way {
		return way{path, func() error {
			f, err := os.OpenFile(path, flag, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			var b [16]byte
			if n, err := f.Read(b[:]); n == 0 {
				return errors.Join(err, errNothing)
			}
			return nil
		}}
	}
	return []way{
		{"list", func() error {
			names, err := filepath.Glob("/proc/[0-9]*")
			if err == nil && len(names) <= 2 { // pid 1 and itself
				return errNothing
			}
			return err
		}},
		{"signal", func() error { return syscall.Kill(daemon, 0) }},
		{"trace", func() error { return syscall.PtraceAttach(1) }},
		raw("process_vm_readv", "process_vm_readv", 1), raw("process_vm_writev", "process_vm_writev", 1),
		raw("kcmp", "kcmp", 1, 1), raw("pidfd_getfd", "pidfd_getfd", 0, 0),
		raw("process_madvise", "process_madvise", 0), raw("limits of pid 1", "prlimit64", 1, 7, 0, 0),
		opens("/proc/1/mem", os.O_RDWR), opens("/proc/1/environ", os.O_RDONLY), opens("/proc/1/exe", os.O_RDONLY), opens("/proc/1/maps", os.O_RDONLY),
		{"daemon in /proc", func() error { _, err := os.Stat(fmt.Sprintf("/proc/%d/status", daemon)); return err }},
	}
}

func kernelWays(p uintptr) []way {
	return []way{
		raw("bpf", "bpf", 0, p, 64), raw("init_module", "init_module", p), raw("finit_module", "finit_module", 0, p),
		raw("delete_module", "delete_module", p), raw("kexec_load", "kexec_load"), raw("kexec_file_load", "kexec_file_load"),
		raw("perf_event_open", "perf_event_open", p), raw("io_uring_setup", "io_uring_setup", 1, p), raw("io_uring_enter", "io_uring_enter"),
		raw("userfaultfd", "userfaultfd"), raw("add_key", "add_key", p, p), raw("keyctl", "keyctl", 0, ^uintptr(2)),
		raw("request_key", "request_key", p, p), raw("name_to_handle_at", "name_to_handle_at", 0, p, p, p),
		raw("open_by_handle_at", "open_by_handle_at", 0, p), raw("fanotify_init", "fanotify_init"), raw("swapon", "swapon", p),
		raw("swapoff", "swapoff", p), raw("syslog", "syslog", 2, p, 10), raw("acct", "acct", p), raw("quotactl", "quotactl", 0, p),
		raw("reboot", "reboot"), raw("vhangup", "vhangup"), raw("iopl", "iopl", 3), raw("ioperm", "ioperm", 0, 1, 1),
		raw("modify_ldt", "modify_ldt", 0, p, 1), raw("lookup_dcookie", "lookup_dcookie", 0, p), raw("move_pages", "move_pages", 1),
		raw("migrate_pages", "migrate_pages", 1), raw("memfd_secret", "memfd_secret"), raw("personality", "personality", 0x0040000),
	}
}

func socketWays() []way {
	var ways []way
	for name, s := range map[string][2]int{"packet": {syscall.AF_PACKET, syscall.SOCK_RAW}, "netlink": {syscall.AF_NETLINK, syscall.SOCK_RAW}, "vsock": {afVsock, syscall.SOCK_STREAM},
		"alg": {afALG, syscall.SOCK_SEQPACKET}, "raw": {syscall.AF_INET, syscall.SOCK_RAW}, "raw6": {syscall.AF_INET6, syscall.SOCK_RAW}, "bluetooth": {afBluetooth, syscall.SOCK_RAW},
		"xdp": {afXDP, syscall.SOCK_RAW}} {
		ways = append(ways, way{name, func() error {
			fd, err := syscall.Socket(s[0], s[1], syscall.IPPROTO_ICMP)
			if err == nil {
				syscall.Close(fd)
			}
			return err
		}})
	}
	return ways
}

// noUser is what the kernel means by an invalid argument: its user namespace has
// no user 0.
func noUser(err error) error {
	if errors.Is(err, syscall.EINVAL) {
		return errNothing
	}
	return err
}

func shared() error {
	_, _, errno := syscall.RawSyscall(numbers["shmget"], uintptr(atoi(outside["shm"])), 0, 0)
	if errno == syscall.ENOSYS { // where no cgroup counts it, there is none at all
		return errNothing
	}
	if errno != 0 {
		return errno
	}
	return nil
}

// setUserID finds out whether a set-user-ID program would get its owner's rights.
func setUserID() error {
	var st syscall.Statfs_t
	if err := syscall.Statfs("/usr", &st); err != nil {
		return err
	}
	if st.Flags&stNosuid == 0 {
		return nil
	}
	return syscall.EPERM
}

// prctl is prctl(2) with three arguments.
func prctl(a, b, c uintptr) (uintptr, error) {
	r, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, a, b, c, 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return r, nil
}

func capset() error {
	header := [2]uint32{0x20080522} // _LINUX_CAPABILITY_VERSION_3, this process
	all := [6]uint32{^uint32(0), ^uint32(0), 0, ^uint32(0), ^uint32(0), 0}
	_, _, errno := syscall.RawSyscall(syscall.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&all)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func boundingSet() error {
	for c := range uintptr(64) {
		has, err := prctl(prCapbsetRead, c, 0)
		if err != nil {
			break
		}
		if has != 0 {
			return nil
		}
	}
	return errNothing
}

func strangeDescriptors() error {
	if descriptors(nil) == nil {
		return errNothing
	}
	return nil
}

func settingWays() []way {
	put := func(path, text string) way {
		return way{"write " + path, func() error { return os.WriteFile(path, []byte(text), 0) }}
	}
	return []way{
		put("/proc/sys/kernel/core_pattern", "|/work/x"), put("/proc/sysrq-trigger", "h"), put("/sys/kernel/uevent_helper", "/work/x"),
		put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "-1"), put("/sys/fs/cgroup/cgroup.procs", "0"), put("/proc/self/oom_score_adj", "-1000"),
		put("/proc/self/uid_map", "0 0 1"), {"cgroup", func() error {
			text, err := os.ReadFile("/proc/self/cgroup")
			for line := range strings.Lines(string(text)) {
				if f := strings.SplitN(strings.TrimSpace(line), ":", 3); len(f) == 3 && strings.Contains(f[2], "perrin") {
					return nil // sees where it is
				}
			}
			return errors.Join(err, errNothing)
		}},
	}
}

func limitWays() []way {
	raise := func(which int) func() error {
		return func() error {
			var l syscall.Rlimit
			if err := syscall.Getrlimit(which, &l); err != nil {
				return err
			}
			more := l
			more.Max++
			if err := syscall.Setrlimit(which, &more); err != nil {
				return err
			}
			if err := syscall.Getrlimit(which, &more); err != nil || more != l {
				return err
			}
			return syscall.EPERM // it was told so, and nothing changed
		}
	}
	return []way{
		{"files", raise(syscall.RLIMIT_NOFILE)}, {"core", raise(syscall.RLIMIT_CORE)}, {"nice", raise(rlimitNice)},
		{"priority", func() error { return syscall.Setpriority(syscall.PRIO_PROCESS, 0, -20) }},
		raw("sched_setscheduler", "sched_setscheduler", 0, 1, uintptr(unsafe.Pointer(&page[0]))),
		raw("sched_setattr", "sched_setattr", 0, uintptr(unsafe.Pointer(&page[0]))), raw("ioprio_set", "ioprio_set", 1, 0, 1<<13),
	}
}
