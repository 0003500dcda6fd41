package admission

import (
	"crypto/ed25519"
	"crypto/hmac"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// Store keeps an issuer's books. Save is durable when it returns, and replaces
// what was there whole or not at all. Load returns nothing when nothing was saved.
type Store interface {
	Load() ([]byte, error)
	Save([]byte) error
}

// Bounds of an issuer's books and of an invitation.
const (
	MaxInvitations = 256
	MaxUses        = 1000
	MaxInviteTTL   = 30 * 24 * time.Hour
	// keepEnded is how long an invitation that has ended is remembered, so
	// that whoever comes late with it hears why.
	keepEnded = 7 * 24 * time.Hour
)

// Issuer admits nodes: it holds an operator's key, makes invitations and signs
// node certificates. Its methods may be called from any goroutine.
type Issuer struct {
	node  workload.PeerID // the node it runs on, which its invitations name
	root  workload.PeerID
	key   ed25519.PrivateKey
	cert  workload.Signed
	store Store
	trust *Trust // nil knows of no denial

	mu    sync.Mutex // guards books, and is held while they are saved
	books books
}

// books is what an issuer must not forget.
type books struct {
	Version     uint16            `cbor:"1,keyasint"`
	Invitations []invitationEntry `cbor:"2,keyasint,omitempty" max:"512"`
}

// invitationEntry is an invitation as the issuer knows it: the hash, not the secret.
type invitationEntry struct {
	Hash    [32]byte          `cbor:"1,keyasint"`
	Uses    int32             `cbor:"2,keyasint"` // that are left
	Expires int64             `cbor:"3,keyasint"` // seconds
	UsedBy  []workload.PeerID `cbor:"4,keyasint,omitempty" max:"1000"`
}

// NewIssuer opens the books of an operator whose certificate root has signed.
func NewIssuer(node, root workload.PeerID, cert workload.Signed, key ed25519.PrivateKey, store Store) (*Issuer, error) {
	op, err := open(cert, kindOperator, root, MeshOf(root))
	if err != nil {
		return nil, fmt.Errorf("issuer: operator certificate: %w", err)
	}
	if op.Subject != workload.PeerIDOf(key.Public().(ed25519.PublicKey)) {
		return nil, fmt.Errorf("issuer: the operator certificate names another key: %w", ErrNotAdmitted)
	}
	i := &Issuer{node: node, root: root, key: key, cert: cert, store: store}
	raw, err := store.Load()
	if err != nil {
		return nil, fmt.Errorf("issuer: load invitations: %w", err)
	}
	if len(raw) > 0 {
		if err := wire.Unmarshal(raw, &i.books); err != nil {
			return nil, fmt.Errorf("issuer: invitations: %w", err)
		}
	}
	return i, nil
}

// Heed has the issuer refuse whom t puts out, and sign nothing once its own key
// is removed. It is called before the issuer serves.
func (i *Issuer) Heed(t *Trust) { i.trust = t }

// heed says why the issuer does not sign for node at now.
func (i *Issuer) heed(node workload.PeerID, now time.Time) error {
	switch {
	case i.trust == nil:
		return nil
	case i.trust.Leaving(i.ID()):
		return fmt.Errorf("the node that was asked is no operator's any more: %w", ErrTokenUnknown)
	}
	return i.trust.Denied(node, now)
}

// ID is the operator's key.
func (i *Issuer) ID() workload.PeerID { return workload.PeerIDOf(i.key.Public().(ed25519.PublicKey)) }

// Deny makes the operator's statement about a peer, by what the trust that it
// heeds knows; Trust.Merge makes it count.
func (i *Issuer) Deny(d Denial, now time.Time) (SignedDenial, error) {
	return i.trust.Deny(i.key, i.cert, d, now)
}

// Adopt says again, as this operator, what another said of peers that it denies
// now. Trust.Merge makes it count.
func (i *Issuer) Adopt(from workload.PeerID, now time.Time) ([]SignedDenial, error) {
	return i.trust.adopt(i.key, i.cert, from, now)
}

// Mesh is the mesh that the issuer admits to.
func (i *Issuer) Mesh() workload.MeshID { return MeshOf(i.root) }

// Certify signs a certificate for a node that the caller vouches for.
func (i *Issuer) Certify(node workload.PeerID, name string, now time.Time) (Bundle, error) {
	cert, err := IssueNode(i.key, i.Mesh(), node, name, now)
	if err != nil {
		return Bundle{}, err
	}
	return Bundle{Root: i.root, Operator: i.cert, Node: cert}, nil
}

// Invite makes an invitation that is good for so many uses until now plus ttl,
// at the addresses of this node. It is on disk when Invite returns.
func (i *Issuer) Invite(uses int, ttl time.Duration, addrs []string, now time.Time) (Invitation, error) {
	if uses < 1 || uses > MaxUses || ttl < time.Second || ttl > MaxInviteTTL {
		return Invitation{}, fmt.Errorf("invite: want 1 to %d uses within 1s to %s, got %d within %s", MaxUses, MaxInviteTTL, uses, ttl)
	}
	secret, err := newSecret()
	if err != nil {
		return Invitation{}, fmt.Errorf("invite: %w", err)
	}
	v := Invitation{Root: i.root, Issuer: i.node, Addrs: addrs, Secret: secret, Expires: now.Add(ttl).Truncate(time.Second)}
	if _, err := v.Token(); err != nil {
		return Invitation{}, err
	}
	err = i.commit(func(b *books) error {
		b.forget(now)
		if len(b.Invitations) >= MaxInvitations {
			return fmt.Errorf("invite: %d are open: %w", len(b.Invitations), ErrTooMany)
		}
		b.Invitations = append(b.Invitations, invitationEntry{Hash: secretHash(secret), Uses: int32(uses), Expires: v.Expires.Unix()})
		return nil
	})
	if err != nil {
		return Invitation{}, err
	}
	return v, nil
}

// Admit answers a join request of a peer whose key the connection has proved.
// The use of an invitation is on disk before Admit returns; the same peer may
// ask again with it, in case the answer was lost.
func (i *Issuer) Admit(from workload.PeerID, req JoinRequest, now time.Time) (Bundle, error) {
	if req.Mesh != i.Mesh() {
		return Bundle{}, fmt.Errorf("join of mesh %.12s, this is %.12s: %w", req.Mesh, i.Mesh(), ErrOtherMesh)
	}
	if err := i.heed(from, now); err != nil {
		return Bundle{}, err
	}
	if req.Succession != nil {
		return Bundle{}, fmt.Errorf("a succession is not admitted by itself: %w", ErrNotAdmitted)
	}
	if req.Bundle != nil {
		return i.renew(from, *req.Bundle, now)
	}
	if !ValidName(req.Name) {
		return Bundle{}, fmt.Errorf("join as %.80q: %w", req.Name, ErrName)
	}
	if err := i.commit(func(b *books) error { return i.take(b, from, req, now) }); err != nil {
		return Bundle{}, err
	}
	return i.Certify(from, req.Name, now)
}

// Renew signs a new certificate for a node whose present one the mesh has verified.
func (i *Issuer) Renew(of Identity, now time.Time) (Bundle, error) {
	if of.Mesh != i.Mesh() {
		return Bundle{}, fmt.Errorf("renew %s: %w", of.Peer.Short(), ErrNotAdmitted)
	}
	if err := i.heed(of.Peer, now); err != nil {
		return Bundle{}, fmt.Errorf("renew %s: %w", of.Peer.Short(), err)
	}
	if i.trust != nil && !i.trust.Operates(of.Operator, now) {
		return Bundle{}, fmt.Errorf("renew %s: operator %q was removed: %w", of.Peer.Short(), of.OperatorName, ErrNotAdmitted)
	}
	return i.recertify(of, of.Peer, nil, now)
}

func (i *Issuer) renew(from workload.PeerID, old Bundle, now time.Time) (Bundle, error) {
	id, err := old.verify(i.Mesh(), from, now, RenewGrace)
	if err != nil {
		return Bundle{}, fmt.Errorf("renew: %w", err)
	}
	return i.Renew(id, now)
}

// take counts one use of the invitation that the request proves.
func (i *Issuer) take(b *books, from workload.PeerID, req JoinRequest, now time.Time) error {
	at := slices.IndexFunc(b.Invitations, func(e invitationEntry) bool { return inviteID(e.Hash) == req.Invite })
	if at < 0 {
		return ErrTokenUnknown
	}
	e := &b.Invitations[at]
	switch {
	case !hmac.Equal(req.Proof, proof(e.Hash, i.Mesh(), i.node, from, req.Name)):
		return fmt.Errorf("the proof of the secret is wrong: %w", ErrTokenUnknown)
	case now.After(time.Unix(e.Expires, 0)): // by the clock that it was made by
		return fmt.Errorf("invitation ended %s ago: %w", now.Sub(time.Unix(e.Expires, 0)).Round(time.Second), ErrTokenExpired)
	case slices.Contains(e.UsedBy, from):
		return errUnchanged
	case e.Uses < 1:
		return ErrTokenUsed
	}
	e.Uses--
	e.UsedBy = append(e.UsedBy, from)
	return nil
}

// OpenInvitations returns how many invitations can still be used at now.
func (i *Issuer) OpenInvitations(now time.Time) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	n := 0
	for _, e := range i.books.Invitations {
		if e.Uses > 0 && now.Before(time.Unix(e.Expires, 0)) {
			n++
		}
	}
	return n
}

// errUnchanged ends a change that has nothing to save, with success.
var errUnchanged = errors.New("unchanged")

// commit makes a change to a copy of the books, saves it, and only then lets it count.
func (i *Issuer) commit(change func(*books) error) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	next := i.books.clone()
	switch err := change(&next); {
	case errors.Is(err, errUnchanged):
		return nil
	case err != nil:
		return err
	}
	next.Version = 1
	if err := wire.CheckBounds(&next); err != nil {
		return fmt.Errorf("issuer: %w: %w", ErrTooMany, err)
	}
	if err := i.store.Save(wire.MustMarshal(next)); err != nil {
		return fmt.Errorf("issuer: save invitations: %w", err)
	}
	i.books = next
	return nil
}

func (b books) clone() books {
	b.Invitations = slices.Clone(b.Invitations)
	for n := range b.Invitations {
		b.Invitations[n].UsedBy = slices.Clone(b.Invitations[n].UsedBy)
	}
	return b
}

// forget drops invitations that ended long ago, and, when the books are full,
// those that ended at all.
func (b *books) forget(now time.Time) {
	ended := func(e invitationEntry, since time.Duration) bool {
		return now.After(time.Unix(e.Expires, 0).Add(since))
	}
	b.Invitations = slices.DeleteFunc(b.Invitations, func(e invitationEntry) bool { return ended(e, keepEnded) })
	if len(b.Invitations) >= MaxInvitations {
		b.Invitations = slices.DeleteFunc(b.Invitations, func(e invitationEntry) bool { return ended(e, ClockSkew) || e.Uses < 1 })
	}
}
