package leader

import (
	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/node/api"
)

// checked is what came of comparing results, as the API shows it; nil for a
// workload that is not verified.
func (l *Leader) checked(s *ledger.State, v *ledger.View) *api.Checked {
	if v.Spec.VerifyBy == nil {
		return nil
	}
	c, _ := s.Checked(v.ID)
	out := &api.Checked{By: v.Spec.VerifyBy.String(), Accepted: c.Accepted, Alike: c.Alike, Alone: c.Alone, Doubtful: c.Doubtful, Picked: c.Picked, Split: c.Split, Differs: c.Differs}
	for _, d := range c.Who {
		out.Who = append(out.Who, api.Dissent{Node: d.Node, Name: l.people(s).name(d.Node), Task: d.Task})
	}
	return out
}

// votes are the results of one task that were compared.
func votes(s people, t *ledger.Task) (out []api.WhyVote) {
	if t == nil {
		return nil
	}
	for _, v := range t.Votes {
		out = append(out, api.WhyVote{
			Node: v.Node, Name: s.name(v.Node), Verdict: string(v.Verdict), Exit: v.Exit, Code: v.Code, Result: v.Result, Cost: v.Cost,
			Streak: v.Streak, Drawn: drawnText(v.Drawn),
		})
	}
	return out
}

func drawnText(d *ledger.Drawn) string {
	switch {
	case d == nil:
		return ""
	case !d.Picked:
		return "passed"
	case len(d.Sig) == 0:
		return "silent"
	}
	return "picked"
}
