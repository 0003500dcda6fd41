package model

import "github.com/perrin-mesh/perrin/workload"

// Op is what somebody outside of the ledgers did or was told, for a history that a
// checker reads. Of one replication no two have the same Event and Kind and task.
type Op struct {
	Kind     OpKind
	Event    uint64 // during which it happened
	At       int64  // ns
	Workload int32
	Task     uint32          // of Runs and Ends
	Slot     workload.SlotID // of Runs and Ends: of the workload, the one that runs it
}

// OpKind is what happened.
type OpKind string

// What a history has.
const (
	Submits OpKind = "submit" // a workload is sent to its cell
	Acked   OpKind = "acked"  // its submitter was given the ID
	Runs    OpKind = "run"    // a task begins on a node
	Ends    OpKind = "end"    // it ends there, however
)

// Observe has every Op told as it happens; the Op is used again. It is for before
// the first Step, and changes no event.
func (w *World) Observe(tell func(*Op)) { w.observer = tell }

func (w *World) observe(kind OpKind, load int32, s *slot) {
	if w.observer == nil {
		return
	}
	w.op = Op{Kind: kind, Event: w.events, At: w.now, Workload: load}
	if s != nil {
		w.op.Task, w.op.Slot = s.task, s.id
	}
	w.observer(&w.op)
}
