package cpio

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestArchive holds what is written against the format: headers and content at
// multiples of four, folders before what is in them and only once.
func TestArchive(t *testing.T) {
	other := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, []byte("odd"), 0o600); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := NewWriter(&b)
	if err := w.Append(other); err != nil {
		t.Fatal(err)
	}
	w.File("a/b/one", 0o755, []byte("content"))
	w.File("a/b/two", 0o644, nil)
	w.Device("dev/null", 0o666, 1, 3)
	w.Folder("a")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if b.Len()%4 != 0 || !strings.HasPrefix(b.String(), "odd\x00070701") {
		t.Fatalf("%d bytes, begins %q", b.Len(), b.String()[:20])
	}
	if got, want := strings.Join(names(t, b.String()[4:]), " "), "a a/b a/b/one a/b/two dev dev/null TRAILER!!!"; got != want {
		t.Errorf("entries %s, want %s", got, want)
	}
	if !strings.Contains(b.String(), "a/b/one\x00") || !strings.Contains(b.String(), "content\x00070701") {
		t.Error("the content is not padded to the next entry")
	}
}

// names walks the headers, whose sizes are hexadecimal.
func names(t *testing.T, archive string) (out []string) {
	t.Helper()
	hex := func(s string) (n int) {
		for _, c := range s {
			n = n<<4 + strings.IndexRune("0123456789ABCDEF", c)
		}
		return n
	}
	for len(archive) >= 110 {
		size, name := hex(archive[54:62]), hex(archive[94:102])
		out = append(out, archive[110:110+name-1])
		at := (110 + name + 3) &^ 3
		archive = archive[(at+size+3)&^3:]
	}
	return out
}
