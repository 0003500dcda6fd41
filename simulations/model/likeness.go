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
