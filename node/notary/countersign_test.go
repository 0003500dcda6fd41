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
		"its own word for all voters": {nil, func(m *made, _ *receipt.Award, _ *receipt.Options) {
			m.countersign(m.rec.Voters[:1], 0)
		}, receipt.Unchecked, "award 0: the voters changed, or the signers left some out: the statement also names node2, node3"},
		"voters came since": {nil, func(m *made, _ *receipt.Award, _ *receipt.Options) {
			m.countersign(m.rec.Voters[:2], 0, 1)
		}, receipt.Unchecked, "the statement also names node3"},
		"a voter left since": {[]int{0, 1, 2}, func(m *made, _ *receipt.Award, _ *receipt.Options) {
			m.rec.Voters = m.rec.Voters[:2]
		}, receipt.Unchecked, "the statement does not name node3"},
		"a voter was replaced": {nil, func(m *made, _ *receipt.Award, _ *receipt.Options) {
			m.countersign(m.rec.Voters[:2], 0, 1)
			m.rec.Voters = m.rec.Voters[1:]
		}, receipt.Unchecked, "they name node1, and the statement names node3 instead"},
		"one's own word in both": {nil, func(m *made, _ *receipt.Award, _ *receipt.Options) {
			m.rec.Voters = m.rec.Voters[:1]
			m.countersign(m.rec.Voters, 0)
		}, receipt.Unchecked, "1 of the 3 voters that you gave countersigned it, which is no majority; missing: node2, node3"},
		"in another order": {nil, func(m *made, _ *receipt.Award, _ *receipt.Options) {
			m.countersign([]workload.PeerID{m.id(2), m.id(0), m.id(1)}, 0, 1)
		}, receipt.Holds, "cleared 1 auction again"},
		"one given twice": {[]int{0, 1}, func(_ *made, _ *receipt.Award, o *receipt.Options) {
			o.Voters = append(o.Voters, o.Voters[2], o.Voters[2])
		}, receipt.Holds, "cleared 1 auction again"},
		"one more is given": {[]int{0, 1}, func(_ *made, _ *receipt.Award, o *receipt.Options) {
			o.Voters = append(o.Voters, workload.PeerID{9})
		}, receipt.Unchecked, "2 of the 4 voters that you gave"},
		"others are voters": {[]int{0, 1}, func(m *made, _ *receipt.Award, o *receipt.Options) { o.Voters = o.Voters[:2] }, receipt.Fails, "none of those that you gave"},
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

// TestTwoAwardsCountersigned: a link that is open at the first award fails at the
// second, where that is wrong.
func TestTwoAwardsCountersigned(t *testing.T) {
	m := make3(t, 4, 2, time.Now(), func(s *workload.Spec) { s.Countersign = true })
	m.countersign(m.rec.Voters[:1], 0)
	m.rec.Awards = append(m.rec.Awards, m.rec.Awards[0])
	m.rec.Awards[1].Countersigned = nil
	if l := link(t, verified(t, m.file().Encode(), m.options()), "countersigned"); l.Status != receipt.Fails || !strings.Contains(l.Detail, "award 1: no voter") {
		t.Errorf("%+v", l)
	}
}

// TestRecordOfFewerVoters: a record is signed by a majority of the voters that it
// names itself; the user's list says whether that is one of the cell.
func TestRecordOfFewerVoters(t *testing.T) {
	for name, tt := range map[string]struct {
		named, signed, given int // so many of the first nodes
		status               receipt.Status
		detail               string
	}{
		"all":                   {3, 3, 3, receipt.Holds, "3 of the cell's 3 voters"},
		"a majority":            {3, 2, 3, receipt.Holds, "2 of the cell's 3 voters"},
		"no majority":           {3, 1, 3, receipt.Fails, "1 of the cell's 3 voters signed it, which is no majority"},
		"a cell of one":         {1, 1, 3, receipt.Unchecked, "1 of the 3 voters that you gave signed it, which is no majority; missing: node2, node3"},
		"others signed as well": {1, 3, 3, receipt.Unchecked, "missing: node2, node3"},
		"one left meanwhile":    {2, 2, 3, receipt.Holds, "2 of the cell's 2 voters"},
		"a lone voter":          {1, 1, 1, receipt.Holds, "1 of the cell's 1 voter"},
		"none given":            {3, 3, 0, receipt.Unchecked, "give --voters"},
		"more named than given": {3, 3, 2, receipt.Fails, "none of those that you gave"},
	} {
		m := make3(t, 4, 2, time.Now())
		opt := m.options()
		opt.Voters, m.rec.Voters = opt.Voters[:tt.given], m.rec.Voters[:tt.named]
		f := m.file()
		f.Signatures = f.Signatures[:tt.signed]
		if l := link(t, verified(t, f.Encode(), opt), "cell's statement"); l.Status != tt.status || !strings.Contains(l.Detail, tt.detail) {
			t.Errorf("%s: %+v", name, l)
		}
	}
}
