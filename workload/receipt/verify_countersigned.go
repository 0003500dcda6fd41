package receipt

import (
	"fmt"
	"slices"

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
	for i := range c.rec.Awards {
		voters, by, err := c.rules.Countersigned(c.rec.Workload, &c.rec.Awards[i])
		if err != nil {
			return "", fmt.Errorf("award %d: %w", i, err)
		}
		for _, v := range voters {
			if len(c.opt.Voters) > 0 && !slices.Contains(c.opt.Voters, v) {
				return "", fmt.Errorf("award %d: %s is named as a voter, and is none of those that you gave", i, c.name(v))
			}
		}
		for _, v := range by {
			if !slices.Contains(all, v) {
				all = append(all, v)
			}
		}
	}
	if len(all) == 0 {
		return "no auction gave a slot", nil
	}
	detail := fmt.Sprintf("a majority of the voters cleared %s again and signed before a slot began: %s", workload.Counted(len(c.rec.Awards), "auction"), c.names(all))
	if len(c.opt.Voters) == 0 {
		return "", lacking("%s; that these were the cell's voters is the file's own word: give --voters", detail)
	}
	return detail, nil
}
