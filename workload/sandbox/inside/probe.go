package inside

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Probe looks for holes from inside and returns the exit code of the shim: 0
// when everything it tried was refused, else 1 with what it found on standard
// error. A node advertises an isolation level only after this passed on it.
func Probe() int { return probe(probeWrites) }

// ProbeRoot is Probe in a sandbox with a Root, which has to hold SeedFile: there
// the program may write, and the folder that it sees stays as it is.
func ProbeRoot() int { return probe(probeRootWrites) }

func probe(writes func() error) int {
	return tell(probeUser, probeCapabilities, probeFiles, writes, probeProcesses, probeNetwork, probeCalls, probeDescriptors)
}

// ProbeGVisor is Probe of a program that gVisor runs: its kernel is another one than
// the machine's.
func ProbeGVisor() int {
	return tell(probeKernel, probeUncapable, probeProcesses, probeGVisorCalls, probeGVisorWrites)
}

// probeKernel looks for what only gVisor's log says, and for the host.
func probeKernel() error {
	const readAll = 3 // SYSLOG_ACTION_READ_ALL
	log := make([]byte, 8<<10)
	n, err := unix.Klogctl(readAll, log)
	if err != nil || !strings.Contains(string(log[:max(n, 0)]), "Starting gVisor") {
		return fmt.Errorf("the kernel's log is not gVisor's: %v", err)
	}
	for _, p := range []string{"/root", "/home", "/etc/shadow", "/perrin/bundle", "/boot", "/dev/kmsg", "/dev/mem"} {
		if _, err := os.Stat(p); err == nil {
			return fmt.Errorf("reaches %s", p)
		}
	}
	return nil
}

func probeGVisorCalls() error {
	if err := unix.Mount("none", "/tmp", "tmpfs", 0, ""); err == nil {
		return fmt.Errorf("mount is not refused")
	}
	if conn, err := net.Dial("tcp", "169.254.169.254:80"); err == nil {
		conn.Close()
		return fmt.Errorf("has a network")
	}
	return nil
}

func probeGVisorWrites() error {
	if err := os.WriteFile("/out/perrin-probe", []byte("x"), 0o600); err != nil {
		return fmt.Errorf("cannot write its output: %w", err)
	}
	return nil
}

func tell(checks ...func() error) int {
	found := 0
	for _, check := range checks {
		if err := check(); err != nil {
			found = 1
			fmt.Fprintln(os.Stderr, err)
		}
	}
	return found
}

func probeUser() error {
	if os.Getuid() != UID || os.Geteuid() != UID || os.Getgid() != GID {
		return fmt.Errorf("runs as user %d, group %d", os.Getuid(), os.Getgid())
	}
	if err := unix.Setuid(0); err == nil {
		return fmt.Errorf("became user 0")
	}
	return nil
}

func probeCapabilities() error {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":\t")
		switch {
		case strings.HasPrefix(name, "Cap") && strings.Trim(value, "0") != "":
			return fmt.Errorf("has capabilities: %s %s", name, value)
		case name == "NoNewPrivs" && value != "1":
			return fmt.Errorf("no_new_privs is %s", value)
		case name == "Seccomp" && value != "2":
			return fmt.Errorf("seccomp mode is %s", value)
		}
	}
	return nil
}

// probeUncapable is probeCapabilities without the host's filter.
func probeUncapable() error {
	text, err := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":\t")
		if strings.HasPrefix(name, "Cap") && strings.Trim(value, "0") != "" {
			return fmt.Errorf("has capabilities: %s %s", name, value)
		}
	}
	return err
}

func probeFiles() error {
	for _, p := range []string{"/root", "/home", "/etc/shadow", "/var", "/sys", "/boot", "/run", "/proc/sys", "/proc/kcore", "/proc/1/root/usr"} {
		if _, err := os.Stat(p); err == nil {
			return fmt.Errorf("reaches %s", p)
		}
	}
	return nil
}

func probeWrites() error {
	for _, dir := range []string{"/", "/etc", "/dev", "/perrin", "/usr"} {
		name := filepath.Join(dir, "perrin-probe")
		if f, err := os.Create(name); err == nil {
			f.Close()
			return fmt.Errorf("wrote %s", name)
		}
	}
	return nil
}

// SeedFile is a file of the root that ProbeRoot removes, as far as it can see.
const SeedFile = "perrin-seed"

func probeRootWrites() error {
	if err := os.WriteFile("/etc/perrin-probe", []byte("x"), 0o600); err != nil {
		return fmt.Errorf("cannot write in its root: %w", err)
	}
	if err := os.Remove("/" + SeedFile); err != nil {
		return fmt.Errorf("cannot remove a file of its root: %w", err)
	}
	for _, dir := range []string{"/proc", "/dev/fd/"} {
		if f, err := os.Create(filepath.Join(dir, "perrin-probe")); err == nil {
			f.Close()
			return fmt.Errorf("wrote in %s", dir)
		}
	}
	return nil
}

func probeProcesses() error {
	names, err := filepath.Glob("/proc/[0-9]*")
	if err != nil || len(names) > 2 {
		return fmt.Errorf("sees processes %v", names)
	}
	return nil
}

func probeNetwork() error {
	text, err := os.ReadFile("/proc/self/net/dev")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		name, _, found := strings.Cut(strings.TrimSpace(line), ":")
		if found && name != "lo" && !strings.Contains(name, "|") {
			return fmt.Errorf("has network interface %s", name)
		}
	}
	if conn, err := net.Dial("udp", "127.0.0.1:9"); err == nil {
		_, err = conn.Write([]byte("x"))
		conn.Close()
		if err == nil {
			return fmt.Errorf("sent to a loopback address")
		}
	}
	return nil
}

func probeCalls() error {
	tries := map[string]func() error{
		"mount":   func() error { return unix.Mount("none", "/tmp", "tmpfs", 0, "") },
		"unshare": func() error { return unix.Unshare(unix.CLONE_NEWUSER) },
		"ptrace":  func() error { return unix.PtraceAttach(1) },
		"keyctl":  func() error { _, err := unix.KeyctlGetKeyringID(-3, true); return err },
		"vsock":   func() error { _, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0); return err },
		"netlink": func() error { _, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, 0); return err },
		"bpf": func() error {
			if _, _, errno := unix.Syscall(unix.SYS_BPF, 0, 0, 0); errno != unix.EPERM {
				return nil
			}
			return unix.EPERM
		},
	}
	for name, try := range tries {
		if try() == nil {
			return fmt.Errorf("%s is not refused", name)
		}
	}
	return nil
}

func probeDescriptors() error {
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		to, _ := os.Readlink("/proc/self/fd/" + name)
		own := strings.HasPrefix(to, "anon_inode:") || to == fmt.Sprintf("/proc/%d/fd", os.Getpid())
		if name != "0" && name != "1" && name != "2" && !own {
			return fmt.Errorf("inherited descriptor %s, %s", name, to)
		}
	}
	return nil
}
