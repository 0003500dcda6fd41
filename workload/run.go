package workload

// Phase is where a workload or a task stands.
type Phase string

// The phases of a workload. Waiting is for After, Pending is without a slot.
const (
	Waiting   Phase = "waiting"
	Pending   Phase = "pending"
	Running   Phase = "running"
	Succeeded Phase = "succeeded"
	Failed    Phase = "failed"
	Stopped   Phase = "stopped"
)

// Ended reports whether the phase is final.
func (p Phase) Ended() bool { return p == Succeeded || p == Failed || p == Stopped }

// Fence is carried by every message about a slot. A message with an older
// fence than the ledger's is refused, so a worker that was given up cannot
// change anything (Lampson's epochs; "fencing tokens" in Kleppmann, 2016).
type Fence struct {
	Generation uint64 `cbor:"1,keyasint" json:"generation"` // the owner's: which cell is home
	Epoch      uint64 `cbor:"2,keyasint" json:"epoch"`      // of the node's lease with the cell
}

// SlotID numbers a slot within its workload, from 1, never reused.
type SlotID uint32

// Range is a run of task indexes that a slot has taken, all in the same try.
type Range struct {
	From    uint32 `cbor:"1,keyasint" json:"from"`
	Count   uint32 `cbor:"2,keyasint" json:"count"`
	Attempt uint32 `cbor:"3,keyasint" json:"attempt"` // 1 for the first try
}

// End returns the index after the last.
func (r Range) End() uint32 { return r.From + r.Count }

// Exit is how an attempt ended.
type Exit string

// How an attempt can end. Exited has an exit code; Signaled has a signal
// number; the others say which limit or which part ended it.
const (
	Exited       Exit = "exited"
	Signaled     Exit = "signaled"
	TimedOut     Exit = "timeout"
	OutOfMemory  Exit = "out-of-memory"
	OutputTooBig Exit = "output-too-big"
	BadOutput    Exit = "bad-output" // an output file has a name that is not UTF-8
	StoppedExit  Exit = "stopped"
	NodeFault    Exit = "node-fault"   // the node could not run it: not the program's failure
	NoAgreement  Exit = "no-agreement" // of a task that several nodes ran: too few returned the same
)

// Usage is what an attempt used.
type Usage struct {
	WallMs  int64 `cbor:"1,keyasint" json:"wall_ms"`
	CPUMs   int64 `cbor:"2,keyasint" json:"cpu_ms"`
	PeakMem int64 `cbor:"3,keyasint" json:"peak_memory"`
}

// Output is one file that a task left in its output folder.
type Output struct {
	Path string `cbor:"1,keyasint" json:"path" max:"1024"`
	Blob Ref    `cbor:"2,keyasint" json:"blob"`
	Exec bool   `cbor:"3,keyasint,omitempty" json:"exec,omitempty"`
	Data []byte `cbor:"4,keyasint,omitempty" json:"data,omitempty" max:"16384"` // the content itself when small
}

// Stream is what a task wrote to stdout or stderr.
type Stream struct {
	Blob Ref    `cbor:"1,keyasint" json:"blob"`
	Data []byte `cbor:"2,keyasint,omitempty" json:"data,omitempty" max:"16384"` // the content itself when small
}

// TaskResult is how one task's attempt ended.
type TaskResult struct {
	Index   uint32   `cbor:"1,keyasint" json:"index"`
	Attempt uint32   `cbor:"2,keyasint" json:"attempt"`
	Exit    Exit     `cbor:"3,keyasint" json:"exit" max:"16"`
	Code    int32    `cbor:"4,keyasint" json:"code"` // exit code or signal number
	Detail  string   `cbor:"5,keyasint,omitempty" json:"detail,omitempty" max:"1024"`
	Usage   Usage    `cbor:"6,keyasint" json:"usage"`
	Stdout  Stream   `cbor:"7,keyasint" json:"stdout"`
	Stderr  Stream   `cbor:"8,keyasint" json:"stderr"`
	Outputs []Output `cbor:"9,keyasint,omitempty" json:"outputs,omitempty" max:"4096"`
	Wall    string   `cbor:"10,keyasint" json:"wall" max:"64"` // the isolation it ran in
	Started int64    `cbor:"11,keyasint" json:"started_ms"`

	Sealed []byte `cbor:"20,keyasint,omitempty" json:"sealed,omitempty" max:"4194304"` // of sealed work: detail, streams and outputs, for its owner; Stdout, Stderr and Outputs then name sealed content alone
}

// OK reports whether the program ended by itself with exit code 0.
func (r *TaskResult) OK() bool { return r.Exit == Exited && r.Code == 0 }

// ExitCode maps the result to the exit code that `perrin run` returns: the
// program's own, 128 plus the signal, 124 for a timeout (as timeout(1)), 137
// for out of memory, 143 for stopped and 125 for anything that is ours.
func (r *TaskResult) ExitCode() int {
	switch r.Exit {
	case Exited:
		return int(r.Code)
	case Signaled:
		return 128 + int(r.Code)
	case TimedOut:
		return 124
	case OutOfMemory:
		return 137
	case StoppedExit:
		return 143
	}
	return 125
}

// Segment is the results of some tasks of one slot. It is stored as a blob on
// a majority of the voters before its close counts.
type Segment struct {
	Workload ID           `cbor:"1,keyasint" json:"workload"`
	Slot     SlotID       `cbor:"2,keyasint" json:"slot"`
	Node     PeerID       `cbor:"3,keyasint" json:"node"`
	Results  []TaskResult `cbor:"4,keyasint" json:"results" max:"4096"`
}

// Blobs lists the blobs that the results refer to, those that ride along not.
func (s *Segment) Blobs() []Ref {
	var refs []Ref
	add := func(r Ref) {
		if !r.IsZero() {
			refs = append(refs, r)
		}
	}
	for i := range s.Results {
		r := &s.Results[i]
		add(r.Stdout.Blob)
		add(r.Stderr.Blob)
		for _, o := range r.Outputs {
			add(o.Blob)
		}
	}
	return refs
}
