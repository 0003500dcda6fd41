package worker

import (
	"errors"
	"slices"
	"time"

	"github.com/perrin-mesh/perrin/scheduler/capacity"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/runner"
)

// SpareGrace is what spare work gets between its notice and its end when it is
// to leave.
const SpareGrace = 5 * time.Second

// lent is how a spare slot stands; guarded by Worker.tending.
type lent struct {
	on      []int // the CPUs that its session was last told
	paused  bool
	since   time.Time // paused
	leaving bool      // it was told to go
}

// LentSlot is one spare slot of this node, for who decides about them.
type LentSlot struct {
	Key    string
	CPUs   int32
	Open   bool // it has begun
	Paused bool
}

// Lent lists the spare slots that are granted, the oldest first.
func (w *Worker) Lent() []LentSlot {
	w.tending.Lock()
	defer w.tending.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []LentSlot
	for _, l := range w.cfg.Alloc.Lent() {
		if s := w.slots[l.Key]; s != nil {
			s.mu.Lock()
			open := s.session != nil
			s.mu.Unlock()
			out = append(out, LentSlot{Key: keyText(l.Key), CPUs: s.spec.Resources.CPUs, Open: open, Paused: s.lent.paused})
		}
	}
	return out
}

// Load is what the rest of the machine leaves.
type Load struct {
	Idle   int      // threads that are idle but for spare work
	Others int64    // permille of the machine's threads that other programs use
	Evict  []string // spare slots, by LentSlot.Key, that are to go
	Quiet  bool     // the owner wants the machine alone: nothing new is taken
}

// Lending signals that idle time was lent, so that the machine is to be watched
// closely.
func (w *Worker) Lending() <-chan struct{} { return w.lends }

// SetLoad says how busy the machine is with what is not spare work. Spare work
// that has no room any more is paused before it returns, or told to go.
func (w *Worker) SetLoad(l Load) {
	w.mu.Lock()
	before := w.free().Spare
	w.cfg.Alloc.SetSpare(l.Idle)
	changed := w.free().Spare != before || w.quiet != l.Quiet || max(w.others-l.Others, l.Others-w.others) >= loadStep
	w.quiet = l.Quiet
	if changed {
		w.others = l.Others
	}
	var gone []*slot
	for _, s := range w.slots {
		if slices.Contains(l.Evict, keyText(s.key)) {
			gone = append(gone, s)
		}
	}
	w.mu.Unlock()
	for _, s := range gone {
		s.preempt(SpareGrace)
	}
	w.tend()
	if changed {
		w.poke()
	}
}

// loadStep is the change of other programs' load, in permille, that is worth a
// new offer.
const loadStep = 100

// tend has every spare slot run where it may, wait, or go. When it returns, none
// runs on a core that another tenant was granted. It is cheap without any.
func (w *Worker) tend() {
	w.mu.Lock()
	lending := w.cfg.Alloc.Lending()
	w.mu.Unlock()
	if !lending {
		return
	}
	w.tending.Lock()
	defer w.tending.Unlock()
	w.mu.Lock()
	all := w.cfg.Alloc.Lent()
	slots := make([]*slot, len(all))
	for i, l := range all {
		slots[i] = w.slots[l.Key]
	}
	w.mu.Unlock()
	for i, s := range slots {
		if s != nil {
			s.settle(&all[i])
		}
	}
}

// settle brings a spare slot to where it should be. The caller holds tending.
func (s *slot) settle(l *capacity.Lent) {
	s.mu.Lock()
	session, _ := s.session.(runner.Movable)
	s.mu.Unlock()
	var err error
	switch {
	case s.lent.leaving:
		if session != nil && l.NoCore { // its grace is over: it may not run beside them
			session.Kill()
		}
	case l.Verdict == capacity.MustGo:
		s.leave(session, SpareGrace)
	case session == nil:
		if l.Verdict == capacity.Runs {
			s.lent.on = l.CPUs
			s.wake()
		}
	case l.Verdict == capacity.Waits:
		if !s.lent.paused {
			s.lent.paused, s.lent.since = true, time.Now()
			s.log.Info("spare slot is paused: the machine is needed")
		}
		err = session.Freeze() // again, for what a kill has let go
	default:
		if !slices.Equal(s.lent.on, l.CPUs) {
			err = session.Move(l.CPUs, nil)
			s.lent.on = l.CPUs
		}
		if s.lent.paused {
			s.lent.paused = false
			s.log.Info("spare slot goes on", "after", time.Since(s.lent.since).Round(time.Millisecond))
			err = errors.Join(err, session.Thaw())
		}
	}
	if err != nil { // it must not run where it may not
		s.log.Warn("spare slot cannot be moved or paused", "err", err)
		s.leave(session, 0)
	}
}

func (s *slot) wake() {
	select {
	case s.idle <- struct{}{}:
	default:
	}
}

// awaitIdle waits until a spare slot may begin.
func (s *slot) awaitIdle() error {
	if s.spec.Resources.Class != workload.Spare {
		return nil
	}
	s.w.tend()
	select {
	case <-s.idle:
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
	if s.stopping() {
		return errGaveWay
	}
	s.w.tending.Lock()
	defer s.w.tending.Unlock()
	s.cpus = s.lent.on
	return nil
}

// errGaveWay is why a spare slot did not run.
var errGaveWay = errors.New("the idle time was needed before it began")

// preempt gives a spare slot's tasks back: with a notice, SIGTERM now and SIGKILL
// after grace.
func (s *slot) preempt(grace time.Duration) {
	s.w.tending.Lock()
	defer s.w.tending.Unlock()
	s.mu.Lock()
	session, _ := s.session.(runner.Movable)
	s.mu.Unlock()
	s.leave(session, grace)
}

// leave is preempt; the caller holds tending. A slot that is paused because its
// cores are another tenant's gets no time.
func (s *slot) leave(session runner.Movable, grace time.Duration) {
	if s.lent.leaving {
		return
	}
	s.lent.leaving = true
	s.mu.Lock()
	s.halted, s.preempted = true, true
	s.mu.Unlock()
	s.log.Info("spare slot gives way", "grace", grace)
	s.notify("preempt", grace)
	s.wake()
	if s.lent.paused {
		grace = 0
	}
	if session != nil {
		session.Interrupt(grace)
	}
}

// takenBack reports whether a result is of a task that was ended to make way:
// it is no result, another node runs the task.
func (s *slot) takenBack(r *workload.TaskResult) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.preempted && (r.Exit == workload.StoppedExit || r.Exit == workload.NodeFault)
}

// Picture returns the machine's cores and who holds them, with the offer that
// stands. Sockets and Enforced are the caller's to fill in.
func (w *Worker) Picture() *workload.Picture {
	w.mu.Lock()
	defer w.mu.Unlock()
	owner := func(key slotKey) workload.PeerID {
		if s := w.slots[key]; s != nil {
			return s.owner
		}
		return workload.PeerID{}
	}
	p := &workload.Picture{
		Offer: workload.Offer{Node: w.cfg.Self, Cell: w.cfg.Cell(), Machine: w.cfg.Machine, Free: w.free(), Asks: w.asks, Drain: w.drain, Running: int32(len(w.slots))},
		Cores: w.cfg.Alloc.Picture(owner), Others: w.others,
	}
	for _, l := range w.cfg.Alloc.Lent() {
		use := workload.SpareUse{Owner: owner(l.Key), Workload: l.Key.Workload, Slot: l.Key.Slot}
		for _, cpu := range l.CPUs {
			use.CPUs = append(use.CPUs, int32(cpu))
		}
		p.Spare = append(p.Spare, use)
	}
	return p
}
