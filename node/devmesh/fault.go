package devmesh

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Grow adds a node to a mesh whose first node is up, and returns once the daemon
// is started.
func (m *Mesh) Grow(ctx context.Context) (*Member, error) {
	if len(m.Members) == MaxNodes {
		return nil, fmt.Errorf("a local mesh has at most %d nodes", MaxNodes)
	}
	if err := m.newToken(ctx, 1); err != nil {
		return nil, err
	}
	member := m.add()
	if err := m.join(ctx, member); err != nil {
		return nil, err
	}
	return member, m.launch(member)
}

// Kill ends a daemon with SIGKILL, as a power cut would, and returns when it is
// gone. What it has written stays.
func (m *Member) Kill() {
	_ = m.cmd.Process.Kill() // it may be gone already
	<-m.done
}

// Freeze stops a daemon's process (SIGSTOP) and returns when all of it stands
// still: it keeps its sockets and its time goes on. What it has started runs on.
func (m *Member) Freeze() error {
	if err := m.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	for end := time.Now().Add(stillWithin); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if stopped(m.PID) {
			return nil
		}
	}
	return fmt.Errorf("%s does not stand still %s after SIGSTOP", m.Name, stillWithin)
}

// stillWithin is more than a thread takes to end what it has begun to write.
const stillWithin = 5 * time.Second

// stopped reports whether every thread of a process is stopped or gone.
func stopped(pid int) bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(threads) == 0 {
		return false
	}
	for _, name := range threads {
		stat, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		after := stat[bytes.LastIndexByte(stat, ')')+1:] // the name may hold anything
		if state := bytes.TrimLeft(after, " "); len(state) == 0 || state[0] != 'T' {
			return false
		}
	}
	return true
}

// Thaw lets a frozen daemon go on.
func (m *Member) Thaw() error { return m.cmd.Process.Signal(syscall.SIGCONT) }

// Restart starts a daemon that is gone again, on its folder and its port.
func (m *Mesh) Restart(member *Member) error {
	select {
	case <-member.done:
		return m.launch(member)
	default:
		return fmt.Errorf("%s runs already", member.Name)
	}
}
