package store

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/dgraph-io/badger/v4"
)

var (
	// ErrInUse is returned when another process has the folder open.
	ErrInUse = errors.New("data folder is in use by another process")
	// ErrReadOnly is returned when the folder cannot be written to.
	ErrReadOnly = errors.New("data folder cannot be written to")
	// ErrCorrupt is returned when the folder is damaged: a file does not
	// decode, or writes that were acknowledged are missing.
	ErrCorrupt = errors.New("data folder is damaged")
	// ErrFormat is returned when the folder was written by a newer version.
	ErrFormat = errors.New("data folder has a newer format")
	// ErrOldFormat is returned when the folder was written by an older version,
	// by whose rules this one does not apply a log.
	ErrOldFormat = errors.New("data folder has an older format")
	// ErrNoSpace is returned when a write is refused because the disk has less
	// than Options.Reserve bytes free. Nothing of that write is stored.
	ErrNoSpace = errors.New("not enough free disk space")
	// ErrBroken is returned for every write after the disk failed one in a way
	// that leaves its outcome open. Only opening the folder again clears it.
	ErrBroken = errors.New("data folder failed a write")
	// ErrClosed is returned when the store is closed.
	ErrClosed = errors.New("store is closed")
	// ErrGap is returned when a log write would leave a hole between entries.
	ErrGap = errors.New("log write leaves a gap")
	// ErrTooLarge is returned when a value is over its bound.
	ErrTooLarge = errors.New("value is too large")
)

// Options tunes a Store. Start from Default.
type Options struct {
	// Reserve is the free disk space in bytes below which appends are refused.
	// It has to cover what Badger writes on its own: two write-ahead logs, two
	// flushes and one compaction, about 72 MiB. Smaller values risk the process.
	Reserve int64
	// MaxValue bounds one log entry or one value, in bytes, up to 16 MiB. Badger
	// puts values of 1 MiB and more into files that it does not give back while
	// the database is small: below that, what is deleted leaves the disk.
	MaxValue int
	// Retain is how many snapshots are kept for each group.
	Retain int
	// Free returns the bytes that an unprivileged write to dir may still take.
	// Nil asks the file system.
	Free func(dir string) (int64, error)
}

// Default returns the options that a node uses.
func Default() Options {
	return Options{Reserve: 96 << 20, MaxValue: 1<<20 - 64, Retain: 2}
}

// Validate reports the first option that cannot work.
func (o Options) Validate() error {
	switch {
	case o.Reserve < 0:
		return fmt.Errorf("store: reserve %d: want 0 or more bytes", o.Reserve)
	case o.MaxValue < 1 || o.MaxValue > 16<<20:
		return fmt.Errorf("store: max value %d: want 1 to %d bytes", o.MaxValue, 16<<20)
	case o.Retain < 1:
		return fmt.Errorf("store: retain %d: want at least 1 snapshot", o.Retain)
	}
	return nil
}

// Store is an open data folder. Its methods may be called concurrently.
type Store struct {
	dir    string
	opts   Options
	log    *slog.Logger
	lock   *os.File
	raft   *badger.DB
	node   *badger.DB
	commit *committer
	tidy   []*tidier // of raft and of node

	mu     sync.Mutex // guards what follows
	groups map[string]*Group
	closed bool
}

// Open opens the data folder dir and creates it when it is missing. The error
// wraps ErrInUse, ErrReadOnly, ErrCorrupt, ErrFormat, ErrOldFormat or ErrNoSpace
// where one of them is the reason. A damaged node/ database holds only caches: it is emptied
// with a warning.
func Open(dir string, opts Options, log *slog.Logger) (*Store, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if opts.Free == nil {
		opts.Free = freeBytes
	}
	s := &Store{dir: dir, opts: opts, log: log.With("component", "store"), groups: map[string]*Group{}}
	if err := s.open(); err != nil {
		s.release()
		return nil, fmt.Errorf("open data folder %q: %w", dir, err)
	}
	return s, nil
}

func (s *Store) open() error {
	if err := s.claim(); err != nil {
		return err
	}
	if err := s.checkFormat(); err != nil {
		return err
	}
	if err := s.room(s.opts.Reserve); err != nil {
		return err
	}
	var err error
	if s.raft, err = openBadger(s.path("raft"), true, s.log); err != nil {
		return fmt.Errorf("raft database: %w", err)
	}
	if s.node, err = s.openNode(); err != nil {
		return fmt.Errorf("node database: %w", err)
	}
	s.tidy = []*tidier{newTidier(s.raft, s.room, s.log), newTidier(s.node, s.room, s.log)}
	s.commit, err = newCommitter(s)
	return err
}

func (s *Store) openNode() (*badger.DB, error) {
	db, err := openBadger(s.path("node"), false, s.log)
	if !errors.Is(err, ErrCorrupt) {
		return db, err
	}
	s.log.Warn("the cache is damaged and starts empty", "error", err)
	if err := os.RemoveAll(s.path("node")); err != nil {
		return nil, err
	}
	return openBadger(s.path("node"), false, s.log)
}

func (s *Store) path(name string) string { return filepath.Join(s.dir, name) }

// Close commits what waits, closes both databases and gives the folder free.
// Later calls on the store fail with ErrClosed. Closing twice does nothing.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	return s.release()
}

// release frees in the reverse order of open whatever open got to.
func (s *Store) release() error {
	var errs []error
	if s.commit != nil {
		errs = append(errs, s.commit.close())
	}
	for _, t := range s.tidy {
		t.close()
	}
	for _, db := range []*badger.DB{s.node, s.raft} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

// Size returns the bytes that both databases take, as Badger last counted them.
func (s *Store) Size() int64 {
	lsm, vlog := s.raft.Size()
	lsm2, vlog2 := s.node.Size()
	return lsm + vlog + lsm2 + vlog2
}
