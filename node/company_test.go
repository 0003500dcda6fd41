package node

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/perrin-mesh/perrin/mesh"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
)

// wiretap notes every byte of every message between the nodes of a test.
type wiretap struct {
	mu   sync.Mutex
	said []overheard
}

// overheard is what went between two nodes on one protocol.
type overheard struct {
	a, b  workload.PeerID
	proto string
	bytes []byte
}

func (w *wiretap) note(a, b workload.PeerID, proto string, p []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, overheard{a, b, proto, bytes.Clone(p)})
}

// tapped is a node's server whose messages are noted. Evidence is left out: it
// is bound to the connection that its stream says it has.
type tapped struct {
	mesh.Server
	self workload.PeerID
	tap  *wiretap
}

// Handle implements mesh.Server.
func (s *tapped) Handle(proto string, maxReq int, fn mesh.Handler) {
	s.HandleBulk(proto, maxReq, fn, nil)
}

// HandleBulk implements mesh.Server.
func (s *tapped) HandleBulk(proto string, maxReq int, fn mesh.Handler, sent func([]byte)) {
	s.Server.HandleBulk(proto, maxReq, func(ctx context.Context, from workload.PeerID, raw []byte) ([]byte, error) {
		s.tap.note(from, s.self, proto, raw)
		answer, err := fn(ctx, from, raw)
		s.tap.note(from, s.self, proto, answer)
		return answer, err
	}, sent)
}

// HandleStream implements mesh.Server.
func (s *tapped) HandleStream(proto string, fn mesh.StreamHandler) {
	if proto == wire.ProtoAttest {
		return
	}
	s.Server.HandleStream(proto, func(ctx context.Context, from workload.PeerID, stream mesh.Stream) {
		fn(ctx, from, &tappedStream{stream, func(p []byte) { s.tap.note(from, s.self, proto, p) }})
	})
}

type tappedStream struct {
	mesh.Stream
	note func([]byte)
}

// Read implements net.Conn.
func (s *tappedStream) Read(p []byte) (int, error) {
	n, err := s.Stream.Read(p)
	s.note(p[:n])
	return n, err
}

// Write implements net.Conn.
func (s *tappedStream) Write(p []byte) (int, error) {
	s.note(p)
	return s.Stream.Write(p)
}

// company is a mesh of whole nodes in this process, whose messages and logs are noted.
type company struct {
	nodes []*Node
	stop  []func()
	tap   wiretap
	logs  logged
}

// logged is all that the nodes logged, of every level.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// has reports whether a marker was logged.
func (l *logged) has(marker string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Contains(l.text.Bytes(), []byte(marker))
}

// startCompany starts one node for each config, the first of which founds the mesh.
func startCompany(t *testing.T, cfgs ...Config) *company {
	t.Helper()
	c := &company{}
	for i, cfg := range cfgs {
		if i == 0 {
			cfg.Data = t.TempDir()
			if _, err := Init(cfg.Data, cfg.Name); err != nil {
				t.Fatal(err)
			}
			c.start(t, cfg)
			continue
		}
		c.admit(t, c.nodes[0], cfg)
	}
	c.settle(t)
	return c
}

// admit has a node join with an invitation of an operator's node.
func (c *company) admit(t *testing.T, by *Node, cfg Config) {
	t.Helper()
	v, err := by.Backend().Invite(t.Context(), 1, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Data = t.TempDir()
	if _, err := Join(t.Context(), cfg.Data, cfg.Name, v.Token); err != nil {
		t.Fatal(err)
	}
	c.start(t, cfg)
}

// settle waits until the nodes know each other and the cell has its voters.
func (c *company) settle(t *testing.T) {
	t.Helper()
	for _, n := range c.nodes {
		until(t, n.name+" knows the offers of all", func() bool {
			nodes, err := n.Backend().Nodes(t.Context(), "")
			return err == nil && len(nodes) == len(c.nodes) && !slices.ContainsFunc(nodes, func(n api.Node) bool { return !n.Alive })
		})
	}
	until(t, "the cell has its voters", func() bool {
		st, err := c.nodes[0].Backend().Status(t.Context(), false)
		return err == nil && st.Ready && (len(st.Cells[0].Voters) == 3 || len(c.nodes) < 3)
	})
}

func (c *company) start(t *testing.T, cfg Config) {
	t.Helper()
	cfg.Listen, cfg.Loopback, cfg.Log = []string{"/ip4/127.0.0.1/udp/0/quic-v1"}, true, testLog(t)
	if !testing.Verbose() {
		cfg.Log = slog.New(slog.NewTextHandler(&c.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	n, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	n.serve(&tapped{n.host, n.self, &c.tap})
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	stop := sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	select {
	case <-n.Ready():
	case err := <-done:
		done <- err
		t.Fatal(err)
	}
	c.nodes, c.stop = append(c.nodes, n), append(c.stop, stop)
}

// until polls a condition of something real, for a minute.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
		<-tick.C
	}
}

// heard lists between whom, on which protocol, a marker went, but for two nodes
// between themselves.
func (c *company) heard(marker string, but ...workload.PeerID) (where []string) {
	c.tap.mu.Lock()
	defer c.tap.mu.Unlock()
	for _, o := range c.tap.said {
		if bytes.Contains(o.bytes, []byte(marker)) && !(slices.Contains(but, o.a) && slices.Contains(but, o.b)) {
			where = append(where, fmt.Sprintf("%s between %s and %s", o.proto, o.a.Short(), o.b.Short()))
		}
	}
	return where
}

// stored lists the files below the nodes' data folders that hold a marker, or
// are named with one, by marker.
func (c *company) stored(t *testing.T, markers map[string]string) map[string][]string {
	t.Helper()
	where := map[string][]string{}
	for _, n := range c.nodes {
		err := filepath.WalkDir(n.cfg.Data, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return nil // it was removed meanwhile
			}
			content := written(path)
			for what, marker := range markers {
				if strings.Contains(path, marker) || bytes.Contains(content, []byte(marker)) {
					where[what] = append(where[what], path)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return where
}

// written reads a file without its holes, of which a database has many.
func written(path string) (content []byte) {
	f, err := os.Open(path)
	if err != nil {
		return nil // it was removed meanwhile
	}
	defer f.Close()
	for at := int64(0); ; {
		from, err := f.Seek(at, unix.SEEK_DATA)
		if err != nil {
			return content
		}
		to, err := f.Seek(from, unix.SEEK_HOLE)
		if err != nil {
			return content
		}
		part := make([]byte, to-from)
		n, _ := f.ReadAt(part, from)
		content, at = append(content, part[:n]...), to
	}
}

// heardBy lists on which protocol a marker went to or from some nodes.
func (c *company) heardBy(marker string, nodes ...*Node) (where []string) {
	c.tap.mu.Lock()
	defer c.tap.mu.Unlock()
	for _, o := range c.tap.said {
		if bytes.Contains(o.bytes, []byte(marker)) && slices.ContainsFunc(nodes, func(n *Node) bool { return n.self == o.a || n.self == o.b }) {
			where = append(where, o.proto)
		}
	}
	return where
}
