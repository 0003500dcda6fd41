package leader

import (
	"fmt"
	"testing"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/fuzzpeers"
	"github.com/perrin-mesh/perrin/scheduler"
	"github.com/perrin-mesh/perrin/workload"
)

func duelSpec(nonce byte, edit func(*workload.Spec)) workload.Signed {
	spec := workload.DefaultSpec()
	spec.Mesh, spec.Nonce[0] = duelMesh, nonce
	spec.Program = workload.Program{Kind: workload.Process, Host: "true", Name: "true"}
	if edit != nil {
		edit(&spec)
	}
	return workload.Sign(workload.DomainSpec, wire.MustMarshal(spec), ownerKey)
}

// The workloads of the base, by their nonce.
const (
	runs    = 'r' // two workers hold slots of it
	waits   = 'w' // comes after it
	pending = 'p' // wants a slot
	stopped = 's' // has ended
)

func duelID(nonce byte) workload.ID { return IDOf(duelCell, baseSpecs()[nonce]) }

func baseSpecs() map[byte]workload.Signed {
	specs := map[byte]workload.Signed{
		runs:    duelSpec(runs, func(s *workload.Spec) { s.Tasks.Count, s.Retries, s.Name = 60, 1, "runs" }),
		pending: duelSpec(pending, func(s *workload.Spec) { s.Tasks.Count, s.Labels = 3, map[string]string{"a": "b"} }),
		stopped: duelSpec(stopped, nil),
	}
	id := IDOf(duelCell, specs[runs])
	specs[waits] = duelSpec(waits, func(s *workload.Spec) { s.After = []workload.After{{Workload: id, Name: "in"}} })
	return specs
}

var baseFence = workload.Fence{Generation: 1, Epoch: 1}

// fuzzBase is the snapshot of a ledger with something in every list.
func fuzzBase(t testing.TB) []byte {
	t.Helper()
	cell := &duelCellOf{state: ledger.New(duelRules(nil))}
	at := int64(0)
	commit := func(cmd *ledger.Command) {
		t.Helper()
		at += 100
		cmd.Version, cmd.At, cmd.Leader = ledger.CommandVersion, at, fuzzpeers.ID(asLeader)
		if res, err := cell.Propose(t.Context(), cmd); err != nil || res.Reject != nil {
			t.Fatal(err, res.Reject)
		}
	}
	commit(&ledger.Command{Genesis: &ledger.Genesis{Mesh: duelMesh, Cell: duelCell, Epoch: 1, MaxSize: 8}})
	for n := asWorker; n < peers; n++ {
		commit(&ledger.Command{MemberAdd: &ledger.MemberAdd{Node: fuzzpeers.ID(n), Name: fmt.Sprint("n", n)}})
	}
	for _, nonce := range []byte{runs, waits, pending, stopped} {
		commit(&ledger.Command{Accept: &ledger.Accept{ID: duelID(nonce), Spec: baseSpecs()[nonce], Home: fuzzpeers.ID(asHome), Held: true}})
	}
	commit(&ledger.Command{Award: baseAward()})
	commit(&ledger.Command{Take: &ledger.Take{Workload: duelID(runs), Slot: 1, Fence: baseFence, Count: 10, Seq: 1}})
	commit(&ledger.Command{Close: &ledger.Close{
		Workload: duelID(runs), Slot: 1, Fence: baseFence, Segment: workload.Ref{Digest: workload.DigestOf([]byte("old")), Size: 3},
		Done: []workload.Range{{From: 0, Count: 1, Attempt: 1}}, Usage: workload.Usage{WallMs: 900},
	}})
	commit(&ledger.Command{Stop: &ledger.Stop{ID: duelID(stopped), By: fuzzpeers.ID(asHome)}})
	return wire.MustMarshal(cell.state.Snapshot())
}

func baseAward() *ledger.Award {
	a := &ledger.Award{Workload: duelID(runs), Auction: workload.AuctionID{1}, Wanted: 3, First: 4}
	var bids []workload.Bid
	for _, n := range []int{asWorker, asOther} {
		bid := workload.Bid{Auction: a.Auction, Node: fuzzpeers.ID(n), Asks: []int64{5, 7}}
		bids = append(bids, bid)
		a.Bids = append(a.Bids, workload.Sign(workload.DomainBid, wire.MustMarshal(bid), fuzzpeers.Key(n)))
		a.Scores = append(a.Scores, workload.Score{RTTMicros: 1000})
	}
	a.Slots = scheduler.Clear(a.Wanted, a.MaxPrice, bids, a.Scores)
	return a
}

// fuzzSteps are real messages, some of them in the order in which they come.
func fuzzSteps(t testing.TB) (scripts [][]fuzzpeers.Step) {
	t.Helper()
	kind := func(proto string) byte {
		for i, h := range fuzzHandlers() {
			if h.Proto == proto {
				return byte(stepHandlers + i)
			}
		}
		t.Fatalf("%s is not served", proto)
		return 0
	}
	send := func(proto string, from byte, m any) fuzzpeers.Step {
		return fuzzpeers.Step{Kind: kind(proto), From: from, Body: wire.MustMarshal(m)}
	}
	ref := wire.SlotRef{Workload: duelID(runs), Slot: 1, Fence: baseFence}
	other := wire.SlotRef{Workload: duelID(runs), Slot: 2, Fence: baseFence}
	results := func(slot wire.SlotRef, from int, results ...workload.TaskResult) wire.CloseMsg {
		return wire.CloseMsg{Ref: slot, Segment: wire.MustMarshal(workload.Segment{Workload: slot.Workload, Slot: slot.Slot, Node: fuzzpeers.ID(from), Results: results})}
	}
	task := uint32(2)
	offer := fuzzpeers.Step{Kind: stepOffer, From: asWorker, Body: wire.MustMarshal(duelOffer())}
	bid := fuzzpeers.Step{Kind: stepAnswer, Body: wire.MustMarshal(wire.CallAnswer{Bid: &workload.Signed{Payload: wire.MustMarshal(workload.Bid{Asks: []int64{3, 4}, HoldMs: 2000, HasMs: 9000})}})}
	decline := fuzzpeers.Step{Kind: stepAnswer, Body: wire.MustMarshal(wire.CallAnswer{Decline: &workload.Decline{Reasons: []workload.Reason{{Code: workload.NoCores, Want: 1}}}})}
	accepted := fuzzpeers.Step{Kind: stepAnswer, Body: wire.MustMarshal(wire.AwardAnswer{})}
	refused := fuzzpeers.Step{Kind: stepAnswer, Body: wire.MustMarshal(wire.AwardAnswer{Refused: []workload.SlotID{1, 2}, Reasons: []workload.Reason{{Code: workload.HoldGone}}})}
	second := fuzzpeers.Step{Kind: stepTime, Body: make([]byte, 4)}
	scripts = [][]fuzzpeers.Step{
		{send(wire.ProtoSubmit, asHome, wire.Submit{Spec: duelSpec('n', nil), Blobs: []workload.Ref{{Size: 10}}, Inline: []wire.Inline{{Data: []byte("in")}}})},
		{send(wire.ProtoSubmit, asHome, wire.Submit{Spec: baseSpecs()[runs]})},
		{send(wire.ProtoSubmit, asHome, wire.Submit{Spec: duelSpec('o', nil), Blobs: []workload.Ref{{Size: 1 << 62}, {Size: 1 << 62}, {Size: 3}}})},
		{send(wire.ProtoSubmit, asStranger, wire.Submit{Spec: duelSpec('n', func(s *workload.Spec) { s.Where = `arch == "amd64" && cores > 1` })}), second},
		{send(wire.ProtoTake, asWorker, wire.TakeMsg{Ref: ref, MicrosPerTask: 1000, Seq: 2}), send(wire.ProtoTake, asWorker, wire.TakeMsg{Ref: ref, Seq: 1})},
		{send(wire.ProtoReturn, asWorker, wire.ReturnMsg{Ref: ref, Ranges: []workload.Range{{From: 2, Count: 2, Attempt: 1}}})},
		{send(wire.ProtoClose, asWorker, results(ref, asWorker, workload.TaskResult{Index: 1, Attempt: 1, Exit: workload.Exited}, workload.TaskResult{Index: 2, Attempt: 1, Exit: workload.Exited, Code: 1}))},
		{send(wire.ProtoClose, asOther, results(other, asOther, workload.TaskResult{Index: 4, Attempt: 1, Exit: workload.NodeFault}))},
		{send(wire.ProtoDone, asWorker, wire.DoneMsg{Ref: ref}), send(wire.ProtoDone, asWorker, wire.DoneMsg{Ref: ref})},
		{second, send(wire.ProtoRenew, asWorker, wire.RenewMsg{Cell: duelCell, Slots: []wire.SlotRef{ref, {Slot: 9}}})},
		{send(wire.ProtoRenew, asOther, wire.RenewMsg{Cell: duelCell}), send(wire.ProtoRenew, asOther, wire.RenewMsg{Cell: duelCell, Disclaim: []wire.SlotRef{other, {Workload: duelID(runs), Slot: 3, Fence: baseFence}}})},
		{send(wire.ProtoStop, asHome, wire.StopMsg{ID: duelID(runs)}), send(wire.ProtoStop, asStranger, wire.StopMsg{ID: duelID(pending), Order: workload.Signed{Sig: []byte{1}}})},
		{send(wire.ProtoSuited, asStranger, wire.SuitedMsg{Shape: workload.DefaultResources(), Kind: workload.Process, Wanted: 3, Where: `arch == "amd64"`})},
		{offer, bid, bid, accepted, second, second},
		{offer, decline, second, second, {Kind: stepGone, From: asWorker}},
		{offer, bid, refused, second, second, second},
		{offer, bid, bid, accepted, second, send(wire.ProtoClose, asWorker, results(wire.SlotRef{Workload: duelID(pending), Slot: 1, Fence: baseFence}, asWorker, workload.TaskResult{Attempt: 1, Exit: workload.Exited})), second},
		{send(wire.ProtoRenew, asWorker, wire.RenewMsg{Cell: duelCell, Slots: []wire.SlotRef{{Slot: 9}}}), {Kind: stepTime, Body: make([]byte, 80)},
			send(wire.ProtoRenew, asWorker, wire.RenewMsg{Cell: duelCell, Slots: []wire.SlotRef{{Slot: 9}}}), second},
		{{Kind: stepTime, Body: make([]byte, 60)}},
	}
	for _, q := range []wire.QueryMsg{
		{Op: QueryInspect, ID: duelID(runs)}, {Op: QueryWait, ID: duelID(runs), Since: 1 << 40, TimeoutMs: 100}, {Op: QueryList, All: true},
		{Op: QueryList, Labels: map[string]string{"a": "b"}}, {Op: QueryResolve, Text: "runs"}, {Op: QueryWhy, ID: duelID(runs), Task: &task},
		{Op: QueryWhy, ID: duelID(waits)}, {Op: QueryPlaces, ID: duelID(runs), From: 1, Count: 9}, {Op: QuerySegments, ID: duelID(runs)},
		{Op: QueryOffers}, {Op: QueryStats}, {Op: "nonsense"},
	} {
		scripts = append(scripts, []fuzzpeers.Step{send(wire.ProtoQuery, asHome, q)})
	}
	return scripts
}

func duelOffer() workload.Offer {
	total := workload.Capacity{Cores: 4, Threads: 4, Memory: 8 << 30, Disk: 1 << 40, Slots: 8}
	return workload.Offer{
		Cell: duelCell, Seq: 1, ValidMs: 12_000, Free: total, Asks: workload.Asks{Core: 3, Memory: 1},
		Machine: workload.Machine{Name: "n", Arch: "amd64", OS: "linux", Total: total, SMT: 1, Kinds: []workload.Kind{workload.Process}},
	}
}
