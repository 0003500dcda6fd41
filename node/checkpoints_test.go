package node

import (
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/mesh/meshtest"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// TestPaceOfCheckpoints: after enough entries, or after a time in which any came; always
// one that was there a look before, and none twice.
func TestPaceOfCheckpoints(t *testing.T) {
	start := time.Unix(1000, 0)
	var p pace
	for i, step := range []struct {
		newest uint64
		after  time.Duration
		want   uint64
	}{
		{10, 0, 0},
		{10, time.Minute, 0},
		{10, checkpointWithin, 10},
		{10, checkpointWithin + time.Hour, 0}, // nothing came
		{500, checkpointWithin + 2*time.Hour, 0},
		{5000, checkpointWithin + 2*time.Hour + time.Minute, 500},
		{5001, checkpointWithin + 2*time.Hour + 2*time.Minute, 5000},
		{5002, checkpointWithin + 2*time.Hour + 3*time.Minute, 0},
	} {
		got, ok := p.due(step.newest, start.Add(step.after))
		if got != step.want || ok != (step.want > 0) {
			t.Errorf("step %d: %d, %t; want %d", i, got, ok, step.want)
		}
	}
}

// TestMarksOfACheckpoint: a mark counts as its voter signed it, for this entry and head.
func TestMarksOfACheckpoint(t *testing.T) {
	voter, other := meshtest.Key(t), meshtest.Key(t)
	cell, head := workload.CellID{1}, workload.Digest{2}
	mark := func(m wire.Mark) workload.Signed {
		return workload.Sign(workload.DomainMark, wire.MustMarshal(&m), voter)
	}
	good := mark(wire.Mark{Cell: cell, Index: 7, Head: head})
	broken := good
	broken.Sig = append([]byte{}, good.Sig...)
	broken.Sig[3]++
	for name, x := range map[string]struct {
		mark        workload.Signed
		want, other bool
	}{
		"its own":            {good, true, false},
		"another head":       {mark(wire.Mark{Cell: cell, Index: 7, Head: workload.Digest{3}}), true, true},
		"another entry":      {mark(wire.Mark{Cell: cell, Index: 8, Head: head}), false, false},
		"another cell":       {mark(wire.Mark{Cell: workload.CellID{9}, Index: 7, Head: head}), false, false},
		"a broken signature": {broken, false, false},
		"another's":          {workload.Sign(workload.DomainMark, good.Payload, other), false, false},
		"another domain":     {workload.Sign(workload.DomainStop, good.Payload, voter), false, false},
	} {
		s, differs := markAt(&wire.AuditAnswer{Marks: []workload.Signed{x.mark}}, meshtest.IDOf(voter), cell, 7, head)
		if (s != nil) != x.want || differs != x.other {
			t.Errorf("%s: %v, differs %t", name, s, differs)
		}
	}
}

func TestCheckpointsAreBounded(t *testing.T) {
	var c checkpoints
	for i := range uint64(maxCheckpoints + 3) {
		c.add(workload.CellID{1}, countersignedHead{Index: i})
	}
	if len(c.List) != maxCheckpoints || c.List[0].Index != 3 {
		t.Errorf("%d are kept, from %d", len(c.List), c.List[0].Index)
	}
	var read checkpoints
	if err := wire.Unmarshal(wire.MustMarshal(&c), &read); err != nil || len(read.List) != maxCheckpoints {
		t.Errorf("read again: %v", err)
	}
	if c.add(workload.CellID{2}, countersignedHead{Index: 1}); len(c.List) != 1 {
		t.Errorf("another cell's are kept: %+v", c)
	}
}
