package consensus

import (
	"fmt"

	"github.com/hashicorp/raft"
)

// snapshots bounds the size of what is stored as a snapshot.
type snapshots struct {
	raft.SnapshotStore
	limit int64
}

// Create starts a snapshot.
func (s *snapshots) Create(version raft.SnapshotVersion, index, term uint64, c raft.Configuration,
	configIndex uint64, trans raft.Transport,
) (raft.SnapshotSink, error) {
	sink, err := s.SnapshotStore.Create(version, index, term, c, configIndex, trans)
	if err != nil {
		return nil, err
	}
	return &boundedSink{SnapshotSink: sink, left: s.limit, limit: s.limit}, nil
}

type boundedSink struct {
	raft.SnapshotSink
	left, limit int64
}

// Write fails with ErrTooLarge once the bound is passed.
func (s *boundedSink) Write(p []byte) (int, error) {
	if s.left -= int64(len(p)); s.left < 0 {
		return 0, fmt.Errorf("snapshot %s: %w: more than %d bytes", s.ID(), ErrTooLarge, s.limit)
	}
	return s.SnapshotSink.Write(p)
}
