package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/workload"
)

const roomy = 64 << 20

func open(t testing.TB, dir string, limit int64) *Store {
	t.Helper()
	s, err := Open(dir, limit, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s.AllowEviction()
	t.Cleanup(func() { s.Close() })
	return s
}

// content returns n bytes that depend on seed alone.
func content(seed, n int) []byte {
	b := make([]byte, n)
	c := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	c.Read(b)
	return b
}

func put(t testing.TB, s *Store, b []byte) workload.Ref {
	t.Helper()
	ref, err := s.Put(context.Background(), bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// files returns the regular files below the store's folders, tmp included.
func files(t testing.TB, s *Store) (names []string) {
	t.Helper()
	err := filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && d.Name() != lockName && d.Name() != versionName {
			rel, _ := filepath.Rel(s.dir, path)
			names = append(names, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

var sizes = []int{0, 1, 4096, workload.ChunkSize - 1, workload.ChunkSize, workload.ChunkSize + 1, 3*workload.ChunkSize + 17}

func TestWhatIsPutComesBack(t *testing.T) {
	s := open(t, t.TempDir(), roomy)
	for i, n := range sizes {
		b := content(i, n)
		ref := put(t, s, b)
		if again, err := s.PutBytes(b); err != nil || again != ref || ref != RefOf(b) {
			t.Fatalf("size %d: Put %v, PutBytes %v (%v), RefOf %v", n, ref, again, err, RefOf(b))
		}
		if got, err := s.ReadAll(ref, int64(n)); err != nil || !bytes.Equal(got, b) {
			t.Fatalf("size %d: read %d bytes, %v", n, len(got), err)
		}
		path, err := s.Path(ref)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, b) {
			t.Fatalf("size %d: the file has %d bytes, %v", n, len(got), err)
		}
		if info, _ := os.Stat(path); info.Mode().Perm() != fileMode {
			t.Errorf("size %d: mode %v", n, info.Mode())
		}
	}
	if u := s.Usage(); u.Blobs != len(sizes) || u.Reserved != 0 || u.Stored != uint64(len(sizes)) {
		t.Errorf("usage %+v", u)
	}
}

func TestSeekReadsAnyPart(t *testing.T) {
	s := open(t, t.TempDir(), roomy)
	b := content(1, 2*workload.ChunkSize+100)
	f, err := s.Open(put(t, s, b))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, off := range []int64{0, workload.ChunkSize - 3, 2 * workload.ChunkSize, int64(len(b)) - 5} {
		if _, err := f.Seek(off, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 5)
		if _, err := io.ReadFull(f, got); err != nil || !bytes.Equal(got, b[off:off+5]) {
			t.Fatalf("at %d: %x, %v, want %x", off, got, err, b[off:off+5])
		}
	}
	if _, err := f.Seek(-1, io.SeekStart); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("seek before the start: %v", err)
	}
}

func TestStoreOpenedTwiceIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, roomy)
	_, err := Open(dir, roomy, slog.New(slog.DiscardHandler))
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), dir) {
		t.Fatalf("got %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, dir, roomy)
}

func TestUnknownVersionIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, versionName), []byte("perrin blob store 9\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, roomy, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "store 9") {
		t.Fatalf("got %v", err)
	}
}

func TestReopenFindsBlobsAndRemovesDamage(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, roomy)
	small, large := put(t, s, content(1, 5000)), put(t, s, content(2, 2*workload.ChunkSize))
	cut := put(t, s, content(3, 5000))
	if err := os.WriteFile(s.path(dirTmp, "7"), []byte("half"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.Close()
	name := s.fileName(dirSmall, cut)
	if err := errors.Join(os.Chmod(name, 0o600), os.Truncate(name, 0)); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, roomy)
	if !s.Has(small) || !s.Has(large) || s.Has(cut) {
		t.Errorf("small %t, large %t, truncated %t", s.Has(small), s.Has(large), s.Has(cut))
	}
	if got := files(t, s); len(got) != 3 {
		t.Errorf("files %q, want small, large and its manifest", got)
	}
	if got, err := s.ReadAll(large, large.Size); err != nil || !bytes.Equal(got, content(2, 2*workload.ChunkSize)) {
		t.Errorf("large after reopening: %v", err)
	}
}

// damage changes one byte of a blob's file.
func damage(t testing.TB, s *Store, folder string, ref workload.Ref, at int64) {
	t.Helper()
	name := s.fileName(folder, ref)
	os.Chmod(name, 0o600)
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	f.ReadAt(b[:], at)
	b[0] ^= 1
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(name, time.Time{}, time.Now().Add(time.Second)); err != nil { // the kernel's clock may not have ticked since Put
		t.Fatal(err)
	}
}

func TestDamagedContentIsNeverGivenOut(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, roomy)
	small, large := put(t, s, content(1, 5000)), put(t, s, content(2, 2*workload.ChunkSize))
	damage(t, s, dirSmall, small, 10)
	damage(t, s, dirLarge, large, workload.ChunkSize+10)
	if _, err := s.ReadAll(small, small.Size); !errors.Is(err, ErrCorrupt) {
		t.Errorf("small: %v", err)
	}
	if _, err := s.Chunk(large, 0); err != nil {
		t.Errorf("chunk 0 is good: %v", err)
	}
	if _, err := s.Chunk(large, 1); !errors.Is(err, ErrCorrupt) {
		t.Errorf("chunk 1: %v", err)
	}
	if s.Has(small) || s.Has(large) {
		t.Error("the store still claims to have them")
	}
	if u := s.Usage(); u.Corrupt != 2 || u.Blobs != 0 || u.Partial != 1 {
		t.Errorf("usage %+v", u)
	}
	if again := put(t, s, content(1, 5000)); again != small || !s.Has(small) {
		t.Error("a Put does not repair it")
	}
}

func TestDamageWhileStoppedIsFoundBeforeUse(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, roomy)
	small, large := put(t, s, content(1, 5000)), put(t, s, content(2, 2*workload.ChunkSize))
	s.Close()
	damage(t, s, dirSmall, small, 0)
	damage(t, s, dirLarge, large, 0)
	s = open(t, dir, roomy)
	if s.Has(small) {
		t.Error("Has says yes to a damaged small blob")
	}
	if path, err := s.Path(large); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Path gives %q, %v", path, err)
	}
}

func TestManifestAsContentIsAnotherBlob(t *testing.T) {
	s := open(t, t.TempDir(), roomy)
	b := content(1, 2*workload.ChunkSize)
	large := put(t, s, b)
	m, err := s.Manifest(large)
	if err != nil {
		t.Fatal(err)
	}
	small := put(t, s, m)
	if small.Digest != large.Digest || small == large {
		t.Fatalf("want one digest and two names: %v and %v", small, large)
	}
	got, err := s.ReadAll(small, small.Size)
	if err != nil || !bytes.Equal(got, m) {
		t.Errorf("the manifest as content: %v", err)
	}
	got, err = s.ReadAll(large, large.Size)
	if err != nil || !bytes.Equal(got, b) {
		t.Errorf("the large blob: %v", err)
	}
	if s.Has(workload.Ref{Digest: large.Digest, Size: large.Size + 1}) {
		t.Error("the digest with another size is not a name of it")
	}
}

func TestEvictionTakesTheLeastRecentlyUsed(t *testing.T) {
	s := open(t, t.TempDir(), 4*block)
	var refs []workload.Ref
	for i := range 4 {
		refs = append(refs, put(t, s, content(i, 100)))
	}
	s.Pin("job", refs[0])
	if _, err := s.ReadAll(refs[1], 100); err != nil {
		t.Fatal(err)
	}
	put(t, s, content(9, 100))
	for i, want := range []bool{true, true, false, true} {
		if got := s.Has(refs[i]); got != want {
			t.Errorf("blob %d is here: %t, want %t", i, got, want)
		}
	}
	if u := s.Usage(); u.Evicted != 1 || u.Bytes != 4*block || u.Pinned != block {
		t.Errorf("usage %+v", u)
	}
}

func TestAllPinnedIsFull(t *testing.T) {
	s := open(t, t.TempDir(), 2*block)
	a, err := s.PutBytesPinned("a", content(1, 10))
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.PutPinned(context.Background(), "b", bytes.NewReader(content(2, 10)))
	if err != nil {
		t.Fatal(err)
	}
	before := files(t, s)
	_, err = s.PutBytes(content(3, 10))
	var full *FullError
	if !errors.Is(err, ErrFull) || !errors.As(err, &full) || full.Need != block || full.Free != 0 || full.Pinned != 2*block {
		t.Fatalf("got %v (%+v)", err, full)
	}
	if after := files(t, s); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("files %q, before %q", after, before)
	}
	s.Unpin("a")
	put(t, s, content(3, 10))
	if s.Has(a) || !s.Has(b) {
		t.Errorf("unpinned is here: %t, pinned %t", s.Has(a), s.Has(b))
	}
}

func TestTooBigEvictsNothing(t *testing.T) {
	s := open(t, t.TempDir(), 300<<10)
	small := put(t, s, content(1, 10))
	_, err := s.Put(context.Background(), bytes.NewReader(content(2, 2*workload.ChunkSize)))
	if !errors.Is(err, ErrFull) || !s.Has(small) {
		t.Fatalf("err %v, small still here %t", err, s.Has(small))
	}
	if got := files(t, s); len(got) != 1 || s.Usage().Reserved != 0 {
		t.Errorf("left %q, %+v", got, s.Usage())
	}
}

func TestNothingIsEvictedBeforeThePinsAreRestored(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, block)
	old := put(t, s, content(1, 10))
	s.Close()
	s, err := Open(dir, block, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.PutBytes(content(2, 10)); !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "pins are restored") {
		t.Fatalf("got %v", err)
	}
	s.AllowEviction()
	if _, err := s.PutBytes(content(2, 10)); err != nil || s.Has(old) {
		t.Fatalf("err %v, old still here %t", err, s.Has(old))
	}
}

func TestPinsCountOwners(t *testing.T) {
	s := open(t, t.TempDir(), roomy)
	ref := put(t, s, content(1, 10))
	s.Pin("a", ref, ref)
	s.Pin("b", ref)
	s.Unpin("a")
	if got := s.Pins("b"); len(got) != 1 || got[0] != ref || len(s.Pins("a")) != 0 {
		t.Errorf("b pins %v, a %v", got, s.Pins("a"))
	}
	if u := s.Usage(); u.Pinned != block || u.Owners != 1 {
		t.Errorf("usage %+v", u)
	}
	s.UnpinRefs("b", ref)
	s.UnpinRefs("b", ref)
	if u := s.Usage(); u.Pinned != 0 || u.Owners != 0 {
		t.Errorf("usage %+v", u)
	}
}

type failing struct{ after int }

func (f *failing) Read(p []byte) (int, error) {
	if f.after -= len(p); f.after < 0 {
		return 0, errors.New("the cable was pulled")
	}
	return len(p), nil
}

func TestFailedReaderLeavesNothing(t *testing.T) {
	s := open(t, t.TempDir(), roomy)
	for _, n := range []int{0, workload.ChunkSize, 3 * workload.ChunkSize} {
		if _, err := s.Put(context.Background(), &failing{n}); err == nil || !strings.Contains(err.Error(), "cable") {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Put(ctx, &failing{roomy}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if got := files(t, s); len(got) != 0 || s.Usage().Reserved != 0 || s.Usage().Bytes != 0 {
		t.Errorf("left %q, %+v", got, s.Usage())
	}
}

func TestReadAllRefusesMoreThanItsBound(t *testing.T) {
	s := open(t, t.TempDir(), roomy)
	ref := put(t, s, content(1, 10))
	if _, err := s.ReadAll(ref, 9); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
	if _, err := s.ReadAll(workload.Ref{Digest: ref.Digest, Size: 9}, 9); !errors.Is(err, ErrNotFound) {
		t.Errorf("wrong size: %v", err)
	}
}

func TestSyncNamesWhatIsNotHere(t *testing.T) {
	s := open(t, t.TempDir(), roomy)
	small, large := put(t, s, content(1, 10)), put(t, s, content(2, 2*workload.ChunkSize))
	if err := s.Sync(small, large); err != nil {
		t.Fatal(err)
	}
	if e, _ := s.lookup(small); !s.isDurable(e) {
		t.Error("not marked durable")
	}
	missing := RefOf([]byte("nowhere"))
	if err := s.Sync(small, missing); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), missing.Digest.Short()) {
		t.Errorf("got %v", err)
	}
}

func BenchmarkPutSmall(b *testing.B) {
	s := open(b, b.TempDir(), 1<<40)
	body := content(1, 2000)
	for i := range b.N {
		body[0], body[1], body[2], body[3] = byte(i), byte(i>>8), byte(i>>16), byte(i>>24)
		if _, err := s.PutBytes(body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPutSyncHundred(b *testing.B) {
	s := open(b, b.TempDir(), 1<<40)
	body := content(1, 2000)
	for i := range b.N {
		var refs []workload.Ref
		for j := range 100 {
			body[0], body[1], body[2], body[3] = byte(i), byte(i>>8), byte(j), 1
			refs = append(refs, put(b, s, body))
		}
		if err := s.Sync(refs...); err != nil {
			b.Fatal(err)
		}
	}
}
