package ledger

import "github.com/perrin-mesh/perrin/workload"

// Command is one entry of a cell's log. Exactly one of the pointers is set.
// At is the leader's clock in ms; Apply never lets it go back (it uses the
// larger of At and the last one applied), so every replica sees one time.
type Command struct {
	Version uint16          `cbor:"1,keyasint"`
	At      int64           `cbor:"2,keyasint"`
	Leader  workload.PeerID `cbor:"3,keyasint"`

	Genesis      *Genesis      `cbor:"4,keyasint,omitempty"`
	MemberAdd    *MemberAdd    `cbor:"5,keyasint,omitempty"`
	MemberRemove *MemberRemove `cbor:"6,keyasint,omitempty"`
	Accept       *Accept       `cbor:"7,keyasint,omitempty"`
	Award        *Award        `cbor:"8,keyasint,omitempty"`
	Refuse       *Refuse       `cbor:"9,keyasint,omitempty"`
	Take         *Take         `cbor:"10,keyasint,omitempty"`
	Return       *Return       `cbor:"11,keyasint,omitempty"`
	Close        *Close        `cbor:"12,keyasint,omitempty"`
	Release      *Release      `cbor:"13,keyasint,omitempty"`
	Expire       *Expire       `cbor:"14,keyasint,omitempty"`
	Stop         *Stop         `cbor:"15,keyasint,omitempty"`
	Quota        *Quota        `cbor:"16,keyasint,omitempty"`
	Compact      *Compact      `cbor:"17,keyasint,omitempty"`

	// Certs are certificates of nodes that the command is about, as far as the
	// ledger does not have them.
	Certs [][]byte `cbor:"18,keyasint,omitempty" max:"128"`

	Draw *Draw `cbor:"40,keyasint,omitempty"`

	// Term is the one in which the leader proposed a command that judges, and Seen the
	// newest entry that it had applied by then: its signature is one over that history.
	Term uint64 `cbor:"41,keyasint,omitempty"`
	Seen *Seen  `cbor:"42,keyasint,omitempty"`
}

// CommandVersion is the version this package writes. Apply rejects a newer one
// on every replica alike.
const CommandVersion = 1

// Genesis founds the cell. It is the first command and is accepted once.
type Genesis struct {
	Mesh    workload.MeshID `cbor:"1,keyasint"`
	Cell    workload.CellID `cbor:"2,keyasint"`
	Epoch   uint64          `cbor:"3,keyasint"`
	MaxSize uint32          `cbor:"4,keyasint"` // members at most, 1 to 128
}

// MemberAdd admits a node to the cell, or updates what is known of a member.
type MemberAdd struct {
	Node     workload.PeerID `cbor:"1,keyasint"`
	Name     string          `cbor:"2,keyasint" max:"64"`
	Operator workload.PeerID `cbor:"3,keyasint"`
	Addrs    []string        `cbor:"4,keyasint" max:"16"`
	Direct   bool            `cbor:"5,keyasint"` // reachable by dialling
	Version  string          `cbor:"6,keyasint" max:"64"`
	// Succession is the operator's statement of which key the node had before, while
	// the ledger remembers that one.
	Succession []byte `cbor:"7,keyasint,omitempty" max:"4096"`
}

// MemberRemove takes a node out of the cell. Its slots must have expired or
// been released first, and another member must stay; otherwise it is rejected.
type MemberRemove struct {
	Node workload.PeerID `cbor:"1,keyasint"`
}

// Accept takes a workload on. Spec is the owner's signed statement; Open is its
// payload decoded by the shell, which the Rules check against the signature.
type Accept struct {
	ID   workload.ID     `cbor:"1,keyasint"`
	Spec workload.Signed `cbor:"2,keyasint"`
	Held bool            `cbor:"3,keyasint"` // program and inputs lie on a majority of the voters
	Home workload.PeerID `cbor:"4,keyasint"` // the node it was submitted from, where the rest lies

	// Token is the token that it is submitted under, which Home holds.
	Token []workload.Signed `cbor:"5,keyasint,omitempty" max:"8"`
}

// Award gives slots of a lot to nodes. It carries every input of the clearing,
// so that any replica, and later any auditor, can replay it.
type Award struct {
	Workload workload.ID        `cbor:"1,keyasint"`
	Auction  workload.AuctionID `cbor:"2,keyasint"`
	Wanted   uint32             `cbor:"3,keyasint"`
	MaxPrice int64              `cbor:"4,keyasint"`
	Bids     []workload.Signed  `cbor:"5,keyasint" max:"128"` // workload.Bid, DomainBid
	Scores   []Score            `cbor:"6,keyasint" max:"128"` // one per bid, same order
	Slots    []AwardSlot        `cbor:"7,keyasint" max:"4096"`
	Declines []DeclineNote      `cbor:"8,keyasint,omitempty" max:"256"` // for `why`
	First    uint32             `cbor:"9,keyasint"`                     // tasks of each slot's first range, at least 1

	// Proofs are, of a workload whose spec requires something, one of each node with
	// slots: workload.Proved, DomainProved.
	Proofs []workload.Signed `cbor:"60,keyasint,omitempty" max:"128"`
	// Countersigned are, of a workload whose spec asks for it, those of a majority of
	// the voters: wire.Countersign, DomainCountersign.
	Countersigned []workload.Signed `cbor:"61,keyasint,omitempty" max:"16"`
}

// The nouns of an award that the scheduler shares.
type (
	Score       = workload.Score
	AwardSlot   = workload.AwardSlot
	DeclineNote = workload.DeclineNote
)

// Refuse undoes a slot whose worker did not take the award: its open ranges
// reopen in the same attempt, since nothing started.
type Refuse struct {
	Workload workload.ID       `cbor:"1,keyasint"`
	Slot     workload.SlotID   `cbor:"2,keyasint"`
	Fence    workload.Fence    `cbor:"3,keyasint"`
	Reasons  []workload.Reason `cbor:"4,keyasint" max:"16"`
}

// Take gives a slot its next tasks, at most Count. Seq numbers the Takes of a
// slot from 1: the same one again gets the same tasks, so that an answer that
// was lost leaves none behind. One without a number always gets others.
type Take struct {
	Workload workload.ID     `cbor:"1,keyasint"`
	Slot     workload.SlotID `cbor:"2,keyasint"`
	Fence    workload.Fence  `cbor:"3,keyasint"`
	Count    uint32          `cbor:"4,keyasint"`
	Seq      uint32          `cbor:"5,keyasint,omitempty"`
}

// Return gives back ranges that were taken and not started; or, with Lost, ones
// of which nobody knows whether they were: they reopen with the next attempt.
// Preempted says of lost ones that their node took its idle time back, which is
// not its fault.
type Return struct {
	Workload workload.ID      `cbor:"1,keyasint"`
	Slot     workload.SlotID  `cbor:"2,keyasint"`
	Fence    workload.Fence   `cbor:"3,keyasint"`
	Ranges   []workload.Range `cbor:"4,keyasint" max:"4096"`
	Lost     bool             `cbor:"5,keyasint,omitempty"`

	Preempted bool `cbor:"6,keyasint,omitempty"`
}

// SegmentInline is the most bytes of a segment that a Close carries itself.
const SegmentInline = 16 << 10

// Close ends tasks of a slot. The segment that holds their results is Inline,
// for every replica to keep when it applies the entry, or it is already durable
// on a majority of the voters. Done are the tasks whose program exited
// with 0; Failed the others, of which some may be tried again.
type Close struct {
	Workload workload.ID      `cbor:"1,keyasint"`
	Slot     workload.SlotID  `cbor:"2,keyasint"`
	Fence    workload.Fence   `cbor:"3,keyasint"`
	Done     []workload.Range `cbor:"4,keyasint" max:"4096"`
	Failed   []FailedTask     `cbor:"5,keyasint,omitempty" max:"4096"`
	Segment  workload.Ref     `cbor:"6,keyasint"`
	Held     bool             `cbor:"7,keyasint"` // the outputs too lie on a majority of the voters
	Usage    workload.Usage   `cbor:"8,keyasint"` // summed; PeakMem is the largest
	Sig      workload.Signed  `cbor:"9,keyasint"` // the worker's statement, DomainResult
	Inline   []byte           `cbor:"10,keyasint,omitempty" max:"16384"`

	// Vote names the one result of a workload that is verified, as its node did in
	// what it signed.
	Vote workload.Digest `cbor:"40,keyasint,omitzero"`
}

// FailedTask is one task that did not end with exit code 0.
type FailedTask struct {
	Index   uint32        `cbor:"1,keyasint"`
	Attempt uint32        `cbor:"2,keyasint"`
	Exit    workload.Exit `cbor:"3,keyasint" max:"16"`
	Code    int32         `cbor:"4,keyasint"`
}

// Release ends a slot that has no open range; the node is free to sell it again.
type Release struct {
	Workload workload.ID     `cbor:"1,keyasint"`
	Slot     workload.SlotID `cbor:"2,keyasint"`
	Fence    workload.Fence  `cbor:"3,keyasint"`
}

// Expire gives a node up: every slot it holds in the given epoch is lost, its
// open ranges reopen with the next attempt, and its epoch moves on, so that
// nothing it says about them counts any more.
type Expire struct {
	Node  workload.PeerID `cbor:"1,keyasint"`
	Epoch uint64          `cbor:"2,keyasint"`
}

// Stop ends a workload: no task starts any more, slots with open ranges are
// released as their workers report (or expire).
type Stop struct {
	ID workload.ID     `cbor:"1,keyasint"`
	By workload.PeerID `cbor:"2,keyasint"`
	// Revoked says that the token was revoked under which it was submitted.
	Revoked bool `cbor:"3,keyasint,omitempty"`
}

// Quota sets what an account may spend in micro-credits; negative is no limit.
type Quota struct {
	Account workload.PeerID `cbor:"1,keyasint"`
	Limit   int64           `cbor:"2,keyasint"`

	// Order is the operator's, of a wire.QuotaOrder given at At, in ms of its clock, and
	// Operator its certificate: see Rules.OpenQuota.
	At       int64           `cbor:"3,keyasint,omitempty"`
	Order    workload.Signed `cbor:"4,keyasint,omitzero"`
	Operator workload.Signed `cbor:"5,keyasint,omitzero"`
}

// Compact shrinks the oldest ended workloads to tombs: while more than Keep
// have ended, while all workloads together weigh more than Bytes, and those that
// ended more than For ms ago; at most MaxCompact of them. None goes that ended
// less than AtOnce ms ago, still holds a slot, or is named in After by one that
// has not ended. The time is the command's own.
type Compact struct {
	Keep   uint32 `cbor:"2,keyasint"`
	Bytes  int64  `cbor:"3,keyasint"`
	For    int64  `cbor:"4,keyasint"`
	AtOnce int64  `cbor:"5,keyasint"`
}
