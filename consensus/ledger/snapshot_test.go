package ledger

import (
	"errors"
	"reflect"
	"testing"

	"github.com/perrin-mesh/perrin/workload"
)

// busyWorld is a ledger with something in every list.
func busyWorld(t testing.TB) *world {
	w := newWorld()
	w.found(t, "n1", "n2")
	w.accept("w", "alice", func(s *workload.Spec) { s.Tasks.Count, s.Retries = 50, 1 })
	w.accept("x", "bob", func(s *workload.Spec) { s.After = []workload.After{{Workload: loadID("w"), Name: "w"}} })
	w.accept("y", "bob", nil)
	w.apply(func(c *Command) { c.Award = awardTo(loadID("w"), 1, 8, 5, "n1", "n2", "far") })
	w.apply(func(c *Command) {
		c.Close = &Close{
			Workload: loadID("w"), Slot: 1, Fence: workload.Fence{Generation: 1, Epoch: 1}, Segment: segmentRef(1),
			Done: []workload.Range{{From: 0, Count: 3, Attempt: 1}}, Usage: workload.Usage{WallMs: 900},
			Failed: []FailedTask{{Index: 3, Attempt: 1, Exit: workload.Exited, Code: 2}},
		}
	})
	w.apply(func(c *Command) { c.Expire = &Expire{Node: peer("n2"), Epoch: 1} })
	w.apply(func(c *Command) { c.Expire = &Expire{Node: peer("n2"), Epoch: 1} })
	w.apply(func(c *Command) { c.Stop = &Stop{ID: loadID("y"), By: peer("bob")} })
	return w
}

func TestSnapshotSharesNothingThatChanges(t *testing.T) {
	w := busyWorld(t)
	snap := w.Snapshot()
	before := digest(snap)
	w.apply(func(c *Command) { c.MemberAdd = &MemberAdd{Node: peer("n1"), Name: "renamed"} })
	w.apply(func(c *Command) {
		c.Close = &Close{
			Workload: loadID("w"), Slot: 1, Fence: workload.Fence{Generation: 1, Epoch: 1}, Segment: segmentRef(2),
			Done: []workload.Range{{From: 4, Count: 4, Attempt: 1}}, Usage: workload.Usage{WallMs: 900},
		}
	})
	w.apply(func(c *Command) { c.Stop = &Stop{ID: loadID("w"), By: peer("alice")} })
	if digest(snap) != before {
		t.Error("applying commands changed a snapshot that was taken before")
	}
	if w.Hash() == before {
		t.Error("applying commands did not change the hash")
	}
}

func TestRestoredLedgerGoesOnAlike(t *testing.T) {
	w := busyWorld(t)
	s, err := Restore(testRules(), reencode(t, w.Snapshot()))
	if err != nil {
		t.Fatal(err)
	}
	twin := &world{State: s, index: w.index, at: w.at}
	for _, set := range []func(*Command){
		func(c *Command) { c.Award = awardTo(loadID("w"), 1, 8, 5, "n1") },
		func(c *Command) { c.Award = awardTo(loadID("w"), 2, 8, 5, "n1", "n2") },
		func(c *Command) {
			c.Take = &Take{Workload: loadID("w"), Slot: 4, Fence: workload.Fence{Generation: 1, Epoch: 1}, Count: 9}
		},
		func(c *Command) { c.Stop = &Stop{ID: loadID("w"), By: peer("alice")} },
	} {
		if a, b := describe(w.apply(set)), describe(twin.apply(set)); a != b {
			t.Errorf("%s\nafter Restore: %s", a, b)
		}
	}
	if w.Hash() != twin.Hash() {
		t.Error("the hashes differ")
	}
	twin.checkInvariants(t)
}

func TestRestoreRefusesWhatDoesNotHoldTogether(t *testing.T) {
	for name, spoil := range map[string]func(*Snapshot){
		"newer version":         func(s *Snapshot) { s.Version++ },
		"a task too few":        func(s *Snapshot) { s.Records[0].Fresh[0].Count-- },
		"a task too many":       func(s *Snapshot) { s.Records[0].Done[0].Count++ },
		"no spec":               func(s *Snapshot) { s.Records[0].Spec, s.Records[0].Signed.Payload = nil, nil },
		"tomb of one not ended": func(s *Snapshot) { s.Tombs = []Tomb{{ID: s.Records[0].ID, Phase: workload.Stopped}} },
		"tomb of the future":    func(s *Snapshot) { s.Tombs = []Tomb{{EndSeq: s.NextEnd, Phase: workload.Stopped}} },
		"a workload twice":      func(s *Snapshot) { s.Records = append(s.Records, s.Records[0]) },
		"a slot twice":          func(s *Snapshot) { s.Records[0].Slots[1] = s.Records[0].Slots[0] },
		"a slot on no node":     func(s *Snapshot) { s.Leases = nil },
		"a slot of no tally":    func(s *Snapshot) { s.Records[0].Tallies = nil },
		"waiting for nothing":   func(s *Snapshot) { s.Records = s.Records[1:] },
		"number not yet given":  func(s *Snapshot) { s.NextSeq = 2 },
		"member without lease":  func(s *Snapshot) { s.Members[0].Node = peer("nobody") },
		"runs out of order":     func(s *Snapshot) { s.Records[0].Done[0].From = 49 },
		"slot out of order":     func(s *Snapshot) { s.Records[0].Slots[0].Open[0].Count, s.Records[0].Done[0].Count = 0, 7 },
		"winners of no auction": func(s *Snapshot) { s.Records[0].Auctions[0].Slots = nil },
		"bids without a score":  func(s *Snapshot) { s.Records[0].Auctions[0].Scores = nil },
		"phase that is no word": func(s *Snapshot) { s.Records[0].Phase = "dancing" },
	} {
		snap := busyWorld(t).Snapshot()
		spoil(snap)
		if _, err := Restore(testRules(), snap); !errors.Is(err, ErrSnapshot) {
			t.Errorf("%s: %v, want ErrSnapshot", name, err)
		}
	}
}

// TestFieldsAreNumberedAndBounded holds the two rules for everything that is
// encoded: a stable number of its own for each field, and a bound for each
// field of variable length.
func TestFieldsAreNumberedAndBounded(t *testing.T) {
	seen := map[reflect.Type]bool{}
	var walk func(rt reflect.Type)
	walk = func(rt reflect.Type) {
		for rt.Kind() == reflect.Pointer || rt.Kind() == reflect.Slice || rt.Kind() == reflect.Array {
			rt = rt.Elem()
		}
		if rt.Kind() != reflect.Struct || seen[rt] {
			return
		}
		seen[rt] = true
		numbers := map[string]bool{}
		for i := range rt.NumField() {
			f := rt.Field(i)
			tag := f.Tag.Get("cbor")
			if tag == "-" {
				continue
			}
			if tag == "" || numbers[tag] {
				t.Errorf("%s.%s: cbor tag %q", rt, f.Name, tag)
			}
			numbers[tag] = true
			switch f.Type.Kind() {
			case reflect.Slice, reflect.String, reflect.Map:
				if f.Tag.Get("max") == "" {
					t.Errorf("%s.%s has no bound", rt, f.Name)
				}
			}
			walk(f.Type)
		}
	}
	walk(reflect.TypeFor[Command]())
	walk(reflect.TypeFor[Snapshot]())
	if len(seen) < 25 {
		t.Errorf("walked only %d types", len(seen))
	}
}

func TestHashChainCoversEveryEntry(t *testing.T) {
	a, b := New(testRules()), New(testRules())
	a.Apply(1, nil, []byte("one"))
	b.Apply(1, nil, []byte("another"))
	_, headA := a.Head()
	if _, headB := b.Head(); headA == headB {
		t.Error("two entries, one head")
	}
	b = New(testRules())
	b.Apply(2, nil, []byte("one"))
	if _, headB := b.Head(); headA == headB {
		t.Error("two indexes, one head")
	}
	// Servers that a leader sends one entry in two terms, of which one refuses it,
	// cannot pass for agreeing.
	b = New(testRules())
	b.ApplyIn(1, 1, nil, []byte("one"))
	if _, headB := b.Head(); headA == headB {
		t.Error("two terms, one head")
	}
	want := workload.DigestOf(append(make([]byte, 32), "\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00one"...))
	if headA != want {
		t.Errorf("head %s, want %s", headA, want)
	}
}

func TestCommandsThatAreNone(t *testing.T) {
	for name, c := range map[string]*Command{
		"empty":         {Version: 1},
		"two in one":    {Version: 1, Compact: &Compact{}, Quota: &Quota{}},
		"version 0":     {Compact: &Compact{}},
		"newer version": {Version: CommandVersion + 1, Compact: &Compact{}},
	} {
		w := newWorld()
		w.found(t)
		want := Malformed
		if name == "newer version" {
			want = NewerVersion
		}
		if r := w.Apply(9, c, nil); r.Reject == nil || r.Reject.Code != want || r.Err() == nil {
			t.Errorf("%s: %v, want %s", name, r.Reject, want)
		}
	}
}

func TestTimeNeverGoesBack(t *testing.T) {
	w := newWorld()
	w.at = 5000
	w.found(t)
	w.at = 10
	r := w.apply(func(c *Command) { c.MemberAdd = &MemberAdd{Node: peer("n"), Name: "n"} })
	if m, _ := w.Member(peer("n")); r.At != 5100 || m.Since != 5100 || w.Time() != 5100 {
		t.Errorf("at %d, since %d, time %d, want 5100", r.At, m.Since, w.Time())
	}
	w.at = 90_000
	if r := w.apply(func(c *Command) { c.Compact, c.Quota = &Compact{}, &Quota{} }); r.At != 5100 || w.Time() != 5100 {
		t.Errorf("a rejected command moved the time to %d", w.Time())
	}
}
