package model

import (
	"bytes"
	"testing"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/simulations/scenario"
	"github.com/perrin-mesh/perrin/workload"
)

// signing makes a signed statement of the right size.
func signing(by workload.PeerID, v any) workload.Signed {
	return workload.Signed{Payload: wire.MustMarshal(v), By: by, Sig: bytes.Repeat([]byte{0xA5}, 64)}
}

// typical are the messages of a workload of one task with no inputs, as the
// product encodes them, and what stands beside each answer in the same place.
func typical() map[msgKind]any {
	peer := workload.PeerID(bytes.Repeat([]byte{0xA5}, 32))
	id := workload.ID{Cell: workload.CellID(peer[:8]), Random: [16]byte(peer[:16])}
	auction := workload.AuctionID(peer[:16])
	ref := workload.Ref{Digest: workload.Digest(peer), Size: 300}
	shape := workload.DefaultResources()
	spec := specOf(&scenario.Workloads{Name: "tasks", Tasks: 1, Shape: shape, Timeout: 600 * 1000 * millisecond}, workload.MeshID(peer))
	spec.Nonce, spec.Created = [16]byte(peer[:16]), 1_790_000_000_000
	spec.Program.Blob = ref
	machine := machineOf(&scenario.Machine{Name: "machine", Cores: 8, Threads: 2, Memory: 32 << 30, Disk: 100 << 30})
	offer := workload.Offer{
		Node: peer, Cell: id.Cell, Seq: 5 << 20, Machine: machine, Free: machine.Total, Asks: workload.Asks{Core: 1000, Thread: 657, Memory: 60, Spare: 165},
		ValidMs: offerValid,
	}
	bid := workload.Bid{Auction: auction, Node: peer, Asks: []int64{1015}, HoldMs: holdFor, HasMs: 9000}
	fence := workload.Fence{Generation: 1, Epoch: 3}
	slot := wire.SlotRef{Workload: id, Slot: 1, Fence: fence}
	ranges := []workload.Range{{From: 0, Count: 1, Attempt: 1}}
	award := wire.AwardMsg{
		Cell: id.Cell, Term: 3, Workload: id, Auction: auction, Index: 100_000, GrantMs: 9000, Home: peer, Last: true,
		Slots:   []wire.Awarded{{Slot: 1, Fence: fence, Rate: 1015, Ranges: ranges}},
		Holders: []workload.PeerID{peer, peer, peer, peer, peer, peer},
	}
	segment := workload.Segment{Workload: id, Slot: 1, Node: peer, Results: []workload.TaskResult{{
		Attempt: 1, Exit: workload.Exited, Usage: workload.Usage{WallMs: 1000, CPUMs: 990, PeakMem: 20 << 20}, Wall: "process", Started: 1_790_000_000_000,
	}}}
	statement := wire.Statement{Ref: slot, Segment: ref, Results: ref.Digest}
	call := wire.CallMsg{Call: workload.Call{
		Auction: auction, Workload: id, Cell: id.Cell, Leader: peer, Owner: peer, Shape: shape, Kind: workload.Process, Slots: 1,
	}}
	return map[msgKind]any{
		msgSubmit: wire.Submit{Spec: signing(peer, spec), Home: peer, Blobs: []workload.Ref{ref}},
		msgAck:    wire.Submitted{ID: id, Held: true},
		msgCall:   call,
		msgHold:   wire.Hold{Workload: id, Blobs: []workload.Ref{ref, ref}, Sources: []workload.PeerID{peer}},
		msgHeld:   wire.Ack{},
		msgChunk:  wire.Chunk{Blob: ref, Index: 7},
		// Not of the product: one asks, the other hands over a call.
		msgSteal:  wire.Ack{},
		msgStolen: call,
		msgBid:    wire.CallAnswer{Bid: ptr(signing(peer, bid))},
		msgDecline: wire.CallAnswer{Decline: &workload.Decline{Auction: auction, Node: peer, Reasons: []workload.Reason{
			{Code: workload.NoCores, Want: 1, Note: "1 whole core asked; 1 thread idle, but on cores that are in use"},
		}}},
		msgRelease:      wire.ReleaseMsg{Auctions: []workload.AuctionID{auction}},
		msgAward:        wire.SignedAward{Award: signing(peer, award), Spec: signing(peer, spec)},
		msgRefused:      wire.AwardAnswer{Refused: []workload.SlotID{1}, Reasons: []workload.Reason{{Code: workload.HoldGone}}},
		msgTake:         wire.TakeMsg{Ref: slot, MicrosPerTask: 250_000, Seq: 2},
		msgTaken:        wire.Taken{Ranges: ranges},
		msgClose:        wire.CloseMsg{Ref: slot, Segment: wire.MustMarshal(segment), Sig: signing(peer, statement), Offer: 5 << 20},
		msgClosed:       wire.Closed{Held: true, Over: true},
		msgDone:         wire.DoneMsg{Ref: slot, Offer: 5 << 20},
		msgDoneAck:      wire.Ack{},
		msgRenew:        wire.RenewMsg{Cell: id.Cell, Slots: []wire.SlotRef{slot, slot}},
		msgRenewed:      wire.Renewed{GrantMs: 9000, Epoch: 3, Term: 3},
		msgOffer:        wire.OfferMsg{Offer: signing(peer, offer)},
		msgSuited:       wire.SuitedMsg{Owner: peer, Shape: shape, Kind: workload.Process, Wanted: 1},
		msgSuitedAnswer: wire.SuitedOffers{Offers: []workload.Signed{signing(peer, offer), signing(peer, offer), signing(peer, offer), signing(peer, offer)}},
		msgDisclaim:     wire.RenewMsg{Cell: id.Cell, Disclaim: []wire.SlotRef{slot}},
		msgDisclaimed:   wire.Renewed{Epoch: 3, Term: 3},
		// The mean of the three entries of a workload.
		msgRaft: []any{
			ledger.Command{Version: 1, At: 1_790_000_000_000, Leader: peer, Accept: &ledger.Accept{ID: id, Spec: signing(peer, spec), Held: true, Home: peer}},
			ledger.Command{Version: 1, At: 1_790_000_000_000, Leader: peer, Award: &ledger.Award{
				Workload: id, Auction: auction, Wanted: 1, First: 1, Bids: []workload.Signed{signing(peer, bid), signing(peer, bid), signing(peer, bid)},
				Scores: []workload.Score{{RTTMicros: 80_000}, {RTTMicros: 80_000}, {RTTMicros: 80_000}},
				Slots:  []workload.AwardSlot{{Node: peer, Rate: 1015, Ask: 1000}},
				Declines: []workload.DeclineNote{
					{Node: peer, Reasons: []workload.Reason{{Code: workload.NotCalled, Want: 1015, Have: 1020}}},
					{Node: peer, Reasons: []workload.Reason{{Code: workload.NotCalled, Want: 1015, Have: 1020}}},
					{Node: peer, Reasons: []workload.Reason{{Code: workload.NotCalled, Want: 1015, Have: 1020}}},
				},
			}},
			ledger.Command{Version: 1, At: 1_790_000_000_000, Leader: peer, Close: &ledger.Close{
				Workload: id, Slot: 1, Fence: fence, Done: ranges, Segment: ref, Held: true, Sig: signing(peer, statement), Inline: wire.MustMarshal(segment),
				Usage: workload.Usage{WallMs: 1000, CPUMs: 990, PeakMem: 20 << 20},
			}},
		},
	}
}

func ptr[T any](v T) *T { return &v }

// TestSizes holds the sizes that the model counts to the product's encodings, with
// 20 bytes for frame, stream and protocol name.
func TestSizes(t *testing.T) {
	const frame = 20
	messages := typical()
	for k := msgSubmit; k < msgKinds; k++ {
		if k == msgView {
			continue // its size depends on the cell: TestViewSize
		}
		m, ok := messages[k]
		if !ok {
			t.Errorf("%s: no message", k)
			continue
		}
		size, parts := 0, 1
		if entries, several := m.([]any); several {
			parts = len(entries)
			for _, e := range entries {
				size += len(wire.MustMarshal(e))
			}
		} else {
			size = len(wire.MustMarshal(m))
		}
		want := int64(size/parts + frame)
		if have := msgBytes[k]; have < want*9/10-4 || have > want*11/10+4 {
			t.Errorf("%s: the model counts %d bytes, the product sends %d", k, have, want)
		}
	}
}

func TestViewSize(t *testing.T) {
	peer := workload.PeerID(bytes.Repeat([]byte{0xA5}, 32))
	view := wire.CellView{Cell: workload.CellID(peer[:8]), Epoch: 1, Term: 3, Leader: peer}
	for range 5 {
		view.Voters = append(view.Voters, wire.PeerAddrs{Peer: peer, Addrs: []string{"/ip4/203.0.113.77/udp/4001/quic-v1"}})
	}
	for range 64 {
		view.Members = append(view.Members, peer)
	}
	want := int64(len(wire.MustMarshal(wire.OfferAnswer{View: &view})) + 20)
	if have := int64(viewBytes + 64*viewMember); have < want*19/20 || have > want*21/20 {
		t.Errorf("the model counts %d bytes, the product sends %d", have, want)
	}
}
