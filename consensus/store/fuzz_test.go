package store

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

// FuzzMarker opens arbitrary bytes as the file of acknowledged writes: it tells a
// database that is behind, or tells nothing, and is whole afterwards.
func FuzzMarker(f *testing.F) {
	path := filepath.Join(f.TempDir(), "ACKED")
	m, err := openMarker(path, 7, slog.New(slog.DiscardHandler))
	if err != nil {
		f.Fatal(err)
	}
	if err := m.close(); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, uint64(7))
	f.Add(good, uint64(6))
	f.Add(good[:5], uint64(1))
	f.Add(append(bytes.Clone(good), 1), uint64(9))
	f.Fuzz(func(t *testing.T, raw []byte, number uint64) {
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := openMarker(path, number, slog.New(slog.DiscardHandler))
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("%v, want ErrCorrupt", err)
			}
			return
		}
		defer m.close()
		if acked, err := m.read(); err != nil || acked != number {
			t.Errorf("opened at %d, it reads %d, %v", number, acked, err)
		}
	})
}

// FuzzFormat reads arbitrary bytes as the marker of a folder's format.
func FuzzFormat(f *testing.F) {
	dir := f.TempDir()
	s := &Store{dir: dir}
	if err := s.markFormat(); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(s.path("FORMAT"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(formatPrefix + "999"))
	f.Add([]byte(formatPrefix + "-1"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		if err := os.WriteFile(s.path("FORMAT"), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		err := s.checkFormat()
		if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFormat) {
			t.Errorf("%v, want ErrCorrupt or ErrFormat", err)
		}
		if err == nil && !bytes.HasPrefix(bytes.TrimSpace(raw), []byte(formatPrefix)) {
			t.Errorf("%q was taken for a format", raw)
		}
	})
}
