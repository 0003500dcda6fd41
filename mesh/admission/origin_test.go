package admission

import (
	"crypto/ed25519"
	"errors"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// A node stays with the operator that admitted it, whoever renews it and gives it a new
// key; what proves that cannot be left out, changed or taken from another node.
func TestANodeStaysWithWhoAdmittedIt(t *testing.T) {
	a, b, now := newOffice(t, operatorKey), newOffice(t, seeded(7)), epoch
	first, err := a.issuer.Certify(idOf(nodeKey), "n", now)
	if err != nil {
		t.Fatal(err)
	}
	at := func(bundle Bundle, key ed25519.PrivateKey, signer office) {
		t.Helper()
		id, err := bundle.Verify(testMesh, idOf(key), now)
		if err != nil || id.Operator != signer.issuer.ID() || id.Admitter != a.issuer.ID() || id.AdmitterName != "op" {
			t.Errorf("signed by %s, admitted by %s: %v", id.Operator.Short(), id.Admitter.Short(), err)
		}
		if c, err := OpenChain(bundle.Encode()); err != nil || c.Admitter != a.issuer.ID() {
			t.Errorf("in a receipt: admitted by %s: %v", c.Admitter.Short(), err)
		}
	}
	at(first, nodeKey, a)
	renewed, key := first, nodeKey
	for range 3 {
		now = now.Add(12 * time.Hour)
		if renewed, err = b.issuer.Admit(idOf(nodeKey), Renewal(renewed), now); err != nil {
			t.Fatal(err)
		}
		at(renewed, nodeKey, b)
	}
	for n := range maxKeys + 1 { // new keys at the other operator's
		now = now.Add(25 * time.Hour)
		if renewed, err = b.issuer.Admit(idOf(key), Renewal(renewed), now); err != nil {
			t.Fatal(err)
		}
		fresh := seeded(byte(30 + n))
		next, err := b.succeed(t, fresh, Successor(key, renewed, idOf(fresh)), now)
		if n == maxKeys {
			if !errors.Is(err, ErrNotAdmitted) {
				t.Errorf("one key too many: %v", err)
			}
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		renewed, key = next, fresh
		at(renewed, key, b)
	}
	if len(renewed.Encode()) > MaxBundle/2+maxKeys*256 {
		t.Errorf("a bundle of %d bytes", len(renewed.Encode()))
	}
	back, err := a.issuer.Admit(idOf(key), Renewal(renewed), now)
	if err != nil || back.First != nil {
		t.Fatalf("at the first operator again: %v", err)
	}
	at(back, key, a)

	other, err := a.issuer.Certify(idOf(joinKey), "other", now)
	if err != nil {
		t.Fatal(err)
	}
	claimed, err := issueNode(seeded(7), testMesh, idOf(key), "n", a.issuer.ID(), now)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Bundle){
		"left out":       func(b *Bundle) { b.First = nil },
		"another node's": func(b *Bundle) { b.First = &Origin{Operator: other.Operator, Node: other.Node} },
		"without its keys": func(b *Bundle) {
			b.First = &Origin{Operator: b.First.Operator, Node: b.First.Node}
		},
		"keys turned round": func(b *Bundle) {
			k := b.First.Keys
			b.First = &Origin{Operator: b.First.Operator, Node: b.First.Node, Keys: []workload.Signed{k[1], k[0]}}
		},
		"the renewing operator's": func(b *Bundle) { b.First = &Origin{Operator: b.Operator, Node: b.Node} },
		"shown for nothing":       func(b *Bundle) { b.Operator, b.Node = back.Operator, back.Node },
		"made up by an operator":  func(b *Bundle) { b.Node, b.First = claimed, nil },
	} {
		bad := renewed
		change(&bad)
		if id, err := bad.Verify(testMesh, idOf(key), now); !errors.Is(err, ErrForged) {
			t.Errorf("%s: admitted by %s: %v", name, id.Admitter.Short(), err)
		}
	}
	raw := renewed.Encode()
	for i := range raw {
		raw[i] ^= 1
		if b, err := DecodeBundle(raw); err == nil {
			if _, err := b.Verify(testMesh, idOf(key), now); err == nil {
				t.Errorf("byte %d changed, and it verifies", i)
			}
		}
		raw[i] ^= 1
	}
}

// An operator that the root gave a new key takes its nodes along; one that another's
// removal left behind does not.
func TestANewOperatorKeyTakesItsNodesAlong(t *testing.T) {
	now := epoch
	first := goodBundle(t) // by operatorKey
	opened, err := open(first.Operator, kindOperator, first.Root, testMesh)
	if err != nil {
		t.Fatal(err)
	}
	for name, same := range map[string]bool{opened.Name: true, "another": false} {
		o := newOffice(t, seeded(8))
		cert, err := IssueOperator(rootKey, idOf(seeded(8)), name, now)
		if err != nil {
			t.Fatal(err)
		}
		o.issuer.cert = cert
		charter := Charter{}.With(Operator{Key: idOf(operatorKey), Node: idOf(seeded(20)), Name: opened.Name, Since: 1}, now)
		charter = charter.With(Operator{Key: idOf(seeded(8)), Node: idOf(seeded(20)), Name: name, Since: 2}, now)
		signed, err := SignCharter(rootKey, charter, now)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.trust.Merge(Statements{Charter: &signed}, now); err != nil {
			t.Fatal(err)
		}
		b, err := o.issuer.Admit(idOf(nodeKey), Renewal(first), now)
		if err != nil {
			t.Fatal(err)
		}
		id, err := b.Verify(testMesh, idOf(nodeKey), now)
		if err != nil || (id.Admitter == o.issuer.ID()) != same {
			t.Errorf("%s: admitted by %s: %v", name, id.Admitter.Short(), err)
		}
	}
}

// A certificate from before operators were carried along counts as its signer's, and its
// encoding is the one that it had.
func TestCertificatesFromBefore(t *testing.T) {
	b := goodBundle(t)
	id, err := b.Verify(testMesh, idOf(nodeKey), epoch)
	if err != nil || id.Admitter != id.Operator {
		t.Errorf("admitted by %s: %v", id.Admitter.Short(), err)
	}
	var before struct {
		Version   uint16          `cbor:"1,keyasint"`
		Kind      certKind        `cbor:"2,keyasint" max:"16"`
		Mesh      workload.MeshID `cbor:"3,keyasint"`
		Subject   workload.PeerID `cbor:"4,keyasint"`
		Name      string          `cbor:"5,keyasint" max:"64"`
		NotBefore int64           `cbor:"6,keyasint"`
		NotAfter  int64           `cbor:"7,keyasint"`
	}
	if err := wire.Unmarshal(b.Node.Payload, &before); err != nil {
		t.Errorf("older versions refuse it: %v", err)
	}
}

// Who has an old key of a node makes no nodes that count as those of the operator that
// admitted it once the key is denied, or another key is known to have taken its place.
func TestADeniedKeyMakesNoNodesOfWhoAdmittedIt(t *testing.T) {
	for _, denied := range []bool{true, false} {
		a, b, now := newOffice(t, operatorKey), newOffice(t, seeded(7)), epoch.Add(time.Hour)
		made := seeded(40)
		bundle, err := b.succeed(t, made, Successor(nodeKey, goodBundle(t), idOf(made)), now)
		if err != nil {
			t.Fatal(err)
		}
		if id, err := a.trust.Verify(bundle, idOf(made), now); err != nil || id.Admitter != a.issuer.ID() {
			t.Fatalf("before: %v", err)
		}
		if denied {
			out, err := a.issuer.Deny(Denial{Peer: idOf(nodeKey), Reason: "stolen"}, now)
			if err != nil {
				t.Fatal(err)
			}
			merge(t, a.trust, now, out)
		} else if _, err := a.succeed(t, seeded(41), Successor(nodeKey, goodBundle(t), idOf(seeded(41))), now); err != nil {
			t.Fatal(err)
		}
		if _, err := a.trust.Verify(bundle, idOf(made), now); !errors.Is(err, ErrDenied) {
			t.Errorf("denied %v: %v", denied, err)
		}
	}
}
