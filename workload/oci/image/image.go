package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Bounds of what describes an image.
const (
	MaxManifest  = 4 << 20 // bytes, of a manifest and of an index: what registries take (distribution-spec 1.1, "Pushing Manifests")
	MaxConfig    = 4 << 20 // bytes, of a configuration
	MaxRecord    = 12 << 20
	MaxLayers    = 128      // of an image, as many as overlay file systems and Docker take
	MaxLayer     = 16 << 30 // bytes, of one layer as it is moved
	maxPlatforms = 1024     // of an index
	maxWords     = 4096     // arguments or variables of a configuration
	maxText      = 4096     // bytes, of a user, a folder or a name
)

// ErrInvalid is returned for what is no image that can be run, with the reason.
var ErrInvalid = errors.New("not an image that can be run")

// Media types of Docker's manifests of version 2, which mean the same as OCI's.
const (
	dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerLayer    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
)

// IsIndex reports whether a descriptor of this type names an index of platforms.
func IsIndex(mediaType string) bool {
	return mediaType == v1.MediaTypeImageIndex || mediaType == dockerList
}

// IsManifest reports whether a descriptor of this type names one platform's image.
func IsManifest(mediaType string) bool {
	return mediaType == v1.MediaTypeImageManifest || mediaType == dockerManifest
}

// Compression is how a layer's archive is packed.
type Compression string

// The packings that can be read.
const (
	Plain Compression = "tar"
	Gzip  Compression = "gzip"
	Zstd  Compression = "zstd"
)

var packings = map[string]Compression{
	v1.MediaTypeImageLayer: Plain, v1.MediaTypeImageLayerGzip: Gzip, v1.MediaTypeImageLayerZstd: Zstd,
	"application/vnd.docker.image.rootfs.diff.tar": Plain, dockerLayer: Gzip,
}

// Layer is one layer: its archive as it is moved, and what comes out of it.
type Layer struct {
	Digest  digest.Digest // of the bytes that are moved
	Size    int64         // of those
	Packing Compression
	DiffID  digest.Digest // of the archive, unpacked
}

// Image is an image of one platform.
type Image struct {
	Digest   digest.Digest // of its manifest: the name that cannot come to mean another
	Platform v1.Platform
	Layers   []Layer // the lowest first
	Config   v1.ImageConfig
}

// Chain names the root file system that the layers make, whatever they were
// packed with (image-spec, "Layer ChainID").
func (i *Image) Chain() digest.Digest {
	ids := make([]digest.Digest, len(i.Layers))
	for k, l := range i.Layers {
		ids[k] = l.DiffID
	}
	return identity.ChainID(ids)
}

// Size sums the bytes of the layers as they are moved.
func (i *Image) Size() (sum int64) {
	for _, l := range i.Layers {
		sum += l.Size
	}
	return sum
}

// Record is an image as a workload carries it.
type Record struct {
	Manifest []byte `json:"manifest"` // as the registry has it
	Config   []byte `json:"config"`
}

// Encode returns the bytes of the record's blob.
func (r Record) Encode() ([]byte, error) { return json.Marshal(r) }

// Decode reads a record's blob and what is in it. Errors wrap ErrInvalid.
func Decode(raw []byte) (*Image, error) {
	if len(raw) > MaxRecord {
		return nil, fmt.Errorf("%w: a record of %d bytes, at most %d", ErrInvalid, len(raw), MaxRecord)
	}
	var r Record
	if err := json.Unmarshal(raw, &r); err != nil {
		return nil, fmt.Errorf("%w: its record: %w", ErrInvalid, err)
	}
	return Parse(r.Manifest, r.Config)
}

// Parse reads a manifest and its configuration and checks one against the
// other. Errors wrap ErrInvalid.
func Parse(manifest, config []byte) (*Image, error) {
	m, err := ParseManifest(manifest)
	if err != nil {
		return nil, err
	}
	if got := digest.FromBytes(config); got != m.Config.Digest || int64(len(config)) != m.Config.Size {
		return nil, fmt.Errorf("%w: the configuration is %s, the manifest names %s", ErrInvalid, got, m.Config.Digest)
	}
	c, err := parseConfig(config)
	if err != nil {
		return nil, err
	}
	if len(c.RootFS.DiffIDs) != len(m.Layers) {
		return nil, fmt.Errorf("%w: the manifest has %d layers, the configuration %d", ErrInvalid, len(m.Layers), len(c.RootFS.DiffIDs))
	}
	img := &Image{Digest: digest.FromBytes(manifest), Platform: c.Platform, Config: c.Config}
	for k, d := range m.Layers {
		img.Layers = append(img.Layers, Layer{Digest: d.Digest, Size: d.Size, Packing: packings[d.MediaType], DiffID: c.RootFS.DiffIDs[k]})
	}
	return img, nil
}

// ParseManifest reads the manifest of one platform's image. Errors wrap ErrInvalid.
func ParseManifest(raw []byte) (*v1.Manifest, error) {
	var m v1.Manifest
	if err := decode("manifest", raw, MaxManifest, &m); err != nil {
		return nil, err
	}
	switch {
	case m.SchemaVersion != 2:
		return nil, fmt.Errorf("%w: a manifest of version %d; this version reads 2 (push it again with a current tool)", ErrInvalid, m.SchemaVersion)
	case m.MediaType != "" && !IsManifest(m.MediaType):
		return nil, fmt.Errorf("%w: a manifest of type %.100q", ErrInvalid, m.MediaType)
	case len(m.Layers) == 0:
		return nil, fmt.Errorf("%w: it has no layer", ErrInvalid)
	case len(m.Layers) > MaxLayers:
		return nil, fmt.Errorf("%w: it has %d layers, at most %d", ErrInvalid, len(m.Layers), MaxLayers)
	case m.Config.MediaType != v1.MediaTypeImageConfig && m.Config.MediaType != "application/vnd.docker.container.image.v1+json":
		return nil, fmt.Errorf("%w: its configuration is of type %.100q: it holds something other than a container", ErrInvalid, m.Config.MediaType)
	}
	if err := CheckDescriptor("configuration", m.Config, MaxConfig); err != nil {
		return nil, err
	}
	for k, d := range m.Layers {
		if err := CheckDescriptor(fmt.Sprintf("layer %d", k+1), d, MaxLayer); err != nil {
			return nil, err
		}
		if packings[d.MediaType] == "" {
			return nil, fmt.Errorf("%w: layer %d is of type %.100q; want tar, tar+gzip or tar+zstd", ErrInvalid, k+1, d.MediaType)
		}
	}
	return &m, nil
}

// CheckDescriptor refuses a digest other than SHA-256 and a size out of bounds.
// Errors wrap ErrInvalid.
func CheckDescriptor(what string, d v1.Descriptor, most int64) error {
	if err := checkDigest(d.Digest); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrInvalid, what, err)
	}
	if d.Size < 0 || d.Size > most {
		return fmt.Errorf("%w: %s has %d bytes, at most %d", ErrInvalid, what, d.Size, most)
	}
	return nil
}

func checkDigest(d digest.Digest) error {
	if err := d.Validate(); err != nil || d.Algorithm() != digest.SHA256 {
		return fmt.Errorf("digest %.100q: want sha256: and 64 hex digits", string(d))
	}
	return nil
}

func decode(what string, raw []byte, most int, into any) error {
	if len(raw) > most {
		return fmt.Errorf("%w: a %s of %d bytes, at most %d", ErrInvalid, what, len(raw), most)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("%w: its %s: %w", ErrInvalid, what, err)
	}
	return nil
}

func parseConfig(raw []byte) (*v1.Image, error) {
	var c v1.Image
	if err := decode("configuration", raw, MaxConfig, &c); err != nil {
		return nil, err
	}
	if c.OS != "" && c.OS != "linux" {
		return nil, fmt.Errorf("%w: it is for %.40q, not for linux", ErrInvalid, c.OS)
	}
	for _, id := range c.RootFS.DiffIDs {
		if err := checkDigest(id); err != nil {
			return nil, fmt.Errorf("%w: rootfs.diff_ids: %w", ErrInvalid, err)
		}
	}
	return &c, checkRun(&c.Config)
}

// checkRun refuses what no program can be started with.
func checkRun(c *v1.ImageConfig) error {
	for name, list := range map[string][]string{"Entrypoint": c.Entrypoint, "Cmd": c.Cmd, "Env": c.Env} {
		if len(list) > maxWords || slices.ContainsFunc(list, func(s string) bool { return strings.ContainsRune(s, 0) }) {
			return fmt.Errorf("%w: its %s has %d entries (at most %d), or one with a zero byte", ErrInvalid, name, len(list), maxWords)
		}
	}
	for name, text := range map[string]string{"User": c.User, "WorkingDir": c.WorkingDir} {
		if len(text) > maxText || strings.ContainsRune(text, 0) {
			return fmt.Errorf("%w: its %s has %d bytes (at most %d), or a zero byte", ErrInvalid, name, len(text), maxText)
		}
	}
	return nil
}
