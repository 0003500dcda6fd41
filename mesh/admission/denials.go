package admission

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/perrin-mesh/perrin/workload"
)

// denials are the deny list: of each peer what each operator said last, in the
// order of the operators' keys.
type denials map[workload.PeerID][]*held

// of returns what an operator said last of a peer, or nil.
func (l denials) of(peer, by workload.PeerID) *held {
	for _, h := range l[peer] {
		if h.by == by {
			return h
		}
	}
	return nil
}

// put takes h in the place of what the same operator said of the peer before.
func (l denials) put(h *held) {
	list := slices.DeleteFunc(slices.Clone(l[h.Peer]), func(old *held) bool { return old.by == h.by })
	list = append(list, h)
	slices.SortFunc(list, func(a, b *held) int { return bytes.Compare(a.by[:], b.by[:]) })
	l[h.Peer] = list
}

// drop forgets those that gone says are.
func (l denials) drop(gone func(*held) bool) {
	for peer, list := range l {
		if !slices.ContainsFunc(list, gone) {
			continue
		}
		if l[peer] = slices.DeleteFunc(slices.Clone(list), gone); len(l[peer]) == 0 {
			delete(l, peer)
		}
	}
}

func (l denials) count() (n int) {
	for _, list := range l {
		n += len(list)
	}
	return n
}

// sorted lists all by peer, and those of a peer by operator.
func (l denials) sorted() (out []*held) {
	for _, p := range slices.SortedFunc(maps.Keys(l), func(a, b workload.PeerID) int { return bytes.Compare(a[:], b[:]) }) {
		out = append(out, l[p]...)
	}
	return out
}

// done reports whether h can be forgotten: it is over, or of no operator any more.
func (t *Trust) done(h *held, now time.Time) bool { return h.over(now) || !t.operates(h.by, now) }

// live reports whether h puts its peer out at now. What an operator said that is
// leaving counts until it is gone, unless one that stays has spoken of the peer
// since it was removed and since it said so: so its denials can be taken over, and
// then lifted, and what others lifted before lifts none of them.
func (t *Trust) live(h *held, now time.Time) bool {
	from, leaving := t.charter.removedFrom(h.by)
	if !h.counts(now) || leaving && !now.Before(from) {
		return false
	}
	return !leaving || !slices.ContainsFunc(t.denials[h.Peer], func(o *held) bool {
		_, also := t.charter.removedFrom(o.by)
		return !also && o.At >= h.answeredFrom(from)
	})
}

// answeredFrom is from when, in ms, what is said of h's peer answers h, whose
// operator counts no more after from.
func (h *held) answeredFrom(from time.Time) int64 {
	return max(from.Add(-RemovalGrace).UnixMilli(), h.At)
}

// speaks is the time, in ms, of what is said of a peer at now. It answers what leaving
// operators said, although their clocks or the root's are up to ClockSkew ahead.
func (t *Trust) speaks(peer workload.PeerID, now time.Time) int64 {
	at, latest := now.UnixMilli(), now.Add(ClockSkew).UnixMilli()
	for _, h := range t.denials[peer] {
		if from, leaving := t.charter.removedFrom(h.by); leaving && h.answeredFrom(from) <= latest {
			at = max(at, h.answeredFrom(from))
		}
	}
	return at
}

// prune forgets what is done.
func (t *Trust) prune(now time.Time) {
	t.denials.drop(func(h *held) bool { return t.done(h, now) })
	t.dropRevocations(func(r *revoked) bool { return r.over(now) })
}

// unknown returns those of docs that are not on the list word for word.
func (t *Trust) unknown(docs []SignedDenial) []SignedDenial {
	t.mu.RLock()
	defer t.mu.RUnlock()
	known := make(map[string]bool, t.denials.count())
	for _, h := range t.denials.sorted() {
		known[h.doc.id()] = true
	}
	return slices.DeleteFunc(slices.Clone(docs), func(d SignedDenial) bool { return known[d.id()] })
}

// id tells statements apart by who says what.
func (d *SignedDenial) id() string { return string(d.Denial.By[:]) + string(d.Denial.Payload) }

// takeDenial reports whether h is new.
func (t *Trust) takeDenial(h *held, now time.Time) (bool, error) {
	if t.done(h, now) {
		return false, nil
	}
	old := t.denials.of(h.Peer, h.by)
	if old != nil && (old.doc.id() == h.doc.id() || !h.beats(old)) {
		return false, nil
	}
	if old == nil && t.denials.count() >= MaxDenied {
		return false, fmt.Errorf("deny list: %d entries: %w", MaxDenied, ErrTooMany)
	}
	t.denials.put(h)
	return true, nil
}

// All returns everything that is known and not done at now.
func (t *Trust) All(now time.Time) Statements {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.all(now)
}

func (t *Trust) all(now time.Time) Statements {
	s := Statements{Charter: t.signed, Revocations: t.revocations(now)}
	for _, h := range t.denials.sorted() {
		if !t.done(h, now) {
			s.Denials = append(s.Denials, h.doc)
		}
	}
	return s
}

// Digest is equal on two nodes that know the same at now.
func (t *Trust) Digest(now time.Time) workload.Digest {
	s := t.All(now)
	h := sha256.New()
	if s.Charter != nil {
		h.Write(s.Charter.Payload)
	}
	for _, d := range s.Denials {
		sum := sha256.Sum256([]byte(d.id()))
		h.Write(sum[:])
	}
	h.Write(digestRevocations(s.Revocations))
	return workload.Digest(h.Sum(nil))
}

// Denied returns an error that wraps ErrDenied while any operator puts peer out.
// The node of an operator cannot be: the root removes the operator first.
func (t *Trust) Denied(peer workload.PeerID, now time.Time) error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	h := t.longest(peer, now)
	if h == nil {
		return t.outrun(peer, now)
	}
	text := "for good"
	if h.Until != 0 {
		text = "until " + time.UnixMilli(h.Until).UTC().Format("2006-01-02 15:04 UTC")
	}
	text += " by operator " + t.operatorName(h.by)
	if h.Reason != "" {
		text += fmt.Sprintf(", %q", h.Reason)
	}
	return fmt.Errorf("peer %s is denied %s: %w", peer.Short(), text, ErrDenied)
}

// operatorName is what the charter calls an operator's key, or its short form.
func (t *Trust) operatorName(key workload.PeerID) string {
	for _, o := range t.charter.Operators {
		if o.Key == key {
			return o.Name
		}
	}
	return key.Short()
}

// longest returns the denial of a peer that lasts longest, or nil when none is live.
func (t *Trust) longest(peer workload.PeerID, now time.Time) (last *held) {
	if len(t.denials[peer]) == 0 || t.isOperatorNode(peer) {
		return nil
	}
	for _, h := range t.denials[peer] {
		if t.live(h, now) && (last == nil || last.Until != 0 && (h.Until == 0 || h.Until > last.Until)) {
			last = h
		}
	}
	return last
}

// longer is the later of two ends in ms, of which 0 is never.
func longer(a, b int64) int64 {
	if a == 0 || b == 0 {
		return 0
	}
	return max(a, b)
}

func (t *Trust) isOperatorNode(peer workload.PeerID) bool {
	return slices.ContainsFunc(t.charter.Operators, func(o Operator) bool { return o.Node == peer })
}

// DeniedPeer is an entry of the deny list that counts.
type DeniedPeer struct {
	Denial
	By workload.PeerID // the operator's key
}

// List returns who is put out at now, and by whom: an entry for each peer and operator.
func (t *Trust) List(now time.Time) (out []DeniedPeer) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, h := range t.denials.sorted() {
		if t.live(h, now) && !t.isOperatorNode(h.Peer) {
			out = append(out, DeniedPeer{h.Denial, h.by})
		}
	}
	return out
}

// Deny makes the statement that puts peer out until a time, or for good when it
// is zero, or that lifts what the same operator said before. Merge makes it count.
// A key that was changed stays out for as long as was said then, and its successor is
// named on: else one node would be two members. The error then wraps ErrReplaced.
func (t *Trust) Deny(operator ed25519.PrivateKey, cert workload.Signed, d Denial, now time.Time) (SignedDenial, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	by := workload.PeerIDOf(operator.Public().(ed25519.PublicKey))
	old := t.denials.of(d.Peer, by)
	switch {
	case d.Lift && old != nil && old.counts(now) && !old.Successor.IsZero():
		return SignedDenial{}, fmt.Errorf("peer %s: the key of its node is %s now: %w", d.Peer.Short(), old.Successor.Short(), ErrReplaced)
	case d.Lift && (old == nil || !old.counts(now)) && t.longest(d.Peer, now) != nil:
		return SignedDenial{}, fmt.Errorf("peer %s is denied by another operator: %w", d.Peer.Short(), ErrOthersDenial)
	case d.Lift && (old == nil || !old.counts(now)):
		return SignedDenial{}, fmt.Errorf("peer %s is not on the deny list", d.Peer.Short())
	case !d.Lift && t.isOperatorNode(d.Peer):
		return SignedDenial{}, fmt.Errorf("peer %s is an operator's node: %w", d.Peer.Short(), ErrOperatorNode)
	}
	switch {
	case d.Lift:
		d.Until = old.Until
	case old != nil && old.counts(now) && !old.Successor.IsZero():
		d = d.naming(old)
		d.Until = longer(d.Until, old.Until)
	}
	return t.sign(operator, cert, d, old, now)
}

// sign signs d with the number after old's.
func (t *Trust) sign(operator ed25519.PrivateKey, cert workload.Signed, d Denial, old *held, now time.Time) (SignedDenial, error) {
	d.Mesh, d.At, d.Seq = MeshOf(t.root), t.speaks(d.Peer, now), 1
	if old != nil {
		d.Seq = old.Seq + 1
	}
	if d.Seq > maxSeq {
		return SignedDenial{}, fmt.Errorf("peer %s: this operator key has no number left for a denial: %w", d.Peer.Short(), ErrNumbers)
	}
	return signDenial(operator, cert, d)
}

// adopt signs again what the operator from denies at now, unless the new operator
// denies it for as long already.
func (t *Trust) adopt(operator ed25519.PrivateKey, cert workload.Signed, from workload.PeerID, now time.Time) (out []SignedDenial, err error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	by := workload.PeerIDOf(operator.Public().(ed25519.PublicKey))
	for _, h := range t.denials.sorted() {
		if h.by != from || !t.live(h, now) || by == from {
			continue
		}
		own, d := t.denials.of(h.Peer, by), Denial{Peer: h.Peer, Until: h.Until, Reason: h.Reason, Name: h.Name}.naming(h)
		if own != nil && own.counts(now) {
			changedBefore := own.Successor.IsZero() && !h.Successor.IsZero() && h.since() < own.At
			if d.Until = longer(own.Until, h.Until); d.Until == own.Until && !changedBefore {
				continue
			}
			if !changedBefore {
				d = d.naming(own)
			}
		}
		doc, err := t.sign(operator, cert, d, own, now)
		if err != nil {
			return out, err
		}
		out = append(out, doc)
	}
	return out, nil
}
