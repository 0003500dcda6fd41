package blob

import (
	"container/list"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/perrin-mesh/perrin/workload"
	"golang.org/x/sys/unix"
)

// The folders of a store. Files in small, large, partial and manifest lie
// below two hex digits and are named DIGEST-SIZE, those in pack by a number.
const (
	dirTmp      = "tmp"      // being written; emptied by Open
	dirSmall    = "small"    // content of at most a chunk
	dirPack     = "pack"     // many small contents in a file each
	dirLarge    = "large"    // whole content of more than a chunk
	dirPartial  = "partial"  // content being fetched, with holes
	dirManifest = "manifest" // of everything in large and partial
	lockName    = "LOCK"
	versionName = "VERSION"
	version     = "perrin blob store 2\n"
	older       = "perrin blob store 1\n" // without packs
)

// fileMode lets a program be mounted and run in place; nothing may write.
const fileMode = 0o555

// entry is one content. Its fields are under Store.mu.
type entry struct {
	ref      workload.Ref
	partial  bool
	bytes    int64     // it is charged with
	verified bool      // hashed since Open
	written  time.Time // of a large blob's file, when it was verified; zero when that is not known
	durable  bool      // synced, with its name
	busy     bool      // a fetch writes to it
	manifest *Manifest
	elem     *list.Element // in Store.lru, nil while it must stay
	place    *place        // nil when it has a file of its own
}

// Store is a blob store on disk. All methods may be called concurrently.
type Store struct {
	dir   string
	limit int64
	log   *slog.Logger
	lock  *os.File
	seq   atomic.Uint64 // names in tmp
	slots chan struct{} // bounds the chunks being fetched at once

	mu       sync.Mutex
	closed   bool
	evict    bool // AllowEviction was called
	whole    map[workload.Ref]*entry
	partial  map[workload.Ref]*entry
	lru      *list.List // of *entry that may be evicted, most recently used first
	pins     map[string]map[workload.Ref]struct{}
	pinned   map[workload.Ref]int // how many owners
	bytes    int64                // charged for entries
	held     int64                // of bytes: pinned
	idle     int64                // of bytes: on lru
	reserved int64                // promised to writes in progress
	fetches  map[workload.Ref]*fetch
	blame    map[string]int // corrupt chunks by name of source
	counts   Counts
	waiting  map[workload.Ref]*entry // whose content is in memory
	waits    int64                   // bytes they are charged with
	packs    map[*pack]struct{}

	packing sync.Mutex // one writes packs; taken before mu
}

// Open opens the store in dir, and makes it there when dir is empty or absent.
// limit bounds the bytes on disk, counted in blocks of 4 KiB. It returns
// ErrInUse when another Store, of this process or another, has dir, and
// ErrNotWritable when dir cannot be written. Close releases it.
func Open(dir string, limit int64, log *slog.Logger) (*Store, error) {
	if limit <= 0 {
		return nil, fmt.Errorf("open blob store: limit: want 1 byte or more, got %d", limit)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open blob store: %w", err)
	}
	s := &Store{
		dir: abs, limit: limit, log: log, slots: make(chan struct{}, maxChunksInFlight),
		whole: map[workload.Ref]*entry{}, partial: map[workload.Ref]*entry{}, lru: list.New(),
		pins: map[string]map[workload.Ref]struct{}{}, pinned: map[workload.Ref]int{},
		fetches: map[workload.Ref]*fetch{}, blame: map[string]int{},
		waiting: map[workload.Ref]*entry{}, packs: map[*pack]struct{}{},
	}
	if err := s.prepare(); err != nil {
		return nil, fmt.Errorf("open blob store: %w", err)
	}
	if err := s.scan(); err != nil {
		return nil, errors.Join(fmt.Errorf("open blob store: %w", err), s.lock.Close())
	}
	return s, nil
}

// prepare takes the lock and makes the folders.
func (s *Store) prepare() error {
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return s.diskError(err)
	}
	lock, err := os.OpenFile(filepath.Join(s.dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return s.diskError(err)
	}
	s.lock = lock
	if err := s.claim(); err != nil {
		return errors.Join(err, lock.Close())
	}
	return nil
}

func (s *Store) claim() error {
	err := unix.Flock(int(s.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("%s: %w by another node; stop that node or give this one its own folder", s.dir, ErrInUse)
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w", s.dir, err)
	}
	if err := s.checkVersion(); err != nil {
		return err
	}
	if err := os.RemoveAll(s.path(dirTmp)); err != nil {
		return s.diskError(err)
	}
	for _, d := range []string{dirTmp, dirSmall, dirPack, dirLarge, dirPartial, dirManifest} {
		if err := os.MkdirAll(s.path(d), 0o755); err != nil {
			return s.diskError(err)
		}
	}
	return nil
}

func (s *Store) checkVersion() error {
	name := s.path(versionName)
	got, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return s.diskError(os.WriteFile(name, []byte(version), 0o644))
	}
	if err != nil {
		return s.diskError(err)
	}
	if len(got) == 0 || string(got) == older { // or a crash between making and filling it
		return s.diskError(os.WriteFile(name, []byte(version), 0o644))
	}
	if string(got) != version {
		return fmt.Errorf("%s: version %.40q is not one this program reads (%q)", s.dir, got, version)
	}
	return nil
}

// Close releases the folder. Fetches in progress end with ErrClosed; files
// that Open returned stay readable.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	var running []*fetch
	for _, f := range s.fetches {
		f.cancel(ErrClosed)
		running = append(running, f)
	}
	s.mu.Unlock()
	for _, f := range running {
		<-f.done
	}
	return s.lock.Close()
}

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

// fileName returns the path of ref's file in one of the folders.
func (s *Store) fileName(folder string, ref workload.Ref) string {
	hex := ref.Digest.Hex()
	return s.path(folder, hex[:2], fmt.Sprintf("%s-%d", hex, ref.Size))
}

func (s *Store) contentName(e *entry) string {
	switch {
	case e.partial:
		return s.fileName(dirPartial, e.ref)
	case e.ref.Size > workload.ChunkSize:
		return s.fileName(dirLarge, e.ref)
	}
	return s.fileName(dirSmall, e.ref)
}

// createTmp opens a new file in tmp for writing.
func (s *Store) createTmp() (*os.File, error) {
	name := s.path(dirTmp, fmt.Sprint(s.seq.Add(1)))
	return os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
}

// rename moves a finished file to its place and makes the folder it needs.
func rename(from, to string) error {
	err := os.Rename(from, to)
	if !errors.Is(err, syscall.ENOENT) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.Rename(from, to)
}

// lookup returns the entry of a whole blob, as most recently used.
func (s *Store) lookup(ref workload.Ref) (*entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	e := s.whole[ref]
	if e == nil {
		return nil, fmt.Errorf("blob %s (%d bytes): %w", ref.Digest.Short(), ref.Size, ErrNotFound)
	}
	if e.elem != nil {
		s.lru.MoveToFront(e.elem)
	}
	return e, nil
}
