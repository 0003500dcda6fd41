package capacity

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/perrin-mesh/perrin/workload"
)

func tenant(name string) workload.PeerID {
	var p workload.PeerID
	copy(p[:], name)
	return p
}

func holdID(name string) HoldID {
	var id HoldID
	copy(id[:], name)
	return id
}

func slotKey(n int) SlotKey {
	key := SlotKey{Slot: workload.SlotID(n)}
	key.Workload.Random[0] = 'w'
	return key
}

// name is the letter of a tenant; a star is all who share.
func name(p workload.PeerID) string {
	if p == everyone {
		return "*"
	}
	return string(p[:1])
}

// draw prints who uses which thread: one group of letters a core, a dot for an
// idle thread, a bar between nodes.
func draw(a *Allocator) string {
	var b strings.Builder
	for i, c := range a.cores {
		if i > 0 && c.node != a.cores[i-1].node {
			b.WriteString("| ")
		}
		for s := range c.width {
			if c.used&(1<<s) != 0 {
				b.WriteString(name(c.tenant))
			} else {
				b.WriteByte('.')
			}
		}
		b.WriteByte(' ')
	}
	f := a.Available()
	fmt.Fprintf(&b, "\nfree: cores %d, threads %d, spare %d, memory %d MiB, slots %d; used %d permille\n",
		f.Cores, f.Threads, f.Spare, f.Memory>>20, f.Slots, a.Utilisation())
	for _, l := range a.Lent() {
		fmt.Fprintf(&b, "spare slot %d of %s %s", l.Key.Slot, name(a.grants[l.Key].owner), l.Verdict)
		if l.Verdict == Runs {
			fmt.Fprintf(&b, " on CPUs %s", FormatCPUs(l.CPUs))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// TestAllocator runs transcripts against an allocator with 16 GiB and 16 slots.
func TestAllocator(t *testing.T) {
	datadriven.Walk(t, "testdata/allocator", func(t *testing.T, path string) {
		var a *Allocator
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "machine" {
				topo := machine(t, d.CmdArgs[0].Key)
				if d.HasArg("only") {
					cpus, _ := ParseCPUs(strings.Join(d.CmdArgs[1].Vals, ","))
					var err error
					if topo, err = topo.Restrict(cpus); err != nil {
						t.Fatal(err)
					}
				}
				var err error
				limits := Limits{Memory: 16 << 30, Disk: 1 << 40, Slots: 16, Cookies: d.HasArg("cookies")}
				d.MaybeScanArgs(t, "keep", &limits.Keep)
				if a, err = New(topo, limits); err != nil {
					t.Fatal(err)
				}
				return draw(a)
			}
			out := transcript(t, a, d)
			if err := verify(a); err != nil {
				t.Errorf("%s: %v", d.Pos, err)
			}
			return out + draw(a)
		})
	})
}

func transcript(t *testing.T, a *Allocator, d *datadriven.TestData) string {
	var b strings.Builder
	shape := workload.DefaultResources()
	owner, slots, now, expires, slot := "A", 1, int64(0), int64(2000), 0
	for _, arg := range d.CmdArgs {
		n := func() int64 {
			v, err := strconv.ParseInt(arg.Vals[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		switch arg.Key {
		case "owner":
			owner = arg.Vals[0]
		case "cores":
			shape.Class, shape.CPUs = workload.Core, int32(n())
		case "threads":
			shape.Class, shape.CPUs = workload.Thread, int32(n())
		case "spare":
			shape.Class, shape.CPUs = workload.Spare, int32(n())
		case "share":
			shape.Share = true
		case "gib":
			shape.Memory = n() << 30
		case "slots":
			slots = int(n())
		case "now":
			now = n()
		case "expires":
			expires = n()
		case "slot":
			slot = int(n())
		}
	}
	switch d.Cmd {
	case "hold":
		got, reasons := a.Hold(holdID(d.CmdArgs[0].Key), tenant(owner), shape, slots, now, expires)
		fmt.Fprintf(&b, "got %d\n", got)
		writeReasons(&b, reasons)
	case "take":
		writeReasons(&b, a.Take(slotKey(slot), tenant(owner), shape))
		fmt.Fprintf(&b, "cpus %q nodes %v\n", FormatCPUs(a.CPUs(slotKey(slot))), a.MemoryNodes(slotKey(slot)))
	case "commit":
		keys := make([]SlotKey, slots)
		for i := range keys {
			keys[i] = slotKey(slot + i)
		}
		if err := a.Commit(holdID(d.CmdArgs[0].Key), keys...); err != nil {
			fmt.Fprintf(&b, "error: %v\n", err)
		}
	case "release":
		fmt.Fprintf(&b, "%t\n", a.Release(holdID(d.CmdArgs[0].Key)))
	case "expire":
		fmt.Fprintf(&b, "%d gone\n", len(a.Expire(now)))
	case "measured":
		a.SetSpare(slots)
	case "free":
		fmt.Fprintf(&b, "%t\n", a.Free(slotKey(slot)))
	default:
		t.Fatalf("unknown command %q", d.Cmd)
	}
	return b.String()
}

func writeReasons(b *strings.Builder, reasons []workload.Reason) {
	for _, r := range reasons {
		fmt.Fprintf(b, "  %s\n", r)
	}
}

func TestNewRefuses(t *testing.T) {
	if _, err := New(Topology{}, Limits{}); !errors.Is(err, ErrNoCPU) {
		t.Errorf("no cores: %v", err)
	}
	if _, err := New(Uniform(2, 1), Limits{Memory: -1}); err == nil {
		t.Error("negative memory is accepted")
	}
	twice := Topology{Cores: []Core{{CPUs: []int{0}}, {CPUs: []int{0}}}}
	if _, err := New(twice, Limits{}); !errors.Is(err, ErrMalformed) {
		t.Errorf("a CPU on two cores: %v", err)
	}
}

func TestTwoTenantsNeverShareACoreOnDeclaredCapacityEither(t *testing.T) {
	topo, err := machine(t, "one-socket-smt").Declare(2, 1)
	if err != nil {
		t.Fatal(err)
	}
	a, err := New(topo, Limits{Memory: 1 << 30, Disk: 4 << 30, Slots: 4})
	if err != nil {
		t.Fatal(err)
	}
	thread := workload.Resources{Class: workload.Thread, CPUs: 1, Memory: 1 << 20, Pids: 1}
	for i, name := range []string{"A", "B", "A"} {
		if reasons := a.Take(slotKey(i), tenant(name), thread); reasons != nil {
			t.Fatalf("slot %d: %v", i, reasons)
		}
	}
	if got := []string{FormatCPUs(a.CPUs(slotKey(0))), FormatCPUs(a.CPUs(slotKey(1))), FormatCPUs(a.CPUs(slotKey(2)))}; !slices.Equal(got, []string{"1", "2", "5"}) {
		t.Errorf("got CPUs %q, want A on both threads of core 1 and B on core 2", got)
	}
	if reasons := a.Take(slotKey(3), tenant("C"), thread); len(reasons) != 1 || reasons[0].Code != workload.NoThreads {
		t.Errorf("a third tenant: %v", reasons)
	}
	if got := a.Grants(); !slices.Equal(got, []SlotKey{slotKey(0), slotKey(1), slotKey(2)}) {
		t.Errorf("grants %v", got)
	}
}
