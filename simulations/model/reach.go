package model

import (
	"slices"

	"github.com/perrin-mesh/perrin/scheduler"
	"github.com/perrin-mesh/perrin/simulations/policy"
	"github.com/perrin-mesh/perrin/workload"
)

// Who is connected to whom, where a scenario asks. A cell's voters and its members
// always are: members dial them when they join, and tell them their offers.

// handshakes is how many round trips the first message to a peer waits: one of QUIC
// (RFC 9000), one of the mesh's admission (mesh/hello.go).
const handshakes = 2

// reach is the connections that are open. All times are ns.
type reach struct {
	open    [][]connection // of each peer, the last used first; both ends have it
	natted  []bool         // nil without network.nat
	opened  uint64         // after the warm-up
	relayed uint64         // of them over a relay for good
}

type connection struct {
	peer  int32
	via   int32 // the relay that all of it goes through; -1 is none
	ready int64
}

func (w *World) openReach() {
	if w.sc.Network.Connections == nil {
		return
	}
	w.reach = &reach{open: make([][]connection, len(w.peers))}
	nat := w.sc.Network.NAT
	if nat == nil {
		return
	}
	w.reach.natted = make([]bool, len(w.peers))
	for i := range w.peers {
		s := w.seed.Stream(uint32(i), forReach)
		w.reach.natted[i] = s.Happens(nat.Share) && !w.votes(int32(i))
	}
}

// votes reports whether a peer votes in its cell.
func (w *World) votes(i int32) bool { return slices.Contains(w.cells[w.peers[i].cell].voters, i) }

// contact is when a message that leaves now is on its way, and over which relay; false
// when nobody can dial whom it is for.
func (w *World) contact(from, to int32, leaves int64) (at int64, via int32, ok bool) {
	if w.peers[from].cell == w.peers[to].cell && (w.votes(from) || w.votes(to)) {
		return leaves, -1, true
	}
	if c := w.reach.use(from, to); c != nil {
		w.reach.use(to, from)
		return max(leaves, c.ready), c.via, true
	}
	c := connection{peer: to, via: -1}
	relay := w.relayOf(to)
	switch hidden := w.hidden(to); {
	case !hidden:
		c.ready = leaves + handshakes*w.rtt(from, to)
	case relay < 0:
		return 0, -1, false
	default:
		c.ready = leaves + handshakes*(w.rtt(from, relay)+w.rtt(relay, to))
		if w.hidden(from) && !w.punches(from, to) {
			c.via = relay
		}
	}
	w.connect(from, c)
	return c.ready, c.via, true
}

func (w *World) hidden(i int32) bool { return w.reach.natted != nil && w.reach.natted[i] }

// relayOf is who passes on what is for a peer that nobody can dial, or -1.
func (w *World) relayOf(to int32) int32 {
	if nat := w.sc.Network.NAT; nat == nil || !nat.Relay {
		return -1
	}
	for _, v := range w.cells[w.peers[to].cell].voters {
		if w.runs(v) {
			return v
		}
	}
	return -1
}

// punches reports whether two peers that nobody can dial come to talk directly: drawn
// once for each pair.
func (w *World) punches(a, b int32) bool {
	s := w.seed.Stream(uint32(min(a, b)), forPairs).From(uint64(max(a, b)) << 4)
	return s.Happens(w.sc.Network.NAT.Punched)
}

// use finds a connection of a peer and puts it first.
func (r *reach) use(of, to int32) *connection {
	list := r.open[of]
	for i := range list {
		if list[i].peer == to {
			c := list[i]
			copy(list[1:i+1], list[:i])
			list[0] = c
			return &list[0]
		}
	}
	return nil
}

// connect opens a connection; who has too many closes the one that it used last
// longest ago.
func (w *World) connect(from int32, c connection) {
	if w.warm(w.now) {
		w.reach.opened++
		if c.via >= 0 {
			w.reach.relayed++
		}
	}
	to := c.peer
	w.add(from, c)
	c.peer = from
	w.add(to, c)
}

func (w *World) add(of int32, c connection) {
	r, most := w.reach, w.sc.Network.Connections.Keep
	if w.votes(of) {
		most = w.sc.Network.Connections.Voters
	}
	if len(r.open[of]) >= most {
		last := r.open[of][len(r.open[of])-1].peer
		r.remove(of, last)
		r.remove(last, of)
	}
	r.open[of] = slices.Insert(r.open[of], 0, c)
}

func (r *reach) remove(of, peer int32) {
	r.open[of] = slices.DeleteFunc(r.open[of], func(c connection) bool { return c.peer == peer })
}

// disconnect ends all connections of a peer that leaves.
func (w *World) disconnect(i int32) {
	if w.reach == nil {
		return
	}
	for _, c := range w.reach.open[i] {
		w.reach.remove(c.peer, i)
	}
	w.reach.open[i] = w.reach.open[i][:0]
}

// way is the delay of a message, over a relay or without (-1).
func (w *World) way(from, to, via int32) int64 {
	if via < 0 {
		return w.delay(from, to)
	}
	return w.delay(from, via) + w.delay(via, to)
}

// hop is the way between two peers at random.
func (w *World) hop(c *cell) int64 {
	s := &w.peers[c.first].links
	return w.path(int32(s.IntN(len(w.peers))), int32(s.IntN(len(w.peers))))
}

// scheduleDigests has every leader tell other cells of its own, each in its turn.
func (w *World) scheduleDigests() {
	if w.sc.Network.Gossip == nil {
		return
	}
	for i := range w.cells {
		w.push(int64(i)*digestEvery/int64(len(w.cells)), event{kind: digestDue, a: int32(i)})
	}
}

// digestDue has a cell's digest go round: over as many hops as it takes for each peer
// to pass it to Degree others until all have it. All have it at the same time here.
func (w *World) digestDue(c *cell) {
	w.push(w.now+digestEvery, event{kind: digestDue, a: c.at})
	if c.leader < 0 || !w.runs(c.leader) {
		return
	}
	w.spread(c)
	c.told, c.toldAt = w.digest(c, w.now/digestEvery+1), w.now
	for n := 1; n < len(w.peers); n *= w.sc.Network.Gossip.Degree {
		c.toldAt += w.hop(c)
	}
}

// spread is the last digest of a cell that has reached the others.
func (w *World) spread(c *cell) *digest {
	if c.toldAt > 0 && c.toldAt <= w.now {
		c.said, c.toldAt = c.told, 0
	}
	return &c.said
}

// A look-up in the DHT goes to peers that are nearer with each hop. With buckets of 20
// (kad-dht) each hop leaves about one peer in 20 to look among (Stutzbach and Rejaie,
// INFOCOM 2006, show what the size of buckets saves). The records of those who are
// found come from themselves. Bounds are those of mesh/directory.
const (
	bucket     = 20
	lookUpFind = 16
	lookUpSees = 256
)

// lookUp asks the DHT for nodes, when no sibling has one.
func (w *World) lookUp(c *cell, q *inquiry) {
	q.found = true
	took := (handshakes + 1) * 2 * w.hop(c)
	for n := 1; n < len(w.peers); n *= bucket {
		took += 2 * w.hop(c)
	}
	w.push(w.now+took, event{kind: nodesFound, a: c.at, c: int32(q.id)})
}

// nodesFound calls nodes of other cells that are large enough. Whether they have room
// their bids will say.
func (w *World) nodesFound(c *cell, id int64) {
	i := slices.IndexFunc(c.asked, func(q inquiry) bool { return q.id == id })
	if i < 0 || c.leader < 0 {
		return
	}
	lot := c.asked[i].lot
	c.asked = slices.Delete(c.asked, i, i+1)
	var offers []offerIn
	at := w.peers[c.first].links.IntN(len(w.peers))
	for range min(lookUpSees, len(w.peers)) {
		if p := &w.peers[at]; p.up && p.fresh && p.cell != c.at && w.large(p, &lot) && len(offers) < lookUpFind {
			offers = append(offers, w.record(c, int32(at)))
		}
		at = (at + 1) % len(w.peers)
	}
	if len(offers) > 0 {
		w.step(c, scheduler.Input{Siblings: &scheduler.SiblingsIn{Workload: lot.Workload, Offers: offers, DHT: true}})
	}
}

// large reports whether a lot's shape fits on a peer that has nothing else to do.
func (w *World) large(p *peer, lot *deskLot) bool {
	return policy.SlotsOf(w.park(p).Total, lot.Shape, w.parks[p.class].SMT, 0) > 0
}

// record is what the DHT says of a peer, which is no offer.
func (w *World) record(c *cell, i int32) offerIn {
	p := &w.peers[i]
	m := *w.park(p)
	o := workload.Offer{Node: p.id, Cell: w.cells[p.cell].id, Machine: m, Free: m.Total, ValidMs: offerValid}
	return offerIn{Offer: o, RTTMicros: w.rtt(c.leader, i) / 1000}
}
