package blob

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/perrin-mesh/perrin/workload"
)

// found is a file that the scan met.
type found struct {
	entry *entry
	used  time.Time
}

// scan builds the index from what is on disk. A file that is not named or not
// as long as it must be is left of a crash, and removed.
func (s *Store) scan() error {
	manifests, err := s.scanFolder(dirManifest)
	if err != nil {
		return err
	}
	known := map[workload.Ref]bool{}
	for _, m := range manifests {
		known[m.entry.ref] = true
	}
	var all []found
	for _, folder := range []string{dirSmall, dirLarge, dirPartial} {
		files, err := s.scanFolder(folder)
		if err != nil {
			return err
		}
		all = append(all, files...)
	}
	packed, err := s.scanPacks()
	if err != nil {
		return err
	}
	all = append(all, packed...)
	slices.SortStableFunc(all, func(a, b found) int { return a.used.Compare(b.used) })
	for _, f := range all {
		if err := s.adopt(f.entry, known); err != nil {
			return err
		}
	}
	if err := s.dropDeadPacks(); err != nil {
		return err
	}
	return s.dropOrphans(manifests)
}

// adopt adds an entry found on disk to the index, the oldest first.
func (s *Store) adopt(e *entry, known map[workload.Ref]bool) error {
	if e.place != nil {
		if s.whole[e.ref] == nil {
			s.lie(e, e.place.pack, e.place.off)
			s.add(e)
		}
		s.counts.Stored = 0
		return nil
	}
	large := e.ref.Size > workload.ChunkSize
	if !e.partial && s.whole[e.ref] != nil || large && !known[e.ref] || e.partial && s.whole[e.ref] != nil {
		return removeFile(s.contentName(e))
	}
	s.add(e)
	s.counts.Stored = 0
	return nil
}

// dropOrphans removes the manifests of nothing.
func (s *Store) dropOrphans(manifests []found) error {
	for _, m := range manifests {
		ref := m.entry.ref
		if s.whole[ref] == nil && s.partial[ref] == nil {
			if err := removeFile(s.fileName(dirManifest, ref)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Store) scanFolder(folder string) ([]found, error) {
	subs, err := os.ReadDir(s.path(folder))
	if err != nil {
		return nil, s.diskError(err)
	}
	var all []found
	for _, sub := range subs {
		files, err := os.ReadDir(s.path(folder, sub.Name()))
		if errors.Is(err, syscall.ENOTDIR) {
			continue // not ours
		}
		if err != nil {
			return nil, s.diskError(err)
		}
		for _, f := range files {
			got, err := s.scanFile(folder, s.path(folder, sub.Name(), f.Name()))
			if err != nil {
				return nil, err
			}
			if got != nil {
				all = append(all, *got)
			}
		}
	}
	return all, nil
}

// scanFile returns nil for a file that is of no use, and removes it.
func (s *Store) scanFile(folder, name string) (*found, error) {
	ref, ok := parseName(filepath.Base(name))
	info, err := os.Lstat(name)
	if err != nil {
		return nil, s.diskError(err)
	}
	if !ok || !info.Mode().IsRegular() || info.Size() != expectedSize(folder, ref) {
		s.log.Warn("blob store: remove a damaged file", "file", name, "size", info.Size())
		return nil, os.RemoveAll(name)
	}
	e := &entry{ref: ref, partial: folder == dirPartial, bytes: charge(ref)}
	if e.partial {
		e.bytes = partialCharge(ref, info)
	}
	return &found{e, info.ModTime()}, nil
}

// expectedSize returns the length of ref's file in folder, and -1 where it cannot be.
func expectedSize(folder string, ref workload.Ref) int64 {
	large := ref.Size > workload.ChunkSize
	switch {
	case folder == dirManifest && large:
		return int64(ManifestSize(ref.Size))
	case folder == dirSmall && !large, (folder == dirLarge || folder == dirPartial) && large:
		return ref.Size
	}
	return -1
}

func parseName(name string) (workload.Ref, bool) {
	hex, size, ok := strings.Cut(name, "-")
	if !ok {
		return workload.Ref{}, false
	}
	d, err := workload.ParseDigest("sha256:" + hex)
	n, err2 := strconv.ParseInt(size, 10, 64)
	ref := workload.Ref{Digest: d, Size: n}
	return ref, err == nil && err2 == nil && checkRef(ref) == nil
}

// removeFile removes a file that may be gone already.
func removeFile(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
