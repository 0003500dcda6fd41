package workload

import (
	"encoding/base32"
	"encoding/hex"
	"fmt"
)

// CellID names a cell: the first eight bytes of the hash of its genesis. Its
// text form is 16 hex digits.
type CellID [8]byte

// IsZero reports whether c names no cell.
func (c CellID) IsZero() bool { return c == CellID{} }

// String returns the text form.
func (c CellID) String() string { return hex.EncodeToString(c[:]) }

// MarshalText returns the text form.
func (c CellID) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText parses the text form.
func (c *CellID) UnmarshalText(b []byte) error {
	if len(b) != hex.EncodedLen(len(c)) {
		return fmt.Errorf("cell ID %.40q: want 16 hex digits", b)
	}
	var v CellID
	if _, err := hex.Decode(v[:], b); err != nil {
		return fmt.Errorf("cell ID %.40q: want 16 hex digits", b)
	}
	*c = v
	return nil
}

// ID names a workload. It carries its home cell, so that an ID alone finds
// where its truth lives. The text form is 39 characters of lower-case base32
// (RFC 4648, no padding) with the random part first, so that a short prefix
// tells two workloads of one cell apart.
type ID struct {
	Cell   CellID   `cbor:"1,keyasint"`
	Random [16]byte `cbor:"2,keyasint"`
}

const idTextLen = 39

var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// IsZero reports whether i names no workload.
func (i ID) IsZero() bool { return i == ID{} }

// String returns the text form.
func (i ID) String() string {
	return idEncoding.EncodeToString(append(i.Random[:], i.Cell[:]...))
}

// Short returns the first 10 characters of the text form, for people.
func (i ID) Short() string { return i.String()[:10] }

// MarshalText returns the text form.
func (i ID) MarshalText() ([]byte, error) { return []byte(i.String()), nil }

// UnmarshalText parses the text form.
func (i *ID) UnmarshalText(b []byte) error {
	v, err := ParseID(string(b))
	if err == nil {
		*i = v
	}
	return err
}

// ParseID parses a whole text form. Prefixes are resolved by the API, which
// knows the workloads there are.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != idTextLen {
		return id, fmt.Errorf("workload ID %.60q: want %d characters, has %d", s, idTextLen, len(s))
	}
	raw, err := idEncoding.DecodeString(s)
	if err != nil {
		return id, fmt.Errorf("workload ID %.60q: want letters a to z and digits 2 to 7", s)
	}
	copy(id.Random[:], raw[:16])
	copy(id.Cell[:], raw[16:])
	return id, nil
}

// MeshID names a mesh: the SHA-256 of its root public key. The text form is 64
// hex digits.
type MeshID [32]byte

// IsZero reports whether m names no mesh.
func (m MeshID) IsZero() bool { return m == MeshID{} }

// String returns the text form.
func (m MeshID) String() string { return hex.EncodeToString(m[:]) }

// MarshalText returns the text form.
func (m MeshID) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText parses the text form.
func (m *MeshID) UnmarshalText(b []byte) error {
	var v MeshID
	if len(b) != hex.EncodedLen(len(v)) {
		return fmt.Errorf("mesh ID %.80q: want 64 hex digits", b)
	}
	if _, err := hex.Decode(v[:], b); err != nil {
		return fmt.Errorf("mesh ID %.80q: want 64 hex digits", b)
	}
	*m = v
	return nil
}
