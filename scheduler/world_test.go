package scheduler

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/perrin-mesh/perrin/workload"
)

func peer(name string) (p workload.PeerID) {
	copy(p[:], name)
	return p
}

func peerName(p workload.PeerID) string { return string(bytes.TrimRight(p[:], "\x00")) }

func loadID(name string) (id workload.ID) {
	copy(id.Random[:], name)
	return id
}

func loadName(id workload.ID) string { return string(bytes.TrimRight(id.Random[:], "\x00")) }

// args are the words of one line: plain ones, and name=value pairs.
type args struct {
	plain []string
	named map[string]string
}

func parseArgs(words []string) args {
	a := args{named: map[string]string{}}
	for _, w := range words {
		if name, value, ok := strings.Cut(w, "="); ok {
			a.named[name] = value
		} else {
			a.plain = append(a.plain, w)
		}
	}
	return a
}

func (a args) text(name, otherwise string) string {
	if v, ok := a.named[name]; ok {
		return v
	}
	return otherwise
}

func (a args) num(name string, otherwise int64) int64 {
	v, ok := a.named[name]
	if !ok {
		return otherwise
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

func (a args) peers(name string) (list []workload.PeerID) {
	for _, s := range strings.FieldsFunc(a.text(name, ""), func(r rune) bool { return r == ',' }) {
		list = append(list, peer(s))
	}
	return list
}

// offerOf is a node of 4 cores, without SMT, unless it says otherwise.
func offerOf(a args, seq uint64) OfferIn {
	cores, smt := a.num("cores", 4), a.num("smt", 1)
	total := workload.Capacity{
		Cores: int32(cores), Threads: int32(cores * smt), Memory: a.num("gib", 64) << 30, Disk: 1 << 40, Slots: int32(cores * smt),
	}
	free := total
	free.Cores = int32(a.num("free", cores))
	free.Threads, free.Slots = free.Cores*int32(smt), free.Cores*int32(smt)
	o := workload.Offer{
		Node: peer(a.plain[0]), Seq: seq, Free: free, Drain: a.text("drain", "") != "", ValidMs: a.num("valid", 60_000),
		Asks: workload.Asks{Core: a.num("ask", 1000), Thread: a.num("ask", 1000) * 5 / 8},
		Machine: workload.Machine{
			Name: a.plain[0], Arch: a.text("arch", "amd64"), OS: "linux", Total: total, SMT: int32(smt),
			Kinds: []workload.Kind{workload.Wasm, workload.Process},
		},
	}
	return OfferIn{Offer: o, RTTMicros: a.num("rtt", 1) * 1000, RiskPPM: a.num("risk", 0)}
}

func lotOf(a args, since int64) Lot {
	return Lot{
		Workload: loadID(a.plain[0]), Owner: peer("alice"), Kind: workload.Wasm, Host: a.text("host", ""),
		Shape:    workload.Resources{Class: workload.Class(a.text("class", "core")), CPUs: int32(a.num("cpus", 1)), Memory: 256 << 20, Pids: 64},
		MaxPrice: a.num("max-price", 0), Wanted: uint32(a.num("wanted", 1)), Since: a.num("since", since), Avoid: a.peers("avoid"),
		Where: a.text("where", ""),
	}
}

// numbers parses "1000,1100x3": 1000 and three times 1100.
func numbers(s string) (list []int64) {
	for _, part := range strings.Split(s, ",") {
		value, times, _ := strings.Cut(part, "x")
		v, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			panic(err)
		}
		n := 1
		if times != "" {
			if n, err = strconv.Atoi(times); err != nil {
				panic(err)
			}
		}
		list = append(list, slices.Repeat([]int64{v}, n)...)
	}
	return list
}

// checkDesk fails when the desk's structures contradict each other.
func checkDesk(t interface {
	Helper()
	Errorf(string, ...any)
}, d *Desk) {
	t.Helper()
	held := map[*entry]workload.Capacity{}
	for i, a := range d.open {
		if a.index != i || a.closed || a.lot.auction != a || a.lot.phase != calling || d.auctions[a.id] != a {
			t.Errorf("auction %x is not as an open one is", a.id)
		}
		unanswered := 0
		for _, c := range a.calls {
			held[c.entry] = plus(held[c.entry], c.held, 1)
			if !c.answered {
				unanswered++
			}
		}
		if unanswered != a.unanswered || unanswered == 0 {
			t.Errorf("auction %x waits for %d, says %d", a.id, unanswered, a.unanswered)
		}
	}
	for node, e := range d.book.nodes {
		if e.held != held[e] {
			t.Errorf("%s: %+v is reserved, its calls hold %+v", peerName(node), e.held, held[e])
		}
		if e.freed {
			t.Errorf("%s is still on the list of the freed", peerName(node))
		}
	}
	checkClasses(t, d)
}

func checkClasses(t interface {
	Helper()
	Errorf(string, ...any)
}, d *Desk) {
	t.Helper()
	lots, rules := map[*class]int{}, map[*rule]int{}
	for id, l := range d.lots {
		lots[l.class]++
		if l.phase == waiting && l.class.queue[l.index] != l {
			t.Errorf("%s waits and is not in its queue", loadName(id))
		}
		if (l.phase == calling) != (l.auction != nil) {
			t.Errorf("%s: phase %d, auction %v", loadName(id), l.phase, l.auction)
		}
	}
	for i, c := range d.classes {
		rules[c.rule]++
		if c.index != i || c.lots != lots[c] || d.byKey[c.key] != c || c.due {
			t.Errorf("class %+v is not as it should be", c.key)
		}
		if len(c.queue) > 0 && !c.blocked {
			t.Errorf("class %+v has lots that nobody looks at", c.key)
		}
		if c.blocked && c.next <= d.now {
			t.Errorf("class %+v is blocked and not woken", c.key)
		}
	}
	for _, r := range d.rules {
		if r.classes != rules[r] {
			t.Errorf("a rule counts %d classes, there are %d", r.classes, rules[r])
		}
	}
	if len(d.rules) > len(rules)+1 || len(d.rules) < len(rules) || len(d.byKey) != len(d.classes) || len(d.due) != 0 || len(d.freed) != 0 {
		t.Errorf("something is left over: %d rules, %d classes, %d due, %d freed", len(d.rules), len(d.classes), len(d.due), len(d.freed))
	}
}

func reasonsText(list []workload.Reason) string {
	var parts []string
	for _, r := range list {
		parts = append(parts, r.String())
	}
	return strings.Join(parts, ", ")
}

func slotsText(slots []workload.AwardSlot) string {
	var parts []string
	for i := 0; i < len(slots); {
		n := 1
		for i+n < len(slots) && slots[i+n] == slots[i] {
			n++
		}
		s := fmt.Sprintf("%s at %d (asks %d)", peerName(slots[i].Node), slots[i].Rate, slots[i].Ask)
		if n > 1 {
			s = fmt.Sprintf("%d x %s", n, s)
		}
		parts = append(parts, s)
		i += n
	}
	return strings.Join(parts, ", ")
}
