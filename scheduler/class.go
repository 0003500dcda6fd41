package scheduler

import (
	"bytes"
	"cmp"
	"container/heap"
	"slices"

	"github.com/perrin-mesh/perrin/workload"
)

// Lot is what one workload wants now: slots of one shape under one set of rules.
type Lot struct {
	Workload workload.ID
	Owner    workload.PeerID
	Shape    workload.Resources
	Kind     workload.Kind
	Host     string // a program that the node must have, or ""
	Where    string
	MaxPrice int64             // micro-credits per slot-second; 0 is no limit
	Wanted   uint32            // slots now
	Since    int64             // ms, when it began to want: the oldest is served first
	Require  *workload.Require // what each node must prove, or nil
	// Countersign says that the voters sign each award before it is committed.
	Countersign bool
	Avoid       []workload.PeerID // nodes that failed it: called only when nobody else fits

	// Own says that Barred, nodes that must not be called for it, may come to hold
	// some: then no other lot shares its class.
	Own    bool
	Barred []workload.PeerID
}

// youth is how much younger, in ms, each slot makes a workload that wants more,
// so that those with none are served before it.
const youth = 10_000

// Of returns the lot with all that a spec says of it, of a workload that has live
// slots. The daemon and the simulator make theirs with it.
func (l Lot) Of(spec *workload.Spec, live uint32) *Lot {
	l.Shape, l.Kind, l.Host, l.Where = spec.Resources, spec.Program.Kind, spec.Program.Host, spec.Where
	l.MaxPrice, l.Require, l.Countersign, l.Own = spec.MaxPrice, spec.Require, spec.Countersign, spec.VerifyBy != nil
	l.Since += youth * int64(live)
	return &l
}

// classKey is what decides which nodes fit a lot.
type classKey struct {
	shape    workload.Resources
	host     string
	maxPrice int64
	require  string // workload.Require.Key
	rule     ruleKey
}

type ruleKey struct {
	kind  workload.Kind
	where string
	level workload.Level // that is to be proved, or LevelNone
}

func keyOf(lot *Lot) classKey {
	k := classKey{
		shape: lot.Shape, host: lot.Host, maxPrice: lot.MaxPrice, require: lot.Require.Key(),
		rule: ruleKey{kind: lot.Kind, where: lot.Where, level: lot.Require.Least()},
	}
	if lot.Own {
		k.require += " own " + string(lot.Workload.Random[:])
	}
	return k
}

// class is the lots that fit the same nodes.
type class struct {
	key     classKey
	rule    *rule
	lots    int   // of this class in all
	queue   queue // those that wait for a node, the oldest first
	index   int   // in the desk's list
	due     bool  // it is on the desk's list of classes to serve
	blocked bool  // nobody fits; meanwhile
	next    int64 // ms, when it is looked at again, and
	backoff int64 // ms, what it waited last
	askAt   int64 // ms, not before: siblings are asked
	asked   bool
	passed  map[workload.PeerID]mark // nodes that declined
	barred  []workload.PeerID        // of its only lot
}

// newClass returns a class of no lot with rules of its own.
func newClass(key classKey) *class {
	return &class{key: key, rule: newRule(key.rule), passed: map[workload.PeerID]mark{}}
}

// rule remembers which machines can ever run lots of a kind under a condition.
type rule struct {
	kind    workload.Kind
	where   workload.Where
	level   workload.Level
	classes int
	suits   []suit // by entry.slot
}

type suit struct {
	machine uint64 // the entry.machine that it is about
	reasons []workload.Reason
}

func newRule(key ruleKey) *rule {
	where, _ := workload.ParseWhere(key.where) // validated when the spec was accepted
	return &rule{kind: key.kind, where: where, level: key.level}
}

// unsuited returns why a node can never run lots of this rule.
func (r *rule) unsuited(e *entry) []workload.Reason {
	if len(r.suits) <= e.slot {
		r.suits = append(r.suits, make([]suit, e.slot+1-len(r.suits)+64)...)
	}
	s := &r.suits[e.slot]
	if s.machine != e.machine {
		*s = suit{machine: e.machine, reasons: Unsuited(&e.offer.Machine, r.kind, r.where, r.level)}
	}
	return s.reasons
}

// lapse is what ends a mark before its time.
type lapse uint8

const (
	atOffer lapse = iota // the node's next offer, or something there becomes free
	atTerms              // new asks, or another machine
	atTime               // nothing
)

// mark remembers why a node is not called for a while.
type mark struct {
	until   int64 // ms; 0 is never marked
	backoff int64 // ms
	lapse   lapse
	news    uint64 // of the entry that it is about
	terms   uint64
	reasons []workload.Reason
}

// again returns the mark that follows m: it holds twice as long as m did,
// within least and most, unless m is long past.
func (m mark) again(now int64, e *entry, how lapse, least, most int64, reasons []workload.Reason) mark {
	backoff := least
	if now <= m.until+most {
		backoff = min(max(2*m.backoff, least), most)
	}
	return mark{until: now + backoff, backoff: backoff, lapse: how, news: e.news, terms: e.terms, reasons: reasons}
}

func (m *mark) holds(e *entry, now int64) bool {
	switch {
	case now >= m.until:
		return false
	case m.lapse == atOffer:
		return m.news == e.news
	case m.lapse == atTerms:
		return m.terms == e.terms
	}
	return true
}

// slots returns how many slots of the class a node seems to have for it now.
func (c *class) slots(e *entry, now int64) uint32 {
	n := e.left(now, &c.key.shape)
	if n == 0 || e.expires <= now || e.offer.Drain || e.doubt.holds(e, now) || c.bars(e) {
		return 0
	}
	if m, ok := c.passed[e.offer.Node]; ok && m.holds(e, now) {
		return 0
	}
	if c.key.maxPrice > 0 && e.rate(c.key.shape) > c.key.maxPrice || len(c.rule.unsuited(e)) > 0 {
		return 0
	}
	return n
}

// bars reports whether a node must not be called.
func (c *class) bars(e *entry) bool {
	return len(c.barred) > 0 && slices.Contains(c.barred, e.offer.Node)
}

// misfit returns every reason why slots is 0.
func (c *class) misfit(e *entry, now int64) []workload.Reason {
	switch {
	case e.expires <= now:
		return []workload.Reason{{Code: workload.OfferExpired}}
	case e.offer.Drain:
		return []workload.Reason{{Code: workload.Draining}}
	case c.bars(e):
		return []workload.Reason{{Code: workload.RanBefore}}
	case e.doubt.holds(e, now):
		return e.doubt.reasons
	}
	if m, ok := c.passed[e.offer.Node]; ok && m.holds(e, now) {
		return m.reasons
	}
	reasons := append([]workload.Reason(nil), c.rule.unsuited(e)...)
	reasons = append(reasons, short(e.offer.Machine.Total, e.offer.Free, c.key.shape)...)
	if ask := e.rate(c.key.shape); c.key.maxPrice > 0 && ask > c.key.maxPrice {
		reasons = append(reasons, workload.Reason{Code: workload.PriceAboveMax, Want: c.key.maxPrice, Have: ask})
	}
	if len(reasons) == 0 {
		reasons = []workload.Reason{{Code: workload.Busy, Note: "what it has free is called for by other lots"}}
	}
	return reasons
}

// candidate is a node worth calling for a lot.
type candidate struct {
	entry *entry
	slots uint32 // that its offer seems to allow
	floor int64  // cost of its first slot by its offer: no bid of it is lower
	score workload.Score
}

// search appends to fit the nodes that seem to fit, and to notes, up to most of
// them in all, why others do not.
func (c *class) search(nodes []*entry, now int64, fit []candidate, notes []workload.DeclineNote, most int) ([]candidate, []workload.DeclineNote) {
	for _, e := range nodes {
		if n := c.slots(e, now); n > 0 {
			score := e.score()
			fit = append(fit, candidate{entry: e, slots: n, score: score, floor: Cost(e.rate(c.key.shape), score)})
		} else if len(notes) < most {
			notes = append(notes, workload.DeclineNote{Node: e.offer.Node, Reasons: c.misfit(e, now)})
		}
	}
	return fit, notes
}

func cheaper(x, y candidate) int {
	if c := cmp.Compare(x.floor, y.floor); c != 0 {
		return c
	}
	return bytes.Compare(x.entry.offer.Node[:], y.entry.offer.Node[:])
}

// phase is where a lot stands on the desk.
type phase uint8

const (
	waiting  phase = iota // in its class's queue
	calling               // its auction is open
	awarding              // an award is on its way to the log
	resting               // until lotState.next
	gone                  // off the desk
)

// lotState is a lot and its auction, if one is open.
type lotState struct {
	lot     Lot
	class   *class
	phase   phase
	index   int // in the queue
	auction *auction
	before  uint32 // slots that it wanted when its last award was made
	moved   bool   // it wanted less since
	stalled bool   // its last award changed nothing
	next    int64  // ms
	backoff int64  // ms
	last    *Round
}

// queue is a heap of lots, the one that has waited longest first.
type queue []*lotState

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return older(q[i], q[j]) }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

// Push implements heap.Interface.
func (q *queue) Push(x any) {
	l := x.(*lotState)
	l.index = len(*q)
	*q = append(*q, l)
}

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	old := *q
	l := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return l
}

func older(x, y *lotState) bool {
	if x.lot.Since != y.lot.Since {
		return x.lot.Since < y.lot.Since
	}
	return bytes.Compare(x.lot.Workload.Random[:], y.lot.Workload.Random[:]) < 0
}

func (c *class) push(l *lotState) {
	l.phase = waiting
	heap.Push(&c.queue, l)
}

func (c *class) remove(l *lotState) { heap.Remove(&c.queue, l.index) }

// classes is a heap of classes that have a lot waiting, the one with the oldest first.
type classes []*class

func (h classes) Len() int           { return len(h) }
func (h classes) Less(i, j int) bool { return older(h[i].queue[0], h[j].queue[0]) }
func (h classes) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *classes) Push(x any) { *h = append(*h, x.(*class)) }

// Pop implements heap.Interface.
func (h *classes) Pop() any {
	old := *h
	c := old[len(old)-1]
	*h = old[:len(old)-1]
	return c
}
