package workload

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
)

// PeerID is an Ed25519 public key that names a node, an operator or an owner.
// Its text form is the one libp2p prints for such a key ("12D3KooW…"): base58
// of the identity multihash of the key in libp2p's protobuf envelope
// (libp2p specs, peer-ids).
type PeerID [ed25519.PublicKeySize]byte

// peerPrefix is the multihash and protobuf framing before the 32 key bytes.
var peerPrefix = []byte{0x00, 0x24, 0x08, 0x01, 0x12, 0x20}

// IsZero reports whether p names nobody.
func (p PeerID) IsZero() bool { return p == PeerID{} }

// Bytes returns the binary libp2p peer ID.
func (p PeerID) Bytes() []byte { return append(slices.Clone(peerPrefix), p[:]...) }

// String returns the libp2p text form.
func (p PeerID) String() string {
	if p.IsZero() {
		return ""
	}
	return encodeBase58(p.Bytes())
}

// Short returns the last eight characters of the text form, for people.
func (p PeerID) Short() string {
	s := p.String()
	return s[max(0, len(s)-8):]
}

// MarshalText returns the libp2p text form.
func (p PeerID) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText parses the libp2p text form; the empty text is nobody.
func (p *PeerID) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*p = PeerID{}
		return nil
	}
	v, err := ParsePeerID(string(b))
	if err == nil {
		*p = v
	}
	return err
}

// ParsePeerID parses the libp2p text form of an Ed25519 peer ID.
func ParsePeerID(s string) (PeerID, error) {
	if len(s) > 64 {
		return PeerID{}, errors.New("peer ID: longer than an Ed25519 peer ID")
	}
	raw, err := decodeBase58(s)
	if err != nil {
		return PeerID{}, fmt.Errorf("peer ID %q: %w", s, err)
	}
	p, err := PeerIDFromBytes(raw)
	if err != nil {
		return PeerID{}, fmt.Errorf("peer ID %q: want an Ed25519 peer ID (12D3KooW…)", s)
	}
	return p, nil
}

// PeerIDFromBytes reads a binary libp2p peer ID of an Ed25519 key.
func PeerIDFromBytes(b []byte) (PeerID, error) {
	var p PeerID
	if len(b) != len(peerPrefix)+len(p) || !slices.Equal(b[:len(peerPrefix)], peerPrefix) {
		return p, errors.New("peer ID: want an Ed25519 peer ID (12D3KooW…)")
	}
	copy(p[:], b[len(peerPrefix):])
	return p, nil
}

// PeerIDOf returns the identity of a public key.
func PeerIDOf(key ed25519.PublicKey) PeerID {
	var p PeerID
	copy(p[:], key)
	return p
}
