package blob

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/perrin-mesh/perrin/workload"
)

func FuzzManifest(f *testing.F) {
	m := Manifest{Size: 2*workload.ChunkSize + 1, Chunks: make([]workload.Digest, 3)}
	f.Add(m.Encode())
	f.Add([]byte(manifestMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseManifest(b)
		if err != nil {
			if !errors.Is(err, ErrManifest) {
				t.Fatalf("%v does not wrap ErrManifest", err)
			}
			return
		}
		if !bytes.Equal(m.Encode(), b) {
			t.Fatal("two encodings of one manifest")
		}
		if m.Size <= workload.ChunkSize || len(m.Chunks) != chunkCount(m.Size) || len(b) != ManifestSize(m.Size) {
			t.Fatalf("size %d with %d chunks in %d bytes", m.Size, len(m.Chunks), len(b))
		}
	})
}

func FuzzUnpackTree(f *testing.F) {
	dir := f.TempDir()
	grow(f, dir)
	f.Add(archived(f, dir))
	for _, test := range hostile {
		f.Add(archiveOf(f, test.headers...))
	}
	f.Fuzz(func(t *testing.T, archive []byte) {
		parent := t.TempDir()
		dest := filepath.Join(parent, "a", "b")
		if err := os.MkdirAll(dest, 0o755); err != nil {
			t.Fatal(err)
		}
		root, err := os.OpenRoot(dest)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		limits := Limits{Entries: 64, Bytes: 1 << 16, Name: 256, Depth: 8}
		err = UnpackTree(bytes.NewReader(archive), root, limits)
		for _, up := range []string{parent, filepath.Join(parent, "a")} {
			if names, _ := os.ReadDir(up); len(names) != 1 {
				t.Fatalf("%s has %v", up, names)
			}
		}
		if err != nil {
			return
		}
		// What was accepted is a tree: it packs, stays inside and comes back.
		again := archived(t, dest)
		second, err := unpack(t, again, limits)
		if err != nil {
			t.Fatalf("unpacked, packed, and not unpacked again: %v", err)
		}
		if describe(t, second) != describe(t, dest) {
			t.Fatal("another tree came back")
		}
		holdInside(t, dest)
	})
}

// holdInside fails if a link below dir leads outside when it is followed.
func holdInside(t *testing.T, dir string) {
	t.Helper()
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	filepath.WalkDir(dir, func(name string, _ os.DirEntry, err error) error {
		if target, err := filepath.EvalSymlinks(name); err == nil && target != real && !bytes.HasPrefix([]byte(target), []byte(real+"/")) {
			t.Errorf("%s leads to %s", name, target)
		}
		return nil
	})
}
