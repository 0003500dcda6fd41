package receipt

import "github.com/perrin-mesh/perrin/workload"

// Rules are the parts of a check that this package must not import: encodings,
// certificates, the clearing and the tariff. All are pure and required.
type Rules struct {
	// Verify is Signed.Verify, which may remember what it has seen.
	Verify func(workload.Domain, workload.Signed) error
	// OpenSpec verifies, decodes and validates an owner's signed spec.
	OpenSpec func(workload.Signed) (workload.Spec, error)
	// Name is the ID of the workload of a signed spec in a cell.
	Name func(workload.CellID, workload.Signed) workload.ID
	// OpenBid verifies and decodes a bid, which names its signer.
	OpenBid func(workload.Signed) (workload.Bid, error)
	// OpenProved verifies and decodes what a leader found of a node's evidence.
	OpenProved func(workload.Signed) (workload.Proved, error)
	// OpenDraw verifies what an owner signed of a draw.
	OpenDraw func(owner workload.PeerID, d *workload.Draw, sig []byte) error
	// Countersigned checks that a majority of the voters that an award's
	// countersignatures name signed it, and returns all of those and who did.
	Countersigned func(workload.ID, *Award) (voters, by []workload.PeerID, err error)
	// OpenResult decodes what a worker signs about a segment. It verifies nothing.
	OpenResult func(payload []byte) (Signed, error)
	// OpenCert verifies a chain of certificates from a root to a node, but not
	// its time.
	OpenCert func(raw []byte) (Cert, error)
	// MeshOf is the name of the mesh of a root key.
	MeshOf func(root workload.PeerID) workload.MeshID
	// Replay clears an auction again, and says how its award differs.
	Replay func(workload.ID, *Award) error
	// Charge is the price of ms at a rate.
	Charge func(rate, ms int64) int64
}

// Signed is what a worker signs about a segment.
type Signed struct {
	Workload workload.ID
	Slot     workload.SlotID
	Fence    workload.Fence
	Ref      workload.Ref
	Results  workload.Digest // RootOf; zero of a version that did not name them
	Vote     workload.Digest // VoteOf the one result of a workload that is verified
}

// Cert is what a chain of certificates says.
type Cert struct {
	Root     workload.PeerID
	Node     workload.PeerID
	Name     string
	Operator workload.PeerID // that signed it
	Admitter workload.PeerID // the operator that admitted the node: whose it counts as
	From, To int64           // ms: when all of the chain holds
}

// certSlack is how far clocks may differ from a certificate's times, in ms: as
// much as admission allows (admission.ClockSkew).
const certSlack = 2 * 60 * 1000

// certGrace is how long a certificate counts beyond its end while all operators
// are away, in ms (admission.OfflineGrace).
const certGrace = 7 * 24 * 60 * 60 * 1000
