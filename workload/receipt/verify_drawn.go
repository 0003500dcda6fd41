package receipt

import (
	"fmt"

	"github.com/perrin-mesh/perrin/workload"
)

// drawn counts what was drawn for the tasks of an adaptive workload.
type drawn struct {
	alone  int    // tasks that one node ran
	least  uint32 // the shortest streak of those
	picked int    // tasks that a draw picked
	silent int    // tasks that were checked since the owner's node did not draw
}

func (d *drawn) text() (text string) {
	if d.alone > 0 {
		text = fmt.Sprintf("; ran once, by nodes of which at least %d results had agreed in a row for who pays (by the cell's word), as the owner's draws did not pick them: %s",
			d.least, workload.Counted(d.alone, "task"))
	}
	if d.picked > 0 {
		text += fmt.Sprintf("; picked for a check: %s", workload.Counted(d.picked, "task"))
	}
	if d.silent > 0 {
		text += fmt.Sprintf("; checked, as the owner's node did not draw: %s", workload.Counted(d.silent, "task"))
	}
	return text
}

// drawn replays what was drawn for a task, and reports whether it was accepted from one
// node alone.
func (c *check) drawn(task uint32, list []*Segment, sum *drawn) (one bool, err error) {
	for i, g := range list {
		v := g.Vote
		if v.Streak == 0 && v.Drawn == nil && v.Verdict != alone {
			continue
		}
		switch {
		case !c.spec.VerifyBy.Adaptive:
			return false, fmt.Errorf("a draw for the result of %s, and the owner did not ask for draws", c.name(g.Node))
		case i > 0:
			return false, fmt.Errorf("a draw for the result of %s, which was not the first", c.name(g.Node))
		case g.Node == c.rec.Home:
			return false, fmt.Errorf("%s drew for its own result", c.name(g.Node))
		case v.Streak < workload.TrustedAfter || v.Streak > workload.MaxStreak:
			return false, fmt.Errorf("a draw for the result of %s, of which %d had agreed in a row", c.name(g.Node), v.Streak)
		case v.Drawn == nil && v.Verdict == unjudged && len(list) == 1: // its workload was stopped before
			return false, nil
		case v.Drawn == nil:
			return false, fmt.Errorf("nothing was drawn for the result of %s", c.name(g.Node))
		}
		if err := c.drewRight(task, g, sum); err != nil {
			return false, err
		}
		one = v.Verdict == alone
	}
	if !one {
		return false, nil
	}
	return true, c.closedAlone(task, list, sum)
}

// drewRight checks a draw's signature and what follows from it.
func (c *check) drewRight(task uint32, g *Segment, sum *drawn) error {
	v := g.Vote
	picked := true
	if len(v.Drawn.Sig) > 0 {
		d := workload.Draw{Workload: c.rec.Workload, Task: task, Result: v.Result}
		if err := c.rules.OpenDraw(c.rec.Spec.By, &d, v.Drawn.Sig); err != nil {
			return fmt.Errorf("the draw: %w", err)
		}
		picked = workload.Picks(v.Drawn.Sig, v.Streak)
	}
	switch {
	case picked != v.Drawn.Picked:
		return fmt.Errorf("the draw picks=%v at a streak of %d, the statement says %v", picked, v.Streak, v.Drawn.Picked)
	case picked == (v.Verdict == alone):
		return fmt.Errorf("the result of %s is %q, and the draw picks=%v", c.name(g.Node), v.Verdict, picked)
	case picked && len(v.Drawn.Sig) == 0:
		sum.silent++
	case picked:
		sum.picked++
	}
	return nil
}

// closedAlone checks the task that one result closed.
func (c *check) closedAlone(task uint32, list []*Segment, sum *drawn) error {
	g := list[0]
	v := g.Vote
	done := []workload.Range{{From: task, Count: 1, Attempt: v.Attempt}}
	switch {
	case len(list) > 1:
		return fmt.Errorf("%s ran it alone, and %d others too", c.name(g.Node), len(list)-1)
	case v.Exit != workload.Exited || v.Code != 0 || len(g.Failed) > 0 || len(g.Done) != 1 || g.Done[0] != done[0]:
		return fmt.Errorf("it was closed otherwise than as %s returned it", c.name(g.Node))
	}
	if sum.alone == 0 || v.Streak < sum.least {
		sum.least = v.Streak
	}
	sum.alone++
	return nil
}
