package capacity

import (
	"math/bits"

	"github.com/perrin-mesh/perrin/workload"
)

// Picture returns every core and who holds its threads. Whose a slot is, owner
// says; it may be nil.
func (a *Allocator) Picture(owner func(SlotKey) workload.PeerID) []workload.CoreUse {
	out := make([]workload.CoreUse, len(a.cores))
	for i, c := range a.topo.Cores {
		out[i] = workload.CoreUse{Socket: int32(c.Socket), Node: int32(c.Node), Tier: int32(c.Tier), Kept: a.cores[i].kept}
		for k, cpu := range c.CPUs {
			bit := uint64(1) << k
			out[i].Threads = append(out[i].Threads, workload.ThreadUse{
				CPU: int32(cpu), Taken: a.cores[i].used&bit != 0, Held: a.cores[i].used&^a.cores[i].firm&bit != 0,
			})
		}
	}
	for _, key := range a.Grants() {
		for _, p := range a.grants[key].parts {
			for mask := p.mask; mask != 0; mask &= mask - 1 {
				t := &out[p.core].Threads[bits.TrailingZeros64(mask)]
				t.Workload, t.Slot = key.Workload, key.Slot
				if owner != nil {
					t.Owner = owner(key)
				}
			}
		}
	}
	return out
}
