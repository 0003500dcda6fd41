package model

import "slices"

// inFlight is how many requests Raft has under way to a follower; what comes then
// waits for the first answer, and goes together (hashicorp/raft,
// DefaultMaxRPCsInFlight).
const inFlight = 2

// pipe is what a leader has under way to one follower. All are ns.
type pipe struct {
	back    [inFlight]int64 // when each request is answered
	departs int64           // when the last of them leaves,
	arrives int64           // and is answered
}

// send returns when an entry of now is answered for, which takes so long under way.
func (p *pipe) send(now, takes int64) int64 {
	if p.departs > now {
		return p.arrives // it goes with those that wait already
	}
	first := 0
	for i := range p.back {
		if p.back[i] < p.back[first] {
			first = i
		}
	}
	p.departs = max(now, p.back[first])
	p.arrives = p.departs + takes
	p.back[first] = p.arrives
	return p.arrives
}

// replicated is when a majority of the voters has an entry that is proposed now on
// disk. There must be one (quorum).
func (w *World) replicated(c *cell) int64 {
	now := max(w.now, w.leaves)
	s := &w.peers[c.leader].links
	disk := slowed(w.sc.Costs.Fsync.Draw(s), w.peers[c.leader].disk)
	back := w.answers[:0]
	for i, v := range c.voters {
		if v == c.leader || !w.runs(v) || !w.hear(c.leader, v) {
			continue
		}
		takes := w.rtt(c.leader, v)
		if j := w.sc.Network.Jitter; j > 0 {
			takes += int64(float64(takes*j/1_000_000) * s.Exp())
		}
		if w.weather != nil {
			takes += w.repeated(c.leader, takes)
		}
		if w.lines != nil {
			takes += w.lines[c.leader].up.message(now, msgBytes[msgRaft], w.sc.Network.Bandwidth.Buffer) - now
		}
		back = append(back, c.pipes[i].send(now, takes+disk))
	}
	w.answers = back
	need := len(c.voters) / 2
	if need == 0 {
		return now + disk
	}
	slices.Sort(back)
	return back[need-1]
}

// repeated is how much longer an exchange takes by what a fault loses of it.
func (w *World) repeated(leader int32, takes int64) (more int64) {
	extra := w.weather.loss[w.peers[leader].region]
	for wait, lost := takes+maxAckDelay, 0; lost < 10 && w.peers[leader].links.Happens(extra); lost++ {
		more += wait
		wait *= 2
	}
	return more
}
