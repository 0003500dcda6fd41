package inside

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Descriptors of the entry.
const (
	entryConfigFD = 3
	entryErrorFD  = 4
)

// Enter gives up every privilege and becomes the program. It returns only when
// that failed, after telling the init.
func Enter() int {
	// Credentials, Landlock and seccomp belong to a thread: everything up to
	// the execve happens on this one.
	runtime.LockOSThread()
	config, report := os.NewFile(entryConfigFD, "config"), os.NewFile(entryErrorFD, "error")
	if config == nil || report == nil {
		return 2
	}
	var cfg Config
	if err := Read(config, &cfg); err != nil {
		return 2
	}
	err := enter(&cfg)
	runtime.KeepAlive(config) // its number must not be taken before execve
	s := Status{Error: err.Error()}
	if ne := (*noExecError)(nil); errors.As(err, &ne) {
		s = Status{NoExec: ne.path, Errno: int(ne.errno)}
	}
	_ = Write(report, s)
	return 1
}

func enter(cfg *Config) error {
	if err := unix.Chdir(cfg.Dir); err != nil {
		return fmt.Errorf("enter %q: %w", cfg.Dir, err)
	}
	path := cfg.Path
	if cfg.Self {
		path = "/proc/self/exe"
	}
	filter, err := seccompFilter(cfg.Limits.Pinned || len(cfg.Limits.CPUs) == 0)
	if err != nil {
		return err
	}
	ruleset, err := landlockRuleset()
	if err != nil {
		return err
	}
	if err := setLimits(&cfg.Limits); err != nil {
		return err
	}
	if err := arrangeFiles(cfg); err != nil {
		return err
	}
	// From here on the program's own limits hold, so nothing starts a thread.
	if err := joinCgroups(cfg.Cgroups); err != nil {
		return err
	}
	if err := dropPrivileges(); err != nil {
		return err
	}
	if err := landlockEnforce(ruleset); err != nil {
		return err
	}
	if err := seccompEnforce(filter); err != nil {
		return err
	}
	defaultSignals()
	err = syscall.Exec(path, cfg.Args, cfg.Env)
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		return &noExecError{errno: errno, path: path}
	}
	return err
}

// defaultSignals undoes what the daemon ignores, as under nohup, which would
// outlast execve. What this process catches, execve resets.
func defaultSignals() {
	var action [4]uint64                      // the kernel's struct sigaction, all zero: SIG_DFL
	for sig := uintptr(1); sig <= 64; sig++ { // real-time ones too: GNU make ignores 32 and 33
		_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, sig, uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0) // SIGKILL and SIGSTOP cannot be set
	}
}

// joinCgroups moves this process, which the descriptors were opened for, and
// then hides where in the hierarchy it is.
func joinCgroups(fds []int) error {
	for _, fd := range fds {
		if _, err := unix.Write(fd, []byte("0")); err != nil {
			return fmt.Errorf("join a cgroup: %w", err)
		}
	}
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("hide the cgroup: %w", err)
	}
	return nil
}

// setLimits sets what rlimits and affinity can bound.
func setLimits(l *Limits) error {
	limits := []struct {
		which int
		max   int64
	}{
		{unix.RLIMIT_FSIZE, l.FileSize}, {unix.RLIMIT_NOFILE, l.Files}, {unix.RLIMIT_NPROC, l.Procs}, {unix.RLIMIT_DATA, l.Data},
	}
	for _, lim := range limits {
		if lim.max == 0 {
			continue
		}
		if err := setLimit(lim.which, uint64(lim.max)); err != nil {
			return err
		}
	}
	for _, which := range []int{unix.RLIMIT_CORE, unix.RLIMIT_MSGQUEUE, unix.RLIMIT_RTPRIO, unix.RLIMIT_NICE} {
		if err := setLimit(which, 0); err != nil {
			return err
		}
	}
	return setAffinity(l.CPUs)
}

// setLimit lowers one limit for the program, hard and soft.
func setLimit(which int, limit uint64) error {
	var old unix.Rlimit
	if err := unix.Getrlimit(which, &old); err != nil {
		return fmt.Errorf("read limit %d: %w", which, err)
	}
	limit = min(limit, old.Max)
	if err := unix.Setrlimit(which, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
		return fmt.Errorf("set limit %d: %w", which, err)
	}
	return nil
}

func setAffinity(cpus []int) error {
	if len(cpus) == 0 {
		return nil
	}
	var set unix.CPUSet
	for _, c := range cpus {
		set.Set(c)
	}
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("pin to CPUs %v: %w", cpus, err)
	}
	return nil
}

// arrangeFiles leaves the program 0, 1, 2 and what Keep names, as 3, 4, …;
// everything else, the error pipe included, closes at execve.
func arrangeFiles(cfg *Config) error {
	if err := unix.CloseRange(3, ^uint(0)>>1, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("mark descriptors: %w", err)
	}
	if len(cfg.Keep) == 0 {
		return nil
	}
	// The places 3 and 4 are taken; the error pipe must live on elsewhere.
	return keepFiles(cfg)
}

// keepBase is above every descriptor that the entry can hold.
const keepBase = 200

func keepFiles(cfg *Config) error {
	if err := unix.Dup3(entryErrorFD, keepBase, unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("move the error pipe: %w", err)
	}
	for i, fd := range cfg.Cgroups {
		if err := unix.Dup3(fd, keepBase+1+i, unix.O_CLOEXEC); err != nil {
			return fmt.Errorf("move a cgroup: %w", err)
		}
		cfg.Cgroups[i] = keepBase + 1 + i
	}
	for i, fd := range cfg.Keep {
		if fd < 3+i {
			return errors.New("kept descriptors are out of order")
		}
		if fd == 3+i {
			_, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0)
			if err != nil {
				return err
			}
			continue
		}
		if err := unix.Dup3(fd, 3+i, 0); err != nil {
			return fmt.Errorf("place a kept descriptor: %w", err)
		}
	}
	return nil
}
