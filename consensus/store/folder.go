package store

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"syscall"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"golang.org/x/sys/unix"
)

// formatVersion is what this code reads and writes: the layout of the folder, and
// the rules by which the ledger applies the entries in it. Raise it when either
// changes. An older log that is applied by other rules is no error by itself:
// awards and results in it are refused, and work that was acknowledged as done
// runs again.
const formatVersion = 3

const formatPrefix = "perrin store "

// Claim takes the lock of a store's folder without opening what is in it, for a change
// beside it that no daemon may see half of. The error wraps ErrInUse or ErrReadOnly.
func Claim(dir string) (release func(), err error) {
	s := &Store{dir: dir}
	if err := s.claim(); err != nil {
		if s.lock != nil {
			_ = s.lock.Close()
		}
		return nil, fmt.Errorf("claim %s: %w", dir, err)
	}
	return func() { _ = s.lock.Close() }, nil
}

// claim makes the folder and takes its lock.
func (s *Store) claim() error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return readOnly(err)
	}
	f, err := os.OpenFile(s.path("LOCK"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return readOnly(err)
	}
	s.lock = f
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return inUse(f, err)
	}
	if err := f.Truncate(0); err != nil {
		return readOnly(err)
	}
	_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0)
	return readOnly(err)
}

func inUse(f *os.File, err error) error {
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("lock: %w", err)
	}
	pid := make([]byte, 12)
	n, _ := f.ReadAt(pid, 0)
	return fmt.Errorf("%w (process %q)", ErrInUse, pid[:n])
}

// readOnly marks errors that mean that nothing can be written here.
func readOnly(err error) error {
	if errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM) {
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}

// checkFormat reads the FORMAT marker, or writes it into a folder that has no
// database yet.
func (s *Store) checkFormat() error {
	raw, err := os.ReadFile(s.path("FORMAT"))
	if errors.Is(err, os.ErrNotExist) {
		return s.markFormat()
	}
	if err != nil {
		return err
	}
	text, ok := bytes.CutPrefix(bytes.TrimSpace(raw), []byte(formatPrefix))
	version, err := strconv.Atoi(string(text))
	if !ok || err != nil || version < 1 {
		return fmt.Errorf("%w: FORMAT reads %.40q", ErrCorrupt, raw)
	}
	switch {
	case version > formatVersion:
		return fmt.Errorf("%w: version %d, this program reads up to %d", ErrFormat, version, formatVersion)
	case version < formatVersion:
		return fmt.Errorf("%w: version %d, this program reads %d", ErrOldFormat, version, formatVersion)
	}
	return nil
}

func (s *Store) markFormat() error {
	if _, err := os.Stat(s.path("raft")); err == nil {
		return fmt.Errorf("%w: it has a database but no FORMAT file", ErrCorrupt)
	}
	return readOnly(writeSynced(s.dir, s.path("FORMAT"), fmt.Appendf(nil, "%s%d\n", formatPrefix, formatVersion)))
}

// writeSynced replaces a file in dir so that a crash leaves the old or the new.
func writeSynced(dir, path string, content []byte) error {
	f, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// openBadger opens one database with options for a small footprint. A failure
// that is not the machine's state is reported as ErrCorrupt.
func openBadger(dir string, synced bool, log *slog.Logger) (db *badger.DB, err error) {
	defer func() {
		if r := recover(); r != nil {
			db, err = nil, fmt.Errorf("%w: %v", ErrCorrupt, r)
		}
	}()
	opts := badger.DefaultOptions(dir).
		WithSyncWrites(synced).
		WithDetectConflicts(false).
		WithMetricsEnabled(false).
		WithMemTableSize(memTable).
		WithNumMemtables(2).
		WithNumCompactors(0). // see tidier
		WithNumLevelZeroTablesStall(stallAt).
		WithBlockCacheSize(8 << 20).
		WithValueLogFileSize(64 << 20).
		WithChecksumVerificationMode(options.OnBlockRead).
		WithVerifyValueChecksum(true).
		WithLogger(badgerLog{log})
	if err := errors.Join(sweepEmpty(dir), verify(opts)); err != nil {
		return nil, err
	}
	if db, err = badger.Open(opts); err != nil {
		return nil, openError(err)
	}
	return db, nil
}

func openError(err error) error {
	if marked := readOnly(err); marked != err {
		return marked
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrCorrupt, err)
}

// badgerLog gives Badger's messages to slog; what it calls information is
// noise to everybody else.
type badgerLog struct{ log *slog.Logger }

func (l badgerLog) Errorf(f string, a ...any)   { l.log.Error("badger: " + fmt.Sprintf(f, a...)) }
func (l badgerLog) Warningf(f string, a ...any) { l.log.Warn("badger: " + fmt.Sprintf(f, a...)) }
func (l badgerLog) Infof(f string, a ...any)    {}
func (l badgerLog) Debugf(f string, a ...any)   {}
