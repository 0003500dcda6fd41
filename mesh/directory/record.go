package directory

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// Bounds of records.
const (
	MaxRecord     = 16 << 10 // bytes of a signed record with its certificates
	MaxVoters     = 9
	MaxAddrs      = 16
	maxAddrLen    = 256
	maxLabelBytes = 256 // of one label's name and of its value
	// RecordTTL is how long a record says that it holds. It is republished at a third.
	RecordTTL = 30 * time.Minute
	// maxTTL is the most that a record may claim.
	maxTTL = 2 * time.Hour
)

// ErrRecord is returned when a record is not one that its key may hold: too
// large, malformed, ended, or signed by someone else.
var ErrRecord = errors.New("not a valid record")

// NodeRecord is what a node publishes of itself.
type NodeRecord struct {
	Peer    workload.PeerID  `cbor:"1,keyasint" json:"peer"`
	Machine workload.Machine `cbor:"2,keyasint" json:"machine"`
	Addrs   []string         `cbor:"3,keyasint" json:"addrs" max:"16"` // multiaddrs with /p2p/
	Cell    workload.CellID  `cbor:"4,keyasint" json:"cell"`
	Seq     uint64           `cbor:"5,keyasint" json:"seq"`
	Expires int64            `cbor:"6,keyasint" json:"expires_ms"`
}

// Voter is a voter of a cell and where it listens.
type Voter struct {
	Peer  workload.PeerID `cbor:"1,keyasint" json:"peer"`
	Addrs []string        `cbor:"2,keyasint" json:"addrs" max:"16"`
}

// CellRecord is what a cell's leader publishes of its cell. Any voter that the
// record names may have signed it as leader: it says where to ask, not who
// leads. The truth is the cell's.
type CellRecord struct {
	Cell    workload.CellID `cbor:"1,keyasint" json:"cell"`
	Epoch   uint64          `cbor:"2,keyasint" json:"epoch"`
	Term    uint64          `cbor:"3,keyasint" json:"term"`
	Seq     uint64          `cbor:"4,keyasint" json:"seq"`
	Voters  []Voter         `cbor:"5,keyasint" json:"voters" max:"9"`
	Leader  workload.PeerID `cbor:"6,keyasint" json:"leader"` // who signed
	Members uint32          `cbor:"7,keyasint" json:"members"`
	Digest  []byte          `cbor:"8,keyasint,omitempty" json:"-" max:"2048"` // the latest digest that the cell gossiped
	Expires int64           `cbor:"9,keyasint" json:"expires_ms"`
}

// sealed is a record as it is stored: a signed payload with the certificates
// of its author, so that whoever holds it can judge it alone.
type sealed struct {
	Bundle admission.Bundle `cbor:"1,keyasint"`
	Record workload.Signed  `cbor:"2,keyasint"`
}

func seal(v any, key ed25519.PrivateKey, b admission.Bundle) ([]byte, error) {
	raw := wire.MustMarshal(sealed{Bundle: b, Record: workload.Sign(workload.DomainRecord, wire.MustMarshal(v), key)})
	if len(raw) > MaxRecord {
		return nil, fmt.Errorf("record of %d bytes, at most %d: %w", len(raw), MaxRecord, ErrRecord)
	}
	return raw, nil
}

// open checks who signed a record and decodes its payload into v.
func open(raw []byte, mesh workload.MeshID, now time.Time, v any) (workload.PeerID, error) {
	var s sealed
	if len(raw) > MaxRecord {
		return s.Record.By, fmt.Errorf("%d bytes, at most %d: %w", len(raw), MaxRecord, ErrRecord)
	}
	if err := wire.Unmarshal(raw, &s); err != nil {
		return s.Record.By, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	if _, err := s.Bundle.Verify(mesh, s.Record.By, now); err != nil {
		return s.Record.By, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	if err := s.Record.Verify(workload.DomainRecord); err != nil {
		return s.Record.By, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	if err := wire.Unmarshal(s.Record.Payload, v); err != nil {
		return s.Record.By, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	return s.Record.By, nil
}

// OpenNode judges and decodes a node record.
func OpenNode(raw []byte, mesh workload.MeshID, now time.Time) (*NodeRecord, error) {
	var r NodeRecord
	by, err := open(raw, mesh, now, &r)
	if err != nil {
		return nil, fmt.Errorf("node record: %w", err)
	}
	if r.Peer != by {
		return nil, fmt.Errorf("node record of %s signed by %s: %w", r.Peer.Short(), by.Short(), ErrRecord)
	}
	if err := errors.Join(checkTime(r.Expires, now), checkAddrs(r.Addrs), checkLabels(r.Machine.Labels)); err != nil {
		return nil, fmt.Errorf("node record of %s: %w", by.Short(), err)
	}
	return &r, nil
}

// OpenCell judges and decodes a cell record.
func OpenCell(raw []byte, mesh workload.MeshID, now time.Time) (*CellRecord, error) {
	var r CellRecord
	by, err := open(raw, mesh, now, &r)
	if err != nil {
		return nil, fmt.Errorf("cell record: %w", err)
	}
	if err := errors.Join(r.check(by), checkTime(r.Expires, now)); err != nil {
		return nil, fmt.Errorf("cell record of %s: %w", r.Cell, err)
	}
	return &r, nil
}

func (r *CellRecord) check(by workload.PeerID) error {
	voter := false
	for _, v := range r.Voters {
		voter = voter || v.Peer == by
		if err := checkAddrs(v.Addrs); err != nil {
			return err
		}
	}
	if r.Leader != by || !voter {
		return fmt.Errorf("signed by %s, who is not its leader and a voter: %w", by.Short(), ErrRecord)
	}
	return nil
}

func checkTime(expires int64, now time.Time) error {
	left := time.UnixMilli(expires).Sub(now)
	if left < -admission.ClockSkew || left > maxTTL+admission.ClockSkew {
		return fmt.Errorf("holds for %s from now, want 0 to %s: %w", left.Round(time.Second), maxTTL, ErrRecord)
	}
	return nil
}

func checkAddrs(addrs []string) error {
	for _, a := range addrs {
		if len(a) > maxAddrLen {
			return fmt.Errorf("an address of %d bytes, at most %d: %w", len(a), maxAddrLen, ErrRecord)
		}
	}
	return nil
}

func checkLabels(labels map[string]string) error {
	for k, v := range labels {
		if len(k) > maxLabelBytes || len(v) > maxLabelBytes {
			return fmt.Errorf("a label over %d bytes: %w", maxLabelBytes, ErrRecord)
		}
	}
	return nil
}

// newer reports whether a is a later statement about the cell than b.
func (r *CellRecord) newer(b *CellRecord) bool {
	switch {
	case r.Epoch != b.Epoch:
		return r.Epoch > b.Epoch
	case r.Term != b.Term:
		return r.Term > b.Term
	}
	return r.Seq > b.Seq
}
