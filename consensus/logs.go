package consensus

import (
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/raft"
)

// cachedEntries is how many of the latest entries are kept in memory, so that
// replication does not read the disk. It is one full batch.
const cachedEntries = 512

// logs is the log store that the library sees: it keeps the latest entries in
// memory, follows the configurations in them, and refuses entries on which the
// library would panic.
type logs struct {
	raft.LogStore
	members *membership
	snaps   raft.SnapshotStore

	mu    sync.RWMutex
	cache [cachedEntries]*raft.Log
}

var _ raft.MonotonicLogStore = (*logs)(nil)

// IsMonotonic is that of the store below.
func (l *logs) IsMonotonic() bool {
	m, ok := l.LogStore.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}

// GetLog reads an entry from memory or the store.
func (l *logs) GetLog(index uint64, out *raft.Log) error {
	l.mu.RLock()
	cached := l.cache[index%cachedEntries]
	l.mu.RUnlock()
	if cached != nil && cached.Index == index {
		*out = *cached
		return nil
	}
	return l.LogStore.GetLog(index, out)
}

// StoreLog appends one entry.
func (l *logs) StoreLog(entry *raft.Log) error { return l.StoreLogs([]*raft.Log{entry}) }

// StoreLogs appends entries that were checked.
func (l *logs) StoreLogs(entries []*raft.Log) error {
	var configs []Configuration
	for _, e := range entries {
		c, err := checkEntry(e)
		if err != nil {
			return err
		}
		if c.Index != 0 {
			configs = append(configs, c)
		}
	}
	if err := l.closeGap(entries); err != nil {
		return err
	}
	if err := l.LogStore.StoreLogs(entries); err != nil {
		l.forget()
		return err
	}
	l.remember(entries)
	for _, c := range configs {
		l.members.appended(c)
	}
	return nil
}

// checkEntry returns the configuration in e, if e is one.
func checkEntry(e *raft.Log) (Configuration, error) {
	switch e.Type {
	case raft.LogCommand, raft.LogNoop, raft.LogBarrier:
		return Configuration{}, nil
	case raft.LogConfiguration:
		return decodeConfiguration(e.Index, e.Data)
	}
	return Configuration{}, fmt.Errorf("%w: entry %d has type %d", ErrMalformed, e.Index, e.Type)
}

// closeGap empties the log when a snapshot covers it and everything up to the
// first new entry. The library does so itself after it installed the snapshot,
// but not when it crashed in between.
func (l *logs) closeGap(entries []*raft.Log) error {
	last, err := l.LastIndex()
	if err != nil || len(entries) == 0 || last == 0 || entries[0].Index <= last+1 {
		return err
	}
	newest, err := newestSnapshot(l.snaps)
	if err != nil || newest+1 < entries[0].Index {
		return errors.Join(err, fmt.Errorf("entry %d does not follow entry %d or snapshot %d", entries[0].Index, last, newest))
	}
	return l.clear()
}

// clear deletes every entry.
func (l *logs) clear() error {
	first, err1 := l.FirstIndex()
	last, err2 := l.LastIndex()
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	l.forget()
	return l.LogStore.DeleteRange(first, last)
}

// DeleteRange deletes the entries low to high.
func (l *logs) DeleteRange(low, high uint64) error {
	l.mu.Lock()
	for i, e := range l.cache {
		if e != nil && low <= e.Index && e.Index <= high {
			l.cache[i] = nil
		}
	}
	l.mu.Unlock()
	err := l.LogStore.DeleteRange(low, high)
	if err == nil {
		l.members.deleted(low, high)
	}
	return err
}

func (l *logs) remember(entries []*raft.Log) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range entries {
		l.cache[e.Index%cachedEntries] = e
	}
}

func (l *logs) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.cache[:])
}

// prime makes the log fit the newest snapshot and reads its configurations, the
// way the library does when it opens.
func (l *logs) prime() error {
	newest, err := newestSnapshot(l.snaps)
	if err != nil {
		return err
	}
	last, err := l.LastIndex()
	if err != nil {
		return err
	}
	if last != 0 && last < newest {
		return l.clear()
	}
	first, err := l.FirstIndex()
	if err != nil {
		return err
	}
	for i := max(first, newest+1); i <= last && last != 0; i++ {
		var e raft.Log
		if err := l.GetLog(i, &e); err != nil {
			return fmt.Errorf("read entry %d: %w", i, err)
		}
		c, err := checkEntry(&e)
		if err != nil {
			return err
		}
		if c.Index != 0 {
			l.members.appended(c)
		}
	}
	return nil
}

// newestSnapshot returns the index of the newest snapshot, 0 without one.
func newestSnapshot(snaps raft.SnapshotStore) (uint64, error) {
	metas, err := snaps.List()
	if err != nil {
		return 0, fmt.Errorf("list snapshots: %w", err)
	}
	if len(metas) == 0 {
		return 0, nil
	}
	return metas[0].Index, nil
}
