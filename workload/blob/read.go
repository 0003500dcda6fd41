package blob

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/perrin-mesh/perrin/workload"
)

// Has reports whether the whole blob is here. One found on disk at Open is
// hashed first when it is small, so that nobody counts on a file that a crash
// damaged; a large one was synced before it got its name.
func (s *Store) Has(ref workload.Ref) bool {
	e, err := s.lookup(ref)
	if err != nil {
		return false
	}
	if ref.Size > workload.ChunkSize {
		return true
	}
	return s.verify(e) == nil
}

// ReadAll returns the content, verified. It returns ErrTooLarge when the blob
// is larger than limit bytes, before it reads anything.
func (s *Store) ReadAll(ref workload.Ref, limit int64) ([]byte, error) {
	if ref.Size > limit {
		return nil, fmt.Errorf("blob %s: %w: %d bytes, at most %d", ref.Digest.Short(), ErrTooLarge, ref.Size, limit)
	}
	f, err := s.Open(ref)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, ref.Size)
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, err
	}
	return b, nil
}

// Open returns the content for reading, every chunk verified before any of its
// bytes is given out: Read returns an error that wraps ErrCorrupt for a chunk
// that the disk has changed, and the store then forgets what it has, so that
// Fetch repairs it. The content stays readable after an eviction. The result
// may not be used from two goroutines at once.
func (s *Store) Open(ref workload.Ref) (io.ReadSeekCloser, error) {
	e, err := s.lookup(ref)
	if err != nil {
		return nil, err
	}
	f, m, err := s.openBoth(e)
	if err != nil {
		return nil, err
	}
	return &reader{store: s, entry: e, file: f, manifest: m, have: -1}, nil
}

// Path returns the absolute path of the file with the whole content, verified
// in this run of the store. The file has mode 0555: it can be mounted and, if
// it is a program, run in place, and must not be written. The path is good as
// long as ref is pinned; pin before the call. The first call after Open hashes
// the file, which takes about a second per GiB.
func (s *Store) Path(ref workload.Ref) (string, error) {
	e, err := s.lookup(ref)
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	packed := e.place != nil
	s.mu.Unlock()
	if packed {
		if err := s.unpack(e); err != nil {
			return "", err
		}
		return s.Path(ref)
	}
	if err := s.verify(e); err != nil {
		return "", err
	}
	return s.contentName(e), nil
}

// verify hashes a whole blob unless that has been done since Open.
func (s *Store) verify(e *entry) error {
	s.mu.Lock()
	done := e.verified
	s.mu.Unlock()
	if done {
		return nil
	}
	f, m, err := s.openBoth(e)
	if err != nil {
		return err
	}
	defer f.Close()
	written := writtenAt(f)
	room := roomFor(e.ref, 0)
	defer Recycle(room)
	for i := range chunkCount(e.ref.Size) {
		if _, err := readChunkAt(f, e.ref, m, i, room); errors.Is(err, ErrCorrupt) {
			return s.condemn(e, err)
		} else if err != nil {
			return s.ioError("read", e.ref, err)
		}
	}
	s.mu.Lock()
	e.verified, e.written = true, written
	s.mu.Unlock()
	return nil
}

// openBoth opens the content of e and reads its manifest, nil for small content.
func (s *Store) openBoth(e *entry) (readable, *Manifest, error) {
	m, err := s.manifestOf(e)
	if err != nil {
		return nil, nil, err
	}
	f, err := s.openContent(e)
	if err != nil {
		return nil, nil, s.ioError("open", e.ref, err)
	}
	return f, m, nil
}

// writtenAt is when a file was last written, zero when that cannot be told and
// for what has no file of its own.
func writtenAt(r readable) time.Time {
	f, ok := r.(*os.File)
	if !ok {
		return time.Time{}
	}
	info, err := f.Stat()
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// untouched reports whether nothing has written to the whole content of e, which
// f is, since it was verified.
func (s *Store) untouched(e *entry, f readable) bool {
	s.mu.Lock()
	verified, written := e.verified && !e.partial, e.written
	s.mu.Unlock()
	return verified && !written.IsZero() && written.Equal(writtenAt(f))
}

// manifestOf returns the manifest of e, and nil for small content. It is read
// and checked once and then kept.
func (s *Store) manifestOf(e *entry) (*Manifest, error) {
	if e.ref.Size <= workload.ChunkSize {
		return nil, nil
	}
	s.mu.Lock()
	m := e.manifest
	s.mu.Unlock()
	if m != nil {
		return m, nil
	}
	b, err := os.ReadFile(s.fileName(dirManifest, e.ref))
	if err != nil {
		return nil, s.ioError("read the manifest", e.ref, err)
	}
	parsed, err := checkManifest(e.ref, b)
	if err != nil {
		return nil, s.condemn(e, err)
	}
	s.mu.Lock()
	e.manifest = &parsed
	s.mu.Unlock()
	return &parsed, nil
}

// condemn forgets content that the disk has changed and returns why. A large
// blob becomes a partial one, so that Fetch need bring only what is damaged;
// without a manifest it is removed.
func (s *Store) condemn(e *entry, why error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log.Error("blob store: damaged content", "digest", e.ref.Digest, "err", why)
	s.counts.Corrupt++
	if s.whole[e.ref] != e && s.partial[e.ref] != e || e.busy {
		return why // another reader was here before
	}
	if e.partial || e.manifest == nil || s.partial[e.ref] != nil {
		return errors.Join(why, s.drop(e))
	}
	p := &entry{ref: e.ref, partial: true, bytes: e.bytes, manifest: e.manifest}
	if err := errors.Join(os.Chmod(s.contentName(e), 0o600), rename(s.contentName(e), s.contentName(p))); err != nil {
		return errors.Join(why, err)
	}
	s.forget(e)
	s.add(p)
	return why
}

// readChunkAt reads chunk i of a blob's file into room and verifies it.
func readChunkAt(f readable, ref workload.Ref, m *Manifest, i int, room []byte) ([]byte, error) {
	b := room[:chunkLen(ref.Size, i)]
	n, err := f.ReadAt(b, int64(i)*workload.ChunkSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b, checkChunk(ref, m, i, b[:n])
}

// readKnownAt is readChunkAt for content that was verified.
func readKnownAt(f readable, ref workload.Ref, _ *Manifest, i int, room []byte) ([]byte, error) {
	b := room[:chunkLen(ref.Size, i)]
	_, err := f.ReadAt(b, int64(i)*workload.ChunkSize)
	return b, err
}

// reader reads a blob a chunk at a time.
type reader struct {
	store    *Store
	entry    *entry
	file     readable
	manifest *Manifest
	pos      int64
	have     int // the chunk in chunk, -1 at first
	chunk    []byte
	room     []byte // where chunk lies
}

func (r *reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if r.pos >= r.entry.ref.Size {
		return 0, io.EOF
	}
	i := int(r.pos / workload.ChunkSize)
	if i != r.have {
		if r.room == nil {
			r.room = make([]byte, min(r.entry.ref.Size, workload.ChunkSize))
		}
		r.have = -1
		b, err := readChunkAt(r.file, r.entry.ref, r.manifest, i, r.room)
		if err != nil {
			return 0, r.failed(err)
		}
		r.chunk, r.have = b, i
	}
	n := copy(p, r.chunk[r.pos-int64(i)*workload.ChunkSize:])
	r.pos += int64(n)
	return n, nil
}

func (r *reader) failed(err error) error {
	if errors.Is(err, ErrCorrupt) {
		return r.store.condemn(r.entry, err)
	}
	return r.store.ioError("read", r.entry.ref, err)
}

func (r *reader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.pos
	case io.SeekEnd:
		offset += r.entry.ref.Size
	}
	if offset < 0 {
		return 0, fmt.Errorf("seek in blob %s: %w", r.entry.ref.Digest.Short(), fs.ErrInvalid)
	}
	r.pos = offset
	return offset, nil
}

func (r *reader) Close() error { return r.file.Close() }

// Manifest returns the manifest of a blob that is here, whole or in part. It
// is what a node answers a peer's Source.Manifest with. Content of at most a
// chunk has none, and gives ErrNotFound.
func (s *Store) Manifest(ref workload.Ref) ([]byte, error) {
	e, err := s.either(ref)
	if err != nil {
		return nil, err
	}
	m, err := s.manifestOf(e)
	if err != nil {
		return nil, err
	}
	if m == nil {
		return nil, fmt.Errorf("manifest of %s (%d bytes, one chunk): %w", ref.Digest.Short(), ref.Size, ErrNotFound)
	}
	b := m.Encode()
	s.serve(len(b))
	return b, nil
}

// Chunk returns chunk i of a blob that is here, whole or in part. It is what a
// node answers a peer's Source.Chunk with, who verifies it: at most
// workload.ChunkSize bytes, and ErrNotFound for a chunk that is not here. It is
// verified here unless the whole blob was and its file is as it was then. Small
// content is chunk 0 of itself. Recycle may take the result back.
func (s *Store) Chunk(ref workload.Ref, i int) ([]byte, error) {
	if err := checkRef(ref); err != nil {
		return nil, err
	}
	if i < 0 || i >= chunkCount(ref.Size) {
		return nil, fmt.Errorf("chunk %d of %s: %w: it has %d", i, ref.Digest.Short(), ErrNotFound, chunkCount(ref.Size))
	}
	e, err := s.either(ref)
	if err != nil {
		return nil, err
	}
	f, m, err := s.openBoth(e)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	read := readChunkAt
	if s.untouched(e, f) {
		read = readKnownAt
	}
	b, err := read(f, ref, m, i, roomFor(ref, i))
	switch {
	case errors.Is(err, ErrCorrupt) && e.partial:
		return nil, fmt.Errorf("chunk %d of %s: %w", i, ref.Digest.Short(), ErrNotFound)
	case errors.Is(err, ErrCorrupt):
		return nil, s.condemn(e, err)
	case err != nil:
		return nil, s.ioError("read", ref, err)
	}
	s.serve(len(b))
	return b, nil
}

func (s *Store) serve(n int) {
	s.mu.Lock()
	s.counts.Served += uint64(n)
	s.mu.Unlock()
}

// either returns the entry of a blob that is here, whole or in part.
func (s *Store) either(ref workload.Ref) (*entry, error) {
	e, err := s.lookup(ref)
	if !errors.Is(err, ErrNotFound) {
		return e, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.partial[ref]; p != nil {
		return p, nil
	}
	return nil, err
}
