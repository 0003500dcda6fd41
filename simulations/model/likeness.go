package model

import (
	"fmt"
	"slices"
)

// Likeness is what a world drew of a peer, for who builds the same one otherwise.
type Likeness struct {
	Region int   // of the scenario
	Access int64 // ns, one way
	Speed  int64 // permille of the reference core
	Drift  int64 // ppm by which its clock is fast
}

// Likeness returns what was drawn of a peer; there must be one of that number.
func (w *World) Likeness(peer int) Likeness {
	p := &w.peers[peer]
	return Likeness{Region: int(p.region), Access: p.access, Speed: p.speed, Drift: int64(p.drift)}
}

// TaskTime returns how many ns a task of a workload takes on a reference core; the
// workload must have arrived.
func (w *World) TaskTime(workload int32, task uint32) int64 { return w.service(workload, task) }

// Seat says who leads and votes in a cell from the beginning, in place of its first
// peers. It must come before the first Step.
func (w *World) Seat(cell, leader int32, voters []int32) error {
	if w.events > 0 || int(cell) >= len(w.cells) {
		return fmt.Errorf("model: cell %d of a world after %d events", cell, w.events)
	}
	c := &w.cells[cell]
	for _, v := range voters {
		if v < c.first || v >= c.last {
			return fmt.Errorf("model: peer %d is not of cell %d", v, cell)
		}
	}
	if len(voters)%2 == 0 || !slices.Contains(voters, leader) {
		return fmt.Errorf("model: peer %d cannot lead %d voters", leader, len(voters))
	}
	c.voters = slices.Clone(voters)
	return w.lead(c, leader)
}

// Hit reports whether a fault of the scenario hits a peer that it may hit, or for
// leaders a cell. It is drawn of the seed and stays the same throughout.
func (w *World) Hit(fault, who int) bool {
	return w.hits(int32(fault), int32(who), w.sc.Faults[fault].Share)
}

// Departs reports likewise whether a departure takes a peer.
func (w *World) Departs(departure, peer int) bool { return w.departs(departure, int32(peer)) }

// Session returns how many ns a peer stays after it has started for the so many-th
// time, counted from 1.
func (w *World) Session(peer, boot int) int64 { return w.sessionOf(int32(peer), int32(boot)) }

// Absence returns how many ns it is away after that.
func (w *World) Absence(peer, boot int) int64 { return w.absenceOf(int32(peer), int32(boot)) }
