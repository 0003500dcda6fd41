package model

import (
	"github.com/perrin-mesh/perrin/scheduler/capacity"
	"github.com/perrin-mesh/perrin/scheduler/pricing"
	"github.com/perrin-mesh/perrin/simulations/scenario"
	"github.com/perrin-mesh/perrin/workload"
)

// How fast a task runs while others run beside it. A whole core is as fast as the
// reference, whatever else the machine does. Threads of a core that are busy at
// once share its speed-up, the figure by which the product prices them
// (pricing.Config.SMT). Idle time runs where the allocator lets it, waits where it
// says so, and gives its task back where it must go. Only worlds in which threads,
// idle time or false cores are sold pay for this.

// How long spare work has from its notice to its end, as in node/worker, and how
// long it waits before it gives its tasks back, as in node/load.
const (
	spareGrace    = 5000 * millisecond
	sparePatience = 30_000 * millisecond
)

// sharing reports whether tasks of a scenario can slow each other down.
func sharing(sc *scenario.Scenario) bool {
	for i := range sc.Workloads {
		if sc.Workloads[i].Shape.Class != workload.Core {
			return true
		}
	}
	for i := range sc.Attackers {
		if does := sc.Attackers[i].Does; does == scenario.Oversells || does == scenario.Sybils {
			return true
		}
	}
	return false
}

// smt is the speed of all threads of a core of a machine against one alone.
func smt(m *scenario.Machine) int64 {
	switch {
	case m.Threads == 1:
		return 1000
	case m.SMT > 0:
		return m.SMT
	}
	return pricing.Default().SMT
}

// perThread is the speed, in permille, of each of n busy threads of a core: the
// speed-up grows evenly from the first thread to the last.
func perThread(m *scenario.Machine, n int64) int64 {
	if n <= 1 || m.Threads == 1 {
		return 1000
	}
	return (1000 + (smt(m)-1000)*(n-1)/int64(m.Threads-1)) / n
}

// rerate looks at how fast each task of a peer runs now, and moves their ends.
func (w *World) rerate(on int32) {
	if !w.shares {
		return
	}
	if at := w.peers[on].sybil; at > 0 {
		for _, name := range w.sybils[at-1].names {
			w.rerateOne(name)
		}
		return
	}
	w.rerateOne(on)
}

func (w *World) rerateOne(on int32) {
	p := &w.peers[on]
	w.countBusy(p)
	w.busyAll += w.busyElsewhere(on)
	for _, i := range p.slots {
		s := &w.slots[i]
		rate := w.rateOf(p, s)
		if rate == s.rate {
			continue
		}
		w.progress(s)
		w.lendTime(s, rate)
		if s.rate = rate; rate == 0 {
			s.ends = 0
			continue
		}
		s.ends = w.now + (s.left*1000+rate-1)/rate
		w.push(s.ends, event{kind: taskEnd, a: on, b: i, c: s.gen})
	}
}

// progress takes what a task has done since its rate changed off what is left.
func (w *World) progress(s *slot) {
	s.left = max(0, s.left-(w.now-s.since1)*s.rate/1000)
	if s.rate > 0 {
		s.ran += w.now - s.since1
	}
	s.since1 = w.now
}

// countBusy counts the threads of each core of a peer that are busy with reserved
// work, and all of them.
func (w *World) countBusy(p *peer) {
	cores := int(w.park(p).Total.Cores)
	if len(w.busyOn) < cores {
		w.busyOn = make([]int32, cores)
	}
	clear(w.busyOn)
	w.busyAll = 0
	threads := w.sc.Machines[p.class].Threads
	for _, i := range p.slots {
		s := &w.slots[i]
		if !s.running || s.class == workload.Spare {
			continue
		}
		w.busyAll += int64(len(s.cpus))
		for _, cpu := range s.cpus {
			w.busyOn[cpu/threads]++
		}
	}
}

// rateOf is the speed of a slot's task in permille of what it has to itself.
func (w *World) rateOf(p *peer, s *slot) int64 {
	m := &w.sc.Machines[p.class]
	rate := int64(1000)
	switch {
	case !s.running || s.verdict != capacity.Runs:
		return 0
	case s.class == workload.Thread:
		sum := int64(0)
		for _, cpu := range s.cpus {
			sum += perThread(m, int64(w.busyOn[cpu/m.Threads]))
		}
		rate = sum / int64(len(s.cpus))
	case s.class == workload.Spare: // the kernel spreads it over the cores it may use
		cores := max(int64(len(s.cpus)/m.Threads), 1)
		busy := (int64(w.specs[w.loads[s.load].stream].Resources.CPUs) + cores - 1) / cores
		rate = perThread(m, min(busy, int64(m.Threads)))
	}
	if has := int64(m.Cores * m.Threads); w.busyAll > has { // of who sold more than it has
		rate = max(1, rate*has/w.busyAll)
	}
	return rate
}

// tend has the spare slots of a peer run, wait or go, by the allocator's verdict,
// after reserved work came or went.
func (w *World) tend(on int32) {
	p := &w.peers[on]
	if p.alloc == nil || !p.alloc.Lending() {
		return
	}
	for _, lent := range p.alloc.Lent() {
		for _, i := range p.slots {
			s := &w.slots[i]
			if s.id != lent.Key.Slot || w.loads[s.load].id != lent.Key.Workload {
				continue
			}
			w.settleSpare(on, i, &lent)
		}
	}
	w.rerate(on)
}

func (w *World) settleSpare(on, i int32, lent *capacity.Lent) {
	s := &w.slots[i]
	switch {
	case s.leaving:
		if lent.NoCore { // it may not run beside other tenants
			s.verdict = capacity.Waits
		}
	case lent.Verdict == capacity.MustGo:
		w.giveNotice(on, i)
	case lent.Verdict == capacity.Waits:
		if s.verdict == capacity.Runs {
			s.goes = w.now + sparePatience
			w.push(s.goes, event{kind: giveWay, a: on, b: i, c: s.gen})
		}
		s.verdict, s.cpus = capacity.Waits, nil
	default:
		s.verdict, s.cpus, s.goes = capacity.Runs, lent.CPUs, 0
	}
}

// giveNotice gives a spare slot notice.
func (w *World) giveNotice(on, i int32) {
	s := &w.slots[i]
	s.leaving, s.goes = true, w.now
	if s.verdict == capacity.Runs {
		s.goes += spareGrace
	}
	w.push(s.goes, event{kind: giveWay, a: on, b: i, c: s.gen})
}

// giveWay ends a spare slot whose notice, or patience, is over: what it runs
// another node runs.
func (w *World) giveWay(e *event) {
	s := &w.slots[e.b]
	if !s.live || s.gen != e.c || s.ending || s.goes != w.now {
		return
	}
	w.preempted++
	if s.running {
		w.progress(s)
		w.lendTime(s, 0)
		s.running, s.rate = false, 0
		w.ended1(s)
		s.batch = s.batch[:len(s.batch)-1]
	}
	s.queue, s.asking, s.last = nil, false, true
	w.finishSlot(e.a, e.b)
}

// lendTime keeps account of the idle time that is used.
func (w *World) lendTime(s *slot, rate int64) {
	if s.class != workload.Spare || (rate > 0) == (s.rate > 0) {
		return
	}
	w.integrate()
	n := int64(w.specs[w.loads[s.load].stream].Resources.CPUs)
	if rate == 0 {
		n = -n
	}
	w.lent += n
}
