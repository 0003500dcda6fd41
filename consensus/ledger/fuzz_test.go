package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// FuzzLog lets the fuzzer draw the commands of TestRandomLog: it finds its way
// into states by coverage where chance does not. What it leaves open is drawn
// from numbers that are the same in every run.
func FuzzLog(f *testing.F) {
	rest := make([]byte, 256<<10)
	rand.NewChaCha8([32]byte{}).Read(rest)
	for seed := range byte(4) {
		draws := make([]byte, 2<<10)
		rand.NewChaCha8([32]byte{seed + 1}).Read(draws)
		f.Add(draws)
	}
	check := rapid.MakeFuzz(checkRandomLog)
	f.Fuzz(func(t *testing.T, draws []byte) {
		check(t, slices.Concat(draws[:len(draws)&^7], rest))
	})
}

// wireRules read the encodings that a real ledger reads. A signature counts as
// good unless it says that it is not: the fuzzer cannot make one.
func wireRules() Rules {
	return Rules{
		OpenSpec: openWireSpec,
		OpenBid: func(signed workload.Signed) (bid workload.Bid, err error) {
			return bid, wire.Unmarshal(signed.Payload, &bid)
		},
		ReadSpec: func(payload []byte) (spec workload.Spec, err error) {
			return spec, wire.Unmarshal(payload, &spec)
		},
		Replay: replayTest,
		Charge: func(rate, ms int64) int64 { return rate * ms / 1000 },
	}
}

func openWireSpec(signed workload.Signed) (workload.Spec, error) {
	var spec workload.Spec
	if string(signed.Sig) == "forged" {
		return spec, fmt.Errorf("spec: %w", workload.ErrSignature)
	}
	if err := wire.Unmarshal(signed.Payload, &spec); err != nil {
		return spec, err
	}
	return spec, spec.Validate()
}

func wireSpec(owner, nonce string, edit func(*workload.Spec)) workload.Signed {
	spec := workload.DefaultSpec()
	spec.Mesh = testMesh
	spec.Program = workload.Program{Kind: workload.Process, Host: "true", Name: "true"}
	copy(spec.Nonce[:], nonce)
	if edit != nil {
		edit(&spec)
	}
	return workload.Signed{Payload: wire.MustMarshal(spec), By: peer(owner), Sig: []byte("good")}
}

// script is a short log that meets every kind of command. The bytes of the
// commands are a fuzzer's seed; applied, they are a ledger with something in
// every list.
func script() []*Command {
	fence := workload.Fence{Generation: 1, Epoch: 1}
	done := func(slot workload.SlotID, n uint64, r workload.Range) *Close {
		return &Close{Workload: loadID("w"), Slot: slot, Fence: fence, Segment: segmentRef(n), Done: []workload.Range{r}, Usage: workload.Usage{WallMs: 900}}
	}
	failed := done(1, 2, workload.Range{From: 1, Count: 1, Attempt: 1})
	failed.Failed = []FailedTask{{Index: 2, Attempt: 1, Exit: workload.Exited, Code: 3}, {Index: 3, Attempt: 1, Exit: workload.NodeFault}}
	award := awardTo(loadID("w"), 1, 8, 5, "n1", "n2", "far")
	for i := range award.Bids {
		award.Bids[i].Payload = wire.MustMarshal(workload.Bid{Auction: award.Auction, Node: award.Bids[i].By, Asks: []int64{5}})
	}
	award.Declines = []DeclineNote{{Node: peer("n3"), Reasons: []workload.Reason{{Code: workload.Draining}}}}
	return stamped([]*Command{
		{Genesis: &Genesis{Mesh: testMesh, Cell: testCell, Epoch: 1, MaxSize: 4}},
		{MemberAdd: &MemberAdd{Node: peer("n1"), Name: "n1", Addrs: []string{"/ip4/127.0.0.1/udp/1/quic-v1"}, Direct: true}},
		{MemberAdd: &MemberAdd{Node: peer("n2"), Name: "n2"}},
		{MemberAdd: &MemberAdd{Node: peer("n3"), Name: "n3"}},
		{MemberRemove: &MemberRemove{Node: peer("n3")}},
		{Quota: &Quota{Account: peer("bob"), Limit: 1_000_000}},
		{Accept: &Accept{ID: loadID("w"), Home: peer("n1"), Held: true, Spec: wireSpec("alice", "w", func(s *workload.Spec) { s.Tasks.Count, s.Retries = 50, 1 })}},
		{Accept: &Accept{ID: loadID("x"), Home: peer("n2"), Spec: wireSpec("bob", "x", func(s *workload.Spec) {
			s.After = []workload.After{{Workload: loadID("w"), Name: "in"}}
		})}},
		{Accept: &Accept{ID: loadID("y"), Home: peer("n2"), Spec: wireSpec("bob", "y", nil)}},
		{Award: award},
		{Refuse: &Refuse{Workload: loadID("w"), Slot: 3, Fence: fence, Reasons: []workload.Reason{{Code: workload.HoldGone}}}},
		{Close: done(1, 1, workload.Range{From: 0, Count: 1, Attempt: 1})},
		{Close: failed},
		{Take: &Take{Workload: loadID("w"), Slot: 2, Fence: fence, Count: 9, Seq: 1}},
		{Return: &Return{Workload: loadID("w"), Slot: 2, Fence: fence, Ranges: []workload.Range{{From: 8, Count: 2, Attempt: 1}}}},
		{Return: &Return{Workload: loadID("w"), Slot: 2, Fence: fence, Ranges: []workload.Range{{From: 10, Count: 1, Attempt: 1}}, Lost: true}},
		{Stop: &Stop{ID: loadID("y"), By: peer("bob")}},
		{Expire: &Expire{Node: peer("n1"), Epoch: 1}},
		{Release: &Release{Workload: loadID("w"), Slot: 2, Fence: fence}},
		{Compact: &Compact{}},
	})
}

func stamped(commands []*Command) []*Command {
	for i, c := range commands {
		c.Version, c.At, c.Leader = CommandVersion, int64(100*(i+1)), peer("leader")
	}
	return commands
}

// join and split are how a fuzzer's bytes hold many encodings: each with two
// bytes of length before it.
func join(parts ...[]byte) (out []byte) {
	for _, p := range parts {
		out = append(binary.BigEndian.AppendUint16(out, uint16(len(p))), p...)
	}
	return out
}

func split(data []byte, most int) (parts [][]byte) {
	for len(data) > 2 && len(parts) < most {
		n := min(int(binary.BigEndian.Uint16(data)), len(data)-2)
		parts = append(parts, data[2:2+n])
		data = data[2+n:]
	}
	return parts
}

func encoded(commands []*Command) (out [][]byte) {
	for _, c := range commands {
		out = append(out, wire.MustMarshal(c))
	}
	return out
}

// restored is the ledger that the first n commands of script make, through its
// encoding.
func restored(t failer, snap []byte) *State {
	t.Helper()
	s, err := Restore(wireRules(), decodeSnapshot(t, snap))
	if err != nil {
		t.Errorf("a ledger's own snapshot: %v", err)
	}
	return s
}

func decodeSnapshot(t failer, raw []byte) *Snapshot {
	t.Helper()
	snap := new(Snapshot)
	if err := wire.UnmarshalBulk(raw, snap); err != nil {
		t.Errorf("a ledger's own snapshot: %v", err)
	}
	return snap
}

func built(n int) *State {
	s := New(wireRules())
	for i, c := range script()[:n] {
		s.Apply(uint64(i+1), c, nil)
	}
	return s
}

// FuzzCommands applies a log of arbitrary bytes, entry by entry, to an empty
// ledger, or to one with something in every list, and to a replica. After each
// entry the ledger's counts hold, and what was rejected has changed nothing. In
// the end the replica agrees, and so does the ledger's own snapshot.
func FuzzCommands(f *testing.F) {
	for i, raw := range encoded(script()) {
		f.Add(uint8(i), join(raw))
	}
	f.Add(uint8(0), join(encoded(script())...))
	const most = 32
	snaps := map[int][]byte{}
	for n := range len(script()) + 1 {
		snaps[n] = wire.MustMarshal(built(n).Snapshot())
	}
	f.Fuzz(func(t *testing.T, begin uint8, log []byte) {
		snap := snaps[int(begin)%len(snaps)]
		s, replica := restored(t, snap), restored(t, snap)
		index, _ := s.Head()
		for _, raw := range split(log, most) {
			index++
			applyBoth(t, s, replica, index, raw)
			if t.Failed() {
				return
			}
		}
		if s.Hash() != replica.Hash() {
			t.Error("the replicas differ")
		}
		again := restored(t, wire.MustMarshal(s.Snapshot()))
		again.checkInvariants(t)
		if s.Hash() != again.Hash() {
			t.Error("the ledger differs from its snapshot")
		}
	})
}

func applyBoth(t *testing.T, s, replica *State, index uint64, raw []byte) {
	before := digest(blank(s.Snapshot()))
	r := s.Apply(index, decoded(raw), raw)
	if r2 := replica.Apply(index, decoded(raw), raw); describe(r) != describe(r2) {
		t.Errorf("the replicas answer %q and %q", describe(r), describe(r2))
	}
	if r.Reject != nil && digest(blank(s.Snapshot())) != before {
		t.Errorf("rejected and changed: %v", r.Reject)
	}
	s.checkInvariants(t)
	s.lookEverywhere(t)
}

func decoded(raw []byte) *Command {
	c := new(Command)
	if wire.Unmarshal(raw, c) != nil {
		return nil
	}
	return c
}

// lookEverywhere asks every question that the ledger answers.
func (s *State) lookEverywhere(t failer) {
	t.Helper()
	lots := 0
	for range s.Lots(0) {
		lots++
	}
	if lots != s.Stats().Lots {
		t.Errorf("%d lots, counted %d", lots, s.Stats().Lots)
	}
	for v := range s.List(Filter{}) {
		if c := v.Tasks; c.Open+c.Taken+c.Done+c.Failed != c.Total {
			t.Errorf("%s: tasks %+v", loadName(v.ID), c)
		}
		for _, i := range []uint32{0, v.Tasks.Total / 2, v.Tasks.Total - 1} {
			if w, ok := s.WhyTask(v.ID, i); !ok || w.Task.Index != i {
				t.Errorf("%s: nothing is known of task %d", loadName(v.ID), i)
			}
		}
		s.Lot(v.ID)
		s.Segments(v.ID)
	}
	s.Nodes()
}

// FuzzRestore reads arbitrary bytes as a snapshot, which comes from another
// voter or the disk. One that is taken must be whole enough to go on from: it
// answers questions, takes commands, and its own snapshot is taken again.
func FuzzRestore(f *testing.F) {
	for n := range len(script()) + 1 {
		f.Add(wire.MustMarshal(built(n).Snapshot()))
	}
	commands := encoded(script())
	f.Fuzz(func(t *testing.T, raw []byte) {
		snap := new(Snapshot)
		if wire.UnmarshalBulk(raw, snap) != nil {
			return
		}
		s, err := Restore(wireRules(), snap)
		if err != nil {
			if !errors.Is(err, ErrSnapshot) {
				t.Errorf("%v, want ErrSnapshot", err)
			}
			return
		}
		s.lookEverywhere(t)
		s.Why(loadID("w"))
		for _, raw := range commands[1:] {
			s.Apply(s.index+1, decoded(raw), raw)
		}
		s.lookEverywhere(t)
	})
}
