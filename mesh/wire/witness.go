package wire

import "github.com/perrin-mesh/perrin/workload"

// ProtoWitness asks a voter to sign what a receipt states.
const ProtoWitness = "/perrin/witness/1" // any node -> voter

// WitnessMsg asks a voter to make the statement of a workload's receipt from its
// own ledger, and to sign it when it comes out the same.
type WitnessMsg struct {
	Workload  workload.ID       `cbor:"1,keyasint"`
	Voters    []workload.PeerID `cbor:"2,keyasint" max:"16"`
	Statement workload.Digest   `cbor:"3,keyasint"` // SHA-256 of the DSSE payload
}

// Witnessed answers WitnessMsg.
type Witnessed struct {
	Sig          []byte `cbor:"1,keyasint" max:"64"`   // Ed25519 over the DSSE pre-authentication encoding
	Certificates []byte `cbor:"2,keyasint" max:"2048"` // the voter's Bundle
}
