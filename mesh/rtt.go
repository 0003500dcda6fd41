package mesh

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	"github.com/quic-go/quic-go"

	"github.com/perrin-mesh/perrin/workload"
)

// This file is the only one that looks below libp2p's connections, because
// Conn.As is experimental.

// PeerInfo is what the host knows of an admitted peer.
type PeerInfo struct {
	ID    workload.PeerID
	Name  string
	Addrs []string      // the remote ends of its connections
	RTT   time.Duration // smoothed; 0 when not measured yet
	Loss  float64       // share of our packets that were lost, 0 to 1; 0 when not measured
	Since time.Time     // of the oldest connection
}

// RTT is the smoothed round trip to a connected peer as QUIC measures it, or
// what the last hello or ping took over TCP; 0 when not known.
func (h *Host) RTT(id workload.PeerID) time.Duration {
	p := toLibp2p(id)
	if rtt, _, ok := h.quicStats(p); ok && rtt > 0 {
		return rtt
	}
	return h.base.Peerstore().LatencyEWMA(p)
}

// quicStats returns the smoothed round trip and the loss of a peer's first
// QUIC connection; false when it has none.
func (h *Host) quicStats(id peer.ID) (rtt time.Duration, loss float64, ok bool) {
	for _, c := range h.base.Network().ConnsToPeer(id) {
		var q *quic.Conn
		if !c.As(&q) {
			continue
		}
		st := q.ConnectionStats()
		if st.PacketsSent > 0 {
			loss = float64(st.PacketsLost) / float64(st.PacketsSent)
		}
		return st.SmoothedRTT, loss, true
	}
	return 0, 0, false
}

// traffic is how many bytes the QUIC connections of this host have sent and
// received, closed ones included.
func (h *Host) traffic() (sent, received uint64) {
	for _, c := range h.base.Network().Conns() {
		s, r := quicTraffic(c)
		sent, received = sent+s, received+r
	}
	return sent + h.stats.sent.Load(), received + h.stats.received.Load()
}

// retire counts in what a connection that has just been closed carried.
func (h *Host) retire(c network.Conn) {
	sent, received := quicTraffic(c)
	h.stats.sent.Add(sent)
	h.stats.received.Add(received)
}

func quicTraffic(c network.Conn) (sent, received uint64) {
	var q *quic.Conn
	if !c.As(&q) {
		return 0, 0
	}
	st := q.ConnectionStats()
	return st.BytesSent, st.BytesReceived
}

// channelLabel names what is exported of a connection's TLS for evidence.
const channelLabel = "EXPORTER-perrin-attest-1"

// ChannelOf returns 32 bytes that only the two ends of a stream's connection
// know, the same at both (RFC 8446, section 7.5), or nil where there is no TLS:
// over TCP, through a relay, and to the node itself.
func ChannelOf(s Stream) []byte {
	var q *quic.Conn
	p, ok := s.(*peerStream)
	if !ok || !p.Conn().As(&q) {
		return nil
	}
	tls := q.ConnectionState().TLS
	secret, err := tls.ExportKeyingMaterial(channelLabel, nil, 32)
	if err != nil {
		return nil
	}
	return secret
}

// Peers returns the admitted peers that are connected, ordered by name and ID.
func (h *Host) Peers() []PeerInfo {
	members := h.roster.members()
	out := make([]PeerInfo, 0, len(members))
	for _, m := range members {
		info := PeerInfo{ID: m.identity.Peer, Name: m.identity.Name, Since: m.since, RTT: h.RTT(m.identity.Peer)}
		_, info.Loss, _ = h.quicStats(m.id)
		for _, c := range h.base.Network().ConnsToPeer(m.id) {
			info.Addrs = append(info.Addrs, c.RemoteMultiaddr().String())
		}
		out = append(out, info)
	}
	slices.SortFunc(out, func(a, b PeerInfo) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), bytes.Compare(a.ID[:], b.ID[:]))
	})
	return out
}

// probeTimeout is how long a peer has to answer a ping before its connections
// are taken for dead.
const probeTimeout = 3 * time.Second

// suspect probes a peer that did not answer a call in time and closes its
// connections if it answers nothing at all: QUIC itself would keep calling
// into the void for 30 s after a machine died.
func (h *Host) suspect(id peer.ID) {
	if h.ctx.Err() != nil || h.base.Network().Connectedness(id) != network.Connected {
		return
	}
	if _, busy := h.suspects.LoadOrStore(id, true); busy {
		return
	}
	h.spawn(func() {
		defer h.suspects.Delete(id)
		if !h.probe(id) && h.ctx.Err() == nil {
			h.log.Info("peer does not answer; disconnecting", "peer", id)
			_ = h.base.Network().ClosePeer(id)
		}
	})
}

// Suspect probes a peer that is slow to answer, and closes its connections, and
// with them every call, if it does not answer within 3 s.
func (h *Host) Suspect(id workload.PeerID) {
	h.suspect(toLibp2p(id))
}

// probe pings the peer once, records the round trip, and reports whether it answered.
func (h *Host) probe(id peer.ID) bool {
	ctx, cancel := context.WithTimeout(network.WithNoDial(h.ctx, "probe"), probeTimeout)
	defer cancel()
	res, ok := <-ping.Ping(ctx, h.base, id)
	return ok && res.Error == nil
}
