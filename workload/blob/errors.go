package blob

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/perrin-mesh/perrin/workload"
)

var (
	// ErrNotFound is returned when a blob, or the chunk asked for, is not
	// here. A Source returns an error that wraps it when it has no such chunk:
	// that is no fault of the source.
	ErrNotFound = errors.New("not found")
	// ErrFull is returned when the store has no room and all that is in it is
	// pinned or in use, or when the disk is full. It is a *FullError where the
	// limit was met.
	ErrFull = errors.New("blob store is full")
	// ErrCorrupt is returned when bytes do not have the digest they should.
	ErrCorrupt = errors.New("content does not match its digest")
	// ErrTooLarge is returned when content is larger than MaxSize or than the
	// caller's bound.
	ErrTooLarge = errors.New("blob is too large")
	// ErrInUse is returned by Open when another Store has the folder.
	ErrInUse = errors.New("blob store is in use")
	// ErrUnavailable is returned by Fetch when no source is left to ask.
	ErrUnavailable = errors.New("no source has the blob")
	// ErrNotWritable is returned when the store's folder cannot be written.
	ErrNotWritable = errors.New("folder is not writable")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("blob store is closed")
	// ErrRef is returned for a ref that can name no blob.
	ErrRef = errors.New("invalid blob reference")
)

// FullError says how far a write was over the limit. All figures are bytes.
type FullError struct {
	Need   int64 // that the write asked for
	Free   int64 // that are left, with everything evicted that can be
	Limit  int64
	Pinned int64 // by owners
	Held   bool  // eviction has not been allowed yet
}

// Error names what is needed and what there is.
func (e *FullError) Error() string {
	s := fmt.Sprintf("%v: needs %d bytes, has %d of %d (%d pinned)", ErrFull, e.Need, max(0, e.Free), e.Limit, e.Pinned)
	if e.Held {
		s += "; eviction waits until the pins are restored"
	}
	return s
}

// Is reports whether target is ErrFull.
func (e *FullError) Is(target error) bool { return target == ErrFull }

// ioError wraps an error of the file system with what was being done and, for
// the causes a person can fix, the kind of error it is.
func (s *Store) ioError(op string, ref workload.Ref, err error) error {
	return fmt.Errorf("blob %s: %s: %w", ref.Digest.Short(), op, s.diskError(err))
}

func (s *Store) diskError(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: no space left on the disk of %s: %w", ErrFull, s.dir, err)
	case errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM):
		return fmt.Errorf("%s: %w: %w", s.dir, ErrNotWritable, err)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return err
}

// checkRef refuses a ref that names nothing that could be stored.
func checkRef(ref workload.Ref) error {
	switch {
	case ref.IsZero():
		return fmt.Errorf("%w: it names nothing", ErrRef)
	case ref.Size < 0:
		return fmt.Errorf("blob %s: %w: size %d", ref.Digest.Short(), ErrRef, ref.Size)
	case ref.Size > MaxSize:
		return fmt.Errorf("blob %s: %w: %d bytes, at most %d", ref.Digest.Short(), ErrTooLarge, ref.Size, int64(MaxSize))
	}
	return nil
}
