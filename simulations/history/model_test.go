package history

import (
	"slices"
	"strings"
	"testing"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/runner/watchdog"
)

// op is an operation from one time to another, in ns.
func op(call, ret int64, kind Kind, a Answer) Op {
	if a.Unknown {
		ret = never
	}
	return Op{Client: int(call), Kind: kind, Key: "w", Answer: a, Call: call, Return: ret}
}

func saw(phase workload.Phase, closed uint32, version uint64) Answer {
	return Answer{Phase: phase, Closed: closed, Version: version}
}

func TestLinearizable(t *testing.T) {
	done, unknown, absent := Answer{}, Answer{Unknown: true}, Answer{Absent: true}
	live, succeeded, stopped := saw(workload.Running, 0, 1), saw(workload.Succeeded, 1, 2), saw(workload.Stopped, 0, 2)
	tooLate := Answer{Refused: true, Phase: workload.Succeeded}
	for name, c := range map[string]struct {
		ops  []Op
		want bool
	}{
		"a life":                         {[]Op{op(0, 1, Read, absent), op(2, 3, Submit, done), op(4, 5, Read, live), op(6, 7, Read, succeeded), op(8, 9, Stop, tooLate)}, true},
		"acknowledged and absent":        {[]Op{op(0, 1, Submit, done), op(2, 3, Read, absent)}, false},
		"absent while it is submitted":   {[]Op{op(0, 4, Submit, done), op(1, 2, Read, live), op(3, 5, Read, absent)}, false},
		"absent, then there":             {[]Op{op(0, 5, Submit, done), op(1, 2, Read, absent), op(3, 4, Read, live)}, true},
		"unknown, and never there":       {[]Op{op(0, 1, Submit, unknown), op(2, 3, Read, absent)}, true},
		"unknown, and there later":       {[]Op{op(0, 1, Submit, unknown), op(2, 3, Read, absent), op(4, 5, Read, live)}, true},
		"there, and gone again":          {[]Op{op(0, 1, Submit, unknown), op(2, 3, Read, live), op(4, 5, Read, absent)}, false},
		"never submitted":                {[]Op{op(0, 1, Read, live)}, false},
		"stopped and succeeded":          {[]Op{op(0, 1, Submit, done), op(2, 3, Stop, done), op(4, 5, Read, succeeded)}, false},
		"stopped and live":               {[]Op{op(0, 1, Submit, done), op(2, 3, Stop, done), op(4, 5, Read, live)}, false},
		"stopped twice":                  {[]Op{op(0, 1, Submit, done), op(2, 3, Stop, done), op(4, 5, Stop, done), op(6, 7, Read, stopped)}, true},
		"stopped by nobody":              {[]Op{op(0, 1, Submit, done), op(4, 5, Read, stopped)}, false},
		"stopped, perhaps":               {[]Op{op(0, 1, Submit, done), op(2, 3, Stop, unknown), op(4, 5, Read, live), op(6, 7, Read, stopped)}, true},
		"a stop too late that was not":   {[]Op{op(0, 1, Submit, done), op(2, 3, Stop, tooLate), op(4, 5, Read, live)}, false},
		"a stop of what is not there":    {[]Op{op(0, 1, Submit, done), op(2, 3, Stop, absent)}, false},
		"ended twice":                    {[]Op{op(0, 1, Submit, done), op(2, 3, Read, succeeded), op(4, 5, Read, saw(workload.Failed, 1, 2))}, false},
		"fewer tasks than before":        {[]Op{op(0, 1, Submit, done), op(2, 3, Read, saw(workload.Running, 3, 3)), op(4, 5, Read, saw(workload.Running, 2, 3))}, false},
		"an older version":               {[]Op{op(0, 1, Submit, done), op(2, 3, Read, saw(workload.Running, 3, 3)), op(4, 5, Read, saw(workload.Running, 3, 2))}, false},
		"an older version, side by side": {[]Op{op(0, 1, Submit, done), op(2, 5, Read, saw(workload.Running, 3, 3)), op(3, 4, Read, saw(workload.Running, 3, 2))}, true},
	} {
		other := c.ops[0]
		other.Key, other.Kind, other.Answer = "another", Submit, done
		found := Linearizable(append([]Op{other}, c.ops...))
		if (len(found) == 0) != c.want || len(found) > 0 && !strings.HasPrefix(found[0].What, "w: ") {
			t.Errorf("%s: %v", name, found)
		}
	}
}

func TestRecorderKeepsWhatIsOpen(t *testing.T) {
	r := NewRecorder()
	lost, end := r.Begin(1, Submit, "a"), r.Begin(2, Read, "a")
	lost(Answer{Unknown: true})
	end(Answer{Absent: true})
	r.Begin(3, Read, "b")
	r.drop(Read, "b", 3)
	ops := r.Ops()
	if len(ops) != 2 || ops[0].Return != never || !ops[0].Answer.Unknown || ops[1].Return < ops[1].Call || !ops[1].Answer.Absent {
		t.Errorf("%+v", ops)
	}
}

func TestAttemptsOfAJournal(t *testing.T) {
	const run = watchdog.Instant(1)
	good := []watchdog.Record{
		{Op: watchdog.RecordBegin, Run: run, At: 1},
		{Op: watchdog.RecordStart, Run: run, At: 2, Key: "w/1", ID: 1}, {Op: watchdog.RecordStart, Run: run, At: 3, Key: "v/1", ID: 2},
		{Op: watchdog.RecordEnd, Run: run, At: 5, Key: "w/1", ID: 1, Why: watchdog.ReasonLease}, {Op: watchdog.RecordEnd, Run: run, At: 6, Key: "v/1", ID: 2},
		{Op: watchdog.RecordClose, Run: run, At: 7},
	}
	got, odd := Attempts("n", good)
	want := []Attempt{{"n", "w", "1", 2, 5, watchdog.ReasonLease}, {"n", "v", "1", 3, 6, ""}}
	if !slices.Equal(got, want) || len(odd) > 0 {
		t.Errorf("%+v, %v", got, odd)
	}
	if got, odd := Attempts("n", good[:3]); len(odd) != 1 || got[0].End != endless {
		t.Errorf("of a supervisor that did not close: %+v, %v", got, odd)
	}
	lives := slices.Clone(good)
	lives[4].Alive = true
	if _, odd := Attempts("n", lives); len(odd) != 1 {
		t.Errorf("of a sandbox that lived on: %v", odd)
	}
	if _, odd := Attempts("n", append(good[:1:1], good[3:]...)); len(odd) != 2 {
		t.Errorf("of ends without a start: %v", odd)
	}
}

func TestOverlaps(t *testing.T) {
	at := func(w, node string, start, end watchdog.Instant) Attempt {
		return Attempt{Node: node, Workload: w, Slot: "1", Start: start, End: end}
	}
	for name, c := range map[string]struct {
		all  []Attempt
		want int
	}{
		"one after another":     {[]Attempt{at("w", "b", 5, 9), at("w", "a", 1, 5)}, 0},
		"two workloads":         {[]Attempt{at("w", "a", 1, 5), at("v", "b", 2, 6)}, 0},
		"twice at once":         {[]Attempt{at("w", "a", 1, 5), at("w", "b", 4, 6)}, 1},
		"on one node":           {[]Attempt{at("w", "a", 1, 5), at("w", "a", 4, 6)}, 1},
		"one inside another":    {[]Attempt{at("w", "a", 1, 9), at("w", "b", 2, 3), at("w", "c", 8, 10)}, 2},
		"nobody saw its end":    {[]Attempt{at("w", "a", 1, endless), at("w", "b", 90, 91)}, 1},
		"it may outlive leases": {[]Attempt{at("free", "a", 1, 5), at("free", "b", 4, 6)}, 0},
	} {
		if found := Overlaps(c.all, func(w string) bool { return w != "free" }); len(found) != c.want {
			t.Errorf("%s: %v", name, found)
		}
	}
}
