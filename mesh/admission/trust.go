package admission

import (
	"bytes"
	"fmt"
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
	// Revocations are what members have said of tokens that they gave.
	Revocations []SignedRevocation `cbor:"3,keyasint,omitempty" max:"256"`
}

// IsZero reports whether nothing is said.
func (s *Statements) IsZero() bool { return s.Charter == nil && len(s.Denials)+len(s.Revocations) == 0 }

// Trust is what a node knows of its mesh's operators and of who is put out. Its
// methods may be called from any goroutine; none reads a clock.
type Trust struct {
	root  workload.PeerID
	store Store

	mu      sync.RWMutex // guards the rest, and is held while it is saved
	charter Charter
	signed  *workload.Signed // the charter; nil while none was heard of
	denials denials
	revoked map[revokedLink][]*revoked // each list by who revokes
	// issued is when the newest certificate that was seen was made, and back when
	// the first one was after none had been made for longer than renewals take.
	issued, back time.Time
}

// NewTrust opens what was saved in store.
func NewTrust(root workload.PeerID, store Store) (*Trust, error) {
	t := &Trust{root: root, store: store, denials: denials{}, revoked: map[revokedLink][]*revoked{}}
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
	said, err := t.believe(&s, time.Time{}) // nothing is known yet that a time could judge
	if err != nil && said.charter == nil && len(said.denials)+len(said.revoked) == 0 {
		return nil, fmt.Errorf("trust: %w", err)
	}
	if said.charter != nil {
		t.takeCharter(said)
	}
	for _, h := range said.denials { // also what seems over: the clock may be wrong
		t.denials.put(h)
	}
	for _, r := range said.revoked {
		t.revoked[r.link()] = append(t.revoked[r.link()], r)
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
	said, err := t.believe(&s, now)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.prune(now)
	if said.charter != nil && t.takeCharter(said) {
		fresh.Charter = said.signed
	}
	for _, h := range said.denials {
		is, wrong := t.takeDenial(h, now)
		if err == nil {
			err = wrong
		}
		if is {
			fresh.Denials = append(fresh.Denials, h.doc)
		}
	}
	for _, r := range said.revoked {
		is, wrong := t.takeRevocation(r, now)
		if err == nil {
			err = wrong
		}
		if is {
			fresh.Revocations = append(fresh.Revocations, r.doc)
		}
	}
	if fresh.IsZero() {
		return fresh, err
	}
	if saveErr := t.store.Save(wire.MustMarshal(t.all(now))); saveErr != nil {
		return fresh, fmt.Errorf("trust: save: %w", saveErr)
	}
	return fresh, err
}

// believed is what verified of some statements, and was not known before.
type believed struct {
	charter *Charter
	signed  *workload.Signed
	denials []*held
	revoked []*revoked
}

// believe verifies what is not known yet of s, without the lock: a list of forged
// signatures holds up nobody else. The error names the first that is wrong.
func (t *Trust) believe(s *Statements, now time.Time) (said believed, err error) {
	if s.Charter != nil && !t.hasCharter(s.Charter) {
		c, wrong := openCharter(*s.Charter, t.root)
		if wrong == nil {
			said.charter, said.signed = &c, s.Charter
		}
		err = wrong
	}
	for _, doc := range t.unknown(s.Denials) {
		h, wrong := openDenial(doc, t.root)
		if wrong == nil {
			said.denials = append(said.denials, h)
		} else if err == nil {
			err = wrong
		}
	}
	for _, doc := range t.unknownRevocations(s.Revocations, now) {
		r, wrong := openRevocation(doc, t.root)
		if wrong == nil {
			said.revoked = append(said.revoked, r)
		} else if err == nil {
			err = wrong
		}
	}
	return said, err
}

func (t *Trust) hasCharter(s *workload.Signed) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.signed != nil && t.signed.By == s.By && bytes.Equal(t.signed.Payload, s.Payload)
}

// takeCharter reports whether a charter took the place of the one before.
func (t *Trust) takeCharter(said believed) bool {
	old := &t.charter
	if t.signed != nil && (said.charter.Seq < old.Seq || said.charter.Seq == old.Seq && string(said.signed.Payload) <= string(t.signed.Payload)) {
		return false
	}
	t.charter, t.signed = *said.charter, said.signed
	return true
}

// Holds reports whether a charter is the one that counts here.
func (t *Trust) Holds(charter workload.Signed) bool { return t.hasCharter(&charter) }

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

// Verify is Bundle.Verify by what the mesh's operators have said since: it
// refuses peers that are put out and certificates of operators that were
// removed, and lets certificates that have ended count while no operator is
// there to renew them.
func (t *Trust) Verify(b Bundle, peer workload.PeerID, now time.Time) (Identity, error) {
	if err := t.Denied(peer, now); err != nil { // before its signatures cost anything
		return Identity{}, err
	}
	id, err := b.verify(MeshOf(t.root), peer, now, OfflineGrace)
	if err != nil {
		return id, err
	}
	if err := t.Stands(id, now); err != nil {
		return id, err
	}
	t.note(id.Issued, now)
	return id, nil
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
	if err := t.keysStand(id, now); err != nil {
		return err
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
