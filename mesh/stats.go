package mesh

import "sync/atomic"

// Stats counts what a host has done since it started, but for Peers, which is now.
type Stats struct {
	Peers    int    `json:"peers"`    // admitted and connected
	Admitted uint64 `json:"admitted"` // hellos that succeeded
	Refused  uint64 `json:"refused"`  // hellos that one side decided against
	Gated    uint64 `json:"gated"`    // streams of peers that were not admitted
	Calls    uint64 `json:"calls"`    // requests made
	Own      uint64 `json:"own"`      // of those, to the node itself: nothing was sent
	Failed   uint64 `json:"failed"`   // of those, without a good answer
	Served   uint64 `json:"served"`   // requests received
	Busy     uint64 `json:"busy"`     // of those, turned away
	Joined   uint64 `json:"joined"`   // certificates given to new nodes

	// Bytes of UDP payload on QUIC connections, whatever they carried: headers,
	// handshakes, acknowledgements and retransmissions included.
	BytesSent     uint64 `json:"bytes_sent"`
	BytesReceived uint64 `json:"bytes_received"`
}

type counters struct {
	admitted, refused, gated, calls, own, failed, served, busy, joined atomic.Uint64
	sent, received                                                     atomic.Uint64 // by connections that are closed
}

// Stats returns the host's counters.
func (h *Host) Stats() Stats {
	members := h.roster.members()
	c := &h.stats
	sent, received := h.traffic()
	return Stats{
		Peers: len(members), Admitted: c.admitted.Load(), Refused: c.refused.Load(), Gated: c.gated.Load(),
		Calls: c.calls.Load(), Own: c.own.Load(), Failed: c.failed.Load(), Served: c.served.Load(), Busy: c.busy.Load(), Joined: c.joined.Load(),
		BytesSent: sent, BytesReceived: received,
	}
}
