package wasm

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/runner"
	"github.com/perrin-mesh/perrin/workload/wasm/frame"
)

func TestValidate(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		content string
		want    string
	}{
		"module": {string(tiny), ""}, "empty": {"", "not a WebAssembly module"}, "short": {"\x00as", "not a WebAssembly module"},
		"elf": {"\x7fELF\x02\x01\x01\x00\x00", "not a WebAssembly module"}, "component": {"\x00asm\x0d\x00\x01\x00", "component"},
		"future": {"\x00asm\x02\x00\x00\x00", "unknown WebAssembly version"},
	} {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		err := Validate(p)
		if (c.want == "") != (err == nil) || err != nil && (!errors.Is(err, runner.ErrProgramInvalid) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Validate(dir); !errors.Is(err, runner.ErrProgramInvalid) {
		t.Errorf("a folder: %v", err)
	}
	if err := Validate(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func TestInvalidPrograms(t *testing.T) {
	k := kit(t)
	header := "\x00asm\x01\x00\x00\x00"
	for name, c := range map[string]struct{ content, want string }{
		"garbage after the header": {header + "garbage", "invalid"},
		"no start":                 {header, "_start"},
		"unknown call":             {header + "\x01\x04\x01\x60\x00\x00" + "\x02\x22\x01\x16wasi_snapshot_preview1\x07fd_frob\x00\x00" + "\x07\x0a\x01\x06_start\x00\x00", "fd_frob"},
		"foreign import":           {header + "\x01\x04\x01\x60\x00\x00" + "\x02\x09\x01\x03env\x01f\x00\x00" + "\x07\x0a\x01\x06_start\x00\x00", "env"},
	} {
		p := filepath.Join(t.TempDir(), "bad.wasm")
		if err := os.WriteFile(p, []byte(c.content), 0o644); err != nil {
			t.Fatal(err)
		}
		spec := workload.DefaultSpec()
		spec.Program = workload.Program{Kind: workload.Wasm, Blob: workload.Ref{Digest: workload.DigestOf([]byte(c.content))}}
		_, err := k.Runner.Open(context.Background(), runner.Slot{Spec: &spec, Program: p, Dir: t.TempDir()})
		if !errors.Is(err, runner.ErrProgramInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTrap(t *testing.T) {
	k := kit(t)
	trap := bytes.Replace(tiny, []byte("\x0a\x04\x01\x02\x00\x0b"), []byte("\x0a\x05\x01\x03\x00\x00\x0b"), 1) // unreachable
	k.Program = filepath.Join(t.TempDir(), "trap.wasm")
	if err := os.WriteFile(k.Program, trap, 0o644); err != nil {
		t.Fatal(err)
	}
	if r := k.Open(t, nil).Do().Want(t, workload.Exited, 134); !strings.Contains(r.Detail, "unreachable") {
		t.Errorf("detail %q", r.Detail)
	}
}

// The code that a workload runs is compiled once, kept for the next slot, owned
// by the node and writable by nobody else.
func TestCodeIsCachedAndSealed(t *testing.T) {
	k := kit(t)
	s := k.Open(t, nil)
	s.Do("noop").OK(t)
	r := k.Runner.(*Runner)
	code := r.cache.folder(s.Spec.Program.Blob.Digest)
	stamp := func() (sum int64) {
		err := filepath.WalkDir(code, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			if info.Mode().Perm()&0o022 != 0 {
				t.Errorf("%s has mode %v", p, info.Mode())
			}
			if info.Mode().IsRegular() {
				sum += info.ModTime().UnixNano()
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	first := stamp()
	if first == 0 {
		t.Fatal("no code is kept")
	}
	k.Open(t, nil).Do("noop").OK(t)
	again, err := New(Config{Host: r.host, CacheDir: filepath.Dir(r.cache.dir), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	k.Runner = again
	k.Open(t, nil).Do("noop").OK(t)
	if stamp() != first {
		t.Error("compiled again")
	}
	if r.cache.drop(s.Spec.Program.Blob.Digest) {
		t.Error("dropped while in use")
	}
}

func TestCacheIsBounded(t *testing.T) {
	k := kit(t)
	r := k.Runner.(*Runner)
	r.cache.limit = 1
	k.Program = tinyProgram(t)
	old := k.Open(t, nil)
	digest := old.Spec.Program.Blob.Digest
	if err := old.Session.Close(); err != nil {
		t.Fatal(err)
	}
	k.Program = filepath.Join(t.TempDir(), "other.wasm")
	if err := os.WriteFile(k.Program, append(bytes.Clone(tiny), 0, 3, 1, 'x', 'y'), 0o644); err != nil {
		t.Fatal(err)
	}
	k.Open(t, nil).Do().OK(t)
	if _, err := os.Stat(r.cache.folder(digest)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the code that nobody uses is kept over the limit: %v", err)
	}
}

func TestUnitResponseThatDoesNotFit(t *testing.T) {
	s := kit(t).Open(t, nil)
	a := s.Attempt("unit-small", "GET", "/x")
	sock := serveOnce(t, filepath.Join(s.Dir, "u.sock"), "HTTP/1.0 200 OK\r\n\r\nhello")
	a.Unit = func() (string, error) { return sock, nil }
	if r := s.Run(a).OK(t); r.Stdout != "-9 9 200 hello\n" {
		t.Errorf("said %q", r.Stdout)
	}
}

func TestSourcesMustLieInTheSlot(t *testing.T) {
	s := kit(t).Open(t, nil)
	a := s.Attempt("noop")
	a.Mounts = []runner.Mount{{Source: t.TempDir(), Target: "x"}}
	if _, err := s.Session.Run(context.Background(), a); err == nil {
		t.Error("a source outside was accepted")
	}
}

func FuzzFrame(f *testing.F) {
	var buf bytes.Buffer
	w := frame.NewWriter(&buf)
	for _, t := range []frame.Type{frame.Ready, frame.Stdout, frame.Done} {
		if err := w.Send(t, 7, []byte(`{"code":3}`)); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(buf.Bytes())
	f.Add([]byte{12, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := frame.NewReader(bytes.NewReader(b))
		for {
			fr, err := r.Next()
			if err != nil {
				return
			}
			if len(fr.Payload) > frame.MaxPayload || len(fr.Payload) > len(b) {
				t.Fatalf("a payload of %d bytes from %d", len(fr.Payload), len(b))
			}
			var reply frame.Reply
			if err := fr.Decode(&reply); err != nil && !errors.Is(err, frame.ErrFrame) {
				t.Fatal(err)
			}
		}
	})
}
