package worker

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/perrin-mesh/perrin/workload"
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

// TestSealedFolderIsClosedToOthers makes a slot's folder as sealed work has it:
// another user of the machine, who knows its path, opens nothing in it, and one
// who was there first with the name of its parent gets nothing put there.
func TestSealedFolderIsClosedToOthers(t *testing.T) {
	w := &Worker{cfg: Config{Dir: t.TempDir()}}
	folders := MemoryFolders(w.cfg.Dir)
	if len(folders) == 0 {
		t.Skip("no file system in memory that programs may run from")
	}
	slotIn := func() *slot { return &slot{w: w, spec: &workload.Spec{}, dir: filepath.Join(w.cfg.Dir, "slot-1")} }
	s := slotIn()
	if err := s.moveToMemory(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dropMemory(w.cfg.Dir) })
	for dir := s.dir; dir != filepath.Dir(folders[0]); dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o700 {
			t.Errorf("%s is %s", dir, info.Mode())
		}
	}
	secret := filepath.Join(s.dir, "secret-token")
	if err := os.WriteFile(secret, []byte("x"), 0o444); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 { // who may try it as somebody else
		cmd := exec.CommandContext(t.Context(), "cat", secret)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "ermission denied") {
			t.Errorf("another user reads %q, %v", out, err)
		}
	}
	if err := dropMemory(w.cfg.Dir); err != nil {
		t.Fatal(err)
	}
	for _, base := range folders {
		if err := errors.Join(os.Mkdir(base, 0o700), os.Chmod(base, 0o777)); err != nil {
			t.Fatal(err)
		}
	}
	if err := slotIn().moveToMemory(); !errors.Is(err, errNoMemoryFolder) || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("in a folder that others may write to: %v", err)
	}
}
