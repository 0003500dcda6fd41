package gossip

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// Bounds of a digest.
const (
	MaxDigest  = 1024 // bytes of its encoding
	maxTTL     = 10 * time.Minute
	maxAddrLen = 128
	maxLabel   = 128
	maxWord    = 32
)

// CellDigest is what a cell tells its neighbours of itself, so that a lot that
// does not fit at home finds a sibling to ask. It is a hint: asking shows what
// is true.
type CellDigest struct {
	Cell         workload.CellID `cbor:"1,keyasint" json:"cell"`
	Leader       workload.PeerID `cbor:"2,keyasint" json:"leader"`
	LeaderAddrs  []string        `cbor:"3,keyasint" json:"leader_addrs" max:"4"`
	Epoch        uint64          `cbor:"4,keyasint" json:"epoch"`
	Term         uint64          `cbor:"5,keyasint" json:"term"`
	Members      uint32          `cbor:"6,keyasint" json:"members"`
	FreeCores    int32           `cbor:"7,keyasint" json:"free_cores"`      // wholly free ones, of all members
	FreeThreads  int32           `cbor:"8,keyasint" json:"free_threads"`    // of all members
	FreeMemory   int64           `cbor:"9,keyasint" json:"free_memory"`     // bytes, of all members
	MinAskCore   int64           `cbor:"10,keyasint" json:"min_ask_core"`   // micro-credits per second; 0 is none free
	MinAskThread int64           `cbor:"11,keyasint" json:"min_ask_thread"` // likewise
	Kinds        []workload.Kind `cbor:"12,keyasint,omitempty" json:"kinds" max:"8"`
	Arches       []string        `cbor:"13,keyasint,omitempty" json:"arches" max:"8"`
	Labels       []string        `cbor:"14,keyasint,omitempty" json:"labels,omitempty" max:"16"` // name=value, of any member
	Seq          uint64          `cbor:"15,keyasint" json:"seq"`
	ExpiryMs     int64           `cbor:"16,keyasint" json:"expiry_ms"`
	FreeSpare    int32           `cbor:"17,keyasint,omitempty" json:"free_spare,omitempty"`    // threads whose idle time nobody uses
	MinAskSpare  int64           `cbor:"18,keyasint,omitempty" json:"min_ask_spare,omitempty"` // likewise
}

// sealedDigest is a digest as it travels: signed by the leader, with its
// certificates, because it reaches nodes that the leader is not connected to.
type sealedDigest struct {
	Bundle admission.Bundle `cbor:"1,keyasint"`
	Digest workload.Signed  `cbor:"2,keyasint"`
}

// SealDigest signs a digest with its leader's key. Labels that do not fit into
// MaxDigest bytes are left out, the last ones first.
func SealDigest(d CellDigest, key ed25519.PrivateKey, b admission.Bundle) ([]byte, error) {
	raw := wire.MustMarshal(d)
	for len(raw) > MaxDigest && len(d.Labels) > 0 {
		d.Labels = d.Labels[:len(d.Labels)-1]
		raw = wire.MustMarshal(d)
	}
	if err := d.check(len(raw), d.Leader); err != nil {
		return nil, err
	}
	out := wire.MustMarshal(sealedDigest{Bundle: b, Digest: workload.Sign(workload.DomainDigest, raw, key)})
	if len(out) > MaxMessage {
		return nil, fmt.Errorf("gossip: digest of %d bytes with its certificates, at most %d: %w", len(out), MaxMessage, ErrMessage)
	}
	return out, nil
}

// OpenDigest judges a digest at now: its size, its form, its time, its leader's
// signature and the leader's certificates.
func OpenDigest(raw []byte, id workload.MeshID, now time.Time) (*CellDigest, error) {
	if len(raw) > MaxMessage {
		return nil, fmt.Errorf("gossip: digest of %d bytes, at most %d: %w", len(raw), MaxMessage, ErrMessage)
	}
	var s sealedDigest
	if err := wire.Unmarshal(raw, &s); err != nil {
		return nil, fmt.Errorf("gossip: digest: %w: %w", ErrMessage, err)
	}
	var d CellDigest
	if err := wire.Unmarshal(s.Digest.Payload, &d); err != nil {
		return nil, fmt.Errorf("gossip: digest: %w: %w", ErrMessage, err)
	}
	if err := d.check(len(s.Digest.Payload), s.Digest.By); err != nil {
		return nil, err
	}
	left := time.UnixMilli(d.ExpiryMs).Sub(now)
	if left < -admission.ClockSkew || left > maxTTL+admission.ClockSkew {
		return nil, fmt.Errorf("gossip: digest of %s holds for %s from now, want 0 to %s: %w", d.Cell, left.Round(time.Second), maxTTL, ErrMessage)
	}
	if _, err := s.Bundle.Verify(id, s.Digest.By, now); err != nil {
		return nil, fmt.Errorf("gossip: digest of %s: %w: %w", d.Cell, ErrMessage, err)
	}
	if err := s.Digest.Verify(workload.DomainDigest); err != nil {
		return nil, fmt.Errorf("gossip: digest of %s: %w: %w", d.Cell, ErrMessage, err)
	}
	return &d, nil
}

func (d *CellDigest) check(size int, by workload.PeerID) error {
	long := func(list []string, limit int) bool {
		return slices.ContainsFunc(list, func(s string) bool { return len(s) > limit })
	}
	switch {
	case size > MaxDigest:
		return fmt.Errorf("gossip: digest of %d bytes, at most %d: %w", size, MaxDigest, ErrMessage)
	case d.Leader != by:
		return fmt.Errorf("gossip: digest of %s signed by %s, who is not its leader: %w", d.Cell, by.Short(), ErrMessage)
	case d.FreeCores < 0 || d.FreeThreads < 0 || d.FreeMemory < 0 || d.MinAskCore < 0 || d.MinAskThread < 0 ||
		d.FreeSpare < 0 || d.MinAskSpare < 0:
		return fmt.Errorf("gossip: digest of %s has a negative amount: %w", d.Cell, ErrMessage)
	case long(d.LeaderAddrs, maxAddrLen), long(d.Labels, maxLabel), long(d.Arches, maxWord):
		return fmt.Errorf("gossip: digest of %s has an entry that is too long: %w", d.Cell, ErrMessage)
	}
	return wire.CheckBounds(d)
}

// newer reports whether d is a later statement of its cell than old.
func (d *CellDigest) newer(old *CellDigest) bool {
	switch {
	case d.Epoch != old.Epoch:
		return d.Epoch > old.Epoch
	case d.Term != old.Term:
		return d.Term > old.Term
	}
	return d.Seq > old.Seq
}

// maxCells bounds the cells that a Board remembers.
const maxCells = 4096

// Board keeps the newest digest of each cell until it ends. The zero Board is
// ready, and safe for use from any goroutine.
type Board struct {
	mu    sync.Mutex
	cells map[workload.CellID]CellDigest
}

// Add keeps d if it is newer than what is known of its cell, and reports whether it was.
func (b *Board) Add(d *CellDigest, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cells == nil {
		b.cells = map[workload.CellID]CellDigest{}
	}
	old, ok := b.cells[d.Cell]
	if ok && !d.newer(&old) {
		return false
	}
	if !ok && len(b.cells) >= maxCells {
		b.forget(now)
		if len(b.cells) >= maxCells {
			return false
		}
	}
	b.cells[d.Cell] = *d
	return true
}

func (b *Board) forget(now time.Time) {
	for id, d := range b.cells {
		if d.ExpiryMs < now.UnixMilli() {
			delete(b.cells, id)
		}
	}
}

// List returns the digests that hold at now, ordered by cell.
func (b *Board) List(now time.Time) []CellDigest {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forget(now)
	out := make([]CellDigest, 0, len(b.cells))
	for _, d := range b.cells {
		out = append(out, d)
	}
	slices.SortFunc(out, func(x, y CellDigest) int { return bytes.Compare(x.Cell[:], y.Cell[:]) })
	return out
}

// Digests publishes and collects the digests of a region.
type Digests struct {
	g     *Gossip
	topic string
	stop  func()
	Board *Board
}

// JoinDigests subscribes to a region's digests, which land on the Board.
func (g *Gossip) JoinDigests(region string, now func() time.Time) (*Digests, error) {
	name, err := DigestTopic(g.h.Mesh(), region)
	if err != nil {
		return nil, err
	}
	ds := &Digests{g: g, topic: name, Board: &Board{}}
	ds.stop, err = g.Subscribe(name,
		func(author workload.PeerID, data []byte) error {
			d, err := OpenDigest(data, g.h.Mesh(), now())
			if err == nil && d.Leader != author {
				return fmt.Errorf("published by %s: %w", author.Short(), ErrMessage)
			}
			return err
		},
		func(_ workload.PeerID, data []byte) {
			if d, err := OpenDigest(data, g.h.Mesh(), now()); err == nil {
				ds.Board.Add(d, now())
			}
		})
	if err != nil {
		return nil, err
	}
	return ds, nil
}

// Publish signs and sends a digest of the cell that this node leads.
func (ds *Digests) Publish(ctx context.Context, d CellDigest, key ed25519.PrivateKey) error {
	raw, err := SealDigest(d, key, ds.g.h.Bundle())
	if err != nil {
		return err
	}
	return ds.g.Publish(ctx, ds.topic, raw)
}

// Close ends the subscription; the Board stays as it is.
func (ds *Digests) Close() { ds.stop() }
