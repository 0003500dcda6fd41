package store

import (
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"
)

// TestDeletedEntriesLeaveTheDisk appends and deletes as a group does between
// snapshots, entries of any size, and holds that the disk is reclaimed.
func TestDeletedEntriesLeaveTheDisk(t *testing.T) {
	random := rand.NewChaCha8([32]byte{})
	if testing.Short() {
		t.Skip("it writes 300 MiB: too long for a short run")
	}
	rounds := 40
	if os.Getenv("PERRIN_TEST_FULL") != "" {
		rounds = 250
	}
	for name, size := range map[string]int{"small": 2 << 10, "large": Default().MaxValue - 64} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			opts := Default()
			s, err := Open(dir, opts, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			g, err := s.Group("cell")
			if err != nil {
				t.Fatal(err)
			}
			perRound := (4 << 20) / size
			next, written, most := uint64(1), int64(0), int64(0)
			for round := range rounds {
				var logs []*raft.Log
				for range perRound {
					data := make([]byte, size-32)
					_, _ = random.Read(data) // it never fails
					logs = append(logs, &raft.Log{Index: next, Term: 1, Type: raft.LogCommand, Data: data})
					written += int64(len(data))
					next++
				}
				if err := g.StoreLogs(logs); err != nil {
					t.Fatal(err)
				}
				if first := next - uint64(perRound); first > 1 {
					if err := g.DeleteRange(1, first-1); err != nil {
						t.Fatal(err)
					}
				}
				most = max(most, onDisk(t, dir))
				if round%25 == 24 {
					t.Logf("%d MiB written, %d MiB on disk", written>>20, onDisk(t, dir)>>20)
				}
			}
			t.Logf("%d MiB written, at most %d MiB on disk, %d in the end", written>>20, most>>20, onDisk(t, dir)>>20)
			if most > 120<<20 {
				t.Errorf("%d MiB on disk at most, for 4 MiB of entries", most>>20)
			}
		})
	}
}

func onDisk(t *testing.T, dir string) (n int64) {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // a file that has just gone
		}
		if info, err := d.Info(); err == nil {
			n += info.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return n
}
