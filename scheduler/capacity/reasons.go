package capacity

import (
	"fmt"

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
	lack(workload.NoMemory, shape.Memory, a.free.Memory, a.total.Memory, "bytes of memory")
	lack(workload.NoDisk, shape.Disk, a.free.Disk, a.total.Disk, "bytes of disk")
	lack(workload.NoSlots, 1, int64(a.free.Slots), int64(a.total.Slots), "slots")
	return reasons
}

func (a *Allocator) cpuReason(owner workload.PeerID, shape workload.Resources) (workload.Reason, bool) {
	want, free := int64(shape.CPUs), a.Available()
	own, others := a.idleSiblings(owner)
	if shape.Class == workload.Core {
		r := workload.Reason{Code: workload.NoCores, Want: want, Have: int64(free.Cores)}
		r.Note = a.coresNote(shape.CPUs, own+others)
		return r, want > r.Have
	}
	r := workload.Reason{Code: workload.NoThreads, Want: want, Have: int64(free.Threads) + int64(own)}
	switch {
	case shape.CPUs > a.total.Threads:
		r.Note = fmt.Sprintf("the node offers %s in all", plural(int(a.total.Threads), "thread"))
	case others > 0:
		r.Note = fmt.Sprintf("%s asked; %d more idle, but on cores of other tenants", plural(int(shape.CPUs), "thread"), others)
	}
	return r, want > r.Have
}

func (a *Allocator) coresNote(want int32, idle int) string {
	switch {
	case want > a.total.Cores && int(a.total.Cores) < len(a.cores):
		return fmt.Sprintf("the node offers %s in all; of its other cores a thread is outside its CPU set",
			plural(int(a.total.Cores), "whole core"))
	case want > a.total.Cores:
		return fmt.Sprintf("the node offers %s in all", plural(int(a.total.Cores), "whole core"))
	case idle > 0:
		return fmt.Sprintf("%s asked; %s idle, but on cores that are in use", plural(int(want), "whole core"), plural(idle, "thread"))
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

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
