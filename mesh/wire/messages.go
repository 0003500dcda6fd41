package wire

import "github.com/perrin-mesh/perrin/workload"

// The protocols between nodes. Each is one request and one answer, except
// Attach and Raft, which are streams. docs/protocol.md lists them all.
const (
	ProtoSubmit  = "/perrin/submit/1"  // owner's node -> leader
	ProtoHold    = "/perrin/hold/1"    // leader -> voter: keep these blobs
	ProtoWhole   = "/perrin/whole/1"   // leader -> standby: does it hold all that a voter holds?
	ProtoChunk   = "/perrin/chunk/2"   // anyone -> anyone: a chunk of a blob
	ProtoOffer   = "/perrin/offer/1"   // member -> voters
	ProtoCall    = "/perrin/call/1"    // leader -> node
	ProtoRelease = "/perrin/release/1" // leader -> node: holds not needed
	ProtoAward   = "/perrin/award/1"   // leader -> node
	ProtoTake    = "/perrin/take/1"    // node -> leader
	ProtoReturn  = "/perrin/return/1"  // node -> leader
	ProtoClose   = "/perrin/close/3"   // node -> leader
	ProtoDone    = "/perrin/done/2"    // node -> leader: the slot is over
	ProtoRenew   = "/perrin/renew/1"   // node -> leader
	ProtoHalt    = "/perrin/halt/1"    // leader -> node: stop these slots
	ProtoSuited  = "/perrin/suited/1"  // leader -> sibling leader: offers that fit a lot
	ProtoMember  = "/perrin/member/1"  // node -> leader: take me into the cell
	ProtoQuery   = "/perrin/query/1"   // any node -> leader: what the ledger says
	ProtoStop    = "/perrin/stop/1"    // owner's node -> leader
	ProtoAttach  = "/perrin/attach/1"  // owner's node -> worker, a stream
	ProtoLive    = "/perrin/live/1"    // owner's node -> worker: what a running task has published
	ProtoPicture = "/perrin/picture/1" // any node -> node: its cores and who holds them
	ProtoAttest  = "/perrin/attest/1"  // any node -> node: evidence of its machine, a stream
	ProtoRaft    = "/perrin/raft/2"    // between the servers of a group, a stream
)

// Bounds of messages in bytes, frame included.
const (
	MaxSmall = 64 << 10 // everything that is not listed below
	MaxSpec  = 1 << 20  // a signed spec
	MaxBulk  = 6 << 20  // messages that carry blobs or segments
)

// InlineLimit is the largest blob in bytes that rides inside a message, and
// InlineTotal the most of them together.
const (
	InlineLimit = 256 << 10
	InlineTotal = 4 << 20
)

// Inline is a small blob that rides along.
type Inline struct {
	Data []byte `cbor:"1,keyasint" max:"262144"`
}

// Submit asks the leader of a cell to take a workload on.
type Submit struct {
	Spec   workload.Signed `cbor:"1,keyasint"`
	Home   workload.PeerID `cbor:"2,keyasint"` // where the blobs that do not ride along lie
	Blobs  []workload.Ref  `cbor:"3,keyasint" max:"65536"`
	Inline []Inline        `cbor:"4,keyasint,omitempty" max:"256"`

	Token []workload.Signed `cbor:"5,keyasint,omitempty" max:"8"` // for `submit`, of who is to pay; none for the owner's own
}

// Submitted answers Submit once the workload is committed.
type Submitted struct {
	ID   workload.ID `cbor:"1,keyasint"`
	Held bool        `cbor:"2,keyasint"`
}

// Hold asks a voter to keep blobs, durably, on behalf of a workload. The
// answer, which is Ack, means that they are on its disk.
type Hold struct {
	Workload workload.ID       `cbor:"1,keyasint"`
	Blobs    []workload.Ref    `cbor:"2,keyasint" max:"65536"`
	Inline   []Inline          `cbor:"3,keyasint,omitempty" max:"256"`
	Sources  []workload.PeerID `cbor:"4,keyasint" max:"16"`
}

// WholeMsg asks a server of a cell whether it holds every blob that the ledger,
// up to an index, says a voter holds. It answers with Ack, or as unavailable
// while blobs are still on their way.
type WholeMsg struct {
	Cell  workload.CellID `cbor:"1,keyasint"`
	Index uint64          `cbor:"2,keyasint"` // of the log entry
}

// Ack is an answer that says nothing but yes.
type Ack struct{}

// Chunk asks for the manifest (Index -1) or a chunk of a blob. The answer is
// those bytes and nothing else, so that no megabyte is copied to be wrapped.
type Chunk struct {
	Blob  workload.Ref `cbor:"1,keyasint"`
	Index int32        `cbor:"2,keyasint"`
}

// OfferMsg carries a signed workload.Offer.
type OfferMsg struct {
	Offer workload.Signed `cbor:"1,keyasint"`
	Full  bool            `cbor:"2,keyasint,omitempty"` // the sender's disk is full: as a voter it acknowledges nothing new
}

// CallMsg carries a call for bids.
type CallMsg struct {
	Call workload.Call `cbor:"1,keyasint"`
}

// CallAnswer carries a signed workload.Bid or a decline.
type CallAnswer struct {
	Bid     *workload.Signed  `cbor:"1,keyasint,omitempty"`
	Decline *workload.Decline `cbor:"2,keyasint,omitempty"`
}

// ReleaseMsg frees holds of auctions that the node did not win.
type ReleaseMsg struct {
	Auctions []workload.AuctionID `cbor:"1,keyasint" max:"1024"`
}

// Awarded is one slot given to a node.
type Awarded struct {
	Slot   workload.SlotID  `cbor:"1,keyasint"`
	Fence  workload.Fence   `cbor:"2,keyasint"`
	Rate   int64            `cbor:"3,keyasint"`
	Ranges []workload.Range `cbor:"4,keyasint" max:"64"`
}

// AwardMsg tells a node of slots that are committed to it. It is signed
// (DomainAward) by the leader, as the payload of SignedAward.
type AwardMsg struct {
	Cell     workload.CellID    `cbor:"1,keyasint"`
	Term     uint64             `cbor:"2,keyasint"`
	Workload workload.ID        `cbor:"3,keyasint"`
	Auction  workload.AuctionID `cbor:"4,keyasint"`
	Index    uint64             `cbor:"5,keyasint"` // of the log entry
	Slots    []Awarded          `cbor:"6,keyasint" max:"4096"`
	After    []AfterOutputs     `cbor:"7,keyasint,omitempty" max:"64"`
	Holders  []workload.PeerID  `cbor:"8,keyasint" max:"16"` // who has the blobs
	GrantMs  int64              `cbor:"9,keyasint"`          // of the first lease, which counts from when the bid was sent
	Home     workload.PeerID    `cbor:"10,keyasint"`         // the node it was submitted on: only that one feeds its stdin
	Last     bool               `cbor:"11,keyasint"`         // no task is open beside these: there is nothing to TAKE
	Payer    workload.PeerID    `cbor:"12,keyasint"`         // who may read it beside its owner: the one that pays
}

// AfterOutputs are the segments of a workload that this one comes after.
type AfterOutputs struct {
	Name     string            `cbor:"1,keyasint" max:"255"`
	Segments []workload.Ref    `cbor:"2,keyasint" max:"65536"`
	Holders  []workload.PeerID `cbor:"3,keyasint" max:"128"`
}

// SignedAward carries an AwardMsg and the owner's spec.
type SignedAward struct {
	Award workload.Signed `cbor:"1,keyasint"`
	Spec  workload.Signed `cbor:"2,keyasint"`

	Countersigned *Countersigned `cbor:"60,keyasint,omitempty"` // where the spec asks for it
}

// AwardAnswer lists the slots that the node refuses.
type AwardAnswer struct {
	Refused []workload.SlotID `cbor:"1,keyasint,omitempty" max:"4096"`
	Reasons []workload.Reason `cbor:"2,keyasint,omitempty" max:"16"`
}

// SlotRef names a slot and its fence.
type SlotRef struct {
	Workload workload.ID     `cbor:"1,keyasint"`
	Slot     workload.SlotID `cbor:"2,keyasint"`
	Fence    workload.Fence  `cbor:"3,keyasint"`
}

// TakeMsg asks for a slot's next tasks.
type TakeMsg struct {
	Ref           SlotRef `cbor:"1,keyasint"`
	MicrosPerTask int64   `cbor:"2,keyasint"`           // measured so far; 0 is not known
	Seq           uint32  `cbor:"3,keyasint,omitempty"` // numbers the slot's takes from 1: the same one again gets the same tasks
}

// Taken answers TakeMsg. With no ranges the slot is over when its open ranges are.
type Taken struct {
	Ranges []workload.Range `cbor:"1,keyasint,omitempty" max:"64"`
	Over   bool             `cbor:"2,keyasint"`
}

// ReturnMsg gives back tasks that were not started.
type ReturnMsg struct {
	Ref    SlotRef          `cbor:"1,keyasint"`
	Ranges []workload.Range `cbor:"2,keyasint" max:"64"`
}

// CloseMsg reports results. Segment is an encoded workload.Segment; Sig is the
// worker's signature (DomainResult) over a Statement that names it.
type CloseMsg struct {
	Ref     SlotRef         `cbor:"1,keyasint"`
	Segment []byte          `cbor:"2,keyasint" max:"4194304"`
	Sig     workload.Signed `cbor:"3,keyasint"`
	Offer   uint64          `cbor:"4,keyasint,omitempty"` // of its slot nothing runs any more, and its capacity is free since that offer
}

// Statement is what a worker signs about its results.
type Statement struct {
	Ref     SlotRef         `cbor:"1,keyasint"`
	Segment workload.Ref    `cbor:"2,keyasint"`
	Results workload.Digest `cbor:"3,keyasint"` // receipt.RootOf the results; zero of an older version

	Vote workload.Digest `cbor:"40,keyasint,omitzero"` // receipt.VoteOf the one result of a workload that is verified
}

// Closed answers CloseMsg: the results are committed. Held means that they and
// all that they refer to lie on a majority of the voters.
type Closed struct {
	Held bool `cbor:"1,keyasint"`
	Over bool `cbor:"2,keyasint"` // the slot has ended with these results: there is no more to say about it
}

// DoneMsg ends a slot.
type DoneMsg struct {
	Ref   SlotRef `cbor:"1,keyasint"`
	Offer uint64  `cbor:"2,keyasint,omitempty"` // its capacity is free since that offer of the node's

	Preempted bool `cbor:"3,keyasint,omitempty"` // the node needs what was lent: what the slot still holds runs elsewhere
}

// RenewMsg renews every lease that a node has with a cell, and says what it runs.
type RenewMsg struct {
	Cell     workload.CellID `cbor:"1,keyasint"`
	Slots    []SlotRef       `cbor:"4,keyasint" max:"16384"`
	Disclaim []SlotRef       `cbor:"5,keyasint,omitempty" max:"16384"` // slots that the node does not run and will not: if it holds no others, it is given up at once
}

// Renewed answers RenewMsg.
type Renewed struct {
	GrantMs int64     `cbor:"1,keyasint"` // counts from when the node sent RENEW
	Epoch   uint64    `cbor:"2,keyasint"`
	Term    uint64    `cbor:"3,keyasint"`
	Gone    []SlotRef `cbor:"4,keyasint,omitempty" max:"16384"` // slots that are not the node's any more: stop them
	Held    []SlotRef `cbor:"5,keyasint,omitempty" max:"16384"` // to a RENEW without slots: what the ledger gives to the node
	Stop    []SlotRef `cbor:"6,keyasint,omitempty" max:"16384"` // slots of workloads that their owners stopped, which HaltMsg said if it came
}

// HaltMsg asks a worker to stop slots: SIGTERM, and SIGKILL after the grace.
type HaltMsg struct {
	Slots   []SlotRef `cbor:"1,keyasint" max:"4096"`
	GraceMs int64     `cbor:"2,keyasint"`
	Reason  string    `cbor:"3,keyasint" max:"256"`
}

// SuitedMsg asks the leader of a sibling cell for nodes that fit a lot.
type SuitedMsg struct {
	Owner    workload.PeerID    `cbor:"1,keyasint"`
	Shape    workload.Resources `cbor:"2,keyasint"`
	Kind     workload.Kind      `cbor:"3,keyasint" max:"16"`
	Where    string             `cbor:"4,keyasint" max:"1024"`
	MaxPrice int64              `cbor:"5,keyasint"`
	Wanted   uint32             `cbor:"6,keyasint"`
	Require  *workload.Require  `cbor:"7,keyasint,omitempty"` // what each node must prove; nil is nothing
}

// SuitedOffers answers SuitedMsg with the nodes' own signed offers.
type SuitedOffers struct {
	Offers []workload.Signed `cbor:"1,keyasint" max:"64"`
	Addrs  []PeerAddrs       `cbor:"2,keyasint" max:"64"`
}

// PeerAddrs is where a peer is reached.
type PeerAddrs struct {
	Peer  workload.PeerID `cbor:"1,keyasint"`
	Addrs []string        `cbor:"2,keyasint" max:"16"`
}

// MemberMsg asks to be taken into the leader's cell.
type MemberMsg struct {
	Name    string           `cbor:"1,keyasint" max:"64"`
	Addrs   []string         `cbor:"2,keyasint" max:"16"`
	Direct  bool             `cbor:"3,keyasint"`
	Version string           `cbor:"4,keyasint" max:"64"`
	Cell    *workload.CellID `cbor:"5,keyasint,omitempty"` // the one it is a member of
}

// CellView is what a member needs to know of a cell.
type CellView struct {
	Cell    workload.CellID   `cbor:"1,keyasint" json:"cell"`
	Epoch   uint64            `cbor:"2,keyasint" json:"epoch"`
	Term    uint64            `cbor:"3,keyasint" json:"term"`
	Leader  workload.PeerID   `cbor:"4,keyasint" json:"leader"`
	Voters  []PeerAddrs       `cbor:"5,keyasint" json:"voters" max:"16"`
	Standby []PeerAddrs       `cbor:"6,keyasint" json:"standby" max:"16"`
	Members []workload.PeerID `cbor:"7,keyasint" json:"members" max:"128"`
	Full    bool              `cbor:"8,keyasint" json:"full"` // it does not take the asker: try Siblings
}

// MemberAnswer answers MemberMsg. Found is set for the first node of a new
// cell: the mesh's cells are full.
type MemberAnswer struct {
	View     CellView   `cbor:"1,keyasint"`
	Siblings []CellView `cbor:"2,keyasint,omitempty" max:"32"`
	Found    bool       `cbor:"3,keyasint"`
}

// QueryMsg asks the leader what its ledger says. Op and the fields it uses are
// listed in docs/protocol.md.
type QueryMsg struct {
	Op        string            `cbor:"1,keyasint" max:"32"`
	ID        workload.ID       `cbor:"2,keyasint"`
	Text      string            `cbor:"3,keyasint,omitempty" max:"256"`
	Task      *uint32           `cbor:"4,keyasint,omitempty"`
	From      uint32            `cbor:"5,keyasint"`
	Count     uint32            `cbor:"6,keyasint"`
	Since     uint64            `cbor:"7,keyasint"`
	TimeoutMs int64             `cbor:"8,keyasint"`
	All       bool              `cbor:"9,keyasint"`
	Labels    map[string]string `cbor:"10,keyasint,omitempty" max:"64"`
	// Token lets the asker do it though it is neither the workload's home nor its owner's.
	Token []workload.Signed `cbor:"11,keyasint,omitempty" max:"8"`
}

// QueryAnswer carries the JSON of a type of node/api.
type QueryAnswer struct {
	JSON []byte `cbor:"1,keyasint" max:"4194304"`
}

// StopMsg asks the leader to stop a workload. The leader obeys the workload's
// Home and whoever has the key that signed its spec.
type StopMsg struct {
	ID    workload.ID     `cbor:"1,keyasint"`
	Order workload.Signed `cbor:"2,keyasint"` // of ID's 24 bytes; zero when the asker leaves it at being Home
	// Token lets the asker do it though it is neither the workload's home nor its owner's.
	Token []workload.Signed `cbor:"3,keyasint,omitempty" max:"8"`
}

// AttachMsg opens an Attach stream; frames follow in both directions.
type AttachMsg struct {
	Workload workload.ID `cbor:"1,keyasint"`
	Task     uint32      `cbor:"2,keyasint"`
	Follow   bool        `cbor:"3,keyasint"`
	Stdin    bool        `cbor:"4,keyasint"`
	// Token lets the asker do it though it is neither the workload's home nor its owner's.
	Token []workload.Signed `cbor:"5,keyasint,omitempty" max:"8"`
}

// OfferAnswer answers OfferMsg: the leader's with what it knows of the cell.
type OfferAnswer struct {
	View *CellView `cbor:"1,keyasint,omitempty"`
}

// LiveMsg asks a worker what a task that runs there has published so far.
type LiveMsg struct {
	Workload workload.ID `cbor:"1,keyasint"`
	Task     uint32      `cbor:"2,keyasint"`
	// Token lets the asker do it though it is neither the workload's home nor its owner's.
	Token []workload.Signed `cbor:"3,keyasint,omitempty" max:"8"`
}

// PictureMsg asks a node for the picture of its machine, a Picture. Whose work runs
// there it tells of the workloads that Token is for.
type PictureMsg struct {
	Token []workload.Signed `cbor:"1,keyasint,omitempty" max:"8"`
}

// Live answers LiveMsg.
type Live struct {
	Outputs []workload.Output `cbor:"1,keyasint,omitempty" max:"2048"`
}
