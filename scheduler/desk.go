package scheduler

import (
	"cmp"
	"errors"
	"slices"

	"github.com/perrin-mesh/perrin/workload"
)

// Config bounds an auction. Durations are ms.
type Config struct {
	K          int   // nodes called for one slot: 1 to MaxCalled
	MaxCalled  int   // nodes called at most, whatever the lot: 1 to 128
	CallMin    int64 // an auction is open at least this long unless it is decided
	RetryMin   int64 // before a lot that found nothing is tried again, doubling up to RetryMax
	RetryMax   int64
	MaxAward   uint32 // slots of one award at most
	SiblingFor int64  // how long to wait for candidates of sibling cells
}

// DefaultConfig is what DESIGN.md section 4 asks for.
func DefaultConfig() Config {
	return Config{K: 3, MaxCalled: 64, CallMin: 150, RetryMin: 100, RetryMax: 2000, MaxAward: 512, SiblingFor: 300}
}

// Validate returns an error that names the field and its range.
func (c Config) Validate() error {
	switch {
	case c.K < 1 || c.K > c.MaxCalled || c.MaxCalled > 128:
		return errors.New("scheduler: K: want 1 to MaxCalled, and MaxCalled at most 128")
	case c.CallMin < 1 || c.RetryMin < 1 || c.RetryMax < c.RetryMin || c.SiblingFor < 0:
		return errors.New("scheduler: CallMin, RetryMin, RetryMax, SiblingFor: want 1 ms or more, RetryMax at least RetryMin")
	case c.MaxAward < 1 || c.MaxAward > 4096:
		return errors.New("scheduler: MaxAward: want 1 to 4096")
	}
	return nil
}

// Input is one thing that happened; exactly one field is set.
type Input struct {
	Offer     *OfferIn
	Gone      *workload.PeerID // the node left or was given up
	Lot       *Lot             // what a workload wants now; Wanted 0 takes it off the desk
	Bid       *BidIn
	Decline   *workload.Decline // also the shell's own, for a node that could not be reached
	Siblings  *SiblingsIn
	Committed *workload.ID // the award of this workload is committed, or was given up: it may be auctioned again
}

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
}

// AskSiblings asks sibling cells, and the DHT, for nodes that fit a lot which
// home cannot serve.
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
	Declines []workload.DeclineNote
}

// Release tells a node that its hold for an auction is not needed.
type Release struct {
	Node    workload.PeerID
	Auction workload.AuctionID
}

// Round is the last auction of a lot that still wants slots, for `why`.
type Round struct {
	At       int64
	Wanted   uint32
	MaxPrice int64
	Bids     []workload.Bid
	Scores   []workload.Score
	Declines []workload.DeclineNote
	Siblings bool
	DHT      bool
}

// Desk is the leader's scheduling state. It is not safe for concurrent use.
type Desk struct {
	cfg  Config
	self workload.PeerID
	cell workload.CellID

	book     *book
	away     *book // offers of other cells' nodes
	lots     map[workload.ID]*lotState
	auctions map[workload.AuctionID]*lotState
	seq      uint64
	changed  bool // the book got better since the last look at waiting lots
}

// lotState is a lot and its auction, if one is open.
type lotState struct {
	lot     Lot
	auction *auction
	award   bool // an award is on its way to the log
	asked   int64
	next    int64 // ms, not before
	backoff int64
	last    *Round
}

// auction is one open call.
type auction struct {
	id       workload.AuctionID
	wanted   uint32
	opened   int64
	closes   int64
	waiting  map[workload.PeerID]candidate
	bids     []BidIn
	scores   []workload.Score
	called   map[workload.PeerID]candidate
	declines []workload.DeclineNote
	siblings bool
	dht      bool
}

// NewDesk returns an empty desk of the leader self of a cell. salt makes its
// auction IDs differ from those of any other leader and term.
func NewDesk(cfg Config, self workload.PeerID, cell workload.CellID, salt uint64) *Desk {
	return &Desk{
		cfg: cfg, self: self, cell: cell, book: newBook(), away: newBook(), seq: salt << 24,
		lots: map[workload.ID]*lotState{}, auctions: map[workload.AuctionID]*lotState{},
	}
}

// Step feeds one input (or none, when a wake-up time has come) at time now in
// ms, which never goes back, and returns what to do.
func (d *Desk) Step(now int64, in Input) []Output {
	out := d.take(now, in)
	out = append(out, d.closeDue(now)...)
	out = append(out, d.openDue(now)...)
	if at := d.wake(now); at > 0 {
		out = append(out, Output{WakeAtMs: at})
	}
	return out
}

func (d *Desk) take(now int64, in Input) []Output {
	switch {
	case in.Offer != nil:
		d.changed = d.book.post(in.Offer.Offer, in.Offer.RTTMicros, in.Offer.RiskPPM, now) || d.changed
	case in.Gone != nil:
		delete(d.book.nodes, *in.Gone)
		delete(d.away.nodes, *in.Gone)
	case in.Lot != nil:
		return d.setLot(now, *in.Lot)
	case in.Bid != nil:
		d.takeBid(*in.Bid)
	case in.Decline != nil:
		d.takeDecline(*in.Decline)
	case in.Siblings != nil:
		d.takeSiblings(now, in.Siblings)
	case in.Committed != nil:
		if l := d.lots[*in.Committed]; l != nil {
			l.award, l.next, l.backoff = false, now, 0
		}
	}
	return nil
}

func (d *Desk) setLot(now int64, lot Lot) []Output {
	l := d.lots[lot.Workload]
	if lot.Wanted == 0 {
		if l == nil {
			return nil
		}
		delete(d.lots, lot.Workload)
		return d.dropAuction(l)
	}
	if l == nil {
		d.lots[lot.Workload] = &lotState{lot: lot, next: now}
		return nil
	}
	if lot.Wanted > l.lot.Wanted {
		l.next = min(l.next, now)
	}
	l.lot = lot
	return nil
}

// dropAuction gives back the holds of an auction that nobody wants any more.
func (d *Desk) dropAuction(l *lotState) []Output {
	a := l.auction
	if a == nil {
		return nil
	}
	d.settleCalls(a)
	delete(d.auctions, a.id)
	l.auction = nil
	var out []Output
	for _, id := range sortedPeers(a.called) {
		out = append(out, Output{Release: &Release{Node: id, Auction: a.id}})
	}
	return out
}

func sortedPeers(m map[workload.PeerID]candidate) []workload.PeerID {
	ids := make([]workload.PeerID, 0, len(m))
	for id := range m {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(x, y workload.PeerID) int { return slices.Compare(x[:], y[:]) })
	return ids
}

func (d *Desk) takeBid(in BidIn) {
	a := d.open(in.Bid.Auction)
	if a == nil {
		return
	}
	c, ok := a.waiting[in.Bid.Node]
	if !ok {
		return // not called, or answered already
	}
	delete(a.waiting, in.Bid.Node)
	a.bids = append(a.bids, in)
	a.scores = append(a.scores, c.score)
}

func (d *Desk) takeDecline(in workload.Decline) {
	a := d.open(in.Auction)
	if a == nil {
		return
	}
	c, ok := a.waiting[in.Node]
	if !ok {
		return
	}
	delete(a.waiting, in.Node)
	d.uncall(in.Node, c)
	a.declines = append(a.declines, workload.DeclineNote{Node: in.Node, Reasons: in.Reasons})
	if e := d.book.nodes[in.Node]; e != nil && hopeless(in.Reasons) {
		e.offer.Free = workload.Capacity{} // until its next offer says otherwise
	}
}

// hopeless reports whether a decline says that the offer is out of date.
func hopeless(reasons []workload.Reason) bool {
	return slices.ContainsFunc(reasons, func(r workload.Reason) bool {
		switch r.Code {
		case workload.NoCores, workload.NoThreads, workload.NoMemory, workload.NoSlots,
			workload.NotReached, workload.NoAnswer, workload.Draining:
			return true
		}
		return false
	})
}

func (d *Desk) open(id workload.AuctionID) *auction {
	if l := d.auctions[id]; l != nil {
		return l.auction
	}
	return nil
}

func (d *Desk) takeSiblings(now int64, in *SiblingsIn) {
	for _, o := range in.Offers {
		if d.book.nodes[o.Offer.Node] == nil {
			d.away.post(o.Offer, o.RTTMicros, o.RiskPPM, now)
		}
	}
	if l := d.lots[in.Workload]; l != nil && len(in.Offers) > 0 {
		l.next = min(l.next, now)
	}
}

// closeDue closes every auction that is over and returns its award.
func (d *Desk) closeDue(now int64) []Output {
	var out []Output
	for _, l := range d.ordered() {
		if l.auction != nil && l.auction.over(now, l.lot.MaxPrice) {
			out = append(out, d.close(now, l)...)
		}
	}
	return out
}

// over reports whether an auction need not wait for anybody.
func (a *auction) over(now, maxPrice int64) bool {
	if len(a.waiting) == 0 || now >= a.closes {
		return true
	}
	floors := make([]int64, 0, len(a.waiting))
	for _, c := range a.waiting {
		floors = append(floors, c.floor)
	}
	return decided(a.wanted, maxPrice, a.plainBids(), a.scores, floors)
}

func (a *auction) plainBids() []workload.Bid {
	bids := make([]workload.Bid, len(a.bids))
	for i, b := range a.bids {
		bids[i] = b.Bid
	}
	return bids
}

func (d *Desk) close(now int64, l *lotState) []Output {
	a := l.auction
	for _, id := range sortedPeers(a.waiting) {
		a.declines = append(a.declines, workload.DeclineNote{Node: id, Reasons: []workload.Reason{{Code: workload.NoAnswer}}})
	}
	d.settleCalls(a)
	delete(d.auctions, a.id)
	l.auction = nil
	a.sortBids()
	bids := a.plainBids()
	l.last = &Round{
		At: now, Wanted: a.wanted, MaxPrice: l.lot.MaxPrice, Bids: bids, Scores: a.scores,
		Declines: a.declines, Siblings: a.siblings, DHT: a.dht,
	}
	slots := Clear(min(a.wanted, l.lot.Wanted, d.cfg.MaxAward), l.lot.MaxPrice, bids, a.scores)
	out := releases(a, slots)
	if len(slots) == 0 {
		l.retreat(now, d.cfg)
		return out
	}
	l.award = true
	return append(out, Output{Award: a.award(l, slots, d.cfg)})
}

// sortBids puts bids in the order of their nodes, so that the award does not
// depend on which answer came first.
func (a *auction) sortBids() {
	order := make([]int, len(a.bids))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(x, y int) int {
		return slices.Compare(a.bids[x].Bid.Node[:], a.bids[y].Bid.Node[:])
	})
	bids, scores := make([]BidIn, len(order)), make([]workload.Score, len(order))
	for i, j := range order {
		bids[i], scores[i] = a.bids[j], a.scores[j]
	}
	a.bids, a.scores = bids, scores
}

func (a *auction) award(l *lotState, slots []workload.AwardSlot, cfg Config) *Award {
	signed := make([]workload.Signed, len(a.bids))
	for i, b := range a.bids {
		signed[i] = b.Signed
	}
	return &Award{
		Workload: l.lot.Workload, Auction: a.id, Wanted: min(a.wanted, l.lot.Wanted, cfg.MaxAward),
		MaxPrice: l.lot.MaxPrice, Bids: signed, Scores: a.scores, Slots: slots, Declines: a.declines,
	}
}

// releases frees the holds of everyone who was called and won nothing, and of
// those who have not answered in time.
func releases(a *auction, slots []workload.AwardSlot) []Output {
	var out []Output
	for _, id := range sortedPeers(a.called) {
		won := slices.ContainsFunc(slots, func(s workload.AwardSlot) bool { return s.Node == id })
		if !won {
			out = append(out, Output{Release: &Release{Node: id, Auction: a.id}})
		}
	}
	return out
}

// settleCalls takes an auction's open calls out of the book.
func (d *Desk) settleCalls(a *auction) {
	for id, c := range a.called {
		if !slices.ContainsFunc(a.declines, func(n workload.DeclineNote) bool { return n.Node == id && n.Reasons[0].Code != workload.NoAnswer }) {
			d.uncall(id, c)
		}
	}
}

func (d *Desk) uncall(id workload.PeerID, c candidate) {
	if e := d.book.nodes[id]; e != nil {
		e.called = max(0, e.called-int64(c.slots))
	}
}

func (l *lotState) retreat(now int64, cfg Config) {
	l.backoff = min(max(2*l.backoff, cfg.RetryMin), cfg.RetryMax)
	l.next = now + l.backoff
}

// ordered returns the lots, the one that has waited longest first.
func (d *Desk) ordered() []*lotState {
	lots := make([]*lotState, 0, len(d.lots))
	for _, l := range d.lots {
		lots = append(lots, l)
	}
	slices.SortFunc(lots, func(x, y *lotState) int {
		return cmp.Or(cmp.Compare(x.lot.Since, y.lot.Since),
			slices.Compare(x.lot.Workload.Random[:], y.lot.Workload.Random[:]))
	})
	return lots
}

// Last returns the last auction of a workload that still wants slots.
func (d *Desk) Last(id workload.ID) *Round {
	if l := d.lots[id]; l != nil {
		return l.last
	}
	return nil
}

// Offers returns the offers in the book that stand at now, in a fixed order.
func (d *Desk) Offers(now int64) []workload.Offer {
	var offers []workload.Offer
	for _, id := range d.book.order() {
		if e := d.book.nodes[id]; e.expires > now {
			offers = append(offers, e.offer)
		}
	}
	return offers
}

// Suited returns the offers that seem to fit a lot, cheapest first, for a
// sibling cell that asks.
func (d *Desk) Suited(lot *Lot, now int64, most int) []workload.Offer {
	fit, _ := d.book.search(lot, now)
	var offers []workload.Offer
	for _, c := range fit[:min(len(fit), most)] {
		offers = append(offers, d.book.nodes[c.node].offer)
	}
	return offers
}

// wake returns when something is due next, or 0.
func (d *Desk) wake(now int64) int64 {
	var at int64
	earlier := func(t int64) {
		if t > 0 && (at == 0 || t < at) {
			at = t
		}
	}
	for _, l := range d.lots {
		switch {
		case l.auction != nil:
			earlier(l.auction.closes)
		case !l.award:
			earlier(max(l.next, now+1))
		}
	}
	return at
}
