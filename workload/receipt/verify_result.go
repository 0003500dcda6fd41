package receipt

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/perrin-mesh/perrin/workload"
)

// fence: each report carried the fence of its slot, and no task was closed twice.
func (c *check) fence() (string, error) {
	if c.badSig != nil {
		return "", c.badSig
	}
	slots := map[workload.SlotID]workload.Fence{}
	epochs := map[workload.PeerID]uint64{}
	for i, signed := range c.signed {
		g := &c.file.Segments[i]
		f := signed.Fence
		known, ok := slots[g.Slot]
		switch {
		case signed.Workload != c.rec.Workload || signed.Slot != g.Slot:
			return "", fmt.Errorf("segment %d: %s signed it for slot %d of %s", i, c.name(g.Node), signed.Slot, signed.Workload)
		case f.Generation != c.rec.Generation:
			return "", fmt.Errorf("segment %d: of generation %d, the workload is of %d", i, f.Generation, c.rec.Generation)
		case ok && known != f:
			return "", fmt.Errorf("segment %d: slot %d has two fences", i, g.Slot)
		case f.Epoch < epochs[g.Node]:
			return "", fmt.Errorf("segment %d: from epoch %d of %s, after its epoch %d", i, f.Epoch, c.name(g.Node), epochs[g.Node])
		}
		slots[g.Slot], epochs[g.Node] = f, f.Epoch
	}
	if err := c.closedOnce(); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s under one fence each; no task was closed twice", workload.Counted(len(slots), "slot")), nil
}

// closedOnce also counts the tasks that ended well and failed.
func (c *check) closedOnce() error {
	closed := map[uint32]uint32{} // attempt
	var done, failed uint32
	mark := func(i int, task, attempt uint32) error {
		if task >= c.rec.Tasks.Total {
			return fmt.Errorf("segment %d: task %d of %d", i, task, c.rec.Tasks.Total)
		}
		if at, twice := closed[task]; twice {
			return fmt.Errorf("segment %d: task %d was closed in attempt %d and in %d", i, task, at, attempt)
		}
		closed[task] = attempt
		return nil
	}
	for i := range c.file.Segments {
		g := &c.file.Segments[i]
		for _, r := range g.Done {
			if r.Count > workload.MaxTasks || r.From > workload.MaxTasks {
				return fmt.Errorf("segment %d: %d tasks from %d", i, r.Count, r.From)
			}
			for task := r.From; task < r.End(); task++ {
				if err := mark(i, task, r.Attempt); err != nil {
					return err
				}
				done++
			}
		}
		for _, f := range g.Failed {
			if err := mark(i, f.Task, f.Attempt); err != nil {
				return err
			}
			failed++
		}
	}
	if done != c.rec.Tasks.Done || failed != c.rec.Tasks.Failed {
		return fmt.Errorf("%d tasks ended well and %d failed, the statement says %d and %d", done, failed, c.rec.Tasks.Done, c.rec.Tasks.Failed)
	}
	return nil
}

// wantWall is the isolation that the runner of a kind gives.
func wantWall(kind workload.Kind) []string {
	switch kind {
	case workload.Wasm:
		return []string{"wasm"}
	case workload.GVisor:
		return []string{"gvisor"}
	case workload.VM:
		return []string{"microvm"}
	case workload.EmulatedVM:
		return []string{"microvm", "emulated"}
	}
	return []string{"namespaces"}
}

// isolation: every attempt that ran says that it ran behind the wall that its
// kind of program gets.
func (c *check) isolation() (string, error) {
	if c.specErr != nil {
		return "", c.specErr
	}
	walls := map[string]int{}
	want := wantWall(c.spec.Program.Kind)
	bare := 0
	for i := range c.file.Segments {
		g := &c.file.Segments[i]
		if len(g.Results) == 0 {
			bare++
		}
		for j := range g.Results {
			r := &g.Results[j]
			if r.Isolation == "" && !r.ok() { // it did not come to run
				continue
			}
			if !slices.Contains(want, r.Isolation) {
				return "", fmt.Errorf("task %d ran behind %.40q, %s gets %q", r.Task, r.Isolation, c.spec.Program.Kind, want)
			}
			walls[r.Isolation]++
		}
	}
	if bare > 0 {
		return "", c.stripped(bare)
	}
	var ran []string
	for _, wall := range want {
		if n := walls[wall]; n > 0 {
			ran = append(ran, fmt.Sprintf("%s: %s", wall, workload.Counted(n, "attempt")))
		}
	}
	return cmp.Or(strings.Join(ran, ", "), "nothing ran"), nil
}

// stripped says that what would be held against the record is not in the file.
func (c *check) stripped(bare int) error {
	return lacking("%d of %d segments have no results with them", bare, len(c.file.Segments))
}

// usage: what the ledger counted is the sum of what the results used.
func (c *check) usage() (string, error) {
	var all workload.Usage
	bare := 0
	for i := range c.file.Segments {
		g := &c.file.Segments[i]
		var u workload.Usage
		for j := range g.Results {
			r := &g.Results[j].Usage
			u.WallMs += max(r.WallMs, 0)
			u.CPUMs += max(r.CPUMs, 0)
			u.PeakMem = max(u.PeakMem, r.PeakMem)
		}
		if len(g.Results) == 0 {
			bare++
		} else if u != g.Usage {
			return "", fmt.Errorf("segment %d: the results used %d ms, %d ms of CPU and %d bytes, the statement has %d, %d and %d", i,
				u.WallMs, u.CPUMs, u.PeakMem, g.Usage.WallMs, g.Usage.CPUMs, g.Usage.PeakMem)
		}
		all.WallMs += g.Usage.WallMs
		all.CPUMs += g.Usage.CPUMs
		all.PeakMem = max(all.PeakMem, g.Usage.PeakMem)
	}
	if bare > 0 {
		return "", c.stripped(bare)
	}
	return fmt.Sprintf("%d ms, %d ms of CPU, at most %d bytes of memory, by the nodes' own word", all.WallMs, all.CPUMs, all.PeakMem), nil
}

// outputs: the results that are here are those that the nodes signed, and the
// subjects of the statement are theirs.
func (c *check) outputs() (string, error) {
	if c.badSig != nil {
		return "", c.badSig
	}
	bare, n, files := 0, 0, 0
	for i := range c.file.Segments {
		g := &c.file.Segments[i]
		switch {
		case len(g.Results) == 0 || c.signed[i].Results.IsZero():
			bare++
		case RootOf(g.Results) != c.signed[i].Results:
			return "", fmt.Errorf("segment %d: the results are not those that %s signed", i, c.name(g.Node))
		}
		n += len(g.Results)
		for j := range g.Results {
			files += len(g.Results[j].Outputs)
		}
	}
	if have := subjects(c.rec, c.file.Segments); string(mustJSON(have)) != string(mustJSON(c.s.Subject)) {
		return "", fmt.Errorf("the subjects of the statement are not the outputs of the results")
	}
	if bare > 0 {
		return "", lacking("%d of %d segments have no results with them, or come from a version that did not sign them one by one", bare, len(c.file.Segments))
	}
	return fmt.Sprintf("%s with %s, each named by its digest and signed by the node that ran it", workload.Counted(n, "result"), workload.Counted(files, "output file")), nil
}

// result: each node signed what it returned, and the record's sums and its end
// are those of the results.
func (c *check) result() (string, error) {
	if c.badSig != nil {
		return "", c.badSig
	}
	for i := range c.file.Segments {
		g := &c.file.Segments[i]
		if c.signed[i].Ref != g.Ref {
			return "", fmt.Errorf("segment %d: %s signed another one", i, c.name(g.Node))
		}
		if g.Vote != nil {
			continue // see checked
		}
		if err := g.sorted(); len(g.Results) > 0 && err != nil {
			return "", fmt.Errorf("segment %d: %w", i, err)
		}
	}
	t := c.rec.Tasks
	switch c.rec.Phase {
	case workload.Succeeded:
		if t.Done != t.Total {
			return "", fmt.Errorf("succeeded with %d of %d tasks", t.Done, t.Total)
		}
	case workload.Failed:
		if t.Done == t.Total {
			return "", fmt.Errorf("failed with all %d tasks done", t.Total)
		}
	case workload.Stopped:
	default:
		return "", fmt.Errorf("the workload is %s", c.rec.Phase)
	}
	return fmt.Sprintf("%s: %d of %s ended well, %d failed, %d attempts were tried again", c.rec.Phase, t.Done, workload.Counted(t.Total, "task"), t.Failed, c.rec.Retries), nil
}

// sorted checks that the results are in the lists where they belong.
func (g *Segment) sorted() error {
	done, failed, retried := 0, 0, 0
	in := func(list []workload.Range, r *Result) bool {
		return slices.ContainsFunc(list, func(x workload.Range) bool {
			return x.From <= r.Task && r.Task < x.End() && x.Attempt == r.Attempt
		})
	}
	seen := map[[2]uint32]bool{}
	for j := range g.Results {
		r := &g.Results[j]
		if seen[[2]uint32{r.Task, r.Attempt}] {
			return fmt.Errorf("attempt %d of task %d has two results", r.Attempt, r.Task)
		}
		seen[[2]uint32{r.Task, r.Attempt}] = true
		switch {
		case r.ok() && in(g.Done, r):
			done++
		case !r.ok() && slices.Contains(g.Failed, Failed{r.Task, r.Attempt, r.Exit, r.Code}):
			failed++
		case !r.ok() && in(g.Retried, r):
			retried++
		case !r.ok():
			// Its attempt was tried again, and too many such are there to be listed.
		default:
			return fmt.Errorf("the result of task %d is in no list", r.Task)
		}
	}
	var want int
	for _, r := range g.Done {
		want += int(r.Count)
	}
	if done != want || failed != len(g.Failed) {
		return fmt.Errorf("%d results ended well and %d failed, the statement has %d and %d", done, failed, want, len(g.Failed))
	}
	return nil
}
