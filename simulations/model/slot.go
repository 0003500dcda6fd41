package model

import (
	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/scheduler/capacity"
	"github.com/perrin-mesh/perrin/workload"
)

// What a slot does between tasks, as in node/worker.
const (
	quickTask      = 250_000            // us: shorter ones are asked for ahead
	segmentResults = 256                // results of one report
	segmentWait    = 100 * millisecond  // and how long the first waits
	patience       = 2000 * millisecond // for an answer of the leader, where peers come and go
	maxService     = int64(1) << 53     // ns of a task that shares its core, 104 days
)

// slot runs tasks of one workload on a peer, one after another.
type slot struct {
	live    bool
	gen     int32 // counts the uses of this place
	load    int32
	cell    int32
	id      workload.SlotID
	fence   workload.Fence
	queue   []workload.Range
	task    uint32
	running bool
	started int64 // ns, of the task that runs
	late    bool  // its timeout ends it, not its program
	last    bool
	asking  bool   // a TAKE is on its way
	ending  bool   // nothing is left to run
	freed   bool   // its capacity is
	done    bool   // DONE was said
	took    int64  // us a task, a moving average
	takes   uint32 // TAKEs so far

	batch []workload.Range    // results to report: tasks that succeeded,
	lost  []ledger.FailedTask // and tasks that did not end within the timeout
	wall  int64               // ns, of both
	count int
	since int64
	sent  []*report // not answered yet, in order
	seq   uint32    // reports so far
	freeq uint64    // offer sequence when its capacity was freed
	owner int32
	cpus  []int

	class   workload.Class
	verdict capacity.Verdict // of a spare slot
	leaving bool             // a spare slot that has notice
	goes    int64            // ns, when its notice or its patience is over; 0 is neither
	rate    int64            // permille at which its task runs, where tasks share; 0 is not at all
	left    int64            // ns of its task at a rate of 1000, as of since1
	since1  int64            // ns
	ran     int64            // ns that its task had CPUs
	ends    int64            // ns, when its task ends at this rate
	lacks   int32            // blobs that are on their way
	asked   int64            // ns, when it asked for them
}

// slotRef names a slot to its leader.
type slotRef struct {
	id        workload.SlotID
	fence     workload.Fence
	preempted bool // DONE gives tasks back since idle time is over
}

func (s *slot) ref() slotRef { return slotRef{s.id, s.fence, s.leaving || s.verdict == capacity.Waits} }

// report is a CLOSE.
type report struct {
	seq    uint32
	fence  workload.Fence
	slot   workload.SlotID
	done   []workload.Range
	failed []ledger.FailedTask
	wall   int64 // ms
	freed  uint64
	vote   workload.Digest // of a workload that is verified
}

// newSlot returns a free place.
func (w *World) newSlot() int32 {
	if n := len(w.freeSlots); n > 0 {
		i := w.freeSlots[n-1]
		w.freeSlots = w.freeSlots[:n-1]
		return i
	}
	w.slots = append(w.slots, slot{})
	return int32(len(w.slots) - 1)
}

func (w *World) startSlot(on int32, m *message, a *award, g *ledger.SlotGrant) {
	p := &w.peers[on]
	i := w.newSlot()
	s := &w.slots[i]
	l := &w.loads[m.load]
	*s = slot{
		live: true, gen: s.gen + 1, load: m.load, cell: m.cell, id: g.Slot, fence: g.Fence, queue: g.Ranges, last: a.last || w.traits.OneTask,
		owner: l.owner, cpus: p.alloc.CPUs(capacity.SlotKey{Workload: l.id, Slot: g.Slot}), class: w.specs[l.stream].Resources.Class,
	}
	p.slots = append(p.slots, i)
	if s.class != workload.Spare {
		w.use(int64(len(s.cpus)))
		w.watts(p, 0, int64(len(s.cpus)))
		w.occupy(p, s)
	}
	w.tend(on)
	if w.store == nil || !w.bring(on, i) {
		w.starts(on, i)
	}
}

// starts has a slot begin that has all it needs.
func (w *World) starts(on, i int32) {
	p, s := &w.peers[on], &w.slots[i]
	start := w.sc.StartOf(&w.sc.Workloads[w.loads[s.load].stream]).Draw(&p.work)
	w.push(w.now+slowed(start, p.slow), event{kind: begin, a: on, b: i, c: s.gen})
}

// slotEvent is something that a slot waited for. One that has ended is not there
// any more: its place has another generation.
func (w *World) slotEvent(e *event) {
	s := &w.slots[e.b]
	if !s.live || s.gen != e.c {
		return
	}
	switch e.kind {
	case begin:
		if !w.misbehaves(e.a, e.b) {
			w.next(e.a, e.b)
		}
	case taskEnd:
		if !w.shares || s.running && s.ends == w.now {
			w.taskEnds(e.a, e.b)
		} else if s.running && s.started+w.timeout(s) == w.now {
			s.late = true
			w.taskEnds(e.a, e.b)
		}
	case retry:
		w.again(e.a, e.b)
	}
}

// next starts the next task, asks for more, or ends the slot.
func (w *World) next(on, i int32) {
	s := &w.slots[i]
	if left := count(s.queue); !s.last && (left == 0 || left == 1 && s.took > 0 && s.took <= quickTask) {
		w.askMore(on, i)
	}
	switch {
	case len(s.queue) > 0:
		w.run(on, i)
	case s.asking:
		w.flush(on, i) // what is done must not wait for what is to come
	default:
		w.finishSlot(on, i)
	}
}

func count(ranges []workload.Range) (n uint32) {
	for _, r := range ranges {
		n += r.Count
	}
	return n
}

func (w *World) run(on, i int32) {
	s, p := &w.slots[i], &w.peers[on]
	r := &s.queue[0]
	s.task = r.From
	attempt := r.Attempt
	r.From, r.Count = r.From+1, r.Count-1
	if r.Count == 0 {
		s.queue = s.queue[1:]
	}
	s.running, s.started, s.late = true, w.now, false
	w.began(s)
	s.batch = append(s.batch, workload.Range{From: s.task, Count: 1, Attempt: attempt})
	takes := slowed(w.service(s.load, s.task)*1000/p.speed, p.slow)
	if w.shares {
		s.left, s.since1, s.rate, s.ran = min(takes, maxService), w.now, 0, 0
		if at := w.now + w.timeout(s); at <= w.sc.Duration {
			w.push(at, event{kind: taskEnd, a: on, b: i, c: s.gen})
		}
		w.rerate(on)
		return
	}
	if limit := w.timeout(s); takes > limit {
		takes, s.late = limit, true
	}
	w.push(w.now+takes, event{kind: taskEnd, a: on, b: i, c: s.gen})
}

// timeout is how long an attempt of a slot may take, in ns: as in the product the
// time that passes, whatever else its node does meanwhile.
func (w *World) timeout(s *slot) int64 { return w.sc.Workloads[w.loads[s.load].stream].Timeout }

// service is how long a task takes on a reference core: the same whoever runs it.
func (w *World) service(load int32, task uint32) int64 {
	l := &w.loads[load]
	if rows := w.sc.Workloads[l.stream].Arrivals; len(rows) > 0 {
		return rows[l.who].Service
	}
	s := w.seed.Stream(l.who, forService+uint32(l.stream)).From(uint64(l.round)<<24 | uint64(task)<<6)
	return max(w.sc.Workloads[l.stream].Service.Draw(&s), 1)
}

func (w *World) taskEnds(on, i int32) {
	s := &w.slots[i]
	took := w.now - s.started
	if w.shares {
		w.progress(s)
		w.lendTime(s, 0)
		s.rate = 0
	}
	if s.class == workload.Spare {
		took = s.ran // what it waited is not paid
	}
	s.running = false
	w.ended1(s)
	if us := max(took/1000, 1); s.took == 0 {
		s.took = us
	} else {
		s.took = (3*s.took + us) / 4
	}
	if s.count == 0 {
		s.since = w.now
	}
	s.count++
	s.wall += took
	if n := len(s.batch); s.late {
		s.lost = append(s.lost, ledger.FailedTask{Index: s.task, Attempt: s.batch[n-1].Attempt, Exit: workload.TimedOut})
		s.batch = s.batch[:n-1]
	} else if n > 1 && s.batch[n-2].End() == s.batch[n-1].From && s.batch[n-2].Attempt == s.batch[n-1].Attempt {
		s.batch[n-2].Count++
		s.batch = s.batch[:n-1]
	}
	if s.count >= segmentResults || w.now-s.since >= segmentWait || w.checked(s.load) {
		w.flush(on, i)
	}
	w.next(on, i)
	w.rerate(on)
}

// flush reports what has ended.
func (w *World) flush(on, i int32) {
	s := &w.slots[i]
	if s.count == 0 {
		return
	}
	s.seq++
	r := &report{seq: s.seq, fence: s.fence, slot: s.id, done: s.batch, failed: s.lost, wall: w.wallOf(&w.peers[on], (s.wall+millisecond-1)/millisecond, s.count, s.load), freed: s.freeq}
	if w.checked(s.load) {
		r.vote = w.votes1(on, s.load, s.task, len(s.lost) > 0)
	}
	s.batch, s.lost, s.wall, s.count = nil, nil, 0, 0
	s.sent = append(s.sent, r)
	w.leaves = max(w.now, w.leaves) + w.sc.Costs.Sign
	w.tell(on, i, message{kind: msgClose, seq: r.seq, body: r})
	w.leaves = 0
	w.await(on, i)
}

// tell sends a slot's message to the leader of its cell, if there is one.
func (w *World) tell(on, i int32, m message) {
	s := &w.slots[i]
	to := w.cells[s.cell].leader
	if to < 0 {
		return
	}
	m.from, m.to, m.cell, m.load, m.slot, m.gen, m.boot = on, to, s.cell, s.load, i, s.gen, 0
	w.send(m)
}

// await says the same again later if the leader may be gone.
func (w *World) await(on, i int32) {
	if w.churns && w.planted != SaidOnce {
		w.push(w.now+patience, event{kind: retry, a: on, b: i, c: w.slots[i].gen})
	}
}

func (w *World) askMore(on, i int32) {
	s := &w.slots[i]
	if s.asking {
		return
	}
	s.asking = true
	s.takes++
	w.tellTake(on, i)
	w.await(on, i)
}

func (w *World) tellTake(on, i int32) {
	s := &w.slots[i]
	w.tell(on, i, message{kind: msgTake, seq: s.takes, n: s.took, body: s.ref()})
}

// again repeats what the leader has not answered.
func (w *World) again(on, i int32) {
	s := &w.slots[i]
	waits := s.asking || s.done || len(s.sent) > 0
	if s.asking {
		w.tellTake(on, i)
	}
	for _, r := range s.sent {
		w.tell(on, i, message{kind: msgClose, seq: r.seq, body: r})
	}
	if s.done {
		w.tell(on, i, message{kind: msgDone, n: int64(s.freeq), body: s.ref()})
	}
	if waits {
		w.await(on, i)
	}
}

// finishSlot frees the capacity, reports the last results and says that the slot
// is over, unless the cell has ended it with them.
func (w *World) finishSlot(on, i int32) {
	s := &w.slots[i]
	if !s.ending {
		s.ending = true
		w.freeSlot(on, i)
		w.flush(on, i)
	}
	if s = &w.slots[i]; len(s.sent) == 0 && !s.done {
		s.done = true
		w.tell(on, i, message{kind: msgDone, n: int64(s.freeq), body: s.ref()})
		w.await(on, i)
	}
}

func (w *World) freeSlot(on, i int32) {
	s, p := &w.slots[i], &w.peers[on]
	if s.freed {
		return
	}
	s.freed = true
	if s.class != workload.Spare {
		w.use(-int64(len(s.cpus)))
		w.watts(p, 0, -int64(len(s.cpus)))
		w.vacate(p, s)
	}
	if p.alloc != nil {
		p.alloc.Free(capacity.SlotKey{Workload: w.loads[s.load].id, Slot: s.id})
		w.checkCapacity(p)
	}
	w.tend(on)
	s.freeq = p.offerSeq()
	if w.traits.Queues && p.up {
		w.serveQueue(on)
		w.steal(on)
	}
	w.poke(on)
}

// slotAnswer is the leader's answer to a slot.
func (w *World) slotAnswer(on int32, m *message) {
	s := &w.slots[m.slot]
	if !s.live || s.gen != m.gen {
		return
	}
	switch m.kind {
	case msgTaken:
		if !s.asking || m.seq != s.takes {
			return
		}
		s.asking = false
		ranges := m.body.([]workload.Range)
		s.queue = append(s.queue, ranges...)
		s.last = len(ranges) == 0
		if !s.running {
			w.next(on, m.slot)
		}
	case msgClosed:
		for k, r := range s.sent {
			if r.seq == m.seq {
				s.sent = append(s.sent[:k], s.sent[k+1:]...)
				break
			}
		}
		if m.n == 1 && s.ending { // the cell has ended the slot
			w.drop(on, m.slot)
		} else if s.ending && len(s.sent) == 0 {
			w.finishSlot(on, m.slot)
		}
	case msgDoneAck:
		w.drop(on, m.slot)
	}
}

// drop forgets a slot, whatever it does.
func (w *World) drop(on, i int32) {
	s, p := &w.slots[i], &w.peers[on]
	if s.running {
		w.lendTime(s, 0)
		s.running, s.rate = false, 0
		w.lostTask(s)
		w.ended1(s)
	}
	w.freeSlot(on, i)
	*s = slot{gen: s.gen}
	w.freeSlots = append(w.freeSlots, i)
	for k, other := range p.slots {
		if other == i {
			p.slots = append(p.slots[:k], p.slots[k+1:]...)
			w.rerate(on)
			return
		}
	}
}
