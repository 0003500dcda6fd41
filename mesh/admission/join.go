package admission

import (
	"errors"
	"fmt"
	"strings"

	"github.com/perrin-mesh/perrin/workload"
)

// JoinRequest asks an issuer for a certificate: for the first time with the
// proof of an invitation's secret, again with a bundle that has ended, or for
// another key with a succession.
type JoinRequest struct {
	Mesh   workload.MeshID `cbor:"1,keyasint"`
	Name   string          `cbor:"2,keyasint" max:"64"`
	Invite [16]byte        `cbor:"3,keyasint"`
	Proof  []byte          `cbor:"4,keyasint,omitempty" max:"32"`
	Bundle *Bundle         `cbor:"5,keyasint,omitempty"`
	// Succession, with the bundle of the key that signed it, asks for certificates for
	// the key of who asks, which takes that key's place.
	Succession *workload.Signed `cbor:"6,keyasint,omitempty"`
}

// JoinAnswer carries the certificates, or why there are none.
type JoinAnswer struct {
	Bundle *Bundle  `cbor:"1,keyasint,omitempty"`
	Peers  []string `cbor:"2,keyasint,omitempty" max:"16"` // addresses of members
	Code   Refusal  `cbor:"3,keyasint,omitempty" max:"16"`
	Detail string   `cbor:"4,keyasint,omitempty" max:"256"`
	Now    int64    `cbor:"5,keyasint,omitempty"` // ms of the Unix epoch, by the issuer's clock
}

// Bounds of the two messages in bytes, and of an address in an answer.
const (
	MaxJoinRequest = 4096
	MaxJoinAnswer  = 8192
	MaxJoinPeers   = 16
)

// Refusal is an error of this package as it crosses the wire.
type Refusal string

// refusals is the closed list of what an issuer answers.
var refusals = []struct {
	code Refusal
	err  error
}{
	{"token-used", ErrTokenUsed},
	{"token-expired", ErrTokenExpired},
	{"token-unknown", ErrTokenUnknown},
	{"other-mesh", ErrOtherMesh},
	{"name", ErrName},
	{"cert-expired", ErrExpired},
	{"cert-forged", ErrForged},
	{"denied", ErrDenied},
	{"not-admitted", ErrNotAdmitted},
	{"busy", ErrBusy},
	{"operator-node", ErrOperatorNode},
	{"rotated", ErrRotated},
}

// errIssuer is what a joiner sees of a failure that is the issuer's own.
var errIssuer = errors.New("the node that was asked failed to answer; its log says why")

// Refuse makes an answer of an error. What is not on the list says nothing.
func Refuse(err error) JoinAnswer {
	for _, r := range refusals {
		if errors.Is(err, r.err) {
			detail := err.Error()
			return JoinAnswer{Code: r.code, Detail: detail[:min(len(detail), 256)]}
		}
	}
	return JoinAnswer{Code: "failed"}
}

// Err returns the error that the answer carries, or nil.
func (a JoinAnswer) Err() error {
	if a.Code == "" && a.Bundle != nil {
		return nil
	}
	for _, r := range refusals {
		if a.Code == r.code {
			if a.Detail == r.err.Error() {
				return fmt.Errorf("the mesh answers: %w", r.err)
			}
			return fmt.Errorf("the mesh answers: %.256q: %w", strings.TrimSuffix(a.Detail, ": "+r.err.Error()), r.err)
		}
	}
	return errIssuer
}

// Request asks to join with the invitation, as joiner, under a name.
func (v Invitation) Request(joiner workload.PeerID, name string) (JoinRequest, error) {
	if !ValidName(name) {
		return JoinRequest{}, fmt.Errorf("join as %.80q: %w", name, ErrName)
	}
	hash := secretHash(v.Secret)
	return JoinRequest{
		Mesh: v.Mesh(), Name: name, Invite: inviteID(hash),
		Proof: proof(hash, v.Mesh(), v.Issuer, joiner, name),
	}, nil
}

// Renewal asks for new certificates with the old ones.
func Renewal(old Bundle) JoinRequest {
	return JoinRequest{Mesh: old.Mesh(), Bundle: &old}
}
