package receipt

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/perrin-mesh/perrin/workload"
)

// What a Vote's verdict can be.
const (
	agrees   = "agrees"
	differs  = "differs"
	unjudged = "unjudged"
	alone    = "alone"
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
	var lack error // the first one
	accepted, alike, split, differ := 0, 0, 0, 0
	var others []workload.PeerID // whose results differ
	var draws drawn
	for task := range c.rec.Tasks.Total {
		list := votes[task]
		one, err := c.drawn(task, list, &draws)
		if err != nil {
			return "", fmt.Errorf("task %d: %w", task, err)
		}
		if one {
			continue
		}
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
		others = append(others, differing(list)...)
		one, err = c.apart(same, list)
		if text, ok := err.(unsure); ok {
			lack = cmp.Or(lack, lacking("task %d: %s", task, text))
		} else if err != nil {
			return "", fmt.Errorf("task %d: %w", task, err)
		}
		if one {
			alike++
		}
	}
	if want := c.rec.Tasks.Done + c.rec.Tasks.Failed; uint32(accepted+split+draws.alone) != want {
		return "", fmt.Errorf("%d tasks ended with votes, the statement says %d", accepted+split+draws.alone, want)
	}
	if bare > 0 {
		return "", c.stripped(bare)
	}
	if lack != nil {
		return "", lack
	}
	detail := fmt.Sprintf("%d of %d agree on %s, each signed by a node of another operator", by.Agree, by.Of, workload.Counted(accepted, "task"))
	if alike > 0 {
		detail = fmt.Sprintf("%d of %d agree on %s, each signed by another node; of %d two nodes have one operator, as no other bid", by.Agree, by.Of, workload.Counted(accepted, "task"), alike)
	}
	switch {
	case accepted == 0 && split == 0 && draws.alone > 0:
		detail = ""
	case accepted == 0 && split > 0:
		detail = fmt.Sprintf("on %s no %d of %d agree", workload.Counted(split, "task"), by.Agree, by.Of)
	case split > 0:
		detail += fmt.Sprintf("; on %d too few do", split)
	}
	if differ > 0 {
		detail += fmt.Sprintf("; not paid, as it says something else: %s", workload.Counted(differ, "result"))
		slices.SortFunc(others, func(a, b workload.PeerID) int { return strings.Compare(c.name(a), c.name(b)) })
		detail += " of " + c.names(slices.Compact(others))
	}
	return strings.TrimPrefix(detail+draws.text(), "; "), nil
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
		case v != nil && c.signed[i].Vote != v.Result:
			return nil, 0, fmt.Errorf("segment %d: %s signed another result of task %d", i, c.name(g.Node), v.Task)
		case len(g.Results) == 0:
			bare++
		case len(g.Results) != 1 || c.signed[i].Vote != VoteOf(&g.Results[0]):
			return nil, 0, fmt.Errorf("segment %d: what %s signed is not what its result says", i, c.name(g.Node))
		case v == nil && g.Results[0].Exit != workload.NodeFault && g.Results[0].Exit != workload.StoppedExit:
			return nil, 0, fmt.Errorf("segment %d: a result of %s counts as an attempt that its node failed, and is none", i, c.name(g.Node))
		case v != nil && !v.says(&g.Results[0]):
			return nil, 0, fmt.Errorf("segment %d: the vote is not what the result of %s says", i, c.name(g.Node))
		}
		if v != nil {
			votes[v.Task] = append(votes[v.Task], g)
		}
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

// differing are the nodes whose results of a task were not the accepted one.
func differing(list []*Segment) (nodes []workload.PeerID) {
	for _, g := range list {
		if g.Vote.Verdict == differs {
			nodes = append(nodes, g.Node)
		}
	}
	return nodes
}

// apart reports whether two nodes that agree have one operator. That is an error
// where a node of an operator which had not run the task bid for the later one's slot.
func (c *check) apart(same, list []*Segment) (alike bool, err error) {
	first := map[workload.PeerID]*Segment{}
	for _, g := range slices.SortedFunc(slices.Values(same), func(a, b *Segment) int { return int(a.Slot) - int(b.Slot) }) {
		op, err := c.operator(g.Node, g.At)
		if err != nil {
			return false, err
		}
		before := first[op]
		if first[op] = g; before == nil {
			continue
		}
		alike = true
		other, free, err := c.outsider(g, list)
		switch {
		case err != nil:
			return false, err
		case free:
			return false, fmt.Errorf("%s and %s have one operator, and %s of another bid", c.name(before.Node), c.name(g.Node), c.name(other))
		case !other.IsZero():
			return false, lacking("%s and %s have one operator, and %s of another bid: it may have held the task and returned, failed or lost it", c.name(before.Node), c.name(g.Node), c.name(other))
		}
	}
	return alike, nil
}

// outsider is a bidder for the slot of g whose operator returned no result of the
// task from an earlier slot; zero when there is none. It is free when its operator
// had no earlier slot at all: else it may have held the task for a while.
func (c *check) outsider(g *Segment, list []*Segment) (node workload.PeerID, free bool, err error) {
	award, _, ok := c.awarded(g.Slot)
	if !ok {
		return node, false, lacking("the award of slot %d is not kept: others may have bid", g.Slot)
	}
	ran := map[workload.PeerID]bool{}
	for _, other := range list {
		if other.Slot >= g.Slot {
			continue
		}
		op, err := c.operator(other.Node, other.At)
		if err != nil {
			return node, false, err
		}
		ran[op] = true
	}
	held, all := c.heldBefore(award)
	for _, b := range award.Bids {
		op, err := c.operator(b.By, award.At)
		switch {
		case err != nil:
			return node, false, err
		case ran[op]:
		case all && !held[op]:
			return b.By, true, nil
		default:
			node = b.By
		}
	}
	return node, false, nil
}

// heldBefore returns the operators whose nodes had slots before an award, and
// whether these are all.
func (c *check) heldBefore(award *Award) (held map[workload.PeerID]bool, all bool) {
	held, all = map[workload.PeerID]bool{}, c.rec.Dropped == 0
	for i := range c.rec.Awards {
		a := &c.rec.Awards[i]
		if a.First >= award.First {
			continue
		}
		for _, sl := range a.Slots[:min(len(a.Slots), int(a.Granted))] {
			op, err := c.operator(sl.Node, a.At)
			held[op] = true
			all = all && err == nil
		}
	}
	return held, all
}

// operator is who operates a node by its certificates that held at a time in ms. One
// that two operators certified for that time may count as either's.
func (c *check) operator(node workload.PeerID, at int64) (op workload.PeerID, err error) {
	for _, cert := range c.certs[node] {
		switch {
		case at < cert.From-certSlack || at > cert.To+certSlack:
		case op.IsZero():
			op = cert.Admitter
		case op != cert.Admitter:
			return op, lacking("two operators had admitted %s when it took part: nothing says whose it counted as", c.name(node))
		}
	}
	if op.IsZero() {
		return op, lacking("no certificate says who operated %s when it took part", c.name(node))
	}
	return op, nil
}
