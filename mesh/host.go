package mesh

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/workload"
)

// Host is a node's place on its mesh. Make one with New, end it with Close.
type Host struct {
	cfg    Config
	log    *slog.Logger
	id     workload.PeerID
	mesh   workload.MeshID
	base   host.Host
	roster *roster
	trust  *admission.Trust
	stats  counters

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	tasks  sync.WaitGroup // add by spawn only

	bootstrapped chan struct{}
	bootOnce     sync.Once
	bundle       atomic.Pointer[admission.Bundle]
	suspects     sync.Map // peer.ID: a probe is under way
	lanes        lanes
	trusted      chan struct{} // holds one: Trust has changed
	refusal      atomic.Pointer[Refusal]
	shown        shown
	apart        apart
	told         told

	mu       sync.RWMutex // guards the rest
	unary    map[string]*service
	streams  map[string]StreamHandler
	resolver Resolver
	closers  []func() error
	closed   bool
}

// Resolver finds the addresses of a peer that is not connected; the directory is one.
type Resolver func(ctx context.Context, id workload.PeerID) ([]string, error)

// New starts a host that listens until Close or the end of ctx. It refuses a
// bundle that does not admit its own key, with an error of package admission.
func New(ctx context.Context, cfg Config) (*Host, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	h := &Host{
		cfg: cfg, log: cfg.Log.With("component", "mesh"),
		id: workload.PeerIDOf(cfg.Key.Public().(ed25519.PublicKey)), mesh: cfg.Bundle.Mesh(),
		roster: newRoster(cfg.Now), bootstrapped: make(chan struct{}),
		lanes: lanes{out: map[workload.PeerID]*lane{}, calls: map[workload.PeerID]int{}, in: map[workload.PeerID]int{}},
		unary: map[string]*service{}, streams: map[string]StreamHandler{}, trust: cfg.Trust, trusted: make(chan struct{}, 1),
	}
	if _, err := h.trust.Verify(cfg.Bundle, h.id, cfg.Now()); err != nil {
		return nil, fmt.Errorf("mesh: this node's own certificate: %w", err)
	}
	h.bundle.Store(&cfg.Bundle)
	h.ctx, h.cancel = context.WithCancel(ctx)
	if err := h.start(); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	context.AfterFunc(ctx, func() { _ = h.Close() })
	return h, nil
}

// start builds the libp2p host without listening, closes its gate, and only
// then listens, so that no stream ever meets libp2p's own handler.
func (h *Host) start() error {
	opts, err := h.options()
	if err != nil {
		return err
	}
	if h.base, err = libp2p.New(opts...); err != nil {
		return fmt.Errorf("mesh: %w", err)
	}
	h.base.Network().SetStreamHandler(h.accept)
	h.base.Network().Notify(&network.NotifyBundle{ConnectedF: h.connected, DisconnectedF: h.disconnected})
	h.base.SetStreamHandler(ProtoHello, h.hearHello)
	h.HandleStream(ProtoLane, h.serveLane)
	HandleTyped(h, ProtoTrust, maxStatements, h.hearTrust)
	listen, err := multiaddrs(h.cfg.Listen)
	if err != nil {
		return err
	}
	if err := h.listen(listen); err != nil {
		return err
	}
	if h.cfg.Alone {
		h.boot()
	}
	if h.cfg.MDNS {
		h.startMDNS()
	}
	h.spawn(h.sweep)
	h.spawn(h.compareTrust)
	return nil
}

// listen succeeds when one address does: a machine may lack IPv6.
func (h *Host) listen(addrs []ma.Multiaddr) error {
	if len(addrs) == 0 {
		return nil
	}
	var errs []error
	for _, a := range addrs {
		if err := h.base.Network().Listen(a); err != nil {
			errs = append(errs, fmt.Errorf("listen on %s: %w", a, err))
		}
	}
	if len(errs) == len(addrs) {
		return fmt.Errorf("mesh: %w", errors.Join(errs...))
	}
	for _, err := range errs {
		h.log.Warn("an address is not listened on", "error", err)
	}
	return nil
}

func (h *Host) options() ([]libp2p.Option, error) {
	key, err := crypto.UnmarshalEd25519PrivateKey(h.cfg.Key)
	if err != nil {
		return nil, fmt.Errorf("mesh: key: %w", err)
	}
	quic, err := quicTransport()
	if err != nil {
		return nil, err
	}
	limits, err := newResourceManager(&h.cfg)
	if err != nil {
		return nil, err
	}
	conns, err := connmgr.NewConnManager(h.cfg.ConnLow, h.cfg.ConnHigh, connmgr.WithGracePeriod(time.Minute))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("mesh: connection manager: %w", err), limits.Close())
	}
	opts := []libp2p.Option{
		libp2p.Identity(key), libp2p.NoListenAddrs, libp2p.ResourceManager(limits), libp2p.ConnectionManager(conns),
		libp2p.ConnectionGater(gater{h}), libp2p.UserAgent("perrin"), libp2p.ProtocolVersion("perrin/1"),
		libp2p.Security(noise.ID, noise.New), libp2p.Muxer(yamux.ID, yamux.DefaultTransport),
		quic, libp2p.Transport(tcp.NewTCPTransport),
		libp2p.EnableRelay(),
	}
	if h.cfg.Relay {
		opts = append(opts, libp2p.EnableRelayService())
	}
	if h.cfg.Metrics == nil {
		opts = append(opts, libp2p.DisableMetrics())
	} else {
		opts = append(opts, libp2p.PrometheusRegisterer(h.cfg.Metrics))
	}
	if len(h.cfg.Announce) > 0 {
		announce, err := multiaddrs(h.cfg.Announce)
		if err != nil {
			return nil, errors.Join(err, limits.Close(), conns.Close())
		}
		opts = append(opts, libp2p.AddrsFactory(func([]ma.Multiaddr) []ma.Multiaddr { return announce }))
	}
	return append(opts, h.cfg.Options...), nil
}

// connected starts the clock of the peer's hello; the dialer speaks first.
func (h *Host) connected(_ network.Network, c network.Conn) {
	id := c.RemotePeer()
	who, err := fromLibp2p(id)
	if err != nil {
		return // the gater let none such in
	}
	e, fresh := h.roster.add(id, who)
	if fresh {
		h.spawn(func() { h.expectHello(id, e) })
	}
	if c.Stat().Direction == network.DirOutbound {
		h.spawn(func() { h.sayHello(c) })
	}
}

// expectHello disconnects the peer if it is not admitted in time.
func (h *Host) expectHello(id peer.ID, e *entry) {
	timer := time.NewTimer(HelloTimeout)
	defer timer.Stop()
	select {
	case <-e.settled:
		return
	case <-h.ctx.Done():
		return
	case <-timer.C:
	}
	h.roster.fail(id, fmt.Errorf("peer %s: no hello within %s: %w", e.id.Short(), HelloTimeout, admission.ErrNotAdmitted))
	if _, ok := h.roster.identity(id); !ok {
		_ = h.base.Network().ClosePeer(id)
	}
}

func (h *Host) disconnected(_ network.Network, c network.Conn) {
	h.retire(c)
	h.roster.drop(c.RemotePeer())
	if who, err := fromLibp2p(c.RemotePeer()); err == nil {
		h.forgetLane(who, nil)
	}
}

// admitted records a hello that succeeded, unless the peer was put out meanwhile.
func (h *Host) admitted(c network.Conn, identity admission.Identity) error {
	fresh := h.roster.admit(c.RemotePeer(), identity, h.trust.Until(identity))
	if err := h.trust.Stands(identity, h.cfg.Now()); err != nil {
		return verdict{err, true}
	}
	if last := h.refusal.Load(); last != nil && last.Peer == identity.Peer {
		h.refusal.CompareAndSwap(last, nil)
	}
	if fresh {
		h.stats.admitted.Add(1)
		h.log.Info("peer admitted", "peer", identity.Peer, "name", identity.Name, "addr", c.RemoteMultiaddr())
		h.boot()
		if c.Stat().Direction == network.DirOutbound {
			h.spawn(func() { h.tellTrust(identity.Peer, admission.Statements{}) })
		}
	}
	return nil
}

func (h *Host) boot() { h.bootOnce.Do(func() { close(h.bootstrapped) }) }

// Bootstrapped is closed once the host has been connected to an admitted peer,
// or at once when Config.Alone says that none is expected.
func (h *Host) Bootstrapped() <-chan struct{} { return h.bootstrapped }

// ID is the node's identity.
func (h *Host) ID() workload.PeerID { return h.id }

// Mesh is the mesh that the host belongs to.
func (h *Host) Mesh() workload.MeshID { return h.mesh }

// Bundle is the node's certificates now.
func (h *Host) Bundle() admission.Bundle { return *h.bundle.Load() }

// SetBundle replaces the node's certificates by renewed ones and shows them to
// every connected peer.
func (h *Host) SetBundle(b admission.Bundle) error {
	if _, err := h.trust.Verify(b, h.id, h.cfg.Now()); err != nil {
		return fmt.Errorf("mesh: renewed certificate: %w", err)
	}
	h.bundle.Store(&b)
	for _, id := range h.base.Network().Peers() {
		if conns := h.base.Network().ConnsToPeer(id); len(conns) > 0 {
			h.spawn(func() { h.sayHello(conns[0]) })
		}
	}
	return nil
}

// Addrs are the addresses at which the host may be dialed, each with /p2p/ID.
func (h *Host) Addrs() []string {
	suffix := "/p2p/" + h.id.String()
	out := make([]string, 0, 4)
	for _, a := range h.base.Addrs() {
		out = append(out, a.String()+suffix)
	}
	slices.Sort(out)
	return out
}

// Admitted returns what a connected peer has shown, if it is admitted now.
// The node itself always is.
func (h *Host) Admitted(id workload.PeerID) (admission.Identity, bool) {
	if id == h.id {
		identity, err := h.trust.Verify(h.Bundle(), h.id, h.cfg.Now())
		return identity, err == nil
	}
	return h.roster.identity(toLibp2p(id))
}

// Libp2p is the host for protocols that speak libp2p themselves, kad-dht and
// gossipsub: it connects to and opens streams to admitted peers only.
func (h *Host) Libp2p() host.Host { return gated{h.base, h} }

// Protect keeps the connection manager from closing connections to id, as a
// voter wants for the members of its cell; tag tells reasons apart.
func (h *Host) Protect(id workload.PeerID, tag string) {
	h.base.ConnManager().Protect(toLibp2p(id), tag)
}

// Unprotect takes back a Protect with the same tag.
func (h *Host) Unprotect(id workload.PeerID, tag string) {
	h.base.ConnManager().Unprotect(toLibp2p(id), tag)
}

// SetResolver gives the host a way to find peers that it has no address of.
func (h *Host) SetResolver(r Resolver) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.resolver = r
}

// sweepEvery is how often certificates of connected peers are looked at.
const sweepEvery = 30 * time.Second

// sweep disconnects peers whose certificate has ended, and measures the round
// trip to those that QUIC does not measure for us.
func (h *Host) sweep() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-h.ctx.Done():
			return
		case <-tick.C:
			h.sweepOnce()
		}
	}
}

func (h *Host) sweepOnce() {
	h.sweepLanes()
	h.enforce()
	for _, m := range h.roster.members() {
		if _, _, ok := h.quicStats(m.id); !ok {
			h.spawn(func() { h.probe(m.id) })
		}
	}
}

// spawn runs fn in a goroutine that Close waits for, unless the host is closed.
func (h *Host) spawn(fn func()) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if !h.closed {
		h.tasks.Go(fn)
	}
}

// Close disconnects from everyone and waits for the host's goroutines.
func (h *Host) Close() error {
	h.cancel()
	h.mu.Lock()
	closers := h.closers
	h.closers, h.closed = nil, true
	h.mu.Unlock()
	var errs []error
	for _, c := range closers {
		errs = append(errs, c())
	}
	if h.base != nil {
		errs = append(errs, h.base.Close())
	}
	h.tasks.Wait()
	return errors.Join(errs...)
}
