package ledger

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/perrin-mesh/perrin/workload"
)

// Record is all that the ledger holds of one workload, as it stands in a
// snapshot. Every task is in exactly one of Fresh, Retry, one slot's Open,
// Done and Failed.
type Record struct {
	Seq        uint64               `cbor:"1,keyasint"` // order of acceptance, never reused
	EndSeq     uint64               `cbor:"2,keyasint"` // order of ending
	ID         workload.ID          `cbor:"3,keyasint"`
	Signed     workload.Signed      `cbor:"4,keyasint"`
	Spec       *workload.Spec       `cbor:"-"` // of Signed; never changed
	Held       bool                 `cbor:"6,keyasint"`
	Home       workload.PeerID      `cbor:"7,keyasint"`
	Generation uint64               `cbor:"8,keyasint"`
	Phase      workload.Phase       `cbor:"9,keyasint" max:"16"`
	Reason     string               `cbor:"10,keyasint" max:"256"` // why it ended as it did
	Accepted   int64                `cbor:"11,keyasint"`
	Started    int64                `cbor:"12,keyasint"` // of the first slot; 0 before
	Ended      int64                `cbor:"13,keyasint"`
	Fresh      []Run                `cbor:"14,keyasint,omitempty" max:"1000000"`
	Retry      []Run                `cbor:"15,keyasint,omitempty" max:"1000000"`
	Done       []Run                `cbor:"16,keyasint,omitempty" max:"1000000"`
	Failed     []Run                `cbor:"17,keyasint,omitempty" max:"1000000"`
	Slots      []Slot               `cbor:"18,keyasint,omitempty" max:"1000000"` // live ones, by number
	LastSlot   workload.SlotID      `cbor:"19,keyasint"`
	Segments   []Segment            `cbor:"20,keyasint,omitempty" max:"1048576"`
	Steps      []Step               `cbor:"21,keyasint,omitempty" max:"64"`
	Auctions   []Auction            `cbor:"22,keyasint,omitempty" max:"260"`
	Used       []workload.AuctionID `cbor:"23,keyasint,omitempty" max:"16"`
	Tallies    []Tally              `cbor:"24,keyasint,omitempty" max:"1024"`
	Cost       int64                `cbor:"25,keyasint"`
	Retries    uint64               `cbor:"26,keyasint"`           // attempts that failed and were tried again
	LostTasks  uint64               `cbor:"27,keyasint"`           // attempts that went down with their node
	KeptRetry  uint32               `cbor:"28,keyasint"`           // ranges in the segments' Retried
	Dropped    uint32               `cbor:"29,keyasint,omitempty"` // auctions that gave slots and are not kept
	Token      *LoadToken           `cbor:"30,keyasint,omitempty"`
	Mixed      bool                 `cbor:"40,keyasint,omitempty"` // verified, and a node of another operator than all members' has bid
}

// Slot is one live slot of a workload.
type Slot struct {
	ID      workload.SlotID    `cbor:"1,keyasint" json:"slot"`
	Node    workload.PeerID    `cbor:"2,keyasint" json:"node"`
	Rate    int64              `cbor:"3,keyasint" json:"rate"`
	Ask     int64              `cbor:"4,keyasint" json:"ask"`
	Fence   workload.Fence     `cbor:"5,keyasint" json:"fence"`
	Auction workload.AuctionID `cbor:"6,keyasint" json:"-"`
	Awarded int64              `cbor:"7,keyasint" json:"awarded_ms"`
	Open    []Run              `cbor:"8,keyasint,omitempty" json:"open" max:"8192"`
	Closed  uint32             `cbor:"9,keyasint" json:"closed"` // attempts closed
	Spent   bool               `cbor:"10,keyasint,omitempty" json:"spent,omitempty"`
	Tally   uint32             `cbor:"11,keyasint" json:"-"`                    // of Record.Tallies
	Takes   uint32             `cbor:"12,keyasint,omitempty" json:"-"`          // the last Take's number
	Took    []workload.Range   `cbor:"13,keyasint,omitempty" json:"-" max:"64"` // what it gave; never changed
	Paid    int64              `cbor:"14,keyasint,omitempty" json:"paid_ms"`    // of its time
	Since   int64              `cbor:"15,keyasint" json:"since_ms"`             // it holds tasks, or of the last close if that is later
	HeldMs  int64              `cbor:"16,keyasint,omitempty" json:"-"`          // ms for which it held those that it returned since, all of them
}

// Segment is where the results of one Close lie.
type Segment struct {
	Ref     workload.Ref     `cbor:"1,keyasint" json:"ref"`
	Slot    workload.SlotID  `cbor:"2,keyasint" json:"slot"`
	Node    workload.PeerID  `cbor:"3,keyasint" json:"node"`
	At      int64            `cbor:"4,keyasint" json:"at_ms"`
	Rate    int64            `cbor:"5,keyasint" json:"rate"`
	Cost    int64            `cbor:"6,keyasint" json:"cost"`
	Usage   workload.Usage   `cbor:"7,keyasint" json:"usage"`
	Done    []workload.Range `cbor:"8,keyasint,omitempty" json:"done" max:"4096"`
	Failed  []FailedTask     `cbor:"9,keyasint,omitempty" json:"failed,omitempty" max:"4096"`   // not to be tried again
	Retried []workload.Range `cbor:"10,keyasint,omitempty" json:"retried,omitempty" max:"4096"` // the attempts that were
	Held    bool             `cbor:"11,keyasint" json:"held"`
	Sig     workload.Signed  `cbor:"12,keyasint" json:"-"`                        // without the payload when that is longer than 1 KiB
	Paid    int64            `cbor:"13,keyasint" json:"paid_ms"`                  // what Cost is for
	Vote    *Vote            `cbor:"40,keyasint,omitempty" json:"vote,omitempty"` // of a workload that is verified: its one result
}

// Tally is what one node did for a workload. Beyond 1,024 nodes the rest share
// the last tally, under nobody's name.
type Tally struct {
	Node   workload.PeerID `cbor:"1,keyasint" json:"node"`
	Slots  uint32          `cbor:"2,keyasint" json:"slots"`  // ever awarded
	Done   uint32          `cbor:"3,keyasint" json:"done"`   // tasks
	Failed uint32          `cbor:"4,keyasint" json:"failed"` // attempts, node faults included
	Faults uint32          `cbor:"5,keyasint" json:"faults"` // attempts that the node failed
	Lost   uint32          `cbor:"6,keyasint" json:"lost"`   // attempts that went down with it
	WallMs int64           `cbor:"7,keyasint" json:"wall_ms"`
	Cost   int64           `cbor:"8,keyasint" json:"cost"`
	Low    int64           `cbor:"9,keyasint" json:"low_rate"`
	High   int64           `cbor:"10,keyasint" json:"high_rate"`

	Differs uint32 `cbor:"40,keyasint,omitempty" json:"differs,omitempty"` // results that were not the accepted ones
}

// load is a workload in memory: its record, of which the sets and slots live
// in the fields below.
type load struct {
	Record
	fresh, retry, done, failed runSet
	slots                      map[workload.SlotID]*slot

	// Derived.
	polls  map[uint32]*poll // of tasks that are not decided, of a workload that is verified
	opened uint64           // replicas, when more could be run than before
	vain   vain
	idle   uint32 // live slots that hold nothing
	left   int    // workloads it still waits for
	pins   int    // workloads not ended that name it in After
	listed bool   // in State.lots
	parts  int64  // what its trail and segments weigh
	weight int64  // of State.bytes
}

type slot struct {
	Slot
	open runSet
	idle bool
}

func (l *load) total() uint32 { return l.Spec.Tasks.Count }

func (l *load) open() uint32 { return l.fresh.n + l.retry.n }

func (l *load) taken() uint32 { return l.total() - l.open() - l.done.n - l.failed.n }

func (l *load) owner() workload.PeerID { return l.Signed.By }

// wanted returns how many more slots the workload could use: as many as
// max-parallel leaves, and one an open task that no idle slot is about to take.
func (l *load) wanted() uint32 {
	if l.Phase != workload.Pending && l.Phase != workload.Running {
		return 0
	}
	live := uint32(len(l.slots))
	if l.open() <= l.idle || l.Spec.Slots() <= live {
		return 0
	}
	return min(l.open()-l.idle, l.Spec.Slots()-live)
}

// after returns the workloads that l names, each once.
func (l *load) after() []workload.ID {
	var ids []workload.ID
	for _, a := range l.Spec.After {
		if !slices.Contains(ids, a.Workload) {
			ids = append(ids, a.Workload)
		}
	}
	return ids
}

// sortedSlots returns the live slots by number.
func (l *load) sortedSlots() []*slot {
	out := make([]*slot, 0, len(l.slots))
	for _, sl := range l.slots {
		out = append(out, sl)
	}
	slices.SortFunc(out, func(a, b *slot) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// reopen puts runs where tasks wait for a slot.
func (l *load) reopen(runs []Run) {
	for _, r := range runs {
		if r.Attempt == 1 {
			l.fresh.add(r)
		} else {
			l.retry.add(r)
		}
	}
}

// popOpen takes the next tasks: those to be tried again first.
func (l *load) popOpen(count uint32, most int) []Run {
	runs := l.retry.pop(count, most)
	for _, r := range runs {
		count -= r.Count
	}
	return append(runs, l.fresh.pop(count, most-len(runs))...)
}

// hold gives a slot runs.
func (sl *slot) hold(runs []Run) {
	for _, r := range runs {
		sl.open.add(r)
	}
}

// setPhase moves l to a phase and keeps the count of workloads by phase.
func (s *State) setPhase(l *load, p workload.Phase) {
	if l.Phase == p {
		return
	}
	if l.Phase != "" {
		s.phases[l.Phase]--
	}
	l.Phase = p
	s.phases[p]++
}

// settle brings what is derived from l's tasks and slots up to date: its phase,
// its end when every task is closed, and its place among the lots.
func (s *State) settle(e *entry, l *load) {
	if l.Phase == workload.Pending || l.Phase == workload.Running {
		switch {
		case l.done.n == l.total():
			s.end(e, l, workload.Succeeded, "")
		case l.done.n+l.failed.n == l.total():
			s.end(e, l, workload.Failed, l.whyFailed())
		case len(l.slots) > 0:
			s.setPhase(l, workload.Running)
		default:
			s.setPhase(l, workload.Pending)
		}
	}
	s.relist(l)
}

// relist puts l among the lots or takes it out, and weighs it.
func (s *State) relist(l *load) {
	s.weigh(l)
	wants := l.wanted() > 0
	if wants == l.listed {
		return
	}
	l.listed = wants
	if wants {
		s.lots.add(l.Seq, l)
	} else {
		s.lots.remove(l.Seq)
	}
}

// end moves l, and every workload that waited for it in vain, to a final phase.
func (s *State) end(e *entry, l *load, phase workload.Phase, reason string) {
	s.endOne(e, l, phase, reason)
	for i := len(e.res.Ends) - 1; i < len(e.res.Ends); i++ {
		done := s.loads[e.res.Ends[i]]
		waiting := s.waiters[done.ID]
		delete(s.waiters, done.ID)
		for _, w := range waiting {
			s.resume(e, w, done)
		}
	}
}

// resume tells w, which waits for done, that done has ended.
func (s *State) resume(e *entry, w, done *load) {
	switch {
	case w.Phase != workload.Waiting:
	case done.Phase != workload.Succeeded:
		s.endOne(e, w, workload.Failed, fmt.Sprintf("it waited for %s, which ended as %s", done.ID, done.Phase))
	case len(done.Segments) > MaxPassed:
		s.endOne(e, w, workload.Failed, passed(done))
	default:
		if w.left--; w.left > 0 {
			return
		}
		s.setPhase(w, workload.Pending)
		w.note(Step{At: e.at, Index: e.index, Kind: StepReady})
		e.res.Ready = append(e.res.Ready, w.ID)
		s.relist(w)
	}
}

// passed says why the results of a workload cannot be given to another.
func passed(l *load) string {
	return fmt.Sprintf("it comes after %s, whose results lie in %d segments, and at most %d can be passed on", l.ID, len(l.Segments), MaxPassed)
}

// endOne ends l alone. Slots that hold nothing are freed at once; the others
// may still close or release.
func (s *State) endOne(e *entry, l *load, phase workload.Phase, reason string) {
	s.setPhase(l, phase)
	l.Reason, l.Ended, l.EndSeq = reason, e.at, s.nextEnd
	s.nextEnd++
	s.live--
	s.claim(l, -1)
	s.ended.add(l.EndSeq, l)
	s.settleVotes(e, l)
	s.remember(e, l)
	s.unwait(l)
	for _, sl := range l.sortedSlots() {
		if sl.open.n == 0 {
			s.free(e, l, sl)
		}
	}
	l.note(Step{At: e.at, Index: e.index, Kind: StepEnded, Note: endNote(phase, reason)})
	s.relist(l)
	e.res.Ends = append(e.res.Ends, l.ID)
}

func endNote(phase workload.Phase, reason string) string {
	if reason == "" {
		return string(phase)
	}
	return string(phase) + ": " + reason
}

// free ends a slot whose tasks have been taken from it.
func (s *State) free(e *entry, l *load, sl *slot) {
	if sl.idle {
		l.idle--
	}
	delete(l.slots, sl.ID)
	delete(s.nodes[sl.Node].slots, slotKey{l.Seq, sl.ID})
	s.slots--
	e.res.Freed = append(e.res.Freed, SlotRef{Workload: l.ID, Slot: sl.ID, Node: sl.Node})
}

// mark keeps the count of slots that hold nothing. A spent slot is not one: it
// takes nothing any more.
func (l *load) mark(sl *slot) {
	idle := sl.open.n == 0 && !sl.Spent
	if idle == sl.idle {
		return
	}
	sl.idle = idle
	if idle {
		l.idle++
	} else {
		l.idle--
	}
}
