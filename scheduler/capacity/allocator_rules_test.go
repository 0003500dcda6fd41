package capacity

import (
	"fmt"
	"math/bits"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/perrin-mesh/perrin/workload"
)

// verify returns what is wrong with the allocator's books, from first principles.
func verify(a *Allocator) error {
	used := make([]uint64, len(a.cores))
	memory, disk, slots := a.total.Memory, a.total.Disk, a.total.Slots
	claims := make([]claim, 0, len(a.grants))
	for _, c := range a.grants {
		claims = append(claims, c)
	}
	for _, h := range a.holds {
		claims = append(claims, h.claims...)
	}
	if err := verifyLent(a, claims); err != nil {
		return err
	}
	for _, c := range claims {
		if c.spare > 0 {
			continue // it takes nothing from what follows
		}
		memory, disk, slots = memory-c.memory, disk-c.disk, slots-1
		for _, p := range c.parts {
			switch core := &a.cores[p.core]; {
			case p.mask == 0 || p.mask&^core.all != 0:
				return fmt.Errorf("core %d: threads %b do not exist", p.core, p.mask)
			case used[p.core]&p.mask != 0:
				return fmt.Errorf("core %d: threads %b are given twice", p.core, p.mask)
			case core.tenant != c.owner:
				return fmt.Errorf("core %d: tenants %q and %q are mixed", p.core, core.tenant[:1], c.owner[:1])
			}
			used[p.core] |= p.mask
		}
	}
	var want workload.Capacity
	for i := range a.cores {
		if used[i] != a.cores[i].used {
			return fmt.Errorf("core %d: threads %b are marked, %b are given", i, a.cores[i].used, used[i])
		}
		if used[i] != 0 {
			want.Beside += int32(a.cores[i].width - bits.OnesCount64(used[i]))
		}
		if used[i] == 0 {
			want.Threads += int32(a.cores[i].width)
			if a.cores[i].kept {
				want.Threads -= int32(a.cores[i].width)
			} else if a.cores[i].whole {
				want.Cores++
			}
		}
	}
	want.Memory, want.Disk, want.Slots, want.Spare = memory, disk, slots, a.spareFree()
	if memory < 0 || disk < 0 || slots < 0 {
		return fmt.Errorf("over-allocated: %+v", want)
	}
	if got := a.Available(); got != want {
		return fmt.Errorf("available is %+v, should be %+v", got, want)
	}
	return nil
}

// verifyLent checks the spare claims: their books, and that no core has two
// tenants, be they spare or reserved, nor spare work beside other work that the
// kernel would not keep apart.
func verifyLent(a *Allocator, claims []claim) error {
	var threads, runs int32
	var memory, disk int64
	for _, c := range claims {
		if c.spare > 0 {
			threads, memory, disk = threads+c.spare, memory+c.memory, disk+c.disk
		}
	}
	if threads != a.lent.threads || memory != a.lent.memory || disk != a.lent.disk {
		return fmt.Errorf("lent %d threads, %d bytes, should be %d, %d", a.lent.threads, a.lent.memory, threads, memory)
	}
	if free := a.spareFree(); free < 0 || free > a.spareTotal() {
		return fmt.Errorf("%d spare threads are free", free)
	}
	tenants := map[int]workload.PeerID{}
	for _, l := range a.Lent() {
		c := a.grants[l.Key]
		if (l.Verdict == Runs) != (len(l.CPUs) > 0) {
			return fmt.Errorf("a spare slot that %s has CPUs %v", l.Verdict, l.CPUs)
		}
		if l.Verdict != Runs {
			continue
		}
		if runs += c.spare; len(l.CPUs) < int(c.spare) {
			return fmt.Errorf("%d spare threads on CPUs %v", c.spare, l.CPUs)
		}
		for i := range a.cores {
			core := &a.cores[i]
			if !slices.ContainsFunc(a.topo.Cores[i].CPUs, func(cpu int) bool { return slices.Contains(l.CPUs, cpu) }) {
				continue
			}
			if other, taken := tenants[i]; taken && other != c.owner {
				return fmt.Errorf("core %d: spare tenants %q and %q are mixed", i, other[:1], c.owner[:1])
			}
			tenants[i] = c.owner
			if core.firm != 0 && (core.tenant != c.owner || core.width > 1 && !a.lent.cookies) {
				return fmt.Errorf("core %d: spare work of %q runs beside work of %q", i, c.owner[:1], core.tenant[:1])
			}
		}
	}
	if runs > a.lent.most {
		return fmt.Errorf("%d spare threads run, %d are idle", runs, a.lent.most)
	}
	return nil
}

// drawTopology makes a small machine: nodes, cores of several widths and tiers,
// some of them shared.
func drawTopology(t *rapid.T) Topology {
	var topo Topology
	cpu := 0
	for node := range rapid.IntRange(1, 3).Draw(t, "nodes") {
		topo.Nodes = append(topo.Nodes, Node{ID: node * 2})
		for range rapid.IntRange(1, 5).Draw(t, "cores") {
			c := Core{Node: node * 2, Tier: rapid.IntRange(0, 1).Draw(t, "tier"), Shared: rapid.IntRange(0, 5).Draw(t, "shared") == 0}
			for range rapid.SampledFrom([]int{1, 2, 2, 4}).Draw(t, "width") {
				c.CPUs = append(c.CPUs, cpu)
				cpu++
			}
			topo.Cores = append(topo.Cores, c)
		}
	}
	return topo
}

func drawShape(t *rapid.T) workload.Resources {
	return workload.Resources{
		Class: rapid.SampledFrom([]workload.Class{workload.Core, workload.Thread, workload.Thread, workload.Spare}).Draw(t, "class"),
		Share: rapid.IntRange(0, 3).Draw(t, "share") == 0,
		CPUs:  int32(rapid.IntRange(1, 6).Draw(t, "cpus")), Memory: int64(rapid.IntRange(1, 8).Draw(t, "memory")) << 20,
		Disk: int64(rapid.IntRange(0, 4).Draw(t, "disk")), Pids: 1,
	}
}

// TestAllocatorKeepsItsRules drives random machines with random operations.
// After each one the books must be right (nothing over-allocated, no tenants
// mixed); a slot is refused exactly when a reason is given; holds end at their
// time; and when all is given back, everything is free again.
func TestAllocatorKeepsItsRules(t *testing.T) {
	machines := []Topology{{}, {}} // drawn
	for _, name := range []string{"one-socket-smt", "two-sockets-numa", "hybrid", "smt-off", "vm"} {
		machines = append(machines, machine(t, name))
	}
	rapid.Check(t, func(t *rapid.T) {
		topo := rapid.SampledFrom(machines).Draw(t, "machine")
		if len(topo.Cores) == 0 {
			topo = drawTopology(t)
		}
		a, err := New(topo, Limits{
			Memory: 64 << 20, Disk: 32, Slots: 12, Keep: rapid.SampledFrom([]int{0, 0, 1, 2, 99}).Draw(t, "keep"),
			Cookies: rapid.Bool().Draw(t, "cookies"),
		})
		if err != nil {
			t.Fatal(err)
		}
		now, slot := int64(0), 0
		expires := map[HoldID]int64{}
		owner := func() workload.PeerID { return tenant(rapid.SampledFrom([]string{"A", "B", "C"}).Draw(t, "owner")) }
		id := func() HoldID { return holdID(rapid.SampledFrom([]string{"h1", "h2", "h3"}).Draw(t, "hold")) }
		t.Repeat(map[string]func(*rapid.T){
			"hold": func(t *rapid.T) {
				h, o, shape, want := id(), owner(), drawShape(t), rapid.IntRange(0, 4).Draw(t, "slots")
				end := now + int64(rapid.IntRange(1, 9).Draw(t, "for"))
				got, reasons := a.Hold(h, o, shape, want, now, end)
				if got > want || (got < want) != (len(reasons) > 0) || a.Held(h) != got {
					t.Fatalf("held %d of %d, reasons %v", got, want, reasons)
				}
				expires[h] = end
			},
			"commit": func(t *rapid.T) {
				h, n := id(), rapid.IntRange(0, 3).Draw(t, "slots")
				keys := make([]SlotKey, n)
				for i := range keys {
					keys[i] = slotKey(slot + i)
				}
				before, held := reserved(a), a.Held(h)
				err := a.Commit(h, keys...)
				if (err == nil) != (held > 0 && n <= held) {
					t.Fatalf("commit %d of %d: %v", n, held, err)
				}
				if err != nil && reserved(a) != before {
					t.Fatal("a refused commit changed something")
				}
				if err == nil {
					slot += n
				}
			},
			"take": func(t *rapid.T) {
				o, shape, before := owner(), drawShape(t), reserved(a)
				fits := withoutSpare(a).Reasons(o, shape) == nil
				lacks := a.Reasons(o, shape)
				if got := a.Take(slotKey(slot), o, shape); (got == nil) != (lacks == nil) {
					t.Fatalf("reasons %v, but taking says %v", lacks, got)
				}
				if shape.Class != workload.Spare && fits != (lacks == nil) {
					t.Fatalf("with spare work: %v; without it fits: %t", lacks, fits)
				}
				if lacks != nil || shape.Class == workload.Spare {
					if reserved(a) != before {
						t.Fatal("a take that is refused, or is of idle time, changed what is reserved")
					}
					slot++
					return
				}
				checkShape(t, a, slotKey(slot), shape)
				slot++
			},
			"free": func(t *rapid.T) {
				if slot > 0 {
					key := slotKey(rapid.IntRange(0, slot-1).Draw(t, "slot"))
					_, had := a.grants[key]
					if a.Free(key) != had || a.CPUs(key) != nil {
						t.Fatal("free does not free")
					}
				}
			},
			"measure": func(t *rapid.T) { a.SetSpare(rapid.IntRange(-1, 20).Draw(t, "idle")) },
			"release": func(t *rapid.T) { a.Release(id()) },
			"time": func(t *rapid.T) {
				now += int64(rapid.IntRange(0, 6).Draw(t, "ms"))
				a.Expire(now)
				for h, end := range expires {
					if end <= now && a.Held(h) > 0 {
						t.Fatalf("hold %q outlives its time", h)
					}
				}
			},
			"": func(t *rapid.T) {
				if err := verify(a); err != nil {
					t.Fatal(err)
				}
			},
		})
		a.Expire(now + 100)
		for _, key := range a.Grants() {
			a.Free(key)
		}
		a.SetSpare(unmeasured)
		if a.Available() != a.Total() || a.Utilisation() != 0 {
			t.Fatalf("all is given back, but free is %+v of %+v", a.Available(), a.Total())
		}
	})
}

// reserved is what is free of all but idle time.
func reserved(a *Allocator) workload.Capacity {
	free := a.Available()
	free.Spare = 0
	return free
}

// withoutSpare is a, on which nothing was ever lent.
func withoutSpare(a *Allocator) *Allocator {
	b := *a
	b.lent = lending{most: unmeasured, cookies: a.lent.cookies}
	return &b
}

// checkShape verifies that a slot got what its shape asks: whole cores that may
// be given whole, or exactly that many threads.
func checkShape(t *rapid.T, a *Allocator, key SlotKey, shape workload.Resources) {
	parts := a.grants[key].parts
	threads := 0
	for _, p := range parts {
		threads += bits.OnesCount64(p.mask)
		if c := a.cores[p.core]; shape.Class == workload.Core && (p.mask != c.all || !c.whole) {
			t.Fatalf("core %d was not given whole", p.core)
		}
	}
	if shape.Class == workload.Core && len(parts) != int(shape.CPUs) || shape.Class == workload.Thread && threads != int(shape.CPUs) {
		t.Fatalf("%+v got %d cores, %d threads", shape, len(parts), threads)
	}
}
