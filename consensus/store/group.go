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
// is a log entry, 'r' NUMBER the range of the log, 's' NUMBER NAME is a stable
// value, 'd' KEY a durable fact, 'q' the commit number. Numbers and indexes are
// big-endian, so that they sort.
//
// The range is what counts: entries outside it are the remains of an append or a
// deletion that a crash cut short, and one that is missing inside it is damage.
const (
	keyGroup  = 'g'
	keyLog    = 'l'
	keyRange  = 'r'
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
	g := &Group{id: top + 1}
	return g.id, s.commit.doGroups(+1, demandSmall, []op{
		{append([]byte{keyGroup}, name...), binary.BigEndian.AppendUint32(nil, g.id)}, g.rangeOp(0, 0),
	})
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

// load reads the range of the log and removes entries outside it. It returns
// ErrCorrupt when an entry inside it is missing.
func (g *Group) load() error {
	first, last, err := g.storedRange()
	if err != nil {
		return err
	}
	var inside uint64
	var remains []op
	err = eachKey(g.s.raft, g.prefix(keyLog), func(key []byte) error {
		if len(key) != 8 {
			return fmt.Errorf("%w: log key of %d bytes", ErrCorrupt, len(key))
		}
		if i := binary.BigEndian.Uint64(key); first <= i && i <= last {
			inside++
		} else {
			remains = append(remains, op{key: g.logKey(i)})
		}
		return nil
	})
	if err != nil {
		return err
	}
	if last != 0 && inside != last-first+1 {
		return fmt.Errorf("%w: %d of the log entries %d to %d are gone", ErrCorrupt, last-first+1-inside, first, last)
	}
	g.setRange(first, last)
	return g.remove(remains)
}

func (g *Group) storedRange() (first, last uint64, err error) {
	err = view(g.s.raft, g.prefix(keyRange), func(v []byte) error {
		if len(v) != 16 {
			return fmt.Errorf("%w: range of the log has %d bytes", ErrCorrupt, len(v))
		}
		first, last = binary.BigEndian.Uint64(v), binary.BigEndian.Uint64(v[8:])
		return nil
	})
	if errors.Is(err, badger.ErrKeyNotFound) {
		err = fmt.Errorf("%w: the range of the log is gone", ErrCorrupt)
	}
	return first, last, err
}

// rangeOp is the write that makes the log span first to last.
func (g *Group) rangeOp(first, last uint64) op {
	first, last = normal(first, last)
	v := binary.BigEndian.AppendUint64(nil, first)
	return op{g.prefix(keyRange), binary.BigEndian.AppendUint64(v, last)}
}

// normal returns 0, 0 for an empty range.
func normal(first, last uint64) (uint64, uint64) {
	if last == 0 || first > last {
		return 0, 0
	}
	return first, last
}

// remove deletes in pieces that do not hold up the other groups.
func (g *Group) remove(ops []op) error {
	for len(ops) > 0 {
		n := min(len(ops), deleteChunk)
		if err := g.s.commit.do(demandNone, ops[:n]); err != nil {
			return err
		}
		ops = ops[n:]
	}
	return nil
}

func (g *Group) setRange(first, last uint64) {
	g.mu.Lock()
	g.first, g.last = normal(first, last)
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
// synced. Entries from the first new index on are replaced. On an error none of
// the new entries is in the log, but what they replace may be gone.
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

// appendOps takes what the new entries replace out of the range, writes the
// entries and then the new range, so that a crash between two transactions
// leaves no entry of an older term behind a newer one.
func (g *Group) appendOps(logs []*raft.Log, first, last uint64) ([]op, error) {
	start, end := logs[0].Index, logs[len(logs)-1].Index
	if start == 0 || last != 0 && (start > last+1 || start < first) {
		return nil, fmt.Errorf("%w: the log has %d to %d", ErrGap, first, last)
	}
	ops := make([]op, 0, len(logs)+2)
	if start <= last {
		ops = append(ops, g.rangeOp(first, start-1))
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
	for i := end + 1; i <= last; i++ {
		ops = append(ops, op{key: g.logKey(i)})
	}
	if first == 0 {
		first = start
	}
	return append(ops, g.rangeOp(first, end)), nil
}

// failed reads the range again, since part of a failed write may be stored.
func (g *Group) failed(err error) error {
	if errors.Is(err, ErrClosed) {
		return err
	}
	first, last, err2 := g.storedRange()
	if err2 == nil {
		g.setRange(first, last)
	}
	return errors.Join(err, err2)
}

// DeleteRange deletes the entries low to high, inclusive, as far as they exist.
// They must be a prefix or a suffix of the log. A crash leaves all or none.
func (g *Group) DeleteRange(low, high uint64) error {
	g.write.Lock()
	defer g.write.Unlock()
	first, last := g.span()
	from, to := max(low, first), min(high, last)
	if last == 0 || from > to {
		return nil
	}
	left := g.rangeOp(to+1, last)
	if from > first {
		if to < last {
			return fmt.Errorf("group %q: delete %d to %d of %d to %d: %w", g.name, low, high, first, last, ErrGap)
		}
		left = g.rangeOp(first, from-1)
	}
	ops := []op{left}
	for i := from; i <= to; i++ {
		ops = append(ops, op{key: g.logKey(i)})
	}
	if err := g.remove(ops); err != nil {
		return g.failed(fmt.Errorf("group %q: delete %d to %d: %w", g.name, from, to, err))
	}
	if from > first {
		g.setRange(first, from-1)
	} else {
		g.setRange(to+1, last)
	}
	return nil
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
