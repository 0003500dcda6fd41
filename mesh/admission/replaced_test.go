package admission

import (
	"errors"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// rotated is an operator's office that has let a new key take nodeKey's place at epoch.
func rotated(t *testing.T) (o office, b Bundle) {
	t.Helper()
	o = newOffice(t, operatorKey)
	b, err := o.succeed(t, seeded(5), Successor(nodeKey, goodBundle(t), idOf(seeded(5))), epoch)
	if err != nil {
		t.Fatal(err)
	}
	return o, b
}

// TestDenyingAnOldKeyDoesNotBringItBack: whatever an operator says of a key that was
// changed, it stays out, and its successor is known.
func TestDenyingAnOldKeyDoesNotBringItBack(t *testing.T) {
	o, b := rotated(t)
	at := epoch.Add(time.Hour)
	doc, err := o.issuer.Deny(Denial{Peer: idOf(nodeKey), Until: at.Add(time.Hour).UnixMilli()}, at)
	if err != nil {
		t.Fatal(err)
	}
	merge(t, o.trust, at, doc)
	if _, err := o.issuer.Deny(Denial{Peer: idOf(nodeKey), Lift: true}, at); !errors.Is(err, ErrReplaced) {
		t.Errorf("lifted: %v", err)
	}
	late := at.Add(3 * time.Hour)
	if _, err := o.trust.Verify(goodBundle(t), idOf(nodeKey), late); !errors.Is(err, ErrDenied) {
		t.Errorf("the old key: %v", err)
	}
	if _, err := o.trust.Verify(b, idOf(seeded(5)), late); err != nil {
		t.Errorf("the new key: %v", err)
	}
	if o.trust.Successor(idOf(nodeKey), late) != idOf(seeded(5)) || len(o.trust.Predecessors(late)) != 1 {
		t.Error("who it was before is forgotten")
	}
	thief := seeded(6)
	if _, err := o.succeed(t, thief, Successor(nodeKey, goodBundle(t), idOf(thief)), late); !errors.Is(err, ErrDenied) {
		t.Errorf("a stolen old key rotates once more: %v", err)
	}
	if _, err := o.succeed(t, thief, Successor(seeded(5), b, idOf(thief)), late); !errors.Is(err, ErrRotated) {
		t.Errorf("the day in which it keeps its key is forgotten: %v", err)
	}
}

// TestDeniedNodeDoesNotEscapeByANewKey: an operator that has not heard of a denial lets
// the node's next keys in; they are out as soon as it hears, whatever order it hears in.
func TestDeniedNodeDoesNotEscapeByANewKey(t *testing.T) {
	o, b := rotated(t)
	day := epoch.Add(RotateEvery)
	b, err := o.issuer.Admit(idOf(seeded(5)), Renewal(b), day.Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	last, err := o.succeed(t, seeded(6), Successor(seeded(5), b, idOf(seeded(6))), day)
	if err != nil {
		t.Fatal(err)
	}
	other := newOffice(t, seeded(40))
	late, err := other.issuer.Deny(Denial{Peer: idOf(nodeKey)}, epoch.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	early, err := other.issuer.Deny(Denial{Peer: idOf(nodeKey)}, epoch.Add(-time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	now := day.Add(time.Minute)
	merge(t, o.trust, now, late)
	if _, err := o.trust.Verify(last, idOf(seeded(6)), now); err != nil {
		t.Errorf("out by what was said of an old key after the change: %v", err)
	}

	o.trust.denials.put(must(openDenial(early, idOf(rootKey))))
	for _, key := range []workload.PeerID{idOf(nodeKey), idOf(seeded(5)), idOf(seeded(6))} {
		if err := o.trust.Denied(key, now); !errors.Is(err, ErrDenied) {
			t.Errorf("%s of a node that was denied before: %v", key.Short(), err)
		}
	}
	if _, err := o.issuer.Admit(idOf(seeded(6)), Renewal(last), now); !errors.Is(err, ErrDenied) {
		t.Errorf("it renews: %v", err)
	}
}

func must(h *held, err error) *held {
	if err != nil {
		panic(err)
	}
	return h
}

// TestOperatorsWordAloneIsNoSuccession: without the old key's own word nobody believes
// that another one took its place, and an operator's node stays in whatever is said.
func TestOperatorsWordAloneIsNoSuccession(t *testing.T) {
	o, b := rotated(t)
	evil := seeded(41)
	cert, err := IssueOperator(rootKey, idOf(evil), "evil", epoch)
	if err != nil {
		t.Fatal(err)
	}
	own := Successor(nodeKey, goodBundle(t), idOf(seeded(5))).Succession
	others := Successor(seeded(42), goodBundle(t), idOf(seeded(43))).Succession
	for name, d := range map[string]Denial{
		"nothing signed":           {Successor: idOf(seeded(43))},
		"another key's word":       {Successor: idOf(seeded(43)), Succession: others},
		"its word for another":     {Successor: idOf(seeded(43)), Succession: own},
		"its word, and no key":     {Succession: own},
		"its word, lifted":         {Successor: idOf(seeded(5)), Succession: own, Lift: true},
		"a change that is to come": {Successor: idOf(seeded(5)), Succession: own, Since: epoch.Add(time.Hour).UnixMilli()},
	} {
		d.Mesh, d.Peer, d.Seq, d.At = testMesh, idOf(nodeKey), 1, epoch.UnixMilli()
		doc, err := signDenial(evil, cert, d)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := OpenSuccessor(testMesh, wire.MustMarshal(doc)); !errors.Is(err, ErrForged) {
			t.Errorf("%s: the ledger: %v", name, err)
		}
		if _, err := o.trust.Merge(Statements{Denials: []SignedDenial{doc}}, epoch); !errors.Is(err, ErrForged) {
			t.Errorf("%s: a node: %v", name, err)
		}
	}

	// A thief with the old key and an operator's says that it was first.
	d := Denial{Mesh: testMesh, Peer: idOf(nodeKey), Seq: 1, At: epoch.Add(-time.Minute).UnixMilli(), Successor: idOf(seeded(6)), Succession: Successor(nodeKey, goodBundle(t), idOf(seeded(6))).Succession}
	doc, err := signDenial(evil, cert, d)
	if err != nil {
		t.Fatal(err)
	}
	mergeCharter(t, o.trust, Charter{}.With(Operator{Key: idOf(operatorKey), Node: idOf(seeded(5)), Name: "op", Since: epoch.UnixMilli()}, epoch).With(Operator{Key: idOf(evil), Node: idOf(seeded(44)), Name: "evil", Since: epoch.UnixMilli()}, epoch), epoch)
	merge(t, o.trust, epoch, doc)
	if _, err := o.trust.Verify(b, idOf(seeded(5)), epoch); err != nil {
		t.Errorf("the key that an operator's node has: %v", err)
	}
}

// TestNodesThatChangeKeysOftenLeaveRoomForOthers: half of the list is for nodes that
// change theirs for the first time.
func TestNodesThatChangeKeysOftenLeaveRoomForOthers(t *testing.T) {
	o, _ := rotated(t)
	for n := range MaxSuccessions/2 - 1 {
		var p workload.PeerID
		p[0], p[1], p[2] = 1, byte(n), byte(n>>8)
		o.trust.denials.put(&held{Denial: Denial{Peer: p, At: epoch.UnixMilli(), Successor: idOf(seeded(9))}, by: idOf(operatorKey)})
	}
	at := epoch.Add(RotateEvery)
	if _, err := o.trust.maySucceed(Succession{Old: idOf(seeded(5)), New: idOf(seeded(6))}, at); !errors.Is(err, ErrTooMany) {
		t.Errorf("again: %v", err)
	}
	if _, err := o.trust.maySucceed(Succession{Old: idOf(seeded(7)), New: idOf(seeded(6))}, at); err != nil {
		t.Errorf("for the first time: %v", err)
	}
	if _, err := o.trust.maySucceed(Succession{Old: idOf(seeded(7)), New: idOf(seeded(9))}, at); !errors.Is(err, ErrReplaced) {
		t.Errorf("a key that took another's place already: %v", err)
	}
}

// TestOperatorTakesOverWhatWasSaidOfOldKeys: what one that leaves said of a change counts
// on as it was, with its time.
func TestOperatorTakesOverWhatWasSaidOfOldKeys(t *testing.T) {
	o, _ := rotated(t)
	heir := newOffice(t, seeded(40))
	heir.issuer.Heed(o.trust)
	at := epoch.Add(time.Hour)
	doc, err := heir.issuer.Deny(Denial{Peer: idOf(nodeKey)}, at)
	if err != nil {
		t.Fatal(err)
	}
	merge(t, o.trust, at, doc)
	docs, err := heir.issuer.Adopt(idOf(operatorKey), at)
	if err != nil || len(docs) != 1 {
		t.Fatalf("%d, %v", len(docs), err)
	}
	h := must(openDenial(docs[0], idOf(rootKey)))
	if h.Successor != idOf(seeded(5)) || h.since() != epoch.UnixMilli() || h.Until != 0 {
		t.Errorf("%+v", h.Denial)
	}
	merge(t, o.trust, at, docs...)
	if docs, err := heir.issuer.Adopt(idOf(operatorKey), at); err != nil || len(docs) != 0 {
		t.Errorf("again: %d, %v", len(docs), err)
	}
}
