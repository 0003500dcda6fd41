package workload

import "fmt"

// Class is the kind of CPU a task asks for.
type Class string

// The CPU classes. Core is a physical core with all its sibling threads;
// Thread is one hyperthread, whose sibling belongs to the same tenant or stays
// idle; Spare is what is idle of a hyperthread at the lowest priority: it is
// paused or taken back whenever anything else wants it.
const (
	Core   Class = "core"
	Thread Class = "thread"
	Spare  Class = "spare"
)

// Bounds of a task's shape. MaxCPUs is what the largest machine we know of has
// (a bound on nonsense, not a limit of the allocator).
const (
	MaxCPUs   = 4096
	MinMemory = 1 << 20
	MaxMemory = 1 << 50
	MaxPids   = 1 << 20
)

// MinQuota is the least CPU time that can be asked for, in permille of one
// thread: the kernel gives out no less than 1 ms in 100 ms.
const MinQuota = 10

// Resources is the shape of one slot: what one task of a workload holds while
// it runs. All limits are enforced, not advisory.
type Resources struct {
	Class  Class `cbor:"1,keyasint" json:"class" max:"16"`
	CPUs   int32 `cbor:"2,keyasint" json:"cpus"`   // cores or threads, 1 to MaxCPUs
	Memory int64 `cbor:"3,keyasint" json:"memory"` // bytes of memory, swap included
	Disk   int64 `cbor:"4,keyasint" json:"disk"`   // bytes of scratch and output
	Pids   int32 `cbor:"5,keyasint" json:"pids"`   // processes and threads at once

	// Quota bounds the CPU time, in permille of one thread (1500 is one and a
	// half): MinQuota to 1000 x MaxCPUs. 0 is no bound but the CPUs themselves.
	Quota int32 `cbor:"6,keyasint,omitempty" json:"quota,omitempty"`
	// Share lets other owners who say so too run on this slot's cores: on the
	// sibling threads, and spare work in its idle time.
	Share bool `cbor:"7,keyasint,omitempty" json:"share,omitempty"`
}

// DefaultResources is one physical core, 256 MiB of memory, 1 GiB of scratch
// and 256 processes.
func DefaultResources() Resources {
	return Resources{Class: Core, CPUs: 1, Memory: 256 << 20, Disk: 1 << 30, Pids: 256}
}

// Validate returns an error that names the field and the range it must be in.
func (r Resources) Validate() error {
	switch {
	case r.Class != Core && r.Class != Thread && r.Class != Spare:
		return fmt.Errorf("class: %.20q is not offered by this version; want %q, %q or %q", r.Class, Core, Thread, Spare)
	case r.CPUs < 1 || r.CPUs > MaxCPUs:
		return fmt.Errorf("cpus: want 1 to %d %ss, got %d", MaxCPUs, r.Class, r.CPUs)
	case r.Quota != 0 && (r.Quota < MinQuota || r.Quota > 1000*MaxCPUs):
		return fmt.Errorf("quota: want %d to %d permille of a thread, got %d", MinQuota, 1000*MaxCPUs, r.Quota)
	case r.Memory < MinMemory || r.Memory > MaxMemory:
		return fmt.Errorf("memory: want 1 MiB to 1 PiB, got %d bytes", r.Memory)
	case r.Disk < 0 || r.Disk > MaxMemory:
		return fmt.Errorf("disk: want 0 to 1 PiB, got %d bytes", r.Disk)
	case r.Pids < 1 || r.Pids > MaxPids:
		return fmt.Errorf("pids: want 1 to %d, got %d", MaxPids, r.Pids)
	}
	return nil
}

// Capacity is an amount of everything that slots are made of.
type Capacity struct {
	Cores   int32 `cbor:"1,keyasint" json:"cores"`   // physical cores (in Free: wholly free ones)
	Threads int32 `cbor:"2,keyasint" json:"threads"` // hyperthreads (in Free: those a new tenant may have)
	Memory  int64 `cbor:"3,keyasint" json:"memory"`
	Disk    int64 `cbor:"4,keyasint" json:"disk"`
	Slots   int32 `cbor:"5,keyasint" json:"slots"` // attempts at once that the node is willing to run

	// Spare is threads whose idle time is lent out (in Free: what is idle of
	// them now). It takes nothing from Cores and Threads, nor they from it.
	Spare int32 `cbor:"6,keyasint,omitempty" json:"spare,omitempty"`
	// Beside is threads that are idle on cores in use: only the tenant of such a
	// core may have them.
	Beside int32 `cbor:"7,keyasint,omitempty" json:"beside,omitempty"`
}
