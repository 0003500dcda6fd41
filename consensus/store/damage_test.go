package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"golang.org/x/sys/unix"
)

// copyFolder copies a data folder in which nothing is being written.
func copyFolder(t testing.TB, from string) string {
	t.Helper()
	to := t.TempDir()
	check(t, filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(from, path)
			copyFile(t, path, filepath.Join(to, rel))
		}
		return err
	}))
	return to
}

// copyFile copies the data of a file and keeps its holes.
func copyFile(t testing.TB, from, to string) {
	t.Helper()
	src, err := os.Open(from)
	check(t, err)
	defer src.Close()
	info, err := src.Stat()
	check(t, err)
	check(t, os.MkdirAll(filepath.Dir(to), 0o700))
	dst, err := os.Create(to)
	check(t, err)
	defer dst.Close()
	check(t, dst.Truncate(info.Size()))
	for at := int64(0); ; {
		at, err = unix.Seek(int(src.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return
		}
		check(t, err)
		end, err := unix.Seek(int(src.Fd()), at, unix.SEEK_HOLE)
		check(t, err)
		_, err = io.Copy(io.NewOffsetWriter(dst, at), io.NewSectionReader(src, at, end-at))
		check(t, err)
		at = end
	}
}

// fill makes a folder with tables and a write-ahead log, the way a crash leaves
// it: closing writes the tables, and what comes after is copied while it is open.
func fill(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for from := uint64(1); ; from += 3500 {
		s := open(t, dir)
		g := group(t, s, "cell")
		check(t, g.SetUint64([]byte("CurrentTerm"), from))
		check(t, s.Cache("c").Put("k", []byte("v")))
		if from > 7000 {
			crashed := copyFolder(t, dir)
			check(t, s.Close())
			return crashed
		}
		logs := entries(from, from+3499, 4)
		for n, l := range logs {
			for k := range 500 {
				l.Data = append(l.Data, byte(k*7+n))
			}
		}
		check(t, g.StoreLogs(logs))
		check(t, s.Close())
	}
}

func TestDamagedFolderIsRefused(t *testing.T) {
	crashed := fill(t)
	tables, err := filepath.Glob(filepath.Join(crashed, "raft", "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("the folder has no table to damage: %v", err)
	}
	sst := filepath.Join("raft", filepath.Base(tables[0]))
	wals, _ := filepath.Glob(filepath.Join(crashed, "raft", "*.mem"))
	wal := filepath.Join("raft", filepath.Base(wals[len(wals)-1]))
	half := func(b []byte) []byte { return b[:len(b)/2] }
	none := func([]byte) []byte { return nil }
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte {
			b[(at+len(b))%len(b)] ^= 0x40
			return b
		}
	}
	for _, damage := range []struct {
		name, file string
		change     func([]byte) []byte // nil removes the file
		want       error
	}{
		{"half a table", sst, half, ErrCorrupt},
		{"an empty table", sst, none, ErrCorrupt},
		{"a flipped bit in a table", sst, flip(5000), ErrCorrupt},
		{"a flipped bit at a table's end", sst, flip(-10), ErrCorrupt},
		{"no table", sst, nil, ErrCorrupt},
		{"a flipped bit in the write-ahead log", wal, flip(40), ErrCorrupt},
		{"an empty write-ahead log", wal, none, ErrCorrupt},
		{"no write-ahead log", wal, nil, ErrCorrupt},
		{"half a manifest", "raft/MANIFEST", half, ErrCorrupt},
		{"no manifest", "raft/MANIFEST", nil, ErrCorrupt},
		{"a flipped bit in the manifest", "raft/MANIFEST", flip(12), ErrCorrupt},
		{"no format", "FORMAT", nil, ErrCorrupt},
		{"another format", "FORMAT", func([]byte) []byte { return []byte("something else") }, ErrCorrupt},
		{"a newer format", "FORMAT", func([]byte) []byte { return []byte("perrin store 4\n") }, ErrFormat},
		{"an older format", "FORMAT", func([]byte) []byte { return []byte("perrin store 2\n") }, ErrOldFormat},
		{"nothing", "FORMAT", func(b []byte) []byte { return b }, nil},
		{"no mark", "ACKED", nil, nil},
		{"half a mark", "ACKED", half, nil},
		{"an empty new write-ahead log", "raft/00099.mem", none, nil},
		{"half a table that a crash left", "raft/000777.sst", func([]byte) []byte { return []byte("half") }, nil},
		{"half a cache manifest", "node/MANIFEST", func([]byte) []byte { return []byte("junk") }, nil},
	} {
		t.Run(damage.name, func(t *testing.T) {
			dir := copyFolder(t, crashed)
			spoil(t, filepath.Join(dir, damage.file), damage.change)
			first, last, err := openSpan(dir)
			if !errors.Is(err, damage.want) {
				t.Fatalf("open = %v, want %v", err, damage.want)
			}
			if err == nil && (first != 1 || last != 7000) {
				t.Errorf("the log spans %d to %d, want 1 to 7000", first, last)
			}
		})
	}
}

func spoil(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	if change == nil {
		check(t, os.Remove(path))
		return
	}
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	check(t, os.WriteFile(path, change(b), 0o600))
}

// openSpan opens a folder and the group in it.
func openSpan(dir string) (first, last uint64, err error) {
	s, err := Open(dir, Default(), nil)
	if err != nil {
		return 0, 0, err
	}
	defer s.Close()
	g, err := s.Group("cell")
	if err != nil {
		return 0, 0, err
	}
	first, last = g.span()
	return first, last, nil
}

// TestTornTailIsCutOff cuts the write-ahead log inside the last write, which was
// not acknowledged: ACKED is that of before.
func TestTornTailIsCutOff(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	g := group(t, s, "cell")
	check(t, g.StoreLogs(entries(1, 10, 1)))
	before, err := os.ReadFile(filepath.Join(dir, "ACKED"))
	check(t, err)
	whole := walEnd(t, copyFolder(t, dir))
	check(t, g.StoreLogs(entries(11, 20, 1)))
	crashed := copyFolder(t, dir)
	end := walEnd(t, crashed)
	for cut := whole + 1; cut < end; cut += max(1, (end-whole)/25) {
		dir := copyFolder(t, crashed)
		check(t, os.WriteFile(filepath.Join(dir, "ACKED"), before, 0o600))
		spoil(t, filepath.Join(dir, "raft", "00001.mem"), func(b []byte) []byte { return b[:cut] })
		if first, last, err := openSpan(dir); err != nil || first != 1 || last != 10 {
			t.Fatalf("cut at %d of %d: log %d to %d, %v; want 1 to 10", cut, end, first, last, err)
		}
	}
}

// walEnd returns where the write-ahead log of a young folder ends.
func walEnd(t *testing.T, dir string) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "raft", "00001.mem"))
	check(t, err)
	return len(strings.TrimRight(string(b), "\x00"))
}

func TestSecondDaemonIsRefused(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	_, err := Open(dir, Default(), nil)
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("second open = %v, want ErrInUse with the process", err)
	}
}

func TestReadOnlyFolderIsRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	check(t, os.Mkdir(dir, 0o500))
	if f, err := os.Create(filepath.Join(dir, "probe")); err == nil {
		f.Close()
		t.Skip("this user may write to a read-only folder (CAP_DAC_OVERRIDE)")
	}
	if _, err := Open(dir, Default(), nil); !errors.Is(err, ErrReadOnly) {
		t.Errorf("open = %v, want ErrReadOnly", err)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for _, o := range []Options{{}, {MaxValue: 1, Retain: 0}, {MaxValue: 32 << 20, Retain: 1}, {Reserve: -1, MaxValue: 1, Retain: 1}} {
		if _, err := Open(t.TempDir(), o, nil); err == nil {
			t.Errorf("options %+v were accepted", o)
		}
	}
}

func TestUnfinishedSnapshotIsRemoved(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	g := group(t, s, "cell")
	snaps, err := g.Snapshots(hclog.NewNullLogger())
	check(t, err)
	sink, err := snaps.Create(1, 5, 1, raft.Configuration{}, 1, nil)
	check(t, err)
	_, err = sink.Write([]byte("half"))
	check(t, err)
	left := filepath.Join(dir, "snapshots", "cell", "snapshots")
	if names, _ := os.ReadDir(left); len(names) != 1 {
		t.Fatalf("%d unfinished snapshots, want 1", len(names))
	}
	_, err = g.Snapshots(hclog.NewNullLogger())
	check(t, err)
	if names, _ := os.ReadDir(left); len(names) != 0 {
		t.Errorf("%d files are left of an unfinished snapshot", len(names))
	}
}

// TestFailedWriteStopsTheStore gives the database a write that it refuses.
func TestFailedWriteStopsTheStore(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	g := group(t, s, "cell")
	check(t, g.StoreLogs(entries(1, 5, 1)))
	if err := s.commit.do(demandSmall, []op{{key: nil, value: []byte("v")}}); !errors.Is(err, ErrBroken) {
		t.Errorf("a write that fails = %v, want ErrBroken", err)
	}
	if err := g.StoreLogs(entries(6, 6, 1)); !errors.Is(err, ErrBroken) {
		t.Errorf("the write after it = %v, want ErrBroken", err)
	}
	wantSpan(t, g, 1, 5)
	check(t, s.Close())
	g = group(t, open(t, dir), "cell")
	wantSpan(t, g, 1, 5)
	check(t, g.StoreLogs(entries(6, 6, 1)))
}
