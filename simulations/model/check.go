package model

import (
	"fmt"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/simulations/chance"
	"github.com/perrin-mesh/perrin/workload"
)

// Violation is an invariant that did not hold: a bug of the product or of the
// model. The seed and the event's number find it again.
type Violation struct {
	Invariant string
	Seed      chance.Seed // of the replication
	Event     uint64
	At        int64 // ns
	Detail    string
}

// Error names the invariant, where and what.
func (v *Violation) Error() string {
	return fmt.Sprintf("invariant %q does not hold: %s (event %d, at %.6f s, seed of the replication %d)",
		v.Invariant, v.Detail, v.Event, float64(v.At)/1e9, uint64(v.Seed))
}

// The invariants.
const (
	capacityKept = "capacity is never negative"
	coresApart   = "no two tenants on a core"
	nothingLost  = "nothing acknowledged is lost"
	runsOnce     = "no task runs twice at once"
	moneyKept    = "what is spent was earned"
)

func (w *World) fail(invariant, format string, args ...any) {
	if w.fault == nil {
		w.fault = &Violation{invariant, w.seed, w.events, w.now, fmt.Sprintf(format, args...)}
	}
}

// checkCapacity looks at what a peer's allocator says is free.
func (w *World) checkCapacity(p *peer) {
	f := w.free(p)
	if f.Cores < 0 || f.Threads < 0 || f.Memory < 0 || f.Disk < 0 || f.Slots < 0 {
		w.fail(capacityKept, "peer %d has %+v free", indexOf(p.id), f)
	}
}

// occupy puts a slot's tenant on its CPUs, in an account of its own, and wants
// each core to have one tenant.
func (w *World) occupy(p *peer, s *slot) {
	m := &w.sc.Machines[p.class]
	if p.cores == nil {
		p.cores = make([]tenancy, m.Cores*w.claims(p))
	}
	for _, cpu := range s.cpus {
		t := &p.cores[cpu/m.Threads]
		if t.slots > 0 && t.owner != s.owner && !w.sharesCores(s.load) {
			w.fail(coresApart, "core %d of peer %d has tenants %d and %d", cpu/m.Threads, indexOf(p.id), t.owner, s.owner)
		}
		t.owner = s.owner
		if t.slots == 0 {
			w.usedCores(1)
		}
		if t.slots++; int(t.slots) > m.Threads {
			w.fail(capacityKept, "core %d of peer %d has %d threads in use of %d", cpu/m.Threads, indexOf(p.id), t.slots, m.Threads)
		}
	}
}

// sharesCores reports whether a workload's owner lets others on its cores.
func (w *World) sharesCores(load int32) bool { return w.specs[w.loads[load].stream].Resources.Share }

func (w *World) vacate(p *peer, s *slot) {
	threads := w.sc.Machines[p.class].Threads
	for _, cpu := range s.cpus {
		if p.cores[cpu/threads].slots--; p.cores[cpu/threads].slots == 0 {
			w.usedCores(-1)
		}
	}
}

// began notes that a task runs, and wants it to run nowhere else.
func (w *World) began(s *slot) {
	l := &w.loads[s.load]
	twice := l.running > 0 && !w.checked(s.load)
	if l.bits != nil && !w.checked(s.load) {
		word, bit := s.task/64, uint64(1)<<(s.task%64)
		twice = l.bits[word]&bit != 0
		l.bits[word] |= bit
	}
	l.running++
	w.observe(Runs, s.load, s)
	if twice {
		w.fail(runsOnce, "task %d of workload %d", s.task, s.load)
	}
	if len(w.lost) > 0 {
		w.recovered(s)
	}
	if l.began == 0 {
		l.began = w.now
		w.starting(l)
	}
}

func (w *World) ended1(s *slot) {
	l := &w.loads[s.load]
	l.running--
	w.observe(Ends, s.load, s)
	if l.bits != nil && !w.checked(s.load) {
		l.bits[s.task/64] &^= uint64(1) << (s.task % 64)
	}
}

// acknowledged wants the ledger to know what its owner is told it does.
func (w *World) acknowledged(c *cell, load int32) {
	if _, ok := c.state.Phase(w.loads[load].id); !ok {
		if _, tomb := c.state.Tomb(w.loads[load].id); !tomb {
			w.fail(nothingLost, "workload %d is acknowledged and not in the ledger of %s", load, c.name())
		}
	}
}

// forgot wants a workload to have ended before only a tomb is left of it.
func (w *World) forgot(load int32) {
	l := &w.loads[load]
	l.buried = true
	if l.ended == 0 {
		w.fail(nothingLost, "workload %d is compacted and has not ended", load)
	}
}

// earned keeps the mesh's own account of what was charged.
func (w *World) earned(c *cell, cmd *ledger.Command, res *ledger.Result) {
	if cmd.Close == nil || res.Reject != nil {
		return
	}
	if res.Charged < 0 {
		w.fail(moneyKept, "a close charges %d", res.Charged)
	}
	w.charged += res.Charged
	w.believed(cmd, &w.peers[indexOf(cmd.Close.Sig.By)])
	l := &w.loads[w.loadOf(cmd.Close.Workload)]
	l.paid += res.Charged
	w.pays(l, &w.peers[indexOf(cmd.Close.Sig.By)], res.Charged, cmd.Close.Usage.WallMs)
	if w.checked(w.loadOf(cmd.Close.Workload)) {
		return // it is paid when its task is decided, perhaps with another result
	}
	if spent, earned := c.state.Account(owner(int(l.owner))).Spent, c.state.Account(cmd.Close.Sig.By).Earned; spent < l.paid || earned < res.Charged {
		w.fail(moneyKept, "workload %d has paid %d, its owner %d in all; the node has earned %d", cmd.Close.Workload, l.paid, spent, earned)
	}
}

// finish holds the whole mesh to what only the end shows.
func (w *World) finish() {
	if w.ended {
		return
	}
	w.ended = true
	w.integrate()
	var spent, earned int64
	for i := range w.cells {
		for _, a := range w.cells[i].state.Accounts() {
			spent += a.Spent
			earned += a.Earned
		}
		_, head := w.cells[i].state.Head()
		for k := 0; k < len(head); k += 8 {
			w.mix(uint64(head[k])<<56 | uint64(head[k+1])<<48 | uint64(head[k+2])<<40 | uint64(head[k+3])<<32 |
				uint64(head[k+4])<<24 | uint64(head[k+5])<<16 | uint64(head[k+6])<<8 | uint64(head[k+7]))
		}
	}
	if spent != earned || spent != w.charged {
		w.fail(moneyKept, "owners have spent %d, nodes earned %d, closes charged %d", spent, earned, w.charged)
	}
	for i := range w.loads {
		w.checkKept(int32(i))
	}
	w.checkEnds()
}

// checkKept wants every acknowledged workload in its ledger, ended if it ended.
func (w *World) checkKept(i int32) {
	l := &w.loads[i]
	if !l.known || l.buried {
		return
	}
	phase, ok := w.cells[l.cell].state.Phase(l.id)
	if !ok || phase.Ended() != (l.ended > 0) || l.ended > 0 && phase == workload.Stopped {
		w.fail(nothingLost, "workload %d was acknowledged; at the end its phase is %q", i, phase)
	}
}
