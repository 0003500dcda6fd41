package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/scheduler/capacity"
	"github.com/perrin-mesh/perrin/workload"
)

// HandleAward starts the slots that the leader has committed to this node, or
// refuses them with a reason. Telling it twice is harmless.
func (w *Worker) HandleAward(_ context.Context, from workload.PeerID, m *wire.SignedAward) (*wire.AwardAnswer, error) {
	award, spec, err := w.openAward(from, m)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.expireHolds()
	fresh := w.unknown(award)
	if len(fresh) == 0 {
		return &wire.AwardAnswer{}, nil
	}
	if reason := w.claim(from, award, spec, m.Spec.By, fresh); reason != nil {
		w.stats.Refusals += uint64(len(fresh))
		w.poke()
		return refusal(fresh, *reason), nil
	}
	w.stats.Awards += uint64(len(fresh))
	for _, a := range fresh {
		w.startSlot(award, spec, m.Spec, a)
	}
	w.poke()
	return &wire.AwardAnswer{}, nil
}

func refusal(slots []wire.Awarded, reason workload.Reason) *wire.AwardAnswer {
	answer := &wire.AwardAnswer{Reasons: []workload.Reason{reason}}
	for _, s := range slots {
		answer.Refused = append(answer.Refused, s.Slot)
	}
	return answer
}

// openAward checks who says so and what is signed.
func (w *Worker) openAward(from workload.PeerID, m *wire.SignedAward) (*wire.AwardMsg, *workload.Spec, error) {
	var award wire.AwardMsg
	var spec workload.Spec
	if m.Award.By != from {
		return nil, nil, wire.Errorf(wire.Unauthorized, "an award is told by the leader that signed it")
	}
	if err := errors.Join(w.cfg.Memo.Verify(workload.DomainAward, m.Award), w.cfg.Memo.Verify(workload.DomainSpec, m.Spec)); err != nil {
		return nil, nil, wire.Errorf(wire.Unauthorized, "%v", err)
	}
	if err := errors.Join(wire.Unmarshal(m.Award.Payload, &award), wire.Unmarshal(m.Spec.Payload, &spec)); err != nil {
		return nil, nil, err
	}
	if err := spec.Validate(); err != nil {
		return nil, nil, wire.Errorf(wire.Malformed, "spec: %v", err)
	}
	if err := fits(&award, &spec); err != nil {
		return nil, nil, wire.Errorf(wire.Malformed, "award: %v", err)
	}
	if !w.cfg.Leaders.MayLead(award.Cell, from) {
		return nil, nil, wire.Errorf(wire.Unauthorized, "peer %s is not known to lead cell %s", from.Short(), award.Cell)
	}
	if spec.Countersign {
		if err := w.countersigned(&award, m.Countersigned); err != nil {
			return nil, nil, wire.Errorf(wire.Refused, "%v", err)
		}
	}
	return &award, &spec, nil
}

// fits returns an error unless an award is about the tasks of its spec and the
// workloads that this one comes after, whose names become folders here. Whoever
// founds a cell leads one, so what a leader signs is a stranger's word.
func fits(award *wire.AwardMsg, spec *workload.Spec) error {
	for _, a := range award.Slots {
		if !within(a.Ranges, spec.Tasks.Count) {
			return fmt.Errorf("slot %d: tasks that the spec has not", a.Slot)
		}
	}
	for _, out := range award.After {
		if !slices.ContainsFunc(spec.After, func(a workload.After) bool { return a.Name == out.Name }) {
			return fmt.Errorf("outputs of %.80q, which the spec does not come after", out.Name)
		}
	}
	return nil
}

// within reports whether ranges hold tasks of a workload of so many, none of
// them empty.
func within(ranges []workload.Range, tasks uint32) bool {
	return !slices.ContainsFunc(ranges, func(r workload.Range) bool {
		return r.Count == 0 || r.Attempt == 0 || r.From >= tasks || r.Count > tasks-r.From
	})
}

// unknown returns the slots that do not run here, and have not just ended.
func (w *Worker) unknown(award *wire.AwardMsg) []wire.Awarded {
	var fresh []wire.Awarded
	for _, a := range award.Slots {
		key := slotKey{Workload: award.Workload, Slot: a.Slot}
		if w.slots[key] == nil && w.ending[key] == nil {
			fresh = append(fresh, a)
		}
	}
	return fresh
}

// claim turns the hold of the bid into grants. The first lease counts from when
// the bid was sent, so an award that comes after
// it, or from a term that is over, is refused.
func (w *Worker) claim(from workload.PeerID, award *wire.AwardMsg, spec *workload.Spec, owner workload.PeerID, fresh []wire.Awarded) *workload.Reason {
	if w.ctx.Err() != nil {
		return &workload.Reason{Code: workload.Draining}
	}
	if award.Term < w.terms[award.Cell] {
		return &workload.Reason{Code: workload.Refused, Note: "the award is of an earlier term"}
	}
	if len(w.terms) < maxCells || w.terms[award.Cell] > 0 {
		w.terms[award.Cell] = award.Term
	}
	bid := w.bids[award.Auction]
	if bid == nil || bid.call.Leader != from || bid.call.Workload != award.Workload {
		return &workload.Reason{Code: workload.HoldGone}
	}
	if c := &bid.call; spec.Resources != c.Shape || owner != c.Owner || spec.Program.Kind != c.Kind || spec.Program.Host != c.Host {
		return &workload.Reason{Code: workload.Refused, Note: "the award is for other work than the call was"}
	}
	if w.cells[award.Cell] == nil && len(w.cells) >= maxCells {
		return &workload.Reason{Code: workload.Busy, Note: "it has had leases of too many cells"}
	}
	if _, err := w.cell(award.Cell).lease.Award(w.now(), bid.sent, award.GrantMs, fresh[0].Fence.Epoch); err != nil {
		return &workload.Reason{Code: workload.LeaseTooLate, Note: err.Error()}
	}
	keys := make([]slotKey, len(fresh))
	for i, a := range fresh {
		keys[i] = slotKey{Workload: award.Workload, Slot: a.Slot}
	}
	delete(w.bids, award.Auction)
	if err := w.cfg.Alloc.Commit(capacity.HoldID(award.Auction), keys...); err != nil {
		w.cfg.Alloc.Release(capacity.HoldID(award.Auction))
		return &workload.Reason{Code: workload.HoldGone, Note: err.Error()}
	}
	return nil
}

func (w *Worker) startSlot(award *wire.AwardMsg, spec *workload.Spec, signed workload.Signed, a wire.Awarded) {
	key := slotKey{Workload: award.Workload, Slot: a.Slot}
	ctx, cancel := context.WithCancel(w.ctx)
	bringing, stopBringing := context.WithCancel(ctx)
	s := &slot{
		w: w, key: key, cell: award.Cell, spec: spec, owner: signed.By, payer: award.Payer, rate: a.Rate, after: award.After, holders: award.Holders, home: award.Home,
		lease: w.cell(award.Cell).lease.Deadline(),
		ref:   wire.SlotRef{Workload: award.Workload, Slot: a.Slot, Fence: a.Fence},
		cpus:  w.cfg.Alloc.CPUs(key), nodes: w.cfg.Alloc.Bind(key), dir: w.slotDir(key), ctx: ctx, cancel: cancel,
		bringing: bringing, stopBringing: stopBringing, idle: make(chan struct{}, 1),
		over: make(chan struct{}), began: time.Now(), queue: a.Ranges, last: award.Last, live: map[uint32]*attempt{},
		log: w.cfg.Log.With("workload", award.Workload.Short(), "slot", a.Slot),
	}
	if spec.Sealed() {
		s.signed, s.home = signed, spec.Seal.Home // not the leader's word for it
	}
	w.slots[key] = s
	w.group.Go(s.run)
	if spec.Resources.Class == workload.Spare {
		select {
		case w.lends <- struct{}{}:
		default:
		}
	}
}

// Time from SIGTERM to SIGKILL: the longest that a leader may give a program, and
// what one has whose stop was not heard when it was said.
const (
	maxGrace  = time.Minute
	lateGrace = 5 * time.Second
)

// HandleHalt stops slots with a notice to the program.
func (w *Worker) HandleHalt(_ context.Context, from workload.PeerID, m *wire.HaltMsg) (*wire.Ack, error) {
	grace := min(time.Duration(max(m.GraceMs, 0))*time.Millisecond, maxGrace)
	var found []*slot
	w.mu.Lock()
	for _, ref := range m.Slots {
		if s := w.slots[slotKey{Workload: ref.Workload, Slot: ref.Slot}]; s != nil && s.ref.Fence == ref.Fence {
			found = append(found, s)
		}
	}
	w.mu.Unlock()
	for _, s := range found {
		if w.cfg.Leaders.MayLead(s.cell, from) {
			s.halt(grace)
		}
	}
	return &wire.Ack{}, nil
}

// freeSlot takes an ended slot off the books.
func (w *Worker) freeSlot(s *slot) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.slots, s.key)
	w.cfg.Alloc.Free(s.key)
	s.freed = w.offerSeq()
	w.poke()
	if w.cfg.Alloc.Lending() {
		w.group.Go(w.tend) // spare work may spread
	}
}

// freedSince is the node's last offer before the slot's capacity was free, 0
// while it is not.
func (s *slot) freedSince() uint64 {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	return s.freed
}
