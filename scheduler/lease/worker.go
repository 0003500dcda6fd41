package lease

import (
	"errors"
	"fmt"
)

var (
	// ErrLate is returned when an award arrives after the lease that it grants:
	// the slot may belong to another node by now.
	ErrLate = errors.New("the award came after its lease")
	// ErrStale is returned when a message is of an epoch that is over.
	ErrStale = errors.New("the epoch is over")
)

// Worker is a node's side of its lease with one cell. One lease covers all slots
// that the node holds in the cell's present epoch. It is not safe for concurrent
// use.
type Worker struct {
	cfg      Config
	epoch    uint64
	deadline int64
}

// NewWorker returns a worker without a lease.
func NewWorker(cfg Config) *Worker { return &Worker{cfg: cfg} }

// Deadline returns when the lease ends: at that time every attempt must be
// killed that was not told of a later one. 0 is no lease yet.
func (w *Worker) Deadline() int64 { return w.deadline }

// Over reports whether nothing of the cell may run at now.
func (w *Worker) Over(now int64) bool { return now >= w.deadline }

// Epoch returns the epoch that the lease is of; 0 is none yet.
func (w *Worker) Epoch() uint64 { return w.epoch }

// Award takes an award that arrived at now, for a bid that was sent at sent,
// with a lease of grant ms and the node's epoch in its fence. It returns the
// lease's deadline, or an error that wraps ErrLate or ErrStale: the award is then
// to be refused, and must be refused whenever it comes again.
func (w *Worker) Award(now, sent, grant int64, epoch uint64) (int64, error) {
	if epoch < w.epoch {
		return 0, fmt.Errorf("award of epoch %d in epoch %d: %w", epoch, w.epoch, ErrStale)
	}
	if w.cfg.off&bidSent != 0 {
		sent = now
	}
	if end := sent + w.length(grant); now >= end {
		return 0, fmt.Errorf("award came %d ms after the bid, %d ms after its lease: %w", now-sent, now-end, ErrLate)
	}
	w.extend(sent, grant, epoch)
	return w.deadline, nil
}

// Renewed takes the answer that arrived at now to a RENEW that was sent at sent.
// It returns the deadline, which never falls within an epoch, and whether the
// cell has meanwhile given the node up: then no slot of an earlier epoch may run
// on. The answer of an earlier epoch than the present one changes nothing.
func (w *Worker) Renewed(now, sent, grant int64, epoch uint64) (deadline int64, lost bool) {
	if epoch < w.epoch {
		return w.deadline, false
	}
	if w.cfg.off&renewSent != 0 {
		sent = now
	}
	lost = w.epoch != 0 && epoch > w.epoch
	w.extend(sent, grant, epoch)
	return w.deadline, lost
}

func (w *Worker) extend(sent, grant int64, epoch uint64) {
	if epoch > w.epoch {
		w.epoch, w.deadline = epoch, 0
	}
	w.deadline = max(w.deadline, sent+w.length(grant))
}

// length bounds what a leader grants: nothing below 0, nothing above TTL.
func (w *Worker) length(grant int64) int64 { return min(max(grant, 0), w.cfg.TTL) }
