package watchdog

import (
	"errors"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/perrin-mesh/perrin/workload/sandbox/cgroup"
)

// Why a sandbox was killed.
const (
	ReasonLease  = "lease ended"
	ReasonForget = "forgotten"
	ReasonDaemon = "daemon gone"
)

// sandbox is one that is watched or dying.
type sandbox struct {
	key     string
	pidfd   int
	cgroups []string
	reason  string // why it dies, "" while it may live
}

// server is the supervisor process. One goroutine owns it.
type server struct {
	sock    int
	timer   int // timerfd of the boot-time clock
	table   *Table
	boxes   map[uint64]*sandbox
	pending []Message // that did not fit into the socket yet
	offset  Instant   // boot time minus monotonic time: how long the machine slept
	slept   int64     // nanoseconds, since the last report
	journal *journal
}

// How often the supervisor looks at what dies and at the clocks.
const (
	dyingEvery = 10 * time.Millisecond
	clockEvery = time.Second
	lastFor    = 10 * time.Second // for the dying once the daemon is gone
)

// Serve watches until the daemon is gone, kills what is left then, removes its
// cgroups and the node's empty folders, and returns the exit code. args are the
// path of the journal, "" for none, and the node's folders of cgroups.
func Serve(args []string) int {
	if len(args) == 0 {
		return 2
	}
	path, roots := args[0], args[1:]
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	timer, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return 1
	}
	unix.CloseOnExec(SocketFD)
	s := &server{sock: SocketFD, timer: timer, table: NewTable(), boxes: map[uint64]*sandbox{}, offset: sleepOffset()}
	s.journal = openJournal(path, Now())
	s.journal.write(Record{Op: RecordBegin, At: Now()})
	buf := make([]byte, MaxPacket)
	for s.wait() && s.receive(buf) {
		s.step()
	}
	s.finish()
	for _, dir := range roots {
		_ = unix.Rmdir(dir) // stays when a new daemon uses it already
	}
	return 0
}

func sleepOffset() Instant { return Now() - clock(unix.CLOCK_MONOTONIC) }

// wait sleeps until there may be something to do.
func (s *server) wait() bool {
	s.arm()
	fds := []unix.PollFd{{Fd: int32(s.sock), Events: unix.POLLIN}, {Fd: int32(s.timer), Events: unix.POLLIN}}
	if len(s.pending) > 0 {
		fds[0].Events |= unix.POLLOUT
	}
	every := clockEvery
	if s.dying() {
		every = dyingEvery
	}
	_, err := unix.Poll(fds, int(every.Milliseconds()))
	return err == nil || errors.Is(err, unix.EINTR)
}

// arm sets the timer to the next deadline. It counts through a suspend and
// fires at once when the machine wakes after it.
func (s *server) arm() {
	var spec unix.ItimerSpec
	if next, ok := s.table.Next(); ok {
		spec.Value = unix.NsecToTimespec(int64(max(next, 1)))
	}
	_ = unix.TimerfdSettime(s.timer, unix.TFD_TIMER_ABSTIME, &spec, nil) // the clock tick is the fallback
}

func (s *server) dying() bool {
	for _, b := range s.boxes {
		if b.reason != "" {
			return true
		}
	}
	return false
}

// receive takes every message there is and reports false when the daemon is gone.
func (s *server) receive(buf []byte) bool {
	for {
		fds := []unix.PollFd{{Fd: int32(s.sock), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, 0); err != nil || n == 0 {
			return true
		}
		m, pidfd, err := Receive(s.sock, buf)
		if err != nil {
			return false // closed, or a daemon that talks nonsense: kill, to be safe
		}
		s.handle(m, pidfd)
	}
}

func (s *server) handle(m Message, pidfd int) {
	if m.Op != OpAdd && pidfd >= 0 {
		unix.Close(pidfd)
	}
	switch m.Op {
	case OpGrant:
		for _, key := range m.Keys {
			s.table.Grant(key, m.Deadline)
		}
	case OpAdd:
		s.add(m, pidfd)
	case OpDrop:
		for _, key := range m.Keys {
			s.table.Drop(key, m.ID)
		}
		if b := s.boxes[m.ID]; b != nil && b.reason == "" {
			s.journal.write(Record{Op: RecordEnd, At: m.AtNs, Key: b.key, ID: m.ID, Alive: !b.exited()})
			s.remove(m.ID)
		}
	case OpForget:
		for _, key := range m.Keys {
			s.kill(s.table.Forget(key), ReasonForget)
		}
	}
}

func (s *server) add(m Message, pidfd int) {
	if pidfd < 0 {
		return
	}
	if len(m.Keys) != 1 || s.boxes[m.ID] != nil || !s.table.Add(m.Keys[0], m.ID, Now()) {
		unix.Close(pidfd)
		s.send(Message{Op: OpRefused, ID: m.ID, Keys: m.Keys})
		return
	}
	s.boxes[m.ID] = &sandbox{key: m.Keys[0], pidfd: pidfd, cgroups: m.Cgroups}
	s.journal.write(Record{Op: RecordStart, At: Now(), Key: m.Keys[0], ID: m.ID})
	s.send(Message{Op: OpAdded, ID: m.ID, Keys: m.Keys})
}

// step kills what is due and looks after what dies.
func (s *server) step() {
	if now := sleepOffset(); now-s.offset > Instant(50*time.Millisecond) {
		s.slept += int64(now - s.offset)
		s.offset = now
	}
	for _, e := range s.table.Due(Now()) {
		s.kill(e.IDs, ReasonLease)
		if len(e.IDs) == 0 {
			s.send(Message{Op: OpKilled, Keys: []string{e.Key}, Reason: ReasonLease, AtNs: Now(), Suspend: s.slept})
		}
	}
	s.reap()
	s.flush()
}

func (s *server) kill(ids []uint64, reason string) {
	for _, id := range ids {
		if b := s.boxes[id]; b != nil && b.reason == "" {
			b.reason = reason
			b.strike()
		}
	}
}

// strike sends SIGKILL to all of the sandbox: to its init, which takes its pid
// namespace along, and to its cgroups.
func (b *sandbox) strike() {
	_ = unix.PidfdSendSignal(b.pidfd, unix.SIGKILL, nil, 0) // it may be gone already
	for _, dir := range b.cgroups {
		cgroup.Kill(dir)
	}
}

// gone reports whether nothing of the sandbox is left.
func (b *sandbox) gone() bool {
	if !b.exited() {
		return false
	}
	for _, dir := range b.cgroups {
		if pids, err := cgroup.Pids(dir); err == nil && len(pids) > 0 {
			return false
		}
	}
	return true
}

// exited reports whether the init is dead, and with it all of its pid namespace.
func (b *sandbox) exited() bool {
	fds := []unix.PollFd{{Fd: int32(b.pidfd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0
}

// reap reports the dead and strikes again at those that are not.
func (s *server) reap() {
	for id, b := range s.boxes {
		if b.reason == "" {
			continue
		}
		if !b.gone() {
			b.strike()
			continue
		}
		s.journal.write(Record{Op: RecordEnd, At: Now(), Key: b.key, ID: id, Why: b.reason})
		s.send(Message{Op: OpKilled, ID: id, Keys: []string{b.key}, Reason: b.reason, AtNs: Now(), Suspend: s.slept})
		s.remove(id)
	}
}

func (s *server) remove(id uint64) {
	unix.Close(s.boxes[id].pidfd)
	delete(s.boxes, id)
}

// send never waits: the daemon may be stopped, and killing comes first.
func (s *server) send(m Message) {
	s.pending = append(s.pending, m)
	s.flush()
}

func (s *server) flush() {
	for len(s.pending) > 0 {
		if err := Send(s.sock, -1, s.pending[0], unix.MSG_DONTWAIT); err != nil {
			return // full, or gone, which receive will see
		}
		s.pending = s.pending[1:]
	}
}

// finish kills everything at once and removes the cgroups.
func (s *server) finish() {
	for _, b := range s.boxes {
		if b.reason == "" {
			b.reason = ReasonDaemon
		}
		b.strike()
	}
	for end := time.Now().Add(lastFor); len(s.boxes) > 0 && time.Now().Before(end); time.Sleep(dyingEvery) {
		for id, b := range s.boxes {
			if !b.gone() {
				b.strike()
				continue
			}
			s.journal.write(Record{Op: RecordEnd, At: Now(), Key: b.key, ID: id, Why: b.reason})
			for _, dir := range b.cgroups {
				_ = cgroup.Remove(dir) // the next daemon's sweep takes what stays
			}
			s.remove(id)
		}
	}
	if len(s.boxes) == 0 {
		s.journal.write(Record{Op: RecordClose, At: Now()})
	}
}
