package consensus

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/workload"
)

// ledger is a state machine that keeps every entry it was given.
type ledger struct {
	mu      sync.Mutex
	entries []string
	indexes []uint64
	news    chan struct{} // closed at the next change
	hold    chan struct{} // when not nil, Apply waits until it is closed
}

func newLedger() *ledger { return &ledger{news: make(chan struct{})} }

func (l *ledger) changed() {
	close(l.news)
	l.news = make(chan struct{})
}

func (l *ledger) Apply(_, index uint64, data []byte) any {
	l.mu.Lock()
	hold := l.hold
	l.mu.Unlock()
	if hold != nil {
		<-hold
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries, l.indexes = append(l.entries, string(data)), append(l.indexes, index)
	l.changed()
	return fmt.Sprintf("%d:%s", len(l.entries), data)
}

func (l *ledger) Snapshot() (io.WriterTo, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b bytes.Buffer
	for i, e := range l.entries {
		b.Write(binary.AppendUvarint(nil, l.indexes[i]))
		b.Write(binary.AppendUvarint(nil, uint64(len(e))))
		b.WriteString(e)
	}
	return &b, nil
}

func (l *ledger) Restore(r io.Reader) error {
	var entries []string
	var indexes []uint64
	for r != nil {
		br := r.(io.ByteReader)
		index, err := binary.ReadUvarint(br)
		if err == io.EOF {
			break
		}
		size, err2 := binary.ReadUvarint(br)
		data := make([]byte, size)
		_, err3 := io.ReadFull(r, data)
		if err := errors.Join(err, err2, err3); err != nil {
			return err
		}
		entries, indexes = append(entries, string(data)), append(indexes, index)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries, l.indexes = entries, indexes
	l.changed()
	return nil
}

func (l *ledger) list() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.entries...)
}

// await waits until the ledger has n entries and returns them.
func (l *ledger) await(t testing.TB, ctx context.Context, n int) []string {
	t.Helper()
	for {
		l.mu.Lock()
		news, have := l.news, len(l.entries)
		l.mu.Unlock()
		if have >= n {
			return l.list()
		}
		select {
		case <-news:
		case <-ctx.Done():
			t.Fatalf("the state has %d entries, want %d: %v", have, n, ctx.Err())
		}
	}
}

// network connects groups in this process through net.Pipe.
type network struct {
	mu     sync.Mutex
	groups map[workload.PeerID]*Group
	cut    map[workload.PeerID]bool // peers without any link
	conns  map[*link]struct{}
}

func newNetwork() *network {
	return &network{
		groups: map[workload.PeerID]*Group{}, cut: map[workload.PeerID]bool{}, conns: map[*link]struct{}{},
	}
}

// link is one end of a connection between two peers.
type link struct {
	net.Conn
	net  *network
	a, b workload.PeerID
}

func (l *link) Close() error {
	l.net.mu.Lock()
	delete(l.net.conns, l)
	l.net.mu.Unlock()
	return l.Conn.Close()
}

// from makes the Streams of one peer.
func (n *network) from(self workload.PeerID) Streams { return dialer{n, self} }

type dialer struct {
	net  *network
	self workload.PeerID
}

func (d dialer) Dial(_ context.Context, to workload.PeerID, _ string) (net.Conn, error) {
	d.net.mu.Lock()
	g := d.net.groups[to]
	if g == nil || d.net.cut[to] || d.net.cut[d.self] {
		d.net.mu.Unlock()
		return nil, errors.New("no route")
	}
	near, far := net.Pipe()
	l, r := &link{near, d.net, d.self, to}, &link{far, d.net, d.self, to}
	d.net.conns[l], d.net.conns[r] = struct{}{}, struct{}{}
	d.net.mu.Unlock()
	if err := g.ServeConn(d.self, r); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// isolate takes away or gives back all links of a peer.
func (n *network) isolate(p workload.PeerID, cut bool) {
	n.mu.Lock()
	n.cut[p] = cut
	var gone []*link
	for l := range n.conns {
		if cut && (l.a == p || l.b == p) {
			gone = append(gone, l)
		}
	}
	n.mu.Unlock()
	for _, l := range gone {
		l.Close()
	}
}

func (n *network) register(p workload.PeerID, g *Group) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.groups[p] = g
}

// node is one server of a cluster.
type node struct {
	id     workload.PeerID
	group  *Group
	ledger *ledger
}

// cluster is a group of servers.
type cluster struct {
	t      testing.TB
	ctx    context.Context
	net    *network
	timing Timing
	nodes  []*node
	store  func(i int) Storage
	tune   func(*Config)
}

// quick is a timing for servers in one process.
func quick() Timing {
	return Timing{
		Heartbeat: 200 * time.Millisecond, Election: 200 * time.Millisecond, Lease: 200 * time.Millisecond,
		Commit: 20 * time.Millisecond, RPC: 2 * time.Second,
	}
}

func peer(i int) workload.PeerID {
	var p workload.PeerID
	p[0], p[31] = byte(i+1), 7
	return p
}

func testLog() *slog.Logger {
	if !testing.Verbose() {
		return nil
	}
	return slog.New(slog.NewTextHandler(os.Stderr, nil))
}

// newCluster founds a group with voters servers that vote and standbys that do not.
func newCluster(t testing.TB, voters, standbys int, opts ...func(*cluster)) *cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	c := &cluster{t: t, ctx: ctx, net: newNetwork(), timing: quick(), store: func(int) Storage { return NewMemory() }}
	for _, o := range opts {
		o(c)
	}
	first := c.start(0)
	if err := first.group.Bootstrap(ctx); err != nil {
		t.Fatal(err)
	}
	for i := 1; i < voters+standbys; i++ {
		c.join(c.start(i), i < voters)
	}
	t.Cleanup(c.close)
	return c
}

// start opens server i on its storage.
func (c *cluster) start(i int) *node {
	c.t.Helper()
	n := &node{id: peer(i), ledger: newLedger()}
	cfg := Default()
	cfg.Group, cfg.Self, cfg.Storage, cfg.Streams = "cell", n.id, c.store(i), c.net.from(n.id)
	cfg.FSM, cfg.Timing, cfg.Logger = n.ledger, c.timing, testLog()
	if c.tune != nil {
		c.tune(&cfg)
	}
	g, err := Open(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	n.group = g
	c.net.register(n.id, g)
	for len(c.nodes) <= i {
		c.nodes = append(c.nodes, nil)
	}
	c.nodes[i] = n
	return n
}

// stop closes server i the way a process ends.
func (c *cluster) stop(i int) {
	c.t.Helper()
	c.net.register(peer(i), nil)
	if err := c.nodes[i].group.Close(c.ctx); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) close() {
	for _, n := range c.nodes {
		if err := n.group.Close(context.Background()); err != nil {
			c.t.Error(err)
		}
	}
}

// join lets n into the group, as a voter once it has caught up.
func (c *cluster) join(n *node, vote bool) {
	c.t.Helper()
	leader := c.leader()
	n.group.Admit(leader.group.Servers().Voters()...)
	index, err := leader.group.AddNonvoter(c.ctx, n.id, leader.group.Servers().Index)
	if err != nil {
		c.t.Fatal(err)
	}
	c.caughtUp(leader, n)
	if !vote {
		return
	}
	if _, err := leader.group.AddVoter(c.ctx, n.id, index); err != nil {
		c.t.Fatal(err)
	}
}

// caughtUp waits until the leader knows that n has its whole log.
func (c *cluster) caughtUp(leader, n *node) {
	c.t.Helper()
	c.until("a server to catch up", func() bool {
		p, err := leader.group.Progress(n.id)
		return err == nil && !p.Contact.IsZero() && p.Behind == 0
	}, leader.group.current().trans.contacts.news)
}

// until waits for a condition, which is looked at on every signal.
func (c *cluster) until(what string, ok func() bool, news func() <-chan struct{}) {
	c.t.Helper()
	for {
		signal := news()
		if ok() {
			return
		}
		select {
		case <-signal:
		case <-c.ctx.Done():
			c.t.Fatalf("waiting for %s: %v", what, c.ctx.Err())
		}
	}
}

// ticking is a signal for conditions that give none themselves.
func ticking() <-chan struct{} {
	tick := make(chan struct{})
	time.AfterFunc(time.Millisecond, func() { close(tick) })
	return tick
}

// leader waits until one of the servers leads, apart from those named.
func (c *cluster) leader(except ...*node) *node {
	c.t.Helper()
	skip := map[*node]bool{nil: true}
	for _, n := range except {
		skip[n] = true
	}
	merged := make(chan *node, len(c.nodes))
	for _, n := range c.nodes {
		if skip[n] {
			continue
		}
		go func() {
			for {
				news := n.group.watch.news()
				if n.group.IsLeader() && n.group.Barrier(c.ctx) == nil {
					merged <- n
					return
				}
				select {
				case <-news:
				case <-c.ctx.Done():
					return
				}
			}
		}()
	}
	select {
	case n := <-merged:
		return n
	case <-c.ctx.Done():
		c.t.Fatalf("waiting for a leader: %v", c.ctx.Err())
		return nil
	}
}

// propose commits n entries named after the prefix.
func (c *cluster) propose(on *node, prefix string, n int) []string {
	c.t.Helper()
	var done []string
	for i := range n {
		data := fmt.Sprintf("%s-%d", prefix, i)
		if _, _, err := on.group.Propose(c.ctx, []byte(data)); err != nil {
			c.t.Fatal(err)
		}
		done = append(done, data)
	}
	return done
}
