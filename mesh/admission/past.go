package admission

import (
	"fmt"
	"time"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// Past is what the root and its operators had said when somebody wrote it down, for
// who judges what was signed at an earlier time. It never changes.
type Past struct {
	Root    workload.PeerID
	Charter uint64    // its number; 0 is none
	At      time.Time // of the charter
	// Written is when node By wrote it down, as that node has signed; zero is not known.
	Written time.Time
	By      workload.PeerID
	charter Charter
	denials []*held
}

// OpenPast verifies encoded Statements of the mesh that root names, all of them:
// the error says which is not to be believed.
func OpenPast(root workload.PeerID, raw []byte) (*Past, error) {
	var s Statements
	if err := wire.Unmarshal(raw, &s); err != nil {
		return nil, fmt.Errorf("statements: %w: %w", ErrForged, err)
	}
	p := &Past{Root: root}
	if s.Charter != nil {
		c, err := openCharter(*s.Charter, root)
		if err != nil {
			return nil, err
		}
		p.charter, p.Charter, p.At = c, c.Seq, time.UnixMilli(c.At)
	}
	for i, doc := range s.Denials {
		h, err := openDenial(doc, root)
		if err != nil {
			return nil, fmt.Errorf("statement %d: %w", i, err)
		}
		p.denials = append(p.denials, h)
	}
	return p, nil
}

// Denials is how many statements of the deny list there are.
func (p *Past) Denials() int { return len(p.denials) }

// Stood returns why a certificate of a node, by an operator, counted for nothing at a
// time: the root had removed the operator, or an operator denied the node. The error
// wraps ErrNotAdmitted.
func (p *Past) Stood(node, operator workload.PeerID, at time.Time) error {
	if from, removed := p.charter.removedFrom(operator); removed && !at.Before(from) {
		return fmt.Errorf("its operator %s counted no more from %s on: %w", operator.Short(), from.UTC().Format(time.RFC3339), ErrNotAdmitted)
	}
	for _, h := range p.denials {
		if h.Peer != node || !h.counts(at) || at.Before(time.UnixMilli(h.since())) || p.lifted(h, at) {
			continue
		}
		if from, removed := p.charter.removedFrom(h.by); removed && !at.Before(from) {
			continue
		}
		return fmt.Errorf("operator %s had denied it on %s: %w", h.by.Short(), time.UnixMilli(h.since()).UTC().Format(time.RFC3339), ErrNotAdmitted)
	}
	return nil
}

// lifted reports whether the operator itself took a denial back by then.
func (p *Past) lifted(h *held, at time.Time) bool {
	for _, o := range p.denials {
		if o.Peer == h.Peer && o.by == h.by && o.beats(h) && !at.Before(time.UnixMilli(o.At)) && o.Lift {
			return true
		}
	}
	return false
}
