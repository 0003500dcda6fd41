package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// Snapshots opens the group's snapshots. Each has a checksum and is synced
// before it counts; Options.Retain of them are kept. What a crash left half
// written is removed.
func (g *Group) Snapshots(log hclog.Logger) (raft.SnapshotStore, error) {
	base := filepath.Join(g.s.path("snapshots"), g.name)
	if err := os.MkdirAll(base, 0o700); err != nil {
		return nil, fmt.Errorf("group %q: snapshots: %w", g.name, readOnly(err))
	}
	if err := sweep(filepath.Join(base, "snapshots")); err != nil {
		return nil, fmt.Errorf("group %q: snapshots: %w", g.name, err)
	}
	snaps, err := raft.NewFileSnapshotStoreWithLogger(base, g.s.opts.Retain, log)
	if err != nil {
		return nil, fmt.Errorf("group %q: snapshots: %w", g.name, readOnly(err))
	}
	return snaps, nil
}

// sweep removes snapshots that were never finished.
func sweep(dir string) error {
	names, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, n := range names {
		if strings.HasSuffix(n.Name(), ".tmp") {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, n.Name())))
		}
	}
	return err
}

// Drop forgets a group for good: its log, its stable values and its snapshots.
// The group must not be in use. A node calls it after it left the group, never
// to rejoin with the same identity while the group still counts its vote.
func (s *Store) Drop(name string) error {
	g, err := s.Group(name)
	if err != nil {
		return err
	}
	first, last := g.span()
	if err := g.DeleteRange(first, last); err != nil {
		return err
	}
	ops := []op{{key: append([]byte{keyGroup}, name...)}, {key: g.prefix(keyRange)}}
	err = each(s.raft, g.prefix(keyStable), func(key, _ []byte) error {
		ops = append(ops, op{key: append(g.prefix(keyStable), key...)})
		return nil
	})
	if err != nil {
		return fmt.Errorf("drop group %q: %w", name, err)
	}
	if err := os.RemoveAll(filepath.Join(s.path("snapshots"), name)); err != nil {
		return fmt.Errorf("drop group %q: %w", name, err)
	}
	if err := s.commit.doGroups(-1, demandNone, ops); err != nil {
		return fmt.Errorf("drop group %q: %w", name, err)
	}
	s.mu.Lock()
	delete(s.groups, name)
	s.mu.Unlock()
	return nil
}
