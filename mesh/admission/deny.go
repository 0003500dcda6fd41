package admission

import (
	"crypto/ed25519"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// Bounds of the deny list: its entries, and a reason in bytes.
const (
	MaxDenied     = 1024
	MaxDenyReason = 128
)

// maxSeq bounds the numbers of denials and charters, so that nobody who has a key
// for a moment can use up all that there are.
const maxSeq = 1 << 53

// Denial puts a peer out of the mesh until a time, or, with Lift, takes back what
// the same operator said. Of several of one operator about one peer the one with
// the highest Seq counts, and of two with the same the one that denies. A peer is
// out as long as any operator that counts denies it.
type Denial struct {
	Version uint16          `cbor:"1,keyasint"`
	Mesh    workload.MeshID `cbor:"2,keyasint"`
	Peer    workload.PeerID `cbor:"3,keyasint"`
	Seq     uint64          `cbor:"4,keyasint"`
	At      int64           `cbor:"5,keyasint"`           // ms
	Until   int64           `cbor:"6,keyasint,omitempty"` // ms; 0 is for good
	Lift    bool            `cbor:"7,keyasint,omitempty"`
	Reason  string          `cbor:"8,keyasint,omitempty" max:"128"`
	Name    string          `cbor:"9,keyasint,omitempty" max:"64"` // of the peer, as the operator knew it
	// Successor is the key that took the peer's place, when that is why it is out.
	Successor  workload.PeerID  `cbor:"10,keyasint,omitzero"`
	Succession *workload.Signed `cbor:"11,keyasint,omitempty"` // a `Succession`, by the peer's own key; only with a successor
	Since      int64            `cbor:"12,keyasint,omitempty"` // ms; when the successor took the place, if not At
}

// SignedDenial is a denial with the certificate of the operator that signed it,
// so that whoever gets it can judge it alone.
type SignedDenial struct {
	Denial   workload.Signed `cbor:"1,keyasint"`
	Operator workload.Signed `cbor:"2,keyasint"`
}

// held is a denial that was verified.
type held struct {
	Denial
	by  workload.PeerID // the operator's key
	doc SignedDenial
}

// counts reports whether h denies its peer at now, as far as time goes.
func (h *held) counts(now time.Time) bool {
	return !h.Lift && (h.Until == 0 || now.UnixMilli() < h.Until)
}

// over reports whether h can be forgotten.
func (h *held) over(now time.Time) bool {
	return h.Until != 0 && now.Add(-ClockSkew-NodeTTL).UnixMilli() > h.Until
}

// since is when the successor took the peer's place, in ms.
func (h *held) since() int64 {
	if h.Since != 0 {
		return h.Since
	}
	return h.At
}

// beats reports whether h takes the place of old.
func (h *held) beats(old *held) bool {
	if h.Seq != old.Seq {
		return h.Seq > old.Seq
	}
	if h.Lift != old.Lift {
		return !h.Lift
	}
	return string(h.doc.Denial.Payload) > string(old.doc.Denial.Payload)
}

// signDenial signs d with an operator's key.
func signDenial(operator ed25519.PrivateKey, cert workload.Signed, d Denial) (SignedDenial, error) {
	if d.Name != "" && !ValidName(d.Name) {
		return SignedDenial{}, fmt.Errorf("deny: name %.80q: %w", d.Name, ErrName)
	}
	if len(d.Reason) > MaxDenyReason || !utf8.ValidString(d.Reason) {
		return SignedDenial{}, fmt.Errorf("deny: reason: want at most %d bytes of UTF-8, got %d", MaxDenyReason, len(d.Reason))
	}
	d.Version = certVersion
	return SignedDenial{Denial: workload.Sign(workload.DomainDeny, wire.MustMarshal(d), operator), Operator: cert}, nil
}

// openDenial verifies that an operator of the mesh that root names said s. The
// operator's certificate is judged at the time that the denial states, so that a
// machine whose clock is wrong as it starts forgets none.
func openDenial(s SignedDenial, root workload.PeerID) (*held, error) {
	op, err := open(s.Operator, kindOperator, root, MeshOf(root))
	if err != nil {
		return nil, fmt.Errorf("denial: operator certificate: %w", err)
	}
	if s.Denial.By != op.Subject {
		return nil, fmt.Errorf("denial by %s, not by the operator: %w", s.Denial.By.Short(), ErrForged)
	}
	if err := s.Denial.Verify(workload.DomainDeny); err != nil {
		return nil, fmt.Errorf("denial: %w: %w", ErrForged, err)
	}
	h := &held{by: op.Subject, doc: s}
	if err := wire.Unmarshal(s.Denial.Payload, &h.Denial); err != nil {
		return nil, fmt.Errorf("denial: %w: %w", ErrForged, err)
	}
	if h.Version != certVersion || h.Mesh != MeshOf(root) || h.Peer.IsZero() || h.Successor == h.Peer || !utf8.ValidString(h.Reason) || h.Name != "" && !ValidName(h.Name) {
		return nil, fmt.Errorf("denial of version %d for mesh %.12s: %w", h.Version, h.Mesh, ErrForged)
	}
	if h.Seq > maxSeq {
		return nil, fmt.Errorf("denial of %s by operator %q: number %d, at most %d: %w", h.Peer.Short(), op.Name, h.Seq, uint64(maxSeq), ErrForged)
	}
	if err := op.at(time.UnixMilli(h.At), 0); err != nil {
		return nil, fmt.Errorf("denial: operator %q: %w", op.Name, err)
	}
	if err := h.openSuccessor(); err != nil {
		return nil, fmt.Errorf("denial by operator %q: %w", op.Name, err)
	}
	return h, nil
}
