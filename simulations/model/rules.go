package model

import (
	"encoding/binary"
	"errors"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/scheduler"
	"github.com/perrin-mesh/perrin/scheduler/pricing"
	"github.com/perrin-mesh/perrin/simulations/policy"
	"github.com/perrin-mesh/perrin/workload"
)

// rules are what the ledgers need of encodings. A spec's payload is its number, a
// bid's the auction, the bidder and the asks; nothing is signed, the cost of
// signing and verifying is charged in time.
func (w *World) rules() ledger.Rules {
	return ledger.Rules{
		OpenSpec: w.openSpec,
		ReadSpec: func(payload []byte) (workload.Spec, error) { return w.openSpec(workload.Signed{Payload: payload}) },
		OpenBid:  openBid, Replay: w.replay, Charge: pricing.Charge,
	}
}

func (w *World) openSpec(s workload.Signed) (workload.Spec, error) {
	if len(s.Payload) != 4 {
		return workload.Spec{}, errors.New("model: not a workload's number")
	}
	i := binary.BigEndian.Uint32(s.Payload)
	l := &w.loads[i]
	spec := w.specs[l.stream]
	spec.Tasks.Count = uint32(w.tasksOf(l))
	copy(spec.Nonce[:], s.Payload)
	spec.Created = ms(l.arrived)
	return spec, nil
}

func sealBid(b *workload.Bid) workload.Signed {
	p := make([]byte, 0, 16+8*len(b.Asks))
	p = append(p, b.Auction[:]...)
	for _, ask := range b.Asks {
		p = binary.BigEndian.AppendUint64(p, uint64(ask))
	}
	return workload.Signed{Payload: p, By: b.Node}
}

func openBid(s workload.Signed) (workload.Bid, error) {
	if len(s.Payload) < 16 || len(s.Payload)%8 != 0 {
		return workload.Bid{}, errors.New("model: not a bid")
	}
	b := workload.Bid{Auction: workload.AuctionID(s.Payload[:16]), Node: s.By}
	for p := s.Payload[16:]; len(p) > 0; p = p[8:] {
		b.Asks = append(b.Asks, int64(binary.BigEndian.Uint64(p)))
	}
	return b, nil
}

// replay clears an award again, as every replica does.
func (w *World) replay(a *ledger.Award) error {
	clearing := scheduler.Clear
	if w.traits.PayAsBid {
		clearing = policy.ClearPayAsBid
	}
	return scheduler.Replay(&scheduler.Award{
		Auction: a.Auction, Wanted: a.Wanted, MaxPrice: a.MaxPrice, Bids: a.Bids, Scores: a.Scores, Slots: a.Slots,
	}, openBid, clearing)
}

// ms is a time as the pure packages see it.
func ms(t int64) int64 { return t/1_000_000 + 1 }

// nsAt is when a time of theirs begins.
func nsAt(m int64) int64 { return max(m-1, 0) * 1_000_000 }
