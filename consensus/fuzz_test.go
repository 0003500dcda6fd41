package consensus

import (
	"bytes"
	"context"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/workload"
)

// said is a connection on which a peer has said something and then hung up.
type said struct {
	net.Conn
	in   io.Reader
	once sync.Once
	over chan struct{}
}

func (s *said) Read(p []byte) (int, error)       { return s.in.Read(p) }
func (s *said) Write(p []byte) (int, error)      { return len(p), nil }
func (s *said) SetDeadline(time.Time) error      { return nil }
func (s *said) SetReadDeadline(time.Time) error  { return nil }
func (s *said) SetWriteDeadline(time.Time) error { return nil }
func (s *said) Close() error                     { s.once.Do(func() { close(s.over) }); return nil }

// overheard is Streams that keep what is written on them.
type overheard struct {
	Streams
	mu   *sync.Mutex
	said *[][]byte
}

// Dial implements Streams.
func (o overheard) Dial(ctx context.Context, to workload.PeerID, group string) (net.Conn, error) {
	c, err := o.Streams.Dial(ctx, to, group)
	if err != nil {
		return nil, err
	}
	return heard{c, o}, nil
}

type heard struct {
	net.Conn
	by overheard
}

// Write implements net.Conn.
func (h heard) Write(p []byte) (int, error) {
	h.by.mu.Lock()
	if len(*h.by.said) < 200 {
		*h.by.said = append(*h.by.said, slices.Clone(p))
	}
	h.by.mu.Unlock()
	return h.Conn.Write(p)
}

// realRPCs are what the servers of a small group say to each other.
func realRPCs(f *testing.F) (distinct [][]byte) {
	f.Helper()
	var mu sync.Mutex
	var all [][]byte
	c := newCluster(f, 2, 0, func(c *cluster) {
		c.tune = func(cfg *Config) { cfg.Streams = overheard{cfg.Streams, &mu, &all} }
	})
	c.propose(c.leader(), "entry", 3)
	mu.Lock()
	defer mu.Unlock()
	kinds := map[[2]int]bool{}
	for _, b := range all {
		if kind := [2]int{int(b[0]), len(b) / 32}; len(b) < 4096 && !kinds[kind] {
			kinds[kind] = true
			distinct = append(distinct, b)
		}
	}
	return distinct
}

// FuzzStream lets a voter say arbitrary bytes on a Raft connection to a server
// that has just been added. The connection is let go and the server can still
// be closed.
func FuzzStream(f *testing.F) {
	f.Add([]byte{0xff})
	var log []byte
	for _, b := range realRPCs(f) {
		f.Add(b)
		log = append(log, b...)
	}
	f.Add(log)
	f.Fuzz(func(t *testing.T, raw []byte) {
		cfg := Default()
		cfg.Group, cfg.Self, cfg.Storage, cfg.Streams = "cell", peer(1), NewMemory(), newNetwork().from(peer(1))
		cfg.FSM, cfg.Timing = newLedger(), quick()
		g, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		g.Admit(peer(0))
		conn := &said{in: bytes.NewReader(raw), over: make(chan struct{})}
		if err := g.ServeConn(peer(0), conn); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		select {
		case <-conn.over:
		case <-ctx.Done():
			t.Error("the connection is not let go")
		}
		if err := g.Close(ctx); err != nil {
			t.Errorf("the server does not close: %v", err)
		}
	})
}
