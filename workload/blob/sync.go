package blob

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/perrin-mesh/perrin/workload"
	"golang.org/x/sys/unix"
)

// Sync returns when the blobs of refs, whole, and their names are on stable
// storage. Give it many at once: the files of a call share the journal's
// commits, so that a hundred cost little more than one. A ref that is not here
// gives ErrNotFound; the others are synced all the same.
func (s *Store) Sync(refs ...workload.Ref) error {
	if err := s.packWaiting(); err != nil {
		return err
	}
	var errs []error
	var todo []*entry
	for _, ref := range refs {
		e, err := s.lookup(ref)
		if err != nil {
			errs = append(errs, fmt.Errorf("sync: %w", err))
			continue
		}
		if !s.isDurable(e) {
			todo = append(todo, e)
		}
	}
	if err := s.syncAll(todo); err != nil {
		errs = append(errs, err)
	}
	if err := s.repack(); err != nil {
		s.log.Warn("blob store: pack small blobs anew", "err", err)
	}
	return errors.Join(errs...)
}

func (s *Store) isDurable(e *entry) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return e.durable
}

// syncAll starts the writing of every file before it waits for the first: the
// first commit of the journal then covers most of the others.
func (s *Store) syncAll(entries []*entry) error {
	if len(entries) == 0 {
		return nil
	}
	files, folders := map[string]workload.Ref{}, map[string]bool{} // a pack is a file of many
	for _, e := range entries {
		names, err := s.filesOf(e)
		if err != nil {
			return s.ioError("sync", e.ref, err)
		}
		for _, name := range names {
			files[name] = e.ref
			folders[filepath.Dir(name)] = true
			folders[filepath.Dir(filepath.Dir(name))] = true
		}
	}
	for name, ref := range files {
		if err := startWriting(name); err != nil {
			return s.ioError("sync", ref, err)
		}
	}
	for name, ref := range files {
		if err := syncFile(name); err != nil {
			return s.ioError("sync", ref, err)
		}
	}
	for dir := range folders {
		if err := syncFile(dir); err != nil {
			return fmt.Errorf("sync the folder of blobs: %w", s.diskError(err))
		}
	}
	return s.syncRoot(entries)
}

// syncRoot makes the folders themselves durable and marks entries as such.
func (s *Store) syncRoot(entries []*entry) error {
	for _, dir := range []string{s.dir, filepath.Dir(s.dir)} {
		if err := syncFile(dir); err != nil && !errors.Is(err, os.ErrPermission) {
			return fmt.Errorf("sync the blob store: %w", s.diskError(err))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range entries {
		e.durable = true
	}
	return nil
}

// errWaits is returned for a content that was dropped and put again since Sync
// packed what was in memory.
var errWaits = errors.New("it is in memory alone")

// filesOf returns the files of a whole blob.
func (s *Store) filesOf(e *entry) ([]string, error) {
	s.mu.Lock()
	at := e.place
	s.mu.Unlock()
	switch {
	case at != nil && at.pack != nil:
		return []string{at.pack.name}, nil
	case at != nil:
		return nil, errWaits
	}
	names := []string{s.contentName(e)}
	if e.ref.Size > workload.ChunkSize {
		names = append(names, s.fileName(dirManifest, e.ref))
	}
	return names, nil
}

// startWriting asks the kernel to write a file's pages soon. It is a hint:
// file systems without it lose nothing but time.
func startWriting(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	startSync(f, 0, 0)
	return nil
}

// startSync has the kernel begin to write n bytes of a file from off, or with an
// n of 0 all after it, so that little is left to wait for when the file is
// synced. It promises nothing.
func startSync(f *os.File, off int64, n int) {
	_ = unix.SyncFileRange(int(f.Fd()), off, int64(n), unix.SYNC_FILE_RANGE_WRITE)
}

func syncFile(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
