package mesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/perrin-mesh/perrin/workload"
)

// Stream is a reliable two-way stream of bytes to a peer. Close ends both
// directions and lets the other side read what was written; CloseWrite ends
// one, which the other side reads as io.EOF; Reset drops everything at once.
type Stream interface {
	net.Conn
	CloseWrite() error
	Reset() error
}

// StreamHandler owns a stream that an admitted peer has opened, and must end
// it. ctx ends with the host.
type StreamHandler func(ctx context.Context, from workload.PeerID, s Stream)

// HandleStream serves a protocol of streams; fn runs in a goroutine of its own
// for each stream, and also for those that the node opens to itself.
func (h *Host) HandleStream(proto string, fn StreamHandler) {
	checkProto(proto)
	h.mu.Lock()
	h.streams[proto] = fn
	h.mu.Unlock()
	h.base.Mux().AddHandler(protocol.ID(proto), func(_ protocol.ID, rwc io.ReadWriteCloser) error {
		s := rwc.(network.Stream)
		from, err := fromLibp2p(s.Conn().RemotePeer())
		if err != nil {
			return s.Reset()
		}
		fn(h.ctx, from, &peerStream{Stream: s, local: addr(h.id), remote: addr(from)})
		return nil
	})
}

// OpenStream opens a stream to a peer, or to the node itself. ctx bounds the
// opening only. The peer's agreement to the protocol comes with the first
// read; a peer that does not serve it makes that read fail with wire.NotFound.
func (h *Host) OpenStream(ctx context.Context, to workload.PeerID, proto string) (Stream, error) {
	if to == h.id {
		return h.openSelf(proto)
	}
	s, err := h.open(ctx, to, proto)
	if err != nil {
		return nil, fmt.Errorf("open %s to %s: %w", proto, to.Short(), err)
	}
	return &peerStream{Stream: s, local: addr(h.id), remote: addr(to), proto: proto}, nil
}

// peerStream is a libp2p stream as a Stream. On the side that opened it, the
// preface goes in front of the first write, or alone before the first read.
type peerStream struct {
	network.Stream
	local, remote addr
	proto         string // empty on the side that accepted

	write sync.Once // the preface has been sent
	read  sync.Once // the agreement has been read
	werr  error
	rerr  error
}

// Write writes b, which the peer's agreement to the protocol need not precede.
func (s *peerStream) Write(b []byte) (int, error) {
	n := -1
	if s.proto != "" {
		s.write.Do(func() { n, s.werr = s.first(b) })
	}
	if n >= 0 || s.werr != nil {
		return max(n, 0), s.werr
	}
	return s.Stream.Write(b)
}

// first writes the preface and b and returns how much of b was written.
func (s *peerStream) first(b []byte) (int, error) {
	head := preface(s.proto)
	n, err := s.Stream.Write(append(head, b...))
	return max(n-len(head), 0), err
}

// Read reads what the peer has written.
func (s *peerStream) Read(b []byte) (int, error) {
	if s.proto != "" {
		s.read.Do(func() { s.rerr = s.agree() })
		if s.rerr != nil {
			return 0, s.rerr
		}
	}
	return s.Stream.Read(b)
}

func (s *peerStream) agree() error {
	s.write.Do(func() { _, s.werr = s.first(nil) })
	if s.werr != nil {
		return s.werr
	}
	return readPreface(s.Stream, s.proto)
}

// CloseWrite tells the peer that nothing more comes.
func (s *peerStream) CloseWrite() error {
	if s.proto != "" {
		s.write.Do(func() { _, s.werr = s.first(nil) })
	}
	return s.Stream.CloseWrite()
}

// Close ends both directions; what was written still arrives.
func (s *peerStream) Close() error {
	if s.proto != "" {
		s.write.Do(func() { _, s.werr = s.first(nil) })
	}
	return s.Stream.Close()
}

func (s *peerStream) LocalAddr() net.Addr  { return s.local }
func (s *peerStream) RemoteAddr() net.Addr { return s.remote }

// addr is a peer as a net.Addr.
type addr workload.PeerID

func (addr) Network() string  { return "perrin" }
func (a addr) String() string { return workload.PeerID(a).String() }

// PeerOf returns the peer at an address of a Stream.
func PeerOf(a net.Addr) (workload.PeerID, bool) {
	p, ok := a.(addr)
	return workload.PeerID(p), ok
}

// openSelf connects two ends of a socket pair: a stream within the process
// that buffers, as one to a peer does.
func (h *Host) openSelf(proto string) (Stream, error) {
	h.mu.RLock()
	fn, ok := h.streams[proto]
	h.mu.RUnlock()
	if !ok {
		return nil, notServed(proto)
	}
	near, far, err := socketPair(addr(h.id))
	if err != nil {
		return nil, fmt.Errorf("open %s to this node: %w", proto, err)
	}
	h.spawn(func() { fn(h.ctx, h.id, far) })
	return near, nil
}

// selfStream is an end of a socket pair.
type selfStream struct {
	*net.UnixConn
	self addr
}

func (s selfStream) LocalAddr() net.Addr  { return s.self }
func (s selfStream) RemoteAddr() net.Addr { return s.self }
func (s selfStream) Reset() error         { return s.UnixConn.Close() }

func socketPair(self addr) (near, far Stream, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	a, errA := unixConn(fds[0])
	b, errB := unixConn(fds[1])
	if err := errors.Join(errA, errB); err != nil {
		return nil, nil, errors.Join(err, closeIf(a), closeIf(b))
	}
	return selfStream{a, self}, selfStream{b, self}, nil
}

func unixConn(fd int) (*net.UnixConn, error) {
	f := os.NewFile(uintptr(fd), "self")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return c.(*net.UnixConn), nil
}

func closeIf(c *net.UnixConn) error {
	if c == nil {
		return nil
	}
	return c.Close()
}

func addrInfo(id peer.ID) peer.AddrInfo { return peer.AddrInfo{ID: id} }
