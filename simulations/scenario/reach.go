package scenario

import "github.com/perrin-mesh/perrin/workload/specfile/document"

// Connections is how many connections a peer keeps open beside those between the
// voters of a cell and its members, which always are. The first message to somebody
// else waits for two round trips: the handshake of QUIC and the admission of the mesh.
type Connections struct {
	Keep   int `json:"keep"`   // of a member, mesh.Config.ConnHigh
	Voters int `json:"voters"` // of a voter, mesh.VoterConnHigh
}

// NAT is peers that nobody can dial. As in the product they dial out, and are reached
// over what they opened. Voters are never among them.
type NAT struct {
	Share int64 `json:"share"` // ppm of the members
	// Relay says that a voter of their cell passes on what is for them, which the
	// product does not.
	Relay bool `json:"relay,omitempty"`
	// Punched is in how many ppm of the pairs of which nobody can be dialled a direct
	// connection comes about over a relay. Trautwein et al. measured 70 % +- 7.1 of
	// DCUtR (arXiv:2510.27500).
	Punched int64 `json:"punched,omitempty"`
}

// Gossip is how digests of cells spread: from peer to Degree peers each.
type Gossip struct {
	Degree int `json:"degree"`
}

func defaultConnections() *Connections { return &Connections{Keep: 90, Voters: 200} }

func (r *reader) connections(n *document.Node, w *Network) {
	c := defaultConnections()
	r.fields(n, "network.connections", map[string]field{
		"keep": r.count("network.connections.keep", 1, 10_000, &c.Keep), "voters": r.count("network.connections.voters", 1, 10_000, &c.Voters),
	})
	w.Connections = c
}

func (r *reader) nat(n *document.Node, w *Network) {
	t := &NAT{}
	r.fields(n, "network.nat", map[string]field{
		"share":   r.figure("network.nat.share", percent, 0, million, func(v float64) { t.Share = int64(v) }),
		"relay":   r.truth("network.nat.relay", &t.Relay),
		"punched": r.figure("network.nat.punched", percent, 0, million, func(v float64) { t.Punched = int64(v) }),
	})
	switch {
	case n.Kind != document.Map:
	case n.Get("share") == nil:
		r.fail(n.Pos, "write nat: {share: 60%}", "network.nat: share is missing")
	case n.Get("punched") != nil && !t.Relay:
		r.fail(n.Get("punched").Pos, "write relay: true beside it", "network.nat.punched: holes are punched over a relay")
	}
	w.NAT = t
	if w.Connections == nil {
		w.Connections = defaultConnections()
	}
}

func (r *reader) gossip(n *document.Node, w *Network) {
	g := &Gossip{Degree: 6}
	r.fields(n, "network.gossip", map[string]field{"degree": r.count("network.gossip.degree", 2, 100, &g.Degree)})
	w.Gossip = g
}
