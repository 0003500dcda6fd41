// Package ocitest builds container images and serves them from a registry in
// the test's own process.
package ocitest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Image is an image in memory.
type Image struct {
	Top   v1.Descriptor // of the manifest, or of the index above it
	Blobs map[digest.Digest][]byte
}

// Entry is one entry of a layer. A zero Typeflag is a file, or a folder when
// Name ends in a slash; a zero mode is 0644, of a folder 0755.
type Entry struct {
	tar.Header
	Data []byte
}

// File is an entry of a file that everyone may execute.
func File(name string, data []byte) Entry {
	return Entry{Header: tar.Header{Name: name, Mode: 0o755}, Data: data}
}

// Link is an entry of a symbolic link.
func Link(name, to string) Entry {
	return Entry{Header: tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: to}}
}

// Tar returns an archive of the entries.
func Tar(tb testing.TB, entries ...Entry) []byte {
	tb.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		h := e.Header
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
			if h.Name != "" && h.Name[len(h.Name)-1] == '/' {
				h.Typeflag = tar.TypeDir
			}
		}
		if h.Mode == 0 {
			h.Mode = 0o644
			if h.Typeflag == tar.TypeDir {
				h.Mode = 0o755
			}
		}
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(e.Data))
		}
		if err := w.WriteHeader(&h); err != nil {
			tb.Fatalf("%s: %v", h.Name, err)
		}
		if _, err := w.Write(e.Data); err != nil {
			tb.Fatalf("%s: %v", h.Name, err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

// Sparse returns an archive of one sparse file of so many bytes, in GNU's old format,
// with nothing in it.
func Sparse(tb testing.TB, name string, size int64) []byte {
	tb.Helper()
	raw := Tar(tb, Entry{Header: tar.Header{Name: name, Format: tar.FormatGNU}})
	raw[156] = tar.TypeGNUSparse
	copy(raw[483:495], fmt.Sprintf("%012o", size)) // its real size
	copy(raw[148:156], "        ")
	sum := 0
	for _, b := range raw[:512] {
		sum += int(b)
	}
	copy(raw[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return raw
}

// Pack compresses an archive.
func Pack(tb testing.TB, archive []byte) []byte {
	tb.Helper()
	var buf bytes.Buffer
	w, _ := gzip.NewWriterLevel(&buf, gzip.BestSpeed)
	if _, err := w.Write(archive); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

// Build makes an image for linux on this machine's architecture of layers given
// as archives.
func Build(tb testing.TB, config v1.ImageConfig, layers ...[]byte) *Image {
	tb.Helper()
	return BuildFor(tb, runtime.GOARCH, config, layers...)
}

// BuildFor is Build for another architecture.
func BuildFor(tb testing.TB, arch string, config v1.ImageConfig, layers ...[]byte) *Image {
	tb.Helper()
	img := &Image{Blobs: map[digest.Digest][]byte{}}
	whole := v1.Image{Platform: v1.Platform{OS: "linux", Architecture: arch}, Config: config}
	whole.RootFS.Type = "layers"
	m := v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest}
	for _, archive := range layers {
		whole.RootFS.DiffIDs = append(whole.RootFS.DiffIDs, digest.FromBytes(archive))
		m.Layers = append(m.Layers, img.add(v1.MediaTypeImageLayerGzip, Pack(tb, archive)))
	}
	m.Config = img.add(v1.MediaTypeImageConfig, marshal(tb, whole))
	img.Top = img.add(v1.MediaTypeImageManifest, marshal(tb, m))
	img.Top.Platform = &whole.Platform
	return img
}

// Index makes one image of several, of one platform each.
func Index(tb testing.TB, images ...*Image) *Image {
	tb.Helper()
	all := &Image{Blobs: map[digest.Digest][]byte{}}
	x := v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex}
	for _, img := range images {
		maps.Copy(all.Blobs, img.Blobs)
		x.Manifests = append(x.Manifests, img.Top)
	}
	all.Top = all.add(v1.MediaTypeImageIndex, marshal(tb, x))
	return all
}

func (i *Image) add(mediaType string, content []byte) v1.Descriptor {
	d := v1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(content), Size: int64(len(content))}
	i.Blobs[d.Digest] = content
	return d
}

func marshal(tb testing.TB, v any) []byte {
	tb.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

// files are the image as the files of an OCI layout, under the given tags.
func (i *Image) files(tb testing.TB, tags ...string) map[string][]byte {
	tb.Helper()
	x := v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}}
	for _, tag := range append(tags, "")[:max(len(tags), 1)] {
		d := i.Top
		if tag != "" {
			d.Annotations = map[string]string{v1.AnnotationRefName: tag}
		}
		x.Manifests = append(x.Manifests, d)
	}
	out := map[string][]byte{v1.ImageLayoutFile: []byte(`{"imageLayoutVersion":"1.0.0"}`), v1.ImageIndexFile: marshal(tb, x)}
	for d, content := range i.Blobs {
		out["blobs/sha256/"+d.Encoded()] = content
	}
	return out
}

// Layout writes the image as an OCI layout folder.
func (i *Image) Layout(tb testing.TB, dir string, tags ...string) {
	tb.Helper()
	for name, content := range i.files(tb, tags...) {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(p, content, 0o644); err != nil {
			tb.Fatal(err)
		}
	}
}

// Archive writes the image as an archive of an OCI layout.
func (i *Image) Archive(tb testing.TB, to string, tags ...string) {
	tb.Helper()
	files := i.files(tb, tags...)
	var entries []Entry
	for _, name := range slices.Sorted(maps.Keys(files)) {
		entries = append(entries, File(name, files[name]))
	}
	if err := os.WriteFile(to, Tar(tb, entries...), 0o644); err != nil {
		tb.Fatal(err)
	}
}

// Layer opens layer k of the only manifest, as it is moved.
func (i *Image) Layer(tb testing.TB, k int) io.Reader {
	tb.Helper()
	var m v1.Manifest
	if err := json.Unmarshal(i.Blobs[i.Top.Digest], &m); err != nil {
		tb.Fatal(err)
	}
	return bytes.NewReader(i.Blobs[m.Layers[k].Digest])
}
