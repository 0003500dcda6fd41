package consensus

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// machine applies the log to the caller's FSM. It outlives the instances of the
// library: a new instance replays the log from its snapshot, and machine leaves
// out what the FSM has seen.
type machine struct {
	fsm     FSM
	members *membership
	applied atomic.Uint64 // last command or configuration that the FSM has seen

	// replayed is the last such entry that the running instance has handed over.
	// Owned by the instance's FSM goroutine; reset while there is no instance.
	replayed uint64
}

var _ raft.BatchingFSM = (*machine)(nil)

// Apply applies one entry.
func (m *machine) Apply(l *raft.Log) any {
	m.replayed = l.Index
	if l.Index <= m.applied.Load() {
		return nil
	}
	var result any
	switch l.Type {
	case raft.LogCommand:
		result = m.fsm.Apply(l.Term, l.Index, l.Data)
	case raft.LogConfiguration:
		if c, err := decodeConfiguration(l.Index, l.Data); err == nil {
			m.members.settled(c)
		}
	}
	m.applied.Store(l.Index)
	return result
}

// ApplyBatch applies entries in order.
func (m *machine) ApplyBatch(entries []*raft.Log) []any {
	results := make([]any, len(entries))
	for i, l := range entries {
		results[i] = m.Apply(l)
	}
	return results
}

// Snapshot captures the FSM. It is refused while an instance replays entries
// that the FSM has seen, for the library would file the newer state under the
// older index.
func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	applied := m.applied.Load()
	if m.replayed < applied {
		return nil, fmt.Errorf("replaying the log: at %d of %d", m.replayed, applied)
	}
	state, err := m.fsm.Snapshot()
	if err != nil {
		return nil, err
	}
	m.members.mu.RLock()
	defer m.members.mu.RUnlock()
	return &snapshot{header: snapshotHeader(applied, m.members.committed), state: state}, nil
}

// Restore replaces the state of the FSM, unless that has seen more already.
func (m *machine) Restore(rc io.ReadCloser) error {
	r := bufio.NewReader(rc)
	index, config, err := readSnapshotHeader(r)
	if err != nil {
		return err
	}
	m.replayed = index
	if index <= m.applied.Load() {
		return nil
	}
	if err := m.fsm.Restore(r); err != nil {
		return fmt.Errorf("restore the state of entry %d: %w", index, err)
	}
	m.applied.Store(index)
	m.members.settled(config)
	return nil
}

// snapshot is a captured state on its way to the disk.
type snapshot struct {
	header []byte
	state  io.WriterTo
}

// Persist writes the snapshot and closes or cancels the sink.
func (s *snapshot) Persist(sink raft.SnapshotSink) error {
	_, err := sink.Write(s.header)
	if err == nil {
		_, err = s.state.WriteTo(sink)
	}
	if err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

// Release does nothing: the state is garbage once nobody holds it.
func (s *snapshot) Release() {}

// A snapshot is a header and what the FSM wrote. The header is
//
//	"PRSN" | version 1 | applied uvarint | configuration index uvarint | length uvarint | configuration
const (
	snapshotMagic   = "PRSN"
	snapshotVersion = 1
	maxConfigBytes  = 64 << 10
)

func snapshotHeader(applied uint64, c Configuration) []byte {
	config := encodeConfiguration(c)
	b := append([]byte(snapshotMagic), snapshotVersion)
	b = binary.AppendUvarint(b, applied)
	b = binary.AppendUvarint(b, c.Index)
	b = binary.AppendUvarint(b, uint64(len(config)))
	return append(b, config...)
}

func readSnapshotHeader(r *bufio.Reader) (applied uint64, c Configuration, err error) {
	head := make([]byte, len(snapshotMagic)+1)
	if _, err = io.ReadFull(r, head); err != nil {
		return 0, c, fmt.Errorf("%w: snapshot header: %w", ErrMalformed, err)
	}
	if string(head[:4]) != snapshotMagic || head[4] != snapshotVersion {
		return 0, c, fmt.Errorf("%w: snapshot starts with %q", ErrMalformed, head)
	}
	var n [3]uint64
	for i := range n {
		if n[i], err = binary.ReadUvarint(r); err != nil {
			return 0, c, fmt.Errorf("%w: snapshot header: %w", ErrMalformed, err)
		}
	}
	if n[2] > maxConfigBytes {
		return 0, c, fmt.Errorf("%w: snapshot configuration of %d bytes", ErrMalformed, n[2])
	}
	config := make([]byte, n[2])
	if _, err = io.ReadFull(r, config); err != nil {
		return 0, c, fmt.Errorf("%w: snapshot configuration: %w", ErrMalformed, err)
	}
	c, err = decodeConfiguration(n[1], config)
	return n[0], c, err
}
