package workload

import (
	"crypto/ed25519"
	"errors"
	"fmt"
)

// Domain separates signatures of one kind of statement from every other, so
// that a signature over a bid can never be shown as one over an award.
type Domain string

// The statements that become evidence.
const (
	DomainSpec   Domain = "perrin/spec/1"
	DomainOffer  Domain = "perrin/offer/1"
	DomainBid    Domain = "perrin/bid/1"
	DomainAward  Domain = "perrin/award/1"
	DomainResult Domain = "perrin/result/1"
	DomainRecord Domain = "perrin/record/1"
	DomainCert   Domain = "perrin/cert/1"
	DomainDigest Domain = "perrin/digest/1"
	DomainRenew  Domain = "perrin/renew/1"
	DomainStop   Domain = "perrin/stop/1"
	DomainMark   Domain = "perrin/mark/1" // of a voter, about the head of its cell's chain
	// DomainCharter and DomainDeny are what the root and its operators say of the mesh.
	DomainCharter Domain = "perrin/charter/1"
	DomainDeny    Domain = "perrin/deny/1"
	// DomainSuccession is a node's key naming the one that takes its place.
	DomainSuccession Domain = "perrin/succession/1"
	// DomainToken is an owner handing on what it may do.
	DomainToken Domain = "perrin/token/1"
	// DomainTrustFile is a node saying when it wrote down what it knew of the mesh's operators.
	DomainTrustFile Domain = "perrin/trust-file/1"
	// DomainRevoke is who gave a token on taking that back.
	DomainRevoke Domain = "perrin/revoke/1"
	// DomainCountersign is a voter saying that it has cleared an auction again.
	DomainCountersign Domain = "perrin/countersign/1"
	// DomainProved is a leader saying what evidence proved of a node that it gave slots.
	DomainProved Domain = "perrin/proved/1"
	// DomainCommand is a leader proposing an entry of its cell's log that judges.
	DomainCommand Domain = "perrin/command/1"
	// DomainQuota is an operator saying what an account may spend.
	DomainQuota Domain = "perrin/quota/1"
	// DomainDraw is an owner's node drawing whether a task is checked.
	DomainDraw Domain = "perrin/draw/1"
)

// ErrSignature is returned when a signed statement does not verify.
var ErrSignature = errors.New("signature does not verify")

// Signed is a statement with its author. The signature (Ed25519, RFC 8032) is
// over the domain, a zero byte and the payload; the payload is the canonical
// encoding that mesh/wire makes.
type Signed struct {
	Payload []byte `cbor:"1,keyasint" json:"payload" max:"1048576"`
	By      PeerID `cbor:"2,keyasint" json:"by"`
	Sig     []byte `cbor:"3,keyasint" json:"sig" max:"64"`
}

func signingInput(domain Domain, payload []byte) []byte {
	b := make([]byte, 0, len(domain)+1+len(payload))
	b = append(b, domain...)
	b = append(b, 0)
	return append(b, payload...)
}

// Sign makes the signed statement of key over payload. It keeps payload.
func Sign(domain Domain, payload []byte, key ed25519.PrivateKey) Signed {
	by := PeerIDOf(key.Public().(ed25519.PublicKey))
	if unsigned(domain) {
		return Signed{Payload: payload, By: by, Sig: make([]byte, ed25519.SignatureSize)}
	}
	return Signed{
		Payload: payload,
		By:      by,
		Sig:     ed25519.Sign(key, signingInput(domain, payload)),
	}
}

// Verify returns nil if s carries a signature of s.By under domain, and an
// error that wraps ErrSignature otherwise.
func (s Signed) Verify(domain Domain) error {
	if unsigned(domain) {
		return nil
	}
	if len(s.Sig) != ed25519.SignatureSize ||
		!ed25519.Verify(s.By[:], signingInput(domain, s.Payload), s.Sig) {
		return fmt.Errorf("%s by %s: %w", domain, s.By.Short(), ErrSignature)
	}
	return nil
}
