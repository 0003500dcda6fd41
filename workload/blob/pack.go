package blob

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/perrin-mesh/perrin/workload"
)

// A pack is a file that holds many small contents one after another: making a
// file costs 0.1 to 0.25 ms on ext4, many times what a small result needs
// otherwise. Its encoding is the magic, how many contents it has as a big-endian
// integer of 4 bytes, the digest and the size (4 bytes) of each, and the contents.
const packMagic = "perrin/blob/pack/1\n"

const (
	packHeader = len(packMagic) + 4
	packRow    = len(workload.Digest{}) + 4
)

const (
	maxPacked  = 64 << 10 // bytes of a content that is packed
	maxWaiting = 4 << 20  // bytes in memory that wait to be packed, and of a pack
	maxRows    = 16 << 10 // contents of a pack
)

// pack is a file of packed contents. Its fields are under Store.mu.
type pack struct {
	name string
	size int64                     // of the file
	live map[workload.Ref]struct{} // those of its contents that the index has here
	used int64                     // what they are charged with
}

// place is where the bytes of an entry are, when it has no file of its own.
type place struct {
	waiting []byte // in memory, until the next pack; nil when it is in one
	pack    *pack
	off     int64 // in the pack's file
}

// packCharge is what a packed content takes.
func packCharge(ref workload.Ref) int64 { return int64(packRow) + ref.Size }

// PutLogged stores b, which its caller can give once more after a crash, and
// pins it for owner: it stays in memory until Sync, or until there are 4 MiB of
// such contents, and goes to disk in one file with the others. More than 64 KiB
// is stored as by PutBytesPinned. b must not be changed afterwards.
func (s *Store) PutLogged(owner string, b []byte) (workload.Ref, error) {
	if len(b) == 0 || len(b) > maxPacked {
		return s.PutBytesPinned(owner, b)
	}
	ref := workload.Ref{Digest: workload.DigestOf(b), Size: int64(len(b))}
	if s.pinVerified(owner, ref) || s.Has(ref) && s.pinVerified(owner, ref) { // Has verifies what was found on disk
		return ref, nil
	}
	n := packCharge(ref)
	if err := s.makeWay(n); err != nil {
		return workload.Ref{}, fmt.Errorf("store a blob: %w", err)
	}
	if err := s.reserve(n); err != nil {
		return workload.Ref{}, fmt.Errorf("store a blob: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reserved -= n
	if old := s.whole[ref]; old != nil {
		if err := s.drop(old); err != nil {
			return workload.Ref{}, s.ioError("store", ref, err)
		}
	}
	e := &entry{ref: ref, bytes: n, verified: true, place: &place{waiting: b}}
	s.waiting[ref] = e
	s.waits += n
	s.add(e)
	if owner != "" {
		s.pin(owner, ref)
	}
	return ref, nil
}

// makeWay packs what waits when n bytes more would be too many.
func (s *Store) makeWay(n int64) error {
	s.mu.Lock()
	full := s.waits+n > maxWaiting || len(s.waiting) >= maxRows
	s.mu.Unlock()
	if !full {
		return nil
	}
	return s.packWaiting()
}

// packWaiting writes all that waits in memory to packs. They are not durable yet.
func (s *Store) packWaiting() error {
	s.packing.Lock()
	defer s.packing.Unlock()
	for {
		rows := s.waitingRows()
		if len(rows) == 0 {
			return nil
		}
		if err := s.writePack(rows, false); err != nil {
			return err
		}
	}
}

// waitingRows returns what waits, as much as one pack takes. The caller has
// Store.packing.
func (s *Store) waitingRows() (rows []row) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.waiting {
		if len(rows) == maxRows {
			break
		}
		rows = append(rows, row{e, e.place.waiting})
	}
	return rows
}

// row is a content about to be packed.
type row struct {
	entry *entry
	body  []byte
}

// writePack writes a pack of rows and has those entries that are still there lie
// in it. With sync it, and its name, are durable before any entry does. The
// caller has Store.packing.
func (s *Store) writePack(rows []row, sync bool) error {
	raw, offsets := encodePack(rows)
	tmp, err := s.writeTmp(raw, sync)
	if err != nil {
		return fmt.Errorf("pack small blobs: %w", s.diskError(err))
	}
	p := &pack{
		name: s.path(dirPack, strconv.FormatUint(s.seq.Add(1), 10)), size: int64(len(raw)),
		live: make(map[workload.Ref]struct{}, len(rows)),
	}
	err = os.Rename(tmp, p.name)
	if sync && err == nil {
		err = syncFile(s.path(dirPack))
	}
	if err != nil {
		return fmt.Errorf("pack small blobs: %w", s.diskError(errors.Join(err, removeFile(tmp))))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, r := range rows {
		if s.whole[r.entry.ref] == r.entry {
			s.unplace(r.entry)
			s.lie(r.entry, p, offsets[i])
		}
	}
	if len(p.live) == 0 {
		return removeFile(p.name)
	}
	s.packs[p] = struct{}{}
	return nil
}

// encodePack returns the bytes of a pack and where in it each row's content begins.
func encodePack(rows []row) (raw []byte, offsets []int64) {
	size := packHeader
	for _, r := range rows {
		size += packRow + len(r.body)
	}
	raw = append(make([]byte, 0, size), packMagic...)
	raw = binary.BigEndian.AppendUint32(raw, uint32(len(rows)))
	for _, r := range rows {
		raw = append(raw, r.entry.ref.Digest[:]...)
		raw = binary.BigEndian.AppendUint32(raw, uint32(len(r.body)))
	}
	for _, r := range rows {
		offsets = append(offsets, int64(len(raw)))
		raw = append(raw, r.body...)
	}
	return raw, offsets
}

// lie has e lie in p from off.
func (s *Store) lie(e *entry, p *pack, off int64) {
	e.place = &place{pack: p, off: off}
	p.live[e.ref] = struct{}{}
	p.used += packCharge(e.ref)
}

// unplace takes an entry out of memory or out of its pack, which goes when it was
// the last in it.
func (s *Store) unplace(e *entry) {
	at := e.place
	switch {
	case at == nil:
		return
	case at.pack == nil:
		if s.waiting[e.ref] == e {
			delete(s.waiting, e.ref)
			s.waits -= packCharge(e.ref)
		}
		return
	}
	delete(at.pack.live, e.ref)
	at.pack.used -= packCharge(e.ref)
	if len(at.pack.live) == 0 {
		delete(s.packs, at.pack)
		if err := removeFile(at.pack.name); err != nil {
			s.log.Warn("blob store: remove a pack", "file", at.pack.name, "err", err)
		}
	}
}

// repack moves what is left of packs of which more than half is gone to a new
// one, which is durable before they go.
func (s *Store) repack() error {
	s.packing.Lock()
	defer s.packing.Unlock()
	var rows []row
	var size int64
	for _, e := range s.sparse() {
		if size += packCharge(e.ref); size > maxWaiting {
			break // the rest another time
		}
		body, err := s.ReadAll(e.ref, maxPacked)
		if errors.Is(err, ErrNotFound) || errors.Is(err, ErrCorrupt) {
			continue // gone since, or condemned
		}
		if err != nil {
			return err
		}
		rows = append(rows, row{e, body})
	}
	if len(rows) == 0 {
		return nil
	}
	return s.writePack(rows, true)
}

// sparse returns the entries that lie in packs of which more than half is gone.
func (s *Store) sparse() (entries []*entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.packs {
		if p.used >= p.size/2 {
			continue
		}
		for ref := range p.live {
			entries = append(entries, s.whole[ref])
		}
	}
	return entries
}

// readable is the content of an entry.
type readable interface {
	io.ReaderAt
	io.Closer
}

type inMemory struct{ *bytes.Reader }

func (inMemory) Close() error { return nil }

type inPack struct {
	*io.SectionReader
	file *os.File
}

func (p inPack) Close() error { return p.file.Close() }

// openContent opens the content of e, wherever it lies.
func (s *Store) openContent(e *entry) (readable, error) {
	for {
		s.mu.Lock()
		at := e.place
		s.mu.Unlock()
		if at == nil {
			f, err := os.Open(s.contentName(e))
			if err != nil {
				return nil, err
			}
			return f, nil
		}
		if at.pack == nil {
			return inMemory{bytes.NewReader(at.waiting)}, nil
		}
		f, err := os.Open(at.pack.name)
		if err == nil {
			return inPack{io.NewSectionReader(f, at.off, e.ref.Size), f}, nil
		}
		s.mu.Lock()
		moved := e.place != at
		s.mu.Unlock()
		if !moved || !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
}

// unpack gives an entry a file of its own, which is durable before the pack is
// without it: somebody may count on what Sync said of the entry.
func (s *Store) unpack(e *entry) error {
	body, err := s.ReadAll(e.ref, maxPacked)
	if err != nil {
		return err
	}
	own := &entry{ref: e.ref, bytes: charge(e.ref), verified: true, durable: true}
	if err := s.reserve(own.bytes); err != nil {
		return fmt.Errorf("unpack a blob: %w", err)
	}
	defer s.unreserve(own.bytes)
	tmp, err := s.writeTmp(body, true)
	if err == nil {
		err = rename(tmp, s.contentName(own))
	}
	if err != nil {
		return s.ioError("unpack", e.ref, errors.Join(err, removeFile(tmp)))
	}
	for _, dir := range []string{filepath.Dir(s.contentName(own)), s.path(dirSmall), s.dir} {
		if err := syncFile(dir); err != nil {
			return s.ioError("unpack", e.ref, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.whole[e.ref] != e { // dropped since, or unpacked by another
		return nil
	}
	s.forget(e)
	s.add(own)
	return nil
}
