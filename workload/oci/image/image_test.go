package image_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/perrin-mesh/perrin/workload/oci/image"
	"github.com/perrin-mesh/perrin/workload/oci/ocitest"
)

func parts(t testing.TB, config v1.ImageConfig) (manifest, conf []byte) {
	t.Helper()
	img := ocitest.Build(t, config, ocitest.Tar(t, ocitest.File("a", []byte("a"))))
	manifest = img.Blobs[img.Top.Digest]
	var m v1.Manifest
	if err := json.Unmarshal(manifest, &m); err != nil {
		t.Fatal(err)
	}
	return manifest, img.Blobs[m.Config.Digest]
}

func TestRecord(t *testing.T) {
	manifest, config := parts(t, v1.ImageConfig{Cmd: []string{"/a"}, Env: []string{"A=1"}})
	raw, err := image.Record{Manifest: manifest, Config: config}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	img, err := image.Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	if img.Digest != digest.FromBytes(manifest) || len(img.Layers) != 1 || img.Layers[0].Packing != image.Gzip || img.Chain() != img.Layers[0].DiffID {
		t.Errorf("read back %+v", img)
	}
	if _, err := image.Parse(manifest, append(config, ' ')); !errors.Is(err, image.ErrInvalid) {
		t.Errorf("another configuration: %v", err)
	}
}

func TestManifestsThatAreNone(t *testing.T) {
	good, _ := parts(t, v1.ImageConfig{})
	edit := func(change func(*v1.Manifest)) []byte {
		var m v1.Manifest
		if err := json.Unmarshal(good, &m); err != nil {
			t.Fatal(err)
		}
		change(&m)
		raw, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	for want, raw := range map[string][]byte{
		"at most 4194304":  bytes.Repeat([]byte(" "), image.MaxManifest+1),
		"version 1":        edit(func(m *v1.Manifest) { m.Versioned = specs.Versioned{SchemaVersion: 1} }),
		"no layer":         edit(func(m *v1.Manifest) { m.Layers = nil }),
		"129 layers":       edit(func(m *v1.Manifest) { m.Layers = slices.Repeat(m.Layers, 129) }),
		"digest":           edit(func(m *v1.Manifest) { m.Layers[0].Digest = "sha256:../../x" }),
		"layer 1 has":      edit(func(m *v1.Manifest) { m.Layers[0].Size = 1 << 40 }),
		"layer 1 is of":    edit(func(m *v1.Manifest) { m.Layers[0].MediaType = "text/html" }),
		"other than":       edit(func(m *v1.Manifest) { m.Config.MediaType = "application/vnd.cncf.helm.config.v1+json" }),
		"its manifest":     []byte("{"),
		"configuration":    edit(func(m *v1.Manifest) { m.Config.Size = -1 }),
		"manifest of type": edit(func(m *v1.Manifest) { m.MediaType = v1.MediaTypeImageIndex }),
	} {
		if _, err := image.ParseManifest(raw); !errors.Is(err, image.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestCommand(t *testing.T) {
	for _, c := range []struct {
		entry, cmd, args []string
		want             string
	}{
		{nil, []string{"sh"}, nil, "sh"},
		{nil, []string{"sh"}, []string{"echo", "hi"}, "echo hi"},
		{[]string{"/go", "-v"}, []string{"all"}, nil, "/go -v all"},
		{[]string{"/go", "-v"}, []string{"all"}, []string{"one"}, "/go -v one"},
		{nil, nil, nil, "error"},
	} {
		img := image.Image{Config: v1.ImageConfig{Entrypoint: c.entry, Cmd: c.cmd}}
		got, err := img.Command(c.args)
		if text := strings.Join(got, " "); err == nil && text != c.want || err != nil && c.want != "error" {
			t.Errorf("%+v: %q, %v", c, text, err)
		}
	}
}

func TestEnviron(t *testing.T) {
	img := image.Image{Config: v1.ImageConfig{Env: []string{"A=1", "B=2", "junk"}}}
	want := []string{"PATH=" + image.DefaultPath, "A=3", "B=2", "C=4"}
	if got := img.Environ([]string{"A=3", "C=4"}); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestFindUser(t *testing.T) {
	const passwd = "root:x:0:0:root:/root:/bin/sh\nwww:x:33:34::/var/www:/bin/sh\nbroken\n::::::\nodd:x:-1:0::/:\n"
	const group = "root:x:0:\nstaff:x:50:www\n"
	for user, want := range map[string]image.User{
		"":          {UID: 0, GID: 0, Home: "/root"},
		"www":       {UID: 33, GID: 34, Home: "/var/www"},
		"33":        {UID: 33, GID: 34, Home: "/var/www"},
		"33:0":      {UID: 33, GID: 0, Home: "/var/www"},
		"www:staff": {UID: 33, GID: 50, Home: "/var/www"},
		"1234":      {UID: 1234},
		"1234:99":   {UID: 1234, GID: 99},
	} {
		img := image.Image{Config: v1.ImageConfig{User: user}}
		got, err := img.FindUser(strings.NewReader(passwd), strings.NewReader(group))
		if err != nil || got != want {
			t.Errorf("%q is %+v, %v, want %+v", user, got, err, want)
		}
	}
	for _, user := range []string{"nobody", "odd", "-1", "4294967295", "33:none", "www:-1"} {
		img := image.Image{Config: v1.ImageConfig{User: user}}
		if got, err := img.FindUser(strings.NewReader(passwd), strings.NewReader(group)); !errors.Is(err, image.ErrInvalid) {
			t.Errorf("%q is %+v, %v", user, got, err)
		}
	}
	img := image.Image{}
	if got, err := img.FindUser(nil, nil); err != nil || got != (image.User{}) {
		t.Errorf("an image without files: %+v, %v", got, err)
	}
}

func FuzzImage(f *testing.F) {
	manifest, config := parts(f, v1.ImageConfig{User: "www:staff", Entrypoint: []string{"/a"}, WorkingDir: "/"})
	f.Add(manifest, config)
	f.Add([]byte(`{"schemaVersion":2,"layers":[{}]}`), []byte(`{"rootfs":{"diff_ids":["x"]}}`))
	f.Fuzz(func(t *testing.T, manifest, config []byte) {
		img, err := image.Parse(manifest, config)
		if err != nil {
			if !errors.Is(err, image.ErrInvalid) {
				t.Fatalf("%v does not wrap ErrInvalid", err)
			}
			return
		}
		if len(img.Layers) == 0 || len(img.Layers) > image.MaxLayers || img.Chain().Validate() != nil {
			t.Fatalf("accepted %+v", img)
		}
		_, _ = img.Command(nil)
		_ = img.Environ(nil)
		_, _ = img.FindUser(bytes.NewReader(config), bytes.NewReader(config))
	})
}

func FuzzIndex(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:` +
		strings.Repeat("0", 64) + `","size":2,"platform":{"os":"linux","architecture":"amd64"}}]}`))
	f.Add([]byte(`{"schemaVersion":2}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		x, err := image.ParseIndex(raw)
		if err != nil {
			if !errors.Is(err, image.ErrInvalid) {
				t.Fatalf("%v does not wrap ErrInvalid", err)
			}
			return
		}
		if d, err := image.Choose(x, "amd64"); err == nil && image.CheckDescriptor("it", d, image.MaxManifest) != nil {
			t.Fatalf("chose %+v", d)
		}
	})
}

func FuzzRecord(f *testing.F) {
	manifest, config := parts(f, v1.ImageConfig{})
	raw, _ := image.Record{Manifest: manifest, Config: config}.Encode()
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, err := image.Decode(raw); err != nil && !errors.Is(err, image.ErrInvalid) {
			t.Fatalf("%v does not wrap ErrInvalid", err)
		}
	})
}
