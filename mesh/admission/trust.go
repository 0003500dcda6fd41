package admission

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// While every operator is away nobody can renew. A node certificate then counts
// for OfflineGrace beyond its end. Operators are taken to be away as long as no
// certificate is seen that was made after the one in question ended, and for
// ReturnGrace after that, in which all renew.
const (
	OfflineGrace = 7 * 24 * time.Hour
	ReturnGrace  = time.Hour
	// renewSlack is how late a renewal, which is due after NodeTTL/2, may come.
	renewSlack = 10 * time.Minute
)

// Statements are what the root and its operators have said. They are public,
// prove themselves, and go from node to node.
type Statements struct {
	Charter *workload.Signed `cbor:"1,keyasint,omitempty"`
	Denials []SignedDenial   `cbor:"2,keyasint,omitempty" max:"1024"`
}

// IsZero reports whether nothing is said.
func (s *Statements) IsZero() bool { return s.Charter == nil && len(s.Denials) == 0 }

// Trust is what a node knows of its mesh's operators and of who is put out. Its
// methods may be called from any goroutine; none reads a clock.
type Trust struct {
	root  workload.PeerID
	store Store

	mu      sync.RWMutex // guards the rest, and is held while it is saved
	charter Charter
	signed  *workload.Signed // the charter; nil while none was heard of
	denials map[workload.PeerID]*held
	// issued is when the newest certificate that was seen was made, and back when
	// the first one was after none had been made for longer than renewals take.
	issued, back time.Time
}

// NewTrust opens what was saved in store.
func NewTrust(root workload.PeerID, store Store, now time.Time) (*Trust, error) {
	t := &Trust{root: root, store: store, denials: map[workload.PeerID]*held{}}
	raw, err := store.Load()
	if err != nil {
		return nil, fmt.Errorf("trust: load: %w", err)
	}
	if len(raw) == 0 {
		return t, nil
	}
	var s Statements
	if err := wire.Unmarshal(raw, &s); err != nil {
		return nil, fmt.Errorf("trust: %w", err)
	}
	if _, err := t.take(&s, now); err != nil && t.signed == nil && len(t.denials) == 0 {
		return nil, fmt.Errorf("trust: %w", err)
	}
	return t, nil
}

// Memory is a Store that lasts as long as the process. It is not safe for
// concurrent use; Trust and Issuer call a store one call at a time.
type Memory struct{ raw []byte }

// Load implements Store.
func (m *Memory) Load() ([]byte, error) { return m.raw, nil }

// Save implements Store.
func (m *Memory) Save(raw []byte) error { m.raw = bytes.Clone(raw); return nil }

// Merge takes what is new and true of s, saves it and returns it. The error
// names the first statement that is not to be believed; the others count.
func (t *Trust) Merge(s Statements, now time.Time) (fresh Statements, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fresh, err = t.take(&s, now)
	if !fresh.IsZero() {
		if saveErr := t.store.Save(wire.MustMarshal(t.all())); saveErr != nil {
			return fresh, fmt.Errorf("trust: save: %w", saveErr)
		}
	}
	return fresh, err
}

// take is Merge without saving.
func (t *Trust) take(s *Statements, now time.Time) (fresh Statements, err error) {
	if s.Charter != nil && !t.hasCharter(*s.Charter) {
		c, wrong := openCharter(*s.Charter, t.root)
		if wrong != nil {
			err = wrong
		} else if t.signed == nil || c.Seq > t.charter.Seq {
			t.charter, t.signed = c, s.Charter
			fresh.Charter = s.Charter
		}
	}
	for _, doc := range s.Denials {
		is, wrong := t.takeDenial(doc, now)
		if wrong != nil {
			err = errors.Join(err, wrong)
		}
		if is {
			fresh.Denials = append(fresh.Denials, doc)
		}
	}
	return fresh, err
}

func (t *Trust) hasCharter(s workload.Signed) bool {
	return t.signed != nil && bytes.Equal(t.signed.Payload, s.Payload)
}

// takeDenial reports whether doc is new.
func (t *Trust) takeDenial(doc SignedDenial, now time.Time) (bool, error) {
	for _, h := range t.denials { // the same again costs no signature
		if bytes.Equal(h.doc.Denial.Payload, doc.Denial.Payload) {
			return false, nil
		}
	}
	h, err := openDenial(doc, t.root, now)
	if err != nil {
		return false, err
	}
	if h.over(now) || !t.operates(h.by, now) {
		return false, nil
	}
	old := t.denials[h.Peer]
	if old != nil && t.operates(old.by, now) && !h.beats(old) {
		return false, nil
	}
	if old == nil && len(t.denials) >= MaxDenied {
		maps.DeleteFunc(t.denials, func(_ workload.PeerID, h *held) bool { return h.over(now) || !t.operates(h.by, now) })
		if len(t.denials) >= MaxDenied {
			return false, fmt.Errorf("deny list: %d entries: %w", len(t.denials), ErrTooMany)
		}
	}
	t.denials[h.Peer] = h
	return true, nil
}

// All returns everything that is known.
func (t *Trust) All() Statements {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.all()
}

func (t *Trust) all() Statements {
	s := Statements{Charter: t.signed}
	for _, p := range t.sorted() {
		s.Denials = append(s.Denials, t.denials[p].doc)
	}
	return s
}

func (t *Trust) sorted() []workload.PeerID {
	return slices.SortedFunc(maps.Keys(t.denials), func(a, b workload.PeerID) int { return bytes.Compare(a[:], b[:]) })
}

// Digest is equal on two nodes that know the same.
func (t *Trust) Digest() workload.Digest {
	s := t.All()
	h := sha256.New()
	if s.Charter != nil {
		h.Write(s.Charter.Payload)
	}
	for _, d := range s.Denials {
		sum := sha256.Sum256(d.Denial.Payload)
		h.Write(sum[:])
	}
	return workload.Digest(h.Sum(nil))
}

// operates reports whether an operator's key counts at now, as far as the charter goes.
func (t *Trust) operates(key workload.PeerID, now time.Time) bool {
	from, removed := t.charter.removedFrom(key)
	return !removed || now.Before(from)
}

// Operates is false for an operator's key that the root has removed. One that
// the charter removes later counts until then.
func (t *Trust) Operates(key workload.PeerID, now time.Time) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.operates(key, now)
}

// Leaving reports whether the charter removes the key, now or later.
func (t *Trust) Leaving(key workload.PeerID) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	_, removed := t.charter.removedFrom(key)
	return removed
}

// Charter returns the charter; its Seq is 0 while none was heard of.
func (t *Trust) Charter() Charter {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.charter.clone()
}

// Denied returns an error that wraps ErrDenied while peer is put out. The node
// of an operator cannot be: the root removes the operator first.
func (t *Trust) Denied(peer workload.PeerID, now time.Time) error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	h := t.denials[peer]
	if h == nil || !h.counts(now) || !t.operates(h.by, now) || t.isOperatorNode(peer) {
		return nil
	}
	text := "for good"
	if h.Until != 0 {
		text = "until " + time.UnixMilli(h.Until).UTC().Format("2006-01-02 15:04 UTC")
	}
	if h.Reason != "" {
		text += fmt.Sprintf(", %q", h.Reason)
	}
	return fmt.Errorf("peer %s is denied %s: %w", peer.Short(), text, ErrDenied)
}

func (t *Trust) isOperatorNode(peer workload.PeerID) bool {
	return slices.ContainsFunc(t.charter.Operators, func(o Operator) bool { return o.Node == peer })
}

// DeniedPeer is an entry of the deny list that counts.
type DeniedPeer struct {
	Denial
	By workload.PeerID // the operator's key
}

// List returns who is put out at now.
func (t *Trust) List(now time.Time) []DeniedPeer {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var out []DeniedPeer
	for _, p := range t.sorted() {
		if h := t.denials[p]; h.counts(now) && t.operates(h.by, now) && !t.isOperatorNode(p) {
			out = append(out, DeniedPeer{h.Denial, h.by})
		}
	}
	return out
}

// Deny makes the statement that puts peer out until a time, or for good when it
// is zero, or that lifts what was said before. Merge makes it count.
func (t *Trust) Deny(operator ed25519.PrivateKey, cert workload.Signed, d Denial, now time.Time) (SignedDenial, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	d.Mesh, d.At, d.Seq = MeshOf(t.root), now.UnixMilli(), 1
	old := t.denials[d.Peer]
	switch {
	case d.Lift && (old == nil || !old.counts(now)):
		return SignedDenial{}, fmt.Errorf("peer %s is not on the deny list", d.Peer.Short())
	case !d.Lift && t.isOperatorNode(d.Peer):
		return SignedDenial{}, fmt.Errorf("peer %s is an operator's node: %w", d.Peer.Short(), ErrOperatorNode)
	case old != nil:
		d.Seq = old.Seq + 1
	}
	if d.Lift {
		d.Until = old.Until
	}
	return signDenial(operator, cert, d)
}

// Verify is Bundle.Verify by what the mesh's operators have said since: it
// refuses peers that are put out and certificates of operators that were
// removed, and lets certificates that have ended count while no operator is
// there to renew them.
func (t *Trust) Verify(b Bundle, peer workload.PeerID, now time.Time) (Identity, error) {
	if err := t.Denied(peer, now); err != nil {
		return Identity{}, err
	}
	id, err := b.verify(MeshOf(t.root), peer, now, OfflineGrace)
	if err != nil {
		return id, err
	}
	t.note(id.Issued, now)
	return id, t.Stands(id, now)
}

// Stands judges an identity that was verified before: it may have ended, or been
// put out, since.
func (t *Trust) Stands(id Identity, now time.Time) error {
	if err := t.Denied(id.Peer, now); err != nil {
		return err
	}
	if !t.Operates(id.Operator, now) {
		return fmt.Errorf("node %q (%s): operator %q was removed: %w", id.Name, id.Peer.Short(), id.OperatorName, ErrNotAdmitted)
	}
	if now.After(t.Until(id).Add(ClockSkew)) {
		return fmt.Errorf("node %q (%s): certificate ended %s ago: %w", id.Name, id.Peer.Short(), now.Sub(id.NotAfter).Round(time.Second), ErrExpired)
	}
	return nil
}

// Until is when a node's certificate counts no more, by what is known now of
// whether an operator could have renewed it.
func (t *Trust) Until(id Identity) time.Time {
	t.mu.RLock()
	defer t.mu.RUnlock()
	grace := id.NotAfter.Add(OfflineGrace)
	if !t.issued.After(id.NotAfter) {
		return grace
	}
	late := t.back.Add(ReturnGrace)
	if late.After(grace) {
		late = grace
	}
	if late.After(id.NotAfter) && t.back.After(id.NotAfter) {
		return late
	}
	return id.NotAfter
}

// note remembers that a certificate was made at a time.
func (t *Trust) note(issued, now time.Time) {
	if issued.After(now.Add(ClockSkew)) {
		return // a clock is ahead: what it says of the time does not count
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !issued.After(t.issued) {
		return
	}
	if !t.issued.IsZero() && issued.Sub(t.issued) > NodeTTL/2+renewSlack {
		t.back = issued
	}
	t.issued = issued
}
