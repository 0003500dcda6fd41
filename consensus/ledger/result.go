package ledger

import (
	"fmt"

	"github.com/perrin-mesh/perrin/workload"
)

// Code is why a command was rejected. The list is closed.
type Code string

// The codes of a rejection.
const (
	Malformed        Code = "malformed"         // not a command, or a field out of its range
	NewerVersion     Code = "newer-version"     // written by a version this one does not know
	Replayed         Code = "replayed"          // an index that was applied before
	NoGenesis        Code = "no-genesis"        // the cell is not founded yet
	Founded          Code = "founded"           // the cell is founded already
	CellFull         Code = "cell-full"         // as many members as the cell may have
	NotMember        Code = "not-member"        // the node is no member of the cell
	LastMember       Code = "last-member"       // the cell has no other member
	UnknownNode      Code = "unknown-node"      // the ledger has no lease of the node
	HoldsSlots       Code = "holds-slots"       // the member still holds slots
	UnknownWorkload  Code = "unknown-workload"  // no such workload, or compacted
	Compacted        Code = "compacted"         // a workload to come after has been compacted
	WrongCell        Code = "wrong-cell"        // the ID names another cell
	WrongMesh        Code = "wrong-mesh"        // the spec was signed for another mesh
	IDTaken          Code = "id-taken"          // another workload has the ID
	NonceReused      Code = "nonce-reused"      // the owner signed another spec with the nonce
	TooOld           Code = "too-old"           // signed before one of the owner's that is forgotten: it may be a replay
	ClockAhead       Code = "clock-ahead"       // signed or ordered more than MaxAhead after the ledger's time
	BadSignature     Code = "bad-signature"     // a statement does not carry its author's signature
	BadSpec          Code = "bad-spec"          // the spec does not decode or validate, or the ID is not its own
	BadToken         Code = "bad-token"         // the token does not verify, has ended, or is not for the node
	OverQuota        Code = "over-quota"        // the owner has spent what it may, or the token allows less
	OldOrder         Code = "old-order"         // a later order about the account was applied
	Full             Code = "full"              // the ledger holds as many as it may
	AfterFailed      Code = "after-failed"      // a workload to wait for has ended without success
	TooMuchPassed    Code = "too-much-passed"   // a workload to come after has more segments than can be given on
	WaitingFor       Code = "waiting-for"       // the workload waits for others
	Ended            Code = "ended"             // the workload has ended
	DoesNotReplay    Code = "does-not-replay"   // the clearing of an award gives something else
	AuctionUsed      Code = "auction-used"      // an award of the auction was applied before
	OverPrice        Code = "over-price"        // a slot costs more than the owner's limit
	UnknownSlot      Code = "unknown-slot"      // the workload never had the slot
	StaleFence       Code = "stale-fence"       // the slot was given up, or the fence is another's
	NotTaken         Code = "not-taken"         // the slot does not hold the tasks in that attempt
	HoldsTasks       Code = "holds-tasks"       // the slot still holds tasks
	AlreadyStarted   Code = "already-started"   // the slot has closed tasks and cannot be refused
	TakenBefore      Code = "taken-before"      // a later Take of the slot was applied
	NotCountersigned Code = "not-countersigned" // no majority of the voters has signed an award whose owner asks for it
	NotProved        Code = "not-proved"        // the award does not say what proved what the owner requires
	NotProposed      Code = "not-proposed"      // the leader that it names has not signed it, or is no member
	StaleTerm        Code = "stale-term"        // proposed in another term than the entry's
	SlotSpent        Code = "slot-spent"        // the node failed a task of the slot: it gets no more
)

// Reject is the error of a command that was applied as rejected.
type Reject struct {
	Code   Code
	Detail string
}

// Error returns the code and the detail.
func (r *Reject) Error() string { return string(r.Code) + ": " + r.Detail }

func rejectf(code Code, format string, args ...any) *Reject {
	return &Reject{Code: code, Detail: fmt.Sprintf(format, args...)}
}

// Result is what a command did: what the leader needs to act on. Every replica
// computes the same one. Its slices belong to the caller.
type Result struct {
	Index  uint64
	At     int64   // the ledger's time after the command, ms
	Reject *Reject // nil when the command was applied

	ID        workload.ID    // the workload it was about; of a duplicate Accept the one accepted first
	Duplicate bool           // applied before: nothing changed, and the first one stands
	Phase     workload.Phase // of ID after the command

	Slots  []SlotGrant      // Award: the new slots, in order
	Short  uint32           // Award: slots not given, since too few tasks are open or max-parallel is reached
	Ranges []workload.Range // Take: what the slot was given; empty when nothing is open

	Freed   []SlotRef        // slots that ended; their nodes may sell the capacity again
	Lost    []LostSlot       // Expire: what the node held, by workload and slot
	Retried []workload.Range // Close: tasks to be tried again, with the next attempt
	Charged int64            // Close: micro-credits from owner to node
	Epoch   uint64           // Expire: the node's new epoch
	Undrawn *Undrawn         // Close: a result that stands alone unless a draw picks it

	Ready  []workload.ID // workloads that waited and now want slots
	Ends   []workload.ID // workloads that reached a final phase
	Forgot []workload.ID // Compact: workloads of which only a tomb is left
}

// Err returns the rejection as an error, nil when the command was applied.
func (r *Result) Err() error {
	if r.Reject == nil {
		return nil
	}
	return r.Reject
}

// SlotRef names a slot and where it is.
type SlotRef struct {
	Workload workload.ID     `json:"workload"`
	Slot     workload.SlotID `json:"slot"`
	Node     workload.PeerID `json:"node"`
}

// SlotGrant is a slot that an award gave, with what its worker needs to know.
type SlotGrant struct {
	Slot   workload.SlotID  `json:"slot"`
	Node   workload.PeerID  `json:"node"`
	Fence  workload.Fence   `json:"fence"`
	Rate   int64            `json:"rate"` // micro-credits per slot-second
	Ranges []workload.Range `json:"ranges"`
}

// LostSlot is a slot that an Expire ended and the tasks it held, in the attempt
// that was lost.
type LostSlot struct {
	SlotRef
	Ranges []workload.Range `json:"ranges"`
}
