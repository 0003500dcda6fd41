package mesh

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// stranger is a plain libp2p host that can dial a Host and say anything.
func stranger(t testing.TB, key ed25519.PrivateKey, to *Host) host.Host {
	t.Helper()
	base, err := guest(key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = base.Close() })
	base.Peerstore().AddAddrs(to.base.ID(), to.base.Addrs(), time.Hour)
	if _, err := base.Network().DialPeer(within(t, 10*time.Second), to.base.ID()); err != nil {
		t.Fatal(err)
	}
	return base
}

// openRaw opens a stream and sends a preface and a payload, as any program could.
func openRaw(t testing.TB, from host.Host, to *Host, proto string, payload []byte) network.Stream {
	t.Helper()
	s, err := from.Network().NewStream(network.WithNoDial(within(t, 10*time.Second), "test"), to.base.ID())
	if err != nil {
		t.Fatalf("%s: %v", proto, err)
	}
	_ = s.SetDeadline(time.Now().Add(15 * time.Second))
	if _, err := s.Write(append(preface(proto), payload...)); err != nil {
		t.Fatalf("%s: %v", proto, err)
	}
	return s
}

// sayRaw sends one hello with the bundle and returns the answer.
func sayRaw(t testing.TB, from host.Host, to *Host, m hello) (hello, error) {
	t.Helper()
	s := openRaw(t, from, to, ProtoHello, frame(wire.MustMarshal(m)))
	if err := readPreface(s, ProtoHello); err != nil {
		return hello{}, err
	}
	return readHello(s)
}

func helloOf(b admission.Bundle) hello {
	return hello{Newest: newestVersion, Oldest: oldestVersion,
		Body: wire.MustMarshal(helloBody{Mesh: b.Mesh(), Bundle: b})}
}

// expectGone fails the test unless the host disconnects the peer.
func expectGone(t testing.TB, who host.Host, from *Host) {
	t.Helper()
	gone := make(chan struct{}, 1)
	who.Network().Notify(&network.NotifyBundle{DisconnectedF: func(network.Network, network.Conn) {
		select {
		case gone <- struct{}{}:
		default:
		}
	}})
	if who.Network().Connectedness(from.base.ID()) != network.Connected {
		return
	}
	select {
	case <-gone:
	case <-time.After(HelloTimeout + 5*time.Second):
		t.Error("the stranger is still connected")
	}
}

// closedProtocols are names that a Host with a DHT and gossipsub serves, and
// libp2p's own.
var closedProtocols = []string{
	"/perrin/echo/1", "/perrin/talk/1", "/ipfs/id/1.0.0", "/ipfs/id/push/1.0.0", "/ipfs/ping/1.0.0", ProtoCertificate,
}

func TestStrangerReachesNoProtocol(t *testing.T) {
	t.Parallel()
	auth := newAuthority(t)
	h := auth.host(t, "member")
	reached := make(chan string, 100)
	h.Handle("/perrin/echo/1", 1000, func(context.Context, workload.PeerID, []byte) ([]byte, error) {
		reached <- "echo"
		return nil, nil
	})
	h.HandleStream("/perrin/talk/1", func(_ context.Context, _ workload.PeerID, s Stream) {
		reached <- "talk"
		_ = s.Close()
	})
	h.Libp2p().SetStreamHandler("/foreign/1", func(s network.Stream) {
		reached <- "a handler of another package"
		_ = s.Close()
	})
	who := stranger(t, newKey(t), h)
	type refusal struct {
		proto string
		err   error
	}
	results := make(chan refusal, len(closedProtocols)+1)
	protos := append([]string{"/foreign/1"}, closedProtocols...)
	for _, proto := range protos {
		s := openRaw(t, who, h, proto, make([]byte, requestHead))
		go func() {
			_, err := io.ReadAll(afterPreface(s, proto))
			results <- refusal{proto, err}
		}()
	}
	for range protos {
		if r := <-results; r.err == nil {
			t.Errorf("%s ended well for a stranger", r.proto)
		}
	}
	expectGone(t, who, h)
	select {
	case name := <-reached:
		t.Errorf("a stranger reached %s", name)
	default:
	}
}

// afterPreface reads what follows the agreement to the protocol.
func afterPreface(s network.Stream, proto string) io.Reader {
	if err := readPreface(s, proto); err != nil {
		return errReader{err}
	}
	return s
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

func TestHelloRefusesWithAReason(t *testing.T) {
	t.Parallel()
	auth, other := newAuthority(t), newAuthority(t)
	key := newKey(t)
	good := auth.bundle(t, key, "x", time.Now())
	forged := good
	forged.Node.Payload = append([]byte(nil), good.Node.Payload...)
	forged.Node.Payload[len(forged.Node.Payload)-1] ^= 1
	selfMade := good
	selfMade.Node = auth.bundleBy(t, newKey(t), key)
	for name, c := range map[string]struct {
		m    hello
		kind wire.Kind
		word string
	}{
		"no certificate":                 {helloOf(admission.Bundle{Root: good.Root}), wire.Unauthorized, "does not verify"},
		"nothing at all":                 {helloOf(admission.Bundle{}), wire.Unauthorized, "no certificate"},
		"another mesh":                   {helloOf(other.bundle(t, key, "x", time.Now())), wire.Unauthorized, "another mesh"},
		"expired":                        {helloOf(auth.bundle(t, key, "x", time.Now().Add(-25*time.Hour))), wire.Expired, "ended"},
		"not yet valid":                  {helloOf(auth.bundle(t, key, "x", time.Now().Add(admission.Backdate+time.Hour))), wire.Expired, "clock"},
		"forged":                         {helloOf(forged), wire.Unauthorized, "does not verify"},
		"signed by nobody's operator":    {helloOf(selfMade), wire.Unauthorized, "does not verify"},
		"another node's certificate":     {helloOf(auth.bundle(t, newKey(t), "y", time.Now())), wire.Unauthorized, "shows the certificate of"},
		"a version to come":              {hello{Newest: 9, Oldest: 7}, wire.Version, "versions 7 to 9"},
		"a body that is not one":         {hello{Newest: newestVersion, Oldest: oldestVersion, Body: []byte("hi")}, wire.Malformed, "hello"},
		"a version and a foreign future": {hello{Newest: 0, Oldest: 0}, wire.Version, "same release"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := auth.host(t, "member")
			who := stranger(t, key, h)
			answer, err := sayRaw(t, who, h, c.m)
			if err != nil {
				t.Fatalf("no answer: %v", err)
			}
			if answer.Err == nil || !errors.Is(answer.Err, c.kind) || !strings.Contains(answer.Err.Error(), c.word) {
				t.Errorf("got %v, want %s with %q", answer.Err, c.kind, c.word)
			}
			if len(answer.Body) > 0 {
				t.Error("a refused peer is shown this node's certificates")
			}
			expectGone(t, who, h)
			if _, ok := h.Admitted(idOf(key)); ok {
				t.Error("the peer counts as admitted")
			}
		})
	}
}

// bundleBy is a node certificate signed by a key that is no operator's.
func (a authority) bundleBy(t testing.TB, signer, node ed25519.PrivateKey) workload.Signed {
	t.Helper()
	cert, err := admission.IssueNode(signer, admission.MeshOf(idOf(a.root)), idOf(node), "x", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestBrokenHelloEndsTheConnection(t *testing.T) {
	t.Parallel()
	auth := newAuthority(t)
	h := auth.host(t, "member")
	for name, raw := range map[string][]byte{
		"not a message":   frame([]byte("hello")),
		"oversize":        {0xff, 0xff, 0xff, 0xff},
		"just over":       frame(make([]byte, maxHello+1)),
		"cut in the head": {0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			who := stranger(t, newKey(t), h)
			s := openRaw(t, who, h, ProtoHello, raw)
			_ = s.CloseWrite()
			expectGone(t, who, h)
		})
	}
}

func TestBothSidesSayWhyTheyDoNotFit(t *testing.T) {
	t.Parallel()
	a, b := newAuthority(t), newAuthority(t)
	x, y := a.host(t, "x"), b.host(t, "y")
	err := y.Connect(within(t, 10*time.Second), x.Addrs())
	if !errors.Is(err, wire.Unauthorized) || !strings.Contains(err.Error(), "another mesh") {
		t.Errorf("dialing another mesh: got %v", err)
	}
	_, err = y.Call(within(t, 10*time.Second), x.ID(), "/perrin/echo/1", nil, 10)
	if err == nil {
		t.Error("a call to another mesh succeeded")
	}
	if got := x.Stats().Refused; got == 0 {
		t.Error("the refusal is not counted")
	}
}

func TestListenerThatShowsNothingIsRefused(t *testing.T) {
	t.Parallel()
	auth := newAuthority(t)
	h := auth.host(t, "member")
	liar := startHost(t, auth.config(t, "liar"))
	foreign := newAuthority(t).bundle(t, liar.cfg.Key, "liar", time.Now())
	liar.bundle.Store(&foreign) // it still judges others by the mesh, and shows a foreign certificate
	err := h.Connect(within(t, 10*time.Second), liar.Addrs())
	if !errors.Is(err, admission.ErrOtherMesh) {
		t.Errorf("got %v, want %v", err, admission.ErrOtherMesh)
	}
	if len(h.Peers()) != 0 {
		t.Errorf("peers: %+v", h.Peers())
	}
}

func TestOwnCertificateIsChecked(t *testing.T) {
	t.Parallel()
	auth := newAuthority(t)
	cfg := auth.config(t, "x")
	cfg.Bundle = auth.bundle(t, newKey(t), "x", time.Now())
	if _, err := New(context.Background(), cfg); !errors.Is(err, admission.ErrNotAdmitted) {
		t.Errorf("another key's certificate: got %v", err)
	}
	cfg.Bundle = auth.bundle(t, cfg.Key, "x", time.Now().Add(-time.Hour-admission.NodeTTL-admission.OfflineGrace))
	if _, err := New(context.Background(), cfg); !errors.Is(err, admission.ErrExpired) {
		t.Errorf("expired: got %v", err)
	}
}

func TestRenewedCertificateReachesPeers(t *testing.T) {
	t.Parallel()
	auth := newAuthority(t)
	a, b := auth.host(t, "a"), auth.host(t, "b")
	if err := b.Connect(within(t, 10*time.Second), a.Addrs()); err != nil {
		t.Fatal(err)
	}
	before, _ := a.Admitted(b.ID())
	if err := b.SetBundle(auth.bundle(t, b.cfg.Key, "b", time.Now().Add(time.Minute))); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a sees the new certificate", func() bool {
		now, ok := a.Admitted(b.ID())
		return ok && now.NotAfter.After(before.NotAfter)
	})
}

// eventually polls a condition that another goroutine will make true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); <-tick.C {
		if ok() {
			return
		}
	}
	t.Fatalf("not in time: %s", what)
}

func TestEndedCertificateDisconnects(t *testing.T) {
	t.Parallel()
	auth := newAuthority(t)
	cfg := auth.config(t, "a")
	clock := newClock()
	cfg.Now = clock.now
	a, b := startHost(t, cfg), auth.host(t, "b")
	if err := b.Connect(within(t, 10*time.Second), a.Addrs()); err != nil {
		t.Fatal(err)
	}
	a.Handle("/perrin/echo/1", 10, echo)
	clock.advance(admission.NodeTTL + admission.OfflineGrace + 2*admission.ClockSkew)
	if _, err := b.Call(within(t, 10*time.Second), a.ID(), "/perrin/echo/1", nil, 10); err == nil {
		t.Error("a peer whose certificate has ended was answered")
	}
	a.sweepOnce()
	eventually(t, "b is disconnected", func() bool { return a.base.Network().Connectedness(peer.ID(b.base.ID())) != network.Connected })
}
