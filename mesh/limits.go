package mesh

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/x/rate"
)

// Limits of the resource manager that differ from libp2p's own. Theirs allow 8
// connections for one IPv4 address, which refuses a dozen nodes behind one
// router; and 64 streams of one protocol for one peer, which is fewer than
// our own limit of calls at once, so that a peer would see a reset in place of
// a "busy".
const (
	connsPerIP       = 256
	connsPerIP6Site  = 1024 // a /48
	newConnsPerIP    = 64   // a second, after a burst of connsPerIP
	streamsPerProto  = 4096
	streamsPerPeer   = 2048
	streamsPeerProto = 1024
)

func newResourceManager(cfg *Config) (network.ResourceManager, error) {
	limits := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&limits)
	raise(&limits.SystemBaseLimit, 4*streamsPerProto, 2*cfg.ConnHigh)
	raise(&limits.TransientBaseLimit, streamsPerProto, cfg.ConnHigh)
	raise(&limits.ProtocolBaseLimit, streamsPerProto, 0)
	raise(&limits.ProtocolPeerBaseLimit, streamsPeerProto, 0)
	raise(&limits.PeerBaseLimit, streamsPerPeer, 0)
	opts := []rcmgr.Option{
		rcmgr.WithLimitPerSubnet(
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: connsPerIP}},
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 56, ConnCount: connsPerIP}, {PrefixLength: 48, ConnCount: connsPerIP6Site}},
		),
		rcmgr.WithConnRateLimiters(connRates()),
	}
	if cfg.Metrics == nil {
		opts = append(opts, rcmgr.WithMetricsDisabled())
	}
	rm, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(limits.AutoScale()), opts...)
	if err != nil {
		return nil, fmt.Errorf("mesh: resource manager: %w", err)
	}
	return rm, nil
}

// raise lifts the stream and connection limits of l to at least these.
func raise(l *rcmgr.BaseLimit, streams, conns int) {
	l.Streams = max(l.Streams, streams)
	l.StreamsInbound = max(l.StreamsInbound, streams)
	l.StreamsOutbound = max(l.StreamsOutbound, streams)
	l.Conns = max(l.Conns, conns)
	l.ConnsInbound = max(l.ConnsInbound, conns)
	l.ConnsOutbound = max(l.ConnsOutbound, conns)
}

// connRates limits new connections from one address; loopback is exempt.
func connRates() *rate.Limiter {
	perIP := rate.Limit{RPS: newConnsPerIP, Burst: connsPerIP}
	unlimited := rate.Limit{}
	return &rate.Limiter{
		NetworkPrefixLimits: []rate.PrefixLimit{
			{Prefix: netip.MustParsePrefix("127.0.0.0/8"), Limit: unlimited},
			{Prefix: netip.MustParsePrefix("::1/128"), Limit: unlimited},
		},
		SubnetRateLimiter: rate.SubnetLimiter{
			IPv4SubnetLimits: []rate.SubnetLimit{{PrefixLength: 32, Limit: perIP}},
			IPv6SubnetLimits: []rate.SubnetLimit{{PrefixLength: 56, Limit: perIP}},
			GracePeriod:      time.Minute,
		},
	}
}
