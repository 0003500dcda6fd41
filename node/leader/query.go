package leader

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/scheduler"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/rights"
)

// The queries that a leader answers, and what each answer is the JSON of.
const (
	QueryInspect  = "inspect"  // ID -> api.Workload
	QueryWait     = "wait"     // ID, Since, TimeoutMs -> api.Workload
	QueryList     = "list"     // All, Labels -> []api.Workload
	QueryResolve  = "resolve"  // Text -> workload.ID
	QueryWhy      = "why"      // ID, Task -> api.Why
	QueryPlaces   = "places"   // ID, From, Count -> []Place
	QuerySegments = "segments" // ID, Task, Count, From -> []ledger.Segment, at most SegmentPage
	QueryReceipt  = "receipt"  // ID -> ReceiptParts
	QueryParts    = "parts"    // ID, From -> []receipt.Segment, at most SegmentPage
	QueryOffers   = "offers"   // -> []workload.Offer
	QueryHolder   = "holder"   // ID, From (a slot) -> Holder
	QueryStats    = "stats"    // -> ledger.Stats
)

// maxListed bounds a list.
const maxListed = 1000

// SegmentPage is how many segments one answer holds.
const SegmentPage = 256

func answerOf(op string, v any) (*wire.QueryAnswer, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("query %s: %w", op, err)
	}
	return &wire.QueryAnswer{JSON: b}, nil
}

func (l *Leader) query(ctx context.Context, a asker, m *wire.QueryMsg) (any, error) {
	switch m.Op {
	case QueryOffers: // hints
		return l.Offers(ctx)
	case QueryWait:
		return l.awaited(ctx, a, m)
	}
	if err := l.confirm(ctx); err != nil {
		return nil, err
	}
	switch m.Op {
	case QueryInspect:
		return l.inspect(a, m.ID)
	case QueryList:
		return l.list(a, m)
	case QueryResolve:
		return l.resolve(a, m.Text)
	case QueryWhy:
		return l.why(ctx, a, m.ID, m.Task)
	case QueryPlaces:
		return l.places(a, m)
	case QuerySegments:
		return l.segments(a, m)
	case QueryReceipt:
		return l.receiptParts(a, m.ID)
	case QueryParts:
		return l.receiptSegments(a, m)
	case QueryHolder:
		return l.holder(m)
	case QueryAccounts:
		return l.accounts(a)
	case QueryNames:
		return l.names(), nil
	case QueryStats:
		var stats ledger.Stats
		l.cfg.Cell.Read(func(s *ledger.State) { stats = s.Stats() })
		return stats, nil
	}
	return nil, wire.Errorf(wire.NotFound, "query %.32q is not known", m.Op)
}

// awaited answers when a workload has changed, or ended. That one has ended, and
// holds no slot, is true for ever and whoever leads: nobody need confirm it.
func (l *Leader) awaited(ctx context.Context, a asker, m *wire.QueryMsg) (*api.Workload, error) {
	if _, known := l.phase(m.ID); known {
		if err := l.may(a, rights.Observe, m.ID); err != nil {
			return nil, err
		}
		l.await(ctx, m.ID, m.Since, time.Duration(m.TimeoutMs)*time.Millisecond)
		if w, err := l.inspect(a, m.ID); err == nil && w.Phase.Ended() && len(w.Slots) == 0 {
			return w, nil
		}
	}
	if err := l.confirm(ctx); err != nil {
		return nil, err
	}
	return l.inspect(a, m.ID)
}

func (l *Leader) phase(id workload.ID) (phase workload.Phase, known bool) {
	l.cfg.Cell.Read(func(s *ledger.State) { phase, known = s.Phase(id) })
	return phase, known
}

func (l *Leader) inspect(a asker, id workload.ID) (w *api.Workload, err error) {
	err = l.withReadable(a, id, func(s *ledger.State, v *ledger.View) { w = l.view(s, v) })
	return w, err
}

// view is a workload as the API shows it.
func (l *Leader) view(s *ledger.State, v *ledger.View) *api.Workload {
	w := &api.Workload{
		ID: v.ID, Name: v.Spec.Name, Labels: v.Spec.Labels, Owner: v.Owner, Phase: v.Phase, Reason: v.Reason,
		Program: v.Spec.Program, Cost: v.Cost, Retries: v.Retries, Lost: v.Lost, Held: v.Held, Home: v.Home,
		Created: time.UnixMilli(v.Accepted), Version: l.version(v.ID), Spec: v.Spec,
		Tasks: api.Counts{Total: v.Tasks.Total, Open: v.Tasks.Open, Taken: v.Tasks.Taken, Done: v.Tasks.Done, Failed: v.Tasks.Failed},
	}
	if v.Ended > 0 {
		w.Ended = time.UnixMilli(v.Ended)
	}
	for _, slot := range v.Slots {
		w.Slots = append(w.Slots, api.Slot{ID: slot.ID, Node: slot.Node, Name: l.people(s).name(slot.Node), Rate: slot.Rate, Ranges: ranges(slot.Open)})
	}
	for _, t := range v.Nodes {
		w.Placed = append(w.Placed, api.Placed{Node: t.Node, Name: l.people(s).name(t.Node), Slots: t.Slots, Tasks: t.Done, Rate: t.High, Cost: t.Cost})
	}
	w.Checked = l.checked(s, v)
	if v.Tasks.Total == 1 && v.Phase.Ended() {
		w.ExitCode, w.ExitDetail = exitCode(s.Segments(v.ID), v.Phase)
	}
	return w
}

func ranges(runs []ledger.Run) []workload.Range {
	out := make([]workload.Range, 0, min(len(runs), 64))
	for _, r := range runs[:min(len(runs), 64)] {
		out = append(out, workload.Range{From: r.From, Count: r.Count, Attempt: max(r.Attempt, 1)})
	}
	return out
}

// people names nodes: members by the ledger, others by their certificates.
type people struct {
	*ledger.State
	outside func(workload.PeerID) string
}

func (l *Leader) people(s *ledger.State) people { return people{s, l.cfg.Caller.Name} }

// name is a node's name, or the end of its identity for one that is not known here.
func (p people) name(peer workload.PeerID) string { return cmp.Or(p.called(peer), peer.Short()) }

// called is the name of a node that is known, or "".
func (p people) called(peer workload.PeerID) string {
	if m, ok := p.Member(peer); ok && m.Name != "" {
		return m.Name
	}
	return p.outside(peer)
}

// exitCode is what the only task of an ended workload exited with.
func exitCode(segments []ledger.Segment, phase workload.Phase) (*int, string) {
	code := 0
	switch phase {
	case workload.Stopped:
		code = (&workload.TaskResult{Exit: workload.StoppedExit}).ExitCode()
	case workload.Failed:
		code = 125
	}
	for _, seg := range segments {
		for _, f := range seg.Failed {
			r := workload.TaskResult{Exit: f.Exit, Code: f.Code}
			code = r.ExitCode()
			return &code, string(f.Exit)
		}
	}
	return &code, ""
}

func (l *Leader) list(a asker, m *wire.QueryMsg) ([]api.Workload, error) {
	listed, err := a.lists()
	if err != nil {
		return nil, err
	}
	out := []api.Workload{}
	l.cfg.Cell.Read(func(s *ledger.State) {
		for v := range s.List(ledger.Filter{Labels: m.Labels, Live: !m.All}) {
			if !listed(&v) {
				continue
			}
			w := l.view(s, &v)
			w.Spec, w.Slots = nil, nil
			if len(out) == maxListed {
				out = out[1:]
			}
			out = append(out, *w)
		}
	})
	return out, nil
}

// resolve finds one of the asker's workloads by the beginning of its ID or by its
// name. A name that one alone has says enough.
func (l *Leader) resolve(a asker, text string) (workload.ID, error) {
	if id, err := workload.ParseID(text); err == nil {
		return id, l.withReadable(a, id, func(*ledger.State, *ledger.View) {})
	}
	listed, err := a.lists()
	if err != nil {
		return workload.ID{}, err
	}
	var found, named []workload.ID
	l.cfg.Cell.Read(func(s *ledger.State) {
		for v := range s.List(ledger.Filter{}) {
			if !listed(&v) {
				continue
			}
			if v.Spec.Name == text {
				named = append(named, v.ID)
			}
			if strings.HasPrefix(v.ID.String(), text) || v.Spec.Name == text {
				found = append(found, v.ID)
			}
		}
	})
	if len(named) == 1 {
		return named[0], nil
	}
	switch len(found) {
	case 0:
		return workload.ID{}, wire.Errorf(wire.NotFound, "no workload of yours whose ID begins with, or whose name is, %q", text)
	case 1:
		return found[0], nil
	}
	return workload.ID{}, wire.Errorf(wire.Exists, "%d workloads match %q: give more of the ID", len(found), text)
}

// Holder is who holds a slot.
type Holder struct {
	Node  workload.PeerID `json:"node"`
	Fence workload.Fence  `json:"fence"`
}

func (l *Leader) holder(m *wire.QueryMsg) (h Holder, err error) {
	found := false
	l.cfg.Cell.Read(func(s *ledger.State) {
		var slot ledger.Slot
		slot, found = s.Slot(m.ID, workload.SlotID(m.From))
		h = Holder{Node: slot.Node, Fence: slot.Fence}
	})
	if !found {
		return h, wire.Errorf(wire.NotFound, "workload %s has no slot %d now", m.ID.Short(), m.From)
	}
	return h, nil
}

// Place is where one task is.
type Place struct {
	Index uint32          `json:"index"`
	Phase workload.Phase  `json:"phase"`
	Node  workload.PeerID `json:"node"`
	Name  string          `json:"name"`
}

func (l *Leader) places(a asker, m *wire.QueryMsg) (out []Place, err error) {
	err = l.withReadable(a, m.ID, func(s *ledger.State, _ *ledger.View) {
		for _, t := range s.Tasks(m.ID, m.From, min(m.Count, maxListed)) {
			p := Place{Index: t.Index, Phase: phaseOf(t.State), Node: t.Node}
			if !t.Node.IsZero() {
				p.Name = l.people(s).name(t.Node)
			}
			out = append(out, p)
		}
	})
	return out, err
}

// segments answers QuerySegments: where the results of a workload lie or, with
// Task, those of Count tasks from that one on. From is how many the asker has had.
func (l *Leader) segments(a asker, m *wire.QueryMsg) (out []ledger.Segment, err error) {
	err = l.withReadable(a, m.ID, func(s *ledger.State, v *ledger.View) {
		first, count := uint32(0), v.Tasks.Total
		if m.Task != nil {
			first, count = *m.Task, m.Count
		}
		out = s.ResultsOf(m.ID, first, count, int(m.From), SegmentPage)
	})
	return out, err
}

// phaseOf says where a task stands in the words of a workload.
func phaseOf(state ledger.TaskState) workload.Phase {
	switch state {
	case ledger.TaskTaken:
		return workload.Running
	case ledger.TaskDone:
		return workload.Succeeded
	case ledger.TaskFailed:
		return workload.Failed
	}
	return workload.Pending
}

// why explains a workload, with the last auction of one that still wants slots.
func (l *Leader) why(ctx context.Context, a asker, id workload.ID, task *uint32) (*api.Why, error) {
	var out *api.Why
	round, err := ask(ctx, l, func(int64) *scheduler.Round { return l.desk.Last(id) })
	if err != nil {
		return nil, err
	}
	err = l.withReadable(a, id, func(s *ledger.State, v *ledger.View) {
		w, ok := s.Why(id)
		if task != nil {
			w, ok = s.WhyTask(id, *task)
		}
		if ok {
			out = explain(l.people(s), v, &w, task)
		}
		if ok && round != nil && v.Wanted > 0 && !v.Phase.Ended() {
			out.Pending = l.pendingRound(s, round)
			out.Summary = summary(v, out)
		}
		if full := s.Grown(); ok && full != "" && !v.Phase.Ended() {
			out.Summary = string(v.Phase) + ": " + full
		}
	})
	if err == nil && out == nil {
		err = wire.Errorf(wire.NotFound, "no task %d in %s", *task, id.Short())
	}
	return out, err
}

func explain(s people, v *ledger.View, w *ledger.Why, task *uint32) *api.Why {
	out := &api.Why{ID: w.ID, Phase: w.Phase, Task: task, Guarantee: v.Spec.Guarantee()}
	if w.Task != nil {
		out.Phase = phaseOf(w.Task.State)
	}
	out.Votes = votes(s, w.Task)
	for _, step := range w.Steps {
		out.Steps = append(out.Steps, explainStep(s, w, &step))
	}
	out.Gone = notKept(w.Gone)
	out.Summary = summary(v, out)
	return out
}

// notKept is nil when all is kept.
func notKept(g ledger.Gone) *api.WhyGone {
	if g == (ledger.Gone{}) {
		return nil
	}
	out := &api.WhyGone{Retries: g.Retries, Results: g.Results}
	if g.Steps {
		out.Kept = ledger.KeptSteps
	}
	return out
}

func explainStep(s people, w *ledger.Why, step *ledger.Step) api.WhyStep {
	out := api.WhyStep{At: time.UnixMilli(step.At), What: string(step.Kind), Slot: step.Slot, Node: step.Node, Reasons: step.Reasons, Detail: detail(step)}
	if !step.Node.IsZero() {
		out.Name = s.name(step.Node)
	}
	i := slices.IndexFunc(w.Auctions, func(a ledger.AuctionView) bool { return a.Index == step.Index })
	if i >= 0 {
		out.Auction = explainAuction(s, &w.Auctions[i])
	}
	return out
}

func detail(step *ledger.Step) string {
	var parts []string
	switch {
	case step.Kind == ledger.StepAwarded && step.Count > 1:
		parts = append(parts, fmt.Sprintf("the first of %d slots", step.Count))
	case step.Kind != ledger.StepAwarded && step.Count > 0:
		parts = append(parts, workload.Counted(step.Count, "task"))
	}
	if step.Exit != "" && step.Exit != workload.NoAgreement { // of which the note tells
		end := string(step.Exit)
		if step.Exit == workload.Exited || step.Exit == workload.Signaled { // the others have no number
			end = fmt.Sprintf("%s %d", end, step.Code)
		}
		parts = append(parts, end)
	}
	if step.Note != "" {
		parts = append(parts, step.Note)
	}
	return strings.Join(parts, ", ")
}

func explainAuction(s people, a *ledger.AuctionView) *api.WhyAuction {
	out := &api.WhyAuction{At: time.UnixMilli(a.At), Wanted: a.Wanted, MaxPrice: a.MaxPrice, Declines: declines(s, a.Declines)}
	for _, b := range a.Bids {
		bid := api.WhyBid{Node: b.Node, Name: s.name(b.Node), Slots: len(b.Asks), Won: int(b.Won), RiskPPM: b.Score.RiskPPM}
		if len(b.Asks) > 0 {
			bid.Ask = b.Asks[0]
			bid.Score = scheduler.BidCost(&workload.Bid{Speed: b.Speed}, b.Asks[0], b.Score)
		}
		for _, w := range a.Winners {
			if w.Node == b.Node {
				bid.Rate = w.Rate
				break
			}
		}
		if bid.Won == 0 {
			bid.Reason = lostBecause(a)
		}
		if _, home := s.Member(b.Node); !home {
			out.Sibling = true
		}
		out.Bids = append(out.Bids, bid)
	}
	return out
}

// lostBecause says why a bid won nothing. Where tasks were taken between the
// call and the award, fewer slots were given than were cleared.
func lostBecause(a *ledger.AuctionView) string {
	if a.Short > 0 {
		return "not needed: other slots had taken the tasks meanwhile"
	}
	return string(workload.Outbid)
}

func declines(s people, notes []workload.DeclineNote) []api.WhyDecline {
	var out []api.WhyDecline
	for _, d := range notes {
		out = append(out, api.WhyDecline{Node: d.Node, Name: s.name(d.Node), Reasons: d.Reasons})
	}
	return out
}

func (l *Leader) pendingRound(s *ledger.State, r *scheduler.Round) *api.WhyAuction {
	out := &api.WhyAuction{
		At: l.start.Add(time.Duration(r.At) * time.Millisecond), Wanted: r.Wanted, MaxPrice: r.MaxPrice,
		Declines: declines(l.people(s), r.Declines), Sibling: r.Siblings, DHT: r.DHT,
	}
	for i, b := range r.Bids {
		bid := api.WhyBid{Node: b.Node, Name: l.people(s).name(b.Node), Slots: len(b.Asks)}
		if len(b.Asks) > 0 {
			bid.Ask, bid.Score = b.Asks[0], scheduler.BidCost(&r.Bids[i], b.Asks[0], r.Scores[i])
		}
		out.Bids = append(out.Bids, bid)
	}
	return out
}

// summary is one sentence about where a workload stands.
func summary(v *ledger.View, w *api.Why) string {
	t := v.Tasks
	switch {
	case v.Phase == workload.Waiting:
		return fmt.Sprintf("it waits for %s to succeed", workload.Counted(len(v.Waits), "other workload"))
	case v.Phase.Ended():
		return strings.TrimSuffix(fmt.Sprintf("%s: %d of %s succeeded, %d failed; %s", v.Phase, t.Done, workload.Counted(t.Total, "task"), t.Failed, v.Reason), "; ")
	case len(v.Slots) == 0 && w.Pending != nil:
		return fmt.Sprintf("pending: it wants %s and no node gives one: %s", workload.Counted(v.Wanted, "slot"), tally(w.Pending))
	case len(v.Slots) == 0:
		return "pending: its auction is open"
	}
	return fmt.Sprintf("running in %s: %d of %s done", workload.Counted(len(v.Slots), "slot"), t.Done, workload.Counted(t.Total, "task"))
}

// tally counts the reasons of a round: "3 no-cores, 1 price-above-max".
func tally(a *api.WhyAuction) string {
	counts := map[workload.Code]int{}
	for _, d := range a.Declines {
		for _, r := range d.Reasons {
			counts[r.Code]++
		}
	}
	if len(counts) == 0 {
		return "no node is known"
	}
	var parts []string
	for code, n := range counts {
		parts = append(parts, fmt.Sprintf("%d %s", n, code))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}
