package leader

import (
	"crypto/ed25519"
	"slices"
	"testing"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/fuzzpeers"
	"github.com/perrin-mesh/perrin/workload"
)

// TestWhatJudgesIsSigned has a leader, and others, propose what nobody else has signed:
// a replica applies it only as the leader signed it, for this cell and this term.
func TestWhatJudgesIsSigned(t *testing.T) {
	const term = 3
	memo := workload.NewMemo()
	rules := duelRules(memo)
	rules.Proposed = func(cell workload.CellID, c *ledger.Command, raw []byte) error { return Proposed(memo, cell, c, raw) }
	state := ledger.New(rules)
	apply := func(entry []byte) *ledger.Reject {
		cmd, err := OpenCommand(entry)
		if err != nil {
			cmd = nil
		}
		index, _ := state.Head()
		return state.ApplyIn(term, index+1, cmd, entry).Reject
	}
	seal := func(by int, cell workload.CellID, c *ledger.Command) []byte {
		c.Version = ledger.CommandVersion
		entry, err := SealCommand(memo, fuzzpeers.Key(by), cell, c)
		if err != nil {
			t.Fatal(err)
		}
		return entry
	}
	add := func(n, leader int) *ledger.Command {
		return &ledger.Command{Leader: fuzzpeers.ID(leader), Term: term, MemberAdd: &ledger.MemberAdd{Node: fuzzpeers.ID(n), Name: "n"}}
	}
	for _, entry := range [][]byte{
		seal(asLeader, duelCell, &ledger.Command{Genesis: &ledger.Genesis{Mesh: duelMesh, Cell: duelCell, Epoch: 1, MaxSize: 8}}),
		seal(asLeader, duelCell, add(asLeader, asLeader)),
		seal(asLeader, duelCell, add(asWorker, asLeader)),
	} {
		if rej := apply(entry); rej != nil {
			t.Fatal(rej)
		}
	}
	good := seal(asLeader, duelCell, add(asOther, asLeader))
	end := len(good) - ed25519.SignatureSize
	later := add(asOther, asLeader)
	later.Term++
	for name, x := range map[string]struct {
		entry []byte
		want  ledger.Code
	}{
		"without a signature":     {good[:end], ledger.Malformed},
		"with half of one":        {good[:end+32], ledger.Malformed},
		"with more than one":      {append(slices.Clone(good), 0), ledger.Malformed},
		"signed by another":       {seal(asWorker, duelCell, add(asOther, asLeader)), ledger.NotProposed},
		"signed by a non-member":  {seal(asStranger, duelCell, add(asOther, asStranger)), ledger.NotProposed},
		"signed for another cell": {seal(asLeader, workload.CellID{9}, add(asOther, asLeader)), ledger.NotProposed},
		"of another term":         {seal(asLeader, duelCell, later), ledger.StaleTerm},
		"one byte changed":        {changed(good, end-1), ledger.StaleTerm},
		"another name":            {changed(good, slices.Index(good, 'n')), ledger.NotProposed},
		"its signature changed":   {changed(good, end), ledger.NotProposed},
		"a release with a signature": {append(seal(asLeader, duelCell, &ledger.Command{Release: &ledger.Release{Slot: 1}}),
			good[end:]...), ledger.Malformed},
	} {
		rej := apply(x.entry)
		if rej == nil || rej.Code != x.want {
			t.Errorf("%s: %v, want %s", name, rej, x.want)
		}
		if len(state.Members()) != 2 {
			t.Fatalf("%s: it was applied", name)
		}
	}
	if rej := apply(good); rej != nil || len(state.Members()) != 3 {
		t.Errorf("as its leader signed it: %v", rej)
	}
}

func changed(entry []byte, at int) []byte {
	out := slices.Clone(entry)
	out[at] ^= 1
	return out
}

// TestWhoAnswersForWhat holds that the leader signs whatever carries nobody else's
// signature, but for what only moves tasks of a slot.
func TestWhoAnswersForWhat(t *testing.T) {
	for _, c := range []*ledger.Command{
		{Award: &ledger.Award{}}, {Refuse: &ledger.Refuse{}}, {Return: &ledger.Return{}}, {Expire: &ledger.Expire{}}, {Stop: &ledger.Stop{}},
		{MemberAdd: &ledger.MemberAdd{}}, {MemberRemove: &ledger.MemberRemove{}}, {Compact: &ledger.Compact{}},
		{Draw: &ledger.Draw{Note: "its owner is off"}},
	} {
		entry, err := SealCommand(nil, fuzzpeers.Key(asLeader), duelCell, c)
		if err != nil || !c.Judges() || len(entry) != len(wire.MustMarshal(c))+ed25519.SignatureSize {
			t.Errorf("%s is not signed: %v", wire.MustMarshal(c), err)
		}
	}
	for _, c := range []*ledger.Command{
		{Genesis: &ledger.Genesis{}}, {Accept: &ledger.Accept{}}, {Close: &ledger.Close{}}, {Quota: &ledger.Quota{}},
		{Take: &ledger.Take{}}, {Release: &ledger.Release{}}, {Draw: &ledger.Draw{Sig: []byte{1}}},
	} {
		if entry, err := SealCommand(nil, nil, duelCell, c); err != nil || c.Judges() || len(entry) != len(wire.MustMarshal(c)) {
			t.Errorf("%x is signed: %v", entry, err)
		}
	}
}

func FuzzOpenCommand(f *testing.F) {
	for _, c := range []*ledger.Command{
		{Version: 1, Release: &ledger.Release{Slot: 1}},
		{Version: 1, Term: 2, Seen: &ledger.Seen{Index: 3}, Expire: &ledger.Expire{Epoch: 1}},
	} {
		entry, err := SealCommand(nil, fuzzpeers.Key(asLeader), duelCell, c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(entry)
	}
	f.Fuzz(func(t *testing.T, entry []byte) {
		c, err := OpenCommand(entry)
		if err != nil {
			return
		}
		_ = Proposed(nil, duelCell, c, entry)
		again, err := SealCommand(nil, fuzzpeers.Key(asLeader), duelCell, c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := OpenCommand(again); err != nil {
			t.Errorf("taken once, refused again: %v", err)
		}
	})
}

// BenchmarkProposed is what signing an entry of one small award costs the leader, and
// checking it a follower.
func BenchmarkProposed(b *testing.B) {
	bids := make([]workload.Signed, 3)
	for i := range bids {
		bids[i] = workload.Signed{Payload: make([]byte, 200), Sig: make([]byte, ed25519.SignatureSize)}
	}
	c := &ledger.Command{Version: 1, Leader: fuzzpeers.ID(asLeader), Term: 1, Seen: &ledger.Seen{}, Award: &ledger.Award{Bids: bids}}
	entry, err := SealCommand(nil, fuzzpeers.Key(asLeader), duelCell, c)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("leader", func(b *testing.B) {
		for b.Loop() {
			if _, err := SealCommand(nil, fuzzpeers.Key(asLeader), duelCell, c); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("follower", func(b *testing.B) {
		for b.Loop() {
			if err := Proposed(nil, duelCell, c, entry); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// TestALeaderJoinsItsCell has a cell get members of which none leads, by a race or by a
// malicious leader. Whoever leads next makes itself a member and goes on.
func TestALeaderJoinsItsCell(t *testing.T) {
	const term = 2
	add := func(n, by int) *ledger.Command {
		return &ledger.Command{Leader: fuzzpeers.ID(by), MemberAdd: &ledger.MemberAdd{Node: fuzzpeers.ID(n), Name: "n"}}
	}
	remove := func(n, by int) *ledger.Command {
		return &ledger.Command{Leader: fuzzpeers.ID(by), MemberRemove: &ledger.MemberRemove{Node: fuzzpeers.ID(n)}}
	}
	type step struct {
		by   int
		c    *ledger.Command
		want ledger.Code
	}
	for name, log := range map[string][]step{
		"another came first": {
			{asLeader, add(asOther, asLeader), ""},
			{asLeader, remove(asOther, asLeader), ledger.NotProposed},
			{asOther, add(asLeader, asLeader), ledger.NotProposed}, // not signed by who it names
			{asLeader, add(asLeader, asLeader), ""},
			{asLeader, remove(asOther, asLeader), ""},
			{asLeader, remove(asLeader, asLeader), ledger.LastMember},
		},
		"a leader put all others out": {
			{asLeader, add(asLeader, asLeader), ""},
			{asLeader, add(asWorker, asLeader), ""},
			{asLeader, remove(asWorker, asLeader), ""},
			{asWorker, add(asOther, asWorker), ledger.NotProposed},
			{asWorker, add(asWorker, asWorker), ""},
			{asWorker, remove(asLeader, asWorker), ""},
		},
	} {
		rules := duelRules(nil)
		rules.Proposed = func(cell workload.CellID, c *ledger.Command, raw []byte) error { return Proposed(nil, cell, c, raw) }
		state := ledger.New(rules)
		genesis := step{asLeader, &ledger.Command{Genesis: &ledger.Genesis{Mesh: duelMesh, Cell: duelCell, Epoch: 1, MaxSize: 8}}, ""}
		for i, x := range append([]step{genesis}, log...) {
			x.c.Version, x.c.Term = ledger.CommandVersion, term
			entry, err := SealCommand(nil, fuzzpeers.Key(x.by), duelCell, x.c)
			if err != nil {
				t.Fatal(err)
			}
			cmd, err := OpenCommand(entry)
			if err != nil {
				t.Fatal(err)
			}
			code := ledger.Code("")
			if rej := state.ApplyIn(term, uint64(i+1), cmd, entry).Reject; rej != nil {
				code = rej.Code
			}
			if code != x.want {
				t.Errorf("%s: step %d: %q, want %q", name, i, code, x.want)
			}
		}
	}
}
