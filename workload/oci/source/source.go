package source

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"

	"github.com/perrin-mesh/perrin/workload/oci/image"
)

// Sentinel errors. Those of what an image holds wrap image.ErrInvalid.
var (
	// ErrName is returned for a name that names no image.
	ErrName = errors.New("invalid name of an image")
	// ErrNotFound is returned when the registry, layout or archive has no such image.
	ErrNotFound = errors.New("no such image")
	// ErrDenied is returned when a registry wants other credentials, or any.
	ErrDenied = errors.New("the registry refused access")
	// ErrUnreachable is returned when a registry does not answer.
	ErrUnreachable = errors.New("the registry cannot be reached")
)

// store is where an image lies. fetch's reader gives unverified bytes.
type store interface {
	resolve(ctx context.Context, tag string) (v1.Descriptor, error)
	fetch(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error)
	close() error
}

// Source is one image of one platform, resolved. It may be used by several
// goroutines until Close.
type Source struct {
	Name   Name
	Record image.Record
	Image  *image.Image

	store  store
	layers []v1.Descriptor
}

// Open finds the image and reads its manifest and configuration. Of an image
// for several platforms it takes linux on arch, or the only one for linux.
func Open(ctx context.Context, name Name, arch string) (*Source, error) {
	st, tag, err := open(name)
	if err != nil {
		return nil, err
	}
	s := &Source{Name: name, store: st}
	if err := s.read(ctx, tag, arch); err != nil {
		return nil, errors.Join(err, st.close())
	}
	return s, nil
}

func open(name Name) (store, string, error) {
	if name.Path != "" {
		l, err := openLayout(name.Path)
		return l, name.Tag, err
	}
	r, err := openRegistry(name.Ref)
	return r, name.Ref.Reference, err
}

// read resolves the tag, through an index or two, and reads what is there.
func (s *Source) read(ctx context.Context, tag, arch string) error {
	top, err := s.store.resolve(ctx, tag)
	if err != nil {
		return err
	}
	if want := s.Name.Digest(); want != "" && string(top.Digest) != want {
		return fmt.Errorf("%w: %s was asked for, the answer is %.100s", image.ErrInvalid, want, top.Digest)
	}
	manifest, err := s.manifest(ctx, top, arch)
	if err != nil {
		return err
	}
	m, err := image.ParseManifest(manifest)
	if err != nil {
		return err
	}
	config, err := s.small(ctx, m.Config, image.MaxConfig)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	s.Record, s.layers = image.Record{Manifest: manifest, Config: config}, m.Layers
	s.Image, err = image.Parse(manifest, config)
	return err
}

// maxNested bounds how many indexes stand above a manifest.
const maxNested = 2

// manifest follows indexes down to the manifest of one platform.
func (s *Source) manifest(ctx context.Context, d v1.Descriptor, arch string) ([]byte, error) {
	for range maxNested + 1 {
		raw, err := s.small(ctx, d, image.MaxManifest)
		if err != nil {
			return nil, fmt.Errorf("manifest: %w", err)
		}
		if !image.IsIndex(d.MediaType) {
			return raw, nil
		}
		x, err := image.ParseIndex(raw)
		if err != nil {
			return nil, err
		}
		if d, err = image.Choose(x, arch); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%w: indexes in indexes, more than %d", image.ErrInvalid, maxNested)
}

// small reads and verifies something whose size is bounded.
func (s *Source) small(ctx context.Context, d v1.Descriptor, most int64) ([]byte, error) {
	if err := image.CheckDescriptor("it", d, most); err != nil {
		return nil, err
	}
	r, err := s.store.fetch(ctx, d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	raw, err := content.ReadAll(r, d)
	if err != nil {
		return nil, lies(d.Digest, err)
	}
	return raw, nil
}

// Layer opens layer i as it is moved. Its reader fails at the end, in place of
// io.EOF, when the bytes are not those that the manifest names.
func (s *Source) Layer(ctx context.Context, i int) (io.ReadCloser, error) {
	d := s.layers[i]
	r, err := s.store.fetch(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("layer %d: %w", i+1, err)
	}
	return &verified{ReadCloser: r, check: content.NewVerifyReader(r, d), digest: d.Digest, layer: i + 1}, nil
}

// Close lets go of what the source holds open.
func (s *Source) Close() error { return s.store.close() }

// verified reads through a check of digest and size.
type verified struct {
	io.ReadCloser
	check  *content.VerifyReader
	digest digest.Digest
	layer  int
}

// Read implements io.Reader.
func (v *verified) Read(p []byte) (int, error) {
	n, err := v.check.Read(p)
	if err == nil || n > 0 && errors.Is(err, io.EOF) {
		return n, nil
	}
	if errors.Is(err, io.EOF) {
		if err = v.check.Verify(); err == nil {
			return n, io.EOF
		}
	}
	return n, fmt.Errorf("layer %d: %w", v.layer, lies(v.digest, err))
}

// lies says what bytes are that a digest does not name.
func lies(d digest.Digest, err error) error {
	if errors.Is(err, content.ErrMismatchedDigest) || errors.Is(err, content.ErrTrailingData) || errors.Is(err, content.ErrInvalidDescriptorSize) {
		return fmt.Errorf("%w: what was sent is not %s: %w", image.ErrInvalid, d, err)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: what was sent ends before %s does: %w", image.ErrInvalid, d, err)
	}
	return err
}
