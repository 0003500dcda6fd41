package receipt

import (
	"fmt"

	"github.com/perrin-mesh/perrin/workload"
)

// countersigned: where the owner asked for it, a majority of the cell's voters
// cleared each auction again and signed that, before its award was committed.
func (c *check) countersigned() (string, error) {
	switch {
	case c.specErr != nil:
		return "", c.specErr
	case !c.spec.Countersign:
		return "not asked for: each voter cleared the auctions again before it applied their awards, and signed that in no other way", nil
	}
	var all []workload.PeerID // who signed something, each once
	var open error            // what the first such award leaves open
	for i := range c.rec.Awards {
		by, lack, err := c.countersignedOne(&c.rec.Awards[i])
		if err != nil {
			return "", fmt.Errorf("award %d: %w", i, err)
		}
		if lack != nil && open == nil {
			open = lacking("award %d: %s", i, lack.Error())
		}
		all = append(all, by...)
	}
	if all = distinct(all); len(all) == 0 {
		return "no auction gave a slot", nil
	}
	if open != nil {
		return "", open
	}
	detail := fmt.Sprintf("a majority of the voters cleared %s again and signed before a slot began: %s", workload.Counted(len(c.rec.Awards), "auction"), c.names(all))
	if len(c.opt.Voters) == 0 {
		return "", lacking("%s; that these were the cell's voters is the file's own word: give --voters", detail)
	}
	return detail, nil
}

// countersignedOne returns who countersigned an award and what that leaves open. The
// signers say themselves who the voters are: one of them alone could name nobody
// else, so their list is held against the record's and against the user's.
func (c *check) countersignedOne(a *Award) (by []workload.PeerID, open, err error) {
	voters, by, err := c.rules.Countersigned(c.rec.Workload, a)
	if err == nil {
		err = c.amongGiven(voters)
	}
	if err != nil {
		return nil, nil, err
	}
	if open = c.recordsVoters(voters); open == nil && len(c.opt.Voters) > 0 {
		open = c.majorityGiven(by, "countersigned it")
	}
	return by, open, nil
}
