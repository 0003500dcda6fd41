package scheduler

import (
	"container/heap"
	"errors"
	"slices"

	"github.com/perrin-mesh/perrin/workload"
)

// Config bounds an auction. Durations are ms.
type Config struct {
	K         int   // nodes called for one slot: 1 to MaxCalled
	MaxCalled int   // nodes called at most, whatever the lot: 1 to 128
	CallMin   int64 // an auction is open at least this long unless it is decided
	CallMax   int64 // and at most this long, however far a node is: below the hold of a bid
	LateFor   int64 // a bid that comes this long after the close is still released
	RetryMin  int64 // before what found nothing is tried again, doubling up to RetryMax
	RetryMax  int64
	// PassFor is how long a node is passed over that declined lots of a class
	// for a reason that lasts, such as a missing program. Its new asks or a
	// change of the machine end it earlier.
	PassFor  int64
	MaxAward uint32 // slots of one award at most
	AskGap   int64  // between two questions to siblings, of all lots
	StartMax int64  // a bid that cannot start within this is not one for free capacity
	// DataPrice is what each GiB that a bidder would have to fetch adds to its
	// cost, in micro-credits per slot-second: it prefers nodes that have the data.
	DataPrice int64
}

// DefaultConfig is what a node uses.
func DefaultConfig() Config {
	return Config{
		K: 3, MaxCalled: 64, CallMin: 150, CallMax: 1500, LateFor: 3000, RetryMin: 100, RetryMax: 2000, PassFor: 30_000,
		MaxAward: 512, AskGap: 20, StartMax: 1000, DataPrice: 10,
	}
}

// Validate returns an error that names the field and its range.
func (c Config) Validate() error {
	switch {
	case c.K < 1 || c.K > c.MaxCalled || c.MaxCalled > 128:
		return errors.New("scheduler: K: want 1 to MaxCalled, and MaxCalled at most 128")
	case c.CallMin < 1 || c.CallMax < c.CallMin || c.LateFor < 1:
		return errors.New("scheduler: CallMin, CallMax, LateFor: want 1 ms or more, CallMax at least CallMin")
	case c.RetryMin < 1 || c.RetryMax < c.RetryMin || c.PassFor < c.RetryMax:
		return errors.New("scheduler: RetryMin, RetryMax, PassFor: want 1 ms or more, each at least the one before")
	case c.MaxAward < 1 || c.MaxAward > 4096:
		return errors.New("scheduler: MaxAward: want 1 to 4096")
	case c.AskGap < 0 || c.StartMax < 0:
		return errors.New("scheduler: AskGap, StartMax: want 0 ms or more")
	case c.DataPrice < 0 || c.DataPrice > 1_000_000_000:
		return errors.New("scheduler: DataPrice: want 0 to 1,000,000,000")
	}
	return nil
}

// Input is one thing that happened; exactly one field is set.
type Input struct {
	Offer     *OfferIn
	Gone      *workload.PeerID // the node left or was given up
	Freed     *Freed           // a slot there has ended
	Lot       *Lot             // what a workload wants now; Wanted 0 takes it off the desk
	Bid       *BidIn
	Decline   *Decline
	Siblings  *SiblingsIn
	Committed *workload.ID // the award of this workload is committed, or was given up: it may be auctioned again
}

// Decline is a node's decline, or the shell's own for a node that could not be
// reached. One of no auction (the zero AuctionID) says that the node refused an
// award: nobody calls it for a while.
type Decline = workload.Decline

// OfferIn is an offer with what the leader measured of its node.
type OfferIn struct {
	Offer     workload.Offer
	RTTMicros int64
	RiskPPM   int64
}

// BidIn is a verified bid with its signed form, which becomes evidence.
type BidIn struct {
	Bid    workload.Bid
	Signed workload.Signed
	Proved *workload.Proved // what the lot requires, where it requires something
}

// Freed says that a node has the capacity of a slot again, since its offer Seq:
// what a later offer says of it counts and this does not.
type Freed struct {
	Node  workload.PeerID
	Shape workload.Resources
	Seq   uint64
}

// SiblingsIn answers AskSiblings: offers of nodes of other cells.
type SiblingsIn struct {
	Workload workload.ID
	Offers   []OfferIn
	DHT      bool // they came from the DHT
}

// Output is one thing for the shell to do; exactly one field is set.
type Output struct {
	Call     *CallOut
	Ask      *AskSiblings
	Award    *Award
	Release  *Release
	WakeAtMs int64 // call Step again at this time if nothing happens before; set alone
}

// CallOut sends a call for bids to a node.
type CallOut struct {
	Node workload.PeerID
	Call workload.Call
	// Require is what the node must have proved before the call goes out; else
	// the shell declines in its place. Nil is nothing.
	Require *workload.Require
}

// AskSiblings asks sibling cells, and the DHT, for nodes that fit a lot which
// home cannot serve. What they offer serves every lot of its class.
type AskSiblings struct{ Lot Lot }

// Award is a clearing to commit.
type Award struct {
	Workload workload.ID
	Auction  workload.AuctionID
	Wanted   uint32
	MaxPrice int64
	Bids     []workload.Signed
	Scores   []workload.Score
	Slots    []workload.AwardSlot
	Declines []workload.DeclineNote // of all that were asked, and of some that were not
	Proved   []*workload.Proved     // of each node with slots, where the lot requires something

	Countersign bool // as the lot says
}

// Release tells a node that its hold for an auction is not needed.
type Release struct {
	Node    workload.PeerID
	Auction workload.AuctionID
}

// Desk is the leader's scheduling state. It is not safe for concurrent use.
type Desk struct {
	cfg  Config
	self workload.PeerID
	cell workload.CellID
	now  int64

	book     *book
	lots     map[workload.ID]*lotState
	byKey    map[classKey]*class
	classes  []*class
	rules    map[ruleKey]*rule
	idle     ruleKey // of a rule that no class has: the next lot is likely of the same
	auctions map[workload.AuctionID]*auction
	open     []*auction // those not closed
	seq      uint64
	timers   timers
	timed    uint64
	askAt    int64

	due   []*class // to serve in this step
	freed []*entry // that may have more to give than when a class was blocked
	fit   []candidate
}

// NewDesk returns an empty desk of the leader self of a cell. salt makes its
// auction IDs differ from those of any other leader and term.
func NewDesk(cfg Config, self workload.PeerID, cell workload.CellID, salt uint64) *Desk {
	return &Desk{
		cfg: cfg, self: self, cell: cell, book: newBook(), seq: salt << 32,
		lots: map[workload.ID]*lotState{}, byKey: map[classKey]*class{}, rules: map[ruleKey]*rule{},
		auctions: map[workload.AuctionID]*auction{},
	}
}

// Step feeds one input (or none, when a wake-up time has come) at time now in
// ms, which never goes back, and returns what to do.
func (d *Desk) Step(now int64, in Input) []Output {
	d.now = now
	out := d.take(now, in)
	out = append(out, d.expire(now)...)
	out = append(out, d.serveDue(now)...)
	if at := d.next(); at > 0 {
		out = append(out, Output{WakeAtMs: max(at, now+1)})
	}
	return out
}

func (d *Desk) take(now int64, in Input) []Output {
	switch {
	case in.Offer != nil:
		d.free(d.book.post(in.Offer, false, false, now))
	case in.Gone != nil:
		return d.lose(now, *in.Gone)
	case in.Freed != nil:
		d.takeFreed(now, in.Freed)
	case in.Lot != nil:
		return d.setLot(*in.Lot)
	case in.Bid != nil:
		return d.takeBid(now, in.Bid)
	case in.Decline != nil:
		return d.takeDecline(now, in.Decline)
	case in.Siblings != nil:
		d.takeSiblings(now, in.Siblings)
	case in.Committed != nil:
		d.committed(now, *in.Committed)
	}
	return nil
}

func (d *Desk) takeSiblings(now int64, in *SiblingsIn) {
	for i := range in.Offers {
		d.free(d.book.post(&in.Offers[i], true, in.DHT, now))
	}
}

func (d *Desk) takeFreed(now int64, in *Freed) {
	if e := d.book.nodes[in.Node]; e != nil && e.offer.Seq <= in.Seq {
		e.refund(in.Shape, now, now+d.cfg.RetryMax)
		d.free(e)
	}
}

// free notes that a node may have more to give.
func (d *Desk) free(e *entry) {
	if e != nil && !e.freed {
		e.freed = true
		d.freed = append(d.freed, e)
	}
}

func (d *Desk) setLot(lot Lot) []Output {
	l := d.lots[lot.Workload]
	switch {
	case lot.Wanted == 0 && l == nil:
	case lot.Wanted == 0:
		return d.removeLot(l)
	case l == nil:
		l = &lotState{lot: lot}
		d.lots[lot.Workload] = l
		d.join(l)
		d.enqueue(l)
	default:
		d.changeLot(l, lot)
	}
	return nil
}

func (d *Desk) removeLot(l *lotState) []Output {
	if l.phase == waiting {
		l.class.remove(l)
	}
	var out []Output
	if l.auction != nil {
		out = d.cancel(l.auction)
	}
	l.phase = gone
	d.leave(l)
	delete(d.lots, l.lot.Workload)
	return out
}

func (d *Desk) changeLot(l *lotState, lot Lot) {
	more := lot.Wanted > l.lot.Wanted
	l.moved = l.moved || lot.Wanted < l.before
	queued := l.phase == waiting
	if queued {
		l.class.remove(l)
	}
	l.lot = lot
	if keyOf(&lot) != l.class.key {
		d.leave(l)
		d.join(l)
	} else if lot.Own && !slices.Equal(l.class.barred, lot.Barred) {
		l.class.barred = lot.Barred
		d.unblock(l.class)
	}
	if queued || more && l.phase == resting {
		d.enqueue(l)
	}
}

// enqueue lets a lot wait for a node.
func (d *Desk) enqueue(l *lotState) {
	l.class.push(l)
	if !l.class.blocked {
		d.makeDue(l.class)
	}
}

func (d *Desk) makeDue(c *class) {
	if !c.due {
		c.due = true
		d.due = append(d.due, c)
	}
}

// unblock lets a class be looked at again.
func (d *Desk) unblock(c *class) {
	c.blocked = false
	d.makeDue(c)
}

// join puts a lot into its class.
func (d *Desk) join(l *lotState) {
	key := keyOf(&l.lot)
	c := d.byKey[key]
	if c == nil {
		c = &class{key: key, rule: d.rule(key.rule), index: len(d.classes), passed: map[workload.PeerID]mark{}}
		d.byKey[key] = c
		d.classes = append(d.classes, c)
	}
	c.lots++
	c.barred = l.lot.Barred
	l.class = c
}

func (d *Desk) rule(key ruleKey) *rule {
	r := d.rules[key]
	if r == nil {
		r = newRule(key)
		d.rules[key] = r
	}
	r.classes++
	return r
}

// leave takes a lot out of its class, and forgets the class after its last.
func (d *Desk) leave(l *lotState) {
	c := l.class
	if c.lots--; c.lots > 0 {
		return
	}
	last := d.classes[len(d.classes)-1]
	d.classes[c.index], last.index = last, c.index
	d.classes = d.classes[:len(d.classes)-1]
	delete(d.byKey, c.key)
	c.blocked = false
	if c.rule.classes--; c.rule.classes == 0 {
		if old := d.rules[d.idle]; old != nil && old.classes == 0 && d.idle != c.key.rule {
			delete(d.rules, d.idle)
		}
		d.idle = c.key.rule
	}
}

// committed lets a lot be auctioned again. One that never wanted less than
// before its award made no progress. When that happens again it rests, so that
// an award that is rejected or refused every time does not fill the log.
func (d *Desk) committed(now int64, id workload.ID) {
	l := d.lots[id]
	switch {
	case l == nil || l.phase != awarding:
	case l.moved:
		l.stalled, l.backoff = false, 0
		d.enqueue(l)
	case !l.stalled: // slots that ended meanwhile may hide what it got
		l.stalled = true
		d.enqueue(l)
	default:
		l.backoff = min(max(2*l.backoff, d.cfg.RetryMin), d.cfg.RetryMax)
		l.phase, l.next = resting, now+l.backoff
		d.set(timer{at: l.next, lot: l})
	}
}

// serveDue opens auctions until every class that was due, or that a freed node
// fits, has nobody left to call or nothing left to want.
func (d *Desk) serveDue(now int64) []Output {
	if len(d.due) == 0 && len(d.freed) == 0 {
		return nil
	}
	ready := d.ready(now)
	heap.Init(&ready)
	var out []Output
	for len(ready) > 0 {
		c := ready[0]
		if c.blocked && !d.helped(c, now) {
			heap.Pop(&ready) // an older lot took what was freed
			continue
		}
		out = append(out, d.serve(now, c)...)
		if c.blocked || len(c.queue) == 0 {
			heap.Remove(&ready, 0)
		} else {
			heap.Fix(&ready, 0)
		}
	}
	for _, e := range d.freed {
		e.freed = false
	}
	d.freed = d.freed[:0]
	return out
}

// ready returns the classes to look at, and empties the list of those due.
func (d *Desk) ready(now int64) classes {
	var ready classes
	for _, c := range d.due {
		c.due = false
		if len(c.queue) > 0 {
			ready = append(ready, c)
		}
	}
	d.due = d.due[:0]
	if len(d.freed) == 0 {
		return ready
	}
	for _, c := range d.classes {
		if c.blocked && len(c.queue) > 0 && d.helped(c, now) {
			ready = append(ready, c)
		}
	}
	return ready
}

// helped reports whether a node that was freed fits a class.
func (d *Desk) helped(c *class, now int64) bool {
	for _, e := range d.freed {
		if c.slots(e, now) > 0 {
			return true
		}
	}
	return false
}
