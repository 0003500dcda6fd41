package mesh

import (
	"context"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/perrin-mesh/perrin/workload"
)

// The protocols that a peer may use before it is admitted.
const (
	ProtoHello = "/perrin/hello/1"
	ProtoJoin  = "/perrin/join/1"
)

const (
	// HelloTimeout is how long a peer has, from connecting, to be admitted.
	HelloTimeout = 5 * time.Second
	// negotiateTimeout is how long a stream has to name its protocol.
	negotiateTimeout = 5 * time.Second
	// maxEarlyStreams bounds the streams of one peer that wait for the hello.
	maxEarlyStreams = 64
	// maxWaiting bounds the peers that are connected and not yet admitted.
	maxWaiting = 256
)

// accept is the one gate that every inbound stream passes, whoever registered
// its protocol: libp2p's own services, the DHT, gossipsub and the handlers of
// this package. It takes the place of libp2p's own stream handler, which knows
// nothing of admission.
func (h *Host) accept(s network.Stream) {
	_ = s.SetDeadline(time.Now().Add(negotiateTimeout)) // a transport without deadlines has the stream limits
	proto, handle, err := h.base.Mux().Negotiate(s)
	if err != nil {
		_ = s.ResetWithError(network.StreamProtocolNegotiationFailed)
		return
	}
	if err := h.allow(s.Conn().RemotePeer(), proto); err != nil {
		h.stats.gated.Add(1)
		h.log.Debug("stream refused", "peer", s.Conn().RemotePeer(), "protocol", fmt.Sprintf("%.80q", proto), "reason", err)
		_ = s.ResetWithError(network.StreamGated)
		return
	}
	if err := s.SetProtocol(proto); err != nil {
		_ = s.ResetWithError(network.StreamResourceLimitExceeded)
		return
	}
	_ = s.SetDeadline(time.Time{})
	_ = handle(proto, s) // handlers end their stream themselves
}

// allow returns nil when the peer may use the protocol. A peer whose hello
// has not ended is waited for, HelloTimeout at most.
func (h *Host) allow(id peer.ID, proto protocol.ID) error {
	if proto == ProtoHello || proto == ProtoJoin {
		return nil
	}
	if _, ok := h.roster.identity(id); ok {
		return nil
	}
	if !h.roster.queue(id, maxEarlyStreams) {
		return fmt.Errorf("more than %d streams before the hello", maxEarlyStreams)
	}
	defer h.roster.unqueue(id)
	ctx, cancel := context.WithTimeout(h.ctx, HelloTimeout)
	defer cancel()
	return h.roster.wait(ctx, id)
}

// gated is the host that the DHT and gossipsub get: what they open goes to
// admitted peers only. What they serve is closed by accept.
type gated struct {
	host.Host
	h *Host
}

// Connect connects and waits for the hello. It does not ask the resolver: that
// is the DHT, which would ask itself.
func (g gated) Connect(ctx context.Context, pi peer.AddrInfo) error {
	return g.h.reach(withoutResolver(ctx), pi)
}

// NewStream opens a stream to a peer that is admitted.
func (g gated) NewStream(ctx context.Context, id peer.ID, protos ...protocol.ID) (network.Stream, error) {
	if noDial, _ := network.GetNoDial(ctx); noDial {
		wait, cancel := context.WithTimeout(ctx, HelloTimeout)
		defer cancel()
		if err := g.h.roster.wait(wait, id); err != nil {
			return nil, err
		}
	} else if err := g.h.reach(withoutResolver(ctx), peer.AddrInfo{ID: id}); err != nil {
		return nil, err
	}
	return g.Host.NewStream(ctx, id, protos...)
}

// gater refuses connections before they cost anything.
type gater struct{ h *Host }

func (g gater) InterceptPeerDial(p peer.ID) bool                 { return g.known(p) }
func (g gater) InterceptAddrDial(p peer.ID, _ ma.Multiaddr) bool { return true }

// InterceptAccept refuses new connections while too many wait for their hello.
func (g gater) InterceptAccept(network.ConnMultiaddrs) bool {
	return g.h.roster.waiting() < maxWaiting
}

// InterceptSecured lets a peer that is denied come as far as the hello, which
// tells it why it goes no further.
func (g gater) InterceptSecured(dir network.Direction, p peer.ID, _ network.ConnMultiaddrs) bool {
	_, err := fromLibp2p(p)
	return err == nil && (dir == network.DirInbound || g.known(p))
}

func (g gater) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }

// known reports whether p is an Ed25519 identity that is not denied.
func (g gater) known(p peer.ID) bool {
	who, err := fromLibp2p(p)
	return err == nil && g.h.trust.Denied(who, g.h.cfg.Now()) == nil
}

func toLibp2p(p workload.PeerID) peer.ID { return peer.ID(p.Bytes()) }

func fromLibp2p(p peer.ID) (workload.PeerID, error) { return workload.PeerIDFromBytes([]byte(p)) }
