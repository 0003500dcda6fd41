package receipt

import (
	"fmt"
	"slices"

	"github.com/perrin-mesh/perrin/workload"
)

// distinct returns each of them once, in their order.
func distinct(nodes []workload.PeerID) (out []workload.PeerID) {
	for _, n := range nodes {
		if !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

// without returns those of the nodes, each once, that are not among others.
func without(nodes, others []workload.PeerID) []workload.PeerID {
	return slices.DeleteFunc(distinct(nodes), func(n workload.PeerID) bool { return slices.Contains(others, n) })
}

// amongGiven fails when a voter that the file names is none of those that the user
// gave. Who gave none is told nothing.
func (c *check) amongGiven(voters []workload.PeerID) error {
	if len(c.opt.Voters) == 0 {
		return nil
	}
	if strange := without(voters, c.opt.Voters); len(strange) > 0 {
		return fmt.Errorf("%s is named as a voter, and is none of those that you gave", strange[0])
	}
	return nil
}

// majorityGiven returns what is open when those who did something are no majority of
// the voters that the user gave: the file may leave voters out, and then its own
// majority is none. It is not wrong either, as voters change and more than those of
// one time may be given.
func (c *check) majorityGiven(by []workload.PeerID, did string) error {
	given := distinct(c.opt.Voters)
	missing := without(given, by)
	if have := len(given) - len(missing); have*2 <= len(given) {
		return lacking("%d of the %d voters that you gave %s, which is no majority; missing: %s", have, len(given), did, c.names(missing))
	}
	return nil
}

// recordsVoters returns what is open when an award was countersigned in the name of
// other voters than those of the record, which a majority of them signed.
func (c *check) recordsVoters(voters []workload.PeerID) error {
	left, more := without(c.rec.Voters, voters), without(voters, c.rec.Voters)
	switch {
	case len(left) > 0 && len(more) > 0:
		return lacking("the voters changed, or the signers made them up: they name %s, and the statement names %s instead", c.names(more), c.names(left))
	case len(left) > 0:
		return lacking("the voters changed, or the signers left some out: the statement also names %s", c.names(left))
	case len(more) > 0:
		return lacking("the voters changed, or the signers made some up: the statement does not name %s", c.names(more))
	}
	return nil
}
