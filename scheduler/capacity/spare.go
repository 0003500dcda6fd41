package capacity

import (
	"cmp"
	"math"
	"math/bits"
	"slices"

	"github.com/perrin-mesh/perrin/workload"
)

// unmeasured is lending.most while nobody has measured what is idle.
const unmeasured = math.MaxInt32

// lending is the idle time that is lent out. It lies over the reserved claims and
// never under them: nothing here is looked at when a core or thread is claimed.
type lending struct {
	most         int32 // threads that are idle, as measured
	cookies      bool
	claims       []claim // held and granted, oldest first
	threads      int32   // sum of claims
	memory, disk int64
	next         uint64
}

func (l *lending) add(c claim) claim {
	l.next++
	c.seq = l.next
	l.claims = append(l.claims, c)
	l.threads, l.memory, l.disk = l.threads+c.spare, l.memory+c.memory, l.disk+c.disk
	return c
}

func (l *lending) remove(c claim) {
	i, found := slices.BinarySearchFunc(l.claims, c.seq, func(x claim, seq uint64) int { return cmp.Compare(x.seq, seq) })
	if !found {
		return
	}
	l.claims = slices.Delete(l.claims, i, i+1)
	l.threads, l.memory, l.disk = l.threads-c.spare, l.memory-c.memory, l.disk-c.disk
}

// everyone is the tenant of all slots whose owners share their cores.
var everyone workload.PeerID

// tenantOf is whom a core of such a slot belongs to.
func tenantOf(owner workload.PeerID, shape workload.Resources) workload.PeerID {
	if shape.Share {
		return everyone
	}
	return owner
}

// SetSpare says how many threads are idle now, as measured, spare work itself
// counted as idle; below 0 counts as 0. Until the first call every thread that
// is not granted counts as idle. What is lent stays lent: Verdict tells what
// has no room any more.
func (a *Allocator) SetSpare(threads int) {
	a.lent.most = int32(min(max(threads, 0), workload.MaxCPUs*maxSiblings))
}

// spareTotal is the threads whose idle time can ever be lent.
func (a *Allocator) spareTotal() int32 {
	n := 0
	for i := range a.cores {
		n += a.cores[i].width
	}
	return int32(n)
}

// spareFree is the idle time that a new tenant could have at best.
func (a *Allocator) spareFree() int32 {
	var n int32
	for i := range a.cores {
		if c := &a.cores[i]; c.firm == 0 {
			n += int32(c.width)
		} else if a.lent.most != unmeasured {
			n += int32(bits.OnesCount64(a.lendable(c, c.tenant)))
		}
	}
	return max(0, min(n, a.lent.most)-a.lent.threads)
}

// lendable returns the threads of c whose idle time a tenant may use: all of a
// core that nobody was granted; of one in use only its own tenant's, and there
// only such as no other work runs beside.
func (a *Allocator) lendable(c *coreState, tenant workload.PeerID) uint64 {
	switch {
	case c.firm == 0:
		return c.all
	case c.tenant != tenant:
		return 0
	case c.width == 1 || a.lent.cookies:
		return c.firm
	}
	return 0
}

// lend takes the idle time that one spare slot needs, or nothing. It takes no
// core, thread, memory, disk or slot from reserved work: when that comes, the
// spare slot is moved, waits (CPUs is empty) or must go.
func (a *Allocator) lend(tenant workload.PeerID, shape workload.Resources) (claim, bool) {
	l := &a.lent
	switch {
	case int(a.free.Slots) <= len(l.claims), shape.Memory > a.free.Memory-l.memory, shape.Disk > a.free.Disk-l.disk,
		l.most != unmeasured && shape.CPUs > l.most-l.threads:
		return claim{}, false
	}
	c := l.add(claim{owner: tenant, spare: shape.CPUs, memory: shape.Memory, disk: shape.Disk})
	if a.layout().served < len(l.claims) {
		l.remove(c)
		return claim{}, false
	}
	return c, true
}

// layout says which cores each tenant's spare work runs on.
type layout struct {
	parts  map[workload.PeerID][]part
	waits  map[uint64]bool // claims, by seq, that got no threads
	served int             // claims that did
}

// layout divides the idle threads among the tenants of spare claims, so that no
// core has two tenants. Older claims are served first: from cores that their
// tenant was granted itself, then from those that the machine's owner keeps,
// then from those that reserved work would take last. What is left over goes to
// the tenants in turn: the kernel finds the idle ones among them.
func (a *Allocator) layout() layout {
	out := layout{parts: map[workload.PeerID][]part{}, waits: map[uint64]bool{}}
	var order []workload.PeerID
	room := map[workload.PeerID]int{} // threads, less those of served claims
	free := a.lendOrder()
	give := func(tenant workload.PeerID, i int, mask uint64) {
		out.parts[tenant] = append(out.parts[tenant], part{core: i, mask: mask})
		room[tenant] += bits.OnesCount64(mask)
	}
	for _, c := range a.lent.claims {
		if _, known := room[c.owner]; !known {
			order, room[c.owner] = append(order, c.owner), 0
			for i := range a.cores {
				if core := &a.cores[i]; core.firm != 0 && a.lendable(core, c.owner) != 0 {
					give(c.owner, i, a.lendable(core, c.owner))
				}
			}
		}
		need, n := int(c.spare)-room[c.owner], 0
		for sum := 0; n < len(free) && sum < need; n++ {
			sum += a.cores[free[n]].width
		}
		if threads := a.widths(free[:n]); threads < need {
			out.waits[c.seq] = true
			continue
		}
		for _, i := range free[:n] {
			give(c.owner, i, a.cores[i].all)
		}
		free = free[n:]
		room[c.owner] -= int(c.spare)
		out.served++
	}
	for k, i := range free {
		if len(order) > 0 {
			give(order[k%len(order)], i, a.cores[i].all)
		}
	}
	return out
}

func (a *Allocator) widths(cores []int) (n int) {
	for _, i := range cores {
		n += a.cores[i].width
	}
	return n
}

// lendOrder returns the cores that nobody was granted, in the order in which
// they are lent.
func (a *Allocator) lendOrder() []int {
	var kept, free []int
	for i := range a.cores {
		if c := &a.cores[i]; c.firm == 0 && c.kept {
			kept = append(kept, i)
		}
	}
	for _, n := range a.nodes {
		for _, i := range slices.Backward(n.fast) {
			if a.cores[i].firm == 0 {
				free = append(free, i)
			}
		}
	}
	return append(kept, free...)
}

// partsOf returns the threads that a slot runs on.
func (a *Allocator) partsOf(key SlotKey) []part {
	c := a.grants[key]
	if c.spare == 0 {
		return c.parts
	}
	l := a.layout()
	if l.waits[c.seq] {
		return nil
	}
	return l.parts[c.owner]
}

// Verdict is what becomes of a spare slot.
type Verdict uint8

// A spare slot runs, waits for idle time without running, or must go because
// what it holds was given to reserved work.
const (
	Runs Verdict = iota
	Waits
	MustGo
)

// String returns the verdict in a word or two.
func (v Verdict) String() string { return [...]string{"runs", "waits", "must go"}[v] }

// Lent is how one granted spare slot stands.
type Lent struct {
	Key     SlotKey
	Verdict Verdict
	NoCore  bool  // it waits because its cores are other tenants' now
	CPUs    []int // where it may run, ascending; none when it does not run
	Nodes   []int // the NUMA nodes of CPUs
}

// Lending reports whether idle time is held or granted.
func (a *Allocator) Lending() bool { return len(a.lent.claims) > 0 }

// Lent returns every granted spare slot, the oldest first. Slots for whose idle
// time, memory, disk or place there is no room any more are the youngest ones.
func (a *Allocator) Lent() []Lent {
	if len(a.lent.claims) == 0 {
		return nil
	}
	keys := map[uint64]SlotKey{}
	for key, c := range a.grants {
		if c.spare > 0 {
			keys[c.seq] = key
		}
	}
	lay := a.layout()
	var out []Lent
	var threads int32
	left := a.free
	for _, c := range a.lent.claims {
		left.Memory, left.Disk, left.Slots = left.Memory-c.memory, left.Disk-c.disk, left.Slots-1
		v := Runs
		switch {
		case left.Memory < 0 || left.Disk < 0 || left.Slots < 0:
			v = MustGo
			left.Memory, left.Disk, left.Slots = left.Memory+c.memory, left.Disk+c.disk, left.Slots+1
		case lay.waits[c.seq] || threads+c.spare > a.lent.most:
			v = Waits
		default:
			threads += c.spare
		}
		if key, granted := keys[c.seq]; granted {
			l := Lent{Key: key, Verdict: v, NoCore: lay.waits[c.seq]}
			if v == Runs {
				l.CPUs, l.Nodes = a.CPUs(key), a.MemoryNodes(key)
			}
			out = append(out, l)
		}
	}
	return out
}
