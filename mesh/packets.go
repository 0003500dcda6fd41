package mesh

import (
	"net"
	"sync/atomic"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/quic-go/quic-go"
	"go.uber.org/fx"
)

// Option changes how libp2p is set up, for Config.Options and Join. It has a
// name here so that only this package speaks libp2p.
type Option = libp2p.Option

// OnPackets runs QUIC over packets that listen sends and receives in place of
// the kernel's UDP sockets: a simulation brings its own network. listen is
// called for each address that the host listens on, and with an unspecified IP
// to dial from a host that listens nowhere; what it returns gives a
// *net.UDPAddr as its LocalAddr and is closed by the host. Addresses that peers
// claim to have observed are not used: everybody knows its own.
func OnPackets(listen func(laddr *net.UDPAddr) (net.PacketConn, error)) Option {
	own := &ownIP{}
	reuse := libp2p.QUICReuse(
		func(life fx.Lifecycle, reset quic.StatelessResetKey, token quic.TokenGeneratorKey, opts ...quicreuse.Option) (*quicreuse.ConnManager, error) {
			manager, err := quicreuse.NewConnManager(reset, token, opts...)
			if err == nil {
				life.Append(fx.StopHook(manager.Close))
			}
			return manager, err
		},
		quicreuse.OverrideSourceIPSelector(func() (quicreuse.SourceIPSelector, error) { return own, nil }),
		quicreuse.OverrideListenUDP(func(_ string, laddr *net.UDPAddr) (net.PacketConn, error) {
			conn, err := listen(laddr)
			if err == nil {
				own.set(conn.LocalAddr())
			}
			return conn, err
		}),
	)
	return libp2p.ChainOptions(reuse, libp2p.DisableIdentifyAddressDiscovery())
}

// ownIP is the address that a host on packets dials from: the one it has.
type ownIP struct{ ip atomic.Pointer[net.IP] }

func (o *ownIP) set(a net.Addr) {
	if udp, ok := a.(*net.UDPAddr); ok {
		o.ip.Store(&udp.IP)
	}
}

// PreferredSourceIPForDestination implements quicreuse.SourceIPSelector.
func (o *ownIP) PreferredSourceIPForDestination(*net.UDPAddr) (net.IP, error) {
	if ip := o.ip.Load(); ip != nil {
		return *ip, nil
	}
	return net.IPv4zero, nil
}
