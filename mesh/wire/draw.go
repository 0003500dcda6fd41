package wire

import "github.com/perrin-mesh/perrin/workload"

// ProtoCommitted asks a voter whether its ledger has the result that a draw is about,
// waiting for it.
const ProtoCommitted = "/perrin/committed/1" // node that a workload was submitted on -> voter

// ProtoDraw asks the node that a workload was submitted on whether a result that may
// stand alone is checked by others.
const ProtoDraw = "/perrin/draw/1" // leader -> the node that it was submitted on

// DrawMsg asks for a draw, or whether what it is about is committed.
type DrawMsg struct {
	Draw workload.Draw `cbor:"1,keyasint"` // the first result that is committed of its task
}

// DrawAnswer answers DrawMsg.
type DrawAnswer struct {
	Sig []byte `cbor:"1,keyasint" max:"64"` // of the encoded `Draw`, by the workload's owner (`perrin/draw/1`)
}

// OpenDraw verifies what an owner signed of a draw. It is pure.
func OpenDraw(memo *workload.Memo, owner workload.PeerID, d *workload.Draw, sig []byte) error {
	return memo.Verify(workload.DomainDraw, workload.Signed{Payload: MustMarshal(d), By: owner, Sig: sig})
}
