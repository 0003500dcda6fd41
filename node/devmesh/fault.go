package devmesh

import (
	"context"
	"fmt"
	"syscall"
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

// Freeze stops a daemon's process (SIGSTOP): it keeps its sockets and its time
// goes on. What it has started runs on.
func (m *Member) Freeze() error { return m.cmd.Process.Signal(syscall.SIGSTOP) }

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
