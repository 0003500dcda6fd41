package worker

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/runner"
	"github.com/perrin-mesh/perrin/workload/sandbox"
)

// Parking: a session whose slot has ended waits a little for another slot of
// the same owner, program and limits, so that a stream of small workloads pays
// for a sandbox once. What differs between two such slots is told with each
// attempt, and an attempt has a fresh instance anyhow.
const (
	parkFor   = 5 * time.Second
	maxParked = 16 // sessions of a node
)

// parked is a session that waits.
type parked struct {
	session runner.Reusable
	kind    string // what a slot must be to get it
	dir     string
	timer   *time.Timer
}

// kindOf says which slots may share a session: all that the sandbox was built
// from, and whose it was.
func kindOf(s *slot) string {
	raw := wire.MustMarshal(struct {
		Program   workload.Program   `cbor:"1,keyasint"`
		Resources workload.Resources `cbor:"2,keyasint"`
		CPUs      []int              `cbor:"3,keyasint"`
		Nodes     []int              `cbor:"4,keyasint"`
	}{s.spec.Program, s.spec.Resources, s.cpus, s.nodes})
	return string(s.owner[:]) + string(raw)
}

// park keeps the session of a slot that has ended well, and reports whether it
// did. The slot's folder stays with it.
func (w *Worker) park(s *slot, session runner.Session) bool {
	r, ok := session.(runner.Reusable)
	if !ok || w.ctx.Err() != nil || s.spec.Sealed() || s.spec.Resources.Class == workload.Spare { // what is lent may be wanted back
		return false
	}
	p := &parked{session: r, kind: kindOf(s), dir: s.dir}
	if !w.reserveParking(p) {
		return false
	}
	if err := p.leave(); err != nil {
		w.cfg.Log.Debug("session not kept for another slot", "err", err)
		w.forgetParked(p)
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ctx.Err() != nil { // Close has looked already
		delete(w.parking, p)
		return false
	}
	w.expiring.Add(1)
	p.timer = time.AfterFunc(parkFor, func() { w.expireParked(p) })
	return true
}

// reserveParking gives p a place.
func (w *Worker) reserveParking(p *parked) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.parking) >= maxParked {
		return false
	}
	w.parking[p] = struct{}{}
	return true
}

func (w *Worker) forgetParked(p *parked) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.parking, p)
}

// leave takes the session out of its slot and empties the folder.
func (p *parked) leave() error {
	keep, err := p.session.Park()
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(p.dir)
	for _, e := range entries {
		if !slices.Contains(keep, e.Name()) {
			err = errors.Join(err, sandbox.RemoveAll(filepath.Join(p.dir, e.Name())))
		}
	}
	return err
}

// unpark makes the slot's folder: that of a session which fits it, or with nil
// an empty one.
func (w *Worker) unpark(s *slot) (*parked, error) {
	if s.spec.Sealed() {
		return nil, s.moveToMemory()
	}
	p := w.fitting(kindOf(s))
	if p == nil {
		return nil, os.MkdirAll(s.dir, 0o711)
	}
	s.dir = p.dir
	return p, nil
}

func (w *Worker) fitting(kind string) *parked {
	w.mu.Lock()
	defer w.mu.Unlock()
	for p := range w.parking {
		if p.kind == kind && w.keepFromExpiring(p) {
			delete(w.parking, p)
			return p
		}
	}
	return nil
}

// close ends the session. A nil p has none.
func (p *parked) close() error {
	if p == nil {
		return nil
	}
	return p.session.Close()
}

// open returns the slot's session: p's, when it has one and it works.
func (s *slot) open(p *parked) (runner.Session, error) {
	slot := runner.Slot{
		Workload: s.key.Workload, Slot: s.key.Slot, Owner: s.owner, Spec: s.work, Program: s.stage.program, Parts: s.stage.parts,
		Layer: s.stage.layer, CPUs: s.cpus, Nodes: s.nodes, Dir: s.dir, Private: s.secret != nil, Guard: s.w.cfg.Supervisor.Slot(keyText(s.key)),
	}
	if p != nil {
		err := p.session.Reopen(slot)
		if err == nil {
			return p.session, nil
		}
		s.log.Debug("waiting session does not serve", "err", err)
		if err := p.session.Close(); err != nil {
			return nil, err
		}
	}
	return s.w.cfg.Runners[s.spec.Program.Kind].Open(s.ctx, slot)
}

func (w *Worker) expireParked(p *parked) {
	w.mu.Lock()
	_, still := w.parking[p]
	delete(w.parking, p)
	w.mu.Unlock()
	if still {
		w.closeParked(p)
	}
	w.expiring.Done()
}

// closeParked ends a session that nobody wants, and removes its folder.
func (w *Worker) closeParked(p *parked) {
	err := errors.Join(p.session.Close(), sandbox.RemoveAll(p.dir))
	if err != nil {
		w.cfg.Log.Warn("close a waiting session", "err", err)
	}
}

// closeParking ends all that waits, when the worker stops.
func (w *Worker) closeParking() {
	w.mu.Lock()
	var all []*parked
	for p := range w.parking {
		if w.keepFromExpiring(p) {
			all = append(all, p)
			delete(w.parking, p)
		}
	}
	w.mu.Unlock()
	for _, p := range all {
		w.closeParked(p)
	}
	w.expiring.Wait()
}

// keepFromExpiring stops p's timer. It is false while p is still on its way to
// wait, and once expireParked has it. The caller holds w.mu.
func (w *Worker) keepFromExpiring(p *parked) bool {
	if p.timer == nil || !p.timer.Stop() {
		return false
	}
	w.expiring.Done()
	return true
}
