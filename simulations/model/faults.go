package model

import (
	"slices"

	"github.com/perrin-mesh/perrin/simulations/scenario"
)

// Faults begin and end by events. Whom one hits is drawn for each fault and peer
// (or cell), so that every policy sees the same. A message into a cut is lost, as
// are requests of the product, which give up within seconds; who sent it tries
// again where the product does.

const million = 1_000_000

// weather is what faults do to links now.
type weather struct {
	cuts []uint16 // how many parts each region from each, from x regions + to
	loss []int64  // ppm of packets lost beside the network's, of each region
	dup  []int64  // ppm of messages that arrive twice
	hold []int64  // ns by which a message is held back at most
}

// scheduleFaults pushes the beginnings and ends of faults.
func (w *World) scheduleFaults() {
	if len(w.sc.Faults) == 0 {
		return
	}
	n := len(w.sc.Network.Regions)
	w.weather = &weather{cuts: make([]uint16, n*n), loss: make([]int64, n), dup: make([]int64, n), hold: make([]int64, n)}
	for i := range w.sc.Faults {
		f := &w.sc.Faults[i]
		w.push(f.At, event{kind: faultBegins, a: int32(i)})
		if f.For > 0 && f.Kind != scenario.Crash {
			w.push(f.At+f.For, event{kind: faultEnds, a: int32(i)})
		}
	}
}

// strike begins or ends a fault.
func (w *World) strike(i int32, begins bool) {
	f := &w.sc.Faults[i]
	if w.tracing != nil {
		w.note("fault %d: %s", i+1, f.Kind)
	}
	switch f.Kind {
	case scenario.Crash:
		w.crash(i, f)
	case scenario.Freeze:
		w.freeze(i, f, begins)
	case scenario.Cut:
		w.cut(f, begins)
	case scenario.Loss:
		w.worsen(f, w.weather.loss, f.Rate, begins)
	case scenario.Duplicate:
		w.worsen(f, w.weather.dup, f.Rate, begins)
	case scenario.Reorder:
		w.worsen(f, w.weather.hold, f.By, begins)
	default:
		w.active = slices.DeleteFunc(w.active, func(k int32) bool { return k == i })
		if begins {
			w.active = append(w.active, i)
		}
		w.slowDown()
	}
}

// worsen adds to what links with an end in a fault's regions suffer, or takes it off.
func (w *World) worsen(f *scenario.Fault, what []int64, by int64, begins bool) {
	if !begins {
		by = -by
	}
	for _, r := range w.regionsOf(f) {
		what[r] += by
	}
}

// between is the worse of what two peers' regions suffer.
func (w *World) between(what []int64, a, b int32) int64 {
	return max(what[w.peers[a].region], what[w.peers[b].region])
}

// repeated are messages that may come twice: QUIC delivers each once, so those that the
// product says again when it hears nothing, and their answers. A call for bids is made once.
var repeated = [msgKinds]bool{
	msgSubmit: true, msgAck: true, msgAward: true, msgRefused: true, msgTake: true, msgTaken: true, msgClose: true, msgClosed: true,
	msgDone: true, msgDoneAck: true, msgRenew: true, msgRenewed: true, msgOffer: true, msgSuited: true, msgDisclaim: true,
	msgDisclaimed: true, msgHold: true, msgHeld: true,
}

// disturb has a message that leaves now arrive twice, or be held back, where a fault
// says so, and returns by how much.
func (w *World) disturb(m *message, leaves int64, via int32) (held int64) {
	s := &w.peers[m.from].links
	if most := w.between(w.weather.hold, m.from, m.to); most > 0 {
		held = s.Int64N(most + 1)
	}
	twice := min(w.between(w.weather.dup, m.from, m.to), million)
	if m.from == m.to || !repeated[m.kind] || !s.Happens(twice) {
		return held
	}
	w.doubled++
	at := leaves + w.way(m.from, m.to, via)
	if most := w.between(w.weather.hold, m.from, m.to); most > 0 {
		at += s.Int64N(most + 1)
	}
	w.push(at, event{kind: deliver, what: m.kind, a: m.to, c: w.msgs.keep(*m)})
	return held
}

// regionsOf lists the regions of a fault, all when it names none.
func (w *World) regionsOf(f *scenario.Fault) (out []int32) {
	for i := range w.sc.Network.Regions {
		if len(f.Regions) == 0 || slices.Contains(f.Regions, w.sc.Network.Regions[i].Name) {
			out = append(out, int32(i))
		}
	}
	return out
}

// hits reports whether a fault hits a peer (or cell) that it may hit.
func (w *World) hits(fault, who int32, share int64) bool {
	s := w.seed.Stream(uint32(who), forFaults).From(uint64(fault) << 4)
	return s.Int64N(million) < share
}

func (w *World) crash(n int32, f *scenario.Fault) {
	hit := map[int32]bool{}
	for i := range w.cells {
		switch c := &w.cells[i]; {
		case f.Crash == scenario.Leaders && c.leader >= 0 && w.hits(n, c.at, f.Share):
			hit[c.leader] = true
		case f.Crash == scenario.Voters:
			for _, v := range c.voters {
				hit[v] = w.hits(n, v, f.Share)
			}
		}
	}
	regions := w.regionsOf(f)
	for i := range w.peers {
		p := &w.peers[i]
		is := hit[int32(i)] || f.Crash == scenario.Everybody && w.hits(n, int32(i), f.Share)
		if is && p.up && slices.Contains(regions, p.region) {
			w.leave(int32(i), f.For)
		}
	}
}

// leave stops a peer, for a while or for good.
func (w *World) leave(i int32, back int64) {
	w.stopPeer(i)
	if p := &w.peers[i]; back > 0 {
		w.push(w.now+back, event{kind: up, a: i, b: p.boot})
	} else {
		p.boot++ // an end of its session that was drawn before brings it back no more
	}
}

// cut parts regions from all others, or joins them again.
func (w *World) cut(f *scenario.Fault, begins bool) {
	n := int32(len(w.sc.Network.Regions))
	inside := make([]bool, n)
	for _, r := range w.regionsOf(f) {
		inside[r] = true
	}
	by := uint16(1)
	if !begins {
		by = ^uint16(0)
	}
	for from := range n {
		for to := range n {
			if inside[from] && !inside[to] || !f.OneWay && !inside[from] && inside[to] {
				w.weather.cuts[from*n+to] += by
			}
		}
	}
	for i := range w.cells {
		c := &w.cells[i]
		if c.leader < 0 {
			continue
		}
		if c.quorum = w.majority(c); c.quorum < 0 {
			w.deposed(c)
		}
	}
}

// reaches reports whether what a peer sends arrives at another.
func (w *World) reaches(from, to int32) bool {
	if w.weather == nil {
		return true
	}
	n := int32(len(w.sc.Network.Regions))
	return w.weather.cuts[w.peers[from].region*n+w.peers[to].region] == 0
}

// hear reports whether two peers reach each other.
func (w *World) hear(a, b int32) bool { return w.reaches(a, b) && w.reaches(b, a) }

// lossBetween is the share of packets that are lost between two peers, in ppm.
func (w *World) lossBetween(from, to int32) int64 {
	if w.weather == nil {
		return w.sc.Network.Loss
	}
	return min(w.sc.Network.Loss+max(w.weather.loss[w.peers[from].region], w.weather.loss[w.peers[to].region]), million*9/10)
}

// slowDown sets how slow each peer is: as the worst fault says that hits it.
func (w *World) slowDown() {
	for i := range w.peers {
		w.peers[i].slow, w.peers[i].disk = 0, 0
	}
	for _, n := range w.active {
		f := &w.sc.Faults[n]
		regions := w.regionsOf(f)
		for i := range w.peers {
			p := &w.peers[i]
			if !slices.Contains(regions, p.region) || !w.hits(n, int32(i), f.Share) {
				continue
			}
			if f.Kind == scenario.Slow {
				p.slow = max(p.slow, int32(f.Times))
			} else {
				p.disk = max(p.disk, int32(f.Times))
			}
		}
	}
}

// slowed is how long something takes on a peer whose speed is times permille less.
func slowed(d int64, times int32) int64 {
	if times == 0 {
		return d
	}
	return d / 1000 * int64(times)
}

// candidates are the voters that could lead: those that reach a majority.
func (w *World) candidates(c *cell) (there []int32) {
	for _, v := range c.voters {
		if !w.runs(v) {
			continue
		}
		votes := 0
		for _, u := range c.voters {
			if w.runs(u) && w.hear(v, u) {
				votes++
			}
		}
		if votes > len(c.voters)/2 {
			there = append(there, v)
		}
	}
	return there
}
