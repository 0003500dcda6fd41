package ledger

import (
	"math"

	"github.com/perrin-mesh/perrin/workload"
)

// Account is what an owner spent and a node earned, in micro-credits. Over all
// accounts the two sums are equal.
type Account struct {
	Peer   workload.PeerID `cbor:"1,keyasint" json:"peer"`
	Spent  int64           `cbor:"2,keyasint" json:"spent"`
	Earned int64           `cbor:"3,keyasint" json:"earned"`
	Limit  int64           `cbor:"4,keyasint" json:"limit"` // of Spent; negative is none
	Forgot int64           `cbor:"5,keyasint" json:"-"`     // specs signed up to then are refused; -1 is none

	Ordered int64 `cbor:"6,keyasint,omitempty" json:"-"` // when the operator gave the order for Limit, ms of its clock
}

// account returns the account of peer, a new one at need.
func (s *State) account(peer workload.PeerID) *Account {
	a := s.accounts[peer]
	if a == nil {
		a = &Account{Peer: peer, Limit: noLimit, Forgot: -1}
		s.accounts[peer] = a
	}
	return a
}

func (s *State) quota(e *entry, c *Quota) *Reject {
	if s.accounts[c.Account] == nil && len(s.accounts) >= MaxAccounts {
		return rejectf(Full, "%d accounts", len(s.accounts))
	}
	if s.rules.OpenQuota != nil {
		if err := s.rules.OpenQuota(s.mesh, s.cell, c); err != nil {
			return rejectf(BadSignature, "%v", err)
		}
	}
	if rej := s.untimely(c, e.at); rej != nil {
		return rej
	}
	a := s.account(c.Account)
	a.Limit, a.Ordered = max(c.Limit, noLimit), c.At
	return nil
}

// untimely rejects an order that is older than the one that stands, and one from the
// future: nothing that is ordered before that time would count any more.
func (s *State) untimely(c *Quota, now int64) *Reject {
	if c.At > now+MaxAhead {
		return rejectf(ClockAhead, "ordered %s ahead of the cell's time; set the clock of the operator's machine right", aheadBy(c.At-now))
	}
	if a := s.accounts[c.Account]; a != nil && c.At < a.Ordered {
		return rejectf(OldOrder, "an order of %d ms later stands", a.Ordered-c.At)
	}
	return nil
}

// Ordered reports whether an order stands already, or why it cannot at now, in ms: a
// leader need not commit what would change nothing.
func (s *State) Ordered(c *Quota, now int64) (stands bool, rej *Reject) {
	a := s.accounts[c.Account]
	stands = a != nil && c.At == a.Ordered && max(c.Limit, noLimit) == a.Limit
	return stands, s.untimely(c, now)
}

// Due returns what an account pays if all agree that is not judged yet.
func (s *State) Due(peer workload.PeerID) int64 { return s.dues[peer] }

// charge moves the price of a Close from the owner to the node, and returns the
// time paid for in ms and the price.
func (s *State) charge(at int64, l *load, sl *slot, wallMs int64, tasks uint32) (paidMs, cost int64) {
	paidMs, cost = s.price(at, l, sl, wallMs, tasks)
	return paidMs, s.pay(l, sl.Node, cost)
}

// price is what charge moves, and counts the time as paid. A node's word for
// wallMs counts up to the spec's timeout for each of tasks, those that it did not
// fail, and up to the time that it has held the slot and was not paid for yet: a
// slot runs one task at a time, so honest ones never add up to more.
func (s *State) price(at int64, l *load, sl *slot, wallMs int64, tasks uint32) (paidMs, cost int64) {
	paidMs = max(0, min(wallMs, saturatedMul(l.Spec.Timeout, int64(tasks)), at-sl.Awarded-sl.Paid))
	sl.Paid += paidMs
	return paidMs, max(0, min(s.rules.Charge(sl.Rate, paidMs), maxCharge))
}

// pay moves cost from who pays for l to a node, and returns what it moved.
func (s *State) pay(l *load, node workload.PeerID, cost int64) int64 {
	owner, earner := s.account(l.payer()), s.account(node)
	cost = min(cost, math.MaxInt64-owner.Spent, math.MaxInt64-earner.Earned)
	owner.Spent += cost
	earner.Earned += cost
	return cost
}

// saturatedMul multiplies numbers that are not negative.
func saturatedMul(a, b int64) int64 {
	if a > 0 && b > math.MaxInt64/a {
		return math.MaxInt64
	}
	return a * b
}
