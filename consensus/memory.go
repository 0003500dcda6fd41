package consensus

import (
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// Memory is a Storage that forgets everything when the process ends. It is for
// simulations and tests.
type Memory struct {
	*raft.InmemStore
	snaps *raft.InmemSnapshotStore
}

// NewMemory returns an empty Memory.
func NewMemory() *Memory {
	return &Memory{InmemStore: raft.NewInmemStore(), snaps: raft.NewInmemSnapshotStore()}
}

// Snapshots returns the snapshots, of which only the latest is kept.
func (m *Memory) Snapshots(hclog.Logger) (raft.SnapshotStore, error) { return m.snaps, nil }
