package mesh

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

const (
	// addrTTL is how long an address that the caller gave is kept.
	addrTTL = time.Hour
	// MaxAddrs bounds the addresses of one peer that are looked at.
	MaxAddrs = 16
	// resolveTimeout bounds the search for the address of a peer.
	resolveTimeout = 5 * time.Second
)

// Connect connects to the first peer that the addresses (multiaddrs that end
// in /p2p/ID) reach and that admits this node. The error is that of the last
// peer tried: of package admission, or a wire.Error.
func (h *Host) Connect(ctx context.Context, addrs []string) error {
	infos, err := addrInfos(addrs)
	if err != nil {
		return err
	}
	if len(infos) == 0 {
		return errors.New("connect: no address given")
	}
	for _, pi := range infos {
		if err = h.connectInfo(ctx, pi); err == nil {
			return nil
		}
	}
	return err
}

// ConnectPeer connects to id, at addrs (with or without /p2p/ID) or where it
// was last seen, and waits until both sides have admitted each other.
func (h *Host) ConnectPeer(ctx context.Context, id workload.PeerID, addrs []string) error {
	pi := peer.AddrInfo{ID: toLibp2p(id)}
	list, err := multiaddrs(addrs[:min(len(addrs), MaxAddrs)])
	if err != nil {
		return err
	}
	for _, a := range list {
		transport, who := peer.SplitAddr(a)
		if who != "" && who != pi.ID {
			return fmt.Errorf("connect to %s: address %s is another peer's", id.Short(), a)
		}
		if transport != nil {
			pi.Addrs = append(pi.Addrs, transport)
		}
	}
	return h.connectInfo(ctx, pi)
}

// connectInfo dials even if a dial has failed a moment ago.
func (h *Host) connectInfo(ctx context.Context, pi peer.AddrInfo) error {
	if sw, ok := h.base.Network().(*swarm.Swarm); ok {
		sw.Backoff().Clear(pi.ID)
	}
	return h.reach(ctx, pi)
}

// reach returns nil once the peer is connected and admitted.
func (h *Host) reach(ctx context.Context, pi peer.AddrInfo) error {
	if pi.ID == h.base.ID() {
		return nil
	}
	if len(pi.Addrs) > 0 {
		h.base.Peerstore().AddAddrs(pi.ID, pi.Addrs[:min(len(pi.Addrs), MaxAddrs)], addrTTL)
	}
	if _, ok := h.roster.identity(pi.ID); ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*HelloTimeout)
	defer cancel()
	if err := h.dial(ctx, pi.ID); err != nil {
		return err
	}
	return h.roster.wait(ctx, pi.ID)
}

// dial makes a connection if there is none, asking the resolver for addresses
// when those that are known do not lead anywhere.
func (h *Host) dial(ctx context.Context, id peer.ID) error {
	if h.base.Network().Connectedness(id) == network.Connected {
		return nil
	}
	_, err := h.base.Network().DialPeer(ctx, id)
	if err == nil {
		return nil
	}
	if found := h.resolve(ctx, id); len(found) > 0 {
		h.base.Peerstore().AddAddrs(id, found, addrTTL)
		if _, err = h.base.Network().DialPeer(ctx, id); err == nil {
			return nil
		}
	}
	return wire.Errorf(wire.Unavailable, "peer %s is not reached: %s", id, err)
}

func (h *Host) resolve(ctx context.Context, id peer.ID) []ma.Multiaddr {
	h.mu.RLock()
	r := h.resolver
	h.mu.RUnlock()
	who, err := fromLibp2p(id)
	if r == nil || err != nil || resolving(ctx) {
		return nil
	}
	ctx, cancel := context.WithTimeout(withoutResolver(ctx), resolveTimeout)
	defer cancel()
	addrs, err := r(ctx, who)
	if err != nil {
		return nil
	}
	infos, err := addrInfos(addrs)
	if err != nil {
		return nil
	}
	for _, pi := range infos {
		if pi.ID == id {
			return pi.Addrs
		}
	}
	return nil
}

// resolvingKey marks a context whose dials must not ask the resolver.
type resolvingKey struct{}

func withoutResolver(ctx context.Context) context.Context {
	return context.WithValue(ctx, resolvingKey{}, true)
}

func resolving(ctx context.Context) bool { return ctx.Value(resolvingKey{}) != nil }

// addrInfos groups addresses by peer, in the order in which the peers are named.
func addrInfos(addrs []string) ([]peer.AddrInfo, error) {
	list, err := multiaddrs(addrs[:min(len(addrs), 8*MaxAddrs)])
	if err != nil {
		return nil, err
	}
	var out []peer.AddrInfo
	at := map[peer.ID]int{}
	for i, a := range list {
		transport, id := peer.SplitAddr(a)
		if transport == nil || id == "" {
			return nil, fmt.Errorf("address %.120q: want a multiaddr that ends in /p2p/ID", addrs[i])
		}
		n, ok := at[id]
		if !ok {
			n = len(out)
			at[id] = n
			out = append(out, peer.AddrInfo{ID: id})
		}
		out[n].Addrs = append(out[n].Addrs, transport)
	}
	return out, nil
}
