package cell

import (
	"fmt"
	"slices"

	"github.com/perrin-mesh/perrin/workload"
)

// Plan returns what the leader should do now, in order; nothing when all is as
// it should be, or when it has to wait. now is in ms on the clock of the View.
func Plan(now int64, v View) []Action {
	b := newBoard(now, v)
	var out []Action
	if !v.Pending {
		out = append(out, b.change()...)
	}
	for _, p := range b.which(func(p *peer) bool { return p.server && !p.voter && !p.going && p.fresh && !p.copied }) {
		out = append(out, Action{Verb: Copy, Node: p.ID, Why: "a standby holds what a voter holds"})
	}
	for _, p := range b.which(func(p *peer) bool { return b.evictable(p) }) {
		out = append(out, Action{Verb: Evict, Node: p.ID, Why: b.whyGoing(p)})
	}
	return out
}

// evictable reports whether p can be put out: it has no place in the Raft
// configuration, and nothing runs on it that the ledger waits for.
func (b *board) evictable(p *peer) bool {
	return !p.server && !p.self && p.Settled && b.isMember(p.ID) && (p.Leaving || b.now-p.Seen > b.Limits.EvictAfter)
}

func (b *board) isMember(id workload.PeerID) bool {
	return slices.ContainsFunc(b.Members, func(m Member) bool { return m.ID == id })
}

// change returns the one change of the Raft group that comes next, if any.
func (b *board) change() []Action {
	target := b.Limits.Voters(len(b.which(func(p *peer) bool { return !p.going })))
	voters := b.which(func(p *peer) bool { return p.voter })
	want := b.wantedVoters(target)
	for _, step := range []func() (Action, bool){
		func() (Action, bool) { return b.exchange(voters, want) },
		func() (Action, bool) { return b.trim(target, len(voters)) },
		func() (Action, bool) { return b.recruit(target, len(voters)) },
	} {
		a, ok := step()
		if !ok {
			continue
		}
		if b.Solo && (a.Verb == AddNonvoter || a.Verb == AddVoter) {
			a = Action{Verb: Retime, Why: "a second machine joins the group"}
		}
		a.Prev = b.Index
		return []Action{a}
	}
	return nil
}

// wantedVoters chooses the voters from those that vote or could at once: as
// many as the cell should have, or the next smaller odd number that there are.
// So a growing cell waits until it can go through an even number quickly.
func (b *board) wantedVoters(target int) []*peer {
	pool := b.which(func(p *peer) bool { return !p.going && p.class() != notReady })
	n := min(target, len(pool))
	if n%2 == 0 {
		n--
	}
	return b.choose(n, pool, nil)
}

// exchange moves the voters one step towards the wanted ones: it adds while
// there are not more than wanted, so that a replacement comes before a removal,
// and never grows by two.
func (b *board) exchange(voters, want []*peer) (Action, bool) {
	if len(want) == 0 {
		return Action{}, false
	}
	if len(voters) > len(want) {
		if a, ok := b.drop(voters, want); ok {
			return a, true
		}
	}
	missing := slices.DeleteFunc(slices.Clone(want), func(p *peer) bool { return p.voter })
	if len(missing) == 0 {
		return b.drop(voters, want)
	}
	if sound(append(slices.Clone(voters), missing[0])) {
		return Action{Verb: AddVoter, Node: missing[0].ID, Why: fmt.Sprintf("%d voters, %d wanted", len(voters), len(want))}, true
	}
	return Action{}, false
}

// drop takes the vote of a voter that is not wanted: dead ones first, then
// those that go, then those beyond the number. A leader hands over first.
func (b *board) drop(voters, want []*peer) (Action, bool) {
	unwanted := slices.DeleteFunc(slices.Clone(voters), func(p *peer) bool { return slices.Contains(want, p) })
	slices.SortStableFunc(unwanted, func(p, q *peer) int { return b.compareDrop(p, q) })
	for _, p := range unwanted {
		if p.self {
			return b.handOver(want)
		}
		rest := slices.DeleteFunc(slices.Clone(voters), func(o *peer) bool { return o == p })
		if sound(rest) {
			return b.takeVote(p, len(want)), true
		}
	}
	return Action{}, false
}

func (b *board) compareDrop(p, q *peer) int {
	order := func(p *peer) int { return 4*whole(!p.dead) + 2*whole(!p.going) + whole(p.self) }
	if d := order(p) - order(q); d != 0 {
		return d
	}
	return b.compare(q, p, nil)
}

func (b *board) takeVote(p *peer, want int) Action {
	standbys := len(b.which(func(p *peer) bool { return p.server && !p.voter && !p.going }))
	switch {
	case p.going:
		return Action{Verb: Remove, Node: p.ID, Why: b.whyGoing(p)}
	case p.dead:
		return Action{Verb: Remove, Node: p.ID, Why: fmt.Sprintf("silent for %d ms", b.now-p.Seen)}
	case standbys < b.Limits.Standbys:
		return Action{Verb: Demote, Node: p.ID, Why: fmt.Sprintf("%d voters are enough", want)}
	}
	return Action{Verb: Remove, Node: p.ID, Why: fmt.Sprintf("%d voters and %d standbys are enough", want, standbys)}
}

// handOver moves leadership to the best wanted voter that keeps up.
func (b *board) handOver(want []*peer) (Action, bool) {
	for _, p := range want {
		if p.voter && !p.self && p.fresh && p.caughtUp {
			return Action{Verb: Transfer, Node: p.ID, Why: "the leader is to lose its vote"}, true
		}
	}
	return Action{}, false
}

// trim removes standbys: those that go, dead ones for whom there is somebody
// else, and those beyond the number.
func (b *board) trim(target, voters int) (Action, bool) {
	standbys := b.which(func(p *peer) bool { return p.server && !p.voter })
	for _, p := range standbys {
		if p.going {
			return Action{Verb: Remove, Node: p.ID, Why: b.whyGoing(p)}, true
		}
	}
	room := b.room(target, voters)
	if len(standbys) >= room && len(b.recruits()) > 0 {
		for _, p := range standbys {
			if p.dead {
				return Action{Verb: Remove, Node: p.ID, Why: fmt.Sprintf("silent for %d ms", b.now-p.Seen)}, true
			}
		}
	}
	if len(standbys) > room {
		worst := b.choose(len(standbys), standbys, nil)[len(standbys)-1]
		return Action{Verb: Remove, Node: worst.ID, Why: fmt.Sprintf("%d standbys are enough", room)}, true
	}
	return Action{}, false
}

// room returns how many nonvoters there may be: the standbys, and those on
// their way to a vote.
func (b *board) room(target, voters int) int {
	return b.Limits.Standbys + max(0, target-voters)
}

// recruits returns the members that could become servers.
func (b *board) recruits() []*peer {
	return b.which(func(p *peer) bool {
		return !p.server && !p.going && p.Direct && b.now-p.Seen <= b.Limits.DeadAfter && b.now-p.Up >= b.Limits.Settle
	})
}

// recruit makes the best member that is no server a standby.
func (b *board) recruit(target, voters int) (Action, bool) {
	servers := b.which(func(p *peer) bool { return p.server && !p.going })
	standbys := len(b.which(func(p *peer) bool { return p.server && !p.voter }))
	best := b.choose(1, b.recruits(), servers)
	if len(best) == 0 || standbys >= b.room(target, voters) {
		return Action{}, false
	}
	return Action{Verb: AddNonvoter, Node: best[0].ID, Why: fmt.Sprintf("%d voters wanted, %d servers", target, len(servers))}, true
}

// sound reports whether a majority of the voters was heard of just now.
func sound(voters []*peer) bool {
	fresh := 0
	for _, p := range voters {
		fresh += whole(p.fresh)
	}
	return fresh > len(voters)/2
}

func (b *board) whyGoing(p *peer) string {
	switch {
	case p.Leaving:
		return "it leaves"
	case p.Draining:
		return "it drains"
	case !b.isMember(p.ID):
		return "it is no member"
	}
	return fmt.Sprintf("silent for %d ms", b.now-p.Seen)
}
