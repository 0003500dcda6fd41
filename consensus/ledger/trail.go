package ledger

import (
	"slices"

	"github.com/perrin-mesh/perrin/workload"
)

// StepKind is what happened to a workload.
type StepKind string

// The steps of a trail.
const (
	StepAccepted StepKind = "accepted"  // Node is where it was submitted, Count its tasks
	StepReady    StepKind = "ready"     // all that it waited for has succeeded
	StepAwarded  StepKind = "awarded"   // Slot is the first of Count new ones of Auction
	StepUnplaced StepKind = "unplaced"  // Auction gave no slot
	StepRefused  StepKind = "refused"   // Node did not take the slot, for Reasons
	StepExpired  StepKind = "expired"   // Node was given up with Count tasks of the slot
	StepReturned StepKind = "returned"  // Node gave Count tasks back
	StepLost     StepKind = "lost"      // Node does not run the slot any more, which had Count tasks
	StepMadeWay  StepKind = "preempted" // Node took the idle time back that Count tasks ran on
	StepRetried  StepKind = "retried"   // Count attempts failed and are tried again; Exit and Code are the first one's
	StepFailed   StepKind = "failed"    // Count tasks failed for good; Exit and Code are the first one's
	StepDiffers  StepKind = "differs"   // what Node returned is not what others agree on
	StepPicked   StepKind = "picked"    // what Node returned alone is checked by others, for Note
	StepStopped  StepKind = "stopped"   // by Node
	StepEnded    StepKind = "ended"     // Note says how
)

// Step is one entry of a workload's trail, which keeps the last 64. Ranges are
// the first eight at most; Count counts the tasks of all.
type Step struct {
	At      int64              `cbor:"1,keyasint" json:"at_ms"`
	Index   uint64             `cbor:"2,keyasint" json:"index"` // of the log's entry
	Kind    StepKind           `cbor:"3,keyasint" json:"kind" max:"16"`
	Slot    workload.SlotID    `cbor:"4,keyasint,omitempty" json:"slot,omitempty"`
	Node    workload.PeerID    `cbor:"5,keyasint" json:"node"`
	Auction workload.AuctionID `cbor:"6,keyasint" json:"-"`
	Count   uint32             `cbor:"7,keyasint,omitempty" json:"count,omitempty"`
	Ranges  []workload.Range   `cbor:"8,keyasint,omitempty" json:"ranges,omitempty" max:"8"`
	Exit    workload.Exit      `cbor:"9,keyasint,omitempty" json:"exit,omitempty" max:"16"`
	Code    int32              `cbor:"10,keyasint,omitempty" json:"code,omitempty"`
	Reasons []workload.Reason  `cbor:"11,keyasint,omitempty" json:"reasons,omitempty" max:"4"`
	Note    string             `cbor:"12,keyasint,omitempty" json:"note,omitempty" max:"512"`
}

// Auction is one auction of a workload with all that its clearing looked at.
// The last 256 of a workload that gave slots are kept, and the last four others.
type Auction struct {
	ID       workload.AuctionID `cbor:"1,keyasint"`
	At       int64              `cbor:"2,keyasint"`
	Index    uint64             `cbor:"3,keyasint"`
	Wanted   uint32             `cbor:"4,keyasint"`
	MaxPrice int64              `cbor:"5,keyasint"`
	Bids     []workload.Signed  `cbor:"6,keyasint,omitempty" max:"128"`
	Scores   []Score            `cbor:"7,keyasint,omitempty" max:"128"`
	Slots    []AwardSlot        `cbor:"8,keyasint,omitempty" max:"4096"`
	Declines []DeclineNote      `cbor:"9,keyasint,omitempty" max:"256"`
	Granted  uint32             `cbor:"10,keyasint"` // of Slots, the first ones
	First    workload.SlotID    `cbor:"11,keyasint"` // the number of the first one

	Proofs        []workload.Signed `cbor:"60,keyasint,omitempty" max:"128"`
	Countersigned []workload.Signed `cbor:"61,keyasint,omitempty" max:"16"`

	// Skipped are those of Granted that were not made after all: the workload is
	// verified, and their nodes may run none of what was open.
	Skipped []uint32 `cbor:"40,keyasint,omitempty" max:"4096"`
}

const (
	stepRanges  = 8
	stepReasons = 4
)

// commonSteps is room for what most workloads do: accepted, awarded, ended.
const commonSteps = 3

// note adds a step to the trail. The oldest one falls out of a full trail.
func (l *load) note(step Step) {
	l.parts += step.weight()
	if len(l.Steps) == keptSteps {
		l.parts -= l.Steps[0].weight()
		l.Steps = slices.Delete(l.Steps, 0, 1)
	}
	if l.Steps == nil {
		l.Steps = make([]Step, 0, commonSteps)
	}
	l.Steps = append(l.Steps, step)
}

func clipRanges(r []workload.Range) []workload.Range {
	return slices.Clone(r[:min(len(r), stepRanges)])
}

func clipReasons(r []workload.Reason) []workload.Reason {
	return slices.Clone(r[:min(len(r), stepReasons)])
}

// recordAuction keeps an award that applied, of which granted slots were given.
func (l *load) recordAuction(e *entry, c *Award, granted uint32, skipped []uint32) {
	if len(l.Used) == keptUsed {
		l.Used = slices.Delete(l.Used, 0, 1)
	}
	l.Used = append(l.Used, c.Auction)
	a := Auction{
		ID: c.Auction, At: e.at, Index: e.index, Wanted: c.Wanted, MaxPrice: c.MaxPrice,
		Bids: c.Bids, Scores: c.Scores, Slots: c.Slots, Declines: c.Declines, Granted: granted,
		Proofs: c.Proofs, Countersigned: c.Countersigned, Skipped: skipped,
	}
	step := Step{At: e.at, Index: e.index, Kind: StepUnplaced, Auction: c.Auction}
	if granted > 0 {
		a.First = l.LastSlot + 1
		step.Kind, step.Slot, step.Count = StepAwarded, a.First, granted-uint32(len(skipped))
	}
	l.Auctions = append(l.Auctions, a)
	l.parts += a.weight()
	l.dropAuctions()
	l.note(step)
}

// dropAuctions lets go of the oldest auctions over the bounds, but not the last.
func (l *load) dropAuctions() {
	none, gave, weight := 0, 0, int64(0)
	last := len(l.Auctions) - 1
	for i := last; i >= 0; i-- {
		a := &l.Auctions[i]
		over := false
		if a.Granted == 0 {
			none++
			over = none > keptAuctions
		} else {
			gave++
			weight += a.weight()
			over = gave > keptAwards || weight > keptAwarded
		}
		if !over || i == last {
			continue
		}
		if a.Granted > 0 {
			l.Dropped++
		}
		l.parts -= a.weight()
		l.Auctions = slices.Delete(l.Auctions, i, i+1)
	}
}

// noteClose adds what went wrong in a Close; success leaves no step.
func (l *load) noteClose(e *entry, sl *slot, c *Close, x *closing) {
	step := Step{At: e.at, Index: e.index, Slot: sl.ID, Node: sl.Node}
	if len(x.again) > 0 {
		step.Kind, step.Count, step.Ranges = StepRetried, uint32(len(x.again)), clipRanges(x.retried)
		first := failedTask(c.Failed, x.again[0].From)
		step.Exit, step.Code = first.Exit, first.Code
		l.note(step)
	}
	if len(x.failed) > 0 {
		var ranges []workload.Range
		for _, f := range x.failed {
			ranges = appendTask(ranges, f.Index, f.Attempt)
		}
		step.Kind, step.Count, step.Ranges = StepFailed, uint32(len(x.failed)), clipRanges(ranges)
		step.Exit, step.Code = x.failed[0].Exit, x.failed[0].Code
		l.note(step)
	}
}

func failedTask(list []FailedTask, index uint32) FailedTask {
	for _, f := range list {
		if f.Index == index {
			return f
		}
	}
	return FailedTask{}
}

// TaskState is where a task stands.
type TaskState string

// The states of a task.
const (
	TaskOpen   TaskState = "open"   // no slot has it, and it has not been tried
	TaskRetry  TaskState = "retry"  // no slot has it, to be tried again
	TaskTaken  TaskState = "taken"  // a slot has it
	TaskDone   TaskState = "done"   // its program exited with 0
	TaskFailed TaskState = "failed" // not to be tried again
)

// Task is where one task of a workload stands.
type Task struct {
	Index   uint32          `json:"index"`
	State   TaskState       `json:"state"`
	Attempt uint32          `json:"attempt,omitempty"` // the one to come, running, or that closed it
	Fails   uint32          `json:"fails,omitempty"`   // while it is not closed
	Faults  uint32          `json:"faults,omitempty"`  // while it is not closed
	Slot    workload.SlotID `json:"slot,omitempty"`    // that has it or closed it
	Node    workload.PeerID `json:"node"`
	Rate    int64           `json:"rate,omitempty"`
	Segment *Segment        `json:"segment,omitempty"` // where its result lies, once closed
	Votes   []TaskVote      `json:"votes,omitempty"`   // of a workload that is verified, in the order in which they came
}

// Task returns where a task stands; false when there is no such task.
func (s *State) Task(id workload.ID, index uint32) (Task, bool) {
	l := s.loads[id]
	if l == nil || index >= l.total() {
		return Task{}, false
	}
	t := l.tasks(index, index+1)[0]
	if t.Segment != nil {
		seg := *t.Segment
		t.Segment = &seg
	}
	return t, true
}

// Tasks returns where up to count tasks from one on stand, by index, without the
// segments of their results. It goes through the workload's slots and segments
// once for all of them.
func (s *State) Tasks(id workload.ID, from, count uint32) []Task {
	l := s.loads[id]
	if l == nil || from >= l.total() {
		return nil
	}
	out := l.tasks(from, from+min(count, l.total()-from))
	for i := range out {
		out[i].Segment = nil
	}
	return out
}

// tasks returns where the tasks of [from, end) stand. Their segments are the
// state's own.
func (l *load) tasks(from, end uint32) []Task {
	p := page{from: from, tasks: make([]Task, end-from)}
	l.closed(&p)
	if l.verified() {
		l.replicated(&p)
		return p.tasks
	}
	p.open(&l.fresh, Task{State: TaskOpen})
	p.open(&l.retry, Task{State: TaskRetry})
	for _, sl := range l.sortedSlots() {
		p.open(&sl.open, Task{State: TaskTaken, Slot: sl.ID, Node: sl.Node, Rate: sl.Rate})
	}
	return p.tasks
}

// closed fills the page with what is known of tasks that are closed, as though all
// its tasks were.
func (l *load) closed(p *page) {
	for i := range p.tasks {
		p.tasks[i] = Task{Index: p.from + uint32(i), State: TaskDone}
	}
	for _, r := range l.failed.from(p.from) {
		p.each(r.From, r.end(), func(t *Task) { t.State = TaskFailed })
	}
	for i := range l.Segments {
		seg := &l.Segments[i]
		result := func(t *Task, attempt uint32) {
			t.Attempt, t.Slot, t.Node, t.Rate, t.Segment = attempt, seg.Slot, seg.Node, seg.Rate, seg
		}
		for _, r := range seg.Done {
			p.each(r.From, r.End(), func(t *Task) { result(t, r.Attempt) })
		}
		for _, f := range seg.Failed {
			p.each(f.Index, f.Index+1, func(t *Task) { result(t, f.Attempt) })
		}
	}
}

// page is a stretch of a workload's tasks.
type page struct {
	from  uint32
	tasks []Task
}

// each calls f with those of its tasks that are in [from, end).
func (p *page) each(from, end uint32, f func(*Task)) {
	end = min(end, p.from+uint32(len(p.tasks)))
	for i := max(from, p.from); i < end; i++ {
		f(&p.tasks[i-p.from])
	}
}

// open says of those of its tasks that are in a set of open ones that they stand
// as the given one does.
func (p *page) open(set *runSet, as Task) {
	for _, r := range set.from(p.from) {
		if r.From >= p.from+uint32(len(p.tasks)) {
			return
		}
		as.Attempt, as.Fails, as.Faults = r.Attempt, r.Fails, r.Faults
		p.each(r.From, r.end(), func(t *Task) {
			as.Index = t.Index
			*t = as
		})
	}
}
