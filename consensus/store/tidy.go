package store

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// tidier compacts one database when enough was written to it. Badger's own
// compactors look for work 20 times a second each: in an idle node they were
// most of what woke it up.
type tidier struct {
	db      *badger.DB
	room    func(need int64) error
	log     *slog.Logger
	written atomic.Int64 // bytes since it was last told to look
	wake    chan struct{}
	stop    chan struct{}
	ended   sync.WaitGroup
}

// Badger flushes a table to level 0 for each memtable of writes.
const (
	memTable  = 8 << 20          // bytes
	tidyAfter = 2 * memTable     // bytes written between two looks
	tidyFrom  = 3                // tables at level 0 that are worth a compaction
	tidyRetry = 30 * time.Second // after a compaction that failed, as on a full disk
	// stallAt is how many tables at level 0 make writes wait. A compaction
	// falls behind only when it fails, and what stops writes then is the lack
	// of room, with an error.
	stallAt = 100
	// maxCompaction bounds the free bytes that a compaction waits for: what is
	// deleted, which is most of a log, is not written again.
	maxCompaction = 48 << 20
)

// newTidier watches over db, which has no compactors of its own.
func newTidier(db *badger.DB, room func(need int64) error, log *slog.Logger) *tidier {
	t := &tidier{db: db, room: room, log: log, wake: make(chan struct{}, 1), stop: make(chan struct{})}
	t.wake <- struct{}{} // an earlier process may have left tables
	t.ended.Go(t.run)
	return t
}

// wrote counts bytes that a commit wrote.
func (t *tidier) wrote(n int) {
	if t.written.Add(int64(n)) < tidyAfter {
		return
	}
	t.written.Store(0)
	t.look()
}

func (t *tidier) run() {
	for {
		select {
		case <-t.stop:
			return
		case <-t.wake:
		}
		if t.db.Levels()[0].NumTables < tidyFrom {
			continue
		}
		if err := t.compact(); err != nil {
			t.log.Warn("compaction of the data folder; it is tried again in a while", "error", err)
			time.AfterFunc(tidyRetry, t.look)
		}
	}
}

// compact makes no table that the disk has no room for: Badger writes tables
// through memory maps, and a full disk would end the process.
func (t *tidier) compact() error {
	need := int64(memTable)
	for _, level := range t.db.Levels() {
		need += level.Size
	}
	if err := t.room(min(need, maxCompaction)); err != nil {
		return err
	}
	return t.db.Flatten(1)
}

// look has the goroutine look at the tables.
func (t *tidier) look() {
	select {
	case t.wake <- struct{}{}:
	default: // it is about to look anyway
	}
}

// close waits for a compaction that runs.
func (t *tidier) close() {
	close(t.stop)
	t.ended.Wait()
}
