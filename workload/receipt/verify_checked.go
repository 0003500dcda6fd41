package receipt

import (
	"fmt"
	"slices"

	"github.com/perrin-mesh/perrin/workload"
)

// What a Vote's verdict can be.
const (
	agrees   = "agrees"
	differs  = "differs"
	unjudged = "unjudged"
)

// checked: of each task that was accepted as many nodes as the owner wanted signed
// the same result, each another node's, and each of another operator's, unless
// nobody else bid.
func (c *check) checked() (string, error) {
	if c.badSig != nil {
		return "", c.badSig
	}
	by := c.spec.VerifyBy
	votes, bare, err := c.votes()
	if err != nil {
		return "", err
	}
	accepted, alike, split, differ := 0, 0, 0, 0
	for task := range c.rec.Tasks.Total {
		list := votes[task]
		same, err := c.judged(task, list)
		if err != nil {
			return "", fmt.Errorf("task %d: %w", task, err)
		}
		if len(same) == 0 {
			if c.closer(list) != nil {
				split++
			}
			continue
		}
		accepted++
		differ += len(list) - len(same)
		one, err := c.apart(same, list)
		if err != nil {
			return "", fmt.Errorf("task %d: %w", task, err)
		}
		if one {
			alike++
		}
	}
	if want := c.rec.Tasks.Done + c.rec.Tasks.Failed; uint32(accepted+split) != want {
		return "", fmt.Errorf("%d tasks ended with votes, the record says %d", accepted+split, want)
	}
	if bare > 0 {
		return "", c.stripped(bare)
	}
	detail := fmt.Sprintf("%d of %d agree on %s, each signed by a node of another operator", by.Agree, by.Of, workload.Counted(accepted, "task"))
	if alike > 0 {
		detail = fmt.Sprintf("%d of %d agree on %s, each signed by another node; of %d two nodes have one operator, as no other bid", by.Agree, by.Of, workload.Counted(accepted, "task"), alike)
	}
	if split > 0 {
		detail += fmt.Sprintf("; on %d too few do", split)
	}
	if differ > 0 {
		detail += fmt.Sprintf("; not paid, as it says something else: %s", workload.Counted(differ, "result"))
	}
	return detail, nil
}

// votes lists the segments by task, and how many have no result to hold them against.
func (c *check) votes() (votes map[uint32][]*Segment, bare int, err error) {
	votes = map[uint32][]*Segment{}
	for i := range c.file.Segments {
		g := &c.file.Segments[i]
		v := g.Vote
		switch {
		case v == nil && len(g.Done)+len(g.Failed) > 0:
			return nil, 0, fmt.Errorf("segment %d closes tasks without a vote", i)
		case v == nil:
			continue // an attempt that its node failed
		case c.signed[i].Vote != v.Result:
			return nil, 0, fmt.Errorf("segment %d: %s signed another result of task %d", i, c.name(g.Node), v.Task)
		case len(g.Results) == 0:
			bare++
		case len(g.Results) != 1 || !v.says(&g.Results[0]):
			return nil, 0, fmt.Errorf("segment %d: the vote is not what the result of %s says", i, c.name(g.Node))
		}
		votes[v.Task] = append(votes[v.Task], g)
	}
	return votes, bare, nil
}

// says reports whether a vote is for a result.
func (v *Vote) says(r *Result) bool {
	return r.Task == v.Task && r.Attempt == v.Attempt && r.Exit == v.Exit && r.Code == v.Code && VoteOf(r) == v.Result
}

// closer is the segment that closed the task of a list of votes, nil while none did.
func (c *check) closer(list []*Segment) *Segment {
	i := slices.IndexFunc(list, func(g *Segment) bool { return len(g.Done)+len(g.Failed) > 0 })
	if i < 0 {
		return nil
	}
	return list[i]
}

// judged returns the votes for the result that was accepted, none where none was.
func (c *check) judged(task uint32, list []*Segment) (same []*Segment, err error) {
	nodes := map[workload.PeerID]bool{}
	counts := map[workload.Digest]int{}
	for _, g := range list {
		if nodes[g.Node] {
			return nil, fmt.Errorf("%s ran it twice", c.name(g.Node))
		}
		nodes[g.Node] = true
		counts[g.Vote.Result]++
	}
	end, agree := c.closer(list), int(c.spec.VerifyBy.Agree)
	if end == nil || len(end.Failed) > 0 && end.Failed[0].Exit == workload.NoAgreement {
		for _, g := range list {
			if g.Vote.Verdict != unjudged || end != nil && counts[g.Vote.Result] >= agree {
				return nil, fmt.Errorf("the result of %s is %q, and %d agree with it", c.name(g.Node), g.Vote.Verdict, counts[g.Vote.Result])
			}
		}
		return nil, nil
	}
	v := end.Vote
	if ok := v.Exit == workload.Exited && v.Code == 0; !ok && !slices.Equal(end.Failed, []Failed{{task, v.Attempt, v.Exit, v.Code}}) ||
		ok && !slices.Equal(end.Done, []workload.Range{{From: task, Count: 1, Attempt: v.Attempt}}) {
		return nil, fmt.Errorf("it was closed otherwise than as %s returned it", c.name(end.Node))
	}
	if counts[v.Result] < agree {
		return nil, fmt.Errorf("%d of the %d nodes that must agree do", counts[v.Result], agree)
	}
	for _, g := range list {
		want := differs
		if g.Vote.Result == v.Result {
			want = agrees
			same = append(same, g)
		}
		if g.Vote.Verdict != want {
			return nil, fmt.Errorf("the result of %s is %q, and %s", c.name(g.Node), g.Vote.Verdict, want)
		}
	}
	return same, nil
}

// apart reports whether two nodes that agree have one operator. That is an error
// where a node of an operator which had not run the task bid for the later one's slot.
func (c *check) apart(same, list []*Segment) (alike bool, err error) {
	first := map[workload.PeerID]*Segment{}
	for _, g := range slices.SortedFunc(slices.Values(same), func(a, b *Segment) int { return int(a.Slot) - int(b.Slot) }) {
		op, ok := c.operator(g.Node)
		if !ok {
			return false, lacking("no certificate says who operates %s", c.name(g.Node))
		}
		before := first[op]
		if first[op] = g; before == nil {
			continue
		}
		alike = true
		if other := c.outsider(g, list); !other.IsZero() && c.rec.Lost > 0 {
			return false, lacking("%s and %s have one operator, and %s of another bid: it may have run the task and been lost", c.name(before.Node), c.name(g.Node), c.name(other))
		} else if !other.IsZero() {
			return false, fmt.Errorf("%s and %s have one operator, and %s of another bid", c.name(before.Node), c.name(g.Node), c.name(other))
		}
	}
	return alike, nil
}

// outsider is a bidder for the slot of g whose operator ran none of the task in an
// earlier slot; zero when there is none.
func (c *check) outsider(g *Segment, list []*Segment) (node workload.PeerID) {
	award, _, ok := c.awarded(g.Slot)
	if !ok {
		return node
	}
	ran := map[workload.PeerID]bool{}
	for _, other := range list {
		if op, ok := c.operator(other.Node); ok && other.Slot < g.Slot {
			ran[op] = true
		}
	}
	for _, b := range award.Bids {
		if op, ok := c.operator(b.By); ok && !ran[op] {
			return b.By
		}
	}
	return node
}

// operator is who operates a node by its certificates.
func (c *check) operator(node workload.PeerID) (workload.PeerID, bool) {
	list := c.certs[node]
	if len(list) == 0 {
		return workload.PeerID{}, false
	}
	return list[0].Operator, true
}
