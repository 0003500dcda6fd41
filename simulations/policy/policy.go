package policy

import (
	"errors"
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
	Policy  scenario.Policy
	Self    workload.PeerID
	Cell    workload.CellID
	Term    uint64
	Chance  chance.Stream // of this cell's leader
	Oracle  Oracle        // of all-knowing, omega, sparrow, hawk and own
	Chooser Chooser       // of own
}

// Oracle knows every peer of the mesh as it is.
type Oracle interface {
	Numbers
	// Best returns the offer of the peer that is up, fits one slot of the lot and
	// costs the least as seen from the leader of a cell, and how many of its threads
	// were promised before; false when there is none. What the lot may get there is
	// promised to it from now until the call arrives, so that two leaders do not
	// choose the same cores. Peers in avoid are left out.
	Best(cell workload.CellID, lot *scheduler.Lot, avoid []workload.PeerID) (o scheduler.OfferIn, promised int32, ok bool)
	// Size is how many peers the mesh has; those that are away count.
	Size() int
	// OfferOf returns the offer of a peer as it is now, as seen from the leader of a
	// cell; false while it is away.
	OfferOf(i int, cell workload.CellID) (scheduler.OfferIn, bool)
	// Waiting is how many calls wait in a peer's queue.
	Waiting(i int) int
	// Service is how long a task of a lot takes on the mean, in ns.
	Service(lot *scheduler.Lot) int64
}

// Traits are what a policy changes outside of a desk.
type Traits struct {
	Queues   bool // a node that has no room keeps a call, and bids once it has
	OneTask  bool // a slot ends after its first task
	Steals   bool // a node with nothing to do takes calls that wait elsewhere
	Central  bool // one leader decides for all cells
	PayAsBid bool // a slot is paid the winner's ask
}

// TraitsOf returns the traits of a policy.
func TraitsOf(name string) Traits {
	switch name {
	case scenario.Sparrow:
		return Traits{Queues: true, OneTask: true}
	case scenario.Hawk:
		return Traits{Queues: true, OneTask: true, Steals: true}
	case scenario.Central:
		return Traits{Central: true}
	case scenario.FirstPrice:
		return Traits{PayAsBid: true}
	}
	return Traits{}
}

// New returns the desk of a policy.
func New(c Config) (Desk, error) {
	switch c.Policy.Name {
	case scenario.Perrin:
		return scheduler.NewDesk(scheduler.DefaultConfig(), c.Self, c.Cell, c.Term), nil
	case scenario.FirstPrice:
		return payAsBid{scheduler.NewDesk(scheduler.DefaultConfig(), c.Self, c.Cell, c.Term)}, nil
	case scenario.Random:
		return newRival(c, randomOf), nil
	case scenario.RandomK:
		return newRival(c, sampleOf(c.Policy.K)), nil
	case scenario.PowerOfTwo:
		return newRival(c, emptierOfTwo), nil
	case scenario.Sparrow, scenario.Hawk:
		return newSampler(c), nil
	case scenario.Omega:
		return newOmega(c), nil
	case scenario.Central:
		return newRival(c, fitOf(c.Policy.Fit)), nil
	case scenario.AllKnowing:
		return newRival(c, nil), nil
	case scenario.Own:
		if c.Chooser == nil {
			return nil, ErrNoChooser
		}
		return newOwn(c), nil
	}
	return nil, fmt.Errorf("policy: there is no %.40q", c.Policy.Name)
}

// ErrNoChooser is returned of a policy of a user's own that nobody brought.
var ErrNoChooser = errors.New("policy own: it has no command, and no program brings a Chooser")

// payAsBid is the production desk under a first price.
type payAsBid struct{ *scheduler.Desk }

// Step implements Desk.
func (p payAsBid) Step(now int64, in scheduler.Input) []scheduler.Output {
	out := p.Desk.Step(now, in)
	for _, o := range out {
		if o.Award != nil {
			payAsked(o.Award.Slots)
		}
	}
	return out
}

// ClearPayAsBid is the production clearing under a first price.
func ClearPayAsBid(wanted uint32, maxPrice int64, bids []workload.Bid, scores []workload.Score) []workload.AwardSlot {
	slots := scheduler.Clear(wanted, maxPrice, bids, scores)
	payAsked(slots)
	return slots
}

// payAsked has each slot paid what its winner asked.
func payAsked(slots []workload.AwardSlot) {
	for i := range slots {
		slots[i].Rate = slots[i].Ask
	}
}

// fitOf calls the fullest node that fits, or the emptiest; of equals any.
func fitOf(fit string) chooser {
	return func(s *chance.Stream, nodes []*standing) []*standing {
		best, ties := 0, 1
		for i := 1; i < len(nodes); i++ {
			d := nodes[i].load() - nodes[best].load()
			if fit == scenario.Pack {
				d = -d
			}
			switch {
			case d < 0:
				best, ties = i, 1
			case d == 0:
				if ties++; s.IntN(ties) == 0 {
					best = i
				}
			}
		}
		return nodes[best : best+1]
	}
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
