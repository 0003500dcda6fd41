// Package packetnet is a network of datagrams inside one process. Its
// connections are net.PacketConns, so that real protocols run over it: QUIC,
// and with it a whole mesh.
//
// A packet waits for its sender's line, travels for the latency of its path
// and some jitter, waits for its receiver's line, and is then read. On the way
// it may be lost: to chance, to a cut, because a queue is full, or because
// nobody listens. Packets overtake each other when jitter says so.
//
// All delays are timers of package time. In a testing/synctest bubble they cost
// no wall time, as long as the network was made inside the bubble. Chance comes
// from a seed and is drawn for each path by itself, in the order in which
// packets are sent on it; what sends the packets may still do so in an order
// that differs from run to run.
package packetnet

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"
)

// ErrAddressInUse is returned when an address is listened on already.
var ErrAddressInUse = errors.New("address in use")

// Link is what happens to packets on one path, in one direction. The zero Link
// delivers at once.
type Link struct {
	Latency time.Duration // one way
	Jitter  time.Duration // up to so much more, evenly
	Spread  time.Duration // mean of what is more still, exponentially
	Loss    float64       // share of the packets that vanish, 0 to 1
}

// Config is what a network is made of. The zero Config is a perfect network.
type Config struct {
	Seed uint64
	// Path gives the link from one host to another; nil is a zero Link for
	// all. It is asked for each packet, so that what it says may change, and
	// must neither block nor call the network.
	Path func(from, to netip.Addr) Link
	// Rate is how fast each host sends, and receives, in bits a second; 0 is
	// without limit. Queue is how long a packet may wait for a line before it
	// is dropped; 0 is 100 ms.
	Rate  int64
	Queue time.Duration
}

// Stats counts packets.
type Stats struct {
	Sent, Delivered uint64
	Lost            uint64 // by chance
	Cut             uint64 // between hosts that are cut from each other
	Dropped         uint64 // waited too long for a line, or nobody read them
	Unheard         uint64 // nobody listened
	Bytes           uint64 // delivered
}

// Network carries packets until Close. Its methods are safe for concurrent use.
type Network struct {
	cfg   Config
	began time.Time
	wake  chan struct{} // the next delivery is earlier than it was
	stop  chan struct{}
	ended chan struct{}

	mu     sync.Mutex // guards the rest
	closed bool
	conns  map[netip.AddrPort]*Conn
	ports  uint16 // last ephemeral port given
	paths  map[path]*rand.Rand
	lines  map[netip.Addr]*line
	cut    func(from, to netip.Addr) bool
	queue  queue
	stats  Stats
}

type path struct{ from, to netip.Addr }

// line is when a host's line is free again, on the network's clock.
type line struct{ out, in time.Duration }

// New starts a network.
func New(cfg Config) *Network {
	if cfg.Queue == 0 {
		cfg.Queue = 100 * time.Millisecond
	}
	n := &Network{
		cfg: cfg, began: time.Now(), wake: make(chan struct{}, 1), stop: make(chan struct{}), ended: make(chan struct{}),
		conns: map[netip.AddrPort]*Conn{}, paths: map[path]*rand.Rand{}, lines: map[netip.Addr]*line{},
	}
	go n.run()
	return n
}

// Close drops what is under way and ends the network. Its connections fail
// from then on.
func (n *Network) Close() {
	n.mu.Lock()
	first := !n.closed
	n.closed = true
	open := make([]*Conn, 0, len(n.conns))
	for _, c := range n.conns {
		open = append(open, c)
	}
	n.mu.Unlock()
	for _, c := range open {
		c.Close()
	}
	if first {
		close(n.stop)
	}
	<-n.ended
}

// Stats returns the counters.
func (n *Network) Stats() Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.stats
}

// Cut loses every packet for which f is true, those under way too, until the
// next Cut; nil heals. f is called for each packet and must neither block nor
// call the network.
func (n *Network) Cut(f func(from, to netip.Addr) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = f
}

// firstPort is the first ephemeral port (RFC 6335).
const firstPort = 49152

// Listen opens an address; port 0 takes a free one. It returns ErrAddressInUse,
// or net.ErrClosed after Close.
func (n *Network) Listen(at netip.AddrPort) (*Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, net.ErrClosed
	}
	if at.Port() == 0 {
		at = n.freePort(at.Addr())
	}
	if n.conns[at] != nil {
		return nil, fmt.Errorf("listen on %s: %w", at, ErrAddressInUse)
	}
	c := newConn(n, at)
	n.conns[at] = c
	return c, nil
}

// freePort finds a port of ip that is free. The caller holds mu.
func (n *Network) freePort(ip netip.Addr) netip.AddrPort {
	for {
		n.ports++
		at := netip.AddrPortFrom(ip, firstPort+n.ports%(1<<14))
		if n.conns[at] == nil {
			return at
		}
	}
}

// Host returns a function that listens as the host ip would: it takes that
// place of an address that leaves the IP open.
func (n *Network) Host(ip netip.Addr) func(*net.UDPAddr) (net.PacketConn, error) {
	return func(laddr *net.UDPAddr) (net.PacketConn, error) {
		at := laddr.AddrPort()
		if !at.Addr().IsValid() || at.Addr().Unmap().IsUnspecified() {
			at = netip.AddrPortFrom(ip, at.Port())
		}
		if at.Addr().Unmap() != ip {
			return nil, fmt.Errorf("listen on %s: the host has %s only", at, ip)
		}
		return n.Listen(netip.AddrPortFrom(ip, at.Port()))
	}
}

// send puts a packet on its way. It keeps data.
func (n *Network) send(from *Conn, to netip.AddrPort, data []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stats.Sent++
	p := path{from.at.Addr(), to.Addr()}
	if n.cut != nil && n.cut(p.from, p.to) {
		n.stats.Cut++
		return
	}
	var link Link
	if n.cfg.Path != nil {
		link = n.cfg.Path(p.from, p.to)
	}
	delay := link.Latency
	if link.Loss > 0 || link.Jitter > 0 || link.Spread > 0 {
		chance := n.chance(p)
		if chance.Float64() < link.Loss {
			n.stats.Lost++
			return
		}
		if link.Jitter > 0 {
			delay += time.Duration(chance.Int64N(int64(link.Jitter)))
		}
		if link.Spread > 0 {
			delay += time.Duration(chance.ExpFloat64() * float64(link.Spread))
		}
	}
	at, ok := n.schedule(p, delay, len(data))
	if !ok {
		n.stats.Dropped++
		return
	}
	if n.queue.push(packet{at: at, from: from, to: to, data: data}) {
		select {
		case n.wake <- struct{}{}:
		default:
		}
	}
}

// chance is the source of luck of one path. The caller holds mu.
func (n *Network) chance(p path) *rand.Rand {
	r := n.paths[p]
	if r == nil {
		a, b := p.from.As16(), p.to.As16()
		var seed [32]byte
		for i := range a {
			seed[i], seed[16+i] = a[i], b[i]
		}
		for i := range 8 {
			seed[i] ^= byte(n.cfg.Seed >> (8 * i))
		}
		r = rand.New(rand.NewChaCha8(seed))
		n.paths[p] = r
	}
	return r
}

// schedule returns when a packet of so many bytes that is sent now arrives, and
// false when it would wait too long for a line. The caller holds mu.
func (n *Network) schedule(p path, delay time.Duration, size int) (time.Duration, bool) {
	now := time.Since(n.began)
	if n.cfg.Rate == 0 {
		return now + delay, true
	}
	cost := time.Duration(int64(size) * 8 * int64(time.Second) / n.cfg.Rate)
	out, in := n.line(p.from), n.line(p.to)
	left := max(now, out.out)
	arrives := left + cost + delay
	read := max(arrives, in.in)
	if left-now > n.cfg.Queue || read-arrives > n.cfg.Queue {
		return 0, false
	}
	out.out, in.in = left+cost, read+cost
	return read + cost, true
}

func (n *Network) line(ip netip.Addr) *line {
	l := n.lines[ip]
	if l == nil {
		l = &line{}
		n.lines[ip] = l
	}
	return l
}

// run delivers each packet at its time.
func (n *Network) run() {
	defer close(n.ended)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		if wait, any := n.deliver(); any {
			timer.Reset(wait)
		} else {
			timer.Stop()
		}
		select {
		case <-timer.C:
		case <-n.wake:
		case <-n.stop:
			return
		}
	}
}

// deliver hands over what is due and returns how long it is until the next.
func (n *Network) deliver() (wait time.Duration, any bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Since(n.began)
	for len(n.queue.heap) > 0 && n.queue.heap[0].at <= now {
		n.arrive(n.queue.pop())
	}
	if len(n.queue.heap) == 0 {
		return 0, false
	}
	return n.queue.heap[0].at - now, true
}

// arrive ends a packet's way. The caller holds mu.
func (n *Network) arrive(p packet) {
	if n.cut != nil && n.cut(p.from.at.Addr(), p.to.Addr()) {
		n.stats.Cut++
		return
	}
	c := n.conns[p.to]
	switch {
	case c == nil:
		n.stats.Unheard++
	case !c.hear(arrival{data: p.data, from: p.from.addr}):
		n.stats.Dropped++
	default:
		n.stats.Delivered++
		n.stats.Bytes += uint64(len(p.data))
	}
}
