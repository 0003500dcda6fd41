package mesh

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// authority is the keys of a mesh under test.
type authority struct {
	root, operator ed25519.PrivateKey
	cert           workload.Signed
}

func newAuthority(t testing.TB) authority {
	t.Helper()
	a := authority{root: newKey(t), operator: newKey(t)}
	var err error
	a.cert, err = admission.IssueOperator(a.root, idOf(a.operator), "operator", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func newKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	key, err := admission.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func idOf(key ed25519.PrivateKey) workload.PeerID {
	return workload.PeerIDOf(key.Public().(ed25519.PublicKey))
}

// bundle admits the key's node from the given time on.
func (a authority) bundle(t testing.TB, key ed25519.PrivateKey, name string, from time.Time) admission.Bundle {
	t.Helper()
	root := idOf(a.root)
	node, err := admission.IssueNode(a.operator, admission.MeshOf(root), idOf(key), name, from)
	if err != nil {
		t.Fatal(err)
	}
	return admission.Bundle{Root: root, Operator: a.cert, Node: node}
}

func (a authority) config(t testing.TB, name string) Config {
	t.Helper()
	cfg := Default()
	cfg.Key = newKey(t)
	cfg.Bundle = a.bundle(t, cfg.Key, name, time.Now())
	cfg.Listen = []string{"/ip4/127.0.0.1/udp/0/quic-v1"}
	cfg.Log = testLog(t)
	return cfg
}

// testLog logs to the test while it runs.
func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

func startHost(t testing.TB, cfg Config) *Host {
	t.Helper()
	h, err := New(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return h
}

func (a authority) host(t testing.TB, name string) *Host {
	t.Helper()
	return startHost(t, a.config(t, name))
}

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// pair is two connected hosts of one mesh.
func pair(t testing.TB) (a, b *Host) {
	t.Helper()
	_, a, b = pairOf(t)
	return a, b
}

func pairOf(t testing.TB) (auth authority, a, b *Host) {
	t.Helper()
	auth = newAuthority(t)
	a, b = auth.host(t, "a"), auth.host(t, "b")
	if err := b.Connect(within(t, 10*time.Second), a.Addrs()); err != nil {
		t.Fatal(err)
	}
	return auth, a, b
}

// deny publishes on h that peer is put out, or with lift let in again.
func (a authority) deny(t testing.TB, h *Host, peer workload.PeerID, lift bool) {
	t.Helper()
	doc, err := h.Trust().Deny(a.operator, a.cert, admission.Denial{Peer: peer, Lift: lift}, time.Now())
	if err == nil {
		err = h.Publish(admission.Statements{Denials: []admission.SignedDenial{doc}})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func echo(_ context.Context, _ workload.PeerID, req []byte) ([]byte, error) { return req, nil }

func TestCallAcrossAndToSelf(t *testing.T) {
	a, b := pair(t)
	a.Handle("/perrin/echo/1", 1<<20, echo)
	for _, caller := range []*Host{b, a} {
		for _, size := range []int{0, 1, 1 << 10, 1 << 20} {
			req := bytes.Repeat([]byte{7}, size)
			resp, err := caller.Call(within(t, 10*time.Second), a.ID(), "/perrin/echo/1", req, 1<<20)
			if err != nil || !bytes.Equal(resp, req) {
				t.Errorf("%d bytes: got %d bytes back, %v", size, len(resp), err)
			}
		}
	}
	identity, ok := a.Admitted(b.ID())
	if !ok || identity.Name != "b" {
		t.Errorf("a knows b as %+v, %v", identity, ok)
	}
}

func TestTrafficIsCountedAlsoOfClosedConnections(t *testing.T) {
	auth, a, b := pairOf(t)
	a.Handle("/perrin/echo/1", 1<<20, echo)
	if _, err := b.Call(within(t, 10*time.Second), a.ID(), "/perrin/echo/1", make([]byte, 1<<20), 1<<20); err != nil {
		t.Fatal(err)
	}
	open := b.Stats()
	if open.BytesSent < 1<<20 || open.BytesReceived < 1<<20 || open.BytesSent > 2<<20 {
		t.Errorf("a mebibyte there and back: %d sent, %d received", open.BytesSent, open.BytesReceived)
	}
	auth.deny(t, b, a.ID(), false)
	eventually(t, "the closed connection is counted", func() bool {
		closed := b.Stats()
		return len(b.base.Network().Conns()) == 0 && closed.BytesSent >= open.BytesSent && closed.BytesReceived >= open.BytesReceived
	})
}

func TestErrorsKeepTheirKindAcrossTheWire(t *testing.T) {
	a, b := pair(t)
	secret := errors.New("open /var/lib/perrin/node.key: permission denied")
	failures := map[string]struct {
		err  error
		kind wire.Kind
	}{
		"/perrin/e-kind/1":     {fmt.Errorf("member: %w", wire.Exists), wire.Exists},
		"/perrin/e-leader/1":   {&wire.Error{Kind: wire.NotLeader, Leader: b.ID()}, wire.NotLeader},
		"/perrin/e-internal/1": {secret, wire.Internal},
		"/perrin/e-time/1":     {context.DeadlineExceeded, wire.Unavailable},
	}
	for proto, f := range failures {
		a.Handle(proto, 10, func(context.Context, workload.PeerID, []byte) ([]byte, error) { return nil, f.err })
		for _, caller := range []*Host{a, b} {
			_, err := caller.Call(within(t, 10*time.Second), a.ID(), proto, nil, 10)
			if !errors.Is(err, f.kind) {
				t.Errorf("%s: got %v, want kind %s", proto, err, f.kind)
			}
			if err != nil && strings.Contains(err.Error(), "node.key") {
				t.Errorf("%s tells the peer %q", proto, err)
			}
		}
	}
	_, err := b.Call(within(t, 10*time.Second), a.ID(), "/perrin/e-leader/1", nil, 10)
	var we *wire.Error
	if !errors.As(err, &we) || we.Leader != b.ID() {
		t.Errorf("the hint to the leader is lost: %v", err)
	}
}

func TestSizesAreBounded(t *testing.T) {
	a, b := pair(t)
	a.Handle("/perrin/small/1", 100, func(context.Context, workload.PeerID, []byte) ([]byte, error) {
		return make([]byte, 200), nil
	})
	for _, caller := range []*Host{a, b} {
		for name, call := range map[string]struct {
			proto   string
			req     int
			maxResp int
			kind    wire.Kind
		}{
			"request over the limit": {"/perrin/small/1", 101, 1000, wire.TooLarge},
			"answer over the limit":  {"/perrin/small/1", 100, 199, wire.TooLarge},
			"unknown protocol":       {"/perrin/none/1", 1, 1, wire.NotFound},
		} {
			_, err := caller.Call(within(t, 10*time.Second), a.ID(), call.proto, make([]byte, call.req), call.maxResp)
			if !errors.Is(err, call.kind) {
				t.Errorf("%s: got %v, want %s", name, err, call.kind)
			}
		}
	}
}

type question struct {
	Text string `cbor:"1,keyasint" max:"10"`
}

func TestTypedMessagesAreChecked(t *testing.T) {
	a, b := pair(t)
	HandleTyped(a, "/perrin/typed/1", 1000, func(_ context.Context, from workload.PeerID, q *question) (*question, error) {
		return &question{Text: q.Text + "!"}, nil
	})
	ctx := within(t, 10*time.Second)
	got, err := CallTyped[question, question](ctx, b, a.ID(), "/perrin/typed/1", &question{"hello"}, 100)
	if err != nil || got.Text != "hello!" {
		t.Errorf("got %+v, %v", got, err)
	}
	_, err = CallTyped[question, question](ctx, b, a.ID(), "/perrin/typed/1", &question{"longer than ten"}, 100)
	if !errors.Is(err, wire.Malformed) {
		t.Errorf("a field over its bound: got %v, want malformed", err)
	}
	_, err = b.Call(ctx, a.ID(), "/perrin/typed/1", []byte("not cbor"), 100)
	if !errors.Is(err, wire.Malformed) {
		t.Errorf("not CBOR: got %v, want malformed", err)
	}
}

func TestCallerWhoGivesUpEndsTheHandler(t *testing.T) {
	a, b := pair(t)
	started, ended := make(chan struct{}), make(chan error, 1)
	a.Handle("/perrin/slow/1", 10, func(ctx context.Context, _ workload.PeerID, _ []byte) ([]byte, error) {
		close(started)
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	})
	ctx, cancel := context.WithCancel(within(t, 20*time.Second))
	go func() {
		<-started
		cancel()
	}()
	_, err := b.Call(ctx, a.ID(), "/perrin/slow/1", nil, 10)
	if !errors.Is(err, wire.Unavailable) {
		t.Errorf("got %v, want unavailable", err)
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("the handler still runs")
	}
}

func TestStreamsAcrossAndToSelf(t *testing.T) {
	a, b := pair(t)
	a.HandleStream("/perrin/rev/1", func(_ context.Context, from workload.PeerID, s Stream) {
		defer s.Close()
		all, err := io.ReadAll(s)
		if err != nil {
			return
		}
		fmt.Fprintf(s, "%d bytes of %s", len(all), from.Short())
	})
	for _, opener := range []*Host{a, b} {
		s, err := opener.OpenStream(within(t, 10*time.Second), a.ID(), "/perrin/rev/1")
		if err != nil {
			t.Fatal(err)
		}
		for range 10 {
			if _, err := s.Write(make([]byte, 10000)); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(s)
		want := "100000 bytes of " + opener.ID().Short()
		if err != nil || string(got) != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if who, ok := PeerOf(s.RemoteAddr()); !ok || who != a.ID() {
			t.Errorf("remote address is %v", s.RemoteAddr())
		}
	}
	s, err := b.OpenStream(within(t, 10*time.Second), a.ID(), "/perrin/none/1")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, wire.NotFound) {
		t.Errorf("a protocol nobody serves: got %v, want not-found", err)
	}
}

func BenchmarkCall(b *testing.B) {
	x, y := pair(b)
	x.Handle("/perrin/echo/1", 1<<20, echo)
	req := make([]byte, 256)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := y.Call(context.Background(), x.ID(), "/perrin/echo/1", req, 1<<10); err != nil {
			b.Fatal(err)
		}
	}
}

// clock is a time that the test moves.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Now()} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}
