package ledger

import (
	"bytes"
	"fmt"
	"math"
	"slices"

	"github.com/perrin-mesh/perrin/workload"
)

// MaxTokens bounds the links of tokens that are remembered: those that ended long
// ago make room first.
const MaxTokens = 16384

// keepToken is how long after its end a link is remembered, in ms: nothing is
// submitted under it any more, whatever a clock says.
const keepToken = 24 * 60 * 60 * 1000

// LoadToken is under which token a workload was submitted, and at whose cost.
type LoadToken struct {
	Payer workload.PeerID      `cbor:"1,keyasint"`
	Links []workload.TokenLink `cbor:"2,keyasint" max:"8"`
}

// TokenUse is what was spent under one link of a token, in micro-credits.
type TokenUse struct {
	ID      workload.Digest `cbor:"1,keyasint"`
	Spent   int64           `cbor:"2,keyasint"`
	Expires int64           `cbor:"3,keyasint"`
}

// tokenUse is a TokenUse with what the workloads hold that have not ended, which
// is derived.
type tokenUse struct {
	TokenUse
	live                int
	cpus, memory, tasks int64
}

// payer is who pays for a workload: its owner, or who made the token that it was
// submitted under.
func (l *load) payer() workload.PeerID {
	if l.Token != nil {
		return l.Token.Payer
	}
	return l.owner()
}

// underToken verifies the token of an Accept, and what it bounds. It is nil
// without one.
func (s *State) underToken(e *entry, c *Accept, spec *workload.Spec) (*LoadToken, *Reject) {
	if len(c.Token) == 0 {
		return nil, nil
	}
	if s.rules.OpenToken == nil {
		return nil, rejectf(BadToken, "this ledger knows no tokens")
	}
	payer, links, err := s.rules.OpenToken(s.mesh, c.Token, c.Home, e.at)
	if err != nil {
		return nil, rejectf(BadToken, "%v", err)
	}
	fresh := 0
	for i := range links {
		if rej := s.withinLink(i, &links[i], spec); rej != nil {
			return nil, rej
		}
		if s.tokens[links[i].ID] == nil {
			fresh++
		}
	}
	if len(s.tokens)+fresh > MaxTokens {
		s.forgetTokens(e.at)
	}
	if len(s.tokens)+fresh > MaxTokens {
		return nil, rejectf(Full, "%d links of tokens are remembered, as many as the cell takes", len(s.tokens))
	}
	if s.accounts[payer] == nil && len(s.accounts)+1 >= MaxAccounts {
		return nil, rejectf(Full, "%d accounts, as many as the cell takes", len(s.accounts))
	}
	if a := s.accounts[payer]; a != nil && s.spentUp(a) {
		return nil, rejectf(OverQuota, "the token's owner has spent %d of %d micro-credits", a.Spent+s.dues[a.Peer], a.Limit)
	}
	return &LoadToken{Payer: payer, Links: links}, nil
}

// withinLink checks what one link bounds of a workload, beside those under it
// that have not ended.
func (s *State) withinLink(i int, link *workload.TokenLink, spec *workload.Spec) *Reject {
	var use tokenUse
	if u := s.tokens[link.ID]; u != nil {
		use = *u
	}
	cpus, memory, tasks := claims(spec)
	b := &link.Limits
	switch {
	case b.MaxPrice > 0 && (spec.MaxPrice == 0 || spec.MaxPrice > b.MaxPrice):
		return rejectf(OverQuota, "max-price: link %d of the token allows %d micro-credits a second for each slot, the workload %s", i+1, b.MaxPrice, priceText(spec.MaxPrice))
	case b.Credits > 0 && use.Spent >= b.Credits:
		return rejectf(OverQuota, "credits: %d of %d micro-credits of link %d of the token are spent", use.Spent, b.Credits, i+1)
	}
	for _, q := range []struct {
		name             string
		used, want, most int64
	}{{"cpus", use.cpus, cpus, b.CPUs}, {"bytes of memory", use.memory, memory, b.Memory}, {"tasks", use.tasks, tasks, b.Tasks}} {
		if q.most > 0 && q.want > q.most-q.used {
			return rejectf(OverQuota, "%s: it asks for %d, others under the token have %d, and link %d allows %d (--max-parallel makes it ask for less at once)", q.name, q.want, q.used, i+1, q.most)
		}
	}
	return nil
}

// claims is what a workload counts for until it ends: that of its slots at once.
func claims(spec *workload.Spec) (cpus, memory, tasks int64) {
	slots := int64(spec.Slots())
	return saturatedMul(slots, int64(spec.Resources.CPUs)), saturatedMul(slots, spec.Resources.Memory), int64(spec.Tasks.Count)
}

// claim counts a workload for or, with -1, no more for the links that it is under.
func (s *State) claim(l *load, sign int64) {
	if l.Token == nil {
		return
	}
	cpus, memory, tasks := claims(l.Spec)
	for i := range l.Token.Links {
		u := s.use(&l.Token.Links[i])
		u.live += int(sign)
		u.cpus, u.memory, u.tasks = added(u.cpus, sign*cpus), added(u.memory, sign*memory), u.tasks+sign*tasks
	}
}

// added adds without overflow.
func added(a, b int64) int64 {
	if b > 0 && a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

func (s *State) use(link *workload.TokenLink) *tokenUse {
	u := s.tokens[link.ID]
	if u == nil {
		u = &tokenUse{TokenUse: TokenUse{ID: link.ID, Expires: link.Expires}}
		s.tokens[link.ID] = u
	}
	return u
}

// spend adds what a workload cost to its token's links, or takes back what it will
// not, and says which of them has
// no credits left, "" when all have.
func (s *State) spend(l *load, cost int64) (over string) {
	if a := s.accounts[l.payer()]; a != nil && s.spentUp(a) {
		over = fmt.Sprintf("the quota of %d micro-credits of who pays is spent", a.Limit)
	}
	if l.Token == nil {
		return over
	}
	for i := range l.Token.Links {
		link := &l.Token.Links[i]
		u := s.use(link)
		if u.Spent = added(u.Spent, cost); link.Limits.Credits > 0 && u.Spent >= link.Limits.Credits {
			over = "its token's credits are spent"
		}
	}
	return over
}

// forgetTokens drops links that ended long ago, and of which nothing runs.
func (s *State) forgetTokens(now int64) {
	for id, u := range s.tokens {
		if u.live == 0 && u.Expires+keepToken < now {
			delete(s.tokens, id)
		}
	}
}

// tokenUses lists what was spent, by link.
func (s *State) tokenUses() []TokenUse {
	out := make([]TokenUse, 0, len(s.tokens))
	for _, u := range s.tokens {
		out = append(out, u.TokenUse)
	}
	slices.SortFunc(out, func(a, b TokenUse) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return out
}

func priceText(price int64) string {
	if price == 0 {
		return "has no bound (--max-price)"
	}
	return fmt.Sprintf("%d", price)
}

// UnderTokens returns the links of the tokens under which workloads run that have not ended.
func (s *State) UnderTokens() map[workload.ID][]workload.TokenLink {
	out := map[workload.ID][]workload.TokenLink{}
	for id, l := range s.loads {
		if l.Token != nil && !l.Phase.Ended() && len(l.Token.Links) > 0 {
			out[id] = l.Token.Links
		}
	}
	return out
}
