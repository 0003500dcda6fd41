package node

import (
	"errors"
	"log/slog"
	"maps"
	"sync"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/blob"
)

// shelf keeps the results that log entries carried, as blobs. The log is durable
// and is applied again from the last snapshot, so a result need not be durable
// by itself before the snapshot that stands for its entry. Its methods are safe
// for concurrent use.
type shelf struct {
	blobs blobs
	log   *slog.Logger

	mu       sync.Mutex
	unsynced map[workload.Ref]workload.ID // put since the last snapshot
	late     []lateResult                 // not put yet, as on a full disk
}

// blobs is what a shelf needs of the blob store.
type blobs interface {
	PutLogged(owner string, b []byte) (workload.Ref, error)
	Sync(refs ...workload.Ref) error
}

type lateResult struct {
	id   workload.ID
	data []byte
}

// maxLate bounds what waits in memory for the disk. Beyond it results lie in
// the log alone until the daemon restarts, and no snapshot is made.
const maxLate = 1024

var errLate = errors.New("results that rode in the log are not on disk yet")

func newShelf(blobs blobs, log *slog.Logger) *shelf {
	return &shelf{blobs: blobs, log: log, unsynced: map[workload.Ref]workload.ID{}}
}

// put keeps the results that a committed close carried.
func (s *shelf) put(c *ledger.Close) {
	if len(c.Inline) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unsynced[c.Segment] = c.Workload
	if err := s.store(c.Workload, c.Inline); err != nil {
		s.log.Error("results stay in the log: they cannot be written", "workload", c.Workload.Short(), "err", err)
		if len(s.late) < maxLate {
			s.late = append(s.late, lateResult{c.Workload, c.Inline})
		}
	}
}

func (s *shelf) store(id workload.ID, data []byte) error {
	_, err := s.blobs.PutLogged(holdOwner(id), data)
	return err
}

// retry puts what could not be put before. It holds no lock while it asks known,
// which waits for the ledger.
func (s *shelf) retry(known func(workload.ID) bool) {
	s.mu.Lock()
	late := s.late
	s.late = nil
	s.mu.Unlock()
	var still []lateResult
	for _, l := range late {
		if known(l.id) && s.store(l.id, l.data) != nil {
			still = append(still, l)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.late = append(still, s.late...)
}

// cut returns what the entries up to now carried, for a snapshot to sync. It
// stays to be synced until sync has done so: a snapshot may never be written.
func (s *shelf) cut() map[workload.Ref]workload.ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.unsynced)
}

// sync makes durable what cut returned, but for workloads that the cell has
// forgotten since. When it fails, the next snapshot has all of it to do again.
func (s *shelf) sync(taken map[workload.Ref]workload.ID, known func(workload.ID) bool) error {
	refs := make([]workload.Ref, 0, len(taken))
	for ref, id := range taken {
		if known(id) {
			refs = append(refs, ref)
		}
	}
	s.retry(known)
	err := s.blobs.Sync(refs...)
	if errors.Is(err, blob.ErrNotFound) {
		return errors.Join(errLate, err)
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for ref := range taken {
		delete(s.unsynced, ref)
	}
	return nil
}
