// Package notary checks receipts with the mesh's own rules: the encodings of the
// wire, the certificates of admission, the clearing of the scheduler and the tariff
// of pricing, which workload/receipt takes as Rules. It is pure but for the memory
// of signatures that Rules may be given.
package notary

import (
	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/leader"
	"github.com/perrin-mesh/perrin/scheduler"
	"github.com/perrin-mesh/perrin/scheduler/pricing"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/receipt"
)

// Rules are the rules by which a mesh of this version works. memo remembers
// signatures that held; nil is none.
func Rules(memo *workload.Memo) *receipt.Rules {
	openBid := func(s workload.Signed) (workload.Bid, error) { return leader.OpenBid(memo, s) }
	return &receipt.Rules{
		Verify:     memo.Verify,
		OpenSpec:   func(s workload.Signed) (workload.Spec, error) { return leader.OpenSpec(memo, s) },
		Name:       leader.IDOf,
		OpenBid:    openBid,
		OpenProved: func(s workload.Signed) (workload.Proved, error) { return leader.OpenProved(memo, s) },
		Countersigned: func(id workload.ID, a *receipt.Award) (voters, by []workload.PeerID, err error) {
			return leader.Countersigned(memo, id.Cell, &wire.Clearing{
				Workload: id, Auction: workload.AuctionID(a.Auction), Wanted: a.Wanted, MaxPrice: a.MaxPrice,
				Bids: a.Bids, Scores: a.Scores, Slots: a.Slots, Proofs: a.Proofs,
			}, a.Countersigned)
		},
		OpenResult: openResult,
		OpenDraw: func(owner workload.PeerID, d *workload.Draw, sig []byte) error {
			return wire.OpenDraw(memo, owner, d, sig)
		},
		OpenCert: openCert,
		MeshOf:   admission.MeshOf,
		Charge:   pricing.Charge,
		Replay: func(id workload.ID, a *receipt.Award) error {
			return scheduler.Replay(&scheduler.Award{
				Workload: id, Auction: workload.AuctionID(a.Auction), Wanted: a.Wanted, MaxPrice: a.MaxPrice,
				Bids: a.Bids, Scores: a.Scores, Slots: a.Slots,
			}, openBid, scheduler.Clear)
		},
	}
}

func openResult(payload []byte) (receipt.Signed, error) {
	var st wire.Statement
	if err := wire.Unmarshal(payload, &st); err != nil {
		return receipt.Signed{}, err
	}
	return receipt.Signed{Workload: st.Ref.Workload, Slot: st.Ref.Slot, Fence: st.Ref.Fence, Ref: st.Segment, Results: st.Results, Vote: st.Vote}, nil
}

func openCert(raw []byte) (receipt.Cert, error) {
	c, err := admission.OpenChain(raw)
	if err != nil {
		return receipt.Cert{}, err
	}
	return receipt.Cert{
		Root: c.Root, Node: c.Node, Name: c.Name, Operator: c.Operator, Admitter: c.Admitter, From: c.From.UnixMilli(), To: c.To.UnixMilli(),
	}, nil
}
