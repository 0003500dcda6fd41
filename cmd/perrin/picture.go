package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/perrin-mesh/perrin/cmd/perrin/internal/terminal"
	"github.com/perrin-mesh/perrin/workload"
)

// holders names whose work runs on a machine, by one letter each.
type holders struct {
	letters map[workload.ID]string
	order   []workload.ID
	owner   map[workload.ID]workload.PeerID
	whole   map[workload.ID]int // cores of which it holds every thread
	count   map[workload.ID]int // threads of other cores
}

const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijlmnopqrstuvwxyz" // k is the machine's owner's

func (h *holders) letter(id workload.ID, owner workload.PeerID) string {
	if id.IsZero() {
		return "?"
	}
	if l, known := h.letters[id]; known {
		return l
	}
	l := "#"
	if len(h.order) < len(letters) {
		l = letters[len(h.order) : len(h.order)+1]
	}
	h.letters[id], h.owner[id] = l, owner
	h.order = append(h.order, id)
	return l
}

// thread is how one hyperthread is drawn.
func (h *holders) thread(c *workload.CoreUse, t *workload.ThreadUse) string {
	used := slices.ContainsFunc(c.Threads, func(t workload.ThreadUse) bool { return t.Taken })
	switch {
	case t.Held:
		return "+"
	case t.Taken:
		return h.letter(t.Workload, t.Owner)
	case c.Kept:
		return "k"
	case used:
		return "-"
	}
	return "."
}

// tally counts what each workload holds of a core.
func (h *holders) tally(c *workload.CoreUse) {
	held := map[workload.ID]int{}
	for _, t := range c.Threads {
		if t.Taken && !t.Held {
			held[t.Workload]++
		}
	}
	for id, n := range held {
		if n == len(c.Threads) {
			h.whole[id]++
		} else {
			h.count[id] += n
		}
	}
}

// amount is what a workload holds, in words.
func (h *holders) amount(id workload.ID) string {
	var parts []string
	if n := h.whole[id]; n > 0 {
		parts = append(parts, terminal.Plural(n, "whole core"))
	}
	if n := h.count[id]; n > 0 {
		parts = append(parts, terminal.Plural(n, "thread"))
	}
	return strings.Join(parts, " and ")
}

// coresInRow is how many cores are drawn side by side.
const coresInRow = 16

// printPicture draws a machine.
func (a *app) printPicture(p *workload.Picture) error {
	var out strings.Builder
	o := &p.Offer
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&out, "%-9s %s\n", name, fmt.Sprintf(format, args...))
	}
	threads := 0
	for _, c := range p.Cores {
		threads += len(c.Threads)
	}
	fmt.Fprintf(&out, "%s (%s), %s, %s, %s, %s\n\n", terminal.Clean(o.Machine.Name, 64), o.Node.Short(), terminal.Clean(o.Machine.Arch, 16),
		terminal.Plural(int(p.Sockets), "socket"), terminal.Plural(len(p.Cores), "core"), terminal.Plural(threads, "thread"))
	h := &holders{letters: map[workload.ID]string{}, owner: map[workload.ID]workload.PeerID{}, whole: map[workload.ID]int{}, count: map[workload.ID]int{}}
	h.drawCores(&out, p.Cores)
	out.WriteString("\n")
	h.explain(&out, p)
	total, free := o.Machine.Total, o.Free
	line("free", "%d of %d cores, %d of %d threads, %s of %s", free.Cores, total.Cores, free.Threads, total.Threads,
		terminal.Size(free.Memory), terminal.Size(total.Memory))
	others := ""
	if !o.Machine.Declared { // else the others are likely nodes, which are not told apart
		others = fmt.Sprintf("; other programs use %.1f %% of the machine", float64(p.Others)/10)
	}
	line("spare", "%d of %s idle and free to be lent%s", free.Spare, terminal.Plural(int(total.Spare), "thread"), others)
	line("prices", "core %s, thread %s, spare %s, GiB %s", terminal.Rate(o.Asks.Core), terminal.Rate(o.Asks.Thread),
		terminal.Rate(o.Asks.Spare), terminal.Rate(o.Asks.Memory))
	line("walls", "%s", terminal.Clean(strings.Join(o.Machine.Walls, ", "), 200))
	if len(p.Enforced) > 0 {
		line("held by", "%s", terminal.Clean(strings.Join(p.Enforced, ", "), 300))
	}
	_, err := io.WriteString(a.stdout, out.String())
	return err
}

// drawCores draws the cores of each socket and NUMA node: a letter or sign for
// each thread.
func (h *holders) drawCores(out *strings.Builder, cores []workload.CoreUse) {
	for len(cores) > 0 {
		n := 1
		for n < len(cores) && cores[n].Socket == cores[0].Socket && cores[n].Node == cores[0].Node {
			n++
		}
		fmt.Fprintf(out, "socket %d, memory node %d\n", cores[0].Socket, cores[0].Node)
		for row := range slices.Chunk(cores[:n], coresInRow) {
			var drawn []string
			var list []int32
			for i := range row {
				text := ""
				h.tally(&row[i])
				for k := range row[i].Threads {
					text += h.thread(&row[i], &row[i].Threads[k])
					list = append(list, row[i].Threads[k].CPU)
				}
				drawn = append(drawn, "["+text+"]")
			}
			fmt.Fprintf(out, "  %s  CPUs %s%s\n", strings.Join(drawn, ""), ranges(list), tierText(row))
		}
		cores = cores[n:]
	}
}

// ranges prints numbers as 0-3,8.
func ranges(list []int32) string {
	list = slices.Compact(slices.Sorted(slices.Values(list)))
	var parts []string
	for len(list) > 0 {
		n := 1
		for n < len(list) && list[n] == list[0]+int32(n) {
			n++
		}
		if n == 1 {
			parts = append(parts, fmt.Sprint(list[0]))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", list[0], list[n-1]))
		}
		list = list[n:]
	}
	return strings.Join(parts, ",")
}

// tierText says which cores of a row are of slower kinds.
func tierText(row []workload.CoreUse) string {
	slow := 0
	for _, c := range row {
		if c.Tier > 0 {
			slow++
		}
	}
	if slow == 0 {
		return ""
	}
	return fmt.Sprintf(", %d of them slower cores", slow)
}

// explain lists what the letters and signs mean that were drawn, and what is lent.
func (h *holders) explain(out *strings.Builder, p *workload.Picture) {
	for _, id := range h.order {
		fmt.Fprintf(out, "%s  %s of %s, %s\n", h.letters[id], id.Short(), h.owner[id].Short(), h.amount(id))
	}
	for _, s := range p.Spare {
		where := "waits: the machine is needed"
		if len(s.CPUs) > 0 {
			where = "idle time of CPUs " + ranges(s.CPUs)
		}
		whose := "somebody's work"
		if !s.Workload.IsZero() {
			whose = fmt.Sprintf("%s/%d of %s", s.Workload.Short(), s.Slot, s.Owner.Short())
		}
		fmt.Fprintf(out, "~  %s, %s\n", whose, where)
	}
	drawn := out.String()
	for _, sign := range []struct{ sign, means string }{
		{".", "free"}, {"-", "idle, but only for the tenant of the core"}, {"+", "promised by a bid"},
		{"k", "kept by the machine's owner; its idle time is lent"}, {"?", "in use"},
	} {
		if strings.Contains(drawn, sign.sign+"]") || strings.Contains(drawn, "["+sign.sign) {
			fmt.Fprintf(out, "%s  %s\n", sign.sign, sign.means)
		}
	}
	out.WriteString("\n")
}
