package source

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/perrin-mesh/perrin/workload/oci/image"
	"github.com/perrin-mesh/perrin/workload/oci/ocitest"
)

func TestParseName(t *testing.T) {
	pin := "sha256:" + strings.Repeat("ab", 32)
	for text, want := range map[string]string{
		"alpine":                             "docker.io/library/alpine:latest",
		"alpine:3.20":                        "docker.io/library/alpine:3.20",
		"alpine@" + pin:                      "docker.io/library/alpine@" + pin,
		"me/tool":                            "docker.io/me/tool:latest",
		"ghcr.io/a/b/c:v1":                   "ghcr.io/a/b/c:v1",
		"localhost:5000/x":                   "localhost:5000/x:latest",
		"docker.io/alpine":                   "docker.io/library/alpine:latest",
		"registry.example.com/a:1@" + pin:    "registry.example.com/a@" + pin,
		"./layout":                           "path ./layout tag ",
		"./layout:v2":                        "path ./layout tag v2",
		"/srv/images/app.tar:1.0":            "path /srv/images/app.tar tag 1.0",
		"app.tar":                            "path app.tar tag ",
		"../a@" + pin:                        "path ../a tag " + pin,
		"UPPER/case":                         "error",
		"":                                   "error",
		"a b":                                "error",
		"alpine:" + strings.Repeat("x", 200): "error",
		"alpine@sha512:" + strings.Repeat("a", 128): "docker.io/library/alpine@sha512:" + strings.Repeat("a", 128),
	} {
		n, err := ParseName(text)
		got := n.Ref.String()
		switch {
		case err != nil:
			got = "error"
			if !errors.Is(err, ErrName) {
				t.Errorf("%q: %v does not wrap ErrName", text, err)
			}
		case n.Path != "":
			got = "path " + n.Path + " tag " + n.Tag
		}
		if got != want {
			t.Errorf("%q is %s, want %s (%v)", text, got, want, err)
		}
	}
}

func sample(t *testing.T) *ocitest.Image {
	return ocitest.Build(t, v1.ImageConfig{Cmd: []string{"/hi"}, WorkingDir: "/srv"},
		ocitest.Tar(t, ocitest.File("hi", []byte("#!/bin/sh\n"))), ocitest.Tar(t, ocitest.File("there", []byte("x"))))
}

func find(t *testing.T, text string) (*Source, error) {
	t.Helper()
	name, err := ParseName(text)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(context.Background(), name, runtime.GOARCH)
	if err == nil {
		t.Cleanup(func() { s.Close() })
	}
	return s, err
}

// whole reads every layer of a source and compares it with the image's.
func whole(t *testing.T, s *Source, img *ocitest.Image) {
	t.Helper()
	if len(s.Image.Layers) != 2 || s.Image.Config.WorkingDir != "/srv" {
		t.Fatalf("read %+v", s.Image)
	}
	for k, l := range s.Image.Layers {
		r, err := s.Layer(context.Background(), k)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil || string(b) != string(img.Blobs[l.Digest]) {
			t.Errorf("layer %d: %d bytes, %v", k, len(b), err)
		}
		r.Close()
	}
}

func TestRegistry(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	reg := ocitest.NewRegistry(t)
	img := sample(t)
	reg.Push(t, img, "team/app", "v1")
	for _, name := range []string{"/team/app:v1", "/team/app@" + img.Top.Digest.String(), "/team/app:v1@" + img.Top.Digest.String()} {
		s, err := find(t, reg.Host+name)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if s.Image.Digest != img.Top.Digest {
			t.Errorf("%s is %s, want %s", name, s.Image.Digest, img.Top.Digest)
		}
		whole(t, s, img)
	}
	if _, err := find(t, reg.Host+"/team/app:v2"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a tag that is not there: %v", err)
	}
	if _, err := find(t, "127.0.0.1:1/team/app"); !errors.Is(err, ErrUnreachable) {
		t.Errorf("a registry that is not there: %v", err)
	}
}

func TestPlatforms(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	reg := ocitest.NewRegistry(t)
	img := sample(t)
	other := ocitest.BuildFor(t, "s390x", v1.ImageConfig{Cmd: []string{"/hi"}}, ocitest.Tar(t, ocitest.File("s390", nil)))
	third := ocitest.BuildFor(t, "mips", v1.ImageConfig{Cmd: []string{"/hi"}}, ocitest.Tar(t, ocitest.File("mips", nil)))
	reg.Push(t, ocitest.Index(t, other, img), "app", "both")
	s, err := find(t, reg.Host+"/app:both")
	if err != nil {
		t.Fatal(err)
	}
	if s.Image.Digest != img.Top.Digest || s.Image.Platform.Architecture != runtime.GOARCH {
		t.Errorf("chose %+v", s.Image)
	}
	whole(t, s, img)
	reg.Push(t, ocitest.Index(t, other), "app", "one")
	if s, err = find(t, reg.Host+"/app:one"); err != nil || s.Image.Platform.Architecture != "s390x" {
		t.Errorf("the only platform: %v", err)
	}
	reg.Push(t, ocitest.Index(t, other, third), "app", "none")
	if _, err = find(t, reg.Host+"/app:none"); !errors.Is(err, image.ErrInvalid) || !strings.Contains(err.Error(), "linux/mips, linux/s390x") {
		t.Errorf("no platform fits: %v", err)
	}
}

func TestPrivate(t *testing.T) {
	for _, bearer := range []bool{false, true} {
		t.Run(fmt.Sprintf("bearer=%v", bearer), func(t *testing.T) {
			dir := t.TempDir()
			t.Setenv("DOCKER_CONFIG", dir)
			reg := ocitest.NewPrivate(t, "anna", "secret", bearer)
			img := sample(t)
			reg.Push(t, img, "app", "v1")
			if _, err := find(t, reg.Host+"/app:v1"); !errors.Is(err, ErrDenied) || strings.Contains(err.Error(), "secret") {
				t.Errorf("without credentials: %v", err)
			}
			auth := base64.StdEncoding.EncodeToString([]byte("anna:secret"))
			config := fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, reg.Host, auth)
			if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := find(t, reg.Host+"/app:v1")
			if err != nil {
				t.Fatal(err)
			}
			whole(t, s, img)
		})
	}
}

// TestLies: a registry that answers other bytes than those asked for is caught,
// whichever it changes.
func TestLies(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	img := sample(t)
	for d, content := range img.Blobs {
		reg := ocitest.NewRegistry(t)
		reg.Push(t, img, "app", "v1")
		for name, lie := range map[string][]byte{
			"other": append([]byte("{"), content[1:len(content)-1]...), "longer": append([]byte(nil), append(content, ' ')...),
		} {
			reg.Replace(d, append(lie, 'x'))
			if err := readWhole(t, reg.Host+"/app@"+img.Top.Digest.String()); err == nil {
				t.Errorf("%s bytes for %s were taken", name, d)
			}
		}
	}
}

func readWhole(t *testing.T, name string) error {
	s, err := find(t, name)
	if err != nil {
		return err
	}
	for k := range s.Image.Layers {
		r, err := s.Layer(context.Background(), k)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, r)
		r.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func TestLayouts(t *testing.T) {
	img := sample(t)
	dir := t.TempDir()
	img.Layout(t, filepath.Join(dir, "one"))
	img.Layout(t, filepath.Join(dir, "two"), "v1", "v2")
	img.Archive(t, filepath.Join(dir, "app.tar"), "v1")
	for _, name := range []string{"one", "one@" + img.Top.Digest.String(), "two:v2", "app.tar", "app.tar:v1"} {
		s, err := find(t, filepath.Join(dir, name))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		whole(t, s, img)
	}
	for name, want := range map[string]string{
		"two": "name one", "two:v3": `"v1", "v2"`, "one@sha256:" + strings.Repeat("0", 64): "has no sha256:", "none": "no such file", "": "no OCI layout",
	} {
		if _, err := find(t, filepath.Join(dir, name)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", name, err, want)
		}
	}
	blob := filepath.Join(dir, "one/blobs/sha256", img.Top.Digest.Encoded())
	if err := os.WriteFile(blob, []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := find(t, filepath.Join(dir, "one")); !errors.Is(err, image.ErrInvalid) {
		t.Errorf("a changed manifest: %v", err)
	}
	// A blob that is a link to a file outside of the folder.
	secret := filepath.Join(dir, "secret")
	if err := errors.Join(os.WriteFile(secret, img.Blobs[img.Top.Digest], 0o600), os.Remove(blob), os.Symlink(secret, blob)); err != nil {
		t.Fatal(err)
	}
	if _, err := find(t, filepath.Join(dir, "one")); err == nil {
		t.Error("followed a link out of the layout")
	}
}

func TestArchivesThatAreNone(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, content, 0o644); err != nil {
			t.Fatal(err)
		}
		return p
	}
	for want, p := range map[string]string{
		"unpacked first": write("a.tar", ocitest.Pack(t, ocitest.Tar(t))),
		"docker save":    write("b.tar", ocitest.Tar(t, ocitest.File("manifest.json", []byte("[]")))),
		"no OCI layout":  write("c.tar", ocitest.Tar(t, ocitest.File("x", nil))),
		"of version":     write("d.tar", ocitest.Tar(t, ocitest.File("oci-layout", []byte(`{"imageLayoutVersion":"9"}`)))),
	} {
		if _, err := find(t, p); !errors.Is(err, image.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// FuzzArchive: whatever a file holds, reading it ends, and what comes out has
// the digests it says.
func FuzzArchive(f *testing.F) {
	img := ocitest.Build(f, v1.ImageConfig{Cmd: []string{"x"}}, ocitest.Tar(f, ocitest.File("x", []byte("y"))))
	p := filepath.Join(f.TempDir(), "a.tar")
	img.Archive(f, p)
	raw, err := os.ReadFile(p)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		p := filepath.Join(t.TempDir(), "a.tar")
		if err := os.WriteFile(p, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(context.Background(), Name{Path: p}, "amd64")
		if err != nil {
			return
		}
		defer s.Close()
		if digest.FromBytes(s.Record.Manifest) != s.Image.Digest {
			t.Error("a manifest of another digest")
		}
	})
}

func FuzzParseName(f *testing.F) {
	for _, s := range []string{"alpine", "./a:b", "x.tar@sha256:00", "localhost:5000/x", "[::1]:5000/x", ":", "@", "/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := ParseName(text)
		if err == nil && (n.Path == "") == (n.Ref.Repository == "") {
			t.Errorf("%q is both or neither: %+v", text, n)
		}
		if err == nil {
			_ = n.Short()
		}
	})
}
