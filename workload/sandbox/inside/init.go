package inside

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Init is the init's whole life. It returns the exit code of the shim, which
// nobody reads: how the program ended goes out on StatusFD.
func Init() int {
	control, status := os.NewFile(ControlFD, "control"), os.NewFile(StatusFD, "status")
	if control == nil || status == nil || os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "the sandbox role is started by a Perrin node, not by hand")
		return 2
	}
	terms := make(chan os.Signal, 1)
	signal.Notify(terms, syscall.SIGTERM)
	// Caught and dropped, not ignored: the program would inherit that.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE, syscall.SIGUSR1, syscall.SIGUSR2)
	var cfg Config
	if err := Read(control, &cfg); err != nil {
		return 2 // the daemon is gone or changed its mind
	}
	child, err := start(&cfg)
	if err != nil {
		reportFailure(status, err)
		return 1
	}
	go func() { // nothing else is ever sent
		_, _ = io.Copy(io.Discard, control)
		os.Exit(1)
	}()
	if err := Write(status, Status{Started: true}); err != nil {
		return 1
	}
	if err := Write(status, supervise(child, cfg.Limits.Resident, terms)); err != nil {
		return 1
	}
	return 0
}

func reportFailure(status io.Writer, err error) {
	s := Status{Error: err.Error()}
	if ne := (*noExecError)(nil); errors.As(err, &ne) {
		s = Status{NoExec: ne.Error(), Errno: int(ne.errno)}
	}
	_ = Write(status, s) // the daemon sees the end of the pipe anyway
}

// start builds the sandbox and starts the program. When it returns nil, the
// program has been executed.
func start(cfg *Config) (pid int, err error) {
	// The daemon's own program image and memory stay out of the program's reach
	// even where it runs as the same user.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("set undumpable: %w", err)
	}
	if err := unix.Sethostname([]byte(hostname)); err != nil {
		return 0, fmt.Errorf("set host name: %w", err)
	}
	unix.Umask(0o022)
	if err := buildView(cfg); err != nil {
		return 0, err
	}
	return startEntry(cfg)
}

// startEntry starts the entry and waits until it has become the program.
func startEntry(cfg *Config) (pid int, err error) {
	configR, configW, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer configW.Close()
	errR, errW, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer errR.Close()
	files := []uintptr{0, 1, 2, configR.Fd(), errW.Fd()}
	for _, fd := range append(append([]int(nil), cfg.Cgroups...), cfg.Keep...) {
		files = append(files, uintptr(fd))
	}
	pid, err = syscall.ForkExec("/proc/self/exe", []string{ShimName, RoleEnter},
		&syscall.ProcAttr{Files: files, Sys: &syscall.SysProcAttr{Setsid: true}})
	configR.Close()
	errW.Close()
	closeAll(cfg)
	if err != nil {
		return 0, fmt.Errorf("start the entry: %w", err)
	}
	if err := Write(configW, entryConfig(cfg)); err != nil {
		return 0, fmt.Errorf("tell the entry: %w", err)
	}
	return pid, readEntryError(errR)
}

// ShimName is argv[0] of the shim.
const ShimName = "perrin-shim"

// entryConfig is cfg with the descriptors as the entry sees them.
func entryConfig(cfg *Config) *Config {
	c := *cfg
	c.Mounts, c.Cgroups, c.Keep = nil, nil, nil
	next := FirstFD
	for range cfg.Cgroups {
		c.Cgroups = append(c.Cgroups, next)
		next++
	}
	for range cfg.Keep {
		c.Keep = append(c.Keep, next)
		next++
	}
	return &c
}

// closeAll closes what only the entry and the program may hold, the program's
// streams included.
func closeAll(cfg *Config) {
	for _, fd := range append(append([]int(nil), cfg.Cgroups...), cfg.Keep...) {
		unix.Close(fd)
	}
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return // the streams stay open until the init ends, which is harmless
	}
	for fd := range 3 {
		_ = unix.Dup3(null, fd, 0)
	}
}

// noExecError is the program's own fault.
type noExecError struct {
	errno syscall.Errno
	path  string
}

func (e *noExecError) Error() string {
	return fmt.Sprintf("cannot execute %.200q: %s", e.path, e.errno)
}

// readEntryError waits for the entry to execute the program, which closes the
// pipe, or to say why it could not.
func readEntryError(r io.Reader) error {
	var s Status
	err := Read(r, &s)
	switch {
	case err == io.EOF:
		return nil
	case err != nil:
		return fmt.Errorf("the entry broke off: %w", err)
	case s.NoExec != "":
		return &noExecError{errno: syscall.Errno(s.Errno), path: s.NoExec}
	}
	return errors.New(s.Error)
}

// supervise reaps until the program has ended. What comes from terms is passed
// on to it as SIGTERM.
func supervise(child int, resident int64, terms <-chan os.Signal) Status {
	go func() {
		for range terms {
			_ = unix.Kill(child, unix.SIGTERM)
		}
	}()
	over := make(chan struct{}, 1)
	if resident > 0 {
		go watchResident(resident, over)
	}
	for {
		var ws syscall.WaitStatus
		var ru syscall.Rusage
		pid, err := syscall.Wait4(-1, &ws, 0, &ru)
		if err == syscall.EINTR || pid != child && err == nil {
			continue
		}
		if err != nil {
			return Status{Error: "wait for the program: " + err.Error()}
		}
		return endedStatus(ws, ru, len(over) > 0)
	}
}

func endedStatus(ws syscall.WaitStatus, ru syscall.Rusage, resident bool) Status {
	s := Status{Ended: true, Resident: resident, MaxRSS: ru.Maxrss * 1024,
		CPUMs: (ru.Utime.Nano() + ru.Stime.Nano()) / int64(time.Millisecond)}
	if ws.Signaled() {
		s.Signal = int(ws.Signal())
	} else {
		s.Code = ws.ExitStatus()
	}
	return s
}

// residentEvery is how often memory is measured where no cgroup can limit it.
const residentEvery = 20 * time.Millisecond

// watchResident kills everything inside as soon as all of it together holds
// more than limit bytes, and says so in over.
func watchResident(limit int64, over chan<- struct{}) {
	for range time.Tick(residentEvery) {
		if residentBytes() > limit {
			over <- struct{}{}
			_ = unix.Kill(-1, unix.SIGKILL)
			return
		}
	}
}

// residentBytes sums the resident memory of every process inside but the init.
func residentBytes() int64 {
	names, _ := filepath.Glob("/proc/[0-9]*/statm")
	var sum int64
	for _, name := range names {
		if name == "/proc/1/statm" {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		if f := strings.Fields(string(text)); len(f) > 2 {
			pages, _ := strconv.ParseInt(f[1], 10, 64)
			shared, _ := strconv.ParseInt(f[2], 10, 64)
			sum += (pages - shared) * int64(os.Getpagesize())
		}
	}
	return sum
}
