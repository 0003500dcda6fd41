package model

import (
	"iter"

	"github.com/perrin-mesh/perrin/workload"
)

// Workload is one workload as far as it has come. Times are ns, 0 is not yet.
type Workload struct {
	Number    int32
	Stream    string
	Owner     int32
	Home      int32 // the peer that it was submitted from
	Cell      int32
	Tasks     int
	Arrived   int64
	Acked     int64
	Placed    int64 // of the first slot
	Began     int64 // of the first task
	Ended     int64
	Paid      int64 // micro-credits
	Phase     workload.Phase
	Forgotten bool // its submitter left before it had an ID
}

// Workloads yields every workload that has arrived, in order of arrival.
func (w *World) Workloads() iter.Seq[Workload] {
	return func(yield func(Workload) bool) {
		for i := range w.loads {
			if !yield(w.workload(int32(i))) {
				return
			}
		}
	}
}

func (w *World) workload(i int32) Workload {
	l := &w.loads[i]
	s := &w.sc.Workloads[l.stream]
	return Workload{
		Number: i, Stream: s.Name, Owner: l.owner, Home: l.home, Cell: l.cell, Tasks: w.tasksOf(l), Arrived: l.arrived, Acked: l.acked,
		Placed: l.placed, Began: l.began, Ended: l.ended, Paid: l.paid, Phase: l.phase, Forgotten: l.missed,
	}
}

// Peer is the state of a peer between two events.
type Peer struct {
	Number  int32             `json:"peer"`
	Region  string            `json:"region"`
	Machine string            `json:"machine"`
	Attacks string            `json:"attacks"` // the name of the attackers that it is one of; "" is none
	Up      bool              `json:"up"`
	Starts  int32             `json:"starts"` // from 1
	Cell    int32             `json:"cell"`
	Voter   bool              `json:"voter"`
	Leads   bool              `json:"leads"`
	Term    int32             `json:"term"`   // of its cell
	Leader  int32             `json:"leader"` // of its cell; -1 is none
	Open    int               `json:"open"`   // workloads of its cell that want slots
	Speed   int64             `json:"speed"`  // permille of the reference core
	Asks    workload.Asks     `json:"asks"`
	Free    workload.Capacity `json:"free"`
	BusyNs  int64             `json:"busy_ns"` // for which its CPU still handles messages
	Slots   []PeerSlot        `json:"slots"`
	Holds   []PeerHold        `json:"holds"`
	Leases  []PeerLease       `json:"leases"`
}

// PeerSlot is a slot on a peer.
type PeerSlot struct {
	Workload int32  `json:"workload"`
	Cell     int32  `json:"cell"`
	CPUs     []int  `json:"cpus"`
	State    string `json:"state"` // starting, running, asking, reporting or ending
	Task     uint32 `json:"task"`
	ForNs    int64  `json:"for_ns"` // for which its task has been running
}

// PeerHold is capacity that is kept for a bid.
type PeerHold struct {
	Workload  int32 `json:"workload"`
	ExpiresNs int64 `json:"expires_ns"`
}

// PeerLease is a lease under which slots run.
type PeerLease struct {
	Cell       int32 `json:"cell"`
	DeadlineNs int64 `json:"deadline_ns"`
}

// Peer returns the state of a peer; false when there is none of that number.
func (w *World) Peer(n int) (Peer, bool) {
	if n < 0 || n >= len(w.peers) {
		return Peer{}, false
	}
	p := &w.peers[n]
	c := &w.cells[p.cell]
	v := Peer{
		Number: int32(n), Region: w.sc.Network.Regions[p.region].Name, Machine: w.sc.Machines[p.class].Name, Up: p.up, Starts: p.boot,
		Cell: p.cell, Leads: c.leader == int32(n), Term: c.term, Leader: c.leader, Speed: p.speed, Asks: p.asks, Free: w.free(p),
		BusyNs: max(0, p.busy-w.now),
	}
	if p.attack > 0 {
		v.Attacks = w.sc.Attackers[p.attack-1].Name
	}
	for _, voter := range c.voters {
		v.Voter = v.Voter || voter == int32(n)
	}
	for range c.state.Lots(0) {
		v.Open++
	}
	for _, i := range p.slots {
		v.Slots = append(v.Slots, w.slotView(&w.slots[i]))
	}
	for _, b := range p.bids {
		v.Holds = append(v.Holds, PeerHold{b.load, nsAt(b.expires)})
	}
	for i := range p.leases {
		if l := &p.leases[i]; w.holdsOf(p, l.cell) {
			v.Leases = append(v.Leases, PeerLease{l.cell, nsAt(l.lease.Deadline())})
		}
	}
	return v, true
}

func (w *World) slotView(s *slot) PeerSlot {
	v := PeerSlot{Workload: s.load, Cell: s.cell, CPUs: s.cpus, Task: s.task, State: "starting"}
	switch {
	case s.ending:
		v.State = "ending"
	case s.running:
		v.State, v.ForNs = "running", w.now-s.started
	case s.asking:
		v.State = "asking"
	case len(s.sent) > 0:
		v.State = "reporting"
	}
	return v
}

// Cell returns the first and the last peer of a cell.
func (w *World) Cell(n int) (first, last int, ok bool) {
	if n < 0 || n >= len(w.cells) {
		return 0, 0, false
	}
	return int(w.cells[n].first), int(w.cells[n].last) - 1, true
}

// Workload returns a workload as far as it has come; false when none of that
// number has arrived.
func (w *World) Workload(n int) (Workload, bool) {
	if n < 0 || n >= len(w.loads) {
		return Workload{}, false
	}
	return w.workload(int32(n)), true
}
