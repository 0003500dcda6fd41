package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/dgraph-io/badger/v4"
	"github.com/hashicorp/raft"
)

// Keys of the raft database: 'g' NAME is the number of a group, 'l' NUMBER INDEX
// is a log entry, 'f' NUMBER the index below which entries may be missing, 's'
// NUMBER NAME is a stable value, 'd' KEY a durable fact, 'q' the commit number.
// Numbers and indexes are big-endian, so that they sort.
const (
	keyGroup  = 'g'
	keyLog    = 'l'
	keyFirst  = 'f'
	keyStable = 's'
	keyFact   = 'd'
)

// deleteChunk is how many entries one request deletes, so that compacting one
// group does not hold up the appends of the others.
const deleteChunk = 2048

// Group is the log and the stable values of one Raft group. It implements
// raft.LogStore, raft.MonotonicLogStore and raft.StableStore. The log has no
// holes: an append starts right after the last entry, or replaces it and what
// follows, and a deletion takes a prefix or a suffix.
type Group struct {
	s    *Store
	name string
	id   uint32

	write sync.Mutex // serialises appends and deletions

	mu          sync.RWMutex // guards first and last
	first, last uint64       // 0, 0 when the log is empty
}

var (
	_ raft.LogStore          = (*Group)(nil)
	_ raft.MonotonicLogStore = (*Group)(nil)
	_ raft.StableStore       = (*Group)(nil)
)

// Group returns the group of that name, which is created when it is new. The
// name is 1 to 64 lower-case letters, digits, '-' or '_'.
func (s *Store) Group(name string) (*Group, error) {
	if !validName(name) {
		return nil, fmt.Errorf("group %.80q: want 1 to 64 of a-z, 0-9, - and _", name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	if g := s.groups[name]; g != nil {
		return g, nil
	}
	id, err := s.groupNumber(name)
	if err != nil {
		return nil, fmt.Errorf("group %q: %w", name, err)
	}
	g := &Group{s: s, name: name, id: id}
	if err := g.load(); err != nil {
		return nil, fmt.Errorf("group %q: %w", name, err)
	}
	s.groups[name] = g
	return g, nil
}

func validName(name string) bool {
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return len(name) >= 1 && len(name) <= 64
}

// groupNumber finds or assigns the number of a group.
func (s *Store) groupNumber(name string) (uint32, error) {
	names, err := s.groupNumbers()
	if err != nil {
		return 0, err
	}
	var top uint32
	for n, id := range names {
		if n == name {
			return id, nil
		}
		top = max(top, id)
	}
	id := top + 1
	value := binary.BigEndian.AppendUint32(nil, id)
	return id, s.commit.do(demandSmall, []op{{append([]byte{keyGroup}, name...), value}})
}

func (s *Store) groupNumbers() (map[string]uint32, error) {
	names := map[string]uint32{}
	err := each(s.raft, []byte{keyGroup}, func(key, value []byte) error {
		if len(value) != 4 {
			return fmt.Errorf("%w: number of group %.80q", ErrCorrupt, key)
		}
		names[string(key)] = binary.BigEndian.Uint32(value)
		return nil
	})
	return names, err
}

// Name returns the name of the group.
func (g *Group) Name() string { return g.name }

func (g *Group) prefix(kind byte) []byte {
	return binary.BigEndian.AppendUint32([]byte{kind}, g.id)
}

func (g *Group) logKey(index uint64) []byte {
	return binary.BigEndian.AppendUint64(g.prefix(keyLog), index)
}

// load reads the range of the log. It returns ErrCorrupt when an entry that was
// stored and not deleted is missing at the start or in between; a missing end
// shows in the commit number.
func (g *Group) load() error {
	floor, err := g.floor()
	if err != nil {
		return err
	}
	var first, last, count uint64
	err = eachKey(g.s.raft, g.prefix(keyLog), func(key []byte) error {
		if len(key) != 8 {
			return fmt.Errorf("%w: log key of %d bytes", ErrCorrupt, len(key))
		}
		last = binary.BigEndian.Uint64(key)
		if count == 0 {
			first = last
		}
		count++
		return nil
	})
	if err != nil {
		return err
	}
	if count > 0 && (first > floor || count != last-first+1) {
		return fmt.Errorf("%w: the log has %d entries from %d to %d and should start at %d", ErrCorrupt, count, first, last, floor)
	}
	g.setRange(first, last)
	return nil
}

// floor returns the index at or below which the log must start. The first append
// sets it, so without one there is no log.
func (g *Group) floor() (floor uint64, err error) {
	err = view(g.s.raft, g.prefix(keyFirst), func(v []byte) error {
		if len(v) != 8 {
			return fmt.Errorf("%w: start of the log has %d bytes", ErrCorrupt, len(v))
		}
		floor = binary.BigEndian.Uint64(v)
		return nil
	})
	if errors.Is(err, badger.ErrKeyNotFound) {
		return 0, nil
	}
	return floor, err
}

// raiseFloor is the write that lets entries below index be missing.
func (g *Group) raiseFloor(index uint64) op {
	return op{g.prefix(keyFirst), binary.BigEndian.AppendUint64(nil, index)}
}

func (g *Group) setRange(first, last uint64) {
	if last == 0 || first > last {
		first, last = 0, 0
	}
	g.mu.Lock()
	g.first, g.last = first, last
	g.mu.Unlock()
}

func (g *Group) span() (first, last uint64) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.first, g.last
}

// FirstIndex returns the first index of the log, 0 when it is empty.
func (g *Group) FirstIndex() (uint64, error) {
	first, _ := g.span()
	return first, nil
}

// LastIndex returns the last index of the log, 0 when it is empty.
func (g *Group) LastIndex() (uint64, error) {
	_, last := g.span()
	return last, nil
}

// IsMonotonic tells Raft to empty the log when a snapshot goes beyond it.
func (g *Group) IsMonotonic() bool { return true }

// GetLog reads an entry, or returns raft.ErrLogNotFound.
func (g *Group) GetLog(index uint64, l *raft.Log) error {
	first, last := g.span()
	if index < first || index > last || last == 0 {
		return raft.ErrLogNotFound
	}
	err := view(g.s.raft, g.logKey(index), func(v []byte) error { return decodeEntry(index, v, l) })
	if errors.Is(err, badger.ErrKeyNotFound) {
		return raft.ErrLogNotFound
	}
	return err
}

// StoreLog appends one entry.
func (g *Group) StoreLog(l *raft.Log) error { return g.StoreLogs([]*raft.Log{l}) }

// StoreLogs appends entries with consecutive indexes and returns when they are
// synced. Entries from the first new index on are replaced. On an error a
// prefix may be stored; the log has no hole all the same.
func (g *Group) StoreLogs(logs []*raft.Log) error {
	if len(logs) == 0 {
		return nil
	}
	g.write.Lock()
	defer g.write.Unlock()
	first, last := g.span()
	ops, err := g.appendOps(logs, first, last)
	if err != nil {
		return fmt.Errorf("group %q: append %d entries at %d: %w", g.name, len(logs), logs[0].Index, err)
	}
	if err := g.s.commit.do(demandAppend, ops); err != nil {
		return g.failed(fmt.Errorf("group %q: append %d entries at %d: %w", g.name, len(logs), logs[0].Index, err))
	}
	if first == 0 {
		first = logs[0].Index
	}
	g.setRange(first, logs[len(logs)-1].Index)
	return nil
}

// appendOps deletes from the end what the new entries replace and then writes
// them from the start, so that a crash between two transactions leaves no hole
// and no entry of an older term behind a newer one.
func (g *Group) appendOps(logs []*raft.Log, first, last uint64) ([]op, error) {
	start := logs[0].Index
	if start == 0 || last != 0 && (start > last+1 || start < first) {
		return nil, fmt.Errorf("%w: the log has %d to %d", ErrGap, first, last)
	}
	ops := make([]op, 0, len(logs)+1)
	if last == 0 || start == first {
		ops = append(ops, g.raiseFloor(start))
	}
	for i := last; last != 0 && i >= start; i-- {
		ops = append(ops, op{key: g.logKey(i)})
	}
	for i, l := range logs {
		if l.Index != start+uint64(i) {
			return nil, fmt.Errorf("%w: entry %d follows %d", ErrGap, l.Index, start+uint64(i)-1)
		}
		if n := len(l.Data) + len(l.Extensions); n > g.s.opts.MaxValue {
			return nil, fmt.Errorf("%w: entry %d has %d bytes of at most %d", ErrTooLarge, l.Index, n, g.s.opts.MaxValue)
		}
		ops = append(ops, op{g.logKey(l.Index), encodeEntry(l)})
	}
	return ops, nil
}

// failed reads the range again, since part of a failed write may be stored.
func (g *Group) failed(err error) error {
	if errors.Is(err, ErrClosed) {
		return err
	}
	return errors.Join(err, g.load())
}

// DeleteRange deletes the entries low to high, inclusive, as far as they exist.
// They must be a prefix or a suffix of the log.
func (g *Group) DeleteRange(low, high uint64) error {
	g.write.Lock()
	defer g.write.Unlock()
	first, last := g.span()
	from, to := max(low, first), min(high, last)
	if last == 0 || from > to {
		return nil
	}
	if from > first && to < last {
		return fmt.Errorf("group %q: delete %d to %d of %d to %d: %w", g.name, low, high, first, last, ErrGap)
	}
	for _, ops := range g.deleteOps(from, to, from > first) {
		if err := g.s.commit.do(demandNone, ops); err != nil {
			return g.failed(fmt.Errorf("group %q: delete %d to %d: %w", g.name, from, to, err))
		}
	}
	if from > first {
		g.setRange(first, from-1)
	} else {
		g.setRange(to+1, last)
	}
	return nil
}

// deleteOps deletes a prefix from its start, raising the floor first, and a
// suffix from its end.
func (g *Group) deleteOps(from, to uint64, suffix bool) [][]op {
	var chunks [][]op
	for n := from; n <= to; n += deleteChunk {
		chunk := make([]op, 0, deleteChunk+1)
		if !suffix {
			chunk = append(chunk, g.raiseFloor(min(to, n+deleteChunk-1)+1))
		}
		for i := n; i <= to && i < n+deleteChunk; i++ {
			index := i
			if suffix {
				index = to - (i - from)
			}
			chunk = append(chunk, op{key: g.logKey(index)})
		}
		chunks = append(chunks, chunk)
	}
	return chunks
}

// Set stores a stable value and returns when it is synced.
func (g *Group) Set(key, val []byte) error {
	if val == nil {
		val = []byte{}
	}
	if err := g.s.commit.do(demandSmall, []op{{append(g.prefix(keyStable), key...), val}}); err != nil {
		return fmt.Errorf("group %q: set %.40q: %w", g.name, key, err)
	}
	return nil
}

// Get returns a stable value, nil when there is none.
func (g *Group) Get(key []byte) ([]byte, error) {
	var val []byte
	err := view(g.s.raft, append(g.prefix(keyStable), key...), func(v []byte) error {
		val = append([]byte{}, v...)
		return nil
	})
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, nil
	}
	return val, err
}

// SetUint64 stores a number and returns when it is synced.
func (g *Group) SetUint64(key []byte, val uint64) error {
	return g.Set(key, binary.BigEndian.AppendUint64(nil, val))
}

// GetUint64 returns a number, 0 when there is none.
func (g *Group) GetUint64(key []byte) (uint64, error) {
	v, err := g.Get(key)
	if err != nil || v == nil {
		return 0, err
	}
	if len(v) != 8 {
		return 0, fmt.Errorf("group %q: %w: %.40q has %d bytes, want 8", g.name, ErrCorrupt, key, len(v))
	}
	return binary.BigEndian.Uint64(v), nil
}
