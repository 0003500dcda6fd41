package watchdog

import (
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A lease that ended while the machine slept ends its sandbox as soon as the
// machine is awake, and the daemon hears how long the sleep was. The sleep shows
// as the distance between the two clocks, which is what is set back here.
func TestALeaseEndsWhileTheMachineSleeps(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	pidfd := -1
	cmd := exec.Command("sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{PidFD: &pidfd}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()

	s := &server{sock: pair[1], timer: -1, table: NewTable(), boxes: map[uint64]*sandbox{}, offset: sleepOffset()}
	s.table.Grant("a", Now()+Instant(time.Hour))
	s.add(Message{Op: OpAdd, Keys: []string{"a"}, ID: 1}, pidfd)
	if m := next(t, s, pair[0]); m.Op != OpAdded {
		t.Fatalf("%+v, want it to be added", m)
	}
	s.step()
	if cmd.Process.Signal(syscall.Signal(0)) != nil {
		t.Fatal("killed before its lease ended")
	}

	const slept = 2 * time.Hour
	s.offset -= Instant(slept)
	for _, e := range s.table.Due(Now() + Instant(slept)) {
		s.kill(e.IDs, ReasonLease)
	}
	state, err := cmd.Process.Wait()
	if err != nil || state.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("ended with %v, %v", state, err)
	}
	m := next(t, s, pair[0])
	if m.Op != OpKilled || m.Reason != ReasonLease || len(m.Keys) != 1 || m.Keys[0] != "a" {
		t.Errorf("%+v, want that a was killed", m)
	}
	if got := time.Duration(m.Suspend); got < slept-time.Second || got > slept+time.Minute {
		t.Errorf("says that the machine slept for %v, want %v", got, slept)
	}
}

// next steps the supervisor until it has something to say.
func next(t *testing.T, s *server, from int) Message {
	t.Helper()
	buf := make([]byte, MaxPacket)
	for end := Now() + Instant(10*time.Second); Now() < end; {
		fds := []unix.PollFd{{Fd: int32(from), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, 10); err == nil && n > 0 {
			m, _, err := Receive(from, buf)
			if err != nil {
				t.Fatal(err)
			}
			return m
		}
		s.step()
	}
	t.Fatal("the supervisor says nothing")
	return Message{}
}
