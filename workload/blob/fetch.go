package blob

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/perrin-mesh/perrin/workload"
	"golang.org/x/sys/unix"
)

// Source is somebody who may have a blob: a peer, as a rule.
//
// Manifest returns the manifest of content larger than a chunk: it must read
// no more than ManifestSize(ref.Size) bytes from the network. Chunk returns
// chunk i: it must read no more than workload.ChunkSize bytes, for which there is
// room, and must not use room once it has returned. What they return is
// not trusted. An error that wraps ErrNotFound says that the source does not
// have it; any other counts against the source, and a few of those in a row end its use.
// Both may be called concurrently and must return soon after ctx is done. Name
// is for logs and to remember who sent corrupt chunks.
type Source interface {
	Name() string
	Manifest(ctx context.Context, ref workload.Ref) ([]byte, error)
	Chunk(ctx context.Context, ref workload.Ref, i int, room []byte) ([]byte, error)
}

// fetch is one blob on its way in, for everybody who waits for it.
type fetch struct {
	ref     workload.Ref
	swarm   *swarm
	cancel  context.CancelCauseFunc
	done    chan struct{}
	err     error // set before done is closed
	waiters int   // under Store.mu; at 0 it was given up
}

// errGivenUp is why a fetch ends that nobody waits for any more.
var errGivenUp = errors.New("nobody waits for the blob any more")

// Fetch returns when the whole blob is here, verified. It brings what is
// missing from the sources, several chunks and several sources at a time, and
// starts from the chunks that an earlier Fetch left, also before a restart. A
// chunk that is corrupt or of the wrong length is refused; its source is not
// asked again in this fetch and last in later ones. A source that is slow loses
// its chunk to another after a while. Calls for the same ref share one fetch and all their
// sources, which goes on until the last caller's ctx is done. Pin the ref
// before the call to keep the result.
//
// It returns ErrUnavailable when no source is left, with what each answered,
// and ErrFull before it asks for content that there is no room for. What
// arrived stays for the next Fetch, as long as nothing needs the room.
func (s *Store) Fetch(ctx context.Context, ref workload.Ref, sources []Source) error {
	if err := checkRef(ref); err != nil {
		return fmt.Errorf("fetch: %w", err)
	}
	for {
		if ok, err := s.settled(ref); ok || err != nil {
			return err
		}
		f, joined := s.join(ref, sources)
		if f == nil {
			return fmt.Errorf("fetch blob %s: %w", ref.Digest.Short(), ErrClosed)
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			s.leave(f, joined)
			return fmt.Errorf("fetch blob %s: %w", ref.Digest.Short(), context.Cause(ctx))
		}
		if joined {
			return f.err
		}
	}
}

// settled reports whether ref is here and verified. Damaged content is
// forgotten and is then not here.
func (s *Store) settled(ref workload.Ref) (bool, error) {
	e, err := s.lookup(ref)
	if err == nil {
		err = s.verify(e)
	}
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrCorrupt), errors.Is(err, ErrManifest):
		return false, nil
	}
	return false, fmt.Errorf("fetch: %w", err)
}

// join returns the fetch of ref, which it starts if need be, and whether the
// caller is one of its waiters: one that was given up has none, and is only
// waited for. It returns nil when the store is closed.
func (s *Store) join(ref workload.Ref, sources []Source) (*fetch, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, false
	}
	f := s.fetches[ref]
	switch {
	case f != nil && f.waiters == 0:
		return f, false
	case f != nil:
		f.waiters++
		f.swarm.offer(sources)
		return f, true
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	f = &fetch{ref: ref, swarm: newSwarm(s, ref), cancel: cancel, done: make(chan struct{}), waiters: 1}
	f.swarm.offer(sources)
	s.fetches[ref] = f
	go s.runFetch(ctx, f)
	return f, true
}

func (s *Store) leave(f *fetch, joined bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !joined {
		return
	}
	if f.waiters--; f.waiters == 0 {
		f.cancel(errGivenUp)
	}
}

func (s *Store) runFetch(ctx context.Context, f *fetch) {
	err := s.bring(ctx, f)
	if err != nil {
		err = fmt.Errorf("fetch blob %s (%d bytes): %w", f.ref.Digest.Short(), f.ref.Size, err)
	}
	s.mu.Lock()
	delete(s.fetches, f.ref)
	f.err = err
	s.mu.Unlock()
	f.cancel(nil)
	close(f.done)
}

func (s *Store) bring(ctx context.Context, f *fetch) error {
	if f.ref.Size <= workload.ChunkSize {
		return s.bringSmall(ctx, f)
	}
	m, err := s.bringManifest(ctx, f)
	if err != nil {
		return err
	}
	p, err := s.openPartial(f.ref, m)
	if err != nil {
		return err
	}
	defer p.close()
	missing, err := p.missing(ctx)
	if err != nil {
		return err
	}
	err = f.swarm.run(ctx, job{
		items: missing,
		get: func(ctx context.Context, src Source, i int, room []byte) ([]byte, error) {
			return src.Chunk(ctx, f.ref, i, room)
		},
		check: func(i int, b []byte) error { return checkChunk(f.ref, m, i, b) },
		take:  p.write,
	})
	if err != nil {
		return err
	}
	return p.finish()
}

func (s *Store) bringSmall(ctx context.Context, f *fetch) error {
	return f.swarm.run(ctx, job{
		items: []int{0},
		get: func(ctx context.Context, src Source, i int, room []byte) ([]byte, error) {
			return src.Chunk(ctx, f.ref, i, room)
		},
		check: func(i int, b []byte) error { return checkChunk(f.ref, nil, i, b) },
		take: func(_ int, b []byte) error {
			s.fetched(len(b))
			_, err := s.PutBytes(b)
			return err
		},
	})
}

// bringManifest returns the manifest that is here or brings it.
func (s *Store) bringManifest(ctx context.Context, f *fetch) (*Manifest, error) {
	if e, err := s.either(f.ref); err == nil {
		if m, err := s.manifestOf(e); err == nil {
			return m, nil
		}
	}
	var m Manifest
	err := f.swarm.run(ctx, job{
		items: []int{0},
		get: func(ctx context.Context, src Source, _ int, _ []byte) ([]byte, error) {
			return src.Manifest(ctx, f.ref)
		},
		check: func(_ int, b []byte) error { _, err := checkManifest(f.ref, b); return err },
		take: func(_ int, b []byte) (err error) {
			s.fetched(len(b))
			m, err = checkManifest(f.ref, b)
			return err
		},
	})
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	return &m, nil
}

func (s *Store) fetched(n int) {
	s.mu.Lock()
	s.counts.Fetched += uint64(n)
	s.mu.Unlock()
}

// partial is the file of a large blob while a fetch writes to it.
type partial struct {
	store    *Store
	entry    *entry
	file     *os.File
	reserved int64 // for the chunks that are missing
	finished bool
}

// openPartial opens the file that an earlier fetch left, or makes one.
func (s *Store) openPartial(ref workload.Ref, m *Manifest) (*partial, error) {
	s.mu.Lock()
	e := s.partial[ref]
	if e != nil {
		e.busy, e.manifest = true, m
		s.settle(ref)
	}
	s.mu.Unlock()
	p := &partial{store: s, entry: e}
	if e == nil {
		if err := p.create(ref, m); err != nil {
			return nil, s.ioError("prepare", ref, err)
		}
	}
	f, err := os.OpenFile(s.fileName(dirPartial, ref), os.O_RDWR, 0)
	if err != nil {
		p.close()
		return nil, s.ioError("open", ref, err)
	}
	p.file = f
	return p, nil
}

// create makes an empty file of ref's size, and room for all of it.
func (p *partial) create(ref workload.Ref, m *Manifest) (err error) {
	s := p.store
	if err := s.reserveInto(&p.reserved, charge(ref)); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			s.unreserve(p.reserved)
		}
	}()
	manifest, err := s.writeTmp(m.Encode(), true)
	if err != nil {
		return err
	}
	content, err := s.writeTmp(nil, false)
	if err == nil {
		err = errors.Join(os.Chmod(content, 0o600), os.Truncate(content, ref.Size))
	}
	if err == nil {
		err = p.register(ref, m, manifest, content)
	}
	if err != nil {
		return errors.Join(err, removeFile(manifest), removeFile(content))
	}
	return nil
}

func (p *partial) register(ref workload.Ref, m *Manifest, manifest, content string) error {
	s := p.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := rename(manifest, s.fileName(dirManifest, ref)); err != nil {
		return err
	}
	if err := rename(content, s.fileName(dirPartial, ref)); err != nil {
		return err
	}
	n := blocks(int64(ManifestSize(ref.Size)))
	p.entry = &entry{ref: ref, partial: true, busy: true, manifest: m, bytes: n}
	s.add(p.entry)
	s.reserved -= n
	p.reserved -= n
	return nil
}

// missing hashes what is in the file and returns the chunks that are not
// right, with room for them.
func (p *partial) missing(ctx context.Context) ([]int, error) {
	s, ref, m := p.store, p.entry.ref, p.entry.manifest
	var want []int
	room := lend()
	defer Recycle(room)
	have := blocks(int64(ManifestSize(ref.Size)))
	data := int64(0) // no data lies between the chunk and here
	for i := range m.Chunks {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		off := int64(i) * workload.ChunkSize
		if data <= off {
			data = nextData(p.file, off)
		}
		if data < off+workload.ChunkSize {
			_, err := readChunkAt(p.file, ref, m, i, room)
			if err == nil {
				have += blocks(int64(chunkLen(ref.Size, i)))
				continue
			}
			if !errors.Is(err, ErrCorrupt) {
				return nil, s.ioError("resume", ref, err)
			}
		}
		want = append(want, i)
	}
	s.mu.Lock()
	s.grow(p.entry, have-p.entry.bytes)
	s.mu.Unlock()
	return want, s.reserveInto(&p.reserved, charge(ref)-have-p.reserved)
}

// nextData returns the offset of the first data at or after off: off itself
// where the file system cannot tell, and MaxSize after the last.
func nextData(f *os.File, off int64) int64 {
	n, err := f.Seek(off, unix.SEEK_DATA)
	switch {
	case err == nil:
		return n
	case errors.Is(err, syscall.ENXIO):
		return MaxSize
	}
	return off
}

// write stores chunk i, which was checked.
func (p *partial) write(i int, b []byte) error {
	s, e := p.store, p.entry
	off := int64(i) * workload.ChunkSize
	if _, err := p.file.WriteAt(b, off); err != nil {
		return s.ioError("write", e.ref, err)
	}
	startSync(p.file, off, len(b))
	n := blocks(int64(len(b)))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Fetched += uint64(len(b))
	s.grow(e, n)
	s.reserved -= n
	p.reserved -= n
	return nil
}

// finish makes the complete file a whole blob.
func (p *partial) finish() error {
	s, e := p.store, p.entry
	if err := errors.Join(p.file.Chmod(fileMode), p.file.Sync()); err != nil {
		return s.ioError("sync", e.ref, err)
	}
	written := writtenAt(p.file)
	s.mu.Lock()
	defer s.mu.Unlock()
	e.busy, p.finished = false, true
	if s.whole[e.ref] != nil { // a Put was quicker
		return s.drop(e)
	}
	whole := &entry{ref: e.ref, bytes: charge(e.ref), verified: true, written: written, manifest: e.manifest}
	if err := rename(s.contentName(e), s.contentName(whole)); err != nil {
		s.settle(e.ref)
		return s.ioError("store", e.ref, err)
	}
	s.forget(e)
	s.add(whole)
	return nil
}

// close gives back what is not used. The file stays for the next fetch.
func (p *partial) close() {
	s := p.store
	s.mu.Lock()
	s.reserved -= p.reserved
	if !p.finished {
		p.entry.busy = false
		s.settle(p.entry.ref)
		if s.whole[p.entry.ref] != nil {
			s.supersede(p.entry.ref)
		}
	}
	s.mu.Unlock()
	if p.file != nil {
		p.file.Close()
	}
}
