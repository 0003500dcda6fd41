package mesh

import (
	"strings"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/mesh/admission"
)

func TestDeniedPeerIsDisconnectedEverywhereAndLiftedAgain(t *testing.T) {
	t.Parallel()
	auth := newAuthority(t)
	a, b, c, out := auth.host(t, "a"), auth.host(t, "b"), auth.host(t, "c"), auth.host(t, "out")
	ctx := within(t, 60*time.Second)
	for _, h := range []*Host{b, out} {
		if err := h.Connect(ctx, a.Addrs()); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.Connect(ctx, b.Addrs()); err != nil {
		t.Fatal(err)
	}
	a.Handle("/perrin/echo/1", 10, echo)
	if _, err := out.Call(ctx, a.ID(), "/perrin/echo/1", nil, 10); err != nil {
		t.Fatal(err)
	}
	auth.deny(t, a, out.ID(), false)
	if _, err := out.Call(ctx, a.ID(), "/perrin/echo/1", nil, 10); err == nil {
		t.Error("a denied peer was answered")
	}
	eventually(t, "b, which heard it from a, drops it", func() bool {
		_, ok := out.Admitted(b.ID())
		return !ok && b.Trust().Denied(out.ID(), time.Now()) != nil
	})
	for _, h := range []*Host{a, b} {
		if err := out.Connect(ctx, h.Addrs()); err == nil {
			t.Error("a denied peer connected")
		}
		eventually(t, "a denied peer is told why", func() bool {
			_ = out.Connect(ctx, h.Addrs())
			r := out.Refusal()
			return r != nil && r.Peer == h.ID() && strings.Contains(r.Reason, "is denied for good")
		})
	}
	// c was away meanwhile, and knows the denied peer.
	if err := out.Connect(ctx, c.Addrs()); err != nil {
		t.Fatal(err)
	}
	if err := c.Connect(ctx, b.Addrs()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "c learns it as it connects", func() bool { _, ok := c.Admitted(out.ID()); return !ok })

	auth.deny(t, b, out.ID(), true)
	eventually(t, "a and c hear that it is lifted", func() bool {
		return a.Trust().Denied(out.ID(), time.Now()) == nil && c.Trust().Denied(out.ID(), time.Now()) == nil
	})
	eventually(t, "it is let in again", func() bool { return out.Connect(ctx, a.Addrs()) == nil })
}

func TestRemovedOperatorsNodesAreOut(t *testing.T) {
	t.Parallel()
	auth, a, b := pairOf(t)
	other := authority{root: auth.root, operator: newKey(t)}
	var err error
	if other.cert, err = admission.IssueOperator(auth.root, idOf(other.operator), "other", time.Now()); err != nil {
		t.Fatal(err)
	}
	c := other.host(t, "c")
	ctx := within(t, 60*time.Second)
	if err := c.Connect(ctx, a.Addrs()); err != nil {
		t.Fatal(err)
	}
	charter := admission.Charter{}.Without(idOf(other.operator), time.Now().Add(-time.Second))
	signed, err := admission.SignCharter(auth.root, charter, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Publish(admission.Statements{Charter: &signed}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a drops the node of the removed operator", func() bool { _, ok := a.Admitted(c.ID()); return !ok })
	if err := c.Connect(ctx, b.Addrs()); err == nil {
		t.Error("a node of a removed operator connected")
	}
	if _, ok := a.Admitted(b.ID()); !ok {
		t.Error("a node of another operator was dropped")
	}
}

func TestStatementsThatAreMadeUpAreNotBelieved(t *testing.T) {
	t.Parallel()
	auth, a, b := pairOf(t)
	fake := newAuthority(t)
	doc, err := a.Trust().Deny(fake.operator, fake.cert, admission.Denial{Peer: b.ID()}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	byNode, err := a.Trust().Deny(b.cfg.Key, auth.cert, admission.Denial{Peer: a.ID()}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	charter, err := admission.SignCharter(fake.root, admission.Charter{}.Without(idOf(auth.operator), time.Now()), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	b.tellTrust(a.ID(), admission.Statements{Charter: &charter, Denials: []admission.SignedDenial{doc, byNode}})
	if list := a.Trust().List(time.Now()); len(list) != 0 || a.Trust().Charter().Seq != 0 {
		t.Errorf("believed: %v, charter %d", list, a.Trust().Charter().Seq)
	}
	if _, ok := a.Admitted(b.ID()); !ok {
		t.Error("what was made up put a node out")
	}
	if a.digest() != b.digest() {
		t.Error("two nodes that know nothing differ")
	}
}
