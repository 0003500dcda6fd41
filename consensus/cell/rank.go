package cell

import (
	"cmp"
	"slices"

	"github.com/perrin-mesh/perrin/workload"
)

// class is the first thing that counts when voters are chosen.
type class int

const (
	soundVoter  class = iota // votes, is not dead and is reachable
	ready                    // a standby that could vote at once
	hiddenVoter              // votes and is not dead, but cannot be dialled
	deadVoter                // votes and was not heard of for DeadAfter
	notReady                 // anybody else
)

// peer is a member or server with all that is known of it.
type peer struct {
	Member
	server, voter    bool
	caughtUp, copied bool
	fresh, dead      bool
	going            bool // drains, leaves, is silent for EvictAfter, or is no member
	self             bool
}

func (p *peer) class() class {
	switch {
	case p.voter && p.dead:
		return deadVoter
	case p.voter && !p.Direct:
		return hiddenVoter
	case p.voter:
		return soundVoter
	case p.server && p.fresh && p.caughtUp && p.copied && p.Direct:
		return ready
	}
	return notReady
}

// board is a View made ready for questions. Its peers are in the order of their
// keys, so that no answer depends on the order of the View's lists.
type board struct {
	View
	now   int64
	peers []*peer
}

func newBoard(now int64, v View) *board {
	b := &board{View: v, now: now}
	byID := map[workload.PeerID]*peer{}
	at := func(id workload.PeerID) *peer {
		if byID[id] == nil {
			byID[id] = &peer{Member: Member{ID: id}, going: true}
			b.peers = append(b.peers, byID[id])
		}
		return byID[id]
	}
	for _, m := range v.Members {
		p := at(m.ID)
		p.Member, p.going = m, false
	}
	for _, s := range v.Servers {
		p := at(s.ID)
		p.server, p.voter, p.caughtUp, p.copied = true, s.Voter, s.CaughtUp, s.Copied
		p.fresh = s.Contact > 0 && now-s.Contact <= v.Limits.Fresh
		p.Seen = max(p.Seen, s.Contact)
	}
	for _, p := range b.peers {
		p.Seen = max(p.Seen, v.Since)
		b.judge(p)
	}
	slices.SortFunc(b.peers, func(a, c *peer) int { return slices.Compare(a.ID[:], c.ID[:]) })
	return b
}

func (b *board) judge(p *peer) {
	silent := b.now - p.Seen
	if p.self = p.ID == b.Self; p.self {
		silent, p.fresh, p.caughtUp, p.copied = 0, true, true, true
	}
	p.dead = silent > b.Limits.DeadAfter && !p.fresh
	p.going = p.going || p.Draining || p.Leaving || silent > b.Limits.EvictAfter
}

// which returns the peers that keep says yes to.
func (b *board) which(keep func(*peer) bool) []*peer {
	var out []*peer
	for _, p := range b.peers {
		if keep(p) {
			out = append(out, p)
		}
	}
	return out
}

// choose returns n of the candidates, best first: by class, then the leader,
// then whoever shares least with those chosen before, and then by uptime,
// distance and key.
func (b *board) choose(n int, candidates []*peer, chosen []*peer) []*peer {
	rest := slices.Clone(candidates)
	var out []*peer
	for len(out) < n && len(rest) > 0 {
		among := append(slices.Clone(chosen), out...)
		best := slices.MinFunc(rest, func(p, q *peer) int { return b.compare(p, q, among) })
		out = append(out, best)
		rest = slices.DeleteFunc(rest, func(p *peer) bool { return p == best })
	}
	return out
}

func (b *board) compare(p, q *peer, among []*peer) int {
	return cmp.Or(
		cmp.Compare(p.class(), q.class()),
		-cmp.Compare(whole(p.self), whole(q.self)),
		-cmp.Compare(whole(p.Direct), whole(q.Direct)),
		cmp.Compare(p.shared(among), q.shared(among)),
		-cmp.Compare(b.uptime(p), b.uptime(q)),
		cmp.Compare(p.RTT/1000, q.RTT/1000),
		slices.Compare(p.ID[:], q.ID[:]),
	)
}

func whole(b bool) int {
	if b {
		return 1
	}
	return 0
}

// shared counts the operators, networks and zones that p has in common with
// others; an empty one is nobody's.
func (p *peer) shared(others []*peer) int {
	n := 0
	for _, o := range others {
		n += whole(p.Operator == o.Operator && !p.Operator.IsZero()) +
			whole(p.Network == o.Network && p.Network != "") + whole(p.Zone == o.Zone && p.Zone != "")
	}
	return n
}

// uptime returns the number of bits of p's minutes up: a node that is up for
// twice as long is better, one that is up for a little longer is not.
func (b *board) uptime(p *peer) int {
	n := 0
	for minutes := max(0, b.now-p.Up) / 60_000; minutes > 0; minutes /= 2 {
		n++
	}
	return n
}
