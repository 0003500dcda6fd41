package node

import (
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/workload"
)

func TestLookupsAreBounded(t *testing.T) {
	var l lookups
	now := time.Unix(1000, 0)
	cell := func(i int) workload.CellID { return workload.CellID{byte(i), byte(i >> 8)} }
	for i := range 2 * lookupsAtOnce {
		if _, look := l.begin(cell(i), now); look != (i < lookupsAtOnce) {
			t.Errorf("look-up %d at once: %t", i, look)
		}
	}
	for i := range lookupsAtOnce {
		l.end(cell(i), lookup{at: now, found: i == 0})
	}
	if known, look := l.begin(cell(0), now.Add(lookupEvery-1)); look || !known.found {
		t.Error("a cell is looked up again at once, or what was found is forgotten")
	}
	if _, look := l.begin(cell(0), now.Add(lookupEvery)); !look {
		t.Error("a cell is never looked up again")
	}
	l.end(cell(0), lookup{at: now})
	looked := 0
	for i := range 3 * maxLookups {
		if _, look := l.begin(cell(i), now); look {
			looked++
			l.end(cell(i), lookup{at: now})
		}
	}
	if len(l.last) > maxLookups || looked > maxLookups {
		t.Errorf("%d cells looked up, %d remembered; want at most %d", looked, len(l.last), maxLookups)
	}
}
