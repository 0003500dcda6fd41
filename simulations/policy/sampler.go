package policy

import (
	"encoding/binary"
	"slices"

	"github.com/perrin-mesh/perrin/scheduler"
	"github.com/perrin-mesh/perrin/simulations/scenario"
	"github.com/perrin-mesh/perrin/workload"
)

// Times of a sampler, in ms.
const (
	probeFor   = 60_000 // a reservation that is older counts as lost
	probeAgain = 100    // before what is missing is probed for again
)

// sampler is Sparrow (Ousterhout et al., SOSP 2013): for a workload of m tasks it
// puts reservations into the queues of d x m nodes of the mesh, drawn without
// putting back (batch sampling), and gives a task to whoever has room first (late
// binding). Reservations that are not needed any more are taken back.
//
// With a cutoff it is Hawk (Delgado et al., ATC 2015): long workloads go to the
// nodes with the least to do, as a central scheduler sees them, and never to a
// reserved part of the mesh; short ones are sampled over all of it.
type sampler struct {
	Config
	hawk   bool
	seq    uint64
	jobs   map[workload.ID]*sampled
	order  []*sampled // that may want probes
	probes map[workload.AuctionID]*probe
	sent   []*probe // in the order of sending
	retry  int64    // when the first of order may be served; 0 is at once
}

// sampled is a lot and what is under way for it.
type sampled struct {
	lot    scheduler.Lot
	given  uint32 // awards that are not committed
	open   int    // probes
	listed bool
	probes []*probe
	after  int64 // it is not probed for before
}

type probe struct {
	id   workload.AuctionID
	job  *sampled
	node workload.PeerID
	rtt  int64
	sent int64
	over bool
}

func newSampler(c Config) *sampler {
	return &sampler{
		Config: c, hawk: c.Policy.Name == scenario.Hawk, seq: c.Term << 32,
		jobs: map[workload.ID]*sampled{}, probes: map[workload.AuctionID]*probe{},
	}
}

// Step implements Desk.
func (s *sampler) Step(now int64, in scheduler.Input) (out []scheduler.Output) {
	switch {
	case in.Lot != nil:
		out = s.setLot(*in.Lot)
	case in.Bid != nil:
		out = s.bid(in.Bid)
	case in.Decline != nil:
		if p := s.probes[in.Decline.Auction]; p != nil {
			p.job.after = now + probeAgain
		}
		s.lost(in.Decline.Auction)
	case in.Gone != nil:
		for _, p := range s.sent {
			if p.node == *in.Gone {
				s.lost(p.id)
			}
		}
	case in.Committed != nil:
		s.committed(*in.Committed)
	}
	for len(s.sent) > 0 && (s.sent[0].over || s.sent[0].sent+probeFor <= now) {
		s.lost(s.sent[0].id)
		s.sent = s.sent[1:]
	}
	if len(s.order) > 0 && now >= s.retry {
		out = append(out, s.serve(now)...)
	}
	if at := s.wake(); at > 0 {
		out = append(out, scheduler.Output{WakeAtMs: max(at, now+1)})
	}
	return out
}

func (s *sampler) wake() (at int64) {
	if len(s.sent) > 0 {
		at = s.sent[0].sent + probeFor
	}
	if len(s.order) > 0 && (at == 0 || s.retry < at) {
		at = s.retry
	}
	return at
}

func (j *sampled) wants() uint32 { return j.lot.Wanted - min(j.given, j.lot.Wanted) }

func (s *sampler) list(j *sampled) {
	if !j.listed && int(j.wants()) > j.open {
		if j.listed = true; len(s.order) == 0 || j.after < s.retry {
			s.retry = j.after
		}
		s.order = append(s.order, j)
	}
}

func (s *sampler) setLot(lot scheduler.Lot) []scheduler.Output {
	j := s.jobs[lot.Workload]
	switch {
	case j == nil && lot.Wanted == 0:
		return nil
	case j == nil:
		j = &sampled{}
		s.jobs[lot.Workload] = j
	}
	j.lot = lot
	if lot.Wanted == 0 && j.given == 0 {
		delete(s.jobs, lot.Workload)
		return s.takeBack(j)
	}
	s.list(j)
	return nil
}

// takeBack releases the reservations of a job that wants no more.
func (s *sampler) takeBack(j *sampled) (out []scheduler.Output) {
	for _, p := range j.probes {
		if !p.over {
			s.lost(p.id)
			out = append(out, scheduler.Output{Release: &scheduler.Release{Node: p.node, Auction: p.id}})
		}
	}
	j.probes = nil
	return out
}

// lost forgets a reservation.
func (s *sampler) lost(id workload.AuctionID) {
	if p := s.probes[id]; p != nil {
		p.over = true
		p.job.open--
		delete(s.probes, id)
		s.list(p.job)
	}
}

// bid gives a task to a node that has room now, if one is left.
func (s *sampler) bid(in *scheduler.BidIn) []scheduler.Output {
	p := s.probes[in.Bid.Auction]
	if p == nil || p.job.wants() == 0 {
		s.lost(in.Bid.Auction)
		return []scheduler.Output{{Release: &scheduler.Release{Node: in.Bid.Node, Auction: in.Bid.Auction}}}
	}
	j := p.job
	score := []workload.Score{{RTTMicros: p.rtt}}
	slots := scheduler.Clear(1, j.lot.MaxPrice, []workload.Bid{in.Bid}, score)
	s.lost(p.id)
	if len(slots) == 0 {
		return []scheduler.Output{{Release: &scheduler.Release{Node: in.Bid.Node, Auction: in.Bid.Auction}}}
	}
	j.given++
	out := []scheduler.Output{{Award: &scheduler.Award{
		Workload: j.lot.Workload, Auction: p.id, Wanted: 1, MaxPrice: j.lot.MaxPrice,
		Bids: []workload.Signed{in.Signed}, Scores: score, Slots: slots,
	}}}
	if j.wants() == 0 {
		out = append(out, s.takeBack(j)...)
	}
	return out
}

// committed is one award less under way. What it got shows in the lot.
func (s *sampler) committed(id workload.ID) {
	if j := s.jobs[id]; j != nil {
		if j.given > 0 {
			j.given--
		}
		if j.lot.Wanted == 0 && j.given == 0 {
			delete(s.jobs, id)
		}
		s.list(j)
	}
}

// serve probes for every job that wants more than it has reservations.
func (s *sampler) serve(now int64) (out []scheduler.Output) {
	listed := s.order
	s.order = nil
	for _, j := range listed {
		j.listed = false
		if n := int(j.wants()); n > j.open && j.after <= now {
			out = append(out, s.probe(now, j, n-j.open)...)
			j.after = now + probeAgain
		}
		s.list(j)
	}
	return out
}

func (s *sampler) probe(now int64, j *sampled, tasks int) (out []scheduler.Output) {
	j.probes = slices.DeleteFunc(j.probes, func(p *probe) bool { return p.over })
	for _, i := range s.sample(&j.lot, tasks) {
		o, up := s.Oracle.OfferOf(i, s.Cell)
		if !up || SlotsOf(o.Offer.Machine.Total, j.lot.Shape, max(o.Offer.Machine.SMT, 1), 0) == 0 {
			continue
		}
		s.seq++
		p := &probe{job: j, node: o.Offer.Node, rtt: o.RTTMicros, sent: now}
		copy(p.id[:8], s.Self[:8])
		binary.BigEndian.PutUint64(p.id[8:], s.seq)
		s.probes[p.id] = p
		s.sent, j.probes = append(s.sent, p), append(j.probes, p)
		j.open++
		out = append(out, scheduler.Output{Call: &scheduler.CallOut{Node: p.node, Call: workload.Call{
			Auction: p.id, Workload: j.lot.Workload, Cell: s.Cell, Leader: s.Self, Owner: j.lot.Owner,
			Shape: j.lot.Shape, Kind: j.lot.Kind, Host: j.lot.Host, Where: j.lot.Where, Slots: 1, MaxPrice: j.lot.MaxPrice,
		}}})
	}
	return out
}

// sample draws the nodes for some tasks of a lot.
func (s *sampler) sample(lot *scheduler.Lot, tasks int) []int {
	if s.hawk && s.Oracle.Service(lot) >= s.Policy.Cutoff {
		return s.idlest(lot, tasks)
	}
	return s.draw(s.Oracle.Size(), s.Policy.Probes*tasks)
}

// draw returns k of n numbers, none twice before all were drawn.
func (s *sampler) draw(n, k int) (out []int) {
	for ; k >= n; k -= n {
		for i := range n {
			out = append(out, i)
		}
	}
	seen := map[int]bool{} // Floyd's sampling
	for top := n - k; top < n; top++ {
		i := s.Chance.IntN(top + 1)
		if seen[i] {
			i = top
		}
		seen[i] = true
		out = append(out, i)
	}
	return out
}

// idlest returns the nodes outside of the reserved part with the least in use and
// in their queues, each as often as the tasks make it so.
func (s *sampler) idlest(lot *scheduler.Lot, tasks int) (out []int) {
	n := s.Oracle.Size() - int(int64(s.Oracle.Size())*s.Policy.Reserve/1_000_000)
	load := make([]int64, max(n, 1))
	each := make([]int64, len(load))
	for i := range load {
		o, up := s.Oracle.OfferOf(i, s.Cell)
		if !up {
			load[i] = 1 << 40
			continue
		}
		total := max(int64(o.Offer.Machine.Total.Threads), 1)
		each[i] = 1000 * int64(ThreadsOf(lot.Shape, max(o.Offer.Machine.SMT, 1))) / total
		load[i] = 1000*(total-int64(o.Offer.Free.Threads))/total + int64(s.Oracle.Waiting(i))*each[i]
	}
	for range tasks {
		best := 0
		for i := range load {
			if load[i] < load[best] {
				best = i
			}
		}
		load[best] += each[best]
		out = append(out, best)
	}
	return out
}

// Offers implements Desk. A sampler keeps no book.
func (s *sampler) Offers(int64) []workload.Offer { return nil }

// Suited implements Desk. Nobody asks.
func (s *sampler) Suited(*scheduler.Lot, int64, int) []workload.Offer { return nil }
