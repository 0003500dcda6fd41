package oci

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/oci/ocitest"
	"github.com/perrin-mesh/perrin/workload/oci/unpack"
	"github.com/perrin-mesh/perrin/workload/runner"
)

// open opens a slot of an image.
func (s staged) open(t testing.TB, r *Runner, layer func(i int) (string, error)) (runner.Session, error) {
	spec := workload.DefaultSpec()
	spec.Program = workload.Program{Kind: workload.OCI, Layers: s.refs}
	return r.Open(context.Background(), runner.Slot{Slot: 1, Spec: &spec, Program: s.record, Dir: t.TempDir(), Layer: layer})
}

// TestUnpackingIsConfined looks at the process that unpacks, while it waits for a
// layer.
func TestUnpackingIsConfined(t *testing.T) {
	r := newRunner(t)
	s := stage(t, ocitest.Build(t, v1.ImageConfig{Cmd: []string{"x"}}, ocitest.Tar(t, ocitest.File("a", nil)), ocitest.Tar(t, ocitest.File("x", nil))))
	var status map[string]string
	session, err := s.open(t, r, func(i int) (string, error) {
		if i == 1 {
			for until := time.Now().Add(30 * time.Second); status == nil && time.Now().Before(until); { // layers are fetched ahead
				status = childOf("unpack")
			}
		}
		return s.layers[i], nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Close(); err != nil {
		t.Error(err)
	}
	for key, want := range map[string]string{"Seccomp": "2", "NoNewPrivs": "1", "CapEff": "0000000000000000", "CapBnd": "0000000000000000"} {
		if status[key] != want {
			t.Errorf("%s is %q, want %q", key, status[key], want)
		}
	}
	if uid, _, _ := strings.Cut(status["Uid"], "\t"); os.Geteuid() == 0 && uid == "0" {
		t.Error("it runs as root")
	}
}

// childOf returns what /proc says of a process in a sandbox of this one that has
// the word as its second argument.
func childOf(word string) map[string]string {
	names, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range names {
		args, err := os.ReadFile(name)
		if f := strings.Split(string(args), "\x00"); err != nil || len(f) < 2 || f[0] != "perrin-shim" || f[1] != word {
			continue
		}
		dir := filepath.Dir(name)
		if !descends(filepath.Base(dir)) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, "status"))
		if err != nil {
			continue
		}
		out := map[string]string{}
		for line := range strings.Lines(string(text)) {
			key, value, _ := strings.Cut(line, ":")
			out[key] = strings.TrimSpace(value)
		}
		return out
	}
	return nil
}

// descends reports whether a process is a child, or a child's, of this one.
func descends(pid string) bool {
	for range 8 {
		raw, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil {
			return false
		}
		_, rest, _ := strings.Cut(string(raw), ") ")
		f := strings.Fields(rest)
		if len(f) < 2 {
			return false
		}
		if pid = f[1]; pid == fmt.Sprint(os.Getpid()) {
			return true
		}
	}
	return false
}

// TestUnpackingThatEatsMemory: an image whose names alone fill what unpacking may
// take is refused, and the node goes on.
func TestUnpackingThatEatsMemory(t *testing.T) {
	r := newRunner(t)
	r.most = 16 << 20
	long := strings.Repeat(strings.Repeat("n", 200)+"/", 18)
	entries := make([]ocitest.Entry, 5000)
	for i := range entries {
		entries[i] = ocitest.File(fmt.Sprintf("%s%d", long, i), nil)
	}
	s := stage(t, ocitest.Build(t, v1.ImageConfig{Cmd: []string{"x"}}, ocitest.Tar(t, entries...)))
	_, err := s.open(t, r, func(i int) (string, error) { return s.layers[i], nil })
	if !errors.Is(err, runner.ErrProgramInvalid) || !strings.Contains(err.Error(), "more than 16 MiB of memory") {
		t.Errorf("%v", err)
	}
	good := stage(t, probeImage(t, v1.ImageConfig{}))
	good.kit(r).Open(t, nil).Do("exit", "3").Want(t, workload.Exited, 3)
}

// TestLayerThatDoesNotCome: the reason is passed on, and nothing is left.
func TestLayerThatDoesNotCome(t *testing.T) {
	r := newRunner(t)
	s := stage(t, probeImage(t, v1.ImageConfig{}))
	gone := errors.New("nobody has it")
	for _, at := range []int{0, 1} {
		_, err := s.open(t, r, func(i int) (string, error) {
			if i == at {
				return "", gone
			}
			return s.layers[i], nil
		})
		if !errors.Is(err, gone) || errors.Is(err, runner.ErrProgramInvalid) {
			t.Errorf("layer %d: %v", at, err)
		}
	}
	_, err := s.open(t, r, func(int) (string, error) { return filepath.Join(t.TempDir(), "none"), nil })
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a layer that vanished: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(r.cfg.Dir, "*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestTakeOver: whatever a worker that the image has taken over leaves, the node
// shows programs nothing but files, folders and links, within the bounds.
func TestTakeOver(t *testing.T) {
	limits := unpack.Limits{Bytes: 1 << 20, Files: 100, Depth: 5}
	for want, leave := range map[string]func(dir string) error{
		"": func(dir string) error {
			f := filepath.Join(dir, "su")
			return errors.Join(os.WriteFile(f, []byte("x"), 0o755), os.Chmod(f, 0o755|fs.ModeSetuid|fs.ModeSetgid),
				os.Mkdir(filepath.Join(dir, "d"), 0o755), os.Link(f, filepath.Join(dir, "d", "again")), os.Symlink("/etc/shadow", filepath.Join(dir, "l")))
		},
		"is not a file": func(dir string) error { return unix.Mkfifo(filepath.Join(dir, "pipe"), 0o644) },
		"deeper than 5": func(dir string) error { return os.MkdirAll(filepath.Join(dir, "1/2/3/4/5/6/7/8"), 0o755) },
		"more than 100": func(dir string) error {
			var errs []error
			for i := range 200 {
				errs = append(errs, os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o644))
			}
			return errors.Join(errs...)
		},
		"or 1048576 bytes": func(dir string) error { return os.Truncate(createFile(filepath.Join(dir, "big")), 2<<20) },
	} {
		dir := t.TempDir()
		if err := leave(dir); err != nil {
			t.Fatal(err)
		}
		bytes, err := takeOver(dir, limits)
		if want != "" {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
			continue
		}
		info, serr := os.Stat(filepath.Join(dir, "su"))
		if err = errors.Join(err, serr); err != nil || info.Mode() != 0o755 || bytes < 4*entryCost || bytes > 4*entryCost+2 {
			t.Errorf("%v, %v, %d bytes", err, info, bytes)
		}
	}
}

func createFile(path string) string {
	_ = os.WriteFile(path, nil, 0o644) // Truncate tells
	return path
}
