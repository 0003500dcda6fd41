package blob

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/perrin-mesh/perrin/workload"
)

// MaxSize is the size in bytes of the largest blob. Its manifest has 2 MiB, so
// that it fits into one message.
const MaxSize = 64 << 30

// manifestMagic is the version and the domain of the encoding.
const manifestMagic = "perrin/blob/manifest/1\n"

const manifestHeader = len(manifestMagic) + 8 + 4

// ErrManifest is returned when bytes are not the canonical encoding of a manifest.
var ErrManifest = errors.New("malformed manifest")

// Manifest describes content larger than one chunk. Its one encoding is the
// magic "perrin/blob/manifest/1\n", the size and the chunk size as big-endian
// integers of 8 and 4 bytes, and the 32 bytes of each chunk's SHA-256.
type Manifest struct {
	Size   int64             // more than workload.ChunkSize, at most MaxSize
	Chunks []workload.Digest // as many as Size needs
}

// chunkCount returns how many chunks content of size bytes has: one even when
// it is empty.
func chunkCount(size int64) int {
	return max(1, int((size+workload.ChunkSize-1)/workload.ChunkSize))
}

// chunkLen returns the size in bytes of chunk i of content of size bytes.
func chunkLen(size int64, i int) int {
	return int(min(workload.ChunkSize, size-int64(i)*workload.ChunkSize))
}

// ManifestSize returns the exact size in bytes of the manifest of content of
// size bytes, and 0 when it has none. A reader of a manifest from a peer
// allocates no more than this.
func ManifestSize(size int64) int {
	if size <= workload.ChunkSize {
		return 0
	}
	return manifestHeader + chunkCount(size)*len(workload.Digest{})
}

// Encode returns the canonical encoding.
func (m Manifest) Encode() []byte {
	b := make([]byte, 0, manifestHeader+len(m.Chunks)*len(workload.Digest{}))
	b = append(b, manifestMagic...)
	b = binary.BigEndian.AppendUint64(b, uint64(m.Size))
	b = binary.BigEndian.AppendUint32(b, workload.ChunkSize)
	for _, d := range m.Chunks {
		b = append(b, d[:]...)
	}
	return b
}

// Ref returns the name of the content that m describes.
func (m Manifest) Ref() workload.Ref {
	return workload.Ref{Digest: workload.DigestOf(m.Encode()), Size: m.Size}
}

// ParseManifest reads the canonical encoding; every other string gives an
// error that wraps ErrManifest.
func ParseManifest(b []byte) (Manifest, error) {
	rest, ok := bytes.CutPrefix(b, []byte(manifestMagic))
	if !ok || len(b) < manifestHeader {
		return Manifest{}, fmt.Errorf("%w: want it to begin with %q", ErrManifest, manifestMagic)
	}
	size, chunk := binary.BigEndian.Uint64(rest), binary.BigEndian.Uint32(rest[8:])
	switch {
	case size <= workload.ChunkSize || size > MaxSize:
		return Manifest{}, fmt.Errorf("%w: size %d, want more than %d and at most %d", ErrManifest, size, workload.ChunkSize, int64(MaxSize))
	case chunk != workload.ChunkSize:
		return Manifest{}, fmt.Errorf("%w: chunks of %d bytes, want %d", ErrManifest, chunk, workload.ChunkSize)
	case len(b) != ManifestSize(int64(size)):
		return Manifest{}, fmt.Errorf("%w: %d bytes long, want %d for content of %d", ErrManifest, len(b), ManifestSize(int64(size)), size)
	}
	m := Manifest{Size: int64(size), Chunks: make([]workload.Digest, chunkCount(int64(size)))}
	for i := range m.Chunks {
		copy(m.Chunks[i][:], b[manifestHeader+i*len(workload.Digest{}):])
	}
	return m, nil
}

// checkManifest parses b, which must be the manifest that ref names.
func checkManifest(ref workload.Ref, b []byte) (Manifest, error) {
	if workload.DigestOf(b) != ref.Digest {
		return Manifest{}, fmt.Errorf("manifest of %s: %w", ref.Digest.Short(), ErrCorrupt)
	}
	m, err := ParseManifest(b)
	if err == nil && m.Size != ref.Size {
		err = fmt.Errorf("%w: it says %d bytes, the reference %d", ErrManifest, m.Size, ref.Size)
	}
	return m, err
}

// checkChunk returns an error unless b is chunk i of content whose manifest is
// m; small content is its own only chunk, and m is then ignored.
func checkChunk(ref workload.Ref, m *Manifest, i int, b []byte) error {
	if want := chunkLen(ref.Size, i); len(b) != want {
		return fmt.Errorf("chunk %d of %s: %w: %d bytes, want %d", i, ref.Digest.Short(), ErrCorrupt, len(b), want)
	}
	want := ref.Digest
	if ref.Size > workload.ChunkSize {
		want = m.Chunks[i]
	}
	if workload.DigestOf(b) != want {
		return fmt.Errorf("chunk %d of %s: %w", i, ref.Digest.Short(), ErrCorrupt)
	}
	return nil
}

// RefOf returns the name that content has, without storing it.
func RefOf(content []byte) workload.Ref {
	if len(content) <= workload.ChunkSize {
		return workload.Ref{Digest: workload.DigestOf(content), Size: int64(len(content))}
	}
	m := Manifest{Size: int64(len(content))}
	for len(content) > 0 {
		n := min(len(content), workload.ChunkSize)
		m.Chunks = append(m.Chunks, workload.DigestOf(content[:n]))
		content = content[n:]
	}
	return m.Ref()
}
