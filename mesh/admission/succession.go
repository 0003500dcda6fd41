package admission

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"fmt"
	"slices"
	"time"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// A node changes its key by a succession: the old key signs which one takes its
// place, and an operator certifies the new key and denies the old one in one step.
// So one key never becomes two members, and who steals the old key later has
// nothing that an operator takes.
const (
	// SuccessionKeep is how long the denial of the old key lasts. A certificate made
	// for it just before ends after NodeTTL and buys no other RenewGrace later.
	SuccessionKeep = 60 * 24 * time.Hour
	// RotateEvery is how often a node may change its key, and MaxSuccessions how many
	// old keys the deny list holds: the other half of it is for denials.
	RotateEvery    = 24 * time.Hour
	MaxSuccessions = MaxDenied / 2
)

// successionReason is what the deny list says of an old key.
const successionReason = "its node has a new key"

// Succession is what a node's old key signs.
type Succession struct {
	Version uint16          `cbor:"1,keyasint"`
	Mesh    workload.MeshID `cbor:"2,keyasint"`
	Old     workload.PeerID `cbor:"3,keyasint"`
	New     workload.PeerID `cbor:"4,keyasint"`
}

// Successor asks, as the new key of a node, for certificates in the old one's place.
func Successor(old ed25519.PrivateKey, bundle Bundle, successor workload.PeerID) JoinRequest {
	s := Succession{Version: certVersion, Mesh: bundle.Mesh(), Old: workload.PeerIDOf(old.Public().(ed25519.PublicKey)), New: successor}
	doc := workload.Sign(workload.DomainSuccession, wire.MustMarshal(s), old)
	return JoinRequest{Mesh: bundle.Mesh(), Bundle: &bundle, Succession: &doc}
}

// openSuccession verifies a succession to the peer that asks.
func openSuccession(doc workload.Signed, mesh workload.MeshID, from workload.PeerID) (Succession, error) {
	s, err := readSuccession(doc, mesh)
	if err == nil && s.New != from {
		err = fmt.Errorf("succession to %s is shown by %s: %w", s.New.Short(), from.Short(), ErrNotAdmitted)
	}
	return s, err
}

// readSuccession verifies a succession to anybody.
func readSuccession(doc workload.Signed, mesh workload.MeshID) (Succession, error) {
	var s Succession
	if len(doc.Payload) > MaxBundle {
		return s, fmt.Errorf("succession of %d bytes: %w", len(doc.Payload), ErrForged)
	}
	if err := doc.Verify(workload.DomainSuccession); err != nil {
		return s, fmt.Errorf("succession: %w: %w", ErrForged, err)
	}
	if err := wire.Unmarshal(doc.Payload, &s); err != nil {
		return s, fmt.Errorf("succession: %w: %w", ErrForged, err)
	}
	switch {
	case s.Version != certVersion || s.Old != doc.By || s.New == s.Old:
		return s, fmt.Errorf("succession of %s: %w", doc.By.Short(), ErrForged)
	case s.Mesh != mesh:
		return s, fmt.Errorf("succession: %w", ErrOtherMesh)
	}
	return s, nil
}

// Succeed answers a peer, whose key the connection has proved, that takes the place of
// the key that signed the request's succession. The old key must be admitted, also when
// its certificate ended less than RenewGrace ago. The caller makes the denial count
// before it hands out the certificates. The same two keys may ask again, in case the
// answer was lost; then there is no new denial.
func (i *Issuer) Succeed(from workload.PeerID, req JoinRequest, now time.Time) (Bundle, *SignedDenial, error) {
	if req.Succession == nil || req.Bundle == nil || i.trust == nil || req.Mesh != i.Mesh() {
		return Bundle{}, nil, fmt.Errorf("succession lacks a field: %w", ErrForged)
	}
	s, err := openSuccession(*req.Succession, i.Mesh(), from)
	if err != nil {
		return Bundle{}, nil, err
	}
	if err := i.heed(from, now); err != nil {
		return Bundle{}, nil, err
	}
	id, err := req.Bundle.verify(i.Mesh(), s.Old, now, RenewGrace)
	if err != nil {
		return Bundle{}, nil, fmt.Errorf("succession: %w", err)
	}
	if !i.trust.Operates(id.Operator, now) {
		return Bundle{}, nil, fmt.Errorf("succession: operator %q was removed: %w", id.OperatorName, ErrNotAdmitted)
	}
	again, err := i.trust.maySucceed(s, now)
	if err != nil {
		return Bundle{}, nil, err
	}
	bundle, err := i.recertify(id, from, req.Succession, now)
	if err != nil || again {
		return bundle, nil, err
	}
	doc, err := i.Deny(Denial{Peer: s.Old, Name: id.Name, Reason: successionReason, Successor: s.New, Succession: req.Succession, Until: now.Add(SuccessionKeep).UnixMilli()}, now)
	if err != nil {
		return Bundle{}, nil, err
	}
	return bundle, &doc, nil
}

// maySucceed judges a succession by who is out. again is true when it was made before.
func (t *Trust) maySucceed(s Succession, now time.Time) (again bool, err error) {
	if h := t.succeeded(s.Old, now); h != nil && h.Successor == s.New {
		return true, nil
	}
	if err := t.Denied(s.Old, now); err != nil {
		return false, err
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.isOperatorNode(s.Old) {
		return false, fmt.Errorf("node %s: an operator's node keeps its key: %w", s.Old.Short(), ErrOperatorNode)
	}
	kept, before := 0, false // before: this node changed its key, and leaves half of the room to those that did not
	for _, list := range t.denials {
		for _, h := range list {
			if h.Successor.IsZero() || h.Lift {
				continue
			}
			kept++
			before = before || h.Successor == s.Old
			switch {
			case h.Successor == s.Old && now.UnixMilli() < h.since()+RotateEvery.Milliseconds():
				return false, fmt.Errorf("node %s has its key since %s: %w", s.Old.Short(), time.UnixMilli(h.since()).UTC().Format("2006-01-02 15:04 UTC"), ErrRotated)
			case h.Successor == s.New:
				return false, fmt.Errorf("key %s took the place of %s: %w", s.New.Short(), h.Peer.Short(), ErrReplaced)
			}
		}
	}
	if kept >= MaxSuccessions || before && kept >= MaxSuccessions/2 {
		return false, fmt.Errorf("deny list: %d keys that were changed: %w", kept, ErrTooMany)
	}
	return false, nil
}

// succeeded returns the live denial by which another key took a peer's place first,
// or nil. Operators that are cut off from each other may each have let in one: the
// earliest counts, and of two at the same time that of the lesser operator's key.
func (t *Trust) succeeded(peer workload.PeerID, now time.Time) (first *held) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.firstSuccession(peer, now)
}

func (t *Trust) firstSuccession(peer workload.PeerID, now time.Time) (first *held) {
	for _, h := range t.denials[peer] { // in the order of the operators' keys
		if !h.Successor.IsZero() && t.live(h, now) && (first == nil || h.since() < first.since()) {
			first = h
		}
	}
	return first
}

// maxLinks bounds how many keys back a node is looked up: one a day while the deny
// list knows of them.
const maxLinks = int(SuccessionKeep/RotateEvery) + 1

// outrun is why a key that took another's place does not count: a third was there first,
// or the other one was denied by then, where the operator that let it in had not heard
// of it; or one of the two holds for a key before it.
func (t *Trust) outrun(peer workload.PeerID, now time.Time) error {
	if t.isOperatorNode(peer) {
		return nil
	}
	line := []workload.PeerID{peer}
	for n := 0; n < len(line) && n < maxLinks; n++ {
		for old, list := range t.denials {
			for _, h := range list {
				if h.Successor != line[n] || !t.live(h, now) {
					continue
				}
				if first := t.firstSuccession(old, now); first.Successor != line[n] {
					return fmt.Errorf("peer %s: %s took the place of %s before it did: %w", peer.Short(), first.Successor.Short(), old.Short(), ErrDenied)
				}
				if t.deniedBefore(old, h.since(), now) {
					return fmt.Errorf("peer %s took the place of %s, which was denied then: %w", peer.Short(), old.Short(), ErrDenied)
				}
				if !slices.Contains(line, old) {
					line = append(line, old)
				}
			}
		}
	}
	return nil
}

// deniedBefore reports whether a peer is out at now by what an operator said, not of
// its key, at a time in ms or earlier.
func (t *Trust) deniedBefore(peer workload.PeerID, at int64, now time.Time) bool {
	return !t.isOperatorNode(peer) && slices.ContainsFunc(t.denials[peer], func(h *held) bool {
		return h.Successor.IsZero() && h.At <= at && t.live(h, now)
	})
}

// Successor returns the key that a peer's node has now, or the zero value when it did
// not change it as far as is known at now.
func (t *Trust) Successor(peer workload.PeerID, now time.Time) (last workload.PeerID) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for range maxLinks {
		first := t.firstSuccession(peer, now)
		if first == nil {
			break
		}
		peer, last = first.Successor, first.Successor
	}
	return last
}

// naming gives d what h says of the peer's successor, if anything.
func (d Denial) naming(h *held) Denial {
	d.Successor, d.Succession, d.Since = h.Successor, h.Succession, 0
	if !h.Successor.IsZero() {
		d.Since = h.since()
	}
	return d
}

// openSuccessor verifies that the peer's own key says who takes its place: an operator's
// word alone would move any node's reputation to a key of the operator's choice.
func (h *held) openSuccessor() error {
	if h.Successor.IsZero() {
		if h.Succession != nil || h.Since != 0 {
			return fmt.Errorf("a succession without a successor: %w", ErrForged)
		}
		return nil
	}
	if h.Lift || h.Succession == nil || h.Since < 0 || h.Since > h.At {
		return fmt.Errorf("a successor of %s without a succession: %w", h.Peer.Short(), ErrForged)
	}
	s, err := readSuccession(*h.Succession, h.Mesh)
	if err == nil && (s.Old != h.Peer || s.New != h.Successor) {
		err = fmt.Errorf("a succession of %s to %s: %w", s.Old.Short(), s.New.Short(), ErrForged)
	}
	return err
}

// Predecessors maps each key that took another's place to that one, as far as it counts
// at now. Of several keys that one took the place of it is the one that it took first.
func (t *Trust) Predecessors(now time.Time) map[workload.PeerID]SignedDenial {
	t.mu.RLock()
	defer t.mu.RUnlock()
	out, firsts := map[workload.PeerID]SignedDenial{}, map[workload.PeerID]*held{}
	for old := range t.denials {
		first := t.firstSuccession(old, now)
		if first == nil {
			continue
		}
		if h := firsts[first.Successor]; h == nil || cmp.Or(cmp.Compare(first.since(), h.since()), bytes.Compare(old[:], h.Peer[:])) < 0 {
			firsts[first.Successor], out[first.Successor] = first, first.doc
		}
	}
	return out
}

// OpenSuccessor verifies an encoded SignedDenial of a mesh by which one key took the
// place of another.
func OpenSuccessor(mesh workload.MeshID, raw []byte) (old, successor workload.PeerID, err error) {
	var doc SignedDenial
	if err := wire.Unmarshal(raw, &doc); err != nil {
		return old, successor, fmt.Errorf("%w: %w", ErrForged, err)
	}
	if MeshOf(doc.Operator.By) != mesh {
		return old, successor, fmt.Errorf("by root %s: %w", doc.Operator.By.Short(), ErrOtherMesh)
	}
	h, err := openDenial(doc, doc.Operator.By)
	if err != nil {
		return old, successor, err
	}
	if h.Successor.IsZero() || h.Lift {
		return old, successor, fmt.Errorf("a denial without a successor: %w", ErrForged)
	}
	return h.Peer, h.Successor, nil
}
