package node

import (
	"errors"
	"log/slog"
	"testing"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/blob"
)

// fullDisk is a blob store that takes nothing while it is full.
type fullDisk struct {
	full   bool
	has    map[workload.Ref]string
	synced map[workload.Ref]bool
}

func (d *fullDisk) PutLogged(owner string, b []byte) (workload.Ref, error) {
	ref := blob.RefOf(b)
	if d.full {
		return ref, blob.ErrFull
	}
	d.has[ref] = owner
	return ref, nil
}

func (d *fullDisk) Sync(refs ...workload.Ref) (err error) {
	for _, ref := range refs {
		if _, ok := d.has[ref]; !ok {
			err = errors.Join(err, blob.ErrNotFound)
			continue
		}
		d.synced[ref] = true
	}
	return err
}

// Results that rode in the log are durable before a snapshot stands for their
// entries, also when the disk was full as they were applied.
func TestResultsOfTheLogAreDurableBeforeItIsCut(t *testing.T) {
	disk := &fullDisk{has: map[workload.Ref]string{}, synced: map[workload.Ref]bool{}}
	s := newShelf(disk, slog.New(slog.DiscardHandler))
	gone := workload.ID{Random: [16]byte{9}}
	known := func(id workload.ID) bool { return id != gone }
	closing := func(id workload.ID, data string) workload.Ref {
		c := &ledger.Close{Workload: id, Inline: []byte(data), Segment: blob.RefOf([]byte(data))}
		s.put(c)
		return c.Segment
	}
	early := closing(workload.ID{Random: [16]byte{1}}, "early")
	s.cut() // for a snapshot that is never written
	disk.full = true
	late := closing(workload.ID{Random: [16]byte{2}}, "late")
	closing(gone, "of a workload that the cell forgets")

	if err := s.sync(s.cut(), known); !errors.Is(err, errLate) {
		t.Fatalf("a snapshot was made while results lie in the log alone: %v", err)
	}
	disk.full = false
	if err := s.sync(s.cut(), known); err != nil {
		t.Fatal(err)
	}
	if !disk.synced[early] || !disk.synced[late] {
		t.Errorf("synced %v, want both %v and %v", disk.synced, early, late)
	}
	if disk.has[late] != holdOwner(workload.ID{Random: [16]byte{2}}) || len(disk.has) != 2 {
		t.Errorf("kept %v", disk.has)
	}
	if taken := s.cut(); len(taken) != 0 {
		t.Errorf("synced again: %v", taken)
	}
}
