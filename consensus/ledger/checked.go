package ledger

import "github.com/perrin-mesh/perrin/workload"

// Checked sums up what the nodes of a workload that is verified agreed on.
type Checked struct {
	Accepted uint32 // tasks that ended with a result on which enough nodes agree
	Alike    uint32 // of those, tasks of which two of these nodes have one operator
	Alone    uint32 // of those accepted, tasks that a node with a record ran alone
	Doubtful uint32 // of those, on nodes that returned another result than others for some other task
	Picked   uint32 // tasks of such nodes that were checked all the same
	Split    uint32 // tasks that failed because too few agreed
	Differs  uint32 // results that were not the accepted ones, and
	Who      []Dissent
}

// Dissent is one result that was not the accepted one.
type Dissent struct {
	Node workload.PeerID
	Task uint32
}

// maxDissents is how many Checked.Who names.
const maxDissents = 16

// Checked returns what came of comparing results; false when the workload is not
// verified, or not known. Who operates a node is what the ledger knows of it now.
func (s *State) Checked(id workload.ID) (Checked, bool) {
	var c Checked
	l := s.loads[id]
	if l == nil || !l.verified() {
		return c, false
	}
	ops := s.operators(l)
	firms := map[uint32]map[workload.PeerID]int{}
	alone := map[workload.PeerID]uint32{}
	for i := range l.Segments {
		g := &l.Segments[i]
		if g.Vote != nil && g.Vote.Drawn != nil && g.Vote.Drawn.Picked {
			c.Picked++
		}
		switch {
		case g.Vote == nil:
		case g.Vote.Verdict == Alone:
			c.Accepted++
			c.Alone++
			alone[g.Node]++
		case g.Vote.Verdict == Differs:
			if c.Differs++; len(c.Who) < maxDissents {
				c.Who = append(c.Who, Dissent{g.Node, g.Vote.Task})
			}
		case g.Vote.Verdict == Agrees:
			if firms[g.Vote.Task] == nil {
				firms[g.Vote.Task] = map[workload.PeerID]int{}
			}
			firms[g.Vote.Task][ops.of(g.Node)]++
		case len(g.Failed) > 0 && g.Failed[0].Exit == workload.NoAgreement:
			c.Split++
		}
	}
	for i := range l.Tallies {
		if t := &l.Tallies[i]; t.Differs > 0 {
			c.Doubtful += alone[t.Node]
		}
	}
	for _, of := range firms {
		c.Accepted++
		if len(of) < int(l.Spec.VerifyBy.Agree) {
			c.Alike++
		}
	}
	return c, true
}
