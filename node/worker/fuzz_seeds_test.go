package worker

import (
	"crypto/ed25519"
	"testing"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/fuzzpeers"
	"github.com/perrin-mesh/perrin/workload"
)

// auctionOf numbers the auctions of the seeds.
func auctionOf(n byte) workload.AuctionID { return workload.AuctionID{n} }

func benchCall(n byte, cell workload.CellID, spec *workload.Spec) wire.CallMsg {
	owner := workload.PeerIDOf(ownerKey.Public().(ed25519.PublicKey))
	return wire.CallMsg{Call: workload.Call{
		Auction: auctionOf(n), Workload: workload.ID{Cell: cell, Random: [16]byte{n}}, Cell: cell, Owner: owner,
		Shape: spec.Resources, Kind: spec.Program.Kind, Host: spec.Program.Host, Where: spec.Where, Slots: 2,
	}}
}

func benchAward(n byte, cell workload.CellID, spec *workload.Spec, after ...wire.AfterOutputs) wire.SignedAward {
	fence := workload.Fence{Generation: 1, Epoch: 1}
	msg := wire.AwardMsg{
		Cell: cell, Term: 1, Workload: workload.ID{Cell: cell, Random: [16]byte{n}}, Auction: auctionOf(n), GrantMs: 9000,
		Home: fuzzpeers.ID(asHome), After: after, Holders: []workload.PeerID{fuzzpeers.ID(asHome)},
		Slots: []wire.Awarded{
			{Slot: 1, Fence: fence, Rate: 5, Ranges: []workload.Range{{From: 0, Count: 1, Attempt: 1}}},
			{Slot: 2, Fence: fence, Rate: 5, Ranges: []workload.Range{{From: 1, Count: 1, Attempt: 1}}},
		},
	}
	if spec.Tasks.Count == 1 {
		msg.Slots = msg.Slots[:1]
	}
	return wire.SignedAward{Award: workload.Signed{Payload: wire.MustMarshal(msg)}, Spec: workload.Signed{Payload: wire.MustMarshal(spec)}}
}

func benchSpec(edit func(*workload.Spec)) *workload.Spec {
	spec := workload.DefaultSpec()
	spec.Program = workload.Program{Kind: workload.Process, Host: "true", Name: "true"}
	if edit != nil {
		edit(&spec)
	}
	return &spec
}

// workerSteps are real messages in the order in which they come.
func workerSteps(t testing.TB, s *shop) (scripts [][]fuzzpeers.Step) {
	t.Helper()
	send := func(proto string, from byte, m any) fuzzpeers.Step {
		for i, h := range workerHandlers() {
			if h.Proto == proto {
				return fuzzpeers.Step{Kind: byte(stepHandlers + i), From: from, Body: wire.MustMarshal(m)}
			}
		}
		t.Fatalf("%s is not served", proto)
		return fuzzpeers.Step{}
	}
	wait := func(n int) fuzzpeers.Step { return fuzzpeers.Step{Kind: stepTime, Body: make([]byte, n)} }
	answer := func(m any) fuzzpeers.Step { return fuzzpeers.Step{Kind: stepAnswer, Body: wire.MustMarshal(m)} }
	attach := func(from byte, m wire.AttachMsg, said ...byte) fuzzpeers.Step {
		raw := wire.MustMarshal(m)
		return fuzzpeers.Step{Kind: stepAttach, From: from, Body: append(append([]byte{byte(len(raw))}, raw...), said...)}
	}
	run := func(n byte, from byte, cell workload.CellID, spec *workload.Spec, after ...wire.AfterOutputs) []fuzzpeers.Step {
		return []fuzzpeers.Step{send(wire.ProtoCall, from, benchCall(n, cell, spec)), send(wire.ProtoAward, from, benchAward(n, cell, spec, after...))}
	}
	two := func(s *workload.Spec) { s.Tasks.Count = 2 }
	ref := wire.SlotRef{Workload: workload.ID{Cell: homeCell, Random: [16]byte{1}}, Slot: 1, Fence: workload.Fence{Generation: 1, Epoch: 1}}
	id := ref.Workload
	doubled := benchAward(1, homeCell, benchSpec(two))
	var msg wire.AwardMsg
	if err := wire.Unmarshal(doubled.Award.Payload, &msg); err != nil {
		t.Fatal(err)
	}
	msg.Slots[1].Slot = 1
	doubled.Award.Payload = wire.MustMarshal(msg)
	plain := benchSpec(nil)
	return [][]fuzzpeers.Step{
		append(run(1, asLeader, homeCell, plain), wait(9)),
		append(run(1, asSibling, otherCell, benchSpec(two)), wait(9)),
		append(run(1, asLeader, homeCell, benchSpec(two)), wait(1), send(wire.ProtoLive, asStranger, wire.LiveMsg{Workload: id}),
			send(wire.ProtoHalt, asLeader, wire.HaltMsg{Slots: []wire.SlotRef{ref}, GraceMs: 100, Reason: "r"}), wait(5)),
		{send(wire.ProtoCall, asLeader, benchCall(1, homeCell, plain)), send(wire.ProtoRelease, asLeader, wire.ReleaseMsg{Auctions: []workload.AuctionID{auctionOf(1)}}),
			send(wire.ProtoAward, asLeader, benchAward(1, homeCell, plain))},
		{send(wire.ProtoCall, asStranger, benchCall(1, homeCell, plain)), send(wire.ProtoCall, asLeader, benchCall(2, homeCell, benchSpec(func(s *workload.Spec) { s.Where = `zone == "y" || cores > 64` })))},
		{send(wire.ProtoCall, asLeader, benchCall(1, homeCell, benchSpec(two))), send(wire.ProtoAward, asLeader, doubled)},
		append(run(1, asLeader, homeCell, benchSpec(func(b *workload.Spec) {
			b.Program = workload.Program{Kind: workload.Wasm, Blob: s.program, Name: "p"}
			b.Tasks = workload.Tasks{Count: 2, Table: s.table}
			b.Inputs = []workload.Input{{Path: "tree", Kind: workload.Tree, Blob: s.tree}, {Path: "f", Kind: workload.File, Blob: s.program}}
			b.Stdin = s.table
		})), wait(9)),
		append(run(1, asLeader, homeCell, benchSpec(func(b *workload.Spec) { b.After = []workload.After{{Name: "in"}} }),
			wire.AfterOutputs{Name: "in", Segments: []workload.Ref{s.segment}}), wait(9)),
		append(run(1, asLeader, homeCell, benchSpec(func(b *workload.Spec) { b.After = []workload.After{{Name: "in"}} }),
			wire.AfterOutputs{Name: "in", Segments: []workload.Ref{s.evil}}), wait(9)),
		run(1, asSibling, otherCell, plain, wire.AfterOutputs{Name: "x/../../../escape", Segments: []workload.Ref{s.segment}}),
		append(run(1, asLeader, homeCell, benchSpec(func(b *workload.Spec) { b.Tasks.Count = 9 })),
			answer(wire.Taken{Ranges: []workload.Range{{From: 2, Count: 2, Attempt: 1}}}), answer(wire.Closed{Over: true}), wait(30)),
		append([]fuzzpeers.Step{answer(wire.Taken{Ranges: []workload.Range{{From: 2, Count: 0, Attempt: 1}}})}, append(run(1, asLeader, homeCell, benchSpec(two)), wait(30))...),
		append(run(1, asLeader, homeCell, benchSpec(func(b *workload.Spec) { b.Interactive = true })),
			attach(asHome, wire.AttachMsg{Workload: id, Stdin: true, Follow: true}, FrameStdin, 0, 0, 0, 2, 'h', 'i', FrameStdinEnd, 0, 0, 0, 0), wait(1),
			attach(asStranger, wire.AttachMsg{Workload: id, Follow: true}), attach(asStranger, wire.AttachMsg{Workload: id, Stdin: true}), wait(20)),
		append(run(1, asLeader, homeCell, benchSpec(func(b *workload.Spec) { b.OnPartition, b.Retries = workload.Continue, 9 })),
			answer(wire.Renewed{GrantMs: 9000, Epoch: 1, Term: 1, Gone: []wire.SlotRef{ref}}), wait(63)),
		append(run(1, asLeader, homeCell, benchSpec(func(b *workload.Spec) { b.Retries = 30 })), wait(62), answer(wire.Renewed{Term: 1, Epoch: 2}), wait(62)),
		{send(wire.ProtoCall, asLeader, wire.CallMsg{Call: func() workload.Call {
			c := benchCall(1, homeCell, plain).Call
			c.MaxPrice = 1
			return c
		}()})},
		append(append(run(1, asLeader, homeCell, plain), wait(20)), append(run(2, asLeader, homeCell, plain), wait(20))...),
	}
}
