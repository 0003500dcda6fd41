package wire

import "github.com/perrin-mesh/perrin/workload"

// ProtoOperator is what the root's node speaks to a node that is to be an operator's.
const ProtoOperator = "/perrin/operator/1"

// OperatorMsg asks a node for the key that it is to be an operator with; with a
// certificate, that the root has signed for that key, it makes it one.
type OperatorMsg struct {
	Rotate bool             `cbor:"1,keyasint,omitempty"` // another key than the one it has
	Cert   *workload.Signed `cbor:"2,keyasint,omitempty"`
}

// OperatorAnswer names the key.
type OperatorAnswer struct {
	Key workload.PeerID `cbor:"1,keyasint"`
}
