package admission

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/rights"
)

// Bounds of the revoked links of tokens: in all, by the node that brought them into the
// mesh, and the bytes of one. Each is kept until its link ends.
const (
	MaxRevocations       = 256
	MaxRevocationsOfNode = 32
	MaxRevocation        = 8 << 10
)

// revocationKeep is how long after the end of its link a revocation is kept: by then no
// clock lets the link count.
const revocationKeep = 24 * time.Hour

// ErrRevoked is returned when a link of a token was revoked.
var ErrRevoked = errors.New("revoked")

// ErrNotIssuer is returned when a key revokes a link that neither it nor, through others,
// it gave.
var ErrNotIssuer = errors.New("only who gave a link, or one before it, revokes it")

// Revocation says that a link of a token counts no more. The rule is that of UCAN 1.0
// (https://github.com/ucan-wg/revocation, 1.0.0-rc.1): whoever signed the link or one
// before it may say so, it is never taken back, and it is forgotten once the link has
// ended. Another token for the same, which does not hold the link, counts as before.
type Revocation struct {
	Version uint16          `cbor:"1,keyasint"`
	Mesh    workload.MeshID `cbor:"2,keyasint"`
	Link    workload.Digest `cbor:"3,keyasint"` // of its payload
	By      workload.PeerID `cbor:"4,keyasint"` // who signed the link
	At      int64           `cbor:"5,keyasint"` // ms
}

// SignedRevocation is a revocation with what proves it: the token up to the link, which
// UCAN calls the path, and the member that brought it in, so that nobody fills the list
// with tokens that he makes up.
type SignedRevocation struct {
	Revocation workload.Signed   `cbor:"1,keyasint"`
	Path       []workload.Signed `cbor:"2,keyasint" max:"8"`
	Node       workload.Signed   `cbor:"3,keyasint"`
	Bundle     Bundle            `cbor:"4,keyasint"`
}

// revokedLink names a link: two that say the same, signed by two, are two.
type revokedLink struct {
	by workload.PeerID
	id workload.Digest
}

// revoked is a revocation that was verified.
type revoked struct {
	Revocation
	by, node workload.PeerID // whose word it is, and who brought it in
	operator workload.PeerID // that certified who brought it in
	ends     int64           // ms, of the link
	doc      SignedRevocation
}

func (r *revoked) link() revokedLink { return revokedLink{r.By, r.Link} }

func (r *revoked) over(now time.Time) bool {
	return now.Add(-revocationKeep).UnixMilli() > r.ends
}

// id tells revocations apart by who says what: another member that brings in the same
// changes nothing.
func (s *SignedRevocation) id() string {
	return string(s.Revocation.By[:]) + string(s.Revocation.Payload)
}

var tokenReader = rights.Reader{Decode: wire.Unmarshal, Verify: func(d workload.Domain, s workload.Signed) error { return s.Verify(d) }}

// Revoke makes the statement that the last link of path counts no more. by signed that
// link or one before it; node is the key of the member that says it, whose bundle that is.
func Revoke(by, node ed25519.PrivateKey, bundle Bundle, path []workload.Signed, now time.Time) (SignedRevocation, error) {
	if len(path) == 0 {
		return SignedRevocation{}, fmt.Errorf("revoke: a token without a link: %w", ErrForged)
	}
	last := path[len(path)-1]
	raw := wire.MustMarshal(Revocation{Version: certVersion, Mesh: bundle.Mesh(), Link: workload.DigestOf(last.Payload), By: last.By, At: now.UnixMilli()})
	doc := SignedRevocation{
		Revocation: workload.Sign(workload.DomainRevoke, raw, by), Path: path,
		Node: workload.Sign(workload.DomainRevoke, raw, node), Bundle: bundle,
	}
	_, err := openRevocation(doc, bundle.Root)
	return doc, err
}

// openRevocation verifies a revocation in the mesh that root names. The member's
// certificate is judged at the time that the revocation states.
func openRevocation(s SignedRevocation, root workload.PeerID) (*revoked, error) {
	if n := len(wire.MustMarshal(s)); n > MaxRevocation {
		return nil, fmt.Errorf("revocation of %d bytes, at most %d: %w", n, MaxRevocation, ErrTooMany)
	}
	if s.Bundle.Root != root {
		return nil, fmt.Errorf("revocation: %w", ErrOtherMesh)
	}
	chain, err := s.Bundle.Chain()
	if err != nil {
		return nil, fmt.Errorf("revocation: %w", err)
	}
	if s.Node.By != chain.Node || !bytes.Equal(s.Node.Payload, s.Revocation.Payload) {
		return nil, fmt.Errorf("revocation: brought in by %s with the certificate of %s: %w", s.Node.By.Short(), chain.Node.Short(), ErrForged)
	}
	for _, signed := range []workload.Signed{s.Revocation, s.Node} {
		if err := signed.Verify(workload.DomainRevoke); err != nil {
			return nil, fmt.Errorf("revocation: %w: %w", ErrForged, err)
		}
	}
	r := &revoked{by: s.Revocation.By, node: chain.Node, operator: chain.Operator, doc: s}
	if err := wire.Unmarshal(s.Revocation.Payload, &r.Revocation); err != nil {
		return nil, fmt.Errorf("revocation: %w: %w", ErrForged, err)
	}
	at := time.UnixMilli(r.At)
	if r.Version != certVersion || r.Mesh != MeshOf(root) || at.Before(chain.From.Add(-ClockSkew)) || at.After(chain.To.Add(OfflineGrace+ClockSkew)) {
		return nil, fmt.Errorf("revocation of version %d for mesh %.12s at %s: %w", r.Version, r.Mesh, at.UTC().Format(time.RFC3339), ErrForged)
	}
	return r, r.follows(s.Path)
}

// follows reports whether the path leads through whoever revokes to the link.
func (r *revoked) follows(path []workload.Signed) error {
	grant, err := rights.Open(path, r.Mesh, tokenReader)
	if err != nil {
		return fmt.Errorf("revocation: %w: %w", ErrForged, err)
	}
	last := path[len(path)-1]
	if r.By != last.By || r.Link != workload.DigestOf(last.Payload) {
		return fmt.Errorf("revocation: its path leads to another link: %w", ErrForged)
	}
	if !slices.ContainsFunc(path, func(s workload.Signed) bool { return s.By == r.by }) {
		return fmt.Errorf("revocation by %s: %w", r.by.Short(), ErrNotIssuer)
	}
	r.ends = grant.Ends()
	return nil
}

// unknownRevocations returns those of docs that are not known word for word, or from a
// member that counts no more.
func (t *Trust) unknownRevocations(docs []SignedRevocation, now time.Time) (out []SignedRevocation) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for i := range docs {
		d := &docs[i]
		var link revokedLink
		if len(d.Path) > 0 {
			last := d.Path[len(d.Path)-1]
			link = revokedLink{last.By, workload.DigestOf(last.Payload)}
		}
		if !slices.ContainsFunc(t.revoked[link], func(r *revoked) bool {
			return r.doc.id() == d.id() && (r.node == d.Node.By || !t.spare(r, now))
		}) {
			out = append(out, *d)
		}
	}
	return out
}

// takeRevocation reports whether r is new.
func (t *Trust) takeRevocation(r *revoked, now time.Time) (bool, error) {
	if r.over(now) {
		return false, nil
	}
	old := t.sameWord(r)
	if old != nil && !t.stands(r, old, now) {
		return false, nil
	}
	all, ofNode := t.countRevocations(r.node)
	if old != nil {
		all--
		if old.node == r.node {
			ofNode--
		}
	}
	if ofNode >= MaxRevocationsOfNode {
		return false, fmt.Errorf("revocations: %d from node %s: %w", ofNode, r.node.Short(), ErrTooMany)
	}
	if all >= MaxRevocations {
		worst := t.worstRevocation(now)
		if worst == nil || t.spare(r, now) && r.doc.id() >= worst.doc.id() {
			return false, fmt.Errorf("revocations: %d: %w", all, ErrTooMany)
		}
		t.dropRevocations(func(o *revoked) bool { return o == worst })
	}
	t.dropRevocations(func(o *revoked) bool { return o == old })
	t.revoked[r.link()] = append(t.revoked[r.link()], r)
	return true, nil
}

// sameWord is what the key that r is by said of the link before, or nil.
func (t *Trust) sameWord(r *revoked) *revoked {
	list := t.revoked[r.link()]
	if at := slices.IndexFunc(list, func(o *revoked) bool { return o.by == r.by }); at >= 0 {
		return list[at]
	}
	return nil
}

// stands reports whether r takes the place of what the same key said of the link. What a
// member brought in that counts goes first, then the lesser statement, so that all nodes
// keep the same. Who brings in again what is known does not become who brought it in.
func (t *Trust) stands(r, old *revoked, now time.Time) bool {
	if a, b := t.spare(r, now), t.spare(old, now); a != b {
		return b
	}
	return r.doc.id() < old.doc.id()
}

// spare reports whether a revocation makes room for others when the list is full: who
// brought it in was put out since, or its operator was removed. It counts until then, for
// whoever said it did nothing wrong. A node that changed its key was not put out.
func (t *Trust) spare(r *revoked, now time.Time) bool {
	if !t.operates(r.operator, now) {
		return true
	}
	key := r.node
	for range maxLinks {
		if t.deniedBefore(key, math.MaxInt64, now) {
			return true
		}
		first := t.firstSuccession(key, now)
		if first == nil {
			break
		}
		key = first.Successor
	}
	return false
}

// worstRevocation is the first one to make room, the same on all nodes, or nil.
func (t *Trust) worstRevocation(now time.Time) (worst *revoked) {
	for _, list := range t.revoked {
		for _, r := range list {
			if (worst == nil || r.doc.id() > worst.doc.id()) && t.spare(r, now) {
				worst = r
			}
		}
	}
	return worst
}

func (t *Trust) countRevocations(node workload.PeerID) (all, ofNode int) {
	for _, list := range t.revoked {
		for _, r := range list {
			all++
			if r.node == node {
				ofNode++
			}
		}
	}
	return all, ofNode
}

func (t *Trust) dropRevocations(gone func(*revoked) bool) {
	for link, list := range t.revoked {
		if list = slices.DeleteFunc(list, gone); len(list) == 0 {
			delete(t.revoked, link)
		} else {
			t.revoked[link] = list
		}
	}
}

// revocations lists what is known and not over, in an order that all nodes have.
func (t *Trust) revocations(now time.Time) (out []SignedRevocation) {
	for _, list := range t.revoked {
		for _, r := range list {
			if !r.over(now) {
				out = append(out, r.doc)
			}
		}
	}
	slices.SortFunc(out, func(a, b SignedRevocation) int { return bytes.Compare([]byte(a.id()), []byte(b.id())) })
	return out
}

// Revoked returns an error that wraps ErrRevoked when one who signed a link of a token, or
// one before it, has revoked it. The links are those of a token that verified, the first
// first.
func (t *Trust) Revoked(links []workload.TokenLink) error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if len(t.revoked) == 0 {
		return nil
	}
	for i := range links {
		for _, r := range t.revoked[revokedLink{links[i].By, links[i].ID}] {
			if slices.ContainsFunc(links[:i+1], func(l workload.TokenLink) bool { return l.By == r.by }) {
				return fmt.Errorf("token: link %d of %d, by %s, was %w by %s on %s", i+1, len(links), links[i].By.Short(), ErrRevoked,
					r.by.Short(), time.UnixMilli(r.At).UTC().Format("2006-01-02 15:04 UTC"))
			}
		}
	}
	return nil
}

// digestRevocations is empty while nothing is revoked.
func digestRevocations(docs []SignedRevocation) (sum []byte) {
	for i := range docs {
		one := sha256.Sum256([]byte(docs[i].id()))
		sum = append(sum, one[:]...)
	}
	return sum
}
