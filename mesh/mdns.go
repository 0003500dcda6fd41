package mesh

import (
	"fmt"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/discovery/mdns"

	"github.com/perrin-mesh/perrin/workload"
)

// mdnsService is the DNS-SD service of a mesh (RFC 6763): part of the mesh's
// name, so that two meshes on one network do not bother each other.
func mdnsService(mesh workload.MeshID) string {
	return fmt.Sprintf("_p-%.12s._udp", mesh)
}

// startMDNS announces the host on the local network and connects to the
// members of its mesh that it hears of. A network without multicast only logs.
func (h *Host) startMDNS() {
	stop, err := announce(h.base, h.mesh, func(pi peer.AddrInfo) {
		h.spawn(func() {
			if err := h.reach(h.ctx, pi); err != nil {
				h.log.Debug("peer on the local network is not a member", "peer", pi.ID, "reason", err)
			}
		})
	})
	if err != nil {
		h.log.Warn("the local network is not searched for peers", "error", err)
		return
	}
	h.mu.Lock()
	h.closers = append(h.closers, stop)
	h.mu.Unlock()
}

// announce runs DNS-SD for the mesh until the returned function is called.
func announce(base host.Host, mesh workload.MeshID, found func(peer.AddrInfo)) (stop func() error, err error) {
	s := mdns.NewMdnsService(base, mdnsService(mesh), notifee(found))
	if err := s.Start(); err != nil {
		return nil, fmt.Errorf("mdns: %w", err)
	}
	return s.Close, nil
}

type notifee func(peer.AddrInfo)

func (n notifee) HandlePeerFound(pi peer.AddrInfo) { n(pi) }
