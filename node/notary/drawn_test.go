package notary

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/receipt"
)

// drew is a workload of one task of which the first node, whose results had agreed 20
// times in a row, returned a result, and its owner drew. The result is one that the
// draw picks for a check, or not; then the second node ran it too.
func drew(t *testing.T, picked bool) *made {
	t.Helper()
	m := make3(t, 1, 1, time.Now(), func(s *workload.Spec) {
		s.VerifyBy = &workload.VerifyBy{Agree: 2, Of: 3, Adaptive: true}
	})
	m.rec.Home = m.id(2)
	a := &m.rec.Awards[0]
	for try := 0; ; try++ {
		m.segments, m.rec.Cost = nil, 0
		m.vote(a.Slots[0], 1, 1, a.At+60, fmt.Sprint("result ", try), "alone")
		v := m.segments[0].Vote
		v.Streak = 20
		d := workload.Draw{Workload: m.rec.Workload, Result: v.Result}
		v.Drawn = &receipt.Drawn{Picked: picked, Sig: workload.Sign(workload.DomainDraw, wire.MustMarshal(&d), m.owner).Sig}
		if workload.Picks(v.Drawn.Sig, v.Streak) != picked {
			continue
		}
		m.segments[0].Done = []workload.Range{{Count: 1, Attempt: 1}}
		if picked {
			m.vote(a.Slots[1], 2, 2, a.At+90, fmt.Sprint("result ", try), "agrees")
			v.Verdict = "agrees"
		}
		return m
	}
}

// A receipt of adaptive work replays its draws.
func TestDrawnLink(t *testing.T) {
	for picked, want := range map[bool]string{
		false: "ran once, by nodes of which at least 20 results had agreed in a row for who pays (by the cell's word), as the owner's draws did not pick them: 1 task",
		true:  "2 of 3 agree on 1 task, each signed by another node; of 1 two nodes have one operator, as no other bid; picked for a check: 1 task",
	} {
		m := drew(t, picked)
		if picked { // nobody but these two bid for its slot
			m.rec.Awards[0].Bids, m.rec.Awards[0].Scores = m.rec.Awards[0].Bids[:2], m.rec.Awards[0].Scores[:2]
			for i := range m.rec.Awards[0].Slots {
				m.rec.Awards[0].Slots[i].Rate = m.rec.Awards[0].Slots[i].Ask
			}
		}
		if link := checkedLink(verified(t, m.file().Encode(), m.options())); link.Status != receipt.Holds || link.Detail != want {
			t.Errorf("picked=%v: %s: %q, want %q", picked, link.Status, link.Detail, want)
		}
	}
}

// What a whole cell says of the draws shows, as the owner signed them.
func TestDrawsCannotBeChanged(t *testing.T) {
	for name, tt := range map[string]struct {
		picked bool
		change func(*made)
		want   string
	}{
		"a check left out": {true, func(m *made) {
			m.segments = m.segments[:1]
			m.rec.Cost, m.segments[0].Vote.Verdict, m.segments[0].Vote.Drawn.Picked = m.segments[0].Cost, "alone", false
		}, "the draw picks=true at a streak of 20"},
		"a longer streak than there is": {false, func(m *made) { m.segments[0].Vote.Streak = 5000 }, "of which 5000 had agreed"},
		"a node without a record":       {false, func(m *made) { m.segments[0].Vote.Streak = 9 }, "of which 9 had agreed"},
		"no record":                     {false, func(m *made) { m.segments[0].Vote.Streak = 0 }, "of which 0 had agreed"},
		"another's draw":                {false, func(m *made) { m.segments[0].Vote.Drawn.Sig = slices.Repeat([]byte{1}, 64) }, "does not verify"},
		"no draw":                       {false, func(m *made) { m.segments[0].Vote.Drawn = nil }, "nothing was drawn"},
		"no signature":                  {false, func(m *made) { m.segments[0].Vote.Drawn.Sig = nil }, "the draw picks=true"},
		"the drawer's own":              {false, func(m *made) { m.rec.Home = m.segments[0].Node }, "drew for its own result"},
		"alone without a draw":          {false, func(m *made) { m.segments[0].Vote.Drawn, m.segments[0].Vote.Streak = nil, 0 }, "of which 0"},
		"a failure alone": {false, func(m *made) {
			m.segments[0].Done, m.segments[0].Failed = nil, []receipt.Failed{{Attempt: 1, Exit: workload.Exited, Code: 1}}
		}, "closed otherwise"},
		"not asked for": {false, func(m *made) {
			v := m.segments[0].Vote
			other := compared(t, "a", "b", "c")
			other.segments[0].Vote.Streak, other.segments[0].Vote.Drawn = v.Streak, v.Drawn
			*m = *other
		}, "did not ask for draws"},
	} {
		m := drew(t, tt.picked)
		tt.change(m)
		if link := checkedLink(verified(t, m.file().Encode(), m.options())); link.Status != receipt.Fails || !strings.Contains(link.Detail, tt.want) {
			t.Errorf("%s: %s: %s, want %s", name, link.Status, link.Detail, tt.want)
		}
	}
}

// TestEveryByteOfVerifiedWorkCounts changes receipts of work that several nodes ran,
// and of work that one ran alone.
func TestEveryByteOfVerifiedWorkCounts(t *testing.T) {
	everyByteCounts(t, compared(t, "a", "b", "c"), 23)
	everyByteCounts(t, drew(t, false), 23)
}
