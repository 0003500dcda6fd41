package model

import (
	"encoding/binary"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/scheduler"
	"github.com/perrin-mesh/perrin/simulations/chance"
	"github.com/perrin-mesh/perrin/simulations/scenario"
	"github.com/perrin-mesh/perrin/workload"
)

// load is one workload, from its arrival.
type load struct {
	id      workload.ID
	stream  int32
	who     uint32 // of an open stream its number, of a closed one the client
	round   uint32 // of a client, how many before
	owner   int32
	home    int32 // the peer that it was submitted from
	cell    int32
	arrived int64
	acked   int64 // 0 is not yet
	placed  int64 // of the first slot
	began   int64 // of the first task
	ended   int64
	paid    int64
	running uint32 // tasks that run now
	phase   workload.Phase
	known   bool     // its owner was given the ID
	buried  bool     // only a tomb is left
	missed  bool     // its submitter left before it had an ID
	bits    []uint64 // which tasks run, of a workload of several
}

// resendAfter is how long a submitter waits for its ID.
const resendAfter = 3000 * millisecond

// scheduleStream pushes the first arrivals of a stream.
func (w *World) scheduleStream(i int32) {
	s := &w.sc.Workloads[i]
	w.arrivals = append(w.arrivals, w.seed.Stream(uint32(i), forArrivals))
	w.clients = append(w.clients, nil)
	w.rounds = append(w.rounds, make([]uint32, s.Clients))
	if len(s.Arrivals) > 0 {
		w.push(s.Arrivals[0].At, event{kind: arrive, a: i})
		return
	}
	if s.Clients == 0 {
		w.push(w.gap(i), event{kind: arrive, a: i})
		return
	}
	w.clients[i] = make([]chance.Stream, s.Clients)
	for k := range w.clients[i] {
		w.clients[i][k] = w.seed.Stream(uint32(k), forClients+uint32(i)<<8)
		think := max(s.Think.Mean(), float64(millisecond))
		w.push(w.clients[i][k].Int64N(int64(min(think, 1<<60))+1), event{kind: client, a: i, b: int32(k)})
	}
}

// gap is the time to the next arrival of a Poisson stream.
func (w *World) gap(i int32) int64 {
	mean := 1e12 / float64(w.sc.Workloads[i].Poisson)
	gap := chance.Dist{Kind: chance.Exponential, A: mean}.Draw(&w.arrivals[i])
	return untilDue(w.sc.Workloads[i].Bursts, w.now, gap)
}

// untilDue is how long it takes from now until gap has passed on a clock that
// bursts make faster. They are in order.
func untilDue(bursts []scenario.Burst, now, gap int64) int64 {
	at := now
	for _, b := range bursts {
		if end := b.At + b.For; at < end {
			if before := max(0, b.At-at); gap <= before {
				break
			} else {
				gap -= before
			}
			at = max(at, b.At)
			if lasts := (end - at) / 1000 * b.Times; gap <= lasts {
				return at - now + gap*1000/b.Times
			} else {
				gap -= lasts
			}
			at = end
		}
	}
	return at - now + gap
}

func (w *World) arrive(i int32) {
	s := &w.arrivals[i]
	home, own := int32(s.IntN(len(w.peers))), int32(s.IntN(w.sc.Owners))
	if rows := w.sc.Workloads[i].Arrivals; len(rows) == 0 {
		w.push(w.now+w.gap(i), event{kind: arrive, a: i})
	} else {
		own = int32(rows[w.numbers[i]].Owner % w.sc.Owners)
		if next := int(w.numbers[i]) + 1; next < len(rows) {
			w.push(rows[next].At, event{kind: arrive, a: i})
		}
	}
	w.submit(load{stream: i, who: w.numbers[i], home: home, owner: own})
	w.numbers[i]++
}

// tasksOf is how many tasks a workload has.
func (w *World) tasksOf(l *load) int {
	s := &w.sc.Workloads[l.stream]
	if len(s.Arrivals) > 0 {
		return s.Arrivals[l.who].Tasks
	}
	return s.Tasks
}

// clientSubmits has a client of a closed stream submit its next workload.
func (w *World) clientSubmits(i, k int32) {
	s := &w.clients[i][k]
	n := w.rounds[i][k]
	w.rounds[i][k]++
	w.submit(load{stream: i, who: uint32(k), round: n, home: int32(s.IntN(len(w.peers))), owner: k % int32(w.sc.Owners)})
}

// submit takes a workload to the leader of its home's cell. A home that is away
// is replaced by the next that is there.
func (w *World) submit(l load) {
	for range w.peers {
		if w.peers[l.home].up {
			break
		}
		l.home = (l.home + 1) % int32(len(w.peers))
	}
	number := int32(len(w.loads))
	l.arrived, l.cell, l.phase = w.now, w.cellOf(&w.peers[l.home]).at, workload.Pending
	l.id.Cell = w.cells[l.cell].id
	r := w.where.Uint64()
	binary.BigEndian.PutUint64(l.id.Random[:], r)
	binary.BigEndian.PutUint32(l.id.Random[12:], uint32(number))
	if n := w.tasksOf(&l); n > 1 {
		l.bits = make([]uint64, (n+63)/64)
	}
	w.loads = append(w.loads, l)
	w.submissions(&w.loads[number])
	w.observe(Submits, number, nil)
	w.leaves = w.now + w.sc.Costs.Sign
	w.sendSubmit(number)
	w.leaves = 0
}

func (w *World) sendSubmit(number int32) {
	l := &w.loads[number]
	if to := w.cells[l.cell].leader; to >= 0 && w.peers[l.home].up {
		w.send(message{kind: msgSubmit, from: l.home, to: to, cell: l.cell, load: number})
	}
	if w.churns {
		w.push(w.now+resendAfter, event{kind: resend, a: number})
	}
}

// resend submits again what was not acknowledged; a submitter that has left
// forgets it.
func (w *World) resend(number int32) {
	l := &w.loads[number]
	switch {
	case l.known || l.ended > 0:
	case !w.peers[l.home].up:
		l.missed = true
		w.forgotten(l)
		w.nextOf(l)
	default:
		w.sendSubmit(number)
	}
}

// loadOf is the number of a workload.
func (w *World) loadOf(id workload.ID) int32 { return int32(binary.BigEndian.Uint32(id.Random[12:])) }

func cellOf(id workload.CellID) int32 { return int32(binary.BigEndian.Uint32(id[4:])) }

// accepts has a workload committed before its ID is given. The same one again
// is no error: the ledger says so.
func (w *World) accepts(c *cell, m *message) {
	l := &w.loads[m.load]
	payload := binary.BigEndian.AppendUint32(nil, uint32(m.load))
	if w.planted == AckEarly {
		w.send(message{kind: msgAck, from: c.leader, to: m.from, cell: c.at, load: m.load})
	}
	accept := &ledger.Accept{
		ID: l.id, Spec: workload.Signed{Payload: payload, By: owner(int(l.owner))}, Held: true, Home: w.peers[l.home].id,
	}
	if w.store != nil && w.keepInputs(c, m, accept) {
		return // it goes on when a majority of the voters holds what it needs
	}
	w.accept(c, m.load, m.from, accept)
}

// accept has an ACCEPT committed, and calls for bids meanwhile.
func (w *World) accept(c *cell, load, from int32, accept *ledger.Accept) {
	w.early(c, accept)
	w.propose(c, proposal{load: load, from: from, cmd: ledger.Command{Accept: accept}})
}

// early has the calls for bids go out while the ACCEPT is being committed.
func (w *World) early(c *cell, a *ledger.Accept) {
	if _, known := c.state.Phase(a.ID); known {
		return
	}
	var err error
	if w.spec, err = w.openSpec(a.Spec); err != nil {
		return
	}
	if lot, now := ledger.Prospect(a.ID, a.Spec.By, &w.spec, ms(w.now)); now {
		w.step(c, scheduler.Input{Lot: lotOf(&lot)})
	}
}

// acked is the ID on its way back to the submitter.
func (w *World) acked(m *message) {
	l := &w.loads[m.load]
	if !l.known {
		l.known, l.acked = true, w.now
		w.acknowledgement(l)
		w.observe(Acked, m.load, nil)
	}
}

// nextOf lets the client of a closed stream go on after a workload.
func (w *World) nextOf(l *load) {
	s := &w.sc.Workloads[l.stream]
	if s.Clients > 0 {
		w.push(w.now+s.Think.Draw(&w.clients[l.stream][l.who]), event{kind: client, a: l.stream, b: int32(l.who)})
	}
}

// loadEnded notes the end of a workload as the ledger has it. Its submitter hears
// of it after the way from the leader.
func (w *World) loadEnded(c *cell, number int32) {
	l := &w.loads[number]
	l.ended = w.now
	l.phase, _ = c.state.Phase(l.id)
	w.judged(c, number)
	w.ending(l)
	if w.sc.Workloads[l.stream].Clients > 0 && !l.missed {
		s := &w.sc.Workloads[l.stream]
		w.push(w.now+w.path(c.leader, l.home)+s.Think.Draw(&w.clients[l.stream][l.who]), event{kind: client, a: l.stream, b: int32(l.who)})
	}
}
