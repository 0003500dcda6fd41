package ledger

import (
	"maps"
	"slices"

	"github.com/perrin-mesh/perrin/workload"
)

// A workload that its owner wants verified runs each task on several nodes. What
// its sets and slots hold are then replicas, not tasks: replica number lane of a
// task is lane*tasks+task, so that each is in one place like a task of any other
// workload. Others see the task and an attempt, of which each replica has its own:
// (try-1)*runs+lane+1, where runs is the most that a task may have.
//
// A task begins with as many replicas as must agree. One more opens when a result
// makes that impossible, so that what already agrees and what still runs are as
// many as must agree, until a result is accepted or the task has had all its runs.
// Where the owner lets nodes with a record run alone it begins with one; see adaptive.

// poll is one task on which too few nodes agree as yet.
type poll struct {
	votes []int             // of Record.Segments, in order
	held  []workload.PeerID // nodes that have a replica now, in the order in which they got it
	lanes uint32            // replicas that were opened
}

// verified reports whether each task runs on several nodes.
func (l *load) verified() bool { return l.Spec.VerifyBy != nil }

// taskOf and laneOf read the number of a replica.
func (l *load) taskOf(unit uint32) uint32 { return unit % l.total() }
func (l *load) laneOf(unit uint32) uint32 { return unit / l.total() }

// shown returns runs as others see them.
func (l *load) shown(runs []Run) []workload.Range {
	if !l.verified() {
		return wireRanges(runs)
	}
	var out []workload.Range
	for _, r := range runs {
		for unit := r.From; unit < r.end(); unit++ {
			out = appendTask(out, l.taskOf(unit), (r.Attempt-1)*l.Spec.Runs()+l.laneOf(unit)+1)
		}
	}
	return out
}

// meant is the inverse of shown for one range; false when no set can hold it.
func (l *load) meant(r workload.Range) (workload.Range, bool) {
	if !l.verified() {
		return r, true
	}
	if r.Attempt == 0 || uint64(r.From)+uint64(r.Count) > uint64(l.total()) {
		return r, false
	}
	try, lane := (r.Attempt-1)/l.Spec.Runs()+1, (r.Attempt-1)%l.Spec.Runs()
	return workload.Range{From: lane*l.total() + r.From, Count: r.Count, Attempt: try}, true
}

// cut takes what others call r out of a slot's set.
func (l *load) cut(set *runSet, r workload.Range) ([]Run, bool) {
	m, ok := l.meant(r)
	if !ok {
		return nil, false
	}
	return set.cut(m)
}

// poll returns the poll of a task, a new one at need.
func (l *load) poll(task uint32) *poll {
	p := l.polls[task]
	if p == nil {
		p = &poll{lanes: l.Spec.VerifyBy.Start()}
		l.polls[task] = p
	}
	return p
}

// got and lost note that a node has replicas, or has them no more.
func (l *load) got(node workload.PeerID, runs []Run) {
	if !l.verified() {
		return
	}
	for _, r := range runs {
		for unit := r.From; unit < r.end(); unit++ {
			p := l.poll(l.taskOf(unit))
			p.held = append(p.held, node)
		}
	}
}

func (l *load) gone(node workload.PeerID, runs []Run) {
	if !l.verified() {
		return
	}
	l.opened++
	for _, r := range runs {
		for unit := r.From; unit < r.end(); unit++ {
			p := l.poll(l.taskOf(unit))
			if i := slices.Index(p.held, node); i >= 0 {
				p.held = slices.Delete(p.held, i, i+1)
			}
		}
	}
}

// ran reports whether a node has, or had, a replica of a task of which the first
// held ones of those that have one now count.
func (l *load) ran(p *poll, held int, is func(workload.PeerID) bool) bool {
	if slices.ContainsFunc(p.held[:held], is) {
		return true
	}
	return slices.ContainsFunc(p.votes, func(i int) bool { return is(l.Segments[i].Node) })
}

// operators tells who operates nodes, as far as a ledger knows it.
type operators struct {
	s     *State
	shown map[workload.PeerID]workload.PeerID // by certificates that come with the command
	many  bool                                // there are several
}

func (s *State) operators(l *load) *operators {
	o := &operators{s: s}
	firms := map[workload.PeerID]bool{}
	for _, m := range s.members {
		firms[m.Operator] = true
	}
	o.many = l.Mixed || len(firms) > 1
	return o
}

// learn reads who operates nodes from certificates that come with a command.
func (o *operators) learn(certs [][]byte) {
	o.shown = map[workload.PeerID]workload.PeerID{}
	if o.s.rules.OpenCert == nil {
		return
	}
	for _, raw := range certs {
		if c, err := o.s.rules.OpenCert(raw); err == nil {
			o.shown[c.Node] = c.Operator
		}
	}
}

// of is the operator of a node; one that is not known counts as its own.
func (o *operators) of(node workload.PeerID) workload.PeerID {
	if m := o.s.members[node]; m != nil {
		return m.Operator
	}
	if op, ok := o.shown[node]; ok && !op.IsZero() {
		return op
	}
	if list := o.s.certs[node]; len(list) > 0 && !list[len(list)-1].Operator.IsZero() {
		return list[len(list)-1].Operator
	}
	return node
}

// picker finds replicas for nodes.
type picker struct {
	l       *load
	ops     *operators
	bidders []workload.PeerID // operators of all that bid, each once; none in a Take
	fresh   map[uint32]int    // replicas of a task that this award gave
	at      map[workload.PeerID]cursor
	looks   int // at a replica for a node
}

func (s *State) picker(l *load) *picker {
	return &picker{l: l, ops: s.operators(l), fresh: map[uint32]int{}, at: map[workload.PeerID]cursor{}}
}

// bid tells the picker who bid in an auction. A member's operator that nobody had
// before makes them several.
func (p *picker) bid(e *entry, bids []workload.Signed) {
	p.ops.learn(e.certs)
	for _, b := range bids {
		if op := p.ops.of(b.By); !slices.Contains(p.bidders, op) {
			p.bidders = append(p.bidders, op)
		}
	}
	own := func(op workload.PeerID) bool { return p.ops.isMembers(op) }
	if !p.ops.many && !(len(p.bidders) == 0 || len(p.bidders) == 1 && own(p.bidders[0])) {
		p.l.Mixed, p.ops.many = true, true
	}
}

// isMembers reports whether a member of the cell has the operator.
func (o *operators) isMembers(op workload.PeerID) bool {
	for _, m := range o.s.members {
		if m.Operator == op {
			return true
		}
	}
	return false
}

// may reports whether a node may run a replica of a task: it has not before, and
// nor has another node of its operator, where there are several operators, unless
// in this auction only such have bid which had one before.
func (p *picker) may(node workload.PeerID, task uint32) bool {
	poll := p.l.polls[task]
	if poll == nil {
		return true
	}
	if p.l.ran(poll, len(poll.held), func(n workload.PeerID) bool { return n == node }) {
		return false
	}
	if !p.ops.many {
		return true
	}
	op := p.ops.of(node)
	if !p.l.ran(poll, len(poll.held), func(n workload.PeerID) bool { return p.ops.of(n) == op }) {
		return true
	}
	return len(p.bidders) > 0 && !slices.ContainsFunc(p.bidders, func(op workload.PeerID) bool {
		return !p.l.ran(poll, len(poll.held)-p.fresh[task], func(n workload.PeerID) bool { return p.ops.of(n) == op })
	})
}

// shunned returns the nodes that may run none of the replicas that are open, and
// among the cell's members those of which the same is true of their operator.
func (s *State) shunned(l *load) (nodes, alike []workload.PeerID) {
	ops := s.operators(l)
	var firms []workload.PeerID
	seen := false
	for _, set := range []*runSet{&l.retry, &l.fresh} {
		for _, r := range set.runs {
			for unit := r.From; unit < r.end(); unit++ {
				p := l.polls[l.taskOf(unit)]
				switch {
				case p == nil:
					return nil, nil
				case !seen:
					nodes = append(nodes, p.held...)
					for _, i := range p.votes {
						nodes = append(nodes, l.Segments[i].Node)
					}
					for _, n := range nodes {
						firms = append(firms, ops.of(n))
					}
					seen = true
				}
				nodes = slices.DeleteFunc(nodes, func(n workload.PeerID) bool {
					return !l.ran(p, len(p.held), func(x workload.PeerID) bool { return x == n })
				})
				firms = slices.DeleteFunc(firms, func(op workload.PeerID) bool {
					return !l.ran(p, len(p.held), func(x workload.PeerID) bool { return ops.of(x) == op })
				})
				if len(firms) == 0 { // then no node is left either
					return nil, nil
				}
			}
		}
	}
	if ops.many {
		alike = ops.run(firms, nodes)
	}
	return nodes, alike
}

// run lists the known nodes of some operators, but for those in not.
func (o *operators) run(firms, not []workload.PeerID) (out []workload.PeerID) {
	known := slices.Concat(sortedPeers(maps.Keys(o.s.members)), sortedPeers(maps.Keys(o.s.certs)))
	for _, n := range known {
		if slices.Contains(firms, o.of(n)) && !slices.Contains(not, n) && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

// countReplicated counts the tasks of a workload that is verified. Of those that
// are not decided as many count as taken as replicas are in slots.
func (l *load) countReplicated() Counts {
	c := Counts{Total: l.total(), Done: l.done.n, Failed: l.failed.n}
	for _, sl := range l.slots {
		c.Taken += sl.open.n
	}
	c.Taken = min(c.Taken, c.Total-c.Done-c.Failed)
	c.Open = c.Total - c.Done - c.Failed - c.Taken
	return c
}

// replicated says where the page's tasks of a workload that is verified stand, in
// place of what is known of those that are closed.
func (l *load) replicated(p *page) {
	for i := range p.tasks {
		index := p.tasks[i].Index
		_, done := l.done.at(index)
		if _, failed := l.failed.at(index); !done && !failed {
			p.tasks[i] = Task{Index: index, State: TaskOpen}
		}
	}
	for _, sl := range l.sortedSlots() {
		for _, r := range sl.open.runs {
			for unit := r.From; unit < r.end(); unit++ {
				p.each(l.taskOf(unit), l.taskOf(unit)+1, func(t *Task) {
					if t.State == TaskOpen {
						t.State, t.Slot, t.Node, t.Rate = TaskTaken, sl.ID, sl.Node, sl.Rate
					}
				})
			}
		}
	}
	for i := range l.Segments {
		if seg := &l.Segments[i]; seg.Vote != nil {
			p.each(seg.Vote.Task, seg.Vote.Task+1, func(t *Task) {
				t.Votes = append(t.Votes, TaskVote{Node: seg.Node, Slot: seg.Slot, Cost: seg.Cost, Vote: *seg.Vote})
			})
		}
	}
}

// TaskVote is the result of one replica of a task, and who returned it.
type TaskVote struct {
	Node workload.PeerID `json:"node"`
	Slot workload.SlotID `json:"slot"`
	Cost int64           `json:"cost"` // micro-credits that were paid for it
	Vote
}
