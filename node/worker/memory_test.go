package worker

import (
	"os"
	"path/filepath"
	"testing"
)

// TestMemoryOfACrashIsCleared leaves a slot's folder in memory behind, as a crash
// does, and holds that the node's next start removes it and no other node's.
func TestMemoryOfACrashIsCleared(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	mine, theirs := MemoryFolders(dir), MemoryFolders(other)
	if len(mine) == 0 {
		t.Skip("no file system in memory that programs may run from")
	}
	for _, base := range []string{mine[0], theirs[0]} {
		if err := os.MkdirAll(filepath.Join(base, "left", "slot"), 0o711); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(base) })
		if err := os.WriteFile(filepath.Join(base, "left", "slot", "secret-token"), []byte("x"), 0o400); err != nil {
			t.Fatal(err)
		}
	}
	if err := dropMemory(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(mine[0]); !os.IsNotExist(err) {
		t.Errorf("what a crash left is still there: %v", err)
	}
	if _, err := os.Stat(theirs[0]); err != nil {
		t.Errorf("another node's is gone: %v", err)
	}
}
