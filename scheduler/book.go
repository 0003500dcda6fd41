package scheduler

import (
	"cmp"
	"slices"

	"github.com/perrin-mesh/perrin/scheduler/pricing"
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
	Avoid    []workload.PeerID // nodes that failed it: called only when nobody else fits
}

// entry is one node's standing offer in the book.
type entry struct {
	offer   workload.Offer
	rtt     int64 // us
	risk    int64 // ppm
	expires int64 // ms
	called  int64 // slots of calls that are open, so that two auctions do not chase the same cores
}

// book holds the last offer of each node.
type book struct {
	nodes map[workload.PeerID]*entry
	where map[string]workload.Where // parsed conditions of the lots there are
}

func newBook() *book {
	return &book{nodes: map[workload.PeerID]*entry{}, where: map[string]workload.Where{}}
}

// post records an offer unless a newer one is known. It reports whether
// anything that matters to a lot changed.
func (b *book) post(o workload.Offer, rtt, risk, now int64) bool {
	e := b.nodes[o.Node]
	if e == nil {
		b.nodes[o.Node] = &entry{offer: o, rtt: rtt, risk: risk, expires: now + o.ValidMs}
		return true
	}
	if o.Seq < e.offer.Seq {
		return false
	}
	better := e.expires <= now || o.Drain != e.offer.Drain || o.Asks != e.offer.Asks || more(o.Free, e.offer.Free)
	e.offer, e.rtt, e.risk, e.expires = o, rtt, risk, now+o.ValidMs
	return better
}

// more reports whether a has more of anything than b.
func more(a, b workload.Capacity) bool {
	return a.Cores > b.Cores || a.Threads > b.Threads || a.Memory > b.Memory || a.Disk > b.Disk || a.Slots > b.Slots
}

// candidate is a node worth calling for a lot.
type candidate struct {
	node  workload.PeerID
	slots uint32 // that its offer seems to allow
	floor int64  // cost of its first slot by its offer
	score workload.Score
}

// search returns the nodes that seem to fit, cheapest first, and why the
// others do not.
func (b *book) search(lot *Lot, now int64) (fit []candidate, declined []workload.DeclineNote) {
	for _, id := range b.order() {
		e := b.nodes[id]
		if reasons := b.misfit(lot, e, now); len(reasons) > 0 {
			declined = append(declined, workload.DeclineNote{Node: id, Reasons: reasons})
			continue
		}
		fit = append(fit, e.candidate(lot))
	}
	slices.SortStableFunc(fit, func(x, y candidate) int {
		return cmp.Or(cmp.Compare(x.floor, y.floor), slices.Compare(x.node[:], y.node[:]))
	})
	return avoid(fit, lot.Avoid), declined
}

// avoid leaves out the nodes that failed a lot, unless nobody else fits.
func avoid(fit []candidate, nodes []workload.PeerID) []candidate {
	others := slices.Clone(fit)
	others = slices.DeleteFunc(others, func(c candidate) bool { return slices.Contains(nodes, c.node) })
	if len(others) == 0 {
		return fit
	}
	return others
}

// order returns the known nodes in a fixed order.
func (b *book) order() []workload.PeerID {
	ids := make([]workload.PeerID, 0, len(b.nodes))
	for id := range b.nodes {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(x, y workload.PeerID) int { return slices.Compare(x[:], y[:]) })
	return ids
}

func (e *entry) candidate(lot *Lot) candidate {
	score := workload.Score{RTTMicros: e.rtt, RiskPPM: e.risk}
	return candidate{
		node: e.offer.Node, slots: fits(e.offer.Free, lot.Shape), score: score,
		floor: Cost(pricing.SlotRate(e.offer.Asks, lot.Shape), score),
	}
}

// fits returns how many slots of shape the free capacity seems to allow.
func fits(free workload.Capacity, r workload.Resources) uint32 {
	n := int64(free.Slots)
	cpus := int64(free.Cores)
	if r.Class == workload.Thread {
		cpus = int64(free.Threads)
	}
	n = min(n, cpus/int64(max(r.CPUs, 1)), free.Memory/max(r.Memory, 1))
	if r.Disk > 0 {
		n = min(n, free.Disk/r.Disk)
	}
	return uint32(max(n, 0))
}

// misfit returns every reason why a node is not worth a call.
func (b *book) misfit(lot *Lot, e *entry, now int64) []workload.Reason {
	o := &e.offer
	if e.expires <= now {
		return []workload.Reason{{Code: workload.OfferExpired}}
	}
	if o.Drain {
		return []workload.Reason{{Code: workload.Draining}}
	}
	reasons := Unsuited(&o.Machine, lot.Kind, b.condition(lot.Where))
	reasons = append(reasons, short(o.Free, lot.Shape)...)
	if ask := pricing.SlotRate(o.Asks, lot.Shape); lot.MaxPrice > 0 && ask > lot.MaxPrice {
		reasons = append(reasons, workload.Reason{Code: workload.PriceAboveMax, Want: lot.MaxPrice, Have: ask})
	}
	return reasons
}

// Unsuited returns why a machine can never run a lot, whatever it has free.
func Unsuited(m *workload.Machine, kind workload.Kind, where workload.Where) []workload.Reason {
	var reasons []workload.Reason
	if !slices.Contains(m.Kinds, kind) {
		reasons = append(reasons, workload.Reason{Code: workload.NoRunner, Note: string(kind)})
	}
	if facts := m.Facts(); !where.Match(facts) {
		reasons = append(reasons, workload.Reason{Code: workload.WhereMismatch, Note: clip(where.Mismatch(facts))})
	}
	return reasons
}

func clip(s string) string { return s[:min(len(s), 256)] }

// short returns what of a shape the free capacity lacks.
func short(free workload.Capacity, r workload.Resources) []workload.Reason {
	var reasons []workload.Reason
	lack := func(code workload.Code, want, have int64) {
		if have < want {
			reasons = append(reasons, workload.Reason{Code: code, Want: want, Have: have})
		}
	}
	if r.Class == workload.Thread {
		lack(workload.NoThreads, int64(r.CPUs), int64(free.Threads))
	} else {
		lack(workload.NoCores, int64(r.CPUs), int64(free.Cores))
	}
	lack(workload.NoMemory, r.Memory, free.Memory)
	lack(workload.NoDisk, r.Disk, free.Disk)
	lack(workload.NoSlots, 1, int64(free.Slots))
	return reasons
}

func (b *book) condition(s string) workload.Where {
	w, ok := b.where[s]
	if !ok {
		w, _ = workload.ParseWhere(s) // validated when the spec was accepted
		b.where[s] = w
	}
	return w
}
