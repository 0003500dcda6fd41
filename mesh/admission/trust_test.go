package admission

import (
	"errors"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

func newTrust(t testing.TB) *Trust {
	t.Helper()
	tr, err := NewTrust(idOf(rootKey), &memory{})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func denialOf(t testing.TB, tr *Trust, d Denial, now time.Time) SignedDenial {
	t.Helper()
	doc, err := tr.Deny(operatorKey, operatorCert(t), d, now)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func merge(t testing.TB, tr *Trust, now time.Time, docs ...SignedDenial) Statements {
	t.Helper()
	fresh, err := tr.Merge(Statements{Denials: docs}, now)
	if err != nil {
		t.Fatal(err)
	}
	return fresh
}

func TestDenialCountsUntilItsEndOrLifted(t *testing.T) {
	store := &memory{}
	tr, err := NewTrust(idOf(rootKey), store)
	if err != nil {
		t.Fatal(err)
	}
	node, at := idOf(nodeKey), epoch
	week := denialOf(t, tr, Denial{Peer: node, Until: at.Add(7 * 24 * time.Hour).UnixMilli(), Reason: "lost laptop"}, at)
	if fresh := merge(t, tr, at, week); len(fresh.Denials) != 1 {
		t.Fatal("a new denial is not new")
	}
	if fresh := merge(t, tr, at, week); !fresh.IsZero() {
		t.Error("the same denial is new again")
	}
	if _, err := tr.Verify(goodBundle(t), node, at); !errors.Is(err, ErrDenied) {
		t.Errorf("a denied peer's certificate: %v", err)
	}
	again, err := NewTrust(idOf(rootKey), store)
	if err != nil || again.Denied(node, at) == nil || again.Digest(at) != tr.Digest(at) {
		t.Errorf("after a restart: %v, denied %v", err, again.Denied(node, at))
	}
	if err := tr.Denied(node, at.Add(8*24*time.Hour)); err != nil {
		t.Errorf("after its end: %v", err)
	}
	lift := denialOf(t, tr, Denial{Peer: node, Lift: true}, at.Add(time.Hour))
	merge(t, tr, at, lift)
	if err := tr.Denied(node, at); err != nil {
		t.Errorf("lifted: %v", err)
	}
	if fresh := merge(t, tr, at, week); !fresh.IsZero() || tr.Denied(node, at) != nil {
		t.Error("an older denial counts again")
	}
	if _, err := tr.Deny(operatorKey, operatorCert(t), Denial{Peer: node, Lift: true}, at); err == nil {
		t.Error("what is not denied was lifted")
	}
}

func TestMergeIsTheSameInAnyOrder(t *testing.T) {
	a, b := newTrust(t), newTrust(t)
	deny := denialOf(t, a, Denial{Peer: idOf(nodeKey), Reason: "one"}, epoch)
	both := denialOf(t, a, Denial{Peer: idOf(nodeKey), Reason: "two"}, epoch) // the same number
	merge(t, a, epoch, deny, both)
	merge(t, b, epoch, both, deny)
	if a.Digest(epoch) != b.Digest(epoch) {
		t.Error("two nodes that heard the same in another order differ")
	}
}

func TestDenialsOfARemovedOperatorAndOfOperatorsNodesDoNotCount(t *testing.T) {
	tr := newTrust(t)
	merge(t, tr, epoch, denialOf(t, tr, Denial{Peer: idOf(nodeKey)}, epoch))
	charter := Charter{}.With(Operator{Key: idOf(joinKey), Node: idOf(nodeKey), Name: "other", Since: 1}, epoch)
	publish := func(c Charter) error {
		signed, err := SignCharter(rootKey, c, epoch)
		if err != nil {
			t.Fatal(err)
		}
		_, err = tr.Merge(Statements{Charter: &signed}, epoch)
		return err
	}
	if err := publish(charter); err != nil || tr.Denied(idOf(nodeKey), epoch) != nil {
		t.Errorf("an operator's node is put out: %v", err)
	}
	if _, err := tr.Deny(operatorKey, operatorCert(t), Denial{Peer: idOf(nodeKey)}, epoch); !errors.Is(err, ErrOperatorNode) {
		t.Errorf("deny an operator's node: %v", err)
	}
	merge(t, tr, epoch, denialOf(t, tr, Denial{Peer: workload.PeerID{9}}, epoch))
	gone := charter.Without(idOf(operatorKey), epoch.Add(RemovalGrace))
	if err := publish(gone); err != nil {
		t.Fatal(err)
	}
	if tr.Denied(workload.PeerID{9}, epoch) == nil || tr.Denied(workload.PeerID{9}, epoch.Add(RemovalGrace)) != nil {
		t.Error("the denials of a removed operator end when it ends")
	}
	if _, err := tr.Verify(goodBundle(t), idOf(nodeKey), epoch.Add(RemovalGrace)); !errors.Is(err, ErrNotAdmitted) {
		t.Errorf("a certificate of a removed operator: %v", err)
	}
	if err := publish(charter); err != nil || !tr.Leaving(idOf(operatorKey)) {
		t.Errorf("an older charter took its place: %v", err)
	}
}

func TestEveryFlippedByteOfAStatementIsRefused(t *testing.T) {
	doc := denialOf(t, newTrust(t), Denial{Peer: idOf(nodeKey)}, epoch)
	charter, err := SignCharter(rootKey, Charter{}.With(Operator{idOf(operatorKey), idOf(nodeKey), "op", 1}, epoch), epoch)
	if err != nil {
		t.Fatal(err)
	}
	raw := wire.MustMarshal(Statements{Charter: &charter})
	raw2 := wire.MustMarshal(Statements{Denials: []SignedDenial{doc}})
	for _, raw := range [][]byte{raw, raw2} {
		for i := range raw {
			raw[i] ^= 1
			var s Statements
			if wire.Unmarshal(raw, &s) == nil {
				if fresh, err := newTrust(t).Merge(s, epoch); !fresh.IsZero() {
					t.Errorf("byte %d of %d can be changed: %v", i, len(raw), err)
				}
			}
			raw[i] ^= 1
		}
	}
}

// TestGraceWhileOperatorsAreAway walks through a week without an operator.
func TestGraceWhileOperatorsAreAway(t *testing.T) {
	issued := func(at time.Time) Bundle {
		cert, err := IssueNode(operatorKey, testMesh, idOf(nodeKey), "n", at)
		if err != nil {
			t.Fatal(err)
		}
		return Bundle{Root: idOf(rootKey), Operator: operatorCert(t), Node: cert}
	}
	tr, node := newTrust(t), idOf(nodeKey)
	last := issued(epoch) // the last one that an operator signed
	if _, err := tr.Verify(last, node, epoch); err != nil {
		t.Fatal(err)
	}
	stale := issued(epoch.Add(-30 * time.Hour)) // ended while operators were there
	if _, err := tr.Verify(stale, node, epoch.Add(time.Hour)); !errors.Is(err, ErrExpired) {
		t.Errorf("it could have been renewed: %v", err)
	}
	end := epoch.Add(NodeTTL)
	if _, err := tr.Verify(last, node, end.Add(OfflineGrace)); err != nil {
		t.Errorf("nobody could renew it: %v", err)
	}
	if _, err := tr.Verify(last, node, end.Add(OfflineGrace+ClockSkew+time.Second)); !errors.Is(err, ErrExpired) {
		t.Errorf("after the grace: %v", err)
	}
	back := end.Add(2 * 24 * time.Hour)
	if _, err := tr.Verify(issued(back), node, back); err != nil {
		t.Fatal(err)
	}
	if _, err := tr.Verify(last, node, back.Add(ReturnGrace)); err != nil {
		t.Errorf("an operator is back, and it may renew: %v", err)
	}
	if _, err := tr.Verify(last, node, back.Add(ReturnGrace+ClockSkew+time.Second)); !errors.Is(err, ErrExpired) {
		t.Errorf("it had an hour to renew: %v", err)
	}
}

func TestIssuerHeedsDenialsAndItsOwnRemoval(t *testing.T) {
	i := newIssuer(t, &memory{})
	tr := newTrust(t)
	i.Heed(tr)
	merge(t, tr, epoch, denialOf(t, tr, Denial{Peer: idOf(joinKey), Until: epoch.Add(time.Hour).UnixMilli()}, epoch))
	v, err := i.Invite(2, 2*time.Hour, addrs, epoch)
	if err != nil {
		t.Fatal(err)
	}
	req, err := v.Request(idOf(joinKey), "x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := i.Admit(idOf(joinKey), req, epoch); !errors.Is(err, ErrDenied) || !errors.Is(Refuse(err).Err(), ErrDenied) {
		t.Errorf("a denied peer joins: %v", err)
	}
	if _, err := i.Admit(idOf(joinKey), req, epoch.Add(90*time.Minute)); err != nil {
		t.Errorf("after the denial's end: %v", err)
	}
	signed, err := SignCharter(rootKey, Charter{}.Without(idOf(operatorKey), epoch.Add(RemovalGrace)), epoch)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tr.Merge(Statements{Charter: &signed}, epoch); err != nil {
		t.Fatal(err)
	}
	if _, err := i.Admit(idOf(joinKey), req, epoch.Add(90*time.Minute)); err == nil {
		t.Error("an operator that is being removed still signs")
	}
}
