package ledger

import (
	"slices"
	"sort"

	"github.com/perrin-mesh/perrin/workload"
)

// Run is a stretch of tasks with one history. In an open set Attempt is the
// try they will be in next, in a slot the one they are in, among closed tasks 0.
type Run struct {
	From    uint32 `cbor:"1,keyasint,omitempty" json:"from"`
	Count   uint32 `cbor:"2,keyasint,omitempty" json:"count"`
	Attempt uint32 `cbor:"3,keyasint,omitempty" json:"attempt,omitempty"`
	Fails   uint32 `cbor:"4,keyasint,omitempty" json:"fails,omitempty"`  // attempts that the program failed
	Faults  uint32 `cbor:"5,keyasint,omitempty" json:"faults,omitempty"` // attempts that a node failed
}

func (r Run) end() uint32 { return r.From + r.Count }

func (r Run) wire() workload.Range {
	return workload.Range{From: r.From, Count: r.Count, Attempt: r.Attempt}
}

// sameHistory reports whether the two may be one run when they touch.
func (r Run) sameHistory(o Run) bool {
	return r.Attempt == o.Attempt && r.Fails == o.Fails && r.Faults == o.Faults
}

// wireRanges returns runs as ranges, touching ones of one attempt as one.
func wireRanges(runs []Run) []workload.Range {
	out := make([]workload.Range, 0, len(runs))
	for _, r := range runs {
		if n := len(out); n > 0 && out[n-1].End() == r.From && out[n-1].Attempt == r.Attempt {
			out[n-1].Count += r.Count
			continue
		}
		out = append(out, r.wire())
	}
	return out
}

// runSet is a set of task indexes with their histories: disjoint runs in
// ascending order, none of which touches another of the same history. A
// million tasks that go through in order are one run.
type runSet struct {
	runs []Run
	n    uint32 // tasks in it
}

func newRunSet(runs []Run) runSet {
	s := runSet{runs: slices.Clone(runs)}
	for _, r := range runs {
		s.n += r.Count
	}
	return s
}

func (s *runSet) clone() runSet { return runSet{runs: slices.Clone(s.runs), n: s.n} }

// find returns the position of the first run that ends after index.
func (s *runSet) find(index uint32) int {
	return sort.Search(len(s.runs), func(i int) bool { return s.runs[i].end() > index })
}

// from returns the runs that end after index.
func (s *runSet) from(index uint32) []Run { return s.runs[s.find(index):] }

// at returns the run that index is in.
func (s *runSet) at(index uint32) (Run, bool) {
	i := s.find(index)
	if i == len(s.runs) || s.runs[i].From > index {
		return Run{}, false
	}
	return s.runs[i], true
}

// add puts in r, none of whose tasks is in the set.
func (s *runSet) add(r Run) {
	s.n += r.Count
	i := s.find(r.From)
	left := i > 0 && s.runs[i-1].end() == r.From && s.runs[i-1].sameHistory(r)
	right := i < len(s.runs) && s.runs[i].From == r.end() && s.runs[i].sameHistory(r)
	switch {
	case left && right:
		s.runs[i-1].Count += r.Count + s.runs[i].Count
		s.runs = slices.Delete(s.runs, i, i+1)
	case left:
		s.runs[i-1].Count += r.Count
	case right:
		s.runs[i].From = r.From
		s.runs[i].Count += r.Count
	default:
		s.runs = slices.Insert(s.runs, i, r)
	}
}

// cut takes the tasks of r out and returns them with their histories. It
// reports false, and changes nothing, unless all are there in r's attempt.
func (s *runSet) cut(r workload.Range) ([]Run, bool) {
	end := uint64(r.From) + uint64(r.Count)
	i := s.find(r.From)
	if r.Count == 0 || i == len(s.runs) || s.runs[i].From > r.From {
		return nil, false
	}
	j, at := i, uint64(r.From)
	for ; at < end; j++ {
		if j == len(s.runs) || s.runs[j].Attempt != r.Attempt || j > i && uint64(s.runs[j].From) != at {
			return nil, false
		}
		at = uint64(s.runs[j].end())
	}
	out := slices.Clone(s.runs[i:j])
	var keep []Run
	if head := r.From - out[0].From; head > 0 {
		rest := out[0]
		rest.Count = head
		keep = append(keep, rest)
		out[0].From, out[0].Count = r.From, out[0].Count-head
	}
	if tail := uint32(at - end); tail > 0 {
		last := &out[len(out)-1]
		rest := *last
		rest.From, rest.Count = uint32(end), tail
		keep = append(keep, rest)
		last.Count -= tail
	}
	s.runs = slices.Replace(s.runs, i, j, keep...)
	s.n -= r.Count
	return out, true
}

// pop takes out the first tasks, at most count of them in at most most runs.
func (s *runSet) pop(count uint32, most int) []Run {
	var out []Run
	whole := 0
	for count > 0 && len(out) < most && whole < len(s.runs) {
		r := s.runs[whole]
		if r.Count > count {
			s.runs[whole].From += count
			s.runs[whole].Count -= count
			r.Count = count
		} else {
			whole++
		}
		out = append(out, r)
		count -= r.Count
		s.n -= r.Count
	}
	s.runs = s.runs[whole:]
	return out
}
