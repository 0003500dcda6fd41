package inside

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// verdict runs a filter on one call, as the kernel would.
func verdict(t *testing.T, p []unix.SockFilter, arch, nr uint32, args ...uint64) uint32 {
	t.Helper()
	data := map[uint32]uint32{offNumber: nr, offArch: arch}
	for i, a := range args {
		data[offArgs+8*uint32(i)], data[offArgs+8*uint32(i)+4] = uint32(a), uint32(a>>32)
	}
	var a uint32
	for pc := 0; pc < len(p); pc++ {
		switch in := p[pc]; in.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			a = data[in.K]
		case unix.BPF_RET | unix.BPF_K:
			return in.K
		default:
			hit := in.Code == unix.BPF_JMP|unix.BPF_JGE|unix.BPF_K && a >= in.K ||
				in.Code == unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K && a == in.K ||
				in.Code == unix.BPF_JMP|unix.BPF_JSET|unix.BPF_K && a&in.K != 0
			if hit {
				pc += int(in.Jt)
			} else {
				pc += int(in.Jf)
			}
		}
	}
	t.Fatal("the filter has no result")
	return 0
}

func TestSeccompFilter(t *testing.T) {
	p, err := seccompFilter(freedom{memory: true})
	if err != nil {
		t.Fatal(err)
	}
	free, err := seccompFilter(freedom{affinity: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		nr   uint32
		args []uint64
		want uint32
	}{
		{"read", unix.SYS_READ, nil, actAllow}, {"execve", unix.SYS_EXECVE, nil, actAllow},
		{"thread", unix.SYS_CLONE, []uint64{unix.CLONE_VM | unix.CLONE_THREAD}, actAllow},
		{"user namespace", unix.SYS_CLONE, []uint64{unix.CLONE_NEWUSER}, actEPERM},
		{"time namespace is not a clone flag", unix.SYS_CLONE, []uint64{unix.CLONE_NEWTIME}, actAllow},
		{"clone3", unix.SYS_CLONE3, nil, actENOSYS}, {"mount", unix.SYS_MOUNT, nil, actEPERM}, {"bpf", unix.SYS_BPF, nil, actEPERM},
		{"unix socket", unix.SYS_SOCKET, []uint64{unix.AF_UNIX}, actAllow}, {"vsock", unix.SYS_SOCKET, []uint64{unix.AF_VSOCK}, actEAF},
		{"netlink pair", unix.SYS_SOCKETPAIR, []uint64{unix.AF_NETLINK}, actEAF},
		{"TIOCSTI", unix.SYS_IOCTL, []uint64{0, unix.TIOCSTI}, actEPERM},
		{"TIOCSTI with high bits, which the kernel drops", unix.SYS_IOCTL, []uint64{0, unix.TIOCSTI | 1<<40}, actEPERM},
		{"other ioctl", unix.SYS_IOCTL, []uint64{0, unix.TCGETS}, actAllow},
		{"own limits", unix.SYS_PRLIMIT64, []uint64{0}, actAllow}, {"another's limits", unix.SYS_PRLIMIT64, []uint64{1}, actEPERM},
		{"a limit of core dumps", unix.SYS_PRLIMIT64, []uint64{0, unix.RLIMIT_CORE, 1 << 40, 0}, actNothing},
		{"a limit of core dumps at a low address", unix.SYS_PRLIMIT64, []uint64{0, unix.RLIMIT_CORE, 1 << 20, 0}, actNothing},
		{"the limit of core dumps, asked for", unix.SYS_PRLIMIT64, []uint64{0, unix.RLIMIT_CORE, 0, 1}, actAllow},
		{"another limit", unix.SYS_PRLIMIT64, []uint64{0, unix.RLIMIT_NOFILE, 1 << 40, 0}, actAllow},
		{"a limit of core dumps, the old way", unix.SYS_SETRLIMIT, []uint64{unix.RLIMIT_CORE}, actNothing},
		{"another limit, the old way", unix.SYS_SETRLIMIT, []uint64{unix.RLIMIT_NOFILE}, actAllow},
		{"TCP", unix.SYS_SOCKET, []uint64{unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_TCP}, actAllow},
		{"SCTP", unix.SYS_SOCKET, []uint64{unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP}, actEPROTO},
		{"netlink", unix.SYS_SOCKET, []uint64{unix.AF_NETLINK}, actEAF},
		{"inotify", unix.SYS_INOTIFY_INIT1, nil, actENOSYS}, {"dnotify", unix.SYS_FCNTL, []uint64{0, unix.F_NOTIFY}, actEPERM},
		{"a lease on a file", unix.SYS_FCNTL, []uint64{0, unix.F_SETLEASE}, actEPERM}, {"a lock on one", unix.SYS_FCNTL, []uint64{0, unix.F_SETLK}, actAllow},
		{"memory that nothing maps", unix.SYS_MEMFD_CREATE, nil, actAllow},
		{"affinity", unix.SYS_SCHED_SETAFFINITY, nil, actEPERM}, {"unknown", 9999, nil, actENOSYS},
	} {
		if got := verdict(t, p, auditArch, c.nr, c.args...); got != c.want {
			t.Errorf("%s: %#x, want %#x", c.name, got, c.want)
		}
	}
	if got := verdict(t, free, auditArch, unix.SYS_SCHED_SETAFFINITY); got != actAllow {
		t.Errorf("affinity in a cpuset: %#x", got)
	}
	for _, nr := range []uint32{unix.SYS_MEMFD_CREATE, unix.SYS_SHMGET} {
		if got := verdict(t, free, auditArch, nr); got != actENOSYS {
			t.Errorf("memory that no cgroup counts, call %d: %#x", nr, got)
		}
	}
	if got := verdict(t, p, auditArch^1, unix.SYS_READ); got != actENOSYS {
		t.Errorf("read of another architecture: %#x", got)
	}
	if foreignBit != 0 {
		if got := verdict(t, p, auditArch, foreignBit|unix.SYS_READ); got != actENOSYS {
			t.Errorf("x32 read: %#x", got)
		}
	}
	if len(p) > 400 {
		t.Errorf("the filter has %d instructions, which every start pays for", len(p))
	}
	named := map[uint32]bool{}
	for nr := range argumentRules() {
		named[nr] = true
	}
	for _, nr := range slices.Concat(allowedCalls, archCalls) {
		if got := verdict(t, p, auditArch, nr); got != actAllow || named[nr] {
			t.Errorf("allowed call %d: %#x; decided by its arguments, too: %t", nr, got, named[nr])
		}
		named[nr] = true
	}
	for _, nr := range forbiddenCalls {
		named[nr] = true
	}
	named[unix.SYS_MEMFD_CREATE], named[unix.SYS_SHMGET] = true, true
	for nr := range uint32(1024) {
		if got := verdict(t, p, auditArch, nr); !named[nr] && got != actENOSYS {
			t.Errorf("call %d, which is in no list: %#x", nr, got)
		}
	}
	for _, nr := range forbiddenCalls {
		if got := verdict(t, p, auditArch, nr); got != actEPERM {
			t.Errorf("forbidden call %d: %#x", nr, got)
		}
	}
}

// TestPlanMemory checks how a plan is laid out for the machine, which reads it
// without a word of explanation.
func TestPlanMemory(t *testing.T) {
	p := &Plan{}
	fd := p.slot()
	p.do("first", 1, num(7), p.str("name"), fd)
	p.do("second", 2, p.list([]string{"a", "b"})).okay = 17
	b, err := p.encode(1)
	if err != nil {
		t.Fatal(err)
	}
	var words []uint64
	for i := 0; i < len(b); i += 8 {
		words = append(words, binary.NativeEndian.Uint64(b[i:]))
	}
	letter := func(s string) uint64 {
		var b [8]byte
		copy(b[:], s)
		return binary.NativeEndian.Uint64(b[:])
	}
	want := []uint64{1, 1, 2, 6, 2, // descriptors, slots, ops, words, fixups
		1, kindData<<4 | kindSlot<<8, 0, 0, 0, 7, 0, 0, 0, 0, 0,
		2, kindData, 0, 17, 0, 24, 0, 0, 0, 0, 0,
		letter("name"), letter("a"), letter("b"), 8, 16, 0,
		3, 4}
	if !slices.Equal(words, want) {
		t.Errorf("\n got %v\nwant %v", words, want)
	}
	if _, err := p.encode(2); !errors.Is(err, errPlan) {
		t.Errorf("more descriptors than slots: %v", err)
	}
	p.bytes(make([]byte, 8*memoryWords))
	if _, err := p.encode(1); !errors.Is(err, errPlan) {
		t.Errorf("too much for the machine: %v", err)
	}
}

func TestPlanErrors(t *testing.T) {
	p := &Plan{}
	p.do("open the door", 1)
	p.exec, p.execEnd = 1, 2
	p.do("/bin/no", 2)
	if err := p.Err(Status{Kind: Failed, Value: uint64(unix.EPERM)}); !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "open the door") {
		t.Error(err)
	}
	var ne *NoExecError
	if err := p.Err(Status{Kind: Failed, Op: 1, Value: uint64(unix.ENOENT)}); !errors.As(err, &ne) || ne.Errno != unix.ENOENT || ne.Path != "/bin/no" {
		t.Error(err)
	}
	if err := p.Err(Status{Kind: Failed, Op: 2}); !errors.Is(err, ErrStatus) {
		t.Error(err)
	}
}

// TestProgramPlanOrder holds what must come before what.
func TestProgramPlanOrder(t *testing.T) {
	v, err := NewView(true)
	if err != nil {
		t.Fatal(err)
	}
	for _, built := range []bool{true, false} {
		cfg := &Config{View: v, Built: built, User: User{UID: 5, GID: 6, Drop: true}, Cgroups: []int{20}, Keep: []int{21},
			Mounts: []Mount{{FD: 22, Target: "/work", Write: true, Dir: true}}, Path: "/bin/true", Args: []string{"true"}, Dir: "/work"}
		p, fds, err := ProgramPlan(cfg)
		if err != nil || len(fds) != 3 || fds[0] != 21 {
			t.Fatalf("descriptors %v, %v: the kept one comes first", fds, err)
		}
		last := -1
		for _, what := range []string{"make a network namespace", "mount \"/work\"", "mount \"/proc\"", "leave all groups", "change the user",
			"make a user namespace", "join a cgroup", "hide the cgroup", "drop capabilities", "set no_new_privs", "landlock", "seccomp", "/bin/true"} {
			at := slices.Index(p.labels, what)
			if what == "landlock" && landlockVersion() == 0 {
				continue
			}
			if at <= last {
				t.Errorf("built %t: %q is step %d, after %d", built, what, at, last)
			}
			last = at
		}
		if last != p.exec || p.labels[last-1] != "seccomp" {
			t.Errorf("built %t: something comes between seccomp and the program", built)
		}
	}
	for _, bad := range []string{"/", "relative", "/work/..", ""} {
		if _, _, err := ProgramPlan(&Config{View: v, Mounts: []Mount{{FD: 3, Target: bad}}}); err == nil {
			t.Errorf("target %q was accepted", bad)
		}
	}
}

func TestLandlockAttr(t *testing.T) {
	for abi := 1; abi <= 8; abi++ {
		attr, write := landlockAttr(abi)
		if write&^attr.Handled_access_fs != 0 {
			t.Errorf("ABI %d: writers get %#x, which is not handled", abi, write&^attr.Handled_access_fs)
		}
		if write&(unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK|unix.LANDLOCK_ACCESS_FS_MAKE_CHAR) != 0 {
			t.Errorf("ABI %d: writers may make devices", abi)
		}
		if (abi >= 6) != (attr.Scoped != 0) || (abi >= 4) != (attr.Handled_access_net != 0) {
			t.Errorf("ABI %d: %+v", abi, attr)
		}
	}
}
