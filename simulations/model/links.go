package model

// Delays of QUIC: a lost packet is sent again after a probe timeout of
// the round trip and the peer's acknowledgement delay, and after twice that when
// it is lost again (RFC 9002, 6.2.1).
const maxAckDelay = 25 * millisecond

const millisecond = int64(1_000_000)

// path is the delay from a peer to another without jitter.
func (w *World) path(from, to int32) int64 {
	if from == to {
		return 0
	}
	a, b := &w.peers[from], &w.peers[to]
	return w.sc.Network.RTT[a.region][b.region]/2 + a.access + b.access
}

// rtt is the round trip between two peers without jitter.
func (w *World) rtt(a, b int32) int64 { return w.path(a, b) + w.path(b, a) }

// delay is the delay of one message: an exponential part more, and for each loss
// a probe timeout.
func (w *World) delay(from, to int32) int64 {
	base := w.path(from, to)
	if base == 0 {
		return 0
	}
	s := &w.peers[from].links
	d := base
	if j := w.sc.Network.Jitter; j > 0 {
		d += int64(float64(base*j/1_000_000) * s.Exp())
	}
	wait, loss := 2*base+maxAckDelay, w.lossBetween(from, to)
	for lost := 0; lost < 10 && s.Happens(loss); lost++ {
		d += wait
		wait *= 2
	}
	return d
}

// send puts a message on its way. It leaves when the sender's CPU is done with
// what it is handling.
func (w *World) send(m message) {
	if m.from != m.to {
		w.countSent(&m)
	}
	if w.weather != nil && !w.reaches(m.from, m.to) {
		w.lostMsgs++
		if w.tracing != nil {
			w.note("%s to peer %d is lost: the regions are parted", m.kind, m.to)
		}
		return
	}
	leaves, via := max(w.now, w.leaves), int32(-1)
	if w.reach != nil && m.from != m.to {
		var ok bool
		if leaves, via, ok = w.contact(m.from, m.to, leaves); !ok {
			w.lostMsgs++
			if w.tracing != nil {
				w.note("%s to peer %d is lost: nobody can dial it", m.kind, m.to)
			}
			return
		}
	}
	if w.lines != nil && m.from != m.to {
		leaves = w.lines[m.from].up.message(leaves, w.sizeOf(&m), w.sc.Network.Bandwidth.Buffer)
	}
	i := w.msgs.keep(m)
	held := int64(0)
	if w.weather != nil {
		held = w.disturb(&m, leaves, via)
	}
	w.push(leaves+held+w.way(m.from, m.to, via), event{kind: deliver, what: m.kind, a: m.to, c: i})
}

// countSent counts a message that leaves its peer, and the answer that goes without
// saying.
func (w *World) countSent(m *message) {
	w.count(m.kind)
	switch m.kind {
	case msgRelease, msgAward: // the answer says nothing
		w.count(msgDoneAck)
	case msgOffer: // a leader answers with the members of its cell
		w.countBytes(msgView, viewBytes+viewMember*int64(w.cells[m.cell].last-w.cells[m.cell].first))
	}
}

// arriveAt is a message that reaches a peer. A leader handles one at a time; what
// comes meanwhile waits for its CPU.
func (w *World) arriveAt(to, index int32) {
	p := &w.peers[to]
	if !p.up {
		if w.tracing != nil {
			w.note("nobody is there")
		}
		w.msgs.take(index)
		return
	}
	start := max(w.now, p.busy)
	if m := &w.msgs.all[index]; w.lines != nil && m.from != to {
		start = max(start, w.lines[to].down.message(w.now, w.sizeOf(m), w.sc.Network.Bandwidth.Buffer))
	}
	if start > w.now {
		p.busy = start + w.cost(to, w.msgs.all[index].kind)
		w.push(start, event{kind: handle, what: w.msgs.all[index].kind, a: to, b: p.boot, c: index})
		return
	}
	p.busy = w.now + w.cost(to, w.msgs.all[index].kind)
	w.deliver(to, index)
}

func (w *World) cost(to int32, k msgKind) int64 {
	c := signed[k] * w.sc.Costs.Verify
	if w.leads(to) {
		c += w.sc.Costs.Message
	}
	return slowed(c, w.peers[to].slow)
}

// deliver handles a message; what it sends leaves when the peer's CPU is done.
func (w *World) deliver(to, index int32) {
	m := w.msgs.take(index)
	if !w.peers[to].up || m.boot != 0 && m.boot != w.peers[to].boot {
		return
	}
	w.leaves = w.peers[to].busy
	w.dispatch(to, &m)
	w.leaves = 0
}
