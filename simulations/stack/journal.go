package stack

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/perrin-mesh/perrin/workload"
)

// Stint is one attempt as the machine that ran it saw it.
type Stint struct {
	Machine  int // index of the node
	Workload workload.ID
	Slot     workload.SlotID
	Task     uint32
	Number   uint32 // of the attempt
	From, To time.Time
	End      End
}

// End is why a stint ended.
type End string

// How a stint ends.
const (
	Running    End = "running"     // it has not
	Done       End = "done"        // by itself
	LeaseEnded End = "lease ended" // the supervisor ended it
	Killed     End = "killed"      // the node did
	Crashed    End = "crashed"     // with its machine
	TimedOut   End = "timed out"   // it took longer than it may
)

// Journal is the record of all stints of a mesh. Its methods are safe for
// concurrent use.
type Journal struct {
	mu     sync.Mutex
	stints []Stint
}

func (j *Journal) begin(s Stint) (index int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	s.From, s.End = time.Now(), Running
	j.stints = append(j.stints, s)
	return len(j.stints) - 1
}

func (j *Journal) end(index int, how End) {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := &j.stints[index]
	s.To, s.End = time.Now(), how
}

// Stints returns a copy of the record, in the order in which stints began.
func (j *Journal) Stints() []Stint {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.stints)
}

// Of returns the stints of one workload.
func (j *Journal) Of(id workload.ID) []Stint {
	return slices.DeleteFunc(j.Stints(), func(s Stint) bool { return s.Workload != id })
}

// Overlaps returns an error for each two stints of one task that ran at once.
func (j *Journal) Overlaps() []error {
	type task struct {
		id    workload.ID
		index uint32
	}
	now := time.Now()
	until := map[task]Stint{} // the stint that ends last so far
	stints := j.Stints()
	slices.SortStableFunc(stints, func(a, b Stint) int { return a.From.Compare(b.From) })
	var errs []error
	for _, s := range stints {
		if s.End == Running {
			s.To = now
		}
		key := task{s.Workload, s.Task}
		last, again := until[key]
		if again && s.From.Before(last.To) {
			errs = append(errs, fmt.Errorf("task %d of %s ran twice at once: attempt %d on machine %d until %s (%s), attempt %d on machine %d from %s",
				s.Task, s.Workload.Short(), last.Number, last.Machine, clockOf(last.To), last.End, s.Number, s.Machine, clockOf(s.From)))
		}
		if !again || cmp.Compare(s.To.UnixNano(), last.To.UnixNano()) > 0 {
			until[key] = s
		}
	}
	return errs
}

func clockOf(t time.Time) string { return t.Format("15:04:05.000") }
