package packetnet

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// inboxSize bounds the packets that wait to be read on one connection, as a
// socket's buffer does.
const inboxSize = 4096

// Conn is one address on a Network. One goroutine at a time may read.
type Conn struct {
	net  *Network
	at   netip.AddrPort
	addr *net.UDPAddr

	ready chan struct{} // there is something to read, or a reason not to wait

	mu       sync.Mutex // guards the rest
	inbox    []arrival
	closed   bool
	deadline time.Time
	alarm    *time.Timer // at the deadline
}

type arrival struct {
	data []byte
	from *net.UDPAddr
}

var _ net.PacketConn = (*Conn)(nil)

func newConn(n *Network, at netip.AddrPort) *Conn {
	return &Conn{net: n, at: at, addr: net.UDPAddrFromAddrPort(at), ready: make(chan struct{}, 1)}
}

// LocalAddr is a *net.UDPAddr.
func (c *Conn) LocalAddr() net.Addr { return c.addr }

// WriteTo sends a copy of p. Whether it arrives is never known here.
func (c *Conn) WriteTo(p []byte, to net.Addr) (int, error) {
	udp, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, &net.OpError{Op: "write", Net: "udp", Addr: to, Err: net.InvalidAddrError("want a *net.UDPAddr")}
	}
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	if closed {
		return 0, net.ErrClosed
	}
	at := udp.AddrPort()
	c.net.send(c, netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), bytes.Clone(p))
	return len(p), nil
}

// ReadFrom waits for a packet. One that is longer than p is cut off.
func (c *Conn) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		a, ok, err := c.next()
		if err != nil {
			return 0, nil, err
		}
		if ok {
			return copy(p, a.data), a.from, nil
		}
		<-c.ready
	}
}

func (c *Conn) next() (a arrival, ok bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return a, false, net.ErrClosed
	case !c.deadline.IsZero() && !time.Now().Before(c.deadline):
		return a, false, os.ErrDeadlineExceeded
	case len(c.inbox) == 0:
		return a, false, nil
	}
	a = c.inbox[0]
	c.inbox[0] = arrival{}
	if c.inbox = c.inbox[1:]; len(c.inbox) == 0 {
		c.inbox = nil
	}
	return a, true, nil
}

// hear takes a packet in and reports whether there was room for it.
func (c *Conn) hear(a arrival) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.inbox) >= inboxSize {
		return false
	}
	c.inbox = append(c.inbox, a)
	c.signal()
	return true
}

func (c *Conn) signal() {
	select {
	case c.ready <- struct{}{}:
	default:
	}
}

// Close gives the address free; a read that waits fails.
func (c *Conn) Close() error {
	c.net.mu.Lock()
	if c.net.conns[c.at] == c {
		delete(c.net.conns, c.at)
	}
	c.net.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.closed = true
	c.inbox = nil
	if c.alarm != nil {
		c.alarm.Stop()
	}
	c.signal()
	return nil
}

// SetReadDeadline fails reads from t on; the zero time takes that back.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.deadline = t
	if c.alarm != nil {
		c.alarm.Stop()
		c.alarm = nil
	}
	if !t.IsZero() {
		c.alarm = time.AfterFunc(time.Until(t), c.signal)
	}
	return nil
}

// SetDeadline is SetReadDeadline: writes never wait.
func (c *Conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetWriteDeadline does nothing.
func (c *Conn) SetWriteDeadline(time.Time) error { return nil }

// SetReadBuffer does nothing: the buffer has its size. QUIC asks for it.
func (c *Conn) SetReadBuffer(int) error { return nil }

// SetWriteBuffer does nothing.
func (c *Conn) SetWriteBuffer(int) error { return nil }
