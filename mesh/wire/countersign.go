package wire

import "github.com/perrin-mesh/perrin/workload"

// ProtoCountersign asks a voter to clear an auction again before its award is
// committed, and to sign that it came out the same.
const ProtoCountersign = "/perrin/countersign/1" // leader -> voter

// Clearing is an auction with all that its clearing looks at, and what came out.
type Clearing struct {
	Workload workload.ID          `cbor:"1,keyasint"`                      // that is awarded
	Auction  workload.AuctionID   `cbor:"2,keyasint"`                      // its name
	Wanted   uint32               `cbor:"3,keyasint"`                      // slots that were called for
	MaxPrice int64                `cbor:"4,keyasint"`                      // of the owner, micro-credits per slot-second; 0 is none
	Bids     []workload.Signed    `cbor:"5,keyasint" max:"128"`            // `Bid` each, signed by its node
	Scores   []workload.Score     `cbor:"6,keyasint" max:"128"`            // one a bid
	Slots    []workload.AwardSlot `cbor:"7,keyasint,omitempty" max:"4096"` // as cleared
	Proofs   []workload.Signed    `cbor:"8,keyasint,omitempty" max:"128"`  // `Proved` each, signed by the leader, where the spec requires something
}

// CountersignMsg asks for a countersignature.
type CountersignMsg struct {
	Cell     workload.CellID   `cbor:"1,keyasint"`          // whose voter is asked
	Spec     workload.Signed   `cbor:"2,keyasint"`          // the owner's, since a voter's ledger may lag
	Voters   []workload.PeerID `cbor:"3,keyasint" max:"16"` // as the leader knows them; the voter must know the same
	Clearing Clearing          `cbor:"4,keyasint"`          // that is to be committed
}

// CountersignAnswer answers CountersignMsg.
type CountersignAnswer struct {
	Sig workload.Signed `cbor:"1,keyasint"` // a `Countersign`, signed by the voter (`perrin/countersign/1`)
}

// Countersign is what a voter signs of an award that it has cleared again.
type Countersign struct {
	Cell     workload.CellID    `cbor:"1,keyasint"`          // that the signer votes in
	Workload workload.ID        `cbor:"2,keyasint"`          // that is awarded
	Auction  workload.AuctionID `cbor:"3,keyasint"`          // in which
	Inputs   workload.Digest    `cbor:"4,keyasint"`          // SHA-256 of the `Clearing` without its slots
	Slots    workload.Digest    `cbor:"5,keyasint"`          // SHA-256 of a `Clearing` with nothing but its slots
	Voters   []workload.PeerID  `cbor:"6,keyasint" max:"16"` // of the cell, ascending
}

// Countersigned is what a worker is shown beside an award of a workload whose
// owner wants it countersigned.
type Countersigned struct {
	Slots []workload.AwardSlot `cbor:"1,keyasint" max:"4096"` // all that were cleared
	Sigs  []workload.Signed    `cbor:"2,keyasint" max:"16"`   // `Countersign` each
}

// Countersign is what a voter of a cell signs of the clearing.
func (c *Clearing) Countersign(cell workload.CellID, voters []workload.PeerID) *Countersign {
	inputs := *c
	inputs.Slots = nil
	return &Countersign{
		Cell: cell, Workload: c.Workload, Auction: c.Auction, Inputs: workload.DigestOf(MustMarshal(&inputs)), Slots: SlotsDigest(c.Slots), Voters: voters,
	}
}

// SlotsDigest names cleared slots.
func SlotsDigest(slots []workload.AwardSlot) workload.Digest {
	return workload.DigestOf(MustMarshal(&Clearing{Slots: slots}))
}

// OpenCountersign verifies and decodes one countersignature. It is pure.
func OpenCountersign(memo *workload.Memo, s workload.Signed) (c Countersign, err error) {
	if err := memo.Verify(workload.DomainCountersign, s); err != nil {
		return c, err
	}
	return c, Unmarshal(s.Payload, &c)
}
