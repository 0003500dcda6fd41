package lease

import (
	"fmt"
	"math/bits"
	"slices"

	"github.com/perrin-mesh/perrin/workload"
)

// ledger is the committed state: who holds each slot, and every worker's epoch.
type ledger struct {
	slots  []holding
	epochs []uint64
}

type holding struct {
	worker  int // -1 is nobody
	epoch   uint64
	call    int
	awarded bool // at any time before
	expired bool // the last holder was given up
}

func newLedger(workers int) ledger {
	l := ledger{slots: make([]holding, modelSlots), epochs: make([]uint64, workers)}
	for i := range l.slots {
		l.slots[i].worker = -1
	}
	for i := range l.epochs {
		l.epochs[i] = 1
	}
	return l
}

func (l *ledger) clone() ledger {
	return ledger{slots: slices.Clone(l.slots), epochs: slices.Clone(l.epochs)}
}

func (l *ledger) held() []Held {
	var held []Held
	for worker, epoch := range l.epochs {
		if slices.ContainsFunc(l.slots, func(h holding) bool { return h.worker == worker }) {
			held = append(held, Held{Node: workerID(worker), Epoch: epoch})
		}
	}
	return held
}

func workerID(i int) workload.PeerID { return workload.PeerID{30: 1, 31: byte(i)} }

// command is one change of the ledger.
type command struct {
	kind   string // award, refuse, expire
	slot   int
	worker int
	call   int
	epoch  uint64 // of expire
}

// apply changes the ledger as every replica does and reports whether it did.
func (l *ledger) apply(c command, t *tally) bool {
	switch c.kind {
	case "award":
		s := &l.slots[c.slot]
		if s.worker >= 0 {
			return false
		}
		if s.awarded {
			t.Reawards++
		}
		if s.expired {
			t.Expired++
		}
		*s = holding{worker: c.worker, epoch: l.epochs[c.worker], call: c.call, awarded: true}
	case "refuse":
		s := &l.slots[c.slot]
		if s.worker != c.worker || s.call != c.call {
			return false
		}
		s.worker = -1
	case "expire":
		if l.epochs[c.worker] != c.epoch {
			return false
		}
		l.epochs[c.worker]++
		for i := range l.slots {
			if l.slots[i].worker == c.worker {
				l.slots[i].worker, l.slots[i].expired = -1, true
			}
		}
	}
	return true
}

// entry is a batch of commands in the log of one term. A log is its last entry,
// which leads to all before it.
type entry struct {
	prev      *entry
	term      int
	index     int
	commands  []command
	acks      uint // voters that took it from the leader of its own term
	committed bool
	state     *ledger // after a term's first entry, when that is committed
}

// newer reports whether e may stand before o in an election.
func (e *entry) newer(o *entry) bool {
	return e.term > o.term || e.term == o.term && e.index >= o.index
}

// has reports whether the log that ends with e contains o.
func (e *entry) has(o *entry) bool {
	for e != nil && e.index > o.index {
		e = e.prev
	}
	return e == o
}

func (w *world) majority() int { return len(w.voters)/2 + 1 }

// ack counts a voter that has e; with a majority, e and all before it is committed.
func (w *world) ack(e *entry, voter *voter) {
	e.acks |= voter.bit
	if e.committed || bits.OnesCount(e.acks) < w.majority() {
		return
	}
	var chain []*entry
	at := e
	for ; !at.committed; at = at.prev {
		chain = append(chain, at)
	}
	if at != w.committed {
		w.broken = fmt.Sprintf("term %d commits over what term %d committed", e.term, w.committed.term)
	}
	for _, next := range slices.Backward(chain) {
		next.committed = true
		for _, c := range next.commands {
			w.ledger.apply(c, &w.tally)
		}
		if next.term != next.prev.term {
			state := w.ledger.clone()
			next.state = &state
		}
	}
	w.committed = e
}

// voter is a Raft server. Terms only grow; it votes once a term.
type voter struct {
	*host
	index   int
	bit     uint
	term    int
	leader  int    // that it last heard of, -1 none
	heard   int64  // when, on its clock
	patient int64  // how long without before it stands for election, ms
	votes   uint   // as candidate
	last    *entry // of its log
	leads   *leader
}

func newVoter(h *host) *voter {
	v := &voter{host: h, index: h.id, bit: 1 << h.id, leader: -1, heard: h.clock(), patient: h.w.between(800, 1600), last: h.w.committed}
	v.watch()
	return v
}

// watch stands for election when no leader is heard.
func (v *voter) watch() {
	if v.leads == nil && v.clock()-v.heard > v.patient {
		v.stand()
	}
	v.after(v.w.between(100, 200), v.watch)
}

func (v *voter) stand() {
	v.follow(v.term+1, -1)
	v.heard, v.patient, v.votes = v.clock(), v.w.between(800, 1600), v.bit
	term, last := v.term, v.last
	for _, other := range v.w.voters {
		if other != v {
			v.send(other.host, func() { other.asked(v, term, last) })
		}
	}
}

func (v *voter) asked(candidate *voter, term int, last *entry) {
	if term <= v.term {
		return
	}
	v.follow(term, -1)
	if !last.newer(v.last) {
		return
	}
	v.heard = v.clock()
	v.send(candidate.host, func() { candidate.elected(v, term) })
}

func (v *voter) elected(by *voter, term int) {
	if term != v.term || v.leads != nil || v.votes == 0 {
		return
	}
	if v.votes |= by.bit; bits.OnesCount(v.votes) >= v.w.majority() {
		v.lead()
	}
}

// follow moves to a term; a leader of an older one is none any more.
func (v *voter) follow(term, leader int) {
	if term > v.term {
		v.leads, v.votes = nil, 0
	}
	v.term = term
	if leader >= 0 {
		v.leader = leader
	}
}

// appended takes a heartbeat of the leader of a term with its log.
func (v *voter) appended(from *leader, round int, e *entry) {
	if from.term < v.term {
		term := v.term
		v.send(from.host, func() { from.answered(v, term, 0, nil) })
		return
	}
	v.follow(from.term, from.index)
	v.heard = v.clock()
	if !v.last.has(e) {
		v.last = e
	}
	v.w.ack(e, v)
	v.send(from.host, func() { from.answered(v, from.term, round, e) })
}

// leader is a voter in one term of its leadership. What it knows of the ledger
// is its own view.
type leader struct {
	*voter
	term    int
	desk    *Desk
	view    ledger
	contact []int64       // by voter: when it last answered
	round   int           // of VerifyLeader
	rounds  map[int]check // those that are not decided
	queue   []command
	flight  *entry
	got     uint    // voters that answered for flight
	ready   bool    // the term's first entry is committed
	busy    []int64 // by slot: an auction or an award is under way until then
	untold  []bool  // by slot: its worker has not acknowledged the award
	grants  []int64 // by slot: the lease that goes with its award; 0 is not granted yet
}

type check struct {
	start int64
	acks  uint
}

// lead begins a term with an entry of its own; the leader acts when that, and
// with it all that was left of older terms, is committed.
func (v *voter) lead() {
	w := v.w
	w.tally.Elections++
	l := &leader{
		voter: v, term: v.term, desk: NewDesk(w.cfg), contact: make([]int64, len(w.voters)),
		rounds: map[int]check{}, busy: make([]int64, modelSlots), untold: make([]bool, modelSlots),
		grants: make([]int64, modelSlots),
	}
	for i := range l.contact {
		l.contact[i] = v.clock()
	}
	v.leads, v.leader = l, v.index
	l.append(nil)
	l.beat()
	l.stepDown()
}

// begin is the end of the barrier.
func (l *leader) begin(e *entry) {
	l.ready, l.view = true, e.state.clone()
	l.desk.Inherit(l.clock(), l.view.held())
	for s := range l.view.slots {
		l.untold[s] = l.view.slots[s].worker >= 0
	}
	l.work()
}

// over reports whether the leader has noticed that it is none any more.
func (l *leader) over() bool { return l.voter.leads != l }

// beat sends heartbeats, which verify leadership and carry the entry in flight.
func (l *leader) beat() {
	if l.over() {
		return
	}
	l.round++
	l.rounds[l.round] = check{start: l.clock(), acks: l.bit}
	delete(l.rounds, l.round-20)
	l.spread()
	l.after(250, l.beat)
}

func (l *leader) spread() {
	round, e := l.round, l.last
	for _, other := range l.w.voters {
		if other != l.voter {
			l.send(other.host, func() { other.appended(l, round, e) })
		}
	}
}

func (l *leader) answered(by *voter, term, round int, e *entry) {
	if term > l.voter.term {
		l.voter.follow(term, -1)
	}
	if l.over() || term != l.term {
		return
	}
	l.contact[by.index] = l.clock()
	if c, open := l.rounds[round]; open {
		if c.acks |= by.bit; bits.OnesCount(c.acks) >= l.w.majority() {
			l.desk.Verified(c.start)
			delete(l.rounds, round)
		} else {
			l.rounds[round] = c
		}
	}
	if e == l.flight && e != nil {
		if l.got |= by.bit; bits.OnesCount(l.got) >= l.w.majority() {
			l.learned(e)
		}
	}
}

// stepDown ends the term when no majority has answered for 500 ms.
func (l *leader) stepDown() {
	if l.over() {
		return
	}
	near := 1
	for i, at := range l.contact {
		if i != l.index && l.clock()-at <= 500 {
			near++
		}
	}
	if near < l.w.majority() {
		l.voter.leads, l.voter.votes = nil, 0
		l.voter.heard = l.clock()
		return
	}
	l.after(100, l.stepDown)
}

func (l *leader) propose(c command) {
	l.queue = append(l.queue, c)
	l.flush()
}

// flush appends what is queued, one entry at a time.
func (l *leader) flush() {
	if l.flight == nil && len(l.queue) > 0 && !l.over() {
		commands := l.queue
		l.queue = nil
		l.append(commands)
	}
}

func (l *leader) append(commands []command) {
	l.flight, l.got = &entry{prev: l.last, term: l.term, index: l.last.index + 1, commands: commands}, l.bit
	l.last = l.flight
	l.w.ack(l.flight, l.voter)
	l.spread()
}

// learned applies a committed entry to the leader's view and acts on it.
func (l *leader) learned(e *entry) {
	l.flight = nil
	if !l.ready {
		l.begin(e)
	}
	var unused tally
	for _, c := range e.commands {
		ok := l.view.apply(c, &unused)
		switch c.kind {
		case "award":
			if ok {
				l.untold[c.slot], l.grants[c.slot] = true, 0
				l.tell(c.slot)
			}
		case "expire":
			l.desk.Expired(workerID(c.worker), c.epoch)
		case "refuse":
			if !slices.ContainsFunc(l.view.slots, func(h holding) bool { return h.worker == c.worker }) {
				l.desk.Drop(workerID(c.worker))
			}
		}
		if c.kind != "expire" {
			l.busy[c.slot] = 0
		}
	}
	l.flush()
}

// work gives up nodes, calls for bids for open slots and tells awards again.
func (l *leader) work() {
	if l.over() {
		return
	}
	for _, h := range l.desk.Due(l.clock()) {
		l.propose(command{kind: "expire", worker: int(h.Node[31]), epoch: h.Epoch})
	}
	for s := range l.view.slots {
		switch {
		case l.busy[s] > l.clock():
		case l.view.slots[s].worker < 0:
			l.call(s)
		case l.untold[s]:
			l.tell(s)
		}
	}
	l.after(l.w.between(80, 120), l.work)
}

func (l *leader) call(slot int) {
	l.busy[slot] = l.clock() + 300
	l.w.calls++
	call, to := l.w.calls, l.w.workers[l.w.rng.IntN(len(l.w.workers))]
	l.send(to.host, func() { to.called(l, slot, call) })
}

func (l *leader) bid(from *worker, slot, call int) {
	if l.over() || l.view.slots[slot].worker >= 0 || l.busy[slot] > l.clock()+1000 {
		return
	}
	l.busy[slot] = l.clock() + 1_000_000 // until the award is committed, or the term over
	l.propose(command{kind: "award", slot: slot, worker: from.index, call: call})
}

// tell sends an award with what may be granted when it is first told, and later
// the same again.
func (l *leader) tell(slot int) {
	h := l.view.slots[slot]
	l.busy[slot] = l.clock() + 700
	if l.grants[slot] == 0 {
		grant, err := l.desk.Grant(l.clock(), workerID(h.worker), h.epoch)
		if err != nil {
			return
		}
		l.grants[slot] = grant
	}
	to, grant := l.w.workers[h.worker], l.grants[slot]
	l.send(to.host, func() { to.awarded(l, slot, h.call, h.epoch, grant) })
}

// told takes the answer to an award.
func (l *leader) told(from *worker, slot, call int, runs bool) {
	h := l.view.slots[slot]
	if l.over() || h.worker != from.index || h.call != call {
		return
	}
	if l.untold[slot] = false; !runs {
		l.busy[slot] = l.clock() + 1_000_000
		l.propose(command{kind: "refuse", slot: slot, worker: from.index, call: call})
	}
}

// renew answers RENEW. running are the calls of the slots that the worker runs;
// a slot of its that is missing is asked about again.
func (v *voter) renew(from *worker, sent int64, running []int) {
	l := v.leads
	if l != nil && !l.ready {
		return
	}
	if l == nil {
		if hint := v.leader; hint >= 0 && hint != v.index {
			v.send(from.host, func() { from.redirected(hint) })
		}
		return
	}
	epoch := l.view.epochs[from.index]
	grant, err := l.desk.Grant(l.clock(), workerID(from.index), epoch)
	if err != nil {
		return
	}
	for s, h := range l.view.slots {
		if h.worker == from.index && !slices.Contains(running, h.call) {
			l.untold[s] = true
		}
	}
	l.send(from.host, func() { from.renewed(sent, grant, epoch) })
}
