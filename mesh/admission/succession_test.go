package admission

import (
	"crypto/ed25519"
	"errors"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// office is an operator with what it knows of the mesh.
type office struct {
	trust  *Trust
	issuer *Issuer
}

func newOffice(t testing.TB, key ed25519.PrivateKey) office {
	t.Helper()
	cert, err := IssueOperator(rootKey, idOf(key), "op", epoch)
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := NewIssuer(idOf(seeded(20)), idOf(rootKey), cert, key, &memory{})
	if err != nil {
		t.Fatal(err)
	}
	o := office{newTrust(t), issuer}
	issuer.Heed(o.trust)
	return o
}

// succeed has the office give a new key the place of an old one, as a node does.
func (o office) succeed(t testing.TB, from ed25519.PrivateKey, req JoinRequest, now time.Time) (Bundle, error) {
	t.Helper()
	b, doc, err := o.issuer.Succeed(idOf(from), req, now)
	if doc != nil {
		merge(t, o.trust, now, *doc)
	}
	return b, err
}

func TestNewKeyTakesTheOldOnesPlace(t *testing.T) {
	o, fresh, at := newOffice(t, operatorKey), seeded(5), epoch
	req := Successor(nodeKey, goodBundle(t), idOf(fresh))
	for _, what := range []string{"first", "again, as after a lost answer"} {
		b, err := o.succeed(t, fresh, req, at)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if id, err := o.trust.Verify(b, idOf(fresh), at); err != nil || id.Name != "n" {
			t.Errorf("%s: the new key: %+v, %v", what, id, err)
		}
	}
	if _, err := o.trust.Verify(goodBundle(t), idOf(nodeKey), at); !errors.Is(err, ErrDenied) {
		t.Errorf("the old key: %v", err)
	}
	if doc, ok := o.trust.Predecessors(at)[idOf(fresh)]; !ok || doc.Denial.By != idOf(operatorKey) {
		t.Error("who it was before is not known")
	}
	if err := o.trust.Denied(idOf(nodeKey), at.Add(NodeTTL+RenewGrace)); err == nil {
		t.Error("the old key counts while its certificate buys another")
	}
	thief := seeded(6)
	if _, err := o.succeed(t, thief, Successor(nodeKey, goodBundle(t), idOf(thief)), at); !errors.Is(err, ErrDenied) {
		t.Errorf("a stolen old key rotates once more: %v", err)
	}
	if _, err := o.issuer.Admit(idOf(nodeKey), Renewal(goodBundle(t)), at); !errors.Is(err, ErrDenied) {
		t.Errorf("a stolen old key renews: %v", err)
	}
}

func TestSuccessionsThatAreRefused(t *testing.T) {
	fresh, at := seeded(5), epoch
	good := func() JoinRequest { return Successor(nodeKey, goodBundle(t), idOf(fresh)) }
	resigned := func(key ed25519.PrivateKey, change func(*Succession)) JoinRequest {
		req := good()
		s := Succession{Version: certVersion, Mesh: testMesh, Old: idOf(nodeKey), New: idOf(fresh)}
		change(&s)
		doc := workload.Sign(workload.DomainSuccession, wire.MustMarshal(s), key)
		req.Succession = &doc
		return req
	}
	for name, c := range map[string]struct {
		req  JoinRequest
		from ed25519.PrivateKey
		at   time.Time
		want error
	}{
		"shown by another":         {good(), seeded(6), at, ErrNotAdmitted},
		"by a key without a place": {Successor(seeded(6), goodBundle(t), idOf(fresh)), fresh, at, ErrNotAdmitted},
		"in another's name":        {resigned(seeded(6), func(*Succession) {}), fresh, at, ErrForged},
		"to itself":                {Successor(nodeKey, goodBundle(t), idOf(nodeKey)), nodeKey, at, ErrForged},
		"of another mesh":          {resigned(nodeKey, func(s *Succession) { s.Mesh[0]++ }), fresh, at, ErrOtherMesh},
		"of a version to come":     {resigned(nodeKey, func(s *Succession) { s.Version++ }), fresh, at, ErrForged},
		"after the grace":          {good(), fresh, at.Add(NodeTTL + RenewGrace + time.Hour), ErrExpired},
		"a plain renewal":          {Renewal(goodBundle(t)), fresh, at, ErrForged},
	} {
		if _, err := newOffice(t, operatorKey).succeed(t, c.from, c.req, c.at); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	flipped := good()
	for i := range flipped.Succession.Payload {
		flipped.Succession.Payload[i] ^= 1
		if _, err := newOffice(t, operatorKey).succeed(t, fresh, flipped, at); err == nil {
			t.Errorf("byte %d can be changed", i)
		}
		flipped.Succession.Payload[i] ^= 1
	}
	if _, err := newOffice(t, operatorKey).issuer.Admit(idOf(fresh), good(), at); !errors.Is(err, ErrNotAdmitted) {
		t.Errorf("admitted without a denial: %v", err)
	}
}

func TestOperatorsNodeDeniedNodeAndHastyOneKeepTheirKeys(t *testing.T) {
	o, fresh, at := newOffice(t, operatorKey), seeded(5), epoch
	b, err := o.succeed(t, fresh, Successor(nodeKey, goodBundle(t), idOf(fresh)), at)
	if err != nil {
		t.Fatal(err)
	}
	next := seeded(6)
	if _, err := o.succeed(t, next, Successor(fresh, b, idOf(next)), at.Add(time.Hour)); !errors.Is(err, ErrRotated) {
		t.Errorf("an hour later: %v", err)
	}
	if b, err = o.issuer.Admit(idOf(fresh), Renewal(b), at.Add(25*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := o.succeed(t, next, Successor(fresh, b, idOf(next)), at.Add(25*time.Hour)); err != nil {
		t.Errorf("a day later: %v", err)
	}

	o = newOffice(t, operatorKey)
	merge(t, o.trust, at, denialOf(t, o.trust, Denial{Peer: idOf(nodeKey)}, at))
	if _, err := o.succeed(t, fresh, Successor(nodeKey, goodBundle(t), idOf(fresh)), at); !errors.Is(err, ErrDenied) {
		t.Errorf("a denied node gets out of it with a new key: %v", err)
	}

	o = newOffice(t, operatorKey)
	charter, err := SignCharter(rootKey, Charter{}.With(Operator{Key: idOf(operatorKey), Node: idOf(nodeKey), Name: "n", Since: 1}, at), at)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.trust.Merge(Statements{Charter: &charter}, at); err != nil {
		t.Fatal(err)
	}
	if _, err := o.succeed(t, fresh, Successor(nodeKey, goodBundle(t), idOf(fresh)), at); !errors.Is(err, ErrOperatorNode) {
		t.Errorf("an operator's node: %v", err)
	}
}

// TestOfTwoSuccessorsTheFirstCounts: operators that are cut off from each other each
// let one in; when they hear of each other, both put out the same one.
func TestOfTwoSuccessorsTheFirstCounts(t *testing.T) {
	a, b := newOffice(t, operatorKey), newOffice(t, seeded(7))
	owner, thief := seeded(5), seeded(6)
	owned, err := a.succeed(t, owner, Successor(nodeKey, goodBundle(t), idOf(owner)), epoch)
	if err != nil {
		t.Fatal(err)
	}
	stolen, err := b.succeed(t, thief, Successor(nodeKey, goodBundle(t), idOf(thief)), epoch.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	now := epoch.Add(time.Hour)
	for _, pair := range [][2]office{{a, b}, {b, a}} {
		if _, err := pair[0].trust.Merge(pair[1].trust.All(now), now); err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range []office{a, b} {
		if _, err := o.trust.Verify(owned, idOf(owner), now); err != nil {
			t.Errorf("the first: %v", err)
		}
		if _, err := o.trust.Verify(stolen, idOf(thief), now); !errors.Is(err, ErrDenied) {
			t.Errorf("the second: %v", err)
		}
		if _, err := o.issuer.Admit(idOf(thief), Renewal(stolen), now); !errors.Is(err, ErrDenied) {
			t.Errorf("the second renews: %v", err)
		}
		if p := o.trust.Predecessors(now); len(p) != 1 {
			t.Errorf("%d successors", len(p))
		}
	}
}

// FuzzSuccession reads arbitrary bytes as a request for a key's place: whatever they
// are, only the old key's own word makes another one its successor.
func FuzzSuccession(f *testing.F) {
	f.Add(wire.MustMarshal(Successor(nodeKey, goodBundle(f), idOf(seeded(5)))))
	f.Add(wire.MustMarshal(Renewal(goodBundle(f))))
	f.Add([]byte{0xa0})
	f.Fuzz(func(t *testing.T, raw []byte) {
		var req JoinRequest
		if wire.Unmarshal(raw, &req) != nil {
			return
		}
		_, doc, err := newOffice(t, operatorKey).issuer.Succeed(idOf(seeded(5)), req, epoch)
		if err == nil && (doc == nil || req.Succession.By != idOf(nodeKey)) {
			t.Errorf("%s is succeeded by one it did not name", req.Succession.By)
		}
	})
}
