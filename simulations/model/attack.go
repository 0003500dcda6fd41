package model

import (
	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/scheduler/pricing"
	"github.com/perrin-mesh/perrin/simulations/scenario"
	"github.com/perrin-mesh/perrin/workload"
)

// What attackers do is theirs; what comes of it is the product's to say. As voters
// they vote and keep the log like everybody: the ledger is replicated, and what
// they could do to it is another question.

// drawAttack makes a peer an attacker, or not.
func (w *World) drawAttack(i int32, p *peer) {
	s := w.seed.Stream(uint32(i), forAttackers)
	at := s.Int64N(million)
	for k := range w.sc.Attackers {
		if at -= w.sc.Attackers[k].Share; at < 0 {
			p.attack = int8(k + 1)
			return
		}
	}
}

// does reports whether a peer is an attacker that does this.
func (w *World) does(p *peer, what string) bool {
	return p.attack > 0 && w.sc.Attackers[p.attack-1].Does == what
}

// claims is how many cores a peer says that it has for each one.
func (w *World) claims(p *peer) int {
	if p.attack == 0 {
		return 1
	}
	return int(w.sc.Attackers[p.attack-1].Claims)
}

// park is the machine that a peer says it is.
func (w *World) park(p *peer) *workload.Machine {
	if p.attack > 0 {
		return &w.claimed[int(p.attack-1)*len(w.parks)+int(p.class)]
	}
	return &w.parks[p.class]
}

// claimMachines lists the machines that attackers say they are.
func (w *World) claimMachines() {
	for _, a := range w.sc.Attackers {
		for i := range w.sc.Machines {
			m := w.sc.Machines[i]
			m.Cores *= int(a.Claims)
			m.Memory *= a.Claims
			m.Disk *= a.Claims
			w.claimed = append(w.claimed, machineOf(&m))
		}
	}
}

// base is the price of a core from which a peer asks.
func (w *World) base(p *peer) int64 {
	if p.attack == 0 {
		return p.base
	}
	a := &w.sc.Attackers[p.attack-1]
	return min(max(1, p.base*(million-a.Below+a.Above)/million), pricing.MaxBase)
}

// refuses has an attacker give back what it bid for.
func (w *World) refuses(to int32, m *message, a *award) {
	p := &w.peers[to]
	if _, ok := p.dropBid(a.auction); ok {
		p.alloc.Release(a.auction)
	}
	w.poke(to)
	w.send(message{kind: msgRefused, from: to, to: m.from, cell: m.cell, load: m.load, body: &refusal{a, workload.Reason{Code: workload.HoldGone}}})
}

// failsAll has an attacker report that its node failed every task of a slot.
func (w *World) failsAll(on, i int32) {
	s := &w.slots[i]
	var reports []*report
	for _, rest := range s.queue {
		for k := range rest.Count {
			if len(reports) == 0 || w.checked(s.load) {
				reports = append(reports, &report{fence: s.fence, slot: s.id, vote: voteOf(s.load, rest.From+k, voteFailed, 0)})
			}
			r := reports[len(reports)-1]
			r.failed = append(r.failed, ledger.FailedTask{Index: rest.From + k, Attempt: rest.Attempt, Exit: workload.NodeFault})
		}
	}
	s.queue, s.ending = nil, true
	w.freeSlot(on, i)
	for _, r := range reports {
		s = &w.slots[i]
		s.seq++
		r.seq, r.freed = s.seq, s.freeq
		s.sent = append(s.sent, r)
		w.tell(on, i, message{kind: msgClose, seq: r.seq, body: r})
	}
	w.await(on, i)
}

// misbehaves is a slot of an attacker that starts; false when it runs like others'.
func (w *World) misbehaves(on, i int32) bool {
	p := &w.peers[on]
	switch {
	case w.does(p, scenario.Fails):
		w.failsAll(on, i)
	case w.does(p, scenario.Vanishes), w.does(p, scenario.Withholds): // nothing runs, nothing is said
	default:
		return false
	}
	return true
}

// wallOf is the time in ms that a peer says a row of tasks took.
func (w *World) wallOf(p *peer, wall int64, tasks int, load int32) int64 {
	if w.does(p, scenario.Overcharges) {
		return w.sc.Workloads[w.loads[load].stream].Timeout / millisecond * int64(tasks)
	}
	return wall
}
