package leader

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/scheduler"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/blob"
	"github.com/perrin-mesh/perrin/workload/receipt"
)

// owns checks that from is the node that holds a slot. A worker gives a slot up
// that is not its own, so a leader that may be deposed must not say so.
func (l *Leader) owns(ctx context.Context, from workload.PeerID, ref wire.SlotRef) (slot ledger.Slot, err error) {
	if slot, err = l.holds(from, ref); err != nil {
		err = cmp.Or(l.confirm(ctx), err)
	}
	return slot, err
}

func (l *Leader) holds(from workload.PeerID, ref wire.SlotRef) (slot ledger.Slot, err error) {
	found := false
	l.cfg.Cell.Read(func(s *ledger.State) { slot, found = s.Slot(ref.Workload, ref.Slot) })
	switch {
	case !found:
		return slot, wire.Errorf(wire.NotFound, "slot %d of %s is over", ref.Slot, ref.Workload.Short())
	case slot.Node != from || slot.Fence != ref.Fence:
		return slot, wire.Errorf(wire.Expired, "slot %d of %s is not node %s's any more", ref.Slot, ref.Workload.Short(), from.Short())
	}
	return slot, nil
}

// HandleTake gives a slot its next tasks, or says that there are none.
func (l *Leader) HandleTake(ctx context.Context, from workload.PeerID, m *wire.TakeMsg) (*wire.Taken, error) {
	slot, err := l.owns(ctx, from, m.Ref)
	if err != nil {
		return nil, err
	}
	if m.Seq > 0 && m.Seq == slot.Takes { // its answer was lost
		return &wire.Taken{Ranges: slot.Took, Over: len(slot.Took) == 0}, nil
	}
	var open uint32
	var slots int
	err = l.withOutline(m.Ref.Workload, func(_ *ledger.State, v *ledger.View, live int) {
		if !v.Phase.Ended() {
			open, slots = v.Waiting, live
		}
	})
	if err != nil {
		return nil, err
	}
	if open == 0 {
		return &wire.Taken{Over: true}, nil
	}
	yields, err := ask(ctx, l, func(int64) bool { return l.yields(&slot, m.Ref.Workload, slots) })
	if err != nil || yields {
		return &wire.Taken{Over: true}, err
	}
	l.count(func(s *Stats) { s.Takes++ })
	res, err := l.propose(ctx, &ledger.Command{Take: &ledger.Take{
		Workload: m.Ref.Workload, Slot: m.Ref.Slot, Fence: m.Ref.Fence,
		Count: scheduler.RangeSize(open, slots, m.MicrosPerTask), Seq: m.Seq,
	}})
	if err != nil {
		return nil, err
	}
	return &wire.Taken{Ranges: res.Ranges, Over: len(res.Ranges) == 0}, nil
}

// HandleReturn takes back tasks that were not started.
func (l *Leader) HandleReturn(ctx context.Context, from workload.PeerID, m *wire.ReturnMsg) error {
	if _, err := l.owns(ctx, from, m.Ref); err != nil {
		return err
	}
	_, err := l.propose(ctx, &ledger.Command{Return: &ledger.Return{
		Workload: m.Ref.Workload, Slot: m.Ref.Slot, Fence: m.Ref.Fence, Ranges: m.Ranges,
	}})
	return err
}

// HandleDone ends a slot.
func (l *Leader) HandleDone(ctx context.Context, from workload.PeerID, m *wire.DoneMsg) error {
	slot, err := l.owns(ctx, from, m.Ref)
	if err != nil {
		return err
	}
	if err = l.endSlot(ctx, m.Ref, &slot, m.Preempted); err == nil {
		l.freed(from, m.Ref.Workload, m.Offer)
	}
	l.idle(from)
	return err
}

// freed tells the desk that a slot has ended whose capacity its node sells again
// since an offer; without one that is not known.
func (l *Leader) freed(node workload.PeerID, id workload.ID, offer uint64) {
	if offer == 0 {
		return
	}
	in := scheduler.Freed{Node: node, Seq: offer}
	err := l.withOutline(id, func(_ *ledger.State, v *ledger.View, _ int) { in.Shape = v.Spec.Resources })
	if err == nil { // compacted: the next offer will say
		l.feed(scheduler.Input{Freed: &in})
	}
}

// endSlot ends a slot that nobody runs any more. What it holds still, as after
// an answer that never reached its node, opens again in the next attempt.
func (l *Leader) endSlot(ctx context.Context, ref wire.SlotRef, slot *ledger.Slot, preempted bool) error {
	for part := range slices.Chunk(wireRanges(slot.Open), 4096) {
		_, err := l.propose(ctx, &ledger.Command{Return: &ledger.Return{
			Workload: ref.Workload, Slot: ref.Slot, Fence: ref.Fence, Ranges: part, Lost: true, Preempted: preempted,
		}})
		if err != nil {
			return err
		}
	}
	_, err := l.propose(ctx, &ledger.Command{Release: &ledger.Release{Workload: ref.Workload, Slot: ref.Slot, Fence: ref.Fence}})
	if errors.Is(err, wire.Expired) && len(slot.Open) > 0 {
		return nil // it has ended with its last task
	}
	return err
}

// HandleClose records results: the segment, and up to a bound all that it
// refers to, is on a majority of the voters before the close is committed.
func (l *Leader) HandleClose(ctx context.Context, from workload.PeerID, m *wire.CloseMsg) (*wire.Closed, error) {
	segment, ref, vote, err := openSegment(l.cfg.Memo, from, m)
	if err != nil {
		return nil, err
	}
	if _, err := l.owns(ctx, from, m.Ref); err != nil {
		if closed := l.recorded(from, m.Ref.Workload, ref); closed != nil {
			return closed, nil
		}
		return nil, err
	}
	cmd := closeCommand(m, segment, ref, Total(segment.Blobs()) <= workload.KeepAutoLimit)
	cmd.Vote = vote
	if err := l.keepResults(ctx, from, m, segment, cmd); err != nil {
		return nil, err
	}
	l.count(func(s *Stats) { s.Closes++ })
	if _, err := l.propose(ctx, &ledger.Command{Certs: l.certsOf(from), Close: cmd}); err != nil {
		return nil, err
	}
	_, err = l.holds(from, m.Ref)
	over := errors.Is(err, wire.NotFound)
	if over {
		l.freed(from, m.Ref.Workload, m.Offer)
	}
	return &wire.Closed{Held: cmd.Held, Over: over}, nil
}

// keepResults brings a segment, and up to a bound all that it refers to, to a
// majority of the voters. A small segment rides in the log entry itself.
func (l *Leader) keepResults(ctx context.Context, from workload.PeerID, m *wire.CloseMsg, segment *workload.Segment, cmd *ledger.Close) error {
	hold := &wire.Hold{Workload: m.Ref.Workload, Sources: []workload.PeerID{from}}
	switch {
	case len(m.Segment) <= ledger.SegmentInline:
		cmd.Inline = m.Segment
	case len(m.Segment) <= wire.InlineLimit:
		hold.Blobs, hold.Inline = []workload.Ref{cmd.Segment}, []wire.Inline{{Data: m.Segment}}
	default:
		hold.Blobs = []workload.Ref{cmd.Segment}
	}
	if cmd.Held {
		hold.Blobs = append(hold.Blobs, segment.Blobs()...)
	}
	if len(hold.Blobs) == 0 {
		return nil
	}
	return l.cfg.Store.Replicate(ctx, hold)
}

// recorded answers a report that comes again: its first answer was lost, and the
// slot may be over by now.
func (l *Leader) recorded(from workload.PeerID, id workload.ID, ref workload.Ref) (closed *wire.Closed) {
	l.cfg.Cell.Read(func(s *ledger.State) {
		segments := s.Segments(id)
		for _, seg := range segments[max(0, len(segments)-recentSegments):] {
			if seg.Ref == ref && seg.Node == from {
				closed = &wire.Closed{Held: seg.Held, Over: true}
			}
		}
	})
	return closed
}

// recentSegments is how far back a repeated report is looked for.
const recentSegments = 256

// openSegment checks that the worker signed what it sent. It returns the vote that
// was signed, zero for none.
func openSegment(memo *workload.Memo, from workload.PeerID, m *wire.CloseMsg) (segment *workload.Segment, ref workload.Ref, vote workload.Digest, err error) {
	var statement wire.Statement
	segment = new(workload.Segment)
	if m.Sig.By != from {
		return nil, ref, vote, wire.Errorf(wire.Unauthorized, "results are reported by the node that signed them")
	}
	if err := memo.Verify(workload.DomainResult, m.Sig); err != nil {
		return nil, ref, vote, wire.Errorf(wire.Unauthorized, "%v", err)
	}
	if err := wire.Unmarshal(m.Sig.Payload, &statement); err != nil {
		return nil, ref, vote, err
	}
	if err := wire.Unmarshal(m.Segment, segment); err != nil {
		return nil, ref, vote, err
	}
	ref = blob.RefOf(m.Segment)
	results := receipt.ResultsOf(segment)
	if statement.Ref != m.Ref || statement.Segment != ref || statement.Results != receipt.RootOf(results) ||
		segment.Node != from || segment.Workload != m.Ref.Workload || segment.Slot != m.Ref.Slot {
		return nil, ref, vote, wire.Errorf(wire.Malformed, "the signed statement is about something else")
	}
	if !statement.Vote.IsZero() && (len(results) != 1 || statement.Vote != receipt.VoteOf(&results[0])) {
		return nil, ref, vote, wire.Errorf(wire.Malformed, "the signed vote is not for the result that came with it")
	}
	return segment, ref, statement.Vote, nil
}

// closeCommand sums a segment up for the ledger.
func closeCommand(m *wire.CloseMsg, segment *workload.Segment, ref workload.Ref, held bool) *ledger.Close {
	c := &ledger.Close{
		Workload: m.Ref.Workload, Slot: m.Ref.Slot, Fence: m.Ref.Fence, Segment: ref, Held: held, Sig: m.Sig,
	}
	for i := range segment.Results {
		r := &segment.Results[i]
		c.Usage.WallMs += max(r.Usage.WallMs, 0)
		c.Usage.CPUMs += max(r.Usage.CPUMs, 0)
		c.Usage.PeakMem = max(c.Usage.PeakMem, r.Usage.PeakMem)
		if !r.OK() {
			c.Failed = append(c.Failed, ledger.FailedTask{Index: r.Index, Attempt: r.Attempt, Exit: r.Exit, Code: r.Code})
			continue
		}
		if n := len(c.Done); n > 0 && c.Done[n-1].End() == r.Index && c.Done[n-1].Attempt == r.Attempt {
			c.Done[n-1].Count++
			continue
		}
		c.Done = append(c.Done, workload.Range{From: r.Index, Count: 1, Attempt: r.Attempt})
	}
	return c
}
