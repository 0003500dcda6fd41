package collect

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestDevice asks a device that is none, and one that is not there: the request
// itself is only ever answered by an SEV-SNP machine, which no test has.
func TestDevice(t *testing.T) {
	root := t.TempDir()
	if _, _, err := sevGuest(root)([64]byte{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a device: %v", err)
	}
	if err := os.MkdirAll(filepath.Join(root, "dev"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, SEVDevice), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := sevGuest(root)([64]byte{}); !errors.Is(err, unix.ENOTTY) {
		t.Errorf("of a plain file: %v", err)
	}
}

// TestAnswer reads what the firmware answers.
func TestAnswer(t *testing.T) {
	good := make([]byte, 4000)
	good[4], good[5] = 0xa0, 4 // 1184 bytes
	if report, err := sevReport(good); err != nil || len(report) != 1184 {
		t.Errorf("%d bytes, %v", len(report), err)
	}
	for says, change := range map[string]func([]byte) []byte{
		"status 0x16":       func(b []byte) []byte { b[0] = 0x16; return b },
		"4294967295 bytes":  func(b []byte) []byte { copy(b[4:], "\xff\xff\xff\xff"); return b },
		"answer of 3 bytes": func([]byte) []byte { return make([]byte, 3) },
	} {
		if _, err := sevReport(change(append([]byte(nil), good...))); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v, want %q", err, says)
		}
	}
}
