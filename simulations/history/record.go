package history

import (
	"math"
	"slices"
	"sync"
	"time"

	"github.com/perrin-mesh/perrin/workload"
)

// Kind is what a client asked for.
type Kind string

// The operations of the ledger's interface. A wait and a listing are reads.
const (
	Submit Kind = "submit"
	Stop   Kind = "stop"
	Read   Kind = "read"
)

// Answer is what a client was told about one workload.
type Answer struct {
	// Unknown is no answer, or one that leaves it open: the operation may have
	// happened, may not have, and may yet happen.
	Unknown bool
	Absent  bool           // no such workload
	Refused bool           // a stop of a workload that had ended, as Phase
	Phase   workload.Phase // as a read saw it
	Closed  uint32         // tasks that had ended then
	Version uint64
}

// Op is one operation of one client on the workload that the client named Key.
type Op struct {
	Client int
	Kind   Kind
	Key    string
	Answer Answer
	Call   int64 // ns of the recorder's monotonic clock
	Return int64 // never for Unknown
}

// never is the return of an operation that stays open to the end.
const never = int64(math.MaxInt64)

// Recorder gathers the operations of many clients. It is safe for concurrent use.
type Recorder struct {
	start time.Time

	mu  sync.Mutex
	ops []*Op
}

// NewRecorder returns a recorder whose clock is at 0.
func NewRecorder() *Recorder { return &Recorder{start: time.Now()} }

// Begin notes a call. The operation stays open until the function that it
// returns is called with an answer that is not Unknown.
func (r *Recorder) Begin(client int, kind Kind, key string) (end func(Answer)) {
	op := &Op{Client: client, Kind: kind, Key: key, Answer: Answer{Unknown: true}, Return: never}
	r.mu.Lock()
	defer r.mu.Unlock()
	op.Call = time.Since(r.start).Nanoseconds()
	r.ops = append(r.ops, op)
	return func(a Answer) {
		if a.Unknown {
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		op.Answer, op.Return = a, time.Since(r.start).Nanoseconds()
	}
}

// drop takes back an operation that certainly had no effect and told nothing.
func (r *Recorder) drop(kind Kind, key string, client int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, op := range slices.Backward(r.ops) {
		if op.Kind == kind && op.Key == key && op.Client == client && op.Answer.Unknown {
			r.ops = slices.Delete(r.ops, i, i+1)
			return
		}
	}
}

// Tally counts the operations of one kind: how many there were, and how many of
// them were answered.
func Tally(ops []Op, kind Kind) (all, answered int) {
	for _, op := range ops {
		if op.Kind == kind {
			all++
			if !op.Answer.Unknown {
				answered++
			}
		}
	}
	return all, answered
}

// Ops returns the operations so far, in order of their calls.
func (r *Recorder) Ops() []Op {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Op, len(r.ops))
	for i, op := range r.ops {
		out[i] = *op
	}
	return out
}
