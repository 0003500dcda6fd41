package blob

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"

	"github.com/perrin-mesh/perrin/workload"
	"golang.org/x/sys/unix"
)

const block = 4096

// Counts are what happened since Open.
type Counts struct {
	Stored  uint64 `json:"stored"`  // blobs put or fetched, new here
	Fetched uint64 `json:"fetched"` // bytes that came from sources
	Served  uint64 `json:"served"`  // bytes that Chunk and Manifest gave out
	Evicted uint64 `json:"evicted"` // blobs
	Corrupt uint64 `json:"corrupt"` // chunks refused, from sources and from the disk
}

// Usage is what a store holds. Sizes are bytes on disk, in blocks of 4 KiB.
type Usage struct {
	Limit    int64 `json:"limit"`
	Bytes    int64 `json:"bytes"`
	Pinned   int64 `json:"pinned"`   // of Bytes
	Reserved int64 `json:"reserved"` // for writes in progress, not in Bytes
	Blobs    int   `json:"blobs"`    // whole ones
	Partial  int   `json:"partial"`
	Owners   int   `json:"owners"` // that pin something
	Counts
}

// Usage returns what the store holds now.
func (s *Store) Usage() Usage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Usage{
		Limit: s.limit, Bytes: s.bytes, Pinned: s.held, Reserved: s.reserved,
		Blobs: len(s.whole), Partial: len(s.partial), Owners: len(s.pins), Counts: s.counts,
	}
}

// blocks returns what a file of n bytes takes, an empty one too.
func blocks(n int64) int64 { return max(1, (n+block-1)/block) * block }

// charge returns what a whole blob takes, with its manifest.
func charge(ref workload.Ref) int64 {
	n := blocks(ref.Size)
	if m := ManifestSize(ref.Size); m > 0 {
		n += blocks(int64(m))
	}
	return n
}

// partialCharge returns what a file with holes takes, with its manifest.
func partialCharge(ref workload.Ref, info fs.FileInfo) int64 {
	n := blocks(int64(ManifestSize(ref.Size)))
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return n + st.Blocks*512
	}
	return n + blocks(info.Size())
}

// Pin keeps the blobs of refs from eviction until Unpin(owner). A blob may be
// pinned before it is here. Pinning twice by one owner is pinning once.
func (s *Store) Pin(owner string, refs ...workload.Ref) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pin(owner, refs...)
}

func (s *Store) pin(owner string, refs ...workload.Ref) {
	for _, ref := range refs {
		set := s.pins[owner]
		if set == nil {
			set = map[workload.Ref]struct{}{}
			s.pins[owner] = set
		}
		if _, ok := set[ref]; !ok {
			set[ref] = struct{}{}
			if s.pinned[ref]++; s.pinned[ref] == 1 {
				s.held += s.chargeOf(ref)
			}
			s.settle(ref)
		}
	}
}

// Unpin takes back every pin of owner.
func (s *Store) Unpin(owner string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ref := range s.pins[owner] {
		s.release(ref)
	}
	delete(s.pins, owner)
}

// UnpinRefs takes back owner's pins of refs alone.
func (s *Store) UnpinRefs(owner string, refs ...workload.Ref) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ref := range refs {
		if _, ok := s.pins[owner][ref]; ok {
			delete(s.pins[owner], ref)
			s.release(ref)
		}
	}
	if len(s.pins[owner]) == 0 {
		delete(s.pins, owner)
	}
}

func (s *Store) release(ref workload.Ref) {
	if s.pinned[ref]--; s.pinned[ref] == 0 {
		delete(s.pinned, ref)
		s.held -= s.chargeOf(ref)
	}
	s.settle(ref)
}

// Pins returns what owner pins, in the order of the digests.
func (s *Store) Pins(owner string) []workload.Ref {
	s.mu.Lock()
	defer s.mu.Unlock()
	refs := make([]workload.Ref, 0, len(s.pins[owner]))
	for ref := range s.pins[owner] {
		refs = append(refs, ref)
	}
	slices.SortFunc(refs, func(a, b workload.Ref) int { return slices.Compare(a.Digest[:], b.Digest[:]) })
	return refs
}

// Owners returns the owners that pin something and whose name begins with
// prefix, in order.
func (s *Store) Owners(prefix string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for owner := range s.pins {
		if strings.HasPrefix(owner, prefix) {
			out = append(out, owner)
		}
	}
	slices.Sort(out)
	return out
}

// AllowEviction says that the pins are restored: from now on what nothing pins
// may go when room is needed. Call it once after Open.
func (s *Store) AllowEviction() {
	s.mu.Lock()
	s.evict = true
	s.mu.Unlock()
}

// chargeOf returns what the store is charged with for ref.
func (s *Store) chargeOf(ref workload.Ref) int64 {
	var n int64
	for _, e := range []*entry{s.whole[ref], s.partial[ref]} {
		if e != nil {
			n += e.bytes
		}
	}
	return n
}

// settle puts the entries of ref on the list of what may be evicted, or takes
// them off it.
func (s *Store) settle(ref workload.Ref) {
	for _, e := range []*entry{s.whole[ref], s.partial[ref]} {
		switch {
		case e == nil:
		case e.busy || s.pinned[ref] > 0:
			s.unlink(e)
		case e.elem == nil:
			e.elem = s.lru.PushFront(e)
			s.idle += e.bytes
		}
	}
}

// unlink takes e off the list of what may be evicted.
func (s *Store) unlink(e *entry) {
	if e.elem != nil {
		s.lru.Remove(e.elem)
		e.elem = nil
		s.idle -= e.bytes
	}
}

// reserve promises n bytes to a write, and evicts what it must. It evicts
// nothing when that would not be enough.
func (s *Store) reserve(n int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if err := s.diskRoom(n); err != nil {
		return err
	}
	free := s.limit - s.bytes - s.reserved
	idle := s.idle
	if !s.evict {
		idle = 0
	}
	if free+idle < n {
		return &FullError{Need: n, Free: free + idle, Limit: s.limit, Pinned: s.held, Held: s.idle > idle}
	}
	for s.bytes+s.reserved+n > s.limit {
		if err := s.drop(s.lru.Back().Value.(*entry)); err != nil {
			return fmt.Errorf("make room in the blob store: %w", s.diskError(err))
		}
		s.counts.Evicted++
	}
	s.reserved += n
	return nil
}

// diskFloor is what writes of blobs leave of the disk, in bytes: others on it,
// such as the ledger's database, do not survive its last one. Of a small disk
// it is a sixteenth.
const diskFloor = 32 << 20

// diskRoom returns ErrFull when a write of n bytes would go below the floor.
func (s *Store) diskRoom(n int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir, &st); err != nil {
		return nil // the write itself will say what is wrong
	}
	floor := min(diskFloor, int64(st.Blocks)*st.Bsize/16)
	if free := int64(st.Bavail) * st.Bsize; free-n < floor {
		return fmt.Errorf("%w: no space left on the disk of %s: %d MiB free, of which %d are not for blobs: %w", ErrFull, s.dir, free>>20, floor>>20, syscall.ENOSPC)
	}
	return nil
}

// reserveInto is reserve for a write that keeps the sum of its promises.
func (s *Store) reserveInto(sum *int64, n int64) error {
	err := s.reserve(n)
	if err == nil {
		*sum += n
	}
	return err
}

// unreserve takes back a promise.
func (s *Store) unreserve(n int64) {
	s.mu.Lock()
	s.reserved -= n
	s.mu.Unlock()
}

// drop removes an entry from the disk and the index.
func (s *Store) drop(e *entry) error {
	if e.place == nil {
		if err := removeFile(s.contentName(e)); err != nil {
			return err
		}
	}
	s.forget(e)
	large := e.ref.Size > workload.ChunkSize
	if large && s.whole[e.ref] == nil && s.partial[e.ref] == nil {
		return removeFile(s.fileName(dirManifest, e.ref))
	}
	return nil
}

// forget removes an entry from the index.
func (s *Store) forget(e *entry) {
	s.unlink(e)
	s.unplace(e)
	s.grow(e, -e.bytes)
	if e.partial {
		delete(s.partial, e.ref)
	} else {
		delete(s.whole, e.ref)
	}
}

// add puts a new entry into the index, as most recently used.
func (s *Store) add(e *entry) {
	n := e.bytes
	e.bytes = 0
	s.grow(e, n)
	if e.partial {
		s.partial[e.ref] = e
	} else {
		s.whole[e.ref] = e
		s.counts.Stored++
	}
	s.settle(e.ref)
}

// grow changes what e is charged with; e is not on the list of what may be evicted.
func (s *Store) grow(e *entry, n int64) {
	e.bytes += n
	s.bytes += n
	if s.pinned[e.ref] > 0 {
		s.held += n
	}
}
