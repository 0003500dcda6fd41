package leader

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// countersignFor is how long voters are asked about one award.
const countersignFor = 2 * time.Second

// ClearingOf is what voters countersign of an award.
func ClearingOf(a *ledger.Award) *wire.Clearing {
	return &wire.Clearing{
		Workload: a.Workload, Auction: a.Auction, Wanted: a.Wanted, MaxPrice: a.MaxPrice,
		Bids: a.Bids, Scores: a.Scores, Slots: a.Slots, Proofs: a.Proofs,
	}
}

// AwardOf is the award of a clearing, without what voters do not look at.
func AwardOf(c *wire.Clearing) *ledger.Award {
	return &ledger.Award{
		Workload: c.Workload, Auction: c.Auction, Wanted: c.Wanted, MaxPrice: c.MaxPrice,
		Bids: c.Bids, Scores: c.Scores, Slots: c.Slots, Proofs: c.Proofs, First: 1,
	}
}

// Countersigned checks that a majority of the voters that the countersignatures
// name have signed this clearing, and returns all voters and who of them did. That
// these were the voters of the cell is their own word. It is pure.
func Countersigned(memo *workload.Memo, cell workload.CellID, clearing *wire.Clearing, sigs []workload.Signed) (voters, by []workload.PeerID, err error) {
	if len(sigs) == 0 {
		return nil, nil, errors.New("no voter countersigned it")
	}
	want := clearing.Countersign(cell, nil)
	for i, s := range sigs {
		c, err := wire.OpenCountersign(memo, s)
		switch {
		case err != nil:
			return nil, nil, fmt.Errorf("countersignature %d: %w", i, err)
		case c.Cell != want.Cell || c.Workload != want.Workload || c.Auction != want.Auction || c.Inputs != want.Inputs || c.Slots != want.Slots:
			return nil, nil, fmt.Errorf("countersignature %d: %s signed another clearing", i, s.By.Short())
		case i > 0 && !slices.Equal(c.Voters, voters):
			return nil, nil, fmt.Errorf("countersignature %d: %s names other voters", i, s.By.Short())
		case !slices.Contains(c.Voters, s.By):
			return nil, nil, fmt.Errorf("countersignature %d: %s is none of the voters", i, s.By.Short())
		case slices.Contains(by, s.By):
			return nil, nil, fmt.Errorf("countersignature %d: %s signed twice", i, s.By.Short())
		}
		voters, by = c.Voters, append(by, s.By)
	}
	if len(by)*2 <= len(voters) {
		return voters, by, fmt.Errorf("%d of %d voters countersigned it, which is no majority", len(by), len(voters))
	}
	return voters, by, nil
}

// countersigned has a majority of the voters clear an award again and sign it, this
// leader included. It returns as soon as they have.
func (l *Leader) countersigned(a *ledger.Award) ([]workload.Signed, error) {
	voters := slices.Clone(l.cfg.Cell.Voters())
	slices.SortFunc(voters, byKey)
	msg := &wire.CountersignMsg{Cell: l.cfg.Cell.ID(), Voters: voters, Clearing: *ClearingOf(a)}
	if err := l.withOutline(a.Workload, func(_ *ledger.State, v *ledger.View, _ int) { msg.Spec = v.Signed }); err != nil {
		return nil, err
	}
	payload := wire.MustMarshal(msg.Clearing.Countersign(msg.Cell, voters))
	out := []workload.Signed{l.cfg.Memo.Sign(workload.DomainCountersign, payload, l.cfg.Key)}
	if !slices.Contains(voters, l.cfg.Self) {
		out = nil
	}
	need := len(voters)/2 + 1
	ctx, cancel := context.WithTimeout(l.ctx, countersignFor)
	defer cancel()
	answers := l.askVoters(ctx, voters, msg, payload)
	var first error
	for a := range answers {
		if len(out) >= need {
			break
		}
		if a.err == nil {
			out = append(out, a.sig)
		} else if first == nil {
			first = a.err
		}
	}
	if len(out) < need {
		return nil, fmt.Errorf("%d of %d voters countersigned, %d are needed: %w", len(out), len(voters), need, errors.Join(first, ctx.Err()))
	}
	return out, nil
}

// countersignature is what came of asking one voter.
type countersignature struct {
	sig workload.Signed
	err error
}

// askVoters asks all voters but this node; answers come in any order, and all of
// them have come when the channel closes.
func (l *Leader) askVoters(ctx context.Context, voters []workload.PeerID, msg *wire.CountersignMsg, payload []byte) <-chan countersignature {
	answers := make(chan countersignature, len(voters)) // nobody waits for a reader
	var asked sync.WaitGroup
	for _, v := range voters {
		if v == l.cfg.Self {
			continue
		}
		asked.Go(func() {
			var answer wire.CountersignAnswer
			err := l.cfg.Caller.Call(ctx, v, wire.ProtoCountersign, msg, &answer)
			s := answer.Sig
			switch {
			case err != nil:
				err = fmt.Errorf("%s: %w", v.Short(), err)
			case s.By != v || string(s.Payload) != string(payload):
				err = fmt.Errorf("%s signed something else", v.Short())
			default:
				err = l.cfg.Memo.Verify(workload.DomainCountersign, s)
			}
			answers <- countersignature{s, err}
		})
	}
	l.group.Go(func() {
		asked.Wait()
		close(answers)
	})
	return answers
}

// uncounted records, for `why`, that an award was not countersigned.
func (l *Leader) uncounted(a *ledger.Award, why error) {
	none := &ledger.Award{Workload: a.Workload, Auction: a.Auction, Wanted: a.Wanted, MaxPrice: a.MaxPrice, First: 1}
	for _, b := range a.Bids {
		none.Declines = append(none.Declines, workload.DeclineNote{Node: b.By, Reasons: []workload.Reason{{
			Code: workload.Refused, Note: workload.Cut("the award was not countersigned: "+why.Error(), 256),
		}}})
	}
	if _, err := l.propose(l.ctx, &ledger.Command{Award: none}); err != nil {
		l.cfg.Log.Warn("award not countersigned", "workload", a.Workload.Short(), "err", why)
	}
}
