package wire

import "github.com/perrin-mesh/perrin/workload"

// The protocols of sealed work.
const (
	ProtoUnseal = "/perrin/unseal/1" // worker -> owner's node or helper: release the key of a slot
	ProtoShare  = "/perrin/share/1"  // owner's node -> helper: keep a share of a key
)

// UnsealMsg asks for the content key of a slot of sealed work, or for the share
// of it that a helper keeps. Where the spec requires something proved, who is
// asked opens ProtoAttest to the asker before it answers, for evidence that binds Public.
type UnsealMsg struct {
	Ref    SlotRef         `cbor:"1,keyasint"`
	Spec   workload.Signed `cbor:"2,keyasint"`            // the owner's, as it came with the award
	Public []byte          `cbor:"3,keyasint" max:"1216"` // HPKE key made for this slot, MLKEM768-X25519
}

// Unsealed answers UnsealMsg.
type Unsealed struct {
	Wrapped []byte `cbor:"1,keyasint" max:"1169"` // the key, or the share, by HPKE to Public
}

// ShareMsg asks a helper to keep a share, in memory alone, and to release it to
// whoever holds a slot of the workload.
type ShareMsg struct {
	Spec  workload.Signed `cbor:"1,keyasint"` // lists the helper
	ID    workload.ID     `cbor:"2,keyasint"`
	Share []byte          `cbor:"3,keyasint" max:"33"`
}
