package blob

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/workload"
)

// liar is a source that answers with the fuzzer's bytes.
type liar struct{ manifest, chunk []byte }

// Name implements Source.
func (liar) Name() string { return "liar" }

// Manifest implements Source.
func (l liar) Manifest(context.Context, workload.Ref) ([]byte, error) { return l.manifest, nil }

// Chunk implements Source.
func (l liar) Chunk(context.Context, workload.Ref, int, []byte) ([]byte, error) { return l.chunk, nil }

// FuzzFetch fetches blobs of arbitrary names from a source that answers with
// arbitrary bytes. What comes out of the store has its name's digest, or nothing
// comes, and what was reserved is given back.
func FuzzFetch(f *testing.F) {
	small := []byte("small")
	m := Manifest{Size: workload.ChunkSize + 5, Chunks: []workload.Digest{workload.DigestOf(nil), workload.DigestOf(small)}}
	f.Add(int64(len(small)), true, []byte(nil), small)
	f.Add(int64(4), true, []byte(nil), small)
	f.Add(m.Size, true, m.Encode(), small)
	f.Add(m.Size, false, m.Encode(), small)
	f.Add(int64(-1), false, []byte("x"), small)
	f.Add(int64(1)<<62, true, m.Encode(), small)
	s, err := Open(f.TempDir(), 64<<20, slog.New(slog.DiscardHandler))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	f.Fuzz(func(t *testing.T, size int64, honest bool, manifest, chunk []byte) {
		ref := workload.Ref{Size: size}
		if honest { // it lies about the content, not about the manifest
			ref.Digest = workload.DigestOf(manifest)
			if size <= workload.ChunkSize {
				ref.Digest = workload.DigestOf(chunk)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		err := s.Fetch(ctx, ref, []Source{liar{manifest, chunk}})
		if ctx.Err() != nil {
			t.Fatal("the fetch does not end")
		}
		if (err == nil) != s.Has(ref) {
			t.Errorf("fetch of %d bytes: %v, has it: %t", size, err, s.Has(ref))
		}
		if err == nil {
			got, err := s.ReadAll(ref, 64<<20)
			if err != nil || RefOf(got) != ref {
				t.Errorf("%d bytes came, another content: %v", len(got), err)
			}
		}
	})
}

// FuzzScan opens a store in whose folders lies a file of an arbitrary name. It
// opens, and the file is a blob of its name or is gone.
func FuzzScan(f *testing.F) {
	ref := RefOf([]byte("content"))
	good := filepath.Base(new(Store).fileName(dirSmall, ref))
	f.Add(good, []byte("content"))
	f.Add(good, []byte("contend"))
	f.Add(good, []byte("short"))
	f.Add("x-9223372036854775808", []byte{})
	f.Add(good[:64]+"--7", []byte("content"))
	f.Fuzz(func(t *testing.T, name string, content []byte) {
		dir := t.TempDir()
		if name == "" || name == "." || !filepath.IsLocal(name) || filepath.Base(name) != name || bytes.ContainsRune([]byte(name), 0) || len(name) > 200 {
			return
		}
		s, err := Open(dir, 64<<20, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		for _, folder := range []string{dirSmall, dirLarge, dirPartial, dirManifest} {
			sub := filepath.Join(dir, folder, "ab")
			if err := errors.Join(os.MkdirAll(sub, 0o755), os.WriteFile(filepath.Join(sub, name), content, 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		s, err = Open(dir, 64<<20, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if ref, ok := parseName(name); ok && s.Has(ref) {
			r, err := s.Open(ref)
			if err != nil {
				return
			}
			defer r.Close()
			if got, err := io.ReadAll(r); err == nil && RefOf(got) != ref {
				t.Errorf("%q holds other content", name)
			}
		}
	})
}
