package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestTempDir: what a killed process left goes, and what is held or new stays.
func TestTempDir(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	held, remove, err := TempDir("perrin-x-")
	if err != nil {
		t.Fatal(err)
	}
	left, fresh := filepath.Join(os.TempDir(), "perrin-x-left"), filepath.Join(os.TempDir(), "perrin-x-fresh")
	link, other := filepath.Join(os.TempDir(), "perrin-x-link"), t.TempDir()
	old := time.Now().Add(-time.Hour)
	err = errors.Join(os.MkdirAll(filepath.Join(left, "slots", "1"), 0o700), os.Mkdir(fresh, 0o700), os.Symlink(other, link),
		os.Chtimes(left, old, old), os.Chtimes(held, old, old), os.Chtimes(other, old, old))
	if err != nil {
		t.Fatal(err)
	}
	second, removeSecond, err := TempDir("perrin-x-")
	if err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]bool{held: true, left: false, fresh: true, link: true, other: true, second: true} {
		if _, err := os.Lstat(dir); (err == nil) != want {
			t.Errorf("%s is there: %v", filepath.Base(dir), err == nil)
		}
	}
	if err := errors.Join(remove(), removeSecond()); err != nil {
		t.Error(err)
	}
	for _, dir := range []string{held, second} {
		if _, err := os.Lstat(dir); err == nil {
			t.Errorf("%s is still there", dir)
		}
	}
}
