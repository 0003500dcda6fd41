package policy

import (
	"fmt"

	"github.com/perrin-mesh/perrin/scheduler"
	"github.com/perrin-mesh/perrin/simulations/chance"
	"github.com/perrin-mesh/perrin/workload"
)

// MaxCalls is how many nodes a Chooser may call for one workload at a time.
const MaxCalls = 64

// Chooser is a policy of a user's own: it picks whom the leader of a cell calls.
// The messages, the bids, the holds, the clearing and the ledger around it are
// those of every other policy. One Chooser decides for all cells of a replication;
// it is called from one goroutine.
type Chooser interface {
	// Choose picks whom to call for a lot, of the nodes that seem to have room for
	// it: indexes into q.Nodes, each once, at most MaxCalls. The cheapest bid wins.
	// None lets the lot wait for 100 ms. The question is valid until Choose returns.
	// An error ends the run. The same questions must get the same answers, or the
	// run cannot be repeated.
	Choose(q *Question) ([]int, error)
}

// Question is a lot that wants slots, and what its leader knows.
type Question struct {
	Now      int64 // ms, from 1
	Cell     int32 // its number
	Leader   int32 // the peer that asks
	Workload int32 // its number in the order of arrival
	Owner    int32
	Lot      *scheduler.Lot
	Nodes    []Node // by identity; never empty
	// Chance is the leader's own stream, for choosers in Go.
	Chance *chance.Stream
}

// Node is a node as its leader has heard of it.
type Node struct {
	Number    int32 // of the peer
	Offer     *workload.Offer
	RTTMicros int64
	Slots     uint32 // of the lot's shape that seem to fit
	Load      int64  // permille of its threads in use or called for
}

// Numbers says how a mesh counts what it simulates.
type Numbers interface {
	PeerNumber(workload.PeerID) int32 // of a peer or an owner
	CellNumber(workload.CellID) int32
	WorkloadNumber(workload.ID) int32
}

// Failing is a desk whose policy can end the run.
type Failing interface {
	// Err returns why the run must end, nil while it goes on.
	Err() error
}

// own is a desk that calls whom a Chooser picks.
type own struct {
	*rival
	chooser Chooser
	numbers Numbers
	now     int64
	failed  error
}

func newOwn(c Config) *own {
	o := &own{chooser: c.Chooser, numbers: c.Oracle}
	o.rival = newRival(c, nil)
	o.rival.asked = o.pick
	return o
}

// Step implements Desk.
func (o *own) Step(now int64, in scheduler.Input) []scheduler.Output {
	o.now = now
	return o.rival.Step(now, in)
}

// Err implements Failing.
func (o *own) Err() error { return o.failed }

// pick asks the chooser.
func (o *own) pick(lot *scheduler.Lot, fit []*standing) (out []*standing) {
	if o.failed != nil {
		return nil
	}
	q := Question{
		Now: o.now, Cell: o.numbers.CellNumber(o.Cell), Leader: o.numbers.PeerNumber(o.Self), Workload: o.numbers.WorkloadNumber(lot.Workload),
		Owner: o.numbers.PeerNumber(lot.Owner), Lot: lot, Nodes: make([]Node, len(fit)), Chance: &o.Chance,
	}
	for i, n := range fit {
		q.Nodes[i] = Node{Number: o.numbers.PeerNumber(n.Offer.Node), Offer: &n.Offer, RTTMicros: n.RTTMicros, Slots: n.slots(lot.Shape), Load: n.load()}
	}
	picked, err := o.chooser.Choose(&q)
	if err == nil {
		err = Valid(picked, len(fit))
	}
	if o.failed = err; err != nil {
		return nil
	}
	for _, i := range picked {
		out = append(out, fit[i])
	}
	return out
}

// Valid returns an error that says what is wrong with a choice of n nodes.
func Valid(picked []int, n int) error {
	if len(picked) > MaxCalls {
		return fmt.Errorf("policy: it calls %d nodes, at most %d", len(picked), MaxCalls)
	}
	seen := map[int]bool{}
	for _, i := range picked {
		switch {
		case i < 0 || i >= n:
			return fmt.Errorf("policy: it calls node %d of %d, counted from 0", i, n)
		case seen[i]:
			return fmt.Errorf("policy: it calls node %d twice", i)
		}
		seen[i] = true
	}
	return nil
}
