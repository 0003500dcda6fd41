package receipt

import (
	"crypto/ed25519"
	"strconv"

	"github.com/perrin-mesh/perrin/workload"
)

// PayloadType is what a DSSE envelope around an in-toto statement says it holds.
const PayloadType = "application/vnd.in-toto+json"

// Signature is one signature of an envelope. The key's identity is the libp2p
// peer ID, which holds the whole Ed25519 key.
type Signature struct {
	KeyID workload.PeerID `json:"keyid"`
	Sig   []byte          `json:"sig"`
}

// PAE is what is signed: the pre-authentication encoding of DSSE v1,
// "DSSEv1" SP LEN(type) SP type SP LEN(body) SP body, lengths in decimal.
func PAE(payloadType string, payload []byte) []byte {
	b := make([]byte, 0, len(payload)+len(payloadType)+64)
	b = append(b, "DSSEv1 "...)
	b = strconv.AppendInt(b, int64(len(payloadType)), 10)
	b = append(b, ' ')
	b = append(b, payloadType...)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(len(payload)), 10)
	b = append(b, ' ')
	return append(b, payload...)
}

// Sign signs a payload. Its form begins as no domain of workload.Sign does, so
// that neither signature can be shown as the other.
func Sign(payload []byte, key ed25519.PrivateKey) Signature {
	return Signature{
		KeyID: workload.PeerIDOf(key.Public().(ed25519.PublicKey)),
		Sig:   ed25519.Sign(key, PAE(PayloadType, payload)),
	}
}

// Holds reports whether s is its key's signature of payload.
func (s *Signature) Holds(payload []byte) bool {
	return len(s.Sig) == ed25519.SignatureSize && ed25519.Verify(s.KeyID[:], PAE(PayloadType, payload), s.Sig)
}
