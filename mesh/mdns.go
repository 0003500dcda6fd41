package mesh

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/discovery/mdns"
	"github.com/libp2p/zeroconf/v2"

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

// browse looks for members of the mesh until found reports true, with success,
// or ctx ends. It announces nothing.
func browse(ctx context.Context, mesh workload.MeshID, found func(peer.AddrInfo) bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	entries := make(chan *zeroconf.ServiceEntry, 64)
	done := make(chan struct{})
	go func() {
		defer close(done)
		cancel(zeroconf.Browse(ctx, mdnsService(mesh), "local", entries))
	}()
	defer func() {
		cancel(nil)
		drain(entries, done)
	}()
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("mdns: %w", context.Cause(ctx))
		case e, ok := <-entries:
			if !ok {
				return fmt.Errorf("mdns: %w", context.Canceled)
			}
			if slices.ContainsFunc(announced(e.Text), found) {
				return nil
			}
		}
	}
}

// drain receives until done is closed, so that the sender never blocks.
func drain(entries <-chan *zeroconf.ServiceEntry, done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case _, ok := <-entries:
			if !ok {
				entries = nil
			}
		}
	}
}

// announced reads the addresses of a DNS-SD answer; anyone on the network may
// have written it.
func announced(txts []string) []peer.AddrInfo {
	var addrs []string
	for _, txt := range txts[:min(len(txts), MaxAddrs)] {
		if a, ok := strings.CutPrefix(txt, "dnsaddr="); ok {
			addrs = append(addrs, a)
		}
	}
	infos, err := addrInfos(addrs)
	if err != nil {
		return nil
	}
	return infos
}
