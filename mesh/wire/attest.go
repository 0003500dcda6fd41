package wire

import "github.com/perrin-mesh/perrin/workload"

// An Attest stream is AttestMsg, AttestAnswer, and where the asker has to see
// that a TPM holds both its keys, ActivateMsg and ActivateAnswer. Each is four
// bytes of length, big-endian, and the message, of at most MaxBulk bytes.

// AttestMsg asks a node for evidence of its machine, made for this nonce, these
// two peers and their connection; Job and Award are zero where there are none.
type AttestMsg struct {
	Nonce [32]byte           `cbor:"1,keyasint"`
	Kind  workload.Level     `cbor:"2,keyasint,omitempty" max:"8"` // none asks for the best there is
	Job   workload.ID        `cbor:"3,keyasint"`
	Award workload.AuctionID `cbor:"4,keyasint"`

	// Sealing is the sealing key that the evidence is to bind, as attest.SealingKey
	// has it: one that the node made for an attempt of Job and still waits with.
	Sealing workload.Digest `cbor:"5,keyasint"`
}

// AttestAnswer carries evidence (attest.Evidence), or why there is none.
type AttestAnswer struct {
	Evidence  []byte             `cbor:"1,keyasint,omitempty" max:"4194304"`
	Sealing   []byte             `cbor:"2,keyasint,omitempty" max:"4096"` // public key that the evidence is bound to
	Abilities []workload.Ability `cbor:"3,keyasint,omitempty" max:"8"`
	Error     *Error             `cbor:"4,keyasint,omitempty"`
	// Policy is equal on nodes whose operators ask the same of machines; zero is the defaults.
	Policy workload.Digest `cbor:"5,keyasint,omitzero"`
}

// ActivateMsg is a credential that only the chip with both keys can open.
type ActivateMsg struct {
	Credential []byte `cbor:"1,keyasint" max:"512"`
	Encrypted  []byte `cbor:"2,keyasint" max:"1024"`
}

// ActivateAnswer carries what was in the credential.
type ActivateAnswer struct {
	Secret []byte `cbor:"1,keyasint,omitempty" max:"64"`
	Error  *Error `cbor:"2,keyasint,omitempty"`
}
