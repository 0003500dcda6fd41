package notary

import (
	"strings"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/receipt"
)

// TestCountersignedLink has an owner who wants awards countersigned, and a cell that
// does it well and badly.
func TestCountersignedLink(t *testing.T) {
	wanted := func(s *workload.Spec) { s.Countersign = true }
	for name, tt := range map[string]struct {
		by     []int
		change func(*made, *receipt.Award, *receipt.Options)
		status receipt.Status
		detail string
	}{
		"a majority":         {[]int{2, 0}, nil, receipt.Holds, "cleared 1 auction again and signed before a slot began: node3, node1"},
		"one":                {[]int{1}, nil, receipt.Fails, "1 of 3 voters countersigned it"},
		"nobody":             {nil, nil, receipt.Fails, "no voter countersigned it"},
		"one twice":          {[]int{1, 1}, nil, receipt.Fails, "signed twice"},
		"voters are unknown": {[]int{0, 1}, func(_ *made, _ *receipt.Award, o *receipt.Options) { o.Voters = nil }, receipt.Unchecked, "give --voters"},
		"others are voters":  {[]int{0, 1}, func(m *made, _ *receipt.Award, o *receipt.Options) { o.Voters = o.Voters[:2] }, receipt.Fails, "none of those that you gave"},
		"a cell of one": {nil, func(m *made, _ *receipt.Award, _ *receipt.Options) {
			m.countersign([]workload.PeerID{m.id(1)}, 0)
		}, receipt.Fails, "none of the voters"},
		"other voters each": {nil, func(m *made, a *receipt.Award, _ *receipt.Options) {
			m.countersign(m.rec.Voters[:2], 0)
			first := a.Countersigned
			m.countersign(m.rec.Voters, 1)
			a.Countersigned = append(first, a.Countersigned...)
		}, receipt.Fails, "names other voters"},
		"then the slots were changed": {[]int{0, 1}, func(_ *made, a *receipt.Award, _ *receipt.Options) { a.Slots[0].Rate++ }, receipt.Fails, "signed another clearing"},
		"then a score was changed":    {[]int{0, 1}, func(_ *made, a *receipt.Award, _ *receipt.Options) { a.Scores[0].RTTMicros++ }, receipt.Fails, "signed another clearing"},
		"a bid for it":                {[]int{0, 1}, func(_ *made, a *receipt.Award, _ *receipt.Options) { a.Countersigned[0] = a.Bids[0] }, receipt.Fails, "does not verify"},
	} {
		m := make3(t, 4, 2, time.Now(), wanted)
		opt := m.options()
		m.countersign(m.rec.Voters, tt.by...)
		if tt.change != nil {
			tt.change(m, &m.rec.Awards[0], &opt)
		}
		if l := link(t, verified(t, m.file().Encode(), opt), "countersigned"); l.Status != tt.status || !strings.Contains(l.Detail, tt.detail) {
			t.Errorf("%s: %+v", name, l)
		}
	}
}
