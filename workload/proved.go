package workload

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// FreshWithin is how long evidence that was made for one award may wait for it.
const FreshWithin = time.Minute

// Proved is what the leader of a cell found of a node before it gave it slots, of
// a workload whose spec requires something. The leader signs it (DomainProved);
// it stands in the award and in receipts. The evidence and the whole appraisal
// are known by their digests.
type Proved struct {
	Workload  ID        `cbor:"1,keyasint" json:"workload"`        // that was awarded
	Auction   AuctionID `cbor:"2,keyasint" json:"-"`               // in which the node got slots
	Node      PeerID    `cbor:"3,keyasint" json:"node"`            // whose machine it is about
	By        PeerID    `cbor:"4,keyasint" json:"by"`              // who appraised, and signs
	Level     Level     `cbor:"5,keyasint" json:"level" max:"8"`   // that was proved
	Status    Tier      `cbor:"6,keyasint" json:"status" max:"16"` // the worst tier of the appraisal's claims
	Evidence  Digest    `cbor:"7,keyasint" json:"evidence"`        // of the envelope's bytes
	Appraisal Digest    `cbor:"8,keyasint" json:"appraisal"`       // of the Appraisal's canonical encoding
	Binding   Digest    `cbor:"9,keyasint" json:"binding"`         // of what the evidence is bound to
	Instance  Digest    `cbor:"10,keyasint" json:"instance"`       // of the chip: its endorsement key, or its identifier
	At        int64     `cbor:"11,keyasint" json:"at_ms"`          // when the evidence was made and appraised, by the clock of By
	Used      int64     `cbor:"12,keyasint" json:"used_ms"`        // when it served this auction, by the same clock
	For       AuctionID `cbor:"13,keyasint" json:"-"`              // of this workload, for which the evidence was made; zero is any work

	Measurements []Measurement `cbor:"14,keyasint,omitempty" json:"measurements,omitempty" max:"16"` // those that the spec names
}

// Meet returns nil when what was proved meets r, and otherwise an error that wraps
// ErrNotProved and says what is missing. Times are compared by the clock of By.
func (p *Proved) Meet(r *Require) error {
	a := Appraisal{Node: p.Node, Kind: p.Level, Level: p.Level, Status: p.Status, Measurements: p.Measurements, At: p.At}
	if err := a.Meet(r, p.Used); err != nil {
		return err
	}
	waited := time.Duration(p.Used-p.At) * time.Millisecond
	switch {
	case p.Evidence.IsZero():
		return fmt.Errorf("%w: no evidence is named", ErrNotProved)
	case !r.Fresh():
	case p.For == (AuctionID{}):
		return fmt.Errorf("%w: the evidence was not made for this workload, and each award wants its own", ErrNotProved)
	case waited > FreshWithin || waited < -FreshWithin:
		return fmt.Errorf("%w: the evidence was made %s before its use, at most %s is fresh", ErrNotProved, waited, FreshWithin)
	}
	return nil
}

// Named returns those of an appraisal's measurements whose names r asks for, at
// most MaxRequired.
func (a *Appraisal) Named(r *Require) (out []Measurement) {
	for _, m := range a.Measurements {
		wanted := slices.ContainsFunc(r.Measurements, func(text string) bool {
			name, _, _ := strings.Cut(text, "=")
			return name == m.Name
		})
		if wanted && len(out) < MaxRequired {
			out = append(out, m)
		}
	}
	return out
}
