package workload

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// ChunkSize is the size in bytes of every chunk of a blob but its last.
const ChunkSize = 1 << 20

const digestPrefix = "sha256:"

// Digest is a SHA-256 (FIPS 180-4) sum. Its text form is "sha256:" and 64 hex digits.
type Digest [32]byte

// DigestOf returns the SHA-256 sum of b.
func DigestOf(b []byte) Digest { return sha256.Sum256(b) }

// IsZero reports whether d names nothing.
func (d Digest) IsZero() bool { return d == Digest{} }

// Hex returns the 64 hex digits of d.
func (d Digest) Hex() string { return hex.EncodeToString(d[:]) }

// Short returns the first 12 hex digits, for people.
func (d Digest) Short() string { return d.Hex()[:12] }

// String returns the text form.
func (d Digest) String() string { return digestPrefix + d.Hex() }

// MarshalText returns the text form.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText parses the text form.
func (d *Digest) UnmarshalText(b []byte) error {
	v, err := ParseDigest(string(b))
	if err == nil {
		*d = v
	}
	return err
}

// ParseDigest parses "sha256:" and 64 hex digits.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	digits, ok := strings.CutPrefix(s, digestPrefix)
	if !ok || hex.DecodedLen(len(digits)) != len(d) {
		return d, fmt.Errorf("digest %.80q: want %q and 64 hex digits", s, digestPrefix)
	}
	if _, err := hex.Decode(d[:], []byte(digits)); err != nil {
		return Digest{}, fmt.Errorf("digest %.80q: want %q and 64 hex digits", s, digestPrefix)
	}
	return d, nil
}

// Ref names a blob: its digest and its size in bytes. The digest of content of
// at most ChunkSize bytes is the SHA-256 of the content; of anything larger it
// is the SHA-256 of the blob's manifest, which lists the digest of each chunk,
// so that every chunk can be checked as it arrives from any peer.
type Ref struct {
	Digest Digest `cbor:"1,keyasint" json:"digest"`
	Size   int64  `cbor:"2,keyasint" json:"size"`
}

// IsZero reports whether r names nothing.
func (r Ref) IsZero() bool { return r.Digest.IsZero() }
