package capacity

import (
	"cmp"
	"math/bits"
	"slices"

	"github.com/perrin-mesh/perrin/workload"
)

// pick chooses the threads of one slot, without taking them; nil when they are
// not there. All come from one NUMA node if any node has them: the one that is
// left with the least, so that big gaps stay big. Otherwise from as few nodes as
// possible.
func (a *Allocator) pick(owner workload.PeerID, shape workload.Resources) []part {
	n := int(shape.CPUs)
	if shape.Class == workload.Core { // a spare shape gets its threads in lend
		return a.pickCores(n)
	}
	return a.pickThreads(owner, n)
}

func (a *Allocator) pickCores(n int) []part {
	room := make([]int, 0, 16)
	for i := range a.nodes {
		room = append(room, a.nodes[i].freeCores)
	}
	var parts []part
	for _, i := range spread(n, room, room) {
		parts = a.takeCores(parts, &a.nodes[i], min(n-len(parts), room[i]))
	}
	return parts
}

// takeCores adds n wholly free cores of node, the fastest first.
func (a *Allocator) takeCores(parts []part, node *nodeState, n int) []part {
	for _, i := range node.fast {
		if n == 0 {
			break
		}
		if c := &a.cores[i]; c.used == 0 && c.whole {
			parts = append(parts, part{core: i, mask: c.all})
			n--
		}
	}
	return parts
}

func (a *Allocator) pickThreads(owner workload.PeerID, n int) []part {
	own := make([]int, len(a.nodes), 16)
	for i := range a.cores {
		if c := &a.cores[i]; c.used != 0 && c.used != c.all && c.tenant == owner {
			own[c.node] += c.idle()
		}
	}
	room, cost := make([]int, 0, 16), make([]int, 0, 16)
	for i := range a.nodes {
		free := a.nodes[i].freeThreads
		room = append(room, own[i]+free)
		// First by the threads that free cores would have to give, then by those left.
		cost = append(cost, max(n-own[i], 0)*(workload.MaxCPUs*maxSiblings)+free)
	}
	var parts []part
	for _, i := range spread(n, room, cost) {
		part := min(n, room[i])
		parts = a.takeThreads(parts, &a.nodes[i], owner, part)
		n -= part
	}
	return parts
}

// takeThreads adds n threads of node: idle siblings of the owner's own threads
// first, then free cores that n fills whole, the widest first, and for the rest
// the narrowest core that has it.
func (a *Allocator) takeThreads(parts []part, node *nodeState, owner workload.PeerID, n int) []part {
	take := func(i, want int) {
		c := &a.cores[i]
		mask := lowest(c.all&^c.used, want)
		parts = append(parts, part{core: i, mask: mask})
		n -= bits.OnesCount64(mask)
	}
	for _, i := range node.wide {
		if c := &a.cores[i]; n > 0 && c.used != 0 && c.used != c.all && c.tenant == owner {
			take(i, n)
		}
	}
	narrowest := -1
	for _, i := range node.wide {
		c := &a.cores[i]
		switch {
		case n == 0:
			return parts
		case c.used != 0:
		case c.width <= n:
			take(i, n)
		case narrowest < 0 || c.width < a.cores[narrowest].width:
			narrowest = i
		}
	}
	if n > 0 && narrowest >= 0 {
		take(narrowest, n)
	}
	return parts
}

func (c *coreState) idle() int { return c.width - bits.OnesCount64(c.used) }

// lowest returns the n lowest set bits of mask, or all when there are fewer.
func lowest(mask uint64, n int) uint64 {
	rest := mask
	for range n {
		rest &= rest - 1
	}
	return mask &^ rest
}

// spread returns which nodes to take n units from, given each node's room: one
// node of the least cost that has them all, else the roomiest ones until there
// are enough, else none.
func spread(n int, room, cost []int) []int {
	best, sum := -1, 0
	for i, r := range room {
		sum += r
		if r >= n && (best < 0 || cost[i] < cost[best]) {
			best = i
		}
	}
	if best >= 0 {
		return []int{best}
	}
	if sum < n {
		return nil
	}
	order := make([]int, len(room))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(room[j], room[i]) })
	have, count := 0, 0
	for have < n {
		have += room[order[count]]
		count++
	}
	return order[:count]
}
