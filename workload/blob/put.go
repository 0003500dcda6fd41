package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/perrin-mesh/perrin/workload"
)

var buffers = sync.Pool{New: func() any { return new([workload.ChunkSize]byte) }}

// lend returns room for a chunk, with anything in it.
func lend() []byte { return buffers.Get().(*[workload.ChunkSize]byte)[:] }

// roomFor returns room for chunk i of ref: its own where that is little.
func roomFor(ref workload.Ref, i int) []byte {
	if n := chunkLen(ref.Size, i); n < workload.ChunkSize {
		return make([]byte, n)
	}
	return lend()
}

// Recycle takes back what Chunk returned, which nobody may use any more. It
// ignores what has no room for a chunk.
func Recycle(b []byte) {
	if cap(b) >= workload.ChunkSize {
		buffers.Put((*[workload.ChunkSize]byte)(b[:workload.ChunkSize]))
	}
}

// Put stores all that r gives and returns its name. It needs two chunks of
// memory whatever the size. On any error nothing stays on disk. The result may
// be evicted at once: where that matters use PutPinned.
func (s *Store) Put(ctx context.Context, r io.Reader) (workload.Ref, error) {
	return s.PutPinned(ctx, "", r)
}

// PutPinned is Put, and pins the blob for owner in the same step.
func (s *Store) PutPinned(ctx context.Context, owner string, r io.Reader) (workload.Ref, error) {
	b := lend()
	defer Recycle(b)
	n, err := readChunk(ctx, r, b)
	if err != nil {
		return workload.Ref{}, err
	}
	if n < len(b) {
		return s.putSmall(owner, b[:n])
	}
	return s.putRest(ctx, owner, b, r)
}

// putRest stores first, a full chunk, and what r has after it.
func (s *Store) putRest(ctx context.Context, owner string, first []byte, r io.Reader) (workload.Ref, error) {
	next := lend()
	defer Recycle(next)
	n, err := readChunk(ctx, r, next)
	if err != nil {
		return workload.Ref{}, err
	}
	if n == 0 {
		return s.putSmall(owner, first)
	}
	up := &upload{store: s}
	defer up.discard()
	for err = up.add(first); err == nil && n > 0; {
		if err = up.add(next[:n]); err == nil {
			n, err = readChunk(ctx, r, next)
		}
	}
	if err != nil {
		return workload.Ref{}, err
	}
	return up.finish(owner)
}

// readChunk fills b unless r ends before; the end is no error.
func readChunk(ctx context.Context, r io.Reader, b []byte) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("store a blob: %w", err)
	}
	n, err := io.ReadFull(r, b)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return n, fmt.Errorf("store a blob: read the content: %w", err)
	}
	return n, nil
}

// PutBytes stores b and returns its name.
func (s *Store) PutBytes(b []byte) (workload.Ref, error) { return s.PutBytesPinned("", b) }

// PutBytesPinned is PutBytes, and pins the blob for owner in the same step.
func (s *Store) PutBytesPinned(owner string, b []byte) (workload.Ref, error) {
	if len(b) <= workload.ChunkSize {
		return s.putSmall(owner, b)
	}
	up := &upload{store: s}
	defer up.discard()
	for len(b) > 0 {
		n := min(len(b), workload.ChunkSize)
		if err := up.add(b[:n]); err != nil {
			return workload.Ref{}, err
		}
		b = b[n:]
	}
	return up.finish(owner)
}

// putSmall stores content of at most a chunk.
func (s *Store) putSmall(owner string, b []byte) (workload.Ref, error) {
	ref := workload.Ref{Digest: workload.DigestOf(b), Size: int64(len(b))}
	if s.pinVerified(owner, ref) {
		return ref, nil
	}
	p := placement{owner: owner, entry: &entry{ref: ref, bytes: charge(ref), verified: true}}
	defer func() { s.unreserve(p.reserved) }()
	if err := s.reserveInto(&p.reserved, charge(ref)); err != nil {
		return workload.Ref{}, fmt.Errorf("store a blob: %w", err)
	}
	tmp, err := s.writeTmp(b, false)
	if err == nil {
		p.content = tmp
		err = s.put(&p)
	}
	if err != nil {
		return workload.Ref{}, s.ioError("store", ref, errors.Join(err, removeFile(tmp)))
	}
	return ref, nil
}

// pinVerified reports whether ref is here and was verified, and pins it then.
func (s *Store) pinVerified(owner string, ref workload.Ref) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.whole[ref]
	if e == nil || !e.verified || s.closed {
		return false
	}
	if e.elem != nil {
		s.lru.MoveToFront(e.elem)
	}
	if owner != "" {
		s.pin(owner, ref)
	}
	return true
}

// writeTmp writes b to a new file in tmp and returns its name, or removes it.
func (s *Store) writeTmp(b []byte, sync bool) (string, error) {
	f, err := s.createTmp()
	if err != nil {
		return "", err
	}
	_, err = f.Write(b)
	if sync && err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, removeFile(f.Name()))
	}
	return f.Name(), nil
}

// placement is a finished blob about to get its name.
type placement struct {
	entry    *entry
	owner    string // pins it; "" is nobody
	content  string // its file in tmp or partial
	manifest string // the file of its manifest in tmp; "" when it has none or that is in place
	reserved int64  // what it holds of Store.reserved; zero once it is placed
}

// put gives a finished blob its names and its entry, in place of whatever
// was there.
func (s *Store) put(p *placement) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if p.manifest != "" {
		if err := rename(p.manifest, s.fileName(dirManifest, p.entry.ref)); err != nil {
			return err
		}
	}
	if err := rename(p.content, s.contentName(p.entry)); err != nil {
		return err
	}
	if old := s.whole[p.entry.ref]; old != nil {
		s.forget(old)
	}
	s.reserved -= p.reserved
	p.reserved = 0
	s.add(p.entry)
	s.supersede(p.entry.ref)
	if p.owner != "" {
		s.pin(p.owner, p.entry.ref)
	}
	return nil
}

// supersede removes the partial copy of a blob that is now whole.
func (s *Store) supersede(ref workload.Ref) {
	p := s.partial[ref]
	if p == nil || p.busy {
		return
	}
	if err := s.drop(p); err != nil {
		s.log.Warn("blob store: remove a partial blob", "digest", ref.Digest, "err", err)
	}
}

// upload is content of more than a chunk on its way in.
type upload struct {
	store    *Store
	file     *os.File
	manifest Manifest
	reserved int64
}

// add appends a chunk, which is full unless it is the last.
func (u *upload) add(b []byte) error {
	if u.manifest.Size += int64(len(b)); u.manifest.Size > MaxSize {
		return fmt.Errorf("store a blob: %w: more than %d bytes", ErrTooLarge, int64(MaxSize))
	}
	if err := u.store.reserveInto(&u.reserved, blocks(int64(len(b)))); err != nil {
		return fmt.Errorf("store a blob: %w", err)
	}
	if u.file == nil {
		f, err := u.store.createTmp()
		if err != nil {
			return fmt.Errorf("store a blob: %w", u.store.diskError(err))
		}
		u.file = f
	}
	if _, err := u.file.Write(b); err != nil {
		return fmt.Errorf("store a blob: %w", u.store.diskError(err))
	}
	startSync(u.file, u.manifest.Size-int64(len(b)), len(b))
	u.manifest.Chunks = append(u.manifest.Chunks, workload.DigestOf(b))
	return nil
}

// finish syncs the content and its manifest and gives both their names.
func (u *upload) finish(owner string) (workload.Ref, error) {
	s, ref := u.store, u.manifest.Ref()
	if s.pinVerified(owner, ref) {
		return ref, nil
	}
	if err := s.reserveInto(&u.reserved, blocks(int64(ManifestSize(ref.Size)))); err != nil {
		return workload.Ref{}, fmt.Errorf("store a blob: %w", err)
	}
	manifest, err := s.writeTmp(u.manifest.Encode(), true)
	if err = errors.Join(err, u.file.Sync()); err != nil {
		return workload.Ref{}, s.ioError("sync", ref, errors.Join(err, removeFile(manifest)))
	}
	e := &entry{ref: ref, bytes: charge(ref), verified: true, written: writtenAt(u.file), manifest: &u.manifest}
	p := placement{entry: e, owner: owner, content: u.file.Name(), manifest: manifest, reserved: u.reserved}
	err = s.put(&p)
	u.reserved = p.reserved
	if err != nil {
		return workload.Ref{}, s.ioError("store", ref, errors.Join(err, removeFile(manifest)))
	}
	return ref, nil
}

// discard takes back what add took. After finish it only closes.
func (u *upload) discard() {
	u.store.unreserve(u.reserved)
	if u.file != nil {
		u.file.Close()
		removeFile(u.file.Name()) // gone when finish moved it; tmp is emptied by Open
	}
}
