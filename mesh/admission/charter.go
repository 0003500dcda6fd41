package admission

import (
	"crypto/ed25519"
	"fmt"
	"slices"
	"time"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// Bounds of a charter.
const (
	MaxOperators = 64
	MaxRemoved   = 512
)

// RemovalGrace is how long the certificates of an operator that was removed, and
// that is trusted to stop, still count: its nodes renew at another one meanwhile.
const RemovalGrace = time.Hour

// Charter is what the root key says of its mesh: who its operators are, and who
// is none any more. The one with the highest Seq counts, and of two with the same
// the one whose encoding is greater.
type Charter struct {
	Version   uint16          `cbor:"1,keyasint"`
	Mesh      workload.MeshID `cbor:"2,keyasint"`
	Seq       uint64          `cbor:"3,keyasint"`
	At        int64           `cbor:"4,keyasint"` // ms
	Operators []Operator      `cbor:"5,keyasint" max:"64"`
	Removed   []Removed       `cbor:"6,keyasint,omitempty" max:"512"`
}

// Operator is a key that signs node certificates, and the node that holds it.
type Operator struct {
	Key   workload.PeerID `cbor:"1,keyasint" json:"key"`
	Node  workload.PeerID `cbor:"2,keyasint" json:"node"`
	Name  string          `cbor:"3,keyasint" json:"name" max:"64"`
	Since int64           `cbor:"4,keyasint" json:"since_ms"`
}

// Removed is an operator's key that counts no more from a time on.
type Removed struct {
	Key  workload.PeerID `cbor:"1,keyasint" json:"key"`
	Name string          `cbor:"2,keyasint" json:"name" max:"64"`
	From int64           `cbor:"3,keyasint" json:"from_ms"`
}

// SignCharter signs c with the root key, whose mesh it is made to be of.
func SignCharter(root ed25519.PrivateKey, c Charter, now time.Time) (workload.Signed, error) {
	c.Version, c.Mesh, c.At = certVersion, MeshOf(workload.PeerIDOf(root.Public().(ed25519.PublicKey))), now.UnixMilli()
	if err := wire.CheckBounds(&c); err != nil {
		return workload.Signed{}, fmt.Errorf("charter: %w: %w", ErrTooMany, err)
	}
	if c.Seq > maxSeq {
		return workload.Signed{}, fmt.Errorf("charter: number %d, at most %d: %w", c.Seq, uint64(maxSeq), ErrTooMany)
	}
	return workload.Sign(workload.DomainCharter, wire.MustMarshal(c), root), nil
}

// openCharter verifies a charter of the mesh that root names.
func openCharter(s workload.Signed, root workload.PeerID) (Charter, error) {
	var c Charter
	if s.By != root {
		return c, fmt.Errorf("charter by %s, not by the root: %w", s.By.Short(), ErrForged)
	}
	if err := s.Verify(workload.DomainCharter); err != nil {
		return c, fmt.Errorf("charter: %w: %w", ErrForged, err)
	}
	if err := wire.Unmarshal(s.Payload, &c); err != nil {
		return c, fmt.Errorf("charter: %w: %w", ErrForged, err)
	}
	if c.Version != certVersion || c.Mesh != MeshOf(root) {
		return c, fmt.Errorf("charter of version %d for mesh %.12s: %w", c.Version, c.Mesh, ErrForged)
	}
	if c.Seq > maxSeq {
		return c, fmt.Errorf("charter: number %d, at most %d: %w", c.Seq, uint64(maxSeq), ErrForged)
	}
	for _, o := range c.Operators {
		if !ValidName(o.Name) || o.Key.IsZero() || o.Node.IsZero() {
			return c, fmt.Errorf("charter: operator %.80q: %w", o.Name, ErrForged)
		}
	}
	return c, nil
}

// With returns c with o as an operator. A key that the same node had before is
// removed after RemovalGrace.
func (c Charter) With(o Operator, now time.Time) Charter {
	next := c.clone()
	for _, old := range c.Operators {
		if old.Node == o.Node && old.Key != o.Key {
			next = next.Without(old.Key, now.Add(RemovalGrace))
		}
	}
	next.Operators = slices.DeleteFunc(next.Operators, func(old Operator) bool { return old.Node == o.Node })
	next.Operators = append(next.Operators, o)
	next.Seq = c.Seq + 1
	return next
}

// Without returns c without an operator's key, which counts no more after from.
// No removal is ever forgotten, since an operator's certificate lasts for years:
// past MaxRemoved the charter cannot be signed.
func (c Charter) Without(key workload.PeerID, from time.Time) Charter {
	next := c.clone()
	gone := Removed{Key: key, From: from.UnixMilli()}
	for _, o := range c.Operators {
		if o.Key == key {
			gone.Name = o.Name
		}
	}
	for _, r := range c.Removed {
		if r.Key == key {
			gone.Name, gone.From = r.Name, min(gone.From, r.From)
		}
	}
	next.Operators = slices.DeleteFunc(next.Operators, func(o Operator) bool { return o.Key == key })
	next.Removed = slices.DeleteFunc(next.Removed, func(r Removed) bool { return r.Key == key })
	next.Removed = append(next.Removed, gone)
	next.Seq = c.Seq + 1
	return next
}

func (c Charter) clone() Charter {
	c.Operators, c.Removed = slices.Clone(c.Operators), slices.Clone(c.Removed)
	return c
}

// removedFrom returns from when the key counts no more; false when it counts.
func (c *Charter) removedFrom(key workload.PeerID) (time.Time, bool) {
	for _, r := range c.Removed {
		if r.Key == key {
			return time.UnixMilli(r.From), true
		}
	}
	return time.Time{}, false
}
