package leader

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"math"
	"time"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/rights"
)

// Blobs keeps blobs on a majority of the cell's voters.
type Blobs interface {
	// Replicate returns when the blobs lie, durably, on a majority of the
	// voters, kept on behalf of the workload.
	Replicate(ctx context.Context, m *wire.Hold) error
	// Holding returns the workloads on whose behalf a majority of the voters
	// holds refs, durably, and false when it is not known that one does.
	Holding(refs []workload.Ref) (by []workload.ID, ok bool)
}

// OpenSpec verifies, decodes and validates an owner's signed spec. It is pure.
func OpenSpec(memo *workload.Memo, s workload.Signed) (workload.Spec, error) {
	var spec workload.Spec
	if err := memo.Verify(workload.DomainSpec, s); err != nil {
		return spec, err
	}
	if err := wire.Unmarshal(s.Payload, &spec); err != nil {
		return spec, err
	}
	return spec, spec.Validate()
}

// IDOf names the workload of a signed spec: submitting it again names the same one.
func IDOf(cell workload.CellID, s workload.Signed) workload.ID {
	h := sha256.New()
	h.Write(s.By[:])
	h.Write(s.Payload)
	id := workload.ID{Cell: cell}
	copy(id.Random[:], h.Sum(nil))
	return id
}

// HandleSubmit takes a workload on. When it answers, the workload is committed,
// and what it needs lies on a majority of the voters, or the answer says that
// it leans on the node it came from.
func (l *Leader) HandleSubmit(ctx context.Context, from workload.PeerID, m *wire.Submit) (*wire.Submitted, error) {
	spec, err := OpenSpec(l.cfg.Memo, m.Spec)
	if err != nil {
		return nil, wire.Errorf(wire.Malformed, "spec: %v", err)
	}
	if m.Home != from {
		return nil, wire.Errorf(wire.Unauthorized, "a workload's home is the node that submits it")
	}
	if spec.Mesh != l.cfg.Mesh {
		return nil, wire.Errorf(wire.Refused, "the spec was signed for another mesh")
	}
	if spec.Sealed() && (spec.Seal.Cell != l.cfg.Cell.ID() || spec.Seal.Home != from) {
		return nil, wire.Errorf(wire.Refused, "the spec was sealed for another cell, or on another node, and no key would be released here; submit it again")
	}
	for _, dep := range spec.After { // its outputs become this one's inputs
		if err := l.mayFollow(from, m.Spec.By, dep.Workload); err != nil {
			return nil, err
		}
	}
	id := IDOf(l.cfg.Cell.ID(), m.Spec)
	if known, ok := l.known(m.Spec, &spec); ok {
		if err := l.seeThrough(ctx, known, m); err != nil {
			return nil, err
		}
		return known, nil
	}
	if err := l.tokenCounts(from, m.Token); err != nil {
		return nil, err
	}
	held := spec.Keep == workload.KeepAll || Total(m.Blobs) <= workload.KeepAutoLimit
	by, shared := l.sharesInputs(&spec, m, held)
	if !shared {
		if err := l.keepInputs(ctx, id, m, held); err != nil {
			return nil, err
		}
	}
	settled := l.early(id, &spec, m)
	res, err := l.propose(ctx, &ledger.Command{Accept: &ledger.Accept{ID: id, Spec: m.Spec, Held: held, Home: m.Home, Token: m.Token}})
	settled()
	if err != nil || res.ID != id {
		l.refresh(id)
	}
	if err != nil {
		return nil, err
	}
	if shared && !l.remembered(by) { // the inputs may have gone before this workload came to hold them
		if err := l.keepInputs(ctx, id, m, held); err != nil {
			return nil, err
		}
	}
	l.count(func(s *Stats) { s.Submitted++ })
	return &wire.Submitted{ID: res.ID, Held: held}, nil
}

// mayFollow refuses to hand the outputs of a workload to another owner's. One that
// is not known, the ledger refuses.
func (l *Leader) mayFollow(from, owner workload.PeerID, dep workload.ID) error {
	var refused error
	_ = l.withOutline(dep, func(_ *ledger.State, v *ledger.View, _ int) {
		if v.Owner != owner && v.Home != from {
			refused = wire.Errorf(wire.NotYours, "workload %s is not yours", dep.Short())
		}
	})
	return refused
}

// seeThrough does for a workload that was accepted before what the submission
// which had it accepted may not have come to: its answer was an error, or lost.
func (l *Leader) seeThrough(ctx context.Context, known *wire.Submitted, m *wire.Submit) error {
	l.refresh(known.ID)
	lives := false
	l.cfg.Cell.Read(func(s *ledger.State) {
		v, _, ok := s.Outline(known.ID)
		lives = ok && !v.Phase.Ended()
	})
	if !lives || !known.Held {
		return nil
	}
	return l.keepInputs(ctx, known.ID, m, true)
}

// sharesInputs reports whether a majority of the voters holds all that a
// workload needs for earlier ones, by. Every voter pins the inputs for this one
// when it applies its ACCEPT: if the earlier ones are remembered then, no voter
// has let go in between. What only a table of tasks names is not seen there.
func (l *Leader) sharesInputs(spec *workload.Spec, m *wire.Submit, held bool) (by []workload.ID, shared bool) {
	if !held || !spec.Tasks.Table.IsZero() {
		return nil, false
	}
	by, shared = l.cfg.Store.Holding(m.Blobs)
	return by, shared && l.remembered(by)
}

// remembered reports whether the cell has not forgotten any of ids, and holds
// what they need.
func (l *Leader) remembered(ids []workload.ID) bool {
	known := true
	l.cfg.Cell.Read(func(s *ledger.State) {
		for _, id := range ids {
			if v, _, ok := s.Outline(id); !ok || !v.Held {
				known = false
			}
		}
	})
	return known
}

// known returns the answer to a spec that was submitted before.
func (l *Leader) known(signed workload.Signed, spec *workload.Spec) (answer *wire.Submitted, ok bool) {
	l.cfg.Cell.Read(func(s *ledger.State) {
		var id workload.ID
		if t, gone := s.Tomb(IDOf(l.cfg.Cell.ID(), signed)); gone {
			answer, ok = &wire.Submitted{ID: t.ID, Held: t.Held}, true
			return
		}
		if id, ok = s.Lookup(signed.By, spec.Nonce); ok {
			v, _, _ := s.Outline(id)
			if ok = bytes.Equal(v.Signed.Payload, signed.Payload); !ok {
				return // another spec with the same nonce: the ledger will refuse it
			}
			answer = &wire.Submitted{ID: id, Held: v.Held}
		}
	})
	return answer, ok
}

// keepInputs copies what the workload needs to a majority of the voters; when
// that is too much, only what rode along.
func (l *Leader) keepInputs(ctx context.Context, id workload.ID, m *wire.Submit, all bool) error {
	hold := &wire.Hold{Workload: id, Inline: m.Inline, Sources: []workload.PeerID{m.Home}}
	if all {
		hold.Blobs = m.Blobs
	} else {
		for _, in := range m.Inline {
			hold.Blobs = append(hold.Blobs, workload.Ref{Digest: workload.DigestOf(in.Data), Size: int64(len(in.Data))})
		}
	}
	if len(hold.Blobs) == 0 {
		return nil
	}
	return l.cfg.Store.Replicate(ctx, hold)
}

// Total sums the sizes of blobs in bytes. What a stranger says of them may be
// more than there are numbers for.
func Total(refs []workload.Ref) (n int64) {
	for _, r := range refs {
		n += min(max(r.Size, 0), math.MaxInt64-n)
	}
	return n
}

// HandleStop stops a workload for the node it was submitted on, or for a node
// that has its owner's key.
func (l *Leader) HandleStop(ctx context.Context, by workload.PeerID, m *wire.StopMsg) error {
	id := m.ID
	if err := l.mayStop(ctx, by, m); err != nil {
		return err
	}
	if _, err := l.propose(ctx, &ledger.Command{Stop: &ledger.Stop{ID: id, By: by}}); err != nil {
		return err
	}
	l.halt(id, "its owner stopped it")
	return nil
}

// mayStop refuses whoever is neither the workload's Home nor its owner.
func (l *Leader) mayStop(ctx context.Context, by workload.PeerID, m *wire.StopMsg) error {
	var refused error
	err := l.withWorkload(m.ID, func(s *ledger.State, v *ledger.View) {
		if by != v.Home && !orderedBy(v.Owner, m) && !orderedBy(v.Payer, m) {
			refused = wire.Errorf(wire.Unauthorized, "%s was submitted on %s: only that node, or one with its owner's key, stops it", m.ID.Short(), l.people(s).name(v.Home))
		}
	})
	if err != nil { // a deposed leader may not know of it
		return cmp.Or(l.confirm(ctx), err)
	}
	if refused != nil && len(m.Token) > 0 {
		return l.may(l.asker(by, m.Token), rights.Operate, m.ID)
	}
	return refused
}

// orderedBy reports whether a stop is signed by the owner. A copy of the order
// stops the same workload once more, which changes nothing.
func orderedBy(owner workload.PeerID, m *wire.StopMsg) bool {
	return m.Order.By == owner && m.Order.Verify(workload.DomainStop) == nil && bytes.Equal(m.Order.Payload, wire.MustMarshal(m.ID))
}

// haltGrace is how long a program has between SIGTERM and SIGKILL.
const haltGrace = 5 * time.Second

// halt tells every worker of a workload to stop it. A worker that does not hear
// it hears at its next RENEW.
func (l *Leader) halt(id workload.ID, reason string) {
	perNode := map[workload.PeerID][]wire.SlotRef{}
	l.withWorkload(id, func(_ *ledger.State, v *ledger.View) { //nolint:errcheck // unknown: nothing runs
		for _, s := range v.Slots {
			perNode[s.Node] = append(perNode[s.Node], wire.SlotRef{Workload: id, Slot: s.ID, Fence: s.Fence})
		}
	})
	for node, slots := range perNode {
		l.group.Go(func() {
			ctx, cancel := context.WithTimeout(l.ctx, callPatience)
			defer cancel()
			msg := wire.HaltMsg{Slots: slots, GraceMs: haltGrace.Milliseconds(), Reason: reason}
			if err := l.cfg.Caller.Call(ctx, node, wire.ProtoHalt, &msg, &wire.Ack{}); err != nil {
				l.cfg.Log.Warn("halt not told", "node", node.Short(), "err", err)
			}
		})
	}
}

// withWorkload reads one workload.
func (l *Leader) withWorkload(id workload.ID, f func(*ledger.State, *ledger.View)) error {
	return l.with(id, func(s *ledger.State) bool {
		v, found := s.Workload(id)
		if found {
			f(s, &v)
		}
		return found
	})
}

// withOutline reads what of a workload does not grow with it.
func (l *Leader) withOutline(id workload.ID, f func(s *ledger.State, v *ledger.View, slots int)) error {
	return l.with(id, func(s *ledger.State) bool {
		v, slots, found := s.Outline(id)
		if found {
			f(s, &v, slots)
		}
		return found
	})
}

// with says why read finds no workload, when it finds none.
func (l *Leader) with(id workload.ID, read func(*ledger.State) bool) error {
	return find(l.cfg.Cell, id, read)
}

func find(cell Reader, id workload.ID, read func(*ledger.State) bool) error {
	found, gone := false, false
	var tomb ledger.Tomb
	cell.Read(func(s *ledger.State) {
		if found = read(s); found {
			return
		}
		tomb, gone = s.Tomb(id)
	})
	if gone {
		return wire.Errorf(wire.NotFound, "workload %s is compacted: %s", id.Short(), &tomb)
	}
	if !found {
		return wire.Errorf(wire.NotFound, "no workload %s in cell %s", id, id.Cell)
	}
	return nil
}
