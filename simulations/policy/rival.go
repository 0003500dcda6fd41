package policy

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/perrin-mesh/perrin/scheduler"
	"github.com/perrin-mesh/perrin/simulations/chance"
	"github.com/perrin-mesh/perrin/workload"
)

// chooser picks whom to call of those that seem to fit; fit is never empty and
// may be reordered.
type chooser func(s *chance.Stream, fit []*standing) []*standing

// Lengths of a rival's rounds, in ms; those of the production desk.
const (
	callMin  = 150
	callMax  = 1500
	retryMin = 100
	passFor  = 100 // a node that declined is not called for this lot
)

// standing is a node's last offer.
type standing struct {
	scheduler.OfferIn
	expires int64
	spent   int32 // threads called for or awarded since the offer
}

func (n *standing) smt() int32 { return max(n.Offer.Machine.SMT, 1) }

// ThreadsOf is how many threads a slot of a shape takes from others on a machine of
// so many threads a core.
func ThreadsOf(shape workload.Resources, smt int32) int32 {
	if shape.Class == workload.Thread {
		return (shape.CPUs + smt - 1) / smt * smt
	}
	return shape.CPUs * smt
}

// SlotsOf is how many slots of a shape fit into what is free, less some threads
// that are promised already.
func SlotsOf(free workload.Capacity, shape workload.Resources, smt, promised int32) uint32 {
	threads := int64(free.Threads)
	if shape.Class == workload.Core {
		threads = int64(free.Cores) * int64(smt)
	}
	k := min((threads-int64(promised))/int64(ThreadsOf(shape, smt)), int64(free.Slots))
	if shape.Memory > 0 {
		k = min(k, free.Memory/shape.Memory)
	}
	if shape.Disk > 0 {
		k = min(k, free.Disk/shape.Disk)
	}
	return uint32(max(k, 0))
}

// slots is how many slots of a shape the node seems to have.
func (n *standing) slots(shape workload.Resources) uint32 {
	return SlotsOf(n.Offer.Free, shape, n.smt(), n.spent)
}

// load is the share of its threads in use, in permille.
func (n *standing) load() int64 {
	total := max(int64(n.Offer.Machine.Total.Threads), 1)
	return 1000 * (total - int64(n.Offer.Free.Threads) + int64(n.spent)) / total
}

// job is a lot and the round that is open for it.
type job struct {
	lot    scheduler.Lot
	queued bool
	round  *round
	passed map[workload.PeerID]int64 // nodes that declined, until when
}

// round is one call to the chosen nodes.
type round struct {
	id     workload.AuctionID
	job    *job
	wanted uint32
	closes int64
	calls  []*standing
	held   []int32 // threads, of each call
	open   int
	bids   []workload.Bid
	signed []workload.Signed
	scores []workload.Score
}

// rival is a desk that calls whom a chooser picks and awards to who bids.
type rival struct {
	Config
	choose chooser // nil asks the oracle, or
	asked  func(lot *scheduler.Lot, fit []*standing) []*standing
	seq    uint64
	nodes  map[workload.PeerID]*standing
	order  []*standing // by identity
	jobs   map[workload.ID]*job
	queue  []*job // those that want a round, in the order of asking
	rounds map[workload.AuctionID]*round
	open   []*round // in the order of opening
	retry  int64    // nothing fitted: look again then; 0 is at once

	// A scheduler that thinks: about whom, with what it has found, until when.
	decision int64
	mind     *job
	found    []*standing
	counts   []uint32
	until    int64
	mine     map[workload.PeerID]int32 // threads that its open calls ask for
}

func newRival(c Config, choose chooser) *rival {
	return &rival{
		Config: c, choose: choose, seq: c.Term << 32, nodes: map[workload.PeerID]*standing{},
		jobs: map[workload.ID]*job{}, rounds: map[workload.AuctionID]*round{},
	}
}

// Step implements Desk.
func (r *rival) Step(now int64, in scheduler.Input) []scheduler.Output {
	out := r.take(now, in)
	for _, a := range slices.Clone(r.open) {
		if a.closes <= now {
			out = append(out, r.close(now, a)...)
		}
	}
	switch {
	case r.mine != nil:
		out = append(out, r.ponder(now)...)
	case now >= r.retry:
		out = append(out, r.serve(now)...)
	}
	if at := r.wake(); at > 0 {
		out = append(out, scheduler.Output{WakeAtMs: max(at, now+1)})
	}
	return out
}

func (r *rival) wake() (at int64) {
	for _, a := range r.open {
		if at == 0 || a.closes < at {
			at = a.closes
		}
	}
	if len(r.queue) > 0 && r.mind == nil && (at == 0 || r.retry < at) {
		at = r.retry
	}
	if r.mind != nil && (at == 0 || r.until < at) {
		at = r.until
	}
	return at
}

func (r *rival) take(now int64, in scheduler.Input) []scheduler.Output {
	switch {
	case in.Offer != nil:
		r.post(now, in.Offer)
	case in.Gone != nil:
		if n := r.nodes[*in.Gone]; n != nil {
			n.expires = 0
		}
	case in.Freed != nil:
		if n := r.nodes[in.Freed.Node]; n != nil {
			n.spent -= ThreadsOf(in.Freed.Shape, n.smt())
			r.retry = 0
		}
	case in.Lot != nil:
		return r.setLot(now, *in.Lot)
	case in.Bid != nil:
		return r.bid(now, in.Bid)
	case in.Decline != nil:
		return r.decline(now, in.Decline)
	case in.Committed != nil:
		if j := r.jobs[*in.Committed]; j != nil {
			r.enqueue(j)
		}
	}
	return nil
}

func (r *rival) post(now int64, in *scheduler.OfferIn) {
	n := r.nodes[in.Offer.Node]
	if n == nil {
		n = &standing{}
		r.nodes[in.Offer.Node] = n
		at, _ := slices.BinarySearchFunc(r.order, in.Offer.Node, func(s *standing, id workload.PeerID) int {
			return bytes.Compare(s.Offer.Node[:], id[:])
		})
		r.order = slices.Insert(r.order, at, n)
	} else if in.Offer.Seq < n.Offer.Seq {
		return
	}
	n.OfferIn, n.spent, n.expires = *in, 0, now+in.Offer.ValidMs
	r.retry = 0
}

func (r *rival) setLot(now int64, lot scheduler.Lot) []scheduler.Output {
	j := r.jobs[lot.Workload]
	switch {
	case lot.Wanted == 0 && j == nil:
		return nil
	case lot.Wanted == 0:
		delete(r.jobs, lot.Workload)
		j.lot.Wanted = 0
		if j.round != nil {
			return r.close(now, j.round)
		}
		return nil
	case j == nil:
		j = &job{lot: lot, passed: map[workload.PeerID]int64{}}
		r.jobs[lot.Workload] = j
		r.enqueue(j)
	}
	j.lot = lot
	return nil
}

func (r *rival) enqueue(j *job) {
	if !j.queued && j.round == nil {
		j.queued = true
		r.queue = append(r.queue, j)
	}
}

// serve opens a round for whoever waits and finds a node, the longest waiting
// first; a shape for which there was none is not looked for again.
func (r *rival) serve(now int64) (out []scheduler.Output) {
	var waiting []*job
	none := map[workload.Resources]bool{}
	for _, j := range r.queue {
		if j.lot.Wanted == 0 {
			j.queued = false
			continue
		}
		var chosen []*standing
		if !none[j.lot.Shape] {
			chosen = r.find(now, j)
		}
		if len(chosen) == 0 {
			none[j.lot.Shape] = true
			waiting = append(waiting, j)
			continue
		}
		j.queued = false
		out = append(out, r.call(now, j, chosen, nil)...)
	}
	r.queue, r.retry = waiting, 0
	if len(waiting) > 0 {
		r.retry = now + retryMin
	}
	return out
}

func (r *rival) find(now int64, j *job) []*standing {
	if r.choose == nil && r.asked == nil {
		return r.ask(now, j)
	}
	var fit []*standing
	for _, n := range r.order {
		if n.expires > now && j.passed[n.Offer.Node] <= now && n.slots(j.lot.Shape) > 0 && !n.Offer.Drain {
			fit = append(fit, n)
		}
	}
	if len(fit) == 0 {
		return nil
	}
	if r.asked != nil {
		return r.asked(&j.lot, fit)
	}
	return r.choose(&r.Chance, fit)
}

// ask lets the oracle pick.
func (r *rival) ask(now int64, j *job) []*standing {
	var avoid []workload.PeerID
	for id, until := range j.passed {
		if until > now {
			avoid = append(avoid, id)
		}
	}
	slices.SortFunc(avoid, func(x, y workload.PeerID) int { return bytes.Compare(x[:], y[:]) })
	best, promised, ok := r.Oracle.Best(r.Cell, &j.lot, avoid)
	if !ok {
		return nil
	}
	return []*standing{{OfferIn: best, spent: promised}}
}

// call opens a round: each of the chosen is asked for all that is wanted, or for
// its own count.
func (r *rival) call(now int64, j *job, chosen []*standing, counts []uint32) (out []scheduler.Output) {
	r.seq++
	a := &round{job: j, wanted: j.lot.Wanted, calls: slices.Clone(chosen), open: len(chosen)}
	if len(chosen) == 1 && counts == nil {
		a.wanted = min(a.wanted, chosen[0].slots(j.lot.Shape))
	}
	copy(a.id[:8], r.Self[:8])
	binary.BigEndian.PutUint64(a.id[8:], r.seq)
	j.round = a
	r.rounds[a.id] = a
	r.open = append(r.open, a)
	var slowest int64
	for i, n := range chosen {
		slots := a.wanted
		if counts != nil {
			slots = counts[i]
		}
		held := ThreadsOf(j.lot.Shape, n.smt()) * int32(min(slots, n.slots(j.lot.Shape)))
		n.spent += held
		a.held = append(a.held, held)
		slowest = max(slowest, n.RTTMicros/1000)
		out = append(out, scheduler.Output{Call: &scheduler.CallOut{Node: n.Offer.Node, Call: workload.Call{
			Auction: a.id, Workload: j.lot.Workload, Cell: r.Cell, Leader: r.Self, Owner: j.lot.Owner,
			Shape: j.lot.Shape, Kind: j.lot.Kind, Host: j.lot.Host, Where: j.lot.Where, Slots: slots, MaxPrice: j.lot.MaxPrice,
		}}})
	}
	a.closes = now + min(max(callMin, 2*slowest), callMax)
	return out
}

func (r *rival) bid(now int64, in *scheduler.BidIn) []scheduler.Output {
	a := r.rounds[in.Bid.Auction]
	if a == nil {
		return []scheduler.Output{{Release: &scheduler.Release{Node: in.Bid.Node, Auction: in.Bid.Auction}}}
	}
	for _, n := range a.calls {
		if n.Offer.Node == in.Bid.Node {
			a.bids, a.signed = append(a.bids, in.Bid), append(a.signed, in.Signed)
			a.scores = append(a.scores, workload.Score{RTTMicros: n.RTTMicros, RiskPPM: n.RiskPPM})
		}
	}
	return r.answered(now, a)
}

func (r *rival) decline(now int64, d *workload.Decline) []scheduler.Output {
	a := r.rounds[d.Auction]
	if a == nil {
		return nil
	}
	a.job.passed[d.Node] = now + passFor
	return r.answered(now, a)
}

func (r *rival) answered(now int64, a *round) []scheduler.Output {
	if a.open--; a.open > 0 {
		return nil
	}
	return r.close(now, a)
}

// close clears a round with the production rule and releases who did not win.
func (r *rival) close(now int64, a *round) (out []scheduler.Output) {
	delete(r.rounds, a.id)
	r.open = slices.DeleteFunc(r.open, func(o *round) bool { return o == a })
	j := a.job
	j.round = nil
	slots := scheduler.Clear(min(a.wanted, j.lot.Wanted), j.lot.MaxPrice, a.bids, a.scores)
	for i, n := range a.calls {
		if r.mine != nil {
			if r.mine[n.Offer.Node] -= a.held[i]; r.mine[n.Offer.Node] <= 0 {
				delete(r.mine, n.Offer.Node)
			}
		}
		won := slices.ContainsFunc(slots, func(s workload.AwardSlot) bool { return s.Node == n.Offer.Node })
		bid := slices.ContainsFunc(a.bids, func(b workload.Bid) bool { return b.Node == n.Offer.Node })
		if !won {
			n.spent = max(0, n.spent-a.held[i])
			out = append(out, scheduler.Output{Release: &scheduler.Release{Node: n.Offer.Node, Auction: a.id}})
		}
		if !bid {
			j.passed[n.Offer.Node] = max(j.passed[n.Offer.Node], now+passFor)
		}
	}
	if len(slots) == 0 {
		if j.lot.Wanted > 0 {
			r.enqueue(j)
		}
		return out
	}
	return append(out, scheduler.Output{Award: &scheduler.Award{
		Workload: j.lot.Workload, Auction: a.id, Wanted: min(a.wanted, j.lot.Wanted), MaxPrice: j.lot.MaxPrice,
		Bids: a.signed, Scores: a.scores, Slots: slots,
	}})
}

// Offers implements Desk.
func (r *rival) Offers(now int64) (offers []workload.Offer) {
	for _, n := range r.order {
		if n.expires > now {
			offers = append(offers, n.Offer)
		}
	}
	return offers
}

// Suited implements Desk. Rivals do not ask siblings, so nobody asks them.
func (r *rival) Suited(*scheduler.Lot, int64, int) []workload.Offer { return nil }
