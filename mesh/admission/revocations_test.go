package admission

import (
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/rights"
)

// owner, guest and friend hand a token on: the guest is the node of nodeKey.
var ownerKey, friendKey, strangerKey = seeded(30), seeded(31), seeded(32)

// tokenOf is a token of owner's that goes along some keys.
func tokenOf(t testing.TB, nonce byte, keys ...ed25519.PrivateKey) (chain []workload.Signed, links []workload.TokenLink) {
	t.Helper()
	by := keys[0]
	for _, to := range keys[1:] {
		chain = append(chain, workload.Sign(workload.DomainToken, wire.MustMarshal(rights.Delegation{
			Version: rights.Version(), Mesh: testMesh, Subject: idOf(keys[0]), Audience: idOf(to), May: []rights.Capability{rights.Submit},
			NotBefore: epoch.UnixMilli(), Expires: epoch.Add(48 * time.Hour).UnixMilli(), Nonce: [12]byte{nonce},
		}), by))
		by = to
	}
	g, err := rights.Open(chain, testMesh, tokenReader)
	if err != nil {
		t.Fatal(err)
	}
	return chain, g.Bounds
}

// revoke has a key take the last link of a path back, through the node of nodeKey.
func revoke(t testing.TB, by ed25519.PrivateKey, path []workload.Signed) (SignedRevocation, error) {
	t.Helper()
	return Revoke(by, nodeKey, goodBundle(t), path, epoch.Add(time.Hour))
}

func revokeOn(tr *Trust, now time.Time, docs ...SignedRevocation) (int, error) {
	fresh, err := tr.Merge(Statements{Revocations: docs}, now)
	return len(fresh.Revocations), err
}

func TestWhoGaveALinkOrOneBeforeItRevokesIt(t *testing.T) {
	path, links := tokenOf(t, 1, ownerKey, nodeKey, friendKey)
	_, otherLinks := tokenOf(t, 2, ownerKey, friendKey)
	for name, c := range map[string]struct {
		by              ed25519.PrivateKey
		link            int
		whole, upstream bool // whether the whole token, and its first link alone, count then
		want            error
	}{
		"the owner, the last":      {ownerKey, 2, false, true, nil},
		"the owner, the first":     {ownerKey, 1, false, false, nil},
		"who handed it on":         {nodeKey, 2, false, true, nil},
		"who was given it":         {nodeKey, 1, true, true, ErrNotIssuer},
		"who was given it at last": {friendKey, 2, true, true, ErrNotIssuer},
		"a stranger":               {strangerKey, 2, true, true, ErrNotIssuer},
	} {
		tr := newTrust(t)
		doc, err := revoke(t, c.by, path[:c.link])
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if n, err := revokeOn(tr, epoch.Add(time.Hour), doc); (n == 1) != (c.want == nil) || !errors.Is(err, c.want) {
			t.Errorf("%s: %d believed, %v", name, n, err)
		}
		if got := tr.Revoked(links) == nil; got != c.whole {
			t.Errorf("%s: the token counts: %v", name, got)
		}
		if got := tr.Revoked(links[:1]) == nil; got != c.upstream {
			t.Errorf("%s: its first link alone counts: %v", name, got)
		}
		if err := tr.Revoked(otherLinks); err != nil {
			t.Errorf("%s: another token: %v", name, err)
		}
	}
}

func TestRevocationIsForGoodAndForgottenAfterItsLink(t *testing.T) {
	store := &memory{}
	tr, err := NewTrust(idOf(rootKey), store)
	if err != nil {
		t.Fatal(err)
	}
	path, links := tokenOf(t, 1, ownerKey, nodeKey)
	doc, err := revoke(t, ownerKey, path)
	if err != nil {
		t.Fatal(err)
	}
	now := epoch.Add(2 * time.Hour)
	for want := range 2 {
		if n, err := revokeOn(tr, now, doc); n != 1-want || err != nil {
			t.Errorf("told %d times: %d new, %v", want+1, n, err)
		}
	}
	if err := tr.Revoked(links); !errors.Is(err, ErrRevoked) || !strings.Contains(err.Error(), "link 1 of 1") {
		t.Errorf("%v", err)
	}
	again, err := NewTrust(idOf(rootKey), store)
	if err != nil || again.Revoked(links) == nil || again.Digest(now) != tr.Digest(now) || again.Digest(now) == newTrust(t).Digest(now) {
		t.Errorf("after a restart: %v", err)
	}
	later := epoch.Add(48*time.Hour + revocationKeep + time.Hour)
	if n := len(tr.All(later).Revocations); n != 0 {
		t.Errorf("%d are told of when the link has long ended", n)
	}
	if n, err := revokeOn(newTrust(t), later, doc); n != 0 || err != nil {
		t.Errorf("%d are taken when the link has long ended: %v", n, err)
	}
}

// TestRevocationOfACopiedLinkIsOfTheCopyAlone: somebody with a token of the same owner
// signs what another's link says, and revokes that.
func TestRevocationOfACopiedLinkIsOfTheCopyAlone(t *testing.T) {
	honest, links := tokenOf(t, 1, ownerKey, nodeKey, friendKey)
	mallory, _ := tokenOf(t, 2, ownerKey, strangerKey)
	copied := append(mallory, workload.Sign(workload.DomainToken, honest[1].Payload, strangerKey))
	doc, err := revoke(t, strangerKey, copied)
	if err != nil {
		t.Fatal(err)
	}
	tr := newTrust(t)
	if n, err := revokeOn(tr, epoch.Add(time.Hour), doc); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if err := tr.Revoked(links); err != nil {
		t.Errorf("the honest one: %v", err)
	}
}

func TestRevocationsThatAreRefused(t *testing.T) {
	path, _ := tokenOf(t, 1, ownerKey, nodeKey)
	good := func() SignedRevocation {
		doc, err := revoke(t, ownerKey, path)
		if err != nil {
			t.Fatal(err)
		}
		return doc
	}
	other, _ := tokenOf(t, 2, ownerKey, nodeKey)
	for name, change := range map[string]func(*SignedRevocation){
		"no path":              func(d *SignedRevocation) { d.Path = nil },
		"another path":         func(d *SignedRevocation) { d.Path = other },
		"a path that is cut":   func(d *SignedRevocation) { d.Path = []workload.Signed{{By: idOf(ownerKey)}} },
		"brought in by nobody": func(d *SignedRevocation) { d.Node = workload.Signed{} },
		"brought in by another": func(d *SignedRevocation) {
			d.Node = workload.Sign(workload.DomainRevoke, d.Revocation.Payload, friendKey)
		},
		"without a certificate": func(d *SignedRevocation) { d.Bundle = Bundle{} },
		"of another mesh":       func(d *SignedRevocation) { d.Bundle.Root = idOf(strangerKey) },
		"not signed":            func(d *SignedRevocation) { d.Revocation.Sig = make([]byte, 64) },
		"signed as something else": func(d *SignedRevocation) {
			d.Revocation = workload.Sign(workload.DomainDeny, d.Revocation.Payload, ownerKey)
		},
	} {
		doc := good()
		change(&doc)
		if n, err := revokeOn(newTrust(t), epoch.Add(time.Hour), doc); n != 0 || err == nil {
			t.Errorf("%s: %d believed, %v", name, n, err)
		}
	}
	late, err := Revoke(ownerKey, nodeKey, goodBundle(t), path, epoch.Add(NodeTTL+OfflineGrace+time.Hour))
	if !errors.Is(err, ErrForged) {
		t.Errorf("brought in long after the certificate ended: %v", err)
	}
	if n, _ := revokeOn(newTrust(t), epoch, late); n != 0 {
		t.Error("believed long after the certificate ended")
	}
}

// TestNodeFillsNoMoreThanItsShare: the list has room for others, and for a node that is
// denied there is none once it is full.
func TestNodeFillsNoMoreThanItsShare(t *testing.T) {
	tr, now := newTrust(t), epoch.Add(time.Hour)
	taken := 0
	for i := range MaxRevocationsOfNode + 2 {
		path, _ := tokenOf(t, byte(i), ownerKey, friendKey)
		doc, err := revoke(t, ownerKey, path)
		if err != nil {
			t.Fatal(err)
		}
		n, err := revokeOn(tr, now, doc)
		if taken += n; (n == 0) != errors.Is(err, ErrTooMany) {
			t.Errorf("revocation %d: %d, %v", i, n, err)
		}
	}
	if taken != MaxRevocationsOfNode {
		t.Errorf("%d taken", taken)
	}
}

// FuzzRevocation reads arbitrary bytes as a revocation: what is believed is the word of
// somebody on its path.
func FuzzRevocation(f *testing.F) {
	path, _ := tokenOf(f, 1, ownerKey, nodeKey, friendKey)
	for _, by := range []ed25519.PrivateKey{ownerKey, nodeKey, strangerKey} {
		doc, _ := revoke(f, by, path)
		f.Add(wire.MustMarshal(doc))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var doc SignedRevocation
		if wire.Unmarshal(raw, &doc) != nil {
			return
		}
		r, err := openRevocation(doc, idOf(rootKey))
		if err == nil && r.by != idOf(ownerKey) && r.by != idOf(nodeKey) {
			t.Errorf("the word of %s is believed", r.by)
		}
	})
}

// operatorOf signs a node's certificates as another operator.
func operatorOf(t testing.TB, operator, node ed25519.PrivateKey) Bundle {
	t.Helper()
	cert, err := IssueOperator(rootKey, idOf(operator), "other", epoch)
	if err != nil {
		t.Fatal(err)
	}
	n, err := IssueNode(operator, testMesh, idOf(node), "n", epoch)
	if err != nil {
		t.Fatal(err)
	}
	return Bundle{Root: idOf(rootKey), Operator: cert, Node: n}
}

// fill has made-up nodes of an operator bring in as much as the list holds and more, and
// returns how much was taken.
func fill(t testing.TB, tr *Trust, operator ed25519.PrivateKey, now time.Time) (taken int) {
	t.Helper()
	for i := range MaxRevocations/MaxRevocationsOfNode + 1 {
		node := seeded(byte(100 + i))
		b := operatorOf(t, operator, node)
		var docs []SignedRevocation
		for k := range MaxRevocationsOfNode {
			path, _ := tokenOf(t, byte(k), node, strangerKey)
			doc, err := Revoke(node, node, b, path, epoch.Add(time.Hour))
			if err != nil {
				t.Fatal(err)
			}
			docs = append(docs, doc)
		}
		n, _ := revokeOn(tr, now, docs...)
		taken += n
	}
	return taken
}

// TestRemovedOperatorsNodesCrowdNobodyOut: what nodes of a removed operator bring in makes
// room for others, in the same way on all nodes, and pushes nothing out.
func TestRemovedOperatorsNodesCrowdNobodyOut(t *testing.T) {
	other, now := seeded(50), epoch.Add(2*time.Hour)
	path, links := tokenOf(t, 1, ownerKey, nodeKey)
	first, err := revoke(t, ownerKey, path)
	if err != nil {
		t.Fatal(err)
	}
	path, later := tokenOf(t, 2, ownerKey, friendKey)
	second, err := revoke(t, ownerKey, path)
	if err != nil {
		t.Fatal(err)
	}
	charter := Charter{}.With(Operator{Key: idOf(other), Node: idOf(seeded(51)), Name: "other", Since: epoch.UnixMilli()}, epoch).
		Without(idOf(other), epoch.Add(-time.Hour))
	a, b := newTrust(t), newTrust(t)
	mergeCharter(t, b, charter, now)
	if n, err := revokeOn(a, now, first); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if n := fill(t, a, other, now); n != MaxRevocations-1 {
		t.Errorf("%d taken before the operator is removed", n)
	}
	if n, err := revokeOn(a, now, second); n != 0 || !errors.Is(err, ErrTooMany) {
		t.Errorf("the list is full of what counts: %d, %v", n, err)
	}
	mergeCharter(t, a, charter, now)
	fill(t, b, other, now)
	if _, err := revokeOn(b, now, first, second); err != nil {
		t.Error(err)
	}
	if n, err := revokeOn(a, now, second); n != 1 || err != nil {
		t.Errorf("no room is made: %d, %v", n, err)
	}
	fill(t, a, other, now)
	for name, tr := range map[string]*Trust{"removed later": a, "removed before": b} {
		if tr.Revoked(links) == nil || tr.Revoked(later) == nil || len(tr.All(now).Revocations) != MaxRevocations {
			t.Errorf("%s: %v, %v, %d are kept", name, tr.Revoked(links), tr.Revoked(later), len(tr.All(now).Revocations))
		}
	}
	if a.Digest(now) != b.Digest(now) {
		t.Error("the two keep different ones")
	}
}

// TestRevocationOutlivesItsNodesKey: a node that changes its key is no node that was put out.
func TestRevocationOutlivesItsNodesKey(t *testing.T) {
	o, fresh, now := newOffice(t, operatorKey), seeded(5), epoch.Add(time.Hour)
	path, links := tokenOf(t, 1, ownerKey, nodeKey)
	doc, err := revoke(t, ownerKey, path)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := revokeOn(o.trust, now, doc); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if _, err := o.succeed(t, fresh, Successor(nodeKey, goodBundle(t), idOf(fresh)), now); err != nil {
		t.Fatal(err)
	}
	if n := fill(t, o.trust, seeded(50), now); n != MaxRevocations-1 {
		t.Errorf("%d taken beside it", n)
	}
	if o.trust.Revoked(links) == nil {
		t.Error("the token counts again")
	}
	out, err := o.issuer.Deny(Denial{Peer: idOf(fresh), Reason: "harm"}, now)
	if err != nil {
		t.Fatal(err)
	}
	merge(t, o.trust, now, out)
	if fill(t, o.trust, seeded(52), now) == 0 || o.trust.Revoked(links) != nil {
		t.Error("what a node that was put out brought in makes no room")
	}
}

// TestNobodyTakesOverARevocation: who brings in again what another did does not become who
// brought it in, and so does not take it along when it is put out; unless that one was.
func TestNobodyTakesOverARevocation(t *testing.T) {
	now := epoch.Add(time.Hour)
	path, _ := tokenOf(t, 1, ownerKey, nodeKey)
	doc, err := revoke(t, ownerKey, path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 { // keys below and above nodeKey's
		o, thief := newOffice(t, operatorKey), seeded(byte(60+i))
		again := doc
		again.Node, again.Bundle = workload.Sign(workload.DomainRevoke, doc.Revocation.Payload, thief), operatorOf(t, seeded(50), thief)
		if n, err := revokeOn(o.trust, now, doc); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		if n, err := revokeOn(o.trust, now, again); n != 0 || err != nil {
			t.Errorf("taken over: %d, %v", n, err)
		}
		out, err := o.issuer.Deny(Denial{Peer: idOf(nodeKey)}, now)
		if err != nil {
			t.Fatal(err)
		}
		merge(t, o.trust, now, out)
		if n, err := revokeOn(o.trust, now, again); n != 1 || err != nil {
			t.Errorf("not taken from one that counts: %d, %v", n, err)
		}
	}
}
