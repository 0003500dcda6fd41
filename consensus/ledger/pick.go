package ledger

import "github.com/perrin-mesh/perrin/workload"

// cursor is how far a picker looked through what is open for one node: first
// through what is to be tried again. What it passed the node may not run: while one
// command is applied replicas only go to nodes, and then no more of them are free.
type cursor struct {
	set  int    // 0 is retry, 1 fresh
	unit uint32 // the next one to look at
}

// pick takes up to count replicas that a node may run, at most one of a task. A
// replica is looked at once for a node, and maxLooks of them in all: then nothing
// more is found.
func (p *picker) pick(node workload.PeerID, count uint32) (out []Run) {
	sets, at := [...]*runSet{&p.l.retry, &p.l.fresh}, p.at[node]
	for at.set < len(sets) && count > 0 && p.looks < maxLooks {
		set := sets[at.set]
		i := set.find(at.unit)
		if i == len(set.runs) {
			at = cursor{set: at.set + 1}
			continue
		}
		p.looks++
		r := set.runs[i]
		unit := max(at.unit, r.From)
		at.unit = unit + 1
		if task := p.l.taskOf(unit); p.may(node, task) {
			runs, _ := set.cut(workload.Range{From: unit, Count: 1, Attempt: r.Attempt})
			p.l.got(node, runs)
			p.ops.s.widen(p.l, node, task)
			p.fresh[task]++
			out = append(out, runs...)
			count--
		}
	}
	p.at[node] = at
	return out
}

// vain are the nodes that asked for more of a workload that is verified and got
// nothing, until more opens or it becomes known who operates some node.
type vain struct {
	opened, known uint64
	nodes         map[workload.PeerID]bool
}

// more takes what a slot that asks for it runs next. It looks for a node that got
// nothing only when that may have changed.
func (s *State) more(l *load, sl *slot, count uint32) []Run {
	if v := &l.vain; v.nodes == nil || v.opened != l.opened || v.known != s.known {
		*v = vain{l.opened, s.known, map[workload.PeerID]bool{}}
	}
	if count == 0 || l.vain.nodes[sl.Node] {
		return nil
	}
	p := s.picker(l)
	out := p.pick(sl.Node, count)
	s.looked += uint64(p.looks)
	if len(out) == 0 {
		l.vain.nodes[sl.Node] = true
	}
	return out
}
