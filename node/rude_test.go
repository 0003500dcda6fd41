package node_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	endian "encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/perrin-mesh/perrin/mesh"
	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/devmesh"
	"github.com/perrin-mesh/perrin/workload"
)

// everyProtocol is what an admitted peer may open.
var everyProtocol = []string{
	wire.ProtoSubmit, wire.ProtoHold, wire.ProtoWhole, wire.ProtoChunk, wire.ProtoOffer, wire.ProtoCall,
	wire.ProtoRelease, wire.ProtoAward, wire.ProtoTake, wire.ProtoReturn, wire.ProtoClose, wire.ProtoDone,
	wire.ProtoRenew, wire.ProtoHalt, wire.ProtoSuited, wire.ProtoMember, wire.ProtoQuery, wire.ProtoStop,
	wire.ProtoLive, wire.ProtoPicture, wire.ProtoAttach, wire.ProtoRaft,
}

// TestRudePeers lets an admitted peer speak garbage, half a message, one that
// claims to be huge, or nothing on every protocol of a daemon, and clients
// disappear in the middle of uploads. The daemon ends each within a bound, keeps
// nothing of it, and serves on. What a stranger may reach is mesh's to test.
func TestRudePeers(t *testing.T) {
	t.Parallel()
	m := startMesh(t, devmesh.Options{Nodes: 1, Cores: 4, Args: []string{"--pprof"}})
	promises := m.askAll(0, askSingle, askMap, askShipped)
	calm := m.goroutines()
	h, to := m.rudePeer()
	var all errgroup.Group
	for _, proto := range everyProtocol {
		for name, message := range rudeMessages() {
			for range 3 {
				all.Go(func() error {
					if err := rude(t.Context(), h, to, proto, message); err != nil {
						return fmt.Errorf("%s, %s: %w", proto, name, err)
					}
					return nil
				})
			}
		}
	}
	m.vanish(20)
	promises = append(promises, m.askAll(0, askSingle, askMap, askShipped)...) // while the streams hang
	if err := all.Wait(); err != nil {
		t.Error(err)
	}
	for _, p := range promises {
		if err := p.kept(within(t, time.Minute), m.client(0)); err != nil {
			t.Error(err)
		}
	}
	h.Close()
	poll(t, 30*time.Second, "its goroutines are as before", func(context.Context) (int, error) {
		return m.goroutines(), nil
	}, func(n int) bool { return n < calm+60 })
}

// rudeMessages are what is wrong with a message, by name.
func rudeMessages() map[string][]byte {
	rng := rand.New(rand.NewPCG(1, 2))
	garbage := make([]byte, 200)
	for i := range garbage {
		garbage[i] = byte(rng.Uint32())
	}
	framed := func(claimed uint32, body []byte) []byte {
		head := endian.BigEndian.AppendUint32(nil, claimed)
		return append(endian.BigEndian.AppendUint32(head, 1000), body...) // and 1 s to answer
	}
	return map[string][]byte{
		"nothing": {}, "garbage": garbage, "a huge claim": framed(1<<31, garbage),
		"half a message": framed(1000, garbage), "a message of garbage": framed(200, garbage),
	}
}

// rudeWithin bounds how long a daemon may keep a stream that nobody speaks on:
// the time for a message's body and a little.
const rudeWithin = 45 * time.Second

// rude opens a stream, says its message and holds that the other side ends it.
func rude(ctx context.Context, h *mesh.Host, to workload.PeerID, proto string, message []byte) error {
	ctx, cancel := context.WithTimeout(ctx, rudeWithin)
	defer cancel()
	s, err := h.OpenStream(ctx, to, proto)
	if err != nil {
		return err
	}
	defer s.Reset() //nolint:errcheck // it is over either way
	if err := s.SetDeadline(time.Now().Add(rudeWithin)); err != nil {
		return err
	}
	if _, err := s.Write(message); err != nil {
		return nil // it was ended already
	}
	n, err := io.Copy(io.Discard, io.LimitReader(s, 1<<20))
	if errors.Is(err, os.ErrDeadlineExceeded) || n == 1<<20 {
		return fmt.Errorf("the stream is open after %s and %d bytes: %w", rudeWithin, n, err)
	}
	return nil
}

// rudePeer joins the mesh with a host that no daemon stands behind.
func (m *testMesh) rudePeer() (*mesh.Host, workload.PeerID) {
	t := m.t
	v, err := m.client(0).Invite(within(t, 10*time.Second), 1, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	invitation, err := admission.ParseToken(v.Token)
	if err != nil {
		t.Fatal(err)
	}
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	joined, err := mesh.Join(t.Context(), key, invitation, "rude", false)
	if err != nil {
		t.Fatal(err)
	}
	cfg := mesh.Default()
	cfg.Key, cfg.Bundle, cfg.Listen = key, joined.Bundle, []string{"/ip4/127.0.0.1/udp/0/quic-v1"}
	h, err := mesh.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	if err := h.Connect(within(t, 10*time.Second), joined.Peers); err != nil {
		t.Fatal(err)
	}
	return h, m.id(m.Members[0])
}

// vanish begins uploads and goes away in the middle of each, and holds that what
// had come is removed.
func (m *testMesh) vanish(clients int) {
	t := m.t
	for range clients {
		conn, err := net.Dial("unix", m.Members[0].Socket)
		if err != nil {
			t.Fatal(err)
		}
		head := "POST /v1/blobs HTTP/1.1\r\nHost: perrin\r\nContent-Type: application/octet-stream\r\nContent-Length: 50000000\r\n\r\n"
		if _, err := io.Copy(conn, io.MultiReader(bytes.NewReader([]byte(head)), io.LimitReader(zeros{}, 5<<20))); err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	poll(t, 20*time.Second, "nothing is left of half uploads", func(context.Context) (int, error) {
		left, err := os.ReadDir(filepath.Join(m.Members[0].Data, "blobs", "tmp"))
		return len(left), err
	}, func(left int) bool { return left == 0 })
}

// goroutines asks the daemon how many it has.
func (m *testMesh) goroutines() int {
	m.t.Helper()
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", m.Members[0].Socket)
	}}}
	resp, err := c.Get("http://perrin/debug/pprof/goroutine?debug=1")
	if err != nil {
		m.t.Fatal(err)
	}
	defer resp.Body.Close()
	n := 0
	if _, err := fmt.Fscanf(resp.Body, "goroutine profile: total %d\n", &n); err != nil {
		m.t.Fatal(err)
	}
	return n
}
