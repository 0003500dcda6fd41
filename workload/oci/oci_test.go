package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/oci/image"
	"github.com/perrin-mesh/perrin/workload/oci/ocitest"
	"github.com/perrin-mesh/perrin/workload/oci/source"
	"github.com/perrin-mesh/perrin/workload/runner"
	"github.com/perrin-mesh/perrin/workload/runner/runnertest"
	"github.com/perrin-mesh/perrin/workload/shim"
)

func TestMain(m *testing.M) {
	shim.Main()
	if raw := os.Getenv(envDaemon); raw != "" {
		fmt.Fprintln(os.Stderr, playDaemon(raw))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func newRunner(t testing.TB) *Runner {
	t.Helper()
	r, err := New(Config{Host: runnertest.Host(t), Dir: filepath.Join(t.TempDir(), "images"), Limit: 1 << 30, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if u := r.Usage(); u.Used != 0 {
			t.Errorf("images are still in use: %+v", u)
		}
	})
	return r
}

// staged is an image as a node has it: its record and layers as files.
type staged struct {
	record string
	layers []string
	refs   []workload.Ref
}

func stage(t testing.TB, img *ocitest.Image) staged {
	t.Helper()
	dir := t.TempDir()
	img.Layout(t, dir)
	src, err := source.Open(context.Background(), source.Name{Path: dir}, "")
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	raw, err := src.Record.Encode()
	if err != nil {
		t.Fatal(err)
	}
	s := staged{record: filepath.Join(dir, "record")}
	if err := os.WriteFile(s.record, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, l := range src.Image.Layers {
		s.layers = append(s.layers, filepath.Join(dir, "blobs/sha256", l.Digest.Encoded()))
		s.refs = append(s.refs, workload.Ref{Digest: workload.DigestOf([]byte(l.Digest)), Size: l.Size})
	}
	return s
}

// kit runs an image.
func (s staged) kit(r *Runner) runnertest.Kit {
	return runnertest.Kit{Runner: r, Program: s.record, Root: "/work", Prepare: func(spec *workload.Spec, slot *runner.Slot) {
		spec.Program.Layers = s.refs
		slot.Layer = func(i int) (string, error) { return s.layers[i], nil }
	}}
}

// probeImage holds the contract suite's probe.
func probeImage(t testing.TB, config v1.ImageConfig, more ...ocitest.Entry) *ocitest.Image {
	t.Helper()
	probe, err := os.ReadFile(runnertest.BuildProbe(t, "linux", runtime.GOARCH))
	if err != nil {
		t.Fatal(err)
	}
	if config.Entrypoint == nil {
		config.Entrypoint = []string{"probe"}
	}
	return ocitest.Build(t, config, ocitest.Tar(t, ocitest.File("usr/bin/probe", probe)), ocitest.Tar(t, more...))
}

func TestContract(t *testing.T) {
	runnertest.Suite(t, stage(t, probeImage(t, v1.ImageConfig{})).kit(newRunner(t)))
}

// TestConfiguration: what an image says of its user, folder and variables holds.
func TestConfiguration(t *testing.T) {
	r := newRunner(t)
	passwd := ocitest.File("etc/passwd", []byte("root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/srv/web:/bin/sh\n"))
	s := stage(t, probeImage(t, v1.ImageConfig{
		User: "web", WorkingDir: "/app/here", Env: []string{"COLOUR=red", "SHAPE=round"}, Cmd: []string{"env", "SHAPE"},
	}, passwd, ocitest.Link("app", "/srv/app"), ocitest.File("srv/app/here/own.txt", []byte("of the image")))).kit(r).Open(t, nil)
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "round"}, // the image's own command
		{[]string{"env", "COLOUR"}, "blue"},
		{[]string{"env", "HOME"}, "/srv/web"},
		{[]string{"env", "PATH"}, image.DefaultPath},
		{[]string{"read", "own.txt"}, "of the image"},
		{[]string{"read", "data/in.txt"}, "of the task"},
		{[]string{"read", "/app/here/data/in.txt"}, "of the task"},
	} {
		in := filepath.Join(s.Dir, "in.txt")
		if err := os.WriteFile(in, []byte("of the task"), 0o644); err != nil {
			t.Fatal(err)
		}
		a := s.Attempt(c.args...)
		a.Env = []string{"COLOUR=blue"}
		a.Mounts = []runner.Mount{{Source: in, Target: "data/in.txt"}}
		if got := s.Run(a).OK(t); strings.TrimSpace(got.Stdout) != c.want {
			t.Errorf("%q gives %q, want %q", c.args, got.Stdout, c.want)
		}
	}
}

// TestAttemptsDoNotMeet: what one attempt changes in the image, no other sees.
func TestAttemptsDoNotMeet(t *testing.T) {
	r := newRunner(t)
	s := stage(t, probeImage(t, v1.ImageConfig{}, ocitest.File("srv/data", []byte("first")))).kit(r).Open(t, nil)
	s.Do("write", "/srv/data", "3").OK(t)
	s.Do("write", "/new/file", "3").OK(t)
	if got := s.Do("read", "/srv/data").OK(t); got.Stdout != "first" {
		t.Errorf("a later attempt reads %q", got.Stdout)
	}
	s.Do("read", "/new/file").Want(t, workload.Exited, 1)
}

// TestIsolation asserts from inside what a program of an image cannot reach, also
// as the user that it takes for root.
func TestIsolation(t *testing.T) {
	r := newRunner(t)
	secret := filepath.Join(t.TempDir(), "node.key")
	if err := os.WriteFile(secret, []byte("key"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"0", "1000"} {
		s := stage(t, probeImage(t, v1.ImageConfig{User: user})).kit(r).Open(t, nil)
		for _, args := range [][]string{{"reach", secret, s.Dir, filepath.Dir(secret), r.cfg.Dir}, {"procs"}, {"caps"}, {"calls"}, {"fds"}, {"abi"}, {"devout"}} {
			t.Run(user+" "+args[0], func(t *testing.T) { s.Do(args...).OK(t) })
		}
	}
}

func TestPrograms(t *testing.T) {
	r := newRunner(t)
	for name, c := range map[string]struct {
		config v1.ImageConfig
		args   []string
		code   int32
		detail string
	}{
		"not there":     {v1.ImageConfig{Entrypoint: []string{"nothing"}}, nil, 127, "nothing"},
		"no program":    {v1.ImageConfig{Entrypoint: []string{"/etc/passwd"}}, nil, 126, "passwd"},
		"by its path":   {v1.ImageConfig{Entrypoint: []string{"/usr/bin/probe"}}, []string{"exit", "3"}, 3, ""},
		"first of PATH": {v1.ImageConfig{Entrypoint: []string{"probe"}, Env: []string{"PATH=/none:/etc:/usr/bin"}}, []string{"exit", "4"}, 4, ""},
	} {
		s := stage(t, probeImage(t, c.config, ocitest.Entry{Header: ocitest.File("etc/passwd", nil).Header, Data: []byte("x")})).kit(r)
		got := s.Open(t, nil).Do(c.args...)
		if got.Exit != workload.Exited || got.Code != c.code || !strings.Contains(got.Detail, c.detail) {
			t.Errorf("%s: %+v", name, got.Outcome)
		}
	}
}

// TestImagesThatDoNotOpen: each is refused with a sentence, and a task of another
// image that runs all the while does not notice.
func TestImagesThatDoNotOpen(t *testing.T) {
	r := newRunner(t)
	beside := stage(t, probeImage(t, v1.ImageConfig{})).kit(r).Open(t, nil)
	in, out := io.Pipe()
	a := beside.Attempt("cat")
	a.Stdin = in
	done := make(chan runnertest.Result)
	go func() { done <- beside.Run(a) }()
	defer func() {
		_, err := out.Write([]byte("still here"))
		err = errors.Join(err, out.Close())
		if got := <-done; err != nil || got.Exit != workload.Exited || got.Code != 0 || got.Stdout != "still here" {
			t.Errorf("the task beside: %+v", got)
		}
	}()
	good := ocitest.Tar(t, ocitest.File("a", []byte("a")))
	build := func(c v1.ImageConfig) *ocitest.Image { return ocitest.Build(t, c, good) }
	lying := ocitest.Build(t, v1.ImageConfig{}, ocitest.Tar(t, ocitest.File("c", []byte("never unpacked"))))
	for want, c := range map[string]struct {
		img  *ocitest.Image
		edit func(*staged)
	}{
		"is not a folder":     {build(v1.ImageConfig{WorkingDir: "/a"}), nil},
		"not in its":          {build(v1.ImageConfig{User: "nobody"}), nil},
		"this node is":        {ocitest.BuildFor(t, "s390x", v1.ImageConfig{}, good), nil},
		"the workload brings": {build(v1.ImageConfig{}), func(s *staged) { s.refs = s.refs[1:] }},
		"its manifest says":   {build(v1.ImageConfig{}), func(s *staged) { s.refs[0].Size++ }},
		"it does not unpack":  {lying, func(s *staged) { lie(t, s) }},
		"leads out":           {ocitest.Build(t, v1.ImageConfig{}, ocitest.Tar(t, ocitest.File("../x", nil))), nil},
		"a whiteout of /":     {ocitest.Build(t, v1.ImageConfig{}, ocitest.Tar(t, ocitest.File(".wh..wh..opq", nil))), nil},
		"its record":          {build(v1.ImageConfig{}), func(s *staged) { rewrite(t, s.record, []byte("{")) }},
	} {
		s := stage(t, c.img)
		if c.edit != nil {
			c.edit(&s)
		}
		spec := workload.DefaultSpec()
		spec.Program = workload.Program{Kind: workload.OCI, Layers: s.refs}
		_, err := r.Open(context.Background(), runner.Slot{Slot: 1, Spec: &spec, Program: s.record, Dir: t.TempDir(),
			Layer: func(i int) (string, error) { return s.layers[i], nil }})
		if !errors.Is(err, runner.ErrProgramInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if u := r.Usage(); u.Used != 1 {
		t.Errorf("left in use: %+v", u)
	}
}

func rewrite(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

// lie gives the first layer another content of the same size.
func lie(t testing.TB, s *staged) {
	t.Helper()
	raw, err := os.ReadFile(s.layers[0])
	if err != nil {
		t.Fatal(err)
	}
	other := ocitest.Pack(t, ocitest.Tar(t, ocitest.File("b", []byte("b"))))
	if len(other) > len(raw) {
		other = other[:len(raw)]
	}
	rewrite(t, s.layers[0], append(other, bytes.Repeat([]byte{0}, len(raw)-len(other))...))
}

// TestSharedRoot: two workloads of one image unpack it once, a third of another
// image with the same layers too, and nothing is fetched for what is there.
func TestSharedRoot(t *testing.T) {
	r := newRunner(t)
	first := stage(t, probeImage(t, v1.ImageConfig{})).kit(r)
	a := first.Open(t, nil)
	second := stage(t, probeImage(t, v1.ImageConfig{Env: []string{"OTHER=1"}}))
	k := second.kit(r)
	b := k.Open(t, func(_ *workload.Spec, slot *runner.Slot) {
		slot.Layer = func(i int) (string, error) { return "", fmt.Errorf("layer %d was asked for", i) }
	})
	a.Do("exit", "1").Want(t, workload.Exited, 1)
	b.Do("exit", "2").Want(t, workload.Exited, 2)
	if u := r.Usage(); u.Roots != 1 || u.Used != 1 {
		t.Errorf("%+v", u)
	}
}

func TestResolve(t *testing.T) {
	dir := t.TempDir()
	err := errors.Join(os.MkdirAll(filepath.Join(dir, "a/b"), 0o755), os.Symlink("/a/b", filepath.Join(dir, "abs")),
		os.Symlink("../../../..", filepath.Join(dir, "a/up")), os.Symlink("loop", filepath.Join(dir, "loop")), os.Symlink("/gone/x", filepath.Join(dir, "dangling")))
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for in, want := range map[string]string{
		"": "", "/": "", "/a": "/a", "a/b/": "/a/b", "/abs": "/a/b", "/a/up/a": "/a", "/new/one": "/new/one", "/../..": "", "/dangling": "/dangling", "/loop": "error",
	} {
		got, err := resolve(root, in)
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%q is %q, %v, want %q", in, got, err, want)
		}
	}
}

func TestRecordsDigestIsTheImages(t *testing.T) {
	img := ocitest.Build(t, v1.ImageConfig{Cmd: []string{"x"}}, ocitest.Tar(t, ocitest.File("x", nil)))
	s := stage(t, img)
	raw, err := os.ReadFile(s.record)
	if err != nil {
		t.Fatal(err)
	}
	got, err := image.Decode(raw)
	if err != nil || got.Digest != img.Top.Digest || got.Digest == digest.FromBytes(raw) {
		t.Errorf("%v, %v", got, err)
	}
}
