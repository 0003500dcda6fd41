package mesh_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/perrin-mesh/perrin/mesh"
	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/mesh/directory"
	"github.com/perrin-mesh/perrin/mesh/gossip"
	"github.com/perrin-mesh/perrin/mesh/meshtest"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// stack is a node with everything that opens a protocol.
func stack(t *testing.T, a *meshtest.Authority, reached chan<- string) *meshtest.Node {
	t.Helper()
	n := meshtest.Start(t, a.Config(t, "full"))
	d, err := directory.New(n.Host, directory.Config{Key: n.Key})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	g, err := gossip.New(n.Host, gossip.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	if _, err := g.JoinDigests("", time.Now); err != nil {
		t.Fatal(err)
	}
	n.Handle("/perrin/test-unary/1", 1000, func(context.Context, workload.PeerID, []byte) ([]byte, error) {
		reached <- "unary"
		return nil, nil
	})
	n.HandleStream("/perrin/test-stream/1", func(_ context.Context, _ workload.PeerID, s mesh.Stream) {
		reached <- "stream"
		_ = s.Close()
	})
	operator, err := admission.NewIssuer(n.ID(), meshtest.IDOf(a.Root), a.Cert, a.Operator, &memory{})
	if err != nil {
		t.Fatal(err)
	}
	n.ServeIssuer(operator, func() []string { return nil })
	return n
}

// raw is a libp2p host without any of our code, connected to a node.
func raw(t *testing.T, key ed25519.PrivateKey, to *meshtest.Node) host.Host {
	t.Helper()
	sk, err := crypto.UnmarshalEd25519PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	h, err := libp2p.New(libp2p.Identity(sk), libp2p.NoListenAddrs, libp2p.DisableMetrics())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	target := to.Libp2p()
	h.Peerstore().AddAddrs(target.ID(), target.Addrs(), time.Hour)
	if _, err := h.Network().DialPeer(meshtest.Within(t, 15*time.Second), target.ID()); err != nil {
		t.Fatal(err)
	}
	return h
}

// try opens a protocol with multistream-select by hand and returns how it ends.
func try(t *testing.T, h host.Host, to peer.ID, proto string) error {
	t.Helper()
	s, err := h.Network().NewStream(network.WithNoDial(meshtest.Within(t, 15*time.Second), "test"), to)
	if err != nil {
		return err
	}
	defer s.Reset()
	_ = s.SetDeadline(time.Now().Add(20 * time.Second))
	preface := "\x13/multistream/1.0.0\n" + string(rune(len(proto)+1)) + proto + "\n"
	if _, err := s.Write(append([]byte(preface), make([]byte, 64)...)); err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, s, int64(len(preface))); err != nil {
		return err
	}
	if _, err := s.Read(make([]byte, 1)); err != nil {
		return err
	}
	return nil
}

func TestEveryRegisteredProtocolIsClosedToStrangers(t *testing.T) {
	t.Parallel()
	a := meshtest.NewAuthority(t)
	reached := make(chan string, 10)
	n := stack(t, a, reached)
	stranger := raw(t, meshtest.Key(t), n)
	var protos []string
	for _, p := range n.Libp2p().Mux().Protocols() {
		if p != mesh.ProtoHello && p != mesh.ProtoJoin {
			protos = append(protos, string(p))
		}
	}
	for _, want := range []string{"/kad/1.0.0", "/meshsub/", "/ipfs/id/1.0.0", "/ipfs/ping/1.0.0", "/perrin/test-unary/1", "/perrin/test-stream/1", mesh.ProtoCertificate, directory.ProtoRecord} {
		if !slices.ContainsFunc(protos, func(p string) bool { return strings.Contains(p, want) }) {
			t.Errorf("no protocol like %s is registered, so that it is not tested: %q", want, protos)
		}
	}
	type result struct {
		proto string
		err   error
	}
	results := make(chan result)
	for _, p := range protos {
		go func() { results <- result{p, try(t, stranger, n.Libp2p().ID(), p)} }()
	}
	for range protos {
		r := <-results
		var stream *network.StreamError
		var conn *network.ConnError
		gated := errors.As(r.err, &stream) && stream.ErrorCode == network.StreamGated
		gone := errors.As(r.err, &conn)
		if !gated && !gone {
			t.Errorf("%s: got %v, want a closed gate", r.proto, r.err)
		}
	}
	select {
	case name := <-reached:
		t.Errorf("the stranger reached the %s handler", name)
	default:
	}
}

// memory is an admission.Store in memory.
type memory struct{ b []byte }

func (m *memory) Load() ([]byte, error) { return m.b, nil }
func (m *memory) Save(b []byte) error   { m.b = b; return nil }

func issuer(t *testing.T, a *meshtest.Authority, n *meshtest.Node) *admission.Issuer {
	t.Helper()
	i, err := admission.NewIssuer(n.ID(), meshtest.IDOf(a.Root), a.Cert, a.Operator, &memory{})
	if err != nil {
		t.Fatal(err)
	}
	n.ServeIssuer(i, n.Addrs)
	return i
}

// bare are a node's addresses without /p2p/.
func bare(n *meshtest.Node) []string {
	var out []string
	for _, a := range n.Libp2p().Addrs() {
		out = append(out, a.String())
	}
	return out
}

// TestManyJoinAtOnce: an issuer lets in some at a time, and the others come back
// by themselves.
func TestManyJoinAtOnce(t *testing.T) {
	t.Parallel()
	a := meshtest.NewAuthority(t)
	n := meshtest.Start(t, a.Config(t, "first"))
	const machines = 26 // more than the issuer takes in one burst
	inv, err := issuer(t, a, n).Invite(machines, time.Hour, bare(n), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	ctx := meshtest.Within(t, 60*time.Second)
	joined := make(chan error, machines)
	for i := range machines {
		key := meshtest.Key(t)
		go func() {
			_, err := mesh.Join(ctx, key, inv, fmt.Sprintf("n%d", i), false)
			joined <- err
		}()
	}
	for range machines {
		if err := <-joined; err != nil {
			t.Error(err)
		}
	}
}

func TestJoinThenTalkThenRenew(t *testing.T) {
	t.Parallel()
	a := meshtest.NewAuthority(t)
	n := meshtest.Start(t, a.Config(t, "first"))
	i := issuer(t, a, n)
	inv, err := i.Invite(1, time.Hour, bare(n), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	text, err := inv.Token()
	if err != nil {
		t.Fatal(err)
	}
	inv, err = admission.ParseToken(text)
	if err != nil {
		t.Fatal(err)
	}
	key := meshtest.Key(t)
	ctx := meshtest.Within(t, 30*time.Second)
	joined, err := mesh.Join(ctx, key, inv, "second", false)
	if err != nil {
		t.Fatal(err)
	}
	again, err := mesh.Join(ctx, key, inv, "second", false)
	if err != nil || again.Bundle.IsZero() {
		t.Errorf("the same machine asks again, as if the answer was lost: %v", err)
	}
	if _, err := mesh.Join(ctx, meshtest.Key(t), inv, "third", false); !errors.Is(err, admission.ErrTokenUsed) {
		t.Errorf("another machine with the used token: got %v, want %v", err, admission.ErrTokenUsed)
	}
	cfg := a.Config(t, "second")
	cfg.Key, cfg.Bundle = key, joined.Bundle
	m := meshtest.Start(t, cfg)
	if err := m.Connect(ctx, joined.Peers); err != nil {
		t.Fatal(err)
	}
	select {
	case <-m.Bootstrapped():
	case <-ctx.Done():
		t.Error("connected, and not bootstrapped")
	}
	if id, ok := n.Admitted(m.ID()); !ok || id.Name != "second" {
		t.Errorf("the first node knows the second as %+v, %v", id, ok)
	}
	renewed, err := m.Renew(ctx, n.ID())
	if err != nil || renewed.IsZero() {
		t.Errorf("renew: %v", err)
	}
}

func TestNodeThatSleptLongRejoins(t *testing.T) {
	t.Parallel()
	a := meshtest.NewAuthority(t)
	n := meshtest.Start(t, a.Config(t, "first"))
	issuer(t, a, n)
	key := meshtest.Key(t)
	ctx := meshtest.Within(t, 30*time.Second)
	old := a.Bundle(t, key, "sleeper", time.Now().Add(-10*24*time.Hour))
	joined, err := mesh.Rejoin(ctx, key, old, n.Addrs())
	if err != nil {
		t.Fatal(err)
	}
	id, err := joined.Bundle.Verify(a.Mesh(), meshtest.IDOf(key), time.Now())
	if err != nil || id.Name != "sleeper" {
		t.Errorf("got %+v, %v", id, err)
	}
	older := a.Bundle(t, key, "sleeper", time.Now().Add(-40*24*time.Hour))
	if _, err := mesh.Rejoin(ctx, key, older, n.Addrs()); !errors.Is(err, admission.ErrExpired) {
		t.Errorf("after the grace: got %v, want %v", err, admission.ErrExpired)
	}
	foreign := meshtest.NewAuthority(t).Bundle(t, key, "sleeper", time.Now())
	if _, err := mesh.Rejoin(ctx, key, foreign, n.Addrs()); !errors.Is(err, admission.ErrOtherMesh) {
		t.Errorf("another mesh's: got %v, want %v", err, admission.ErrOtherMesh)
	}
}

func TestJoinFailsWithOneClearReason(t *testing.T) {
	t.Parallel()
	a := meshtest.NewAuthority(t)
	n := meshtest.Start(t, a.Config(t, "first"))
	i := issuer(t, a, n)
	ctx := meshtest.Within(t, 60*time.Second)
	good, err := i.Invite(5, time.Hour, bare(n), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	wrongSecret, ended, unreached := good, good, good
	wrongSecret.Secret[0] ^= 1
	ended.Expires = time.Now().Add(-time.Hour)
	unreached.Addrs = []string{"/ip4/127.0.0.1/tcp/1"}
	long, err := i.Invite(1, time.Second, bare(n), time.Now().Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	long.Expires = time.Now().Add(time.Hour) // the joiner's clock is wrong, the issuer's is not
	other := good
	other.Root = meshtest.IDOf(meshtest.Key(t))
	for name, c := range map[string]struct {
		v    admission.Invitation
		as   string
		want error
	}{
		"wrong secret":           {wrongSecret, "x", admission.ErrTokenUnknown},
		"ended by our clock":     {ended, "x", admission.ErrTokenExpired},
		"ended by their clock":   {long, "x", admission.ErrTokenExpired},
		"another mesh":           {other, "x", admission.ErrOtherMesh},
		"a name that is not one": {good, "a b", admission.ErrName},
		"nobody there":           {unreached, "x", wire.Unavailable},
	} {
		_, err := mesh.Join(ctx, meshtest.Key(t), c.v, c.as, false)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
		if c.want != wire.Unavailable && admission.Hint(err) == "" {
			t.Errorf("%s: %v has no hint", name, err)
		}
	}
}

func TestTCPIsTheFallback(t *testing.T) {
	t.Parallel()
	a := meshtest.NewAuthority(t)
	cfg := a.Config(t, "tcp")
	cfg.Listen = []string{"/ip4/127.0.0.1/tcp/0"}
	n, m := meshtest.Start(t, cfg), meshtest.Start(t, a.Config(t, "m"))
	meshtest.Connect(t, m, n)
	n.Handle("/perrin/big/1", 1<<20, func(_ context.Context, _ workload.PeerID, req []byte) ([]byte, error) { return req, nil })
	got, err := m.Call(meshtest.Within(t, 15*time.Second), n.ID(), "/perrin/big/1", make([]byte, 1<<20), 1<<20)
	if err != nil || len(got) != 1<<20 {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	_, err = m.Call(meshtest.Within(t, 15*time.Second), n.ID(), "/perrin/none/1", nil, 1)
	if !errors.Is(err, wire.NotFound) {
		t.Errorf("unknown protocol over TCP: got %v", err)
	}
	if m.RTT(n.ID()) <= 0 {
		t.Error("no round trip is known over TCP")
	}
}

func TestPeersShowRoundTripAndName(t *testing.T) {
	t.Parallel()
	nodes := meshtest.Nodes(t, 3)
	nodes[0].Handle("/perrin/e/1", 10, func(context.Context, workload.PeerID, []byte) ([]byte, error) { return nil, nil })
	for _, n := range nodes[1:] {
		if _, err := n.Call(meshtest.Within(t, 15*time.Second), nodes[0].ID(), "/perrin/e/1", nil, 1); err != nil {
			t.Fatal(err)
		}
		if n.RTT(nodes[0].ID()) <= 0 {
			t.Error("no round trip is known over QUIC")
		}
	}
	peers := nodes[0].Peers()
	if len(peers) != 2 || peers[0].Name != "n1" || peers[1].Name != "n2" || len(peers[0].Addrs) == 0 || peers[0].Since.IsZero() {
		t.Errorf("peers: %+v", peers)
	}
}
