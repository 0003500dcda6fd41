package main

import (
	"os"
	"path/filepath"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/perrin-mesh/perrin/workload/oci/ocitest"
)

// images is what scripts find of container images: a registry for everybody and
// one for those who know a password.
type images struct {
	bin           string
	open, private *ocitest.Registry
	pushed        *ocitest.Image
}

func newImages(t *testing.T, bin string) *images {
	t.Helper()
	x := &images{bin: bin, open: ocitest.NewRegistry(t), private: ocitest.NewPrivate(t, "anna", "secret", true)}
	x.pushed = x.build(t, v1.ImageConfig{Entrypoint: []string{"probe"}, Cmd: []string{"env", "SHAPE"}, Env: []string{"SHAPE=round"}})
	x.open.Push(t, x.pushed, "team/app", "v1")
	x.private.Push(t, x.pushed, "team/app", "v1")
	return x
}

func (x *images) build(t testing.TB, config v1.ImageConfig) *ocitest.Image {
	probe, err := os.ReadFile(filepath.Join(x.bin, "probe"))
	if err != nil {
		t.Fatal(err)
	}
	return ocitest.Build(t, config, ocitest.Tar(t, ocitest.File("bin/probe", probe)),
		ocitest.Tar(t, ocitest.File("etc/motd", []byte("of the image")), ocitest.Link("usr/bin", "/bin")))
}

func (x *images) setup(env *testscript.Env) {
	env.Setenv("REGISTRY", x.open.Host)
	env.Setenv("PRIVATE", x.private.Host)
	env.Setenv("DOCKER_CONFIG", filepath.Join(env.WorkDir, "docker"))
}

// imageCommand is "image KIND PATH": it writes an image as a layout or an archive.
func (x *images) imageCommand(t *testing.T) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) != 2 {
			ts.Fatalf("usage: image layout|archive|escaping PATH")
		}
		to := ts.MkAbs(args[1])
		switch args[0] {
		case "layout":
			x.pushed.Layout(t, to)
		case "archive":
			x.pushed.Archive(t, to, "v1", "v2")
		case "escaping":
			ocitest.Build(t, v1.ImageConfig{Cmd: []string{"x"}}, ocitest.Tar(t, ocitest.File("../../escaped", nil))).Layout(t, to)
		default:
			ts.Fatalf("no kind of image %q", args[0])
		}
	}
}

// pulledCommand is "pulled N": each layer was read that often from the registry.
func (x *images) pulledCommand(ts *testscript.TestScript, neg bool, args []string) {
	want := map[string]int{"0": 0, "1": 1, "2": 2}[args[0]]
	for d, content := range x.pushed.Blobs {
		if len(content) > 0 && content[0] == 0x1f && x.open.Gets(d) != want {
			ts.Fatalf("layer %s was read %d times, not %d", d, x.open.Gets(d), want)
		}
	}
}
