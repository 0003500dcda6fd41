package mesh

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/perrin-mesh/perrin/mesh/admission"
)

// hostAt is a host whose clock is that much ahead of the true time, with a
// certificate that was issued by its own clock.
func (a authority) hostAt(t testing.TB, name string, ahead time.Duration) *Host {
	t.Helper()
	cfg := a.config(t, name)
	cfg.Now = func() time.Time { return time.Now().Add(ahead) }
	cfg.Bundle = a.bundle(t, cfg.Key, name, cfg.Now())
	return startHost(t, cfg)
}

// oldAuthority is one whose operator was named days ago.
func oldAuthority(t testing.TB) authority {
	t.Helper()
	a := newAuthority(t)
	var err error
	a.cert, err = admission.IssueOperator(a.root, idOf(a.operator), "operator", time.Now().Add(-72*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestClocksApartConnectAndSaySo: what a fresh certificate allows for is no
// reason to stay away from each other, and both sides know of it.
func TestClocksApartConnectAndSaySo(t *testing.T) {
	auth := oldAuthority(t)
	a, b := auth.hostAt(t, "a", 0), auth.hostAt(t, "b", -100*time.Minute)
	if err := b.Connect(within(t, time.Minute), a.Addrs()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		of, other *Host
		by        time.Duration
	}{{a, b, -100 * time.Minute}, {b, a, 100 * time.Minute}} {
		got := c.of.Apart()
		if len(got) != 1 || got[0].Peer != c.other.ID() || (got[0].By-c.by).Abs() > time.Minute {
			t.Errorf("%s has %+v, want one that is %s ahead", c.of.ID().Short(), got, c.by)
		}
		c.of.ClockWasSet()
		if got := c.of.Apart(); len(got) != 0 {
			t.Errorf("after the clock was set: %+v", got)
		}
	}
}

// TestClocksTooFarApart: the side that refuses and the one that is refused both
// say by how much.
func TestClocksTooFarApart(t *testing.T) {
	auth := oldAuthority(t)
	a, b := auth.hostAt(t, "a", 0), auth.hostAt(t, "b", -3*time.Hour)
	err := b.Connect(within(t, time.Minute), a.Addrs())
	if !errors.Is(err, admission.ErrExpired) || !strings.Contains(err.Error(), "the clocks differ by 3h0m") {
		t.Errorf("the side that is behind: %v", err)
	}
	eventually(t, "the other side hears of it", func() bool { return a.Refusal() != nil })
	if got := a.Refusal().Reason; !strings.Contains(got, "the clocks differ by 3h0m") {
		t.Errorf("the other side: %s", got)
	}
}

func TestClocksThatAgreeAreNotNoted(t *testing.T) {
	a, b := pair(t)
	if got := append(a.Apart(), b.Apart()...); len(got) != 0 {
		t.Errorf("noted: %+v", got)
	}
	now := time.Now()
	for range 2 * maxApart {
		a.apart.note(Apart{idOf(newKey(t)), time.Hour, now})
	}
	if n := len(a.apart.peers); n > maxApart {
		t.Errorf("%d are kept, want at most %d", n, maxApart)
	}
	a.apart.note(Apart{b.ID(), time.Hour, now})
	a.apart.note(Apart{b.ID(), time.Second, now})
	if _, ok := a.apart.peers[b.ID()]; ok {
		t.Error("a clock that was set right is still noted")
	}
}

// TestNoClockEndsTheHandshake: libp2p's own certificates are not valid on a
// machine whose clock is an hour behind.
func TestNoClockEndsTheHandshake(t *testing.T) {
	a, b := pair(t)
	for _, c := range a.base.Network().ConnsToPeer(toLibp2p(b.ID())) {
		var q *quic.Conn
		if !c.As(&q) {
			t.Fatal("not a QUIC connection")
		}
		cert := q.ConnectionState().TLS.PeerCertificates[0]
		if cert.NotBefore.Year() > 1970 || cert.NotAfter.Year() < 9999 {
			t.Errorf("the certificate is valid from %s to %s", cert.NotBefore, cert.NotAfter)
		}
	}
}
