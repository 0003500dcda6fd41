package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/runner"
	"github.com/perrin-mesh/perrin/workload/sandbox"
	"github.com/perrin-mesh/perrin/workload/seal"
)

// slot runs the tasks of one awarded slot, one after another.
type slot struct {
	w       *Worker
	key     slotKey
	ref     wire.SlotRef
	cell    workload.CellID
	spec    *workload.Spec
	signed  workload.Signed // the spec, of sealed work
	owner   workload.PeerID
	payer   workload.PeerID
	rate    int64
	after   []wire.AfterOutputs
	holders []workload.PeerID
	home    workload.PeerID // it was submitted on, and may feed stdin; of sealed work the one that its owner signed
	cpus    []int
	nodes   []int // NUMA nodes that its memory comes from
	dir     string
	began   time.Time
	log     *slog.Logger
	ctx     context.Context
	cancel  context.CancelFunc
	// bringing ends with ctx, and when the slot is told to end: what its tasks need
	// comes from others, who may be slow.
	bringing     context.Context
	stopBringing context.CancelFunc
	over         chan struct{} // closed when nothing of it is left
	idle         chan struct{} // of a spare slot: it may begin, or look why not
	lent         lent          // of a spare slot

	// owned by the goroutine of run
	work   *workload.Spec // the spec in full, once it is unsealed
	secret *seal.Key      // of sealed work, once it was released
	memory string         // of sealed work: the folder in memory that its own lies in
	queue  []workload.Range
	stage  *stage
	report *report
	clean  bool  // cleanUp was called
	last   bool  // the leader has no more tasks for it
	took   int64 // us per task, a moving average
	takes  uint32
	next   chan takenRanges

	// mu guards what other goroutines look at.
	mu      sync.Mutex
	lease   int64 // its end, ms on the worker's clock
	session runner.Session
	live    map[uint32]*attempt // by task
	halted  bool
	// preempted: the machine needs what a spare slot runs on; its task is not over.
	preempted bool
	lost      string // why the slot is no longer this node's; nothing more is reported
	closed    bool   // the cell has ended the slot with its last results

	freed uint64 // freedSince; under w.mu
}

type takenRanges struct {
	ranges []workload.Range
	over   bool
	err    error
}

func (s *slot) run() {
	defer close(s.over)
	defer s.cancel()
	defer s.cleanUp()
	s.report = newReport(s)
	defer s.letGo()
	if err := s.prepare(); err != nil {
		if s.bringing.Err() != nil || s.takenBack(&workload.TaskResult{Exit: workload.NodeFault}) {
			s.finish() // gives back what it was given
			return
		}
		s.failAll(err)
		return
	}
	for {
		task, number, ok := s.nextTask()
		if !ok {
			break
		}
		if !s.runTask(task, number) {
			break
		}
	}
	s.finish()
}

// prepare brings the program and what all tasks share, and opens the session.
func (s *slot) prepare() error {
	s.w.tend() // spare work makes way before this begins
	if err := s.awaitIdle(); err != nil {
		return err
	}
	if err := s.unseal(); err != nil {
		return err
	}
	p, err := s.w.unpark(s)
	if err != nil {
		return err
	}
	if err = s.w.grant(s.leaseEnd(), s); err == nil {
		s.stage, err = newStage(s)
	}
	if err != nil {
		return errors.Join(err, p.close())
	}
	session, err := s.open(p)
	if err != nil {
		return err
	}
	if _, ok := session.(runner.Movable); !ok && s.spec.Resources.Class == workload.Spare {
		return errors.Join(errors.New("its runner cannot pause, as spare work must"), session.Close())
	}
	s.mu.Lock()
	s.session = session
	s.mu.Unlock()
	if s.spec.Resources.Class == workload.Spare {
		s.w.tend() // what has changed since it looked
	}
	return nil
}

// nextTask returns the next task to run. Of short tasks it asks for more before
// it runs the last one, so that the answer is there in time.
func (s *slot) nextTask() (task, number uint32, ok bool) {
	for {
		if s.stopping() {
			return 0, 0, false
		}
		if left := s.left(); !s.last && (left == 0 || left == 1 && s.quick()) {
			s.prefetch()
		}
		if len(s.queue) > 0 {
			r := &s.queue[0]
			task, number = r.From, r.Attempt
			r.From, r.Count = r.From+1, r.Count-1
			if r.Count == 0 {
				s.queue = s.queue[1:]
			}
			return task, number, true
		}
		if s.last && s.next == nil {
			return 0, 0, false
		}
		s.report.flush() // what is done must not wait for what is to come
		s.await()
	}
}

func (s *slot) left() (n uint32) {
	for _, r := range s.queue {
		n += r.Count
	}
	return n
}

// quickTask is how long a task may take, in us, for the next one to be taken
// before it has ended. What a slot holds and does not run, an idle node could.
const quickTask = 250_000

// quick reports whether the tasks are so short that the way to the leader counts.
func (s *slot) quick() bool { return s.took > 0 && s.took <= quickTask }

func (s *slot) prefetch() {
	if s.next != nil {
		return
	}
	s.next = make(chan takenRanges, 1)
	s.takes++
	msg := wire.TakeMsg{Ref: s.ref, MicrosPerTask: s.took, Seq: s.takes}
	go func(into chan<- takenRanges) {
		var answer wire.Taken
		err := s.w.cfg.Leaders.CallLeader(s.ctx, s.cell, wire.ProtoTake, &msg, &answer)
		into <- takenRanges{ranges: answer.Ranges, over: answer.Over, err: err}
	}(s.next)
}

// await waits for the answer to a prefetch.
func (s *slot) await() {
	select {
	case t := <-s.next:
		s.next = nil
		if t.err == nil && !within(t.ranges, s.spec.Tasks.Count) {
			t.err = fmt.Errorf("tasks that the spec has not: %w", wire.ErrMalformed)
		}
		if t.err != nil {
			s.log.Warn("no more tasks: the leader did not answer", "err", t.err)
			s.last = true
			return
		}
		s.queue = append(s.queue, t.ranges...)
		s.last = t.over || len(t.ranges) == 0
	case <-s.ctx.Done():
	}
}

// runTask runs one task and reports whether that was to its end.
func (s *slot) runTask(task, number uint32) bool {
	began := time.Now()
	result := s.attempt(task, number)
	took := max(time.Since(began).Microseconds(), 1)
	s.took = (3*s.took + took) / 4
	if s.took == 0 || s.report.count == 0 {
		s.took = took
	}
	if s.takenBack(result) || result.Exit == workload.NodeFault && s.bringing.Err() != nil {
		return false // the slot ends with the task open, which another then gets
	}
	s.count(result)
	s.report.add(s.hideResult(result))
	if s.left() == 0 && s.next != nil {
		s.await()
	}
	return true
}

func (s *slot) count(r *workload.TaskResult) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.w.stats.Tasks++
	switch {
	case r.Exit == workload.NodeFault:
		s.w.stats.Faults++
	case !r.OK():
		s.w.stats.Failed++
	}
}

// failAll reports every task it was given as this node's failure.
func (s *slot) failAll(err error) {
	if s.secret != nil {
		s.log.Warn("slot of sealed work could not start") // why may name what is sealed
	} else {
		s.log.Warn("slot could not start", "err", err)
	}
	for s.left() > 0 {
		task, number := s.queue[0].From, s.queue[0].Attempt
		s.queue[0].From++
		s.queue[0].Count--
		if s.queue[0].Count == 0 {
			s.queue = s.queue[1:]
		}
		s.report.add(s.hideResult(failure(task, number, err)))
	}
	s.last = true
	s.finish()
}

// finish reports what is left to report, gives back what was not started and
// ends the slot. What it ran on is free before the cell hears of its last
// results, and is then sold again at once.
func (s *slot) finish() {
	told := s.w.end(s)
	defer told()
	if s.next == nil {
		s.cleanUp()
	}
	s.report.flush()
	s.report.wait()
	if s.isLost() {
		return
	}
	if s.next != nil { // an answer may still bring tasks
		s.await()
	}
	if s.isClosed() {
		return
	}
	s.cleanUp()
	if len(s.queue) > 0 {
		msg := wire.ReturnMsg{Ref: s.ref, Ranges: s.queue}
		s.tell(wire.ProtoReturn, &msg)
	}
	done := wire.DoneMsg{Ref: s.ref, Offer: s.freedSince()}
	s.mu.Lock()
	done.Preempted = s.preempted
	s.mu.Unlock()
	if done.Preempted { // its capacity is not free
		done.Offer = 0
	}
	s.tell(wire.ProtoDone, &done)
}

func (s *slot) tell(proto string, msg any) {
	ctx, cancel := context.WithTimeout(s.w.ctx, 10*time.Second)
	defer cancel()
	err := s.w.cfg.Leaders.CallLeader(ctx, s.cell, proto, msg, &wire.Ack{})
	if err != nil && !errors.Is(err, wire.NotFound) { // the cell may have ended the slot by itself
		s.log.Warn("the leader did not hear that the slot is over", "proto", proto, "err", err)
	}
}

// cleanUp parks or closes the session, removes the slot's folder with it, and
// frees the capacity. Only the first call does anything.
func (s *slot) cleanUp() {
	if s.clean {
		return
	}
	s.clean = true
	s.mu.Lock()
	session, well := s.session, !s.halted && s.lost == "" && s.ctx.Err() == nil
	s.session = nil
	s.mu.Unlock()
	if s.stage != nil {
		s.stage.close()
	}
	if session == nil || !well || !s.w.park(s, session) {
		s.remove(session)
	}
	if err := s.w.cfg.Supervisor.Forget(keyText(s.key)); err != nil {
		s.log.Debug("the supervisor did not forget the slot", "err", err)
	}
	s.cancelIfLost()
	s.w.freeSlot(s)
}

// remove ends the session, if there is one, and removes the folder.
func (s *slot) remove(session runner.Session) {
	var err error
	if session != nil {
		err = session.Close()
	}
	err = errors.Join(err, s.forget())
	if err = errors.Join(err, sandbox.RemoveAll(s.dir)); err != nil {
		s.log.Warn("clean up the slot", "err", err)
	}
}

func (s *slot) cancelIfLost() {
	if s.isLost() {
		s.cancel()
	}
}

// stopping reports whether no further task is to start here.
func (s *slot) stopping() bool {
	if s.w.draining() {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.halted || s.lost != "" || s.ctx.Err() != nil
}

func (s *slot) isLost() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost != "" || s.ctx.Err() != nil
}

// isClosed reports whether the cell knows that the slot is over.
func (s *slot) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// halt ends the running attempt with a notice: SIGTERM now, SIGKILL after grace.
// Whoever says so again changes nothing.
func (s *slot) halt(grace time.Duration) {
	s.mu.Lock()
	again, session := s.halted, s.session
	s.halted = true
	s.mu.Unlock()
	if again {
		return
	}
	s.stopBringing()
	s.notify("stop", grace)
	if session != nil {
		session.Interrupt(grace)
	}
}

// lose ends the slot at once and keeps its results to itself: the cell has
// given it to somebody else, or will.
func (s *slot) lose(why string) {
	s.mu.Lock()
	known := s.lost != ""
	s.lost = why
	session := s.session
	s.mu.Unlock()
	if known {
		return
	}
	s.log.Warn("slot lost", "why", why)
	s.w.mu.Lock()
	s.w.stats.Lost++
	s.w.mu.Unlock()
	s.cancel()
	if session != nil {
		session.Kill()
	}
}

// leaseEnd is when the slot's lease ends, ms on the worker's clock.
func (s *slot) leaseEnd() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lease
}

func (s *slot) extend(deadline int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lease = max(s.lease, deadline)
}

// grant tells the supervisor how long slots may run. Idempotent work that may
// outlive its cell is bounded by the longest timeout instead.
func (w *Worker) grant(deadline int64, slots ...*slot) error {
	var leased, free []string
	for _, s := range slots {
		if s.spec.OnPartition == workload.Continue {
			free = append(free, keyText(s.key))
		} else {
			leased = append(leased, keyText(s.key))
		}
	}
	zero := runner.Instant(w.clock.Boot(0))
	ttl := time.Duration(deadline) * time.Millisecond
	var err error
	if len(leased) > 0 {
		err = w.cfg.Supervisor.Grant(zero, ttl, leased...)
	}
	if len(free) > 0 {
		err = errors.Join(err, w.cfg.Supervisor.Grant(zero, ttl+workload.MaxTimeout, free...))
	}
	return err
}

// notify tells the running attempts what is coming.
func (s *slot) notify(kind string, left time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.live {
		a.notify(kind, left)
	}
}
