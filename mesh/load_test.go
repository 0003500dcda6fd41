package mesh

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// onStream is the bound of an answer that does not fit on a lane.
const onStream = maxLaneAnswer + 1

func TestOneMoreThanAllowedIsBusy(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	release, entered := make(chan struct{}), make(chan struct{}, maxPeerInFlight)
	a.Handle("/perrin/hold/1", 10, func(context.Context, workload.PeerID, []byte) ([]byte, error) {
		entered <- struct{}{}
		<-release
		return []byte("ok"), nil
	})
	ctx := within(t, 60*time.Second)
	var calls sync.WaitGroup
	// One connection carries 256 streams at once, all of which the calls take:
	// the last place is taken by the node itself, so that a stream is left.
	for range maxPeerInFlight - 1 {
		calls.Go(func() {
			if _, err := b.Call(ctx, a.ID(), "/perrin/hold/1", nil, onStream); err != nil {
				t.Errorf("a call that fits: %v", err)
			}
		})
	}
	for range maxPeerInFlight - 1 {
		<-entered
	}
	a.mu.RLock()
	sv := a.unary["/perrin/hold/1"]
	a.mu.RUnlock()
	if !sv.limit.enter(b.ID(), 0) {
		t.Fatal("the last place is taken already")
	}
	if _, err := b.Call(ctx, a.ID(), "/perrin/hold/1", nil, onStream); !errors.Is(err, wire.Busy) {
		t.Errorf("one more: got %v, want busy", err)
	}
	if _, err := a.Call(within(t, 10*time.Millisecond), a.ID(), "/perrin/free/1", nil, 10); !errors.Is(err, wire.NotFound) {
		t.Errorf("another protocol is held up: %v", err)
	}
	sv.limit.leave(b.ID(), 0)
	close(release)
	calls.Wait()
	if got := a.Stats().Busy; got != 1 {
		t.Errorf("%d busy answers are counted, want 1", got)
	}
}

func TestBytesInMemoryAreBounded(t *testing.T) {
	t.Parallel()
	l := limiter{maxBytes: 100}
	id := workload.PeerID{1}
	if !l.enter(id, 60) || l.enter(id, 41) || !l.enter(id, 40) {
		t.Error("want 60 and 40 of 100 bytes to fit, and 41 not")
	}
	l.leave(id, 60)
	l.leave(id, 40)
	if len(l.peers) != 0 || l.total != 0 || l.bytes != 0 {
		t.Errorf("left behind: %+v", l.peers)
	}
}

func TestDeadPeerIsNoticedByACall(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	// b keeps its connection, and answers nothing: not the call, and not the ping.
	b.base.Network().SetStreamHandler(func(network.Stream) {})
	_, err := a.Call(within(t, 200*time.Millisecond), b.ID(), "/perrin/echo/1", nil, 10)
	if !errors.Is(err, wire.Unavailable) {
		t.Errorf("got %v, want unavailable", err)
	}
	eventually(t, "a has disconnected b", func() bool {
		return a.base.Network().Connectedness(peer.ID(b.base.ID())) != network.Connected
	})
}

func TestSlowPeerIsNotDisconnected(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	b.Handle("/perrin/slow/1", 10, func(ctx context.Context, _ workload.PeerID, _ []byte) ([]byte, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	if _, err := a.Call(within(t, 100*time.Millisecond), b.ID(), "/perrin/slow/1", nil, 10); !errors.Is(err, wire.Unavailable) {
		t.Errorf("got %v, want unavailable", err)
	}
	eventually(t, "the probe has ended", func() bool {
		_, busy := a.suspects.Load(b.base.ID())
		return !busy
	})
	if a.base.Network().Connectedness(b.base.ID()) != network.Connected {
		t.Error("a peer that is only slow was disconnected")
	}
}

func TestCloseEndsEverything(t *testing.T) {
	t.Parallel()
	auth := newAuthority(t)
	ctx, cancel := context.WithCancel(context.Background())
	h, err := New(ctx, auth.config(t, "x"))
	if err != nil {
		t.Fatal(err)
	}
	cancel() // the end of the context closes it
	eventually(t, "the host is closed", func() bool {
		h.mu.RLock()
		defer h.mu.RUnlock()
		return h.closed
	})
	if err := h.Close(); err != nil {
		t.Errorf("a second close: %v", err)
	}
	if _, err := h.Call(context.Background(), workload.PeerID{1}, "/perrin/echo/1", nil, 1); !errors.Is(err, wire.Unavailable) {
		t.Errorf("a call of a closed host: got %v", err)
	}
}

func TestAloneIsBootstrapped(t *testing.T) {
	t.Parallel()
	auth := newAuthority(t)
	cfg := auth.config(t, "x")
	cfg.Alone = true
	select {
	case <-startHost(t, cfg).Bootstrapped():
	default:
		t.Error("a host that expects nobody waits")
	}
	select {
	case <-auth.host(t, "y").Bootstrapped():
		t.Error("a host that expects somebody does not wait")
	default:
	}
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	good := newAuthority(t).config(t, "x")
	for name, spoil := range map[string]func(*Config){
		"no key":         func(c *Config) { c.Key = nil },
		"no certificate": func(c *Config) { c.Bundle.Root = workload.PeerID{}; c.Bundle.Node.Payload = nil },
		"no connections": func(c *Config) { c.ConnLow, c.ConnHigh = 10, 10 },
		"listen":         func(c *Config) { c.Listen = []string{"127.0.0.1:4001"} },
		"announce":       func(c *Config) { c.Announce = []string{"example"} },
		"port in use":    func(c *Config) { c.Listen = []string{"/ip4/192.0.2.77/udp/1/quic-v1"} },
	} {
		cfg := good
		spoil(&cfg)
		if h, err := New(context.Background(), cfg); err == nil {
			t.Errorf("%s: accepted", name)
			_ = h.Close()
		}
	}
}

func TestConnectNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	auth := newAuthority(t)
	h, other := auth.host(t, "x"), auth.host(t, "y")
	ctx := within(t, 30*time.Second)
	for _, addrs := range [][]string{nil, {"not an address"}, {"/ip4/127.0.0.1/udp/1/quic-v1"}} {
		if err := h.Connect(ctx, addrs); err == nil {
			t.Errorf("%q: connected", addrs)
		}
	}
	if err := h.ConnectPeer(ctx, workload.PeerID{1}, other.Addrs()); err == nil {
		t.Error("connected to one peer at the address of another")
	}
	if err := h.ConnectPeer(ctx, other.ID(), other.Addrs()); err != nil {
		t.Errorf("a good address: %v", err)
	}
	if err := h.ConnectPeer(ctx, h.ID(), nil); err != nil {
		t.Errorf("itself: %v", err)
	}
}

func BenchmarkCallParallel(b *testing.B) {
	x, y := pair(b)
	x.Handle("/perrin/echo/1", 1<<20, echo)
	req := make([]byte, 256)
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := y.Call(context.Background(), x.ID(), "/perrin/echo/1", req, 1<<10); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
