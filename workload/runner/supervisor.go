package runner

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/perrin-mesh/perrin/workload/runner/watchdog"
	"github.com/perrin-mesh/perrin/workload/shim"
)

// Instant is a point of the boot-time clock in nanoseconds, which goes on
// while the machine is suspended. Leases count from one.
type Instant = watchdog.Instant

// Now reads the boot-time clock.
func Now() Instant { return watchdog.Now() }

// Killed says that the supervisor ended a slot's sandbox, or that the lease of
// a slot that had none at the moment has ended.
type Killed struct {
	Key       string
	Reason    string
	At        Instant
	Suspended time.Duration // how long the machine has slept since the supervisor started
}

// SupervisorConfig is what a daemon says about its supervisor.
type SupervisorConfig struct {
	// Roots are the node's folders of cgroups (sandbox.Host.Roots).
	Roots []string
	// Journal is the absolute path of the file in which the supervisor records
	// what ran when (watchdog.ReadJournal); "" is none.
	Journal string
	// OnKilled is called from one goroutine for everything that the supervisor
	// ended. It must not block for long and may be nil.
	OnKilled func(Killed)
	Logger   *slog.Logger
}

// Supervisor is the daemon's side of one small process apart from the daemon.
// That process kills every sandbox of a slot when the slot's lease ends, also
// while the daemon is stopped and as soon as a suspended machine wakes, and
// kills them all when the daemon dies. If the supervisor itself dies, this side
// kills all sandboxes, and nothing starts any more. Its methods are safe for
// concurrent use.
type Supervisor struct {
	cmd  *exec.Cmd
	sock *os.File
	cfg  SupervisorConfig
	done chan struct{}

	mu      sync.Mutex
	lastID  uint64
	waiting map[uint64]chan bool // Add's answers
	procs   map[uint64]int       // duplicated pidfds of what is watched
	closed  bool
}

// StartSupervisor starts the process.
func StartSupervisor(cfg SupervisorConfig) (*Supervisor, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("supervisor: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "supervisor")
	defer theirs.Close()
	s := &Supervisor{sock: os.NewFile(uintptr(fds[0]), "supervisor"), cfg: cfg, done: make(chan struct{}),
		waiting: map[uint64]chan bool{}, procs: map[uint64]int{}}
	s.cmd, err = shim.Command(watchdog.Role, append([]string{cfg.Journal}, cfg.Roots...)...)
	if err != nil {
		s.sock.Close()
		return nil, fmt.Errorf("supervisor: %w", err)
	}
	s.cmd.ExtraFiles, s.cmd.Dir = []*os.File{theirs}, "/"
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a terminal's Ctrl-C is for the daemon
	if err := s.cmd.Start(); err != nil {
		s.sock.Close()
		return nil, fmt.Errorf("supervisor: %w", err)
	}
	go s.listen(fds[0])
	return s, nil
}

// Done is closed when the supervisor process is gone.
func (s *Supervisor) Done() <-chan struct{} { return s.done }

// Pid is the supervisor's process ID.
func (s *Supervisor) Pid() int { return s.cmd.Process.Pid }

// Grant lets the sandboxes of the slots live until since plus ttl. It opens a
// slot's lease or moves its end forward, never back. Count since from before
// the message that asked for the lease was sent.
func (s *Supervisor) Grant(since Instant, ttl time.Duration, keys ...string) error {
	for len(keys) > 0 {
		n := min(len(keys), watchdog.MaxKeys)
		err := s.send(-1, watchdog.Message{Op: watchdog.OpGrant, Keys: keys[:n], Deadline: since + Instant(ttl)})
		if err != nil {
			return fmt.Errorf("supervisor: grant: %w", err)
		}
		keys = keys[n:]
	}
	return nil
}

// Forget ends the slot's lease: what still runs in it is killed.
func (s *Supervisor) Forget(key string) error {
	if err := s.send(-1, watchdog.Message{Op: watchdog.OpForget, Keys: []string{key}}); err != nil {
		return fmt.Errorf("supervisor: forget %q: %w", key, err)
	}
	return nil
}

// Slot returns the Guard of the slot's sandboxes, for runner.Slot.Guard. Its
// lease must have been granted before an attempt starts.
func (s *Supervisor) Slot(key string) Guard { return slotGuard{s, key} }

type slotGuard struct {
	s   *Supervisor
	key string
}

// Guard puts p under the slot's lease, and returns ErrLeaseEnded when it has
// none or it has ended.
func (g slotGuard) Guard(p Proc) (release func(), err error) {
	s := g.s
	id, answer, err := s.expect(p)
	if err != nil {
		return nil, fmt.Errorf("supervisor: watch %q: %w", g.key, err)
	}
	err = s.send(int(p.Pidfd.Fd()), watchdog.Message{Op: watchdog.OpAdd, Keys: []string{g.key}, ID: id, Cgroups: p.Cgroups})
	added := false
	if err == nil {
		select {
		case added = <-answer:
		case <-s.done:
			err = ErrClosed
		}
	}
	if err == nil && !added {
		err = ErrLeaseEnded
	}
	if err != nil {
		s.drop(id)
		return nil, fmt.Errorf("supervisor: watch %q: %w", g.key, err)
	}
	return func() {
		s.drop(id)
		_ = s.send(-1, watchdog.Message{Op: watchdog.OpDrop, Keys: []string{g.key}, ID: id, AtNs: Now()}) // it is gone otherwise
	}, nil
}

// expect numbers a sandbox and keeps a handle to kill it with should the
// supervisor die.
func (s *Supervisor) expect(p Proc) (uint64, chan bool, error) {
	fd, err := unix.FcntlInt(p.Pidfd.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return 0, nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		unix.Close(fd)
		return 0, nil, ErrClosed
	}
	s.lastID++
	answer := make(chan bool, 1)
	s.waiting[s.lastID], s.procs[s.lastID] = answer, fd
	return s.lastID, answer, nil
}

func (s *Supervisor) drop(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waiting, id)
	if fd, ok := s.procs[id]; ok {
		unix.Close(fd)
		delete(s.procs, id)
	}
}

func (s *Supervisor) send(pidfd int, m watchdog.Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	return watchdog.Send(int(s.sock.Fd()), pidfd, m, 0)
}

// listen reads answers until the supervisor is gone.
func (s *Supervisor) listen(sock int) {
	buf := make([]byte, watchdog.MaxPacket)
	for {
		m, _, err := watchdog.Receive(sock, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			break
		}
		s.heard(m)
	}
	s.end()
}

func (s *Supervisor) heard(m watchdog.Message) {
	switch m.Op {
	case watchdog.OpAdded, watchdog.OpRefused:
		s.mu.Lock()
		answer := s.waiting[m.ID]
		delete(s.waiting, m.ID)
		s.mu.Unlock()
		if answer != nil {
			answer <- m.Op == watchdog.OpAdded
		}
	case watchdog.OpKilled:
		for _, key := range m.Keys {
			s.cfg.Logger.Info("supervisor ended a slot", "slot", key, "reason", m.Reason)
			if s.cfg.OnKilled != nil {
				s.cfg.OnKilled(Killed{Key: key, Reason: m.Reason, At: m.AtNs, Suspended: time.Duration(m.Suspend)})
			}
		}
	}
}

// end cleans up after the supervisor: without it nothing may run.
func (s *Supervisor) end() {
	s.mu.Lock()
	unasked := !s.closed
	s.closed = true
	for id, fd := range s.procs {
		_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) // it may be gone already
		unix.Close(fd)
		delete(s.procs, id)
	}
	s.mu.Unlock()
	err := s.cmd.Wait()
	if unasked {
		s.cfg.Logger.Error("the supervisor died; every sandbox was killed", "error", err)
	}
	s.sock.Close()
	close(s.done)
}

// Close ends the supervisor, which kills whatever it still watches, and waits
// for it.
func (s *Supervisor) Close() error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	if first {
		_ = unix.Shutdown(int(s.sock.Fd()), unix.SHUT_RDWR) // the other side sees the end
	}
	s.mu.Unlock()
	<-s.done
	return nil
}
