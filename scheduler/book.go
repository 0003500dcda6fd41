package scheduler

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"github.com/perrin-mesh/perrin/scheduler/pricing"
	"github.com/perrin-mesh/perrin/workload"
)

const (
	maxNodes = 1024      // of the home cell that the book remembers, and as many of others
	maxSMT   = 64        // threads of a core that an offer can claim
	maxValid = 3_600_000 // ms that an offer can claim
)

// entry is one node's standing offer in the book.
type entry struct {
	offer workload.Offer // its end is what a search reads, as is what follows

	held       workload.Capacity // of calls that are open
	spent      workload.Capacity // awarded since the offer, less what became free, until spentUntil
	spentUntil int64
	expires    int64 // ms
	doubt      mark  // nobody calls it meanwhile
	rtt        int64 // us
	risk       int64 // ppm

	slot    int    // where rules keep what they know of it
	machine uint64 // changes with the machine
	terms   uint64 // changes with the machine or the asks
	news    uint64 // changes with an offer, and when something becomes free
	away    bool   // of another cell
	dht     bool   // found through the DHT
	freed   bool   // it is on the desk's list of nodes that may have more to give
}

// book holds the last offer of each node.
type book struct {
	nodes map[workload.PeerID]*entry
	home  []*entry // by identity
	away  []*entry
	slots []int // unused numbers of entry.slot
	stamp uint64
}

func newBook() *book { return &book{nodes: map[workload.PeerID]*entry{}} }

// post records an offer and returns its entry, or nil when a newer one
// stands, or one of the home cell where this one comes from away, or when the
// book is full.
func (b *book) post(in *OfferIn, away, dht bool, now int64) *entry {
	e := b.nodes[in.Offer.Node]
	if e != nil && e.away && !away {
		b.drop(e)
		e = nil
	}
	switch {
	case e == nil && !b.room(away, now):
		return nil
	case e == nil:
		e = b.add(in.Offer.Node, away)
	case away && !e.away || in.Offer.Seq < e.offer.Seq && now < e.expires:
		return nil
	}
	b.restamp(e, &in.Offer)
	if in.Offer.Seq > e.offer.Seq {
		e.spent = workload.Capacity{}
	}
	if in.Offer.Seq != e.offer.Seq {
		e.news++
	}
	e.offer, e.rtt, e.risk, e.dht = in.Offer, in.RTTMicros, in.RiskPPM, dht
	e.offer.Free = atLeastNothing(in.Offer.Free)
	e.expires = now + min(max(in.Offer.ValidMs, 0), maxValid)
	return e
}

func atLeastNothing(c workload.Capacity) workload.Capacity {
	return workload.Capacity{
		Cores: max(c.Cores, 0), Threads: max(c.Threads, 0), Memory: max(c.Memory, 0),
		Disk: max(c.Disk, 0), Slots: max(c.Slots, 0), Spare: max(c.Spare, 0), Beside: max(c.Beside, 0),
	}
}

// restamp notices what of an offer is new.
func (b *book) restamp(e *entry, o *workload.Offer) {
	if e.machine == 0 || !sameMachine(&e.offer.Machine, &o.Machine) {
		b.stamp++
		e.machine, e.terms = b.stamp, b.stamp
	}
	if e.offer.Asks != o.Asks {
		b.stamp++
		e.terms = b.stamp
	}
}

func sameMachine(a, b *workload.Machine) bool {
	return a.Total == b.Total && a.SMT == b.SMT && a.Declared == b.Declared &&
		a.Name == b.Name && a.Arch == b.Arch && a.OS == b.OS && a.Version == b.Version &&
		slices.Equal(a.Kinds, b.Kinds) && slices.Equal(a.Walls, b.Walls) &&
		slices.Equal(a.Attests, b.Attests) && slices.Equal(a.Speeds, b.Speeds) && maps.Equal(a.Labels, b.Labels)
}

func (b *book) add(node workload.PeerID, away bool) *entry {
	e := &entry{away: away, slot: len(b.nodes)}
	if n := len(b.slots); n > 0 {
		e.slot, b.slots = b.slots[n-1], b.slots[:n-1]
	}
	b.nodes[node] = e
	list := b.list(away)
	at, _ := slices.BinarySearchFunc(*list, node, byNode)
	*list = slices.Insert(*list, at, e)
	e.offer.Node = node
	return e
}

func (b *book) drop(e *entry) {
	delete(b.nodes, e.offer.Node)
	list := b.list(e.away)
	at, _ := slices.BinarySearchFunc(*list, e.offer.Node, byNode)
	*list = slices.Delete(*list, at, at+1)
	b.slots = append(b.slots, e.slot)
}

func (b *book) list(away bool) *[]*entry {
	if away {
		return &b.away
	}
	return &b.home
}

func byNode(e *entry, node workload.PeerID) int { return bytes.Compare(e.offer.Node[:], node[:]) }

// room reports whether the book can take another node. When it is full, it
// forgets offers that have run out.
func (b *book) room(away bool, now int64) bool {
	list := b.list(away)
	if len(*list) < maxNodes {
		return true
	}
	for _, e := range slices.Clone(*list) {
		if e.expires <= now && e.held == (workload.Capacity{}) {
			b.drop(e)
		}
	}
	return len(*list) < maxNodes
}

// spend takes n awarded slots out of what the node offers until its next offer
// says so itself, or for a while.
func (e *entry) spend(shape workload.Resources, n uint32, now, until int64) {
	if now >= e.spentUntil {
		e.spent = workload.Capacity{}
	}
	n = min(n, max(fits(e.offer.Free, shape), fits(plus(e.offer.Free, e.spent, -1), shape)))
	e.spent, e.spentUntil = plus(e.spent, e.need(shape, n), 1), until
}

// refund adds a slot that has become free to what the node offers until its next
// offer says so itself, or for a while.
func (e *entry) refund(shape workload.Resources, now, until int64) {
	if now >= e.spentUntil {
		e.spent = workload.Capacity{}
	}
	e.spent, e.spentUntil = plus(e.spent, e.need(shape, 1), -1), until
	e.news++
}

// left is how many slots of shape seem to fit into what the node offers beyond what it
// was called for or awarded.
func (e *entry) left(now int64, r *workload.Resources) uint32 {
	free, held, spent := &e.offer.Free, &e.held, &workload.Capacity{}
	if now < e.spentUntil {
		spent = &e.spent
	}
	_, cpus := cpusOf(free, r.Class)
	_, heldCPUs := cpusOf(held, r.Class)
	_, spentCPUs := cpusOf(spent, r.Class)
	return room(r, free.Slots-held.Slots-spent.Slots, cpus-heldCPUs-spentCPUs,
		free.Memory-held.Memory-spent.Memory, free.Disk-held.Disk-spent.Disk)
}

// need is what n slots of shape take from the node's offer: a core its threads
// too, a thread of a new tenant its core, idle time nothing of either.
func (e *entry) need(r workload.Resources, n uint32) workload.Capacity {
	smt, cpus := min(max(e.offer.Machine.SMT, 1), maxSMT), r.CPUs*int32(n)
	c := workload.Capacity{Memory: r.Memory * int64(n), Disk: r.Disk * int64(n), Slots: int32(n)}
	switch r.Class {
	case workload.Thread:
		c.Threads, c.Cores = cpus, (cpus+smt-1)/smt
	case workload.Spare:
		c.Spare = cpus
	default:
		c.Threads, c.Cores = cpus*smt, cpus
	}
	return c
}

func plus(a, b workload.Capacity, sign int) workload.Capacity {
	s, s64 := int32(sign), int64(sign)
	return workload.Capacity{
		Cores: a.Cores + s*b.Cores, Threads: a.Threads + s*b.Threads,
		Memory: a.Memory + s64*b.Memory, Disk: a.Disk + s64*b.Disk, Slots: a.Slots + s*b.Slots, Spare: a.Spare + s*b.Spare,
	}
}

// fits returns how many slots of shape the free capacity seems to allow.
func fits(free workload.Capacity, r workload.Resources) uint32 {
	_, cpus := cpusOf(&free, r.Class)
	return room(&r, free.Slots, cpus, free.Memory, free.Disk)
}

// room returns how many slots of shape fit into so much of each thing.
func room(r *workload.Resources, slots, cpus int32, memory, disk int64) uint32 {
	n := min(int64(slots), int64(cpus/max(r.CPUs, 1)))
	if n <= 0 {
		return 0
	}
	if r.Memory > 0 {
		n = min(n, memory/r.Memory)
	}
	if r.Disk > 0 {
		n = min(n, disk/r.Disk)
	}
	return uint32(min(max(n, 0), workload.MaxCPUs))
}

// cpusOf returns what there is of a class, and the reason when it is too little.
func cpusOf(free *workload.Capacity, class workload.Class) (workload.Code, int32) {
	switch class {
	case workload.Thread:
		return workload.NoThreads, free.Threads
	case workload.Spare:
		return workload.NoSpare, free.Spare
	}
	return workload.NoCores, free.Cores
}

// cpuNote says why there are too few CPUs: the node never offers so many, or idle
// threads are on cores of other tenants.
func cpuNote(total, free workload.Capacity, r workload.Resources) string {
	if _, most := cpusOf(&total, r.Class); most < r.CPUs {
		switch r.Class {
		case workload.Spare:
			return fmt.Sprintf("the node lends the idle time of %s in all", workload.Counted(int(most), "thread"))
		case workload.Thread:
			return fmt.Sprintf("the node offers %s in all", workload.Counted(int(most), "thread"))
		}
		return fmt.Sprintf("the node offers %s in all", workload.Counted(int(most), "whole core"))
	}
	if free.Beside == 0 || r.Class == workload.Spare {
		return ""
	}
	whole, s, t := "thread", "s", "s"
	if r.Class == workload.Core {
		whole = "whole core"
	}
	if r.CPUs == 1 {
		s = ""
	}
	if free.Beside == 1 {
		t = ""
	}
	return fmt.Sprintf("%d %s%s asked, %d thread%s free but on cores of other tenants", r.CPUs, whole, s, free.Beside, t)
}

// short returns what of a shape the free capacity lacks; total is all that the node has.
func short(total, free workload.Capacity, r workload.Resources) []workload.Reason {
	var reasons []workload.Reason
	lack := func(code workload.Code, want, have int64) {
		if have < want {
			reasons = append(reasons, workload.Reason{Code: code, Want: want, Have: max(have, 0)})
		}
	}
	code, cpus := cpusOf(&free, r.Class)
	lack(code, int64(r.CPUs), int64(cpus))
	if len(reasons) > 0 {
		reasons[0].Note = cpuNote(total, free, r)
	}
	lack(workload.NoMemory, r.Memory, free.Memory)
	lack(workload.NoDisk, r.Disk, free.Disk)
	lack(workload.NoSlots, 1, int64(free.Slots))
	return reasons
}

// score is what the book knows that makes the node worth less to a buyer.
func (e *entry) score() workload.Score { return workload.Score{RTTMicros: e.rtt, RiskPPM: e.risk} }

// rate is the node's ask for a slot by its offer.
func (e *entry) rate(shape workload.Resources) int64 { return pricing.SlotRate(e.offer.Asks, shape) }

// Unsuited returns why a machine can never run a lot, whatever it has free. Of
// the level that it must prove it looks at what the machine says it can make.
func Unsuited(m *workload.Machine, kind workload.Kind, where workload.Where, level workload.Level) []workload.Reason {
	var reasons []workload.Reason
	if !slices.Contains(m.Kinds, kind) {
		reasons = append(reasons, workload.Reason{Code: workload.NoRunner, Note: string(kind)})
	}
	if !m.Proves(level) {
		reasons = append(reasons, workload.Reason{Code: workload.NotProved, Note: "it has no " + string(level)})
	}
	if where.String() == "" {
		return reasons // gathering the facts would cost more than all the rest
	}
	if missed := where.Mismatch(m.Facts()); missed != "" {
		reasons = append(reasons, workload.Reason{Code: workload.WhereMismatch, Note: missed})
	}
	return reasons
}
