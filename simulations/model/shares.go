package model

import "math"

// ownerTime is, of one owner's measured workloads that succeeded, how long their
// longest tasks take on a reference core, and their time in the mesh, both in ns.
type ownerTime struct{ ideal, took float64 }

// fairness is Jain's index over the owners (Jain, Chiu and Hawe, DEC-TR-301, 1984):
// (sum x)^2 / (n x sum x^2), where x is the share of its time in the mesh that an
// owner's work would take alone. 1 is the same for all; 1/n all for one.
func (w *World) fairness() float64 {
	var n, sum, squares float64
	for _, o := range w.owners {
		if o.took > 0 {
			x := o.ideal / o.took
			n, sum, squares = n+1, sum+x, squares+float64(x*x)
		}
	}
	if n == 0 {
		return math.NaN()
	}
	return float64(sum*sum) / float64(n*squares)
}

// lostTask remembers that a task that ran was ended by its node's fall or by the end
// of its lease.
func (w *World) lostTask(s *slot) {
	if w.lost == nil {
		w.lost = map[taskRef]int64{}
	}
	if at := (taskRef{s.load, s.task}); w.lost[at] == 0 {
		w.lost[at] = w.now
	}
}

// taskRef names a task.
type taskRef struct {
	load int32
	task uint32
}

// recovered notes that a task runs again that was lost.
func (w *World) recovered(s *slot) {
	at := taskRef{s.load, s.task}
	since, was := w.lost[at]
	if !was {
		return
	}
	delete(w.lost, at)
	if w.counts(w.loads[s.load].arrived) {
		w.recovery.Add(w.now - since)
	}
}

// watts changes what all machines take, in mW, by what one draws when it comes or
// goes or its threads are given out: idle power and a part in proportion to the
// threads in use (Fan, Weber and Barroso, ISCA 2007, find the proportion within 1 %
// over a fleet; it is rougher for one machine).
func (w *World) watts(p *peer, up, threads int64) {
	m := &w.sc.Machines[p.class]
	if m.Busy == 0 {
		return
	}
	w.integrate()
	w.power += up*m.Idle + threads*(m.Busy-m.Idle)/int64(m.Cores*m.Threads)
}

// joules is the energy of all machines for a second of a reference core in the
// workloads that succeeded; NaN where no machine has a power.
func (w *World) joules() float64 {
	var service float64
	for _, s := range w.done.service {
		service += s
	}
	if w.energy == 0 || service == 0 {
		return math.NaN()
	}
	return w.energy / 1000 / service
}

// counted takes a peer that comes, or goes with -1, into the integrals.
func (w *World) counted(p *peer, by int64) {
	t := &w.parks[p.class].Total
	w.upThreads += by * int64(t.Threads)
	w.upPeers += by
	w.upCores += by * int64(t.Cores)
	w.watts(p, by, 0)
}

// usedCores changes how many cores have a slot, beside those of idle time.
func (w *World) usedCores(by int64) {
	w.integrate()
	w.coresUsed += by
}
