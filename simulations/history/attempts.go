package history

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/perrin-mesh/perrin/workload/runner/watchdog"
)

// Attempt is one sandbox as the supervisor of its node recorded it: it ran in
// [Start, End] at most, by the boot-time clock that all nodes of one machine share.
type Attempt struct {
	Node     string
	Workload string // its ID
	Slot     string
	Start    watchdog.Instant
	End      watchdog.Instant
	Why      string // it was killed
}

// endless is the end of an attempt that nobody saw.
const endless = watchdog.Instant(math.MaxInt64)

// box names a sandbox among all supervisors that a node ever had.
type box struct {
	run watchdog.Instant
	id  uint64
}

// Attempts pairs the records of one node. What is odd about them (an end without
// a start, a native program's sandbox that outlived its end, a supervisor that did
// not close) is a finding.
func Attempts(node string, records []watchdog.Record) ([]Attempt, []Finding) {
	var out []Attempt
	var found []Finding
	odd := func(r watchdog.Record, what string) {
		found = append(found, Finding{CheckJournal, fmt.Sprintf("%s: %s: %+v", node, what, r)})
	}
	at, open := map[box]int{}, map[watchdog.Instant]watchdog.Record{}
	for _, r := range records {
		switch r.Op {
		case watchdog.RecordBegin:
			open[r.Run] = r
		case watchdog.RecordClose:
			delete(open, r.Run)
		case watchdog.RecordStart:
			id, slot, _ := strings.Cut(r.Key, "/")
			at[box{r.Run, r.ID}] = len(out)
			out = append(out, Attempt{Node: node, Workload: id, Slot: slot, Start: r.At, End: endless})
		case watchdog.RecordEnd:
			i, ok := at[box{r.Run, r.ID}]
			if !ok || out[i].End != endless || r.Alive {
				odd(r, "an end that is none")
				continue
			}
			out[i].End, out[i].Why = r.At, r.Why
		}
	}
	for _, r := range open {
		odd(r, "a supervisor that did not close")
	}
	return out, found
}

// Overlaps finds pairs of attempts of one workload that ran at the same time, of
// workloads that are to have one attempt at a time.
func Overlaps(all []Attempt, singleton func(workload string) bool) []Finding {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b Attempt) int {
		return cmp.Or(strings.Compare(a.Workload, b.Workload), cmp.Compare(a.Start, b.Start))
	})
	var found []Finding
	for i := 1; i < len(all); i++ {
		a, b := all[i-1], all[i]
		if a.Workload != b.Workload || !singleton(a.Workload) {
			continue
		}
		if b.Start < a.End {
			found = append(found, Finding{CheckSingleton, fmt.Sprintf("%s ran twice at once: slot %s on %s%s, and slot %s on %s from %s after the first began",
				a.Workload, a.Slot, a.Node, lasted(a), b.Slot, b.Node, time.Duration(b.Start-a.Start))})
		}
		if a.End > b.End { // so that the next one is compared with the last to end
			all[i] = a
		}
	}
	return found
}

func lasted(a Attempt) string {
	if a.End == endless {
		return " without an end"
	}
	return fmt.Sprintf(" for %s (%s)", time.Duration(a.End-a.Start), cmp.Or(a.Why, "ended by itself"))
}
