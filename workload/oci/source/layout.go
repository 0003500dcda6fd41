package source

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/perrin-mesh/perrin/workload/oci/image"
)

// layout is an OCI layout (image-spec, "Image Layout"): a folder, or a tar
// archive of one.
type layout struct {
	path  string
	files files
}

// files opens the regular files of a layout by their names in it.
type files interface {
	open(name string) (io.ReadCloser, error)
	io.Closer
}

func openLayout(path string) (*layout, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	l := &layout{path: path}
	if info.IsDir() {
		root, err := os.OpenRoot(path)
		if err != nil {
			return nil, err
		}
		l.files = folder{root}
	} else if l.files, err = openArchive(path); err != nil {
		return nil, err
	}
	if err := l.check(); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

// folder is a layout in a folder; no link leads out of it.
type folder struct{ *os.Root }

func (f folder) open(name string) (io.ReadCloser, error) { return f.Root.Open(name) }

// check reads the file that marks a layout.
func (l *layout) check() error {
	raw, err := l.readAll(v1.ImageLayoutFile, 4096)
	if errors.Is(err, fs.ErrNotExist) {
		if _, old := l.readAll("manifest.json", image.MaxManifest); old == nil {
			return fmt.Errorf("%w: %s is a Docker archive without an OCI layout; `docker save` of Docker 25 and later writes both", image.ErrInvalid, l.path)
		}
		return fmt.Errorf("%w: %s has no %s, so it is no OCI layout", image.ErrInvalid, l.path, v1.ImageLayoutFile)
	}
	if err != nil {
		return err
	}
	var mark v1.ImageLayout
	if err := json.Unmarshal(raw, &mark); err != nil || mark.Version != v1.ImageLayoutVersion {
		return fmt.Errorf("%w: %s: its layout is of version %.40q, not %s", image.ErrInvalid, l.path, mark.Version, v1.ImageLayoutVersion)
	}
	return nil
}

func (l *layout) readAll(name string, most int64) ([]byte, error) {
	r, err := l.files.open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	raw, err := io.ReadAll(io.LimitReader(r, most+1))
	if err == nil && int64(len(raw)) > most {
		err = fmt.Errorf("%w: %s: %s has more than %d bytes", image.ErrInvalid, l.path, name, most)
	}
	return raw, err
}

// resolve finds a tag or digest in the layout's index; "" is the only image there.
func (l *layout) resolve(_ context.Context, tag string) (v1.Descriptor, error) {
	raw, err := l.readAll(v1.ImageIndexFile, image.MaxManifest)
	if err != nil {
		return v1.Descriptor{}, err
	}
	x, err := image.ParseIndex(raw)
	if err != nil {
		return v1.Descriptor{}, err
	}
	var tags []string
	for _, d := range x.Manifests {
		name := d.Annotations[v1.AnnotationRefName]
		if tag == "" && len(x.Manifests) == 1 || tag != "" && (name == tag || string(d.Digest) == tag || strings.HasSuffix(name, ":"+tag)) {
			return d, nil
		}
		tags = append(tags, fmt.Sprintf("%.100q", name))
	}
	if tag == "" {
		return v1.Descriptor{}, fmt.Errorf("%w: %s holds %d images; name one: %s:TAG with TAG of %s",
			ErrNotFound, l.path, len(x.Manifests), l.path, strings.Join(tags[:min(len(tags), 16)], ", "))
	}
	if strings.HasPrefix(tag, "sha256:") { // a platform's image inside of an index
		return l.named(tag)
	}
	return v1.Descriptor{}, fmt.Errorf("%w: %s has no %.100q, only %s", ErrNotFound, l.path, tag, strings.Join(tags[:min(len(tags), 16)], ", "))
}

// named describes a manifest that the index does not list, by its digest.
func (l *layout) named(name string) (v1.Descriptor, error) {
	d := v1.Descriptor{MediaType: v1.MediaTypeImageManifest}
	d.Digest = digest.Digest(name)
	if err := image.CheckDescriptor("it", d, image.MaxManifest); err != nil {
		return d, err
	}
	raw, err := l.readAll(blobName(d), image.MaxManifest)
	if err != nil {
		return d, fmt.Errorf("%w: %s has no %s", ErrNotFound, l.path, name)
	}
	var kind struct {
		MediaType string `json:"mediaType"`
	}
	if json.Unmarshal(raw, &kind) == nil && image.IsIndex(kind.MediaType) {
		d.MediaType = kind.MediaType
	}
	d.Size = int64(len(raw))
	return d, nil
}

func blobName(d v1.Descriptor) string {
	return path.Join(v1.ImageBlobsDir, d.Digest.Algorithm().String(), d.Digest.Encoded())
}

func (l *layout) fetch(_ context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	r, err := l.files.open(blobName(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s lacks %s", image.ErrInvalid, l.path, d.Digest)
	}
	return r, err
}

func (l *layout) close() error { return l.files.Close() }

// archive is a layout in a tar file, which stays open.
type archive struct {
	*os.File
	at map[string]span
}

type span struct{ from, size int64 }

// maxArchived bounds how many files of an archive are looked at.
const maxArchived = 65536

func openArchive(path string) (*archive, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	a := &archive{File: f, at: map[string]span{}}
	if err := a.list(); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %s: %w", image.ErrInvalid, path, err), f.Close())
	}
	return a, nil
}

// list notes where each file lies, without reading it.
func (a *archive) list() error {
	r := tar.NewReader(a.File)
	for range maxArchived {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("it is no tar archive (a compressed one has to be unpacked first): %w", err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		from, err := a.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		a.at[path.Clean(h.Name)] = span{from, h.Size}
	}
	return fmt.Errorf("it holds more than %d files", maxArchived)
}

func (a *archive) open(name string) (io.ReadCloser, error) {
	s, ok := a.at[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(io.NewSectionReader(a.File, s.from, s.size)), nil
}
