package admission

import (
	"errors"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/workload"
)

// otherKey is a second operator's.
var otherKey = seeded(77)

func otherCert(t testing.TB) workload.Signed {
	t.Helper()
	cert, err := IssueOperator(rootKey, idOf(otherKey), "other", epoch)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func otherDenies(t testing.TB, tr *Trust, d Denial) SignedDenial {
	t.Helper()
	doc, err := tr.Deny(otherKey, otherCert(t), d, epoch)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func mergeCharter(t testing.TB, tr *Trust, c Charter, now time.Time) {
	t.Helper()
	signed, err := SignCharter(rootKey, c, epoch)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tr.Merge(Statements{Charter: &signed}, now); err != nil {
		t.Fatal(err)
	}
}

func TestOneOperatorDoesNotLiftAnothersDenial(t *testing.T) {
	a, b := newTrust(t), newTrust(t)
	node := idOf(nodeKey)
	ours := denialOf(t, a, Denial{Peer: node, Until: epoch.Add(time.Hour).UnixMilli()}, epoch)
	theirs := otherDenies(t, a, Denial{Peer: node, Reason: "stolen"})
	merge(t, a, epoch, ours)
	if _, err := a.Deny(otherKey, otherCert(t), Denial{Peer: node, Lift: true}, epoch); !errors.Is(err, ErrOthersDenial) {
		t.Errorf("what only another operator denies is lifted: %v", err)
	}
	merge(t, a, epoch, theirs)
	lift := denialOf(t, a, Denial{Peer: node, Lift: true}, epoch)
	merge(t, a, epoch, lift)
	if list := a.List(epoch); a.Denied(node, epoch) == nil || len(list) != 1 || list[0].By != idOf(otherKey) || list[0].Reason != "stolen" {
		t.Errorf("after the lift of one of two denials: %+v", list)
	}
	merge(t, b, epoch, lift, theirs)
	merge(t, b, epoch, ours)
	if a.Digest(epoch) != b.Digest(epoch) {
		t.Error("two nodes that heard the same in another order differ")
	}
	mergeCharter(t, a, Charter{}.Without(idOf(otherKey), epoch), epoch)
	if a.Denied(node, epoch) != nil {
		t.Error("the denial of a removed operator counts")
	}
	mergeCharter(t, b, Charter{}.Without(idOf(otherKey), epoch), epoch)
	if a.Digest(epoch) != b.Digest(epoch) || len(a.All(epoch).Denials) != 1 {
		t.Error("what a removed operator said is still handed on")
	}
}

func TestNumbersThatWouldEndTheListAreRefused(t *testing.T) {
	tr := newTrust(t)
	last, err := signDenial(operatorKey, operatorCert(t), Denial{Mesh: testMesh, Peer: idOf(nodeKey), Seq: maxSeq, At: epoch.UnixMilli()})
	if err != nil {
		t.Fatal(err)
	}
	beyond, err := signDenial(operatorKey, operatorCert(t), Denial{Mesh: testMesh, Peer: idOf(nodeKey), Seq: 1<<64 - 1, Lift: true, At: epoch.UnixMilli()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tr.Merge(Statements{Denials: []SignedDenial{beyond}}, epoch); !errors.Is(err, ErrForged) {
		t.Errorf("a number past the last: %v", err)
	}
	merge(t, tr, epoch, last)
	if _, err := tr.Deny(operatorKey, operatorCert(t), Denial{Peer: idOf(nodeKey), Lift: true}, epoch); !errors.Is(err, ErrNumbers) || Hint(err) == "" {
		t.Errorf("after the last number: %v", err)
	}
	if _, err := SignCharter(rootKey, Charter{Seq: maxSeq + 1}, epoch); err == nil {
		t.Error("a charter past the last number is signed")
	}
}

func TestANewKeyTakesOverWhatTheOldOneDenied(t *testing.T) {
	tr := newTrust(t)
	merge(t, tr, epoch, denialOf(t, tr, Denial{Peer: idOf(nodeKey), Reason: "lost", Name: "shed"}, epoch),
		denialOf(t, tr, Denial{Peer: workload.PeerID{9}, Until: epoch.Add(time.Hour).UnixMilli()}, epoch),
		denialOf(t, tr, Denial{Peer: workload.PeerID{8}}, epoch), otherDenies(t, tr, Denial{Peer: workload.PeerID{8}}))
	i, err := NewIssuer(idOf(joinKey), idOf(rootKey), otherCert(t), otherKey, &memory{})
	if err != nil {
		t.Fatal(err)
	}
	i.Heed(tr)
	mergeCharter(t, tr, Charter{}.Without(idOf(operatorKey), epoch.Add(RemovalGrace)), epoch)
	docs, err := i.Adopt(idOf(operatorKey), epoch.Add(time.Minute))
	if err != nil || len(docs) != 2 {
		t.Fatalf("%d are taken over, %v", len(docs), err)
	}
	merge(t, tr, epoch, docs...)
	list := tr.List(epoch)
	if len(list) != 3 || tr.Denied(idOf(nodeKey), epoch) == nil || tr.Denied(workload.PeerID{9}, epoch.Add(2*time.Hour)) != nil {
		t.Errorf("after the old key is gone: %+v", list)
	}
	for _, d := range list {
		if d.By != idOf(otherKey) || d.Peer == idOf(nodeKey) && (d.Reason != "lost" || d.Name != "shed") {
			t.Errorf("%+v", d)
		}
	}
	lift, err := tr.Deny(otherKey, otherCert(t), Denial{Peer: idOf(nodeKey), Lift: true}, epoch.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	merge(t, tr, epoch, lift)
	if err := tr.Denied(idOf(nodeKey), epoch.Add(time.Minute)); err != nil {
		t.Errorf("lifted while the old key is leaving: %v", err)
	}
	if again, err := i.Adopt(idOf(otherKey), epoch); err != nil || len(again) != 0 {
		t.Errorf("its own are taken over: %d, %v", len(again), err)
	}
}

func TestTwoChartersOfOneNumberComeOutTheSame(t *testing.T) {
	a, b := newTrust(t), newTrust(t)
	one := Charter{}.With(Operator{idOf(operatorKey), idOf(nodeKey), "one", 1}, epoch)
	two := Charter{}.With(Operator{idOf(otherKey), idOf(joinKey), "two", 1}, epoch)
	mergeCharter(t, a, one, epoch)
	mergeCharter(t, a, two, epoch)
	mergeCharter(t, b, two, epoch)
	mergeCharter(t, b, one, epoch)
	if a.Digest(epoch) != b.Digest(epoch) {
		t.Error("two nodes that heard the same in another order differ")
	}
	lost, err := SignCharter(rootKey, one, epoch)
	if err != nil {
		t.Fatal(err)
	}
	won, err := SignCharter(rootKey, two, epoch)
	if err != nil || a.Holds(lost) == a.Holds(won) {
		t.Errorf("which counts is not told: %v", err)
	}
}

func TestAWrongClockForgetsNoDenial(t *testing.T) {
	store := &memory{}
	tr, err := NewTrust(idOf(rootKey), store)
	if err != nil {
		t.Fatal(err)
	}
	merge(t, tr, epoch, denialOf(t, tr, Denial{Peer: idOf(nodeKey), Until: epoch.Add(time.Hour).UnixMilli()}, epoch))
	for _, clock := range []time.Duration{-20 * 365 * 24 * time.Hour, 20 * 365 * 24 * time.Hour, 0} {
		again, err := NewTrust(idOf(rootKey), store)
		if err != nil {
			t.Fatal(err)
		}
		_ = again.Denied(idOf(nodeKey), epoch.Add(clock))
		if again.Denied(idOf(nodeKey), epoch) == nil {
			t.Errorf("a clock that was %s off as the node started", clock)
		}
	}
}

func TestRenewalOfARemovedOperatorsNodeIsRefused(t *testing.T) {
	i := newIssuer(t, &memory{})
	tr := newTrust(t)
	i.Heed(tr)
	cert, err := IssueNode(otherKey, testMesh, idOf(nodeKey), "n", epoch)
	if err != nil {
		t.Fatal(err)
	}
	old := Bundle{Root: idOf(rootKey), Operator: otherCert(t), Node: cert}
	id, err := tr.Verify(old, idOf(nodeKey), epoch)
	if err != nil {
		t.Fatal(err)
	}
	mergeCharter(t, tr, Charter{}.Without(idOf(otherKey), epoch), epoch)
	if _, err := i.Renew(id, epoch); !errors.Is(err, ErrNotAdmitted) {
		t.Errorf("renewed over its connection: %v", err)
	}
	if _, err := i.Admit(idOf(nodeKey), Renewal(old), epoch); !errors.Is(err, ErrNotAdmitted) {
		t.Errorf("renewed at the door: %v", err)
	}
}

// TestALiftFromBeforeLosesNoDenialOfARemovedOperator: an operator lifts its own denial,
// another one denies the peer a moment later, or did before, and is removed.
func TestALiftFromBeforeLosesNoDenialOfARemovedOperator(t *testing.T) {
	peer, leaves := workload.PeerID{9}, epoch.Add(time.Minute)
	for name, lifts := range map[string]time.Time{"lifted before it was denied": epoch.Add(-time.Second), "lifted since": epoch.Add(30 * time.Second)} {
		tr := newTrust(t)
		i, err := NewIssuer(idOf(joinKey), idOf(rootKey), operatorCert(t), operatorKey, &memory{})
		if err != nil {
			t.Fatal(err)
		}
		i.Heed(tr)
		merge(t, tr, epoch, denialOf(t, tr, Denial{Peer: peer}, epoch.Add(-2*time.Second)))
		merge(t, tr, epoch, otherDenies(t, tr, Denial{Peer: peer, Reason: "lost"}))
		merge(t, tr, lifts, denialOf(t, tr, Denial{Peer: peer, Lift: true}, lifts))
		mergeCharter(t, tr, Charter{}.Without(idOf(otherKey), leaves.Add(RemovalGrace)), leaves)
		if tr.Denied(peer, leaves) == nil {
			t.Errorf("%s: let in by the removal of the operator", name)
		}
		docs, err := i.Adopt(idOf(otherKey), leaves)
		if err != nil || len(docs) != 1 {
			t.Fatalf("%s: %d are taken over, %v", name, len(docs), err)
		}
		merge(t, tr, leaves, docs...)
		if tr.Denied(peer, leaves.Add(2*RemovalGrace)) == nil {
			t.Errorf("%s: let in once the operator is gone", name)
		}
	}
}

// TestAHeirLiftsWhatWasSaidByAClockAhead: the removed operator's clock, and the root's,
// are ahead of the one of the operator that stays.
func TestAHeirLiftsWhatWasSaidByAClockAhead(t *testing.T) {
	tr, peer, slow := newTrust(t), workload.PeerID{9}, epoch.Add(-ClockSkew+time.Second)
	merge(t, tr, epoch, otherDenies(t, tr, Denial{Peer: peer}))
	mergeCharter(t, tr, Charter{}.Without(idOf(otherKey), epoch.Add(RemovalGrace)), slow)
	merge(t, tr, slow, denialOf(t, tr, Denial{Peer: peer}, slow))
	merge(t, tr, slow, denialOf(t, tr, Denial{Peer: peer, Lift: true}, slow))
	if err := tr.Denied(peer, slow); err != nil {
		t.Errorf("lifted by the operator that stays: %v", err)
	}
}
