package unpack

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"github.com/perrin-mesh/perrin/workload/oci/image"
	"github.com/perrin-mesh/perrin/workload/oci/ocitest"
)

// layerOf describes an archive and its bytes as they are moved.
func layerOf(archive, moved []byte, packing image.Compression) image.Layer {
	return image.Layer{Digest: digest.FromBytes(moved), Size: int64(len(moved)), Packing: packing, DiffID: digest.FromBytes(archive)}
}

// into unpacks archives, one layer each, and returns the folder.
func into(t testing.TB, l Limits, archives ...[]byte) (string, *Unpacker, error) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "above", "root")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	u := New(root, l)
	t.Cleanup(u.Close)
	for _, a := range archives {
		moved := ocitest.Pack(t, a)
		if err := u.Layer(bytes.NewReader(moved), layerOf(a, moved, image.Gzip)); err != nil {
			return dir, u, err
		}
	}
	return dir, u, nil
}

// tree lists what is in a folder: "name" for folders, "name=content" for files,
// "name->target" for links.
func tree(t testing.TB, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		name, _ := filepath.Rel(dir, p)
		switch d.Type() {
		case fs.ModeDir:
			out = append(out, name)
		case fs.ModeSymlink:
			to, _ := os.Readlink(p)
			out = append(out, name+"->"+to)
		case 0:
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			out = append(out, name+"="+string(b))
		default:
			out = append(out, fmt.Sprintf("%s is %s", name, d.Type()))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func file(name, text string) ocitest.Entry { return ocitest.File(name, []byte(text)) }

func hard(name, to string) ocitest.Entry {
	return ocitest.Entry{Header: tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: to}}
}

func TestLayers(t *testing.T) {
	for name, c := range map[string]struct {
		layers [][]ocitest.Entry
		want   []string
	}{
		"replaced": {[][]ocitest.Entry{{file("a", "1"), file("b", "1")}, {file("a", "2")}}, []string{"a=2", "b=1"}},
		"file over folder and back": {[][]ocitest.Entry{{file("d/x", "1"), file("f", "1")}, {file("d", "2"), file("f/y", "2")}},
			nil}, // below
		"folder over file":  {[][]ocitest.Entry{{file("f", "1")}, {{Header: tar.Header{Name: "f/"}}, file("f/y", "2")}}, []string{"f", "f/y=2"}},
		"whiteout":          {[][]ocitest.Entry{{file("d/a", "1"), file("d/b", "1"), file("e/c", "1")}, {file("d/.wh.a", ""), file(".wh.e", "")}}, []string{"d", "d/b=1"}},
		"whiteout of none":  {[][]ocitest.Entry{{file("a", "1")}, {file("x/.wh.b", "")}}, []string{"a=1", "x"}},
		"opaque first":      {[][]ocitest.Entry{{file("d/a", "1"), file("d/s/b", "1")}, {file("d/.wh..wh..opq", ""), file("d/c", "2")}}, []string{"d", "d/c=2"}},
		"opaque last":       {[][]ocitest.Entry{{file("d/a", "1"), file("d/s/b", "1")}, {file("d/c", "2"), file("d/s/n", "2"), file("d/.wh..wh..opq", "")}}, []string{"d", "d/c=2", "d/s", "d/s/n=2"}},
		"own is not hidden": {[][]ocitest.Entry{{file("a", "1")}, {file("a", "2"), file(".wh.a", "")}}, []string{"a=2"}},
		"hard link":         {[][]ocitest.Entry{{file("d/a", "1"), hard("b", "d/a")}, {hard("./c", "/d/a")}}, []string{"b=1", "c=1", "d", "d/a=1"}},
		"through a link":    {[][]ocitest.Entry{{file("usr/lib/a", "1"), ocitest.Link("lib", "/usr/lib")}, {file("lib/b", "2")}}, []string{"lib->/usr/lib", "usr", "usr/lib", "usr/lib/a=1", "usr/lib/b=2"}},
		"link is replaced":  {[][]ocitest.Entry{{file("a", "1"), ocitest.Link("l", "a")}, {file("l", "2")}}, []string{"a=1", "l=2"}},
		"link stays one":    {[][]ocitest.Entry{{ocitest.Link("l", "../../../etc/passwd")}}, []string{"l->../../../etc/passwd"}},
		"dangling folder":   {[][]ocitest.Entry{{ocitest.Link("l", "/n/m"), file("l/x", "1")}}, []string{"l->/n/m", "n", "n/m", "n/m/x=1"}},
		"root and dots":     {[][]ocitest.Entry{{{Header: tar.Header{Name: "./"}}, file("./a/./b", "1"), file("/c", "1")}}, []string{"a", "a/b=1", "c=1"}},
		"above the root":    {[][]ocitest.Entry{{ocitest.Link("up", "../../.."), file("up/x", "1")}}, []string{"up->../../..", "x=1"}},
	} {
		t.Run(name, func(t *testing.T) {
			var archives [][]byte
			for _, l := range c.layers {
				archives = append(archives, ocitest.Tar(t, l...))
			}
			dir, _, err := into(t, DefaultLimits(), archives...)
			if c.want == nil {
				if !errors.Is(err, image.ErrInvalid) || !strings.Contains(err.Error(), "something lies below it") {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := tree(t, dir); !slices.Equal(got, c.want) {
				t.Errorf("got %q\nwant %q", got, c.want)
			}
			if got := tree(t, filepath.Dir(dir)); len(got) != len(c.want)+1 {
				t.Errorf("beside the root lies something: %q", got)
			}
		})
	}
}

func TestModes(t *testing.T) {
	when := time.Unix(1_500_000_000, 0)
	dir, u, err := into(t, DefaultLimits(), ocitest.Tar(t,
		ocitest.Entry{Header: tar.Header{Name: "su", Mode: 0o6755, Uid: 0, ModTime: when}},
		ocitest.Entry{Header: tar.Header{Name: "key", Mode: 0o600, Uid: 33}},
		ocitest.Entry{Header: tar.Header{Name: "private/", Mode: 0o500}},
		file("private/x", "1"),
		ocitest.Entry{Header: tar.Header{Name: "open/", Mode: 0o1777}},
		ocitest.Entry{Header: tar.Header{Name: "dev/null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}},
		ocitest.Entry{Header: tar.Header{Name: "dev/sda", Typeflag: tar.TypeBlock, Devmajor: 8}},
		ocitest.Entry{Header: tar.Header{Name: "fifo", Typeflag: tar.TypeFifo}},
	))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{"su": 0o755, "key": 0o644, "private": fs.ModeDir | 0o755, "open": fs.ModeDir | 0o777, "dev": fs.ModeDir | 0o755} {
		info, err := os.Lstat(filepath.Join(dir, name))
		if err != nil || info.Mode() != want {
			t.Errorf("%s is %v (%v), want %v", name, info.Mode(), err, want)
		}
		if name == "su" && !info.ModTime().Equal(when) {
			t.Errorf("its time is %v", info.ModTime())
		}
	}
	for _, name := range []string{"dev/null", "dev/sda", "fifo"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s was made", name)
		}
	}
	if u.LeftOut() != 3 {
		t.Errorf("%d left out", u.LeftOut())
	}
}

// hostileLayers are images that are refused, with a part of the sentence.
func hostileLayers(t testing.TB) map[string][][]byte {
	link, one := ocitest.Link, func(e ...ocitest.Entry) [][]byte { return [][]byte{ocitest.Tar(t, e...)} }
	circle := []ocitest.Entry{link("a", "b"), link("b", "a"), file("a/x", "1")}
	var doubling []ocitest.Entry // each goes twice through the one before
	for i := range 30 {
		doubling = append(doubling, link(fmt.Sprintf("l%d", i+1), fmt.Sprintf("l%d/l%d", i, i)))
	}
	return map[string][][]byte{
		"leads out of the image":   one(file("../x", "1")),
		"\"a/../../x\" leads out":  one(file("a/../../x", "1")),
		"which leads out":          one(hard("x", "../../etc/passwd")),
		"more than 40 links":       one(circle...),
		"than 40 links":            one(append(doubling, link("l0", "l30"), file("l30/x", "1"))...),
		"whiteout of the folder":   one(file(".wh.", "")),
		"a whiteout of the folder": one(file("d/.wh...", "")),
		"whiteout of /":            {ocitest.Tar(t, file("a", "1")), ocitest.Tar(t, file(".wh..wh..opq", ""))},
		"which is not there":       one(hard("x", "y")),
		"which is no file":         one(file("d/x", ""), hard("y", "d")),
		"a hard link to a folder":  one(hard("x", "/")),
		"folders deep":             one(file(strings.Repeat("d/", 200)+"x", "1")),
		"something other than":     one(link("/", "a")),
		"something lies below":     one(file("f", "1"), file("f/x", "1")),
		"of type":                  one(ocitest.Entry{Header: tar.Header{Name: "x", Typeflag: 'Z'}}),
		"a link to nothing":        one(link("x", "")),
		"it is no tar archive":     {[]byte(strings.Repeat("no archive ", 100))},
		"file name too long":       one(file(strings.Repeat("n", 300), "1")),
		"is not there":             one(hard("a", "a")),
	}
}

func TestHostileLayers(t *testing.T) {
	for want, layers := range hostileLayers(t) {
		_, _, err := into(t, DefaultLimits(), layers...)
		if !errors.Is(err, image.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		} else if strings.ContainsAny(err.Error(), "\n\x00") || len(err.Error()) > 800 || strings.Count(err.Error(), image.ErrInvalid.Error()) != 1 {
			t.Errorf("no sentence: %q", err)
		}
	}
}

func TestBounds(t *testing.T) {
	small := Limits{Bytes: 1 << 20, Files: 100, Depth: 10}
	var many []ocitest.Entry
	for i := range 101 {
		many = append(many, file(fmt.Sprintf("f%d", i), ""))
	}
	var deep []ocitest.Entry // folders that only links describe
	for i := range 30 {
		deep = append(deep, ocitest.Link(fmt.Sprintf("l%d", i), strings.Repeat("d/", i+1)), file(fmt.Sprintf("l%d/x", i), ""))
	}
	for want, archives := range map[string][][]byte{
		"more than 100 files":   {ocitest.Tar(t, many...)},
		"than the 1048576":      {ocitest.Tar(t, file("a", strings.Repeat("x", 700<<10))), ocitest.Tar(t, file("a", strings.Repeat("y", 700<<10)))},
		"10 folders deep":       {ocitest.Tar(t, deep...)},
		"unpacks to more than":  {append(ocitest.Tar(t, file("a", "1")), make([]byte, 2<<20)...)},
		"than the 1048576 byte": {ocitest.Tar(t, ocitest.Entry{Header: tar.Header{Name: "x"}, Data: make([]byte, 2<<20)})},
	} {
		_, u, err := into(t, small, archives...)
		if !errors.Is(err, image.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		if u.Bytes() > small.Bytes+entryCost {
			t.Errorf("%q: went on to %d bytes", want, u.Bytes())
		}
	}
}

// TestSparse: a header that says 10 GB costs nothing before it is refused.
func TestSparse(t *testing.T) {
	pax := tar.Header{Name: "huge", Typeflag: tar.TypeReg, Mode: 0o644, Format: tar.FormatPAX,
		PAXRecords: map[string]string{"VENDOR.sparse.major": "1"}}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := errors.Join(w.WriteHeader(&pax), w.Close()); err != nil {
		t.Fatal(err)
	}
	// The writer makes no sparse files, so its record becomes one: of format 1.0
	// with no data and a real size of 10 GB.
	archive := bytes.Replace(buf.Bytes(), []byte("VENDOR.sparse.major=1"), []byte("GNU.sparse.size=10e10"), 1)
	_, _, err := into(t, DefaultLimits(), archive)
	if !errors.Is(err, image.ErrInvalid) {
		t.Errorf("%v", err)
	}
	_, _, err = into(t, DefaultLimits(), ocitest.Sparse(t, "huge", 10<<30))
	if !errors.Is(err, image.ErrInvalid) || !strings.Contains(err.Error(), "sparse") {
		t.Errorf("%v", err)
	}
	zeros := ocitest.Entry{Header: tar.Header{Name: "huge", Size: 10 << 30}}
	h := zeros.Header
	h.Typeflag, h.Mode = tar.TypeReg, 0o644
	buf.Reset()
	w = tar.NewWriter(&buf)
	if err := w.WriteHeader(&h); err != nil {
		t.Fatal(err)
	}
	dir, _, err := into(t, Limits{Bytes: 1 << 30, Files: 10, Depth: 10}, buf.Bytes())
	if !errors.Is(err, image.ErrInvalid) || !strings.Contains(err.Error(), "10737418240 bytes") || len(tree(t, dir)) != 0 {
		t.Errorf("%v", err)
	}
}

func TestDigestsThatLie(t *testing.T) {
	a := ocitest.Tar(t, file("a", "1"))
	moved := ocitest.Pack(t, a)
	good := layerOf(a, moved, image.Gzip)
	zero := digest.Digest("sha256:" + strings.Repeat("0", 64))
	for want, c := range map[string]struct {
		moved []byte
		edit  func(*image.Layer)
	}{
		"what was moved is":     {moved, func(l *image.Layer) { l.Digest = zero }},
		"what it unpacks to is": {moved, func(l *image.Layer) { l.DiffID = zero }},
		"has not the":           {moved, func(l *image.Layer) { l.Size-- }},
		"not unpack":            {moved[:len(moved)-4], func(*image.Layer) {}},
		"it does not unpack":    {moved[4:], func(*image.Layer) {}},
		"unpack: ":              {moved, func(l *image.Layer) { l.Packing = image.Zstd }},
		"it is no tar":          {moved, func(l *image.Layer) { l.Packing = image.Plain }},
		"a packing":             {moved, func(l *image.Layer) { l.Packing = "" }},
	} {
		dir := t.TempDir()
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		l := good
		c.edit(&l)
		u := New(root, DefaultLimits())
		err = u.Layer(bytes.NewReader(c.moved), l)
		if !errors.Is(err, image.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		u.Close()
		root.Close()
	}
}

func TestPackings(t *testing.T) {
	a := ocitest.Tar(t, file("a", strings.Repeat("text ", 1000)))
	var z bytes.Buffer
	w, err := zstd.NewWriter(&z)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(a); err != nil {
		t.Fatal(err)
	}
	w.Close()
	for packing, moved := range map[image.Compression][]byte{image.Plain: a, image.Gzip: ocitest.Pack(t, a), image.Zstd: z.Bytes()} {
		root, err := os.OpenRoot(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		u := New(root, DefaultLimits())
		if err := u.Layer(bytes.NewReader(moved), layerOf(a, moved, packing)); err != nil {
			t.Errorf("%s: %v", packing, err)
		}
		if b, err := root.ReadFile("a"); err != nil || len(b) != 5000 {
			t.Errorf("%s: %d bytes, %v", packing, len(b), err)
		}
		u.Close()
		root.Close()
	}
}

// failing is a reader that fails in the middle: no fault of the image.
type failing struct{ io.Reader }

var errDisk = errors.New("disk")

func (f failing) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		err = errDisk
	}
	return n, err
}

func TestReadersThatFail(t *testing.T) {
	a := ocitest.Tar(t, file("a", strings.Repeat("x", 1000)))
	moved := ocitest.Pack(t, a)
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	u := New(root, DefaultLimits())
	defer u.Close()
	err = u.Layer(failing{bytes.NewReader(moved[:50])}, layerOf(a, moved, image.Gzip))
	if !errors.Is(err, errDisk) || errors.Is(err, image.ErrInvalid) {
		t.Errorf("%v", err)
	}
}

func TestFit(t *testing.T) {
	dir, u, err := into(t, DefaultLimits(), ocitest.Tar(t,
		ocitest.Link("work", "/etc"), file("out", "1"), file("etc/hosts", "own"), ocitest.Link("proc", "proc")))
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Fit([]string{"etc", "work", "out", "proc"}, map[string]string{"etc/hosts": "ours", "etc/hostname": "ours"}); err != nil {
		t.Fatal(err)
	}
	want := []string{"etc", "etc/hostname=ours", "etc/hosts=own", "out", "proc", "work"}
	if got := tree(t, dir); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// FuzzLayer: whatever a layer holds, nothing is made outside of the folder and
// the bounds hold.
func FuzzLayer(f *testing.F) {
	for _, layers := range hostileLayers(f) {
		f.Add(layers[0], layers[len(layers)-1])
	}
	f.Add(ocitest.Tar(f, file("d/a", "1"), ocitest.Link("l", "/d"), hard("h", "d/a")), ocitest.Tar(f, file("l/.wh.a", ""), file("l/b", "2")))
	limits := Limits{Bytes: 1 << 20, Files: 50, Depth: 8}
	f.Fuzz(func(t *testing.T, lower, upper []byte) {
		dir := filepath.Join(t.TempDir(), "above", "root")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		u := New(root, limits)
		defer u.Close()
		for _, a := range [][]byte{lower, upper} {
			if err = u.Layer(bytes.NewReader(a), layerOf(a, a, image.Plain)); err != nil {
				break
			}
		}
		if err != nil && !errors.Is(err, image.ErrInvalid) {
			t.Fatalf("a node's fault: %v", err)
		}
		if beside, _ := os.ReadDir(filepath.Dir(dir)); len(beside) != 1 {
			t.Fatalf("made something outside: %v", beside)
		}
		if n := len(tree(t, dir)); n > limits.Files {
			t.Fatalf("%d entries", n)
		}
	})
}
