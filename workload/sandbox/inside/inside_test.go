package inside

import (
	"bytes"
	"errors"
	"io"
	"reflect"
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
			hit := in.Code == unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K && a == in.K ||
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
	p, err := seccompFilter(false)
	if err != nil {
		t.Fatal(err)
	}
	free, err := seccompFilter(true)
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
		{"affinity", unix.SYS_SCHED_SETAFFINITY, nil, actEPERM}, {"unknown", 9999, nil, actENOSYS},
	} {
		if got := verdict(t, p, auditArch, c.nr, c.args...); got != c.want {
			t.Errorf("%s: %#x, want %#x", c.name, got, c.want)
		}
	}
	if got := verdict(t, free, auditArch, unix.SYS_SCHED_SETAFFINITY); got != actAllow {
		t.Errorf("affinity in a cpuset: %#x", got)
	}
	if got := verdict(t, p, auditArch^1, unix.SYS_READ); got != actENOSYS {
		t.Errorf("read of another architecture: %#x", got)
	}
	if foreignBit != 0 {
		if got := verdict(t, p, auditArch, foreignBit|unix.SYS_READ); got != actENOSYS {
			t.Errorf("x32 read: %#x", got)
		}
	}
	for _, nr := range forbiddenCalls {
		if got := verdict(t, p, auditArch, nr); got != actEPERM {
			t.Errorf("forbidden call %d: %#x", nr, got)
		}
	}
}

func TestMessages(t *testing.T) {
	want := Config{Host: true, Args: []string{"a", "b"}, Dir: "/work", Mounts: []Mount{{Source: "/x", Target: "/y"}}, Limits: Limits{CPUs: []int{1}}}
	var buf bytes.Buffer
	if err := Write(&buf, want); err != nil {
		t.Fatal(err)
	}
	whole := bytes.Clone(buf.Bytes())
	var got Config
	if err := Read(&buf, &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	if err := Read(&buf, &got); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	for _, bad := range [][]byte{{0xff, 0xff, 0xff, 0xff}, whole[:len(whole)-1], {0, 0, 0, 1, '{'}} {
		if err := Read(bytes.NewReader(bad), &got); !errors.Is(err, ErrMessage) {
			t.Errorf("%x: %v", bad[:4], err)
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
