package mesh

import "sync/atomic"

// Stats counts what a host has done since it started, but for Peers, which is now.
type Stats struct {
	Peers    int    `json:"peers"`    // admitted and connected
	Admitted uint64 `json:"admitted"` // hellos that succeeded
	Refused  uint64 `json:"refused"`  // hellos that one side decided against
	Gated    uint64 `json:"gated"`    // streams of peers that were not admitted
	Calls    uint64 `json:"calls"`    // requests made
	Failed   uint64 `json:"failed"`   // of those, without a good answer
	Served   uint64 `json:"served"`   // requests received
	Busy     uint64 `json:"busy"`     // of those, turned away
	Joined   uint64 `json:"joined"`   // certificates given to new nodes
}

type counters struct {
	admitted, refused, gated, calls, failed, served, busy, joined atomic.Uint64
}

// Stats returns the host's counters.
func (h *Host) Stats() Stats {
	members, _ := h.roster.members()
	c := &h.stats
	return Stats{
		Peers: len(members), Admitted: c.admitted.Load(), Refused: c.refused.Load(), Gated: c.gated.Load(),
		Calls: c.calls.Load(), Failed: c.failed.Load(), Served: c.served.Load(), Busy: c.busy.Load(), Joined: c.joined.Load(),
	}
}
