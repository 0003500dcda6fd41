//go:build linux && amd64

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

var platform = map[string]func([]string) error{
	"unit": unit, "reach": reach, "net": network, "procs": processes, "caps": capabilities,
	"calls": calls, "fds": descriptors, "setuid": setuid, "readonly": readonly,
	"fork": fork, "child": func([]string) error { time.Sleep(time.Hour); return nil },
	"background": background, "affinity": affinity, "trap-term": trapTerm, "kill-init": killInit, "abi": abi,
	"sched": sched, "burn": burn, "follow-cpus": followCPUs,
	"die":    func(a []string) error { return syscall.Kill(os.Getpid(), syscall.Signal(number(a[0]))) },
	"fsize":  func(a []string) error { return write(a) },
	"devout": func([]string) error { return os.WriteFile("/dev/stdout", []byte("through /dev/stdout"), 0) },
}

func unit(a []string) error {
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", os.Getenv("PERRIN_UNIT"))
	}}}
	req, err := http.NewRequest(a[0], "http://unit"+a[1], strings.NewReader(a[2]))
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	fmt.Printf("%d %s", resp.StatusCode, b)
	return err
}

// reach fails when it can see any of the paths.
func reach(paths []string) error {
	for _, p := range append(paths, "/root", "/home", "/etc/shadow", "/var", "/sys", "/run", "/boot", "/opt", "/srv", "/mnt",
		"/proc/sys", "/proc/kcore", "/proc/keys", "/proc/sysrq-trigger", "/proc/1/root/etc", "/proc/1/cwd/etc", "/proc/1/fd/3") {
		if _, err := os.Stat(p); err == nil {
			return fmt.Errorf("reaches %s", p)
		}
	}
	return nil
}

// network fails when it can reach the host's TCP address or abstract socket.
func network(a []string) error {
	dev, err := os.ReadFile("/proc/self/net/dev")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(dev)) {
		if name, _, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && name != "lo" {
			return fmt.Errorf("interface %s", name)
		}
	}
	if c, err := net.DialTimeout("tcp", a[0], time.Second); err == nil {
		return fmt.Errorf("connected to %s", c.RemoteAddr())
	}
	if c, err := net.DialTimeout("unix", "@"+a[1], time.Second); err == nil {
		return fmt.Errorf("connected to %s", c.RemoteAddr())
	}
	for _, family := range []int{syscall.AF_NETLINK, syscall.AF_PACKET, 40 /* AF_VSOCK */, 38 /* AF_ALG */} {
		if fd, err := syscall.Socket(family, syscall.SOCK_RAW, 0); err == nil {
			return fmt.Errorf("socket family %d: descriptor %d", family, fd)
		}
	}
	return nil
}

func processes([]string) error {
	names, err := filepath.Glob("/proc/[0-9]*")
	if err != nil || len(names) != 2 {
		return fmt.Errorf("sees %v (%w)", names, err)
	}
	if env, err := os.ReadFile("/proc/1/environ"); err == nil && len(env) > 0 {
		return fmt.Errorf("reads the init's environment %q", env)
	}
	if f, err := os.Open("/proc/1/exe"); err == nil {
		f.Close()
		return errors.New("opened the init's program")
	}
	if f, err := os.OpenFile("/proc/1/mem", os.O_RDWR, 0); err == nil {
		f.Close()
		return errors.New("opened the init's memory")
	}
	return nil
}

func capabilities([]string) error {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	want := map[string]string{"NoNewPrivs": "1", "Seccomp": "2"}
	for _, c := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		want[c] = "0000000000000000"
	}
	for line := range strings.Lines(string(text)) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), ":\t")
		if w, ok := want[k]; ok && w != v {
			return fmt.Errorf("%s is %s", k, v)
		}
	}
	return nil
}

// calls fails when a forbidden system call does not fail with EPERM or ENOSYS.
func calls([]string) error {
	page := make([]byte, 4096)
	p := uintptr(unsafe.Pointer(&page[0]))
	for name, c := range map[string][4]uintptr{
		"mount": {syscall.SYS_MOUNT, p, p, p}, "umount2": {syscall.SYS_UMOUNT2, p, 0}, "unshare": {syscall.SYS_UNSHARE, syscall.CLONE_NEWUSER},
		"setns": {308, 0, 0}, "ptrace": {syscall.SYS_PTRACE, 16, 1}, "pivot_root": {syscall.SYS_PIVOT_ROOT, p, p}, "chroot": {syscall.SYS_CHROOT, p},
		"bpf": {321, 0, p, 64}, "keyctl": {250, 0, ^uintptr(2)}, "add_key": {248, p, p}, "perf_event_open": {298, p}, "io_uring_setup": {425, 1, p},
		"userfaultfd": {323, 0}, "open_tree": {428, 0, p, 1}, "fsopen": {430, p}, "mount_setattr": {442, 0, p}, "process_vm_readv": {310, 1},
		"open_by_handle_at": {304, 0, p}, "init_module": {175, p}, "kexec_load": {246, 0}, "reboot": {169, 0}, "swapon": {167, p}, "syslog": {103, 2, p, 10},
		"clone3": {435, p, 64}, "clone(NEWUSER)": {syscall.SYS_CLONE, syscall.CLONE_NEWUSER | uintptr(syscall.SIGCHLD)}, "clone(NEWNET)": {syscall.SYS_CLONE, syscall.CLONE_NEWNET | uintptr(syscall.SIGCHLD)},
		"pidfd_getfd": {438, 0, 0}, "personality": {135, 0x0040000}, "iopl": {172, 3}, "quotactl": {179, 0, p}, "prlimit(1)": {302, 1, 7, 0},
		"memfd_secret": {447, 0}, "x32": {0x40000000 + 39}, "beyond": {9999},
	} {
		_, _, errno := syscall.Syscall6(c[0], c[1], c[2], c[3], 0, 0, 0)
		if errno != syscall.EPERM && errno != syscall.ENOSYS {
			return fmt.Errorf("%s: %v", name, errno)
		}
	}
	// TIOCSTI would type into a terminal.
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, 0, syscall.TIOCSTI, p); errno != syscall.EPERM {
		return fmt.Errorf("TIOCSTI: %v", errno)
	}
	return nil
}

func descriptors([]string) error {
	for fd := 3; fd < 1024; fd++ {
		to, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		if err == nil && !strings.HasPrefix(to, "anon_inode:") {
			return fmt.Errorf("descriptor %d is %s", fd, to)
		}
	}
	return nil
}

func setuid([]string) error {
	for name, err := range map[string]error{"setuid": syscall.Setuid(0), "setgid": syscall.Setgid(0), "setgroups": syscall.Setgroups([]int{0}), "setresuid": syscall.Setresuid(0, 0, 0)} {
		if err == nil {
			return fmt.Errorf("%s(0) worked", name)
		}
	}
	return nil
}

// readonly fails when it can make a file in any of the folders or the usual ones.
func readonly(dirs []string) error {
	for _, dir := range append(dirs, "/", "/usr", "/usr/bin", "/etc", "/dev", "/perrin", "/proc", "/proc/1") {
		if f, err := os.Create(filepath.Join(dir, "probe")); err == nil {
			f.Close()
			return fmt.Errorf("wrote to %s", dir)
		}
		if err := os.Chmod(dir, 0o777); err == nil && dir != "/proc" {
			return fmt.Errorf("changed the mode of %s", dir)
		}
	}
	for _, dir := range []string{"/work", "/out", "/tmp", "/dev/shm"} {
		if err := os.WriteFile(filepath.Join(dir, "probe"), nil, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// fork starts as many children as it can, at most so many, and says how many.
func fork(a []string) error {
	n := 0
	for range number(a[0]) {
		if _, err := syscall.ForkExec("/proc/self/exe", []string{"probe", "child"}, &syscall.ProcAttr{Files: []uintptr{0, 1, 2}}); err != nil {
			break
		}
		n++
	}
	fmt.Println(n)
	return nil
}

// background leaves a process behind that ignores everything.
func background([]string) error {
	cmd := exec.Command("/proc/self/exe", "child")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	fmt.Println("left", cmd.Process.Pid)
	return nil
}

func affinity([]string) error {
	var mask [128]byte
	n, _, errno := syscall.RawSyscall(syscall.SYS_SCHED_GETAFFINITY, 0, uintptr(len(mask)), uintptr(unsafe.Pointer(&mask[0])))
	if errno != 0 {
		return errno
	}
	var cpus []int
	for i := range int(n) * 8 {
		if mask[i/8]>>(i%8)&1 == 1 {
			cpus = append(cpus, i)
		}
	}
	fmt.Println(cpus)
	for i := range mask {
		mask[i] = 0xff
	}
	syscall.RawSyscall(syscall.SYS_SCHED_SETAFFINITY, 0, uintptr(len(mask)), uintptr(unsafe.Pointer(&mask[0])))
	var again [128]byte
	n, _, _ = syscall.RawSyscall(syscall.SYS_SCHED_GETAFFINITY, 0, uintptr(len(again)), uintptr(unsafe.Pointer(&again[0])))
	sum := 0
	for i := range int(n) * 8 {
		sum += int(again[i/8] >> (i % 8) & 1)
	}
	if sum > len(cpus) {
		return fmt.Errorf("widened its CPUs to %d", sum)
	}
	return nil
}

// status returns a field of /proc/self/status.
func status(name string) string {
	b, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return "?"
}

// sched prints where and how it runs, after trying to run like others.
func sched([]string) error {
	param := int32(0)
	_, _, errno := syscall.RawSyscall(syscall.SYS_SCHED_SETSCHEDULER, 0, 0, uintptr(unsafe.Pointer(&param)))
	b, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return err
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	fmt.Printf("cpus %s mems %s policy %s left %t\n", status("Cpus_allowed_list"), status("Mems_allowed_list"), f[38], errno == 0)
	return nil
}

// burn spins for so many ms.
func burn(a []string) error {
	for end := time.Now().Add(time.Duration(number(a[0])) * time.Millisecond); time.Now().Before(end); {
	}
	return nil
}

// followCPUs prints where it may run whenever that changes.
func followCPUs([]string) error {
	for last := ""; ; time.Sleep(time.Millisecond) {
		if now := status("Cpus_allowed_list"); now != last {
			fmt.Println(now)
			last = now
		}
	}
}

// trapTerm says when it was asked to end, and with "stay" does not.
func trapTerm(a []string) error {
	terms := make(chan os.Signal, 1)
	signal.Notify(terms, syscall.SIGTERM)
	w := bufio.NewWriter(os.Stdout)
	fmt.Fprintln(w, "ready")
	w.Flush()
	<-terms
	fmt.Println("asked to end")
	if len(a) > 0 {
		time.Sleep(time.Hour)
	}
	return nil
}

func killInit([]string) error {
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGSEGV} {
		_ = syscall.Kill(1, sig)
		_ = syscall.Kill(-1, sig)
	}
	fmt.Println("still here")
	return nil
}

func abi([]string) error {
	if got := getpid32(); got != -int(syscall.ENOSYS) {
		return fmt.Errorf("a 32-bit call answered %d", got)
	}
	return nil
}
