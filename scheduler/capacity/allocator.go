package capacity

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/bits"
	"slices"

	"github.com/perrin-mesh/perrin/workload"
)

var (
	// ErrNoHold is returned when a hold was never made, was released, committed
	// or has expired.
	ErrNoHold = errors.New("no such hold")
	// ErrHoldTooSmall is returned when more slots are committed than are held.
	ErrHoldTooSmall = errors.New("the hold has fewer slots")
	// ErrSlotTaken is returned when a slot that is to be granted already is.
	ErrSlotTaken = errors.New("slot is already granted")
)

// HoldID names a hold: the auction that it was bid in.
type HoldID = workload.AuctionID

// SlotKey names a granted slot.
type SlotKey struct {
	Workload workload.ID
	Slot     workload.SlotID
}

// Limits is what a node offers besides CPUs.
type Limits struct {
	Memory int64 // bytes
	Disk   int64 // bytes
	Slots  int   // attempts at once

	// Keep is how many cores the machine's owner keeps, the lowest numbers first,
	// where the kernel's own work goes: of them only idle time is lent.
	Keep int
	// Cookies says that the kernel keeps spare work off the sibling thread of
	// other work (core scheduling). Without, a core of several threads that is
	// in use lends nothing.
	Cookies bool
}

// Allocator keeps account of a node's capacity: what is free, held and granted.
// It is not safe for concurrent use.
type Allocator struct {
	topo   Topology
	total  workload.Capacity
	free   workload.Capacity // Memory, Disk and Slots; the CPUs are counted in nodes
	cores  []coreState
	nodes  []nodeState
	holds  map[HoldID]hold
	grants map[SlotKey]claim
	expiry int64 // the earliest of the holds'; MaxInt64 without any
	lent   lending
}

// coreState is who uses which thread of a core. Bit i stands for CPUs[i].
type coreState struct {
	all, used uint64
	firm      uint64          // the threads of used that are granted, not only held
	tenant    workload.PeerID // of every used thread; meaningless when none is
	node      int             // index into Allocator.nodes
	width     int
	whole     bool // may be given whole
	kept      bool // the machine's owner's: in no list of its node
}

// nodeState is one NUMA node's cores and how many of them nobody uses.
type nodeState struct {
	fast        []int // cores in the order in which whole ones are given: fastest first
	wide        []int // cores in the order in which threads are given: widest first, then slowest
	freeCores   int   // wholly free and allowed to be given whole
	freeThreads int   // on wholly free cores
}

// hold is capacity that a bid promises.
type hold struct {
	claims  []claim
	expires int64
}

// claim is what one slot takes.
type claim struct {
	owner        workload.PeerID // the tenant: see tenantOf
	parts        []part
	memory, disk int64
	spare        int32  // threads of idle time, in place of parts
	seq          uint64 // of a spare claim: they are served in this order
}

type part struct {
	core int
	mask uint64
}

// New returns an allocator with everything free. The error wraps ErrNoCPU or
// ErrMalformed, or names the limit that is out of range.
func New(topo Topology, limits Limits) (*Allocator, error) {
	if err := topo.check(); err != nil {
		return nil, fmt.Errorf("allocator: %w", err)
	}
	if limits.Memory < 0 || limits.Disk < 0 || limits.Slots < 0 || limits.Slots > math.MaxInt32 || limits.Keep < 0 {
		return nil, fmt.Errorf("allocator: limits %+v: want 0 or more", limits)
	}
	a := &Allocator{
		topo: topo, holds: map[HoldID]hold{}, grants: map[SlotKey]claim{}, expiry: math.MaxInt64,
		free: workload.Capacity{Memory: limits.Memory, Disk: limits.Disk, Slots: int32(limits.Slots)},
		lent: lending{most: unmeasured, cookies: limits.Cookies},
	}
	a.addCores(limits.Keep)
	a.total = a.Available()
	return a, nil
}

func (a *Allocator) addCores(keep int) {
	kept := a.topo.lowest(keep)
	index := map[int]int{}
	for i, c := range a.topo.Cores {
		n, known := index[c.Node]
		if !known {
			n = len(a.nodes)
			index[c.Node] = n
			a.nodes = append(a.nodes, nodeState{})
		}
		width := len(c.CPUs)
		a.cores = append(a.cores, coreState{all: 1<<width - 1, node: n, width: width, whole: !c.Shared && !kept[i], kept: kept[i]})
		if kept[i] {
			continue
		}
		node := &a.nodes[n]
		node.fast, node.wide = append(node.fast, i), append(node.wide, i)
		node.freeThreads += width
		if !c.Shared {
			node.freeCores++
		}
	}
	for _, node := range a.nodes {
		slices.SortStableFunc(node.fast, a.fasterFirst)
		slices.SortStableFunc(node.wide, a.widerFirst)
	}
}

func (a *Allocator) fasterFirst(i, j int) int {
	return cmp.Compare(a.topo.Cores[i].Tier, a.topo.Cores[j].Tier)
}

// widerFirst prefers, among cores of equal width, those that cannot be given
// whole and then the slower ones, so that fast whole cores stay for who pays for them.
func (a *Allocator) widerFirst(i, j int) int {
	if a.cores[i].width != a.cores[j].width {
		return a.cores[j].width - a.cores[i].width
	}
	if a.cores[i].whole != a.cores[j].whole {
		if a.cores[j].whole {
			return -1
		}
		return 1
	}
	return a.topo.Cores[j].Tier - a.topo.Cores[i].Tier
}

// Total returns the capacity that the allocator was made with.
func (a *Allocator) Total() workload.Capacity { return a.total }

// Available returns what is neither held nor granted: Cores that are wholly
// free, Threads that a new tenant may have, and the Spare threads whose idle
// time nobody uses. Spare work leaves the others as they are.
func (a *Allocator) Available() workload.Capacity {
	free := a.free
	free.Spare = a.spareFree()
	for i := range a.nodes {
		free.Cores += int32(a.nodes[i].freeCores)
		free.Threads += int32(a.nodes[i].freeThreads)
	}
	return free
}

// Utilisation returns, in permille, the threads that a new tenant cannot have
// any more: used ones and their idle siblings.
func (a *Allocator) Utilisation() int64 {
	if a.total.Threads == 0 {
		return 0
	}
	return 1000 - int64(a.Available().Threads)*1000/int64(a.total.Threads)
}

// Hold reserves up to slots slots of shape for owner until expires, and returns
// how many it got; with fewer than asked for, the reasons say what the next one
// lacks. It first drops the holds that expired by now. A second Hold under an ID
// replaces the first.
func (a *Allocator) Hold(id HoldID, owner workload.PeerID, shape workload.Resources, slots int, now, expires int64) (int, []workload.Reason) {
	a.Expire(now)
	a.Release(id)
	var claims []claim
	for range slots {
		c, ok := a.claim(owner, shape)
		if !ok {
			break
		}
		claims = append(claims, c)
	}
	if len(claims) > 0 {
		a.holds[id] = hold{claims: claims, expires: expires}
		a.expiry = min(a.expiry, expires)
	}
	if len(claims) >= slots {
		return len(claims), nil
	}
	return len(claims), a.Reasons(owner, shape)
}

// Commit grants the first slots of a hold under keys, in order, and releases
// the rest of it. The error wraps ErrNoHold, ErrHoldTooSmall or ErrSlotTaken;
// nothing has changed then. A hold past its time counts until Expire drops it.
func (a *Allocator) Commit(id HoldID, keys ...SlotKey) error {
	h, known := a.holds[id]
	if !known {
		return fmt.Errorf("commit %x: %w", id, ErrNoHold)
	}
	if len(keys) > len(h.claims) {
		return fmt.Errorf("commit %x: %d slots of %d: %w", id, len(keys), len(h.claims), ErrHoldTooSmall)
	}
	for i, key := range keys {
		if _, taken := a.grants[key]; taken {
			for _, undo := range keys[:i] {
				delete(a.grants, undo)
			}
			return fmt.Errorf("commit %x: %s/%d: %w", id, key.Workload.Short(), key.Slot, ErrSlotTaken)
		}
		a.grants[key] = h.claims[i]
	}
	for i := range keys {
		a.firm(h.claims[i])
	}
	for _, c := range h.claims[len(keys):] {
		a.giveBack(c)
	}
	delete(a.holds, id)
	return nil
}

// Release drops a hold and reports whether there was one.
func (a *Allocator) Release(id HoldID) bool {
	h, known := a.holds[id]
	for _, c := range h.claims {
		a.giveBack(c)
	}
	delete(a.holds, id)
	return known
}

// Expire drops every hold whose time is now or earlier and returns their IDs
// in ascending order.
func (a *Allocator) Expire(now int64) []HoldID {
	if now < a.expiry {
		return nil
	}
	var gone []HoldID
	a.expiry = math.MaxInt64
	for id, h := range a.holds {
		if h.expires <= now {
			gone = append(gone, id)
		} else {
			a.expiry = min(a.expiry, h.expires)
		}
	}
	slices.SortFunc(gone, func(x, y HoldID) int { return bytes.Compare(x[:], y[:]) })
	for _, id := range gone {
		a.Release(id)
	}
	return gone
}

// Speed is that of the slowest core that a hold has, in permille of the
// machine's fastest; 1000 for idle time, which moves about, and without a hold.
func (a *Allocator) Speed(id HoldID) int64 {
	slowest := int64(1000)
	for _, c := range a.holds[id].claims {
		for _, p := range c.parts {
			slowest = min(slowest, a.topo.Speed(a.topo.Cores[p.core].Tier))
		}
	}
	return slowest
}

// Held returns how many slots a hold has; 0 when there is no such hold.
func (a *Allocator) Held(id HoldID) int { return len(a.holds[id].claims) }

// Take grants a slot without a hold. It returns nil when the slot is granted,
// and otherwise why it is not.
func (a *Allocator) Take(key SlotKey, owner workload.PeerID, shape workload.Resources) []workload.Reason {
	if _, taken := a.grants[key]; taken {
		return []workload.Reason{{Code: workload.Refused, Note: ErrSlotTaken.Error()}}
	}
	c, ok := a.claim(owner, shape)
	if !ok {
		return a.Reasons(owner, shape)
	}
	a.grants[key] = c
	a.firm(c)
	return nil
}

// Free takes a granted slot back and reports whether there was one.
func (a *Allocator) Free(key SlotKey) bool {
	c, known := a.grants[key]
	if known {
		a.giveBack(c)
		delete(a.grants, key)
	}
	return known
}

// Grants returns the granted slots, ordered by workload and slot.
func (a *Allocator) Grants() []SlotKey {
	return slices.SortedFunc(maps.Keys(a.grants), func(x, y SlotKey) int {
		return cmp.Or(bytes.Compare(x.Workload.Cell[:], y.Workload.Cell[:]),
			bytes.Compare(x.Workload.Random[:], y.Workload.Random[:]), cmp.Compare(x.Slot, y.Slot))
	})
}

// CPUs returns the logical CPUs of a granted slot, ascending, each once; nil
// without such a slot. Those of a spare slot change with every other call, and
// are none while there is no idle time for it.
func (a *Allocator) CPUs(key SlotKey) []int {
	var cpus []int
	for _, p := range a.partsOf(key) {
		for mask := p.mask; mask != 0; mask &= mask - 1 {
			cpus = append(cpus, a.topo.Cores[p.core].CPUs[bits.TrailingZeros64(mask)])
		}
	}
	slices.Sort(cpus)
	return slices.Compact(cpus)
}

// MemoryNodes returns the NUMA nodes that a granted slot's CPUs are on, as the
// kernel numbers them, ascending.
func (a *Allocator) MemoryNodes(key SlotKey) []int {
	var nodes []int
	for _, p := range a.partsOf(key) {
		nodes = append(nodes, a.topo.Cores[p.core].Node)
	}
	slices.Sort(nodes)
	return slices.Compact(nodes)
}

// Bind returns the NUMA nodes that a granted slot's memory should come from:
// those of its CPUs. It is nil where that is no choice, for spare slots, which
// move, and where those nodes have less memory than the slot may use.
func (a *Allocator) Bind(key SlotKey) []int {
	c, known := a.grants[key]
	if !known || c.spare > 0 || len(a.topo.Nodes) < 2 || a.topo.Declared {
		return nil
	}
	nodes := a.MemoryNodes(key)
	var has int64
	for _, n := range a.topo.Nodes {
		if slices.Contains(nodes, n.ID) {
			has += n.Memory
		}
	}
	if has < c.memory {
		return nil
	}
	return nodes
}

// claim takes what one slot needs, or nothing.
func (a *Allocator) claim(owner workload.PeerID, shape workload.Resources) (claim, bool) {
	if shape.Validate() != nil || a.free.Slots < 1 || shape.Memory > a.free.Memory || shape.Disk > a.free.Disk {
		return claim{}, false
	}
	owner = tenantOf(owner, shape)
	if shape.Class == workload.Spare {
		return a.lend(owner, shape)
	}
	parts := a.pick(owner, shape)
	if parts == nil {
		return claim{}, false
	}
	for _, p := range parts {
		a.occupy(p, owner)
	}
	a.free.Slots--
	a.free.Memory -= shape.Memory
	a.free.Disk -= shape.Disk
	return claim{owner: owner, parts: parts, memory: shape.Memory, disk: shape.Disk}, true
}

func (a *Allocator) giveBack(c claim) {
	if c.spare > 0 {
		a.lent.remove(c)
		return
	}
	for _, p := range c.parts {
		a.vacate(p)
	}
	a.free.Slots++
	a.free.Memory += c.memory
	a.free.Disk += c.disk
}

// firm marks the threads of a claim as granted.
func (a *Allocator) firm(c claim) {
	for _, p := range c.parts {
		a.cores[p.core].firm |= p.mask
	}
}

func (a *Allocator) occupy(p part, owner workload.PeerID) {
	c := &a.cores[p.core]
	a.free.Beside -= c.beside()
	if c.used == 0 {
		c.tenant = owner
		a.nodes[c.node].count(c, -1)
	}
	c.used |= p.mask
	a.free.Beside += c.beside()
}

func (a *Allocator) vacate(p part) {
	c := &a.cores[p.core]
	a.free.Beside -= c.beside()
	c.used &^= p.mask
	c.firm &^= p.mask
	a.free.Beside += c.beside()
	if c.used == 0 {
		a.nodes[c.node].count(c, +1)
	}
}

// beside counts the idle threads of a core in use.
func (c *coreState) beside() int32 {
	if c.used == 0 {
		return 0
	}
	return int32(c.idle())
}

// count adds sign times the core c to what is wholly free.
func (n *nodeState) count(c *coreState, sign int) {
	n.freeThreads += sign * c.width
	if c.whole {
		n.freeCores += sign
	}
}
