package model

import (
	"encoding/binary"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/scheduler"
	"github.com/perrin-mesh/perrin/simulations/scenario"
	"github.com/perrin-mesh/perrin/workload"
)

// What a result says. A vote is no hash here: it names the task, what the result is,
// and whose it is when it is like nobody else's.
const (
	voteRight byte = iota + 1
	voteWrong
	voteFailed
)

// voteOf is the vote of a result; by is 0 for what all say alike.
func voteOf(load int32, task uint32, says byte, by int32) (d workload.Digest) {
	binary.BigEndian.PutUint32(d[:], uint32(load))
	binary.BigEndian.PutUint32(d[4:], task)
	d[8] = says
	binary.BigEndian.PutUint32(d[9:], uint32(by))
	return d
}

// checked reports whether several nodes run each task of a workload.
func (w *World) checked(load int32) bool { return w.specs[w.loads[load].stream].VerifyBy != nil }

// votes1 is what a peer says that a task came to.
func (w *World) votes1(on, load int32, task uint32, late bool) workload.Digest {
	p := &w.peers[on]
	switch {
	case late:
		return voteOf(load, task, voteFailed, 0)
	case !w.does(p, scenario.Lies):
		return voteOf(load, task, voteRight, 0)
	case w.sc.Attackers[p.attack-1].Together:
		return voteOf(load, task, voteWrong, 0)
	}
	return voteOf(load, task, voteWrong, on+1)
}

// believed counts the results that were accepted, and the wrong ones among them: of
// a workload that is not verified whatever its node says.
func (w *World) believed(cmd *ledger.Command, by *peer) {
	load := w.loadOf(cmd.Close.Workload)
	if !w.counts(w.loads[load].arrived) || w.checked(load) {
		return
	}
	for _, r := range cmd.Close.Done {
		w.results += uint64(r.Count)
		if w.does(by, scenario.Lies) {
			w.wrong += uint64(r.Count)
		}
	}
}

// judged counts the results of a verified workload that has ended, and what attackers
// were paid for theirs.
func (w *World) judged(c *cell, load int32) {
	l := &w.loads[load]
	if !w.counts(l.arrived) || !w.checked(load) {
		return
	}
	for _, t := range c.state.Tasks(l.id, 0, uint32(w.tasksOf(l))) {
		for _, v := range t.Votes {
			if w.peers[indexOf(v.Node)].attack > 0 {
				w.stolen += v.Cost
			}
		}
		if t.State != ledger.TaskDone {
			continue
		}
		w.results++
		for _, v := range t.Votes {
			if v.Verdict == ledger.Agrees && v.Result[8] == voteWrong {
				w.wrong++
				break
			}
		}
	}
}

// accomplices reports whether two attackers are of the same kind.
func (w *World) accomplices(a, b int32) bool {
	return w.peers[a].attack > 0 && w.peers[a].attack == w.peers[b].attack
}

// omits reports whether a leader leaves an offer out: one that colludes does with
// those of others as long as an accomplice of its cell has a free thread.
func (w *World) omits(c *cell, from int32) bool {
	if !w.does(&w.peers[c.leader], scenario.Colludes) || w.accomplices(c.leader, from) {
		return false
	}
	for i := c.first; i < c.last; i++ {
		if p := &w.peers[i]; p.up && w.accomplices(c.leader, i) && (p.alloc == nil || p.alloc.Available().Threads > 0) {
			w.omitted++
			return true
		}
	}
	return false
}

// forge gives the slots of an award to an accomplice that bid and did not win.
func (w *World) forge(c *cell, a *scheduler.Award) *scheduler.Award {
	if !w.does(&w.peers[c.leader], scenario.Forges) {
		return a
	}
	for _, signed := range a.Bids {
		bid, err := openBid(signed)
		friend := err == nil && w.accomplices(c.leader, indexOf(bid.Node))
		for i := range a.Slots {
			if !friend || a.Slots[i].Node == bid.Node || len(bid.Asks) == 0 {
				continue
			}
			f := *a
			f.Slots = append([]workload.AwardSlot(nil), a.Slots...)
			f.Slots[i] = workload.AwardSlot{Node: bid.Node, Ask: bid.Asks[0], Rate: bid.Asks[0]}
			w.forged++
			return &f
		}
	}
	return a
}

// sybil is one machine that goes by several names.
type sybil struct{ names []int32 }

// groupSybils makes machines of the attackers that have several names, in their order.
func (w *World) groupSybils() {
	open := make([]int32, len(w.sc.Attackers)) // machines with a name to give, from 1
	for i := range w.peers {
		p := &w.peers[i]
		if !w.does(p, scenario.Sybils) {
			continue
		}
		at := &open[p.attack-1]
		if *at == 0 || len(w.sybils[*at-1].names) >= int(w.sc.Attackers[p.attack-1].Identities) {
			w.sybils = append(w.sybils, sybil{})
			*at = int32(len(w.sybils))
		}
		m := &w.sybils[*at-1]
		m.names = append(m.names, int32(i))
		p.sybil = *at
		p.class = w.peers[m.names[0]].class
	}
}

// operatorOf is whose certificate a peer has: its own, or that of the first name of
// its machine.
func (w *World) operatorOf(i int32) workload.PeerID {
	p := &w.peers[i]
	if p.sybil > 0 && w.sc.Attackers[p.attack-1].Known {
		return w.peers[w.sybils[p.sybil-1].names[0]].id
	}
	return p.id
}

// busyElsewhere is how many threads other names of a peer's machine use.
func (w *World) busyElsewhere(on int32) (threads int64) {
	p := &w.peers[on]
	if p.sybil == 0 {
		return 0
	}
	for _, i := range w.sybils[p.sybil-1].names {
		if i == on {
			continue
		}
		for _, k := range w.peers[i].slots {
			if s := &w.slots[k]; s.running && s.class != workload.Spare {
				threads += int64(len(s.cpus))
			}
		}
	}
	return threads
}
