package policy

import (
	"fmt"

	"github.com/perrin-mesh/perrin/scheduler"
	"github.com/perrin-mesh/perrin/simulations/chance"
	"github.com/perrin-mesh/perrin/simulations/scenario"
	"github.com/perrin-mesh/perrin/workload"
)

// Desk decides for one leader of one cell in one term. It is not safe for
// concurrent use, reads no clock and draws only from its stream. Step has the
// contract of scheduler.Desk.Step.
type Desk interface {
	// Step takes one input, or none, at a time in ms that never goes back.
	Step(now int64, in scheduler.Input) []scheduler.Output
	// Offers returns the home cell's offers that stand at now, in a fixed order.
	Offers(now int64) []workload.Offer
	// Suited returns up to most offers that seem to fit a lot, for a sibling.
	Suited(lot *scheduler.Lot, now int64, most int) []workload.Offer
}

// Config is what a desk is made of.
type Config struct {
	Policy scenario.Policy
	Self   workload.PeerID
	Cell   workload.CellID
	Term   uint64
	Chance chance.Stream // of this cell's leader
	Oracle Oracle        // of all-knowing alone
}

// Oracle knows every peer of the mesh as it is.
type Oracle interface {
	// Best returns the offer of the peer that is up, fits one slot of the lot and
	// costs the least as seen from the leader of a cell, and how many of its threads
	// were promised before; false when there is none. What the lot may get there is
	// promised to it from now until the call arrives, so that two leaders do not
	// choose the same cores. Peers in avoid are left out.
	Best(cell workload.CellID, lot *scheduler.Lot, avoid []workload.PeerID) (o scheduler.OfferIn, promised int32, ok bool)
}

// New returns the desk of a policy.
func New(c Config) (Desk, error) {
	switch c.Policy.Name {
	case scenario.Perrin:
		return scheduler.NewDesk(scheduler.DefaultConfig(), c.Self, c.Cell, c.Term), nil
	case scenario.Random:
		return newRival(c, randomOf), nil
	case scenario.RandomK:
		return newRival(c, sampleOf(c.Policy.K)), nil
	case scenario.PowerOfTwo:
		return newRival(c, emptierOfTwo), nil
	case scenario.AllKnowing:
		return newRival(c, nil), nil
	}
	return nil, fmt.Errorf("policy: there is no %.40q", c.Policy.Name)
}

// randomOf calls one node at random.
func randomOf(s *chance.Stream, fit []*standing) []*standing {
	i := s.IntN(len(fit))
	return fit[i : i+1]
}

// sampleOf calls k nodes at random, and the cheapest wins.
func sampleOf(k int) chooser {
	return func(s *chance.Stream, fit []*standing) []*standing {
		for i := range min(k, len(fit)) {
			j := i + s.IntN(len(fit)-i)
			fit[i], fit[j] = fit[j], fit[i]
		}
		return fit[:min(k, len(fit))]
	}
}

// emptierOfTwo calls, of two nodes at random, the one with the smaller share of
// its threads in use (Mitzenmacher, "The power of two choices", 2001).
func emptierOfTwo(s *chance.Stream, fit []*standing) []*standing {
	two := sampleOf(2)(s, fit)
	if len(two) == 2 && two[1].load() < two[0].load() {
		return two[1:]
	}
	return two[:1]
}
