package blob

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"

	"github.com/perrin-mesh/perrin/workload"
)

func putLogged(t testing.TB, s *Store, b []byte) workload.Ref {
	t.Helper()
	ref, err := s.PutLogged("log", b)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func packsOf(t testing.TB, s *Store) []string {
	t.Helper()
	names, err := filepath.Glob(s.path(dirPack, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// Many small contents go to disk in one file, are read from memory and from it,
// and are there after a crash that follows Sync.
func TestLoggedContentsShareAFile(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, roomy)
	var refs []workload.Ref
	for i := range 100 {
		refs = append(refs, putLogged(t, s, content(i, 10+i)))
	}
	check := func(s *Store) {
		t.Helper()
		for i, ref := range refs {
			got, err := s.ReadAll(ref, 1<<10)
			if err != nil || !bytes.Equal(got, content(i, 10+i)) {
				t.Fatalf("content %d: %x, %v", i, got, err)
			}
			if got, err = s.Chunk(ref, 0); err != nil || !bytes.Equal(got, content(i, 10+i)) {
				t.Fatalf("chunk of content %d: %x, %v", i, got, err)
			}
		}
	}
	if got := files(t, s); len(got) != 0 {
		t.Errorf("on disk before Sync: %q", got)
	}
	check(s)
	if err := s.Sync(refs...); err != nil {
		t.Fatal(err)
	}
	if got := files(t, s); len(got) != 1 {
		t.Errorf("on disk after Sync: %q", got)
	}
	check(s)
	s.Close()
	s = open(t, dir, roomy)
	s.Pin("log", refs...)
	check(s)
	name, err := s.Path(refs[7])
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, content(7, 17)) {
		t.Errorf("a file of its own: %x, %v", got, err)
	}
}

// A pack goes with the last of its contents, and is packed anew when it is
// mostly empty.
func TestSparsePacksArePackedAnew(t *testing.T) {
	s := open(t, t.TempDir(), roomy)
	for round := range 3 {
		for i := range 100 {
			putLogged(t, s, content(1000*round+i, 1<<10))
		}
		if err := s.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	keep := workload.Ref{Digest: workload.DigestOf(content(5, 1<<10)), Size: 1 << 10}
	s.Pin("keeper", keep)
	s.Unpin("log")
	s.mu.Lock()
	for s.lru.Len() > 0 {
		if err := s.drop(s.lru.Back().Value.(*entry)); err != nil {
			t.Error(err)
		}
	}
	s.mu.Unlock()
	if got := packsOf(t, s); len(got) != 1 {
		t.Fatalf("packs: %q", got)
	}
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	got := packsOf(t, s)
	if len(got) != 1 {
		t.Fatalf("packs: %q", got)
	}
	info, err := os.Stat(got[0])
	if err != nil || info.Size() != int64(packHeader+packRow+1<<10) {
		t.Errorf("the pack has %d bytes, %v", info.Size(), err)
	}
	if b, err := s.ReadAll(keep, 1<<10); err != nil || !bytes.Equal(b, content(5, 1<<10)) {
		t.Errorf("what was kept: %v", err)
	}
	s.Unpin("keeper")
	s.mu.Lock()
	err = s.drop(s.whole[keep])
	s.mu.Unlock()
	if got := files(t, s); err != nil || len(got) != 0 || s.Usage().Bytes != 0 {
		t.Errorf("left: %q, %+v, %v", got, s.Usage(), err)
	}
}

// What waits in memory is bounded.
func TestMuchLoggedContentIsPackedEarly(t *testing.T) {
	s := open(t, t.TempDir(), roomy)
	for i := range 200 {
		putLogged(t, s, content(i, maxPacked))
		if s.waits > maxWaiting {
			t.Fatalf("%d bytes wait", s.waits)
		}
	}
	if got := packsOf(t, s); len(got) != 3 {
		t.Errorf("%d packs", len(got))
	}
}

// A pack that the disk has changed costs the contents that lie in the changed
// bytes, and a file that is no pack is removed.
func TestDamagedPacks(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, roomy)
	a, b := putLogged(t, s, content(1, 100)), putLogged(t, s, content(2, 100))
	if err := s.Sync(a, b); err != nil {
		t.Fatal(err)
	}
	name := packsOf(t, s)[0]
	s.Close()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)-1] ^= 1
	if err := errors.Join(os.Chmod(name, 0o600), os.WriteFile(name, raw, 0o600), os.WriteFile(s.path(dirPack, "junk"), raw[:40], 0o600)); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, roomy)
	if got := packsOf(t, s); len(got) != 2 || got[1] != s.path(dirPack, "junk"+aside) {
		t.Errorf("packs: %q", got)
	}
	if s.Has(a) == s.Has(b) {
		t.Errorf("has %t and %t", s.Has(a), s.Has(b))
	}
	for _, ref := range []workload.Ref{a, b} { // given again, as from the log
		s.Pin("log", ref)
	}
	putLogged(t, s, content(1, 100))
	putLogged(t, s, content(2, 100))
	if !s.Has(a) || !s.Has(b) {
		t.Error("a damaged content cannot be put again")
	}
}

// Who has a content's path takes it out of its pack, and what Sync said of it
// stays true.
func TestUnpackedContentIsDurable(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, roomy)
	ref := putLogged(t, s, content(1, 100))
	if err := s.Sync(ref); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Path(ref); err != nil {
		t.Fatal(err)
	}
	if got := files(t, s); len(got) != 1 || len(packsOf(t, s)) != 0 {
		t.Errorf("on disk: %q", got)
	}
	s.mu.Lock()
	if e := s.whole[ref]; !e.durable || e.place != nil || s.bytes != charge(ref) || s.reserved != 0 {
		t.Errorf("entry %+v of %d bytes, %d promised", e, s.bytes, s.reserved)
	}
	s.mu.Unlock()
	early := putLogged(t, s, content(2, 100))
	if _, err := s.Path(early); err != nil { // while it waits
		t.Fatal(err)
	}
	if err := s.Sync(early); err != nil || s.waits != 0 || !s.whole[early].durable {
		t.Errorf("%d bytes wait, %v", s.waits, err)
	}
}

// A disk that does not give a pack's head is no reason to think that it is none.
func TestUnreadablePackIsKept(t *testing.T) {
	broken := errors.New("input/output error")
	for _, given := range []int{0, 10, packHeader, packHeader + 5} {
		raw, _ := encodePack([]row{{&entry{ref: RefOf([]byte("one"))}, []byte("one")}})
		r := io.MultiReader(bytes.NewReader(raw[:given]), iotest.ErrReader(broken))
		if _, err := readPack(r, int64(len(raw))); !errors.Is(err, broken) || errors.Is(err, errPack) {
			t.Errorf("after %d bytes: %v", given, err)
		}
	}
}

func FuzzPack(f *testing.F) {
	rows := []row{{&entry{ref: RefOf([]byte("one"))}, []byte("one")}, {&entry{ref: RefOf([]byte("three"))}, []byte("three")}}
	raw, _ := encodePack(rows)
	f.Add(raw)
	f.Add(raw[:packHeader])
	f.Add([]byte(packMagic + "\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		refs, err := readPack(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			if !errors.Is(err, errPack) {
				t.Fatalf("%v does not wrap errPack", err)
			}
			return
		}
		size := int64(packHeader)
		for _, ref := range refs {
			size += packCharge(ref)
		}
		if size != int64(len(b)) {
			t.Fatalf("%d contents of %d bytes in %d", len(refs), size, len(b))
		}
	})
}
