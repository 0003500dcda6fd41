package capacity

import (
	"fmt"
	"math"
	"slices"

	"github.com/perrin-mesh/perrin/workload"
)

// Reasons returns everything that one more slot of shape for owner lacks now,
// CPUs first; nil when it would fit.
func (a *Allocator) Reasons(owner workload.PeerID, shape workload.Resources) []workload.Reason {
	if err := shape.Validate(); err != nil {
		return []workload.Reason{{Code: workload.Refused, Note: err.Error()}}
	}
	var reasons []workload.Reason
	if r, short := a.cpuReason(owner, shape); short {
		reasons = append(reasons, r)
	}
	lack := func(code workload.Code, want, have, total int64, what string) {
		if want <= have {
			return
		}
		r := workload.Reason{Code: code, Want: want, Have: have}
		if want > total {
			r.Note = fmt.Sprintf("the node offers %d %s in all", total, what)
		}
		reasons = append(reasons, r)
	}
	free := a.free
	if shape.Class == workload.Spare {
		free.Memory, free.Disk, free.Slots = free.Memory-a.lent.memory, free.Disk-a.lent.disk, free.Slots-int32(len(a.lent.claims))
	}
	lack(workload.NoMemory, shape.Memory, max(free.Memory, 0), a.total.Memory, "bytes of memory")
	lack(workload.NoDisk, shape.Disk, max(free.Disk, 0), a.total.Disk, "bytes of disk")
	lack(workload.NoSlots, 1, int64(max(free.Slots, 0)), int64(a.total.Slots), "slots")
	return reasons
}

func (a *Allocator) cpuReason(owner workload.PeerID, shape workload.Resources) (workload.Reason, bool) {
	if shape.Class == workload.Spare {
		return a.spareReason(tenantOf(owner, shape), shape)
	}
	want, free := int64(shape.CPUs), a.Available()
	owner = tenantOf(owner, shape)
	own, others := a.idleSiblings(owner)
	if shape.Class == workload.Core {
		r := workload.Reason{Code: workload.NoCores, Want: want, Have: int64(free.Cores)}
		r.Note = a.coresNote(shape.CPUs, own, others)
		return r, want > r.Have
	}
	r := workload.Reason{Code: workload.NoThreads, Want: want, Have: int64(free.Threads) + int64(own)}
	switch {
	case shape.CPUs > a.total.Threads:
		r.Note = fmt.Sprintf("the node offers %s in all", workload.Counted(int(a.total.Threads), "thread"))
	case others > 0:
		r.Note = fmt.Sprintf("%s asked, %d more free but on cores of other tenants", workload.Counted(int(shape.CPUs), "thread"), others)
	}
	return r, want > r.Have
}

// spareReason says why no idle time is left for a tenant.
func (a *Allocator) spareReason(tenant workload.PeerID, shape workload.Resources) (workload.Reason, bool) {
	try := *a
	try.lent.claims = slices.Clone(a.lent.claims)
	shape.Memory, shape.Disk, try.free.Slots = 0, 0, math.MaxInt32
	try.free.Memory, try.free.Disk = try.lent.memory, try.lent.disk
	if _, fits := try.lend(tenant, shape); fits {
		return workload.Reason{}, false
	}
	r := workload.Reason{Code: workload.NoSpare, Want: int64(shape.CPUs), Have: int64(a.spareFree())}
	switch total := a.spareTotal(); {
	case shape.CPUs > total:
		r.Note = fmt.Sprintf("the node lends the idle time of %s in all", workload.Counted(int(total), "thread"))
	case r.Have >= r.Want:
		r.Have, r.Note = 0, "what is idle is on cores of other tenants"
	case a.lent.most < total-a.lent.threads:
		r.Note = "the machine is busy with work of its own"
	}
	return r, true
}

func (a *Allocator) coresNote(want int32, own, others int) string {
	idle, whose := own+others, "cores that are in use"
	if own == 0 {
		whose = "cores of other tenants"
	}
	kept := 0
	for i := range a.cores {
		if a.cores[i].kept {
			kept++
		}
	}
	switch {
	case want > a.total.Cores && kept > 0:
		return fmt.Sprintf("the node offers %s in all; its owner keeps %d", workload.Counted(int(a.total.Cores), "whole core"), kept)
	case want > a.total.Cores && int(a.total.Cores) < len(a.cores):
		return fmt.Sprintf("the node offers %s in all; of its other cores a thread is outside its CPU set",
			workload.Counted(int(a.total.Cores), "whole core"))
	case want > a.total.Cores:
		return fmt.Sprintf("the node offers %s in all", workload.Counted(int(a.total.Cores), "whole core"))
	case idle > 0:
		return fmt.Sprintf("%s asked, %s free but on %s", workload.Counted(int(want), "whole core"), workload.Counted(idle, "thread"), whose)
	}
	return ""
}

// idleSiblings counts the idle threads on cores in use: those on owner's own
// cores and those on other tenants'.
func (a *Allocator) idleSiblings(owner workload.PeerID) (own, others int) {
	for i := range a.cores {
		switch c := &a.cores[i]; {
		case c.used == 0:
		case c.tenant == owner:
			own += c.idle()
		default:
			others += c.idle()
		}
	}
	return own, others
}
