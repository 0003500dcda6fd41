package pricing

import "github.com/perrin-mesh/perrin/workload"

// threadMargin is what a thread costs above its share of the core's speed, in
// permille: its buyer may leave the sibling idle.
const threadMargin = 1050

const gib = 1 << 30

// Asks returns the asks of a node at utilisation u (permille; outside of 0 to
// 1000 counts as the nearer end), at most a step away from prev; the zero prev
// is no bound. With k = 1 + Slope x u^3:
//
//	core   = Base x k x (1 + Evidence)
//	thread = core x SMT / Width x 1.05, at most core; a core of one thread is a core
//	spare  = thread at u = 0 x Lend
//	memory = Memory
//
// Idle time costs the same on a busy machine: what there is of it says how busy.
func Asks(cfg Config, u int64, prev workload.Asks) workload.Asks {
	core := mulDiv(cfg.Base, scarcity(cfg, u), million, MaxRate)
	core = mulDiv(core, 1000+cfg.Evidence, 1000, MaxRate)
	if prev != (workload.Asks{}) {
		step := mulDiv(prev.Core, cfg.Step, 1000, MaxRate)
		core = min(max(core, prev.Core-step), prev.Core+step, MaxRate)
	}
	idle := thread(cfg, mulDiv(cfg.Base, 1000+cfg.Evidence, 1000, MaxRate))
	return workload.Asks{Core: core, Thread: thread(cfg, core), Memory: min(cfg.Memory, MaxRate), Spare: mulDiv(idle, cfg.Lend, 1000, MaxRate)}
}

const million = 1_000_000

// scarcity is k = 1 + a u^3 in millionths.
func scarcity(cfg Config, u int64) int64 {
	u = min(max(u, 0), 1000)
	return million + cfg.Slope*(u*u*u)/million
}

func thread(cfg Config, core int64) int64 {
	if cfg.Width <= 1 {
		return core
	}
	return min(core, mulDiv(core, cfg.SMT*threadMargin, cfg.Width*million, MaxRate))
}

// SlotRate is the price of one slot of shape in micro-credits per slot-second:
// its cores or threads and its memory.
func SlotRate(a workload.Asks, shape workload.Resources) int64 {
	cpu := a.Core
	switch shape.Class {
	case workload.Thread:
		cpu = a.Thread
		if shape.Share { // nothing is left idle beside it
			cpu = mulDiv(cpu, 1000, threadMargin, MaxRate)
		}
	case workload.Spare:
		cpu = a.Spare
	}
	return min(MaxRate, mulDiv(int64(shape.CPUs), cpu, 1, MaxRate)+mulDiv(shape.Memory, a.Memory, gib, MaxRate))
}

// Curve is the supply curve: what the node asks for each of up to n slots of
// shape (at most MaxCurve), given its capacity in all and what of it is free.
// The first costs SlotRate(asks, shape). Each further one is priced at the
// utilisation that those before it cause, so the curve never falls; idle time
// costs the same for all. It prices slots; whether they fit is the allocator's to say.
func Curve(cfg Config, asks workload.Asks, shape workload.Resources, n int, total, free workload.Capacity) []int64 {
	n = min(max(n, 0), MaxCurve)
	curve := make([]int64, n)
	threads := max(int64(total.Threads), 1)
	used := min(max(threads-int64(free.Threads), 0), threads)
	each := threadsOf(shape, total)
	start := scarcity(cfg, used*1000/threads)
	for i := range curve {
		now := scarcity(cfg, min(used+int64(i)*each, threads)*1000/threads)
		curve[i] = SlotRate(workload.Asks{
			Core: mulDiv(asks.Core, now, start, MaxRate), Thread: mulDiv(asks.Thread, now, start, MaxRate), Memory: asks.Memory, Spare: asks.Spare,
		}, shape)
	}
	return curve
}

// threadsOf is how many of the node's threads a slot of shape keeps from others.
func threadsOf(shape workload.Resources, total workload.Capacity) int64 {
	cpus := min(max(int64(shape.CPUs), 0), workload.MaxCPUs)
	if shape.Class == workload.Thread || total.Cores < 1 {
		return cpus
	}
	return mulDiv(cpus, int64(total.Threads), int64(total.Cores), workload.MaxCPUs*64)
}

// Settle returns what a slot is paid: the lowest rejected ask of another node,
// brought to the winner's terms by the score (runnerUp; negative when none was
// rejected), but at most 1.25 x its own ask and the owner's limit (0: none), and
// never less than its own ask. With none rejected it is paid its own ask. It is
// a bounded second price (Vickrey, 1961): asking more than one's cost can lose
// the slot and gains at most a quarter.
func Settle(own, runnerUp, limit int64) int64 {
	own = min(max(own, 0), MaxRate)
	if runnerUp < 0 {
		return own
	}
	if limit <= 0 {
		limit = MaxRate
	}
	return max(own, min(runnerUp, own+own/4, limit))
}

// Charge is the price of ms milliseconds of a slot at rate micro-credits per
// second, rounded up to a whole micro-credit: 0 to MaxCharge, 0 when either is
// not positive.
func Charge(rate, ms int64) int64 { return mulDiv(rate, ms, 1000, MaxCharge) }
