package blob

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/workload"
)

// grow makes a folder with a little of everything a tree may have.
func grow(t testing.TB, dir string) {
	t.Helper()
	long := strings.Repeat("long-", 30)
	err := errors.Join(
		os.MkdirAll(filepath.Join(dir, "src/"+long), 0o700),
		os.Mkdir(filepath.Join(dir, "empty"), 0o750),
		os.WriteFile(filepath.Join(dir, "src/main.go"), []byte("package main\n"), 0o600),
		os.WriteFile(filepath.Join(dir, "src/"+long+"/"+long), []byte("deep"), 0o640),
		os.WriteFile(filepath.Join(dir, "run.sh"), []byte("#!/bin/sh\n"), 0o700),
		os.WriteFile(filepath.Join(dir, "nothing"), nil, 0o644),
		os.Symlink("../run.sh", filepath.Join(dir, "src/run")),
		os.Symlink("src", filepath.Join(dir, "source")),
		os.Symlink("nowhere/yet", filepath.Join(dir, "dangling")),
	)
	if err != nil {
		t.Fatal(err)
	}
}

func archived(t testing.TB, dir string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := PackTree(context.Background(), dir, &b, DefaultLimits()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// describe lists a folder: type, mode, target and content of each entry.
func describe(t testing.TB, dir string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		info, err := d.Info()
		rel, _ := filepath.Rel(dir, name)
		target, _ := os.Readlink(name)
		var content []byte
		if d.Type().IsRegular() {
			content, err = os.ReadFile(name)
		}
		fmt.Fprintf(&out, "%s %s %q %q\n", info.Mode(), rel, target, content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func unpack(t testing.TB, archive []byte, l Limits) (dir string, err error) {
	t.Helper()
	dir = t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	return dir, UnpackTree(bytes.NewReader(archive), root, l)
}

func TestTreeComesBackAndPacksTheSame(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	a := t.TempDir()
	grow(t, a)
	archive := archived(t, a)
	b, err := unpack(t, archive, DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	if again := archived(t, b); !bytes.Equal(again, archive) {
		t.Error("the unpacked tree packs to other bytes")
	}
	got := describe(t, b)
	for _, want := range []string{
		`-rwxr-xr-x run.sh "" "#!/bin/sh\n"`, `-rw-r--r-- src/main.go "" "package main\n"`,
		`Lrwxrwxrwx src/run "../run.sh" ""`, `Lrwxrwxrwx source "src" ""`, `drwxr-xr-x empty "" ""`,
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("no line %s in\n%s", want, got)
		}
	}
}

// TestTreeBytesAreStable pins the encoding: another one would give every tree
// another digest.
func TestTreeBytesAreStable(t *testing.T) {
	dir := t.TempDir()
	grow(t, dir)
	os.Chtimes(filepath.Join(dir, "run.sh"), time.Unix(1, 2), time.Unix(3, 4))
	const want = "sha256:e40602203dbcd6e56903f37a55dfa2ede160e505f9e7d6c43731a44e11d5011e"
	if got := workload.DigestOf(archived(t, dir)).String(); got != want {
		t.Errorf("digest %s, want %s", got, want)
	}
}

func TestPackRefuses(t *testing.T) {
	tests := map[string]struct {
		make   func(dir string) error
		limits Limits
		want   string
	}{
		"a named pipe":     {func(d string) error { return syscall.Mkfifo(d+"/p", 0o600) }, Limits{}, `"p" is a named pipe`},
		"an absolute link": {func(d string) error { return os.Symlink("/etc/passwd", d+"/l") }, Limits{}, "leads outside"},
		"a link up":        {func(d string) error { return os.Symlink("..", d+"/l") }, Limits{}, "outside"},
		"a link through a folder and up": {func(d string) error {
			return errors.Join(os.MkdirAll(d+"/a/b", 0o755), os.Symlink("../..", d+"/a/b/up"), os.Symlink("b/up/..", d+"/a/l"))
		}, Limits{}, "may lead, outside"},
		"too many entries": {func(d string) error { return errors.Join(os.Mkdir(d+"/a", 0o755), os.Mkdir(d+"/b", 0o755)) }, Limits{Entries: 1}, "more than 1 entries"},
		"too many bytes":   {func(d string) error { return os.WriteFile(d+"/a", make([]byte, 9), 0o644) }, Limits{Bytes: 8}, "more than 8 bytes"},
		"a long name":      {func(d string) error { return os.Mkdir(d+"/abcdef", 0o755) }, Limits{Name: 5}, "at most 5"},
		"a deep folder":    {func(d string) error { return os.MkdirAll(d+"/a/b/c", 0o755) }, Limits{Depth: 1}, "1 folders deep"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := test.make(dir); err != nil {
				t.Fatal(err)
			}
			err := PackTree(context.Background(), dir, new(bytes.Buffer), test.limits)
			if !errors.Is(err, ErrTree) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want it to say %q", err, test.want)
			}
		})
	}
	if err := PackTree(context.Background(), "/nonexistent", new(bytes.Buffer), Limits{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	dir := t.TempDir()
	grow(t, dir)
	if err := PackTree(ctx, dir, new(bytes.Buffer), Limits{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// archiveOf writes headers as they are; content is Size letters.
func archiveOf(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			w.Write(bytes.Repeat([]byte("x"), int(h.Size)))
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

var hostile = map[string]struct {
	headers []tar.Header
	want    string
}{
	"absolute":         {[]tar.Header{{Typeflag: tar.TypeReg, Name: "/etc/x", Size: 1}}, "not a relative, clean path"},
	"up":               {[]tar.Header{{Typeflag: tar.TypeReg, Name: "../x", Size: 1}}, "not a relative, clean path"},
	"up inside":        {[]tar.Header{{Typeflag: tar.TypeDir, Name: "a/"}, {Typeflag: tar.TypeReg, Name: "a/../../x"}}, "not a relative, clean path"},
	"the root itself":  {[]tar.Header{{Typeflag: tar.TypeDir, Name: "./"}}, "not a relative, clean path"},
	"empty name":       {[]tar.Header{{Typeflag: tar.TypeReg, Name: ""}}, "not a relative, clean path"},
	"twice":            {[]tar.Header{{Typeflag: tar.TypeReg, Name: "a"}, {Typeflag: tar.TypeReg, Name: "a"}}, "twice"},
	"folder twice":     {[]tar.Header{{Typeflag: tar.TypeDir, Name: "a/"}, {Typeflag: tar.TypeSymlink, Name: "a", Linkname: "b"}}, "twice"},
	"through a link":   {[]tar.Header{{Typeflag: tar.TypeSymlink, Name: "a", Linkname: "b"}, {Typeflag: tar.TypeReg, Name: "a/x"}}, "no folder"},
	"below a file":     {[]tar.Header{{Typeflag: tar.TypeReg, Name: "a"}, {Typeflag: tar.TypeReg, Name: "a/x"}}, "no folder"},
	"no folder first":  {[]tar.Header{{Typeflag: tar.TypeReg, Name: "a/x"}}, "comes before its folder"},
	"link out":         {[]tar.Header{{Typeflag: tar.TypeSymlink, Name: "a", Linkname: "../b"}}, "outside"},
	"link to the root": {[]tar.Header{{Typeflag: tar.TypeSymlink, Name: "a", Linkname: "/"}}, "outside"},
	"link via a link":  {[]tar.Header{{Typeflag: tar.TypeDir, Name: "d/"}, {Typeflag: tar.TypeSymlink, Name: "d/up", Linkname: ".."}, {Typeflag: tar.TypeSymlink, Name: "d/out", Linkname: "up/../.."}}, "outside"},
	"hard link":        {[]tar.Header{{Typeflag: tar.TypeReg, Name: "a"}, {Typeflag: tar.TypeLink, Name: "b", Linkname: "a"}}, "has type"},
	"device":           {[]tar.Header{{Typeflag: tar.TypeChar, Name: "null", Devmajor: 1, Devminor: 3}}, "has type"},
	"pipe":             {[]tar.Header{{Typeflag: tar.TypeFifo, Name: "p"}}, "has type"},
	"attribute":        {[]tar.Header{{Typeflag: tar.TypeReg, Name: "a", PAXRecords: map[string]string{"SCHILY.xattr.security.capability": "x"}}}, "extended attribute"},
	"entries":          {[]tar.Header{{Typeflag: tar.TypeReg, Name: "a"}, {Typeflag: tar.TypeReg, Name: "b"}, {Typeflag: tar.TypeReg, Name: "c"}, {Typeflag: tar.TypeReg, Name: "d"}}, "more than 3 entries"},
	"bytes":            {[]tar.Header{{Typeflag: tar.TypeReg, Name: "a", Size: 60}, {Typeflag: tar.TypeReg, Name: "b", Size: 60}}, "more than 100 bytes"},
	"long name":        {[]tar.Header{{Typeflag: tar.TypeReg, Name: strings.Repeat("n", 300)}}, "at most 200"},
}

func TestUnpackRefuses(t *testing.T) {
	for name, test := range hostile {
		t.Run(name, func(t *testing.T) {
			dir, err := unpack(t, archiveOf(t, test.headers...), Limits{Entries: 3, Bytes: 100, Name: 200, Depth: 8})
			if !errors.Is(err, ErrTree) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want it to say %q", err, test.want)
			}
			if _, err := os.Lstat(filepath.Join(filepath.Dir(dir), "x")); err == nil {
				t.Error("it wrote outside")
			}
		})
	}
}

func TestUnpackRefusesACutArchive(t *testing.T) {
	dir := t.TempDir()
	grow(t, dir)
	archive := archived(t, dir)
	_, err := unpack(t, archive[:700], DefaultLimits())
	if !errors.Is(err, ErrTree) {
		t.Errorf("cut: %v", err)
	}
	if _, err := unpack(t, bytes.Repeat([]byte("no tar "), 100), DefaultLimits()); !errors.Is(err, ErrTree) {
		t.Errorf("not tar: %v", err)
	}
}

func TestUnpackDoesNotFollowWhatIsThere(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	if err := os.Symlink(outside, filepath.Join(dir, "a")); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	archive := archiveOf(t, tar.Header{Typeflag: tar.TypeDir, Name: "a/"}, tar.Header{Typeflag: tar.TypeReg, Name: "a/x"})
	if err := UnpackTree(bytes.NewReader(archive), root, DefaultLimits()); err == nil {
		t.Error("unpacked through a link")
	}
	if names, _ := os.ReadDir(outside); len(names) != 0 {
		t.Errorf("outside has %v", names)
	}
}
