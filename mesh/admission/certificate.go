// Package admission decides who belongs to a mesh.
//
// A mesh is named by its root key. The root signs operator certificates, and
// an operator signs node certificates, which last a day and are renewed by any
// node that holds an operator key. A node shows its Bundle, the chain from the
// root to itself, to every peer it connects to; mesh does the showing, this
// package does the judging. An Invitation lets a new machine ask an issuer for
// its first certificate.
//
// Certificates are workload.Signed envelopes under workload.DomainCert with
// the payload in mesh/wire's canonical form. Nothing here reads a clock: the
// caller passes the time. All keys are Ed25519.
package admission

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// How long certificates last. ClockSkew is how far two clocks may differ
// before a certificate that is about to end is refused; one that was just made
// is valid on a clock that is behind by Backdate and that.
const (
	NodeTTL     = 24 * time.Hour
	OperatorTTL = 5 * 365 * 24 * time.Hour
	ClockSkew   = 2 * time.Minute
	Backdate    = 2 * time.Hour
	// RenewGrace is how long after its end a node certificate still buys a
	// new one from an issuer, so that a laptop may sleep through a holiday.
	RenewGrace = 30 * 24 * time.Hour
)

// certVersion is the version of both certificates.
const certVersion = 1

type certKind string

const (
	kindOperator certKind = "operator"
	kindNode     certKind = "node"
)

// certificate is the payload of an operator's or a node's certificate.
type certificate struct {
	Version   uint16          `cbor:"1,keyasint"`
	Kind      certKind        `cbor:"2,keyasint" max:"16"`
	Mesh      workload.MeshID `cbor:"3,keyasint"`
	Subject   workload.PeerID `cbor:"4,keyasint"` // the key it names; the signer is the envelope's By
	Name      string          `cbor:"5,keyasint" max:"64"`
	NotBefore int64           `cbor:"6,keyasint"`          // ms
	NotAfter  int64           `cbor:"7,keyasint"`          // ms
	Admitter  workload.PeerID `cbor:"8,keyasint,omitzero"` // of a node: the operator that admitted it, when another signs; see Origin
}

// Bundle is the chain of certificates from the root to a node.
type Bundle struct {
	Root     workload.PeerID `cbor:"1,keyasint"`
	Operator workload.Signed `cbor:"2,keyasint"`
	Node     workload.Signed `cbor:"3,keyasint"`
	First    *Origin         `cbor:"4,keyasint,omitempty"` // when another operator than that one admitted the node
}

// MaxBundle bounds the encoding of a bundle in bytes.
const MaxBundle = 2048

// Identity is what a verified bundle says of a node.
type Identity struct {
	Mesh         workload.MeshID
	Peer         workload.PeerID
	Name         string
	Operator     workload.PeerID
	OperatorName string
	Admitter     workload.PeerID // the operator that admitted the node: whose it counts as
	AdmitterName string
	Issued       time.Time // when the node's certificate was made
	NotAfter     time.Time // when the first certificate of the chain ends
	first        *Origin   // what proves Admitter
}

// MeshOf returns the name of the mesh of a root key.
func MeshOf(root workload.PeerID) workload.MeshID { return sha256.Sum256(root[:]) }

// IssueOperator signs an operator's certificate with the root key.
func IssueOperator(root ed25519.PrivateKey, operator workload.PeerID, name string, now time.Time) (workload.Signed, error) {
	if !ValidName(name) {
		return workload.Signed{}, fmt.Errorf("operator %.80q: %w", name, ErrName)
	}
	rootID := workload.PeerIDOf(root.Public().(ed25519.PublicKey))
	return sign(root, certificate{
		Version: certVersion, Kind: kindOperator, Mesh: MeshOf(rootID), Subject: operator, Name: name,
		NotBefore: now.Add(-Backdate).UnixMilli(), NotAfter: now.Add(OperatorTTL).UnixMilli(),
	}), nil
}

// IssueNode signs a node's certificate with an operator's key, valid for NodeTTL.
func IssueNode(operator ed25519.PrivateKey, mesh workload.MeshID, node workload.PeerID, name string, now time.Time) (workload.Signed, error) {
	return issueNode(operator, mesh, node, name, workload.PeerID{}, now)
}

func issueNode(operator ed25519.PrivateKey, mesh workload.MeshID, node workload.PeerID, name string, admitter workload.PeerID, now time.Time) (workload.Signed, error) {
	if !ValidName(name) {
		return workload.Signed{}, fmt.Errorf("node %.80q: %w", name, ErrName)
	}
	return sign(operator, certificate{
		Version: certVersion, Kind: kindNode, Mesh: mesh, Subject: node, Name: name, Admitter: admitter,
		NotBefore: now.Add(-Backdate).UnixMilli(), NotAfter: now.Add(NodeTTL).UnixMilli(),
	}), nil
}

func sign(key ed25519.PrivateKey, c certificate) workload.Signed {
	return workload.Sign(workload.DomainCert, wire.MustMarshal(c), key)
}

// ValidName reports whether name is 1 to 63 ASCII letters, digits, dots,
// dashes or underscores, the form of a node's or operator's name.
func ValidName(name string) bool {
	for i := range len(name) {
		c := name[i]
		ok := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_'
		if !ok {
			return false
		}
	}
	return len(name) >= 1 && len(name) <= 63
}

// Mesh returns the mesh that the bundle claims to be of.
func (b Bundle) Mesh() workload.MeshID { return MeshOf(b.Root) }

// IsZero reports whether b is no bundle at all.
func (b Bundle) IsZero() bool { return b.Root.IsZero() && len(b.Node.Payload) == 0 }

// Encode returns the canonical encoding of b.
func (b Bundle) Encode() []byte { return wire.MustMarshal(b) }

// DecodeBundle decodes at most MaxBundle bytes. It verifies nothing.
func DecodeBundle(raw []byte) (Bundle, error) {
	var b Bundle
	if len(raw) > MaxBundle {
		return b, fmt.Errorf("bundle of %d bytes, at most %d: %w", len(raw), MaxBundle, ErrForged)
	}
	if err := wire.Unmarshal(raw, &b); err != nil {
		return Bundle{}, fmt.Errorf("bundle: %w: %w", ErrForged, err)
	}
	return b, nil
}

// Verify judges whether b admits peer to mesh at now. The error wraps
// ErrNotAdmitted, ErrOtherMesh, ErrForged or ErrExpired.
func (b Bundle) Verify(mesh workload.MeshID, peer workload.PeerID, now time.Time) (Identity, error) {
	return b.verify(mesh, peer, now, 0)
}

// verify is Verify with grace: how long after its end the node's certificate still counts.
func (b Bundle) verify(mesh workload.MeshID, peer workload.PeerID, now time.Time, grace time.Duration) (Identity, error) {
	var id Identity
	if b.IsZero() {
		return id, fmt.Errorf("peer %s has no certificate: %w", peer.Short(), ErrNotAdmitted)
	}
	if b.Mesh() != mesh {
		return id, fmt.Errorf("peer %s is of mesh %.12s, this is mesh %.12s: %w", peer.Short(), b.Mesh(), mesh, ErrOtherMesh)
	}
	op, err := open(b.Operator, kindOperator, b.Root, mesh)
	if err != nil {
		return id, fmt.Errorf("peer %s: operator certificate: %w", peer.Short(), err)
	}
	node, err := open(b.Node, kindNode, op.Subject, mesh)
	if err != nil {
		return id, fmt.Errorf("peer %s: node certificate: %w", peer.Short(), err)
	}
	if node.Subject != peer {
		return id, fmt.Errorf("peer %s shows the certificate of %s: %w", peer.Short(), node.Subject.Short(), ErrNotAdmitted)
	}
	if err := op.at(now, 0); err != nil {
		return id, fmt.Errorf("operator %q of %s: %w", op.Name, peer.Short(), err)
	}
	if err := node.at(now, grace); err != nil {
		return id, fmt.Errorf("node %q (%s): %w", node.Name, peer.Short(), err)
	}
	by, first, err := b.origin(op, node)
	if err != nil {
		return id, fmt.Errorf("peer %s: %w", peer.Short(), err)
	}
	return Identity{
		Mesh: mesh, Peer: peer, Name: node.Name, Operator: op.Subject, OperatorName: op.Name,
		Admitter: by.Subject, AdmitterName: by.Name, first: first,
		Issued:   time.UnixMilli(node.NotBefore).Add(Backdate),
		NotAfter: time.UnixMilli(min(op.NotAfter, node.NotAfter)),
	}, nil
}

// open checks who signed s and what it says it is, not its time.
func open(s workload.Signed, kind certKind, by workload.PeerID, mesh workload.MeshID) (certificate, error) {
	var c certificate
	if s.By != by || len(s.Payload) > MaxBundle {
		return c, fmt.Errorf("signed by %s, not by %s: %w", s.By.Short(), by.Short(), ErrForged)
	}
	if err := s.Verify(workload.DomainCert); err != nil {
		return c, fmt.Errorf("%w: %w", ErrForged, err)
	}
	if err := wire.Unmarshal(s.Payload, &c); err != nil {
		return c, fmt.Errorf("%w: %w", ErrForged, err)
	}
	switch {
	case c.Version != certVersion || c.Kind != kind:
		return c, fmt.Errorf("kind %.16q version %d: %w", c.Kind, c.Version, ErrForged)
	case c.Mesh != mesh:
		return c, ErrOtherMesh
	case !ValidName(c.Name):
		return c, fmt.Errorf("name %.80q: %w", c.Name, ErrForged)
	}
	return c, nil
}

// at judges the certificate's time with ClockSkew on both ends.
func (c certificate) at(now time.Time, grace time.Duration) error {
	from, to := time.UnixMilli(c.NotBefore), time.UnixMilli(c.NotAfter)
	switch {
	case now.Before(from.Add(-ClockSkew)):
		return fmt.Errorf("certificate starts %s from now; a clock is wrong: %w", from.Sub(now).Round(time.Second), ErrExpired)
	case now.After(to.Add(ClockSkew + grace)):
		return fmt.Errorf("certificate ended %s ago: %w", now.Sub(to).Round(time.Second), ErrExpired)
	}
	return nil
}
