package consensus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/perrin-mesh/perrin/workload"
)

// layer is the raft.StreamLayer of one instance: connections come from ServeConn
// and go out through Streams. It owns every connection and closes all of them
// when it closes, which is what ends an instance's conversations.
type layer struct {
	cfg    *Config
	accept chan net.Conn
	ctx    context.Context // ends when the layer closes
	cancel context.CancelFunc

	mu      sync.Mutex // guards what follows
	conns   map[*conn]struct{}
	inbound map[workload.PeerID]int
}

var _ raft.StreamLayer = (*layer)(nil)

func newLayer(cfg *Config) *layer {
	ctx, cancel := context.WithCancel(context.Background())
	return &layer{
		cfg: cfg, accept: make(chan net.Conn), ctx: ctx, cancel: cancel,
		conns: map[*conn]struct{}{}, inbound: map[workload.PeerID]int{},
	}
}

// Accept returns the next connection that a peer opened.
func (l *layer) Accept() (net.Conn, error) {
	select {
	case c := <-l.accept:
		return c, nil
	case <-l.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Addr is the server's own peer ID.
func (l *layer) Addr() net.Addr { return peerAddr(l.cfg.Self) }

// Dial opens a connection to a server; to itself through memory.
func (l *layer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	to, err := workload.ParsePeerID(string(address))
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	ctx, cancel := context.WithTimeout(l.ctx, timeout)
	defer cancel()
	if to == l.cfg.Self {
		return l.dialSelf(ctx)
	}
	raw, err := l.cfg.Streams.Dial(ctx, to, l.cfg.Group)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", to.Short(), err)
	}
	return l.own(raw, to, false)
}

func (l *layer) dialSelf(ctx context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	if err := l.serve(ctx, l.cfg.Self, far); err != nil {
		return nil, errors.Join(err, near.Close())
	}
	return l.own(near, l.cfg.Self, false)
}

// serve hands a connection that a peer opened to the instance. It owns raw from
// the call on.
func (l *layer) serve(ctx context.Context, from workload.PeerID, raw net.Conn) error {
	c, err := l.own(raw, from, true)
	if err != nil {
		return err
	}
	select {
	case l.accept <- c:
		return nil
	case <-ctx.Done():
		return errors.Join(ctx.Err(), c.Close())
	case <-l.ctx.Done():
		return errors.Join(ErrStopped, c.Close())
	}
}

// own registers a connection, or closes it when there are too many or the layer
// is closed.
func (l *layer) own(raw net.Conn, peer workload.PeerID, inbound bool) (*conn, error) {
	c := &conn{Conn: newRepeat(raw), layer: l, peer: peer, inbound: inbound, walker: walker{requests: inbound}}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil {
		return nil, errors.Join(ErrStopped, raw.Close())
	}
	if inbound {
		if l.inbound[peer] >= l.cfg.MaxConns {
			err := fmt.Errorf("peer %s has %d connections to this group already", peer.Short(), l.inbound[peer])
			return nil, errors.Join(err, raw.Close())
		}
		l.inbound[peer]++
	}
	l.conns[c] = struct{}{}
	return c, nil
}

func (l *layer) disown(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
	if !c.inbound {
		return
	}
	if l.inbound[c.peer]--; l.inbound[c.peer] == 0 {
		delete(l.inbound, c.peer)
	}
}

// drop closes every connection with a peer.
func (l *layer) drop(peer workload.PeerID) {
	l.mu.Lock()
	var gone []*conn
	for c := range l.conns {
		if c.peer == peer {
			gone = append(gone, c)
		}
	}
	l.mu.Unlock()
	for _, c := range gone {
		c.Close()
	}
}

// Close closes every connection. Closing twice does nothing.
func (l *layer) Close() error {
	l.mu.Lock()
	l.cancel()
	open := make([]*conn, 0, len(l.conns))
	for c := range l.conns {
		open = append(open, c)
	}
	l.mu.Unlock()
	for _, c := range open {
		c.Close()
	}
	return nil
}

// inboundConns counts the connections that peers opened.
func (l *layer) inboundConns() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for p, k := range l.inbound {
		if p != l.cfg.Self {
			n += k
		}
	}
	return n
}

// conn is a connection with a peer. On the serving side it bounds what the peer
// sends before it gets an answer: the library reads whole messages into memory.
type conn struct {
	net.Conn
	layer   *layer
	peer    workload.PeerID
	inbound bool
	once    sync.Once
	taken   atomic.Int64 // bytes read since the last answer
	walker  walker       // of the reader
}

// Read reads, and fails with ErrTooLarge when a message or a field of it is over
// its bound, and with ErrMalformed when it is none.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.inbound && c.taken.Add(int64(n)) > c.layer.cfg.MaxSnapshot+maxHeader {
		return 0, fmt.Errorf("message from %s: %w", c.peer.Short(), ErrTooLarge)
	}
	if wrong := c.walker.walk(p[:n]); wrong != nil {
		return 0, fmt.Errorf("message from %s: %w", c.peer.Short(), wrong)
	}
	if errors.Is(err, net.ErrClosed) {
		err = io.EOF
	}
	return n, err
}

// maxHeader is room for what surrounds the largest message.
const maxHeader = 1 << 20

// Write writes.
func (c *conn) Write(p []byte) (int, error) {
	c.taken.Store(0)
	return c.Conn.Write(p)
}

// Close closes the connection once.
func (c *conn) Close() (err error) {
	c.once.Do(func() {
		c.layer.disown(c)
		err = c.Conn.Close()
	})
	return err
}

// LocalAddr is the server's own peer ID.
func (c *conn) LocalAddr() net.Addr { return peerAddr(c.layer.cfg.Self) }

// RemoteAddr is the peer's ID.
func (c *conn) RemoteAddr() net.Addr { return peerAddr(c.peer) }

// peerAddr makes a net.Addr of a peer ID.
type peerAddr workload.PeerID

func (a peerAddr) Network() string { return "perrin" }
func (a peerAddr) String() string  { return workload.PeerID(a).String() }
