// Package rights judges tokens: chains of signed delegations by which an owner
// lets another peer submit, observe or operate workloads in its name, and that
// peer another, offline and without asking anybody.
//
// The rules are those of UCAN 1.0 delegations (https://github.com/ucan-wg/delegation):
// every link is about one subject, the first is signed by the subject itself, each
// next one by the audience of the one before, and what holds is the intersection
// of all. The envelope is workload.Signed, as everywhere in Perrin. Stricter than
// UCAN, a link that says more than the one before it is refused and not cut down,
// no peer appears twice, and there are at most MaxDepth links.
//
// The package is pure: encoding and signatures come in as a Reader, and the
// caller passes the time.
package rights

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/perrin-mesh/perrin/workload"
)

// Capability is something that a token lets its holder do.
type Capability string

// What a token can be for. Submit runs workloads at the subject's cost, Observe
// lists and reads its workloads, Operate stops them.
const (
	Submit  Capability = "submit"
	Observe Capability = "observe"
	Operate Capability = "operate"
)

// All are the capabilities that there are.
func All() []Capability { return []Capability{Submit, Observe, Operate} }

// Bounds of a token: its links, the bytes of one link's payload, the workloads
// that one names, and how long it lasts.
const (
	MaxDepth    = 8
	MaxPayload  = 2048
	MaxOnly     = 16
	MaxLifetime = 5 * 365 * 24 * time.Hour
	// Skew is how far two clocks may differ.
	Skew = 2 * time.Minute
)

// The reasons for which a token is refused. Each is returned when…
var (
	// ErrForm is returned when a link is not a delegation, or a field of it is out of bounds.
	ErrForm = errors.New("not a token")
	// ErrForged is returned when a signature does not verify.
	ErrForged = errors.New("signature does not verify")
	// ErrChain is returned when a link is not signed by the one it was given to, or is about another subject.
	ErrChain = errors.New("links do not fit")
	// ErrWidens is returned when a link allows more than the one before it.
	ErrWidens = errors.New("allows more than it was given")
	// ErrLoop is returned when a peer appears twice.
	ErrLoop = errors.New("goes round in a circle")
	// ErrDepth is returned when there are more than MaxDepth links.
	ErrDepth = errors.New("too many links")
	// ErrMesh is returned when a token is of another mesh.
	ErrMesh = errors.New("of another mesh")
	// ErrTime is returned before a token's beginning and after its end.
	ErrTime = errors.New("not valid now")
	// ErrNotAllowed is returned when a token does not allow what is asked for.
	ErrNotAllowed = errors.New("the token does not allow it")
)

// Delegation is the payload of one link.
type Delegation struct {
	Version   uint16               `cbor:"1,keyasint" json:"version"`
	Mesh      workload.MeshID      `cbor:"2,keyasint" json:"mesh"`
	Subject   workload.PeerID      `cbor:"3,keyasint" json:"subject"`  // the owner's key
	Audience  workload.PeerID      `cbor:"4,keyasint" json:"audience"` // the node that may use it or hand it on
	May       []Capability         `cbor:"5,keyasint" json:"may" max:"3"`
	Only      []workload.ID        `cbor:"6,keyasint,omitempty" json:"only,omitempty" max:"16"` // observe and operate these alone
	Limits    workload.TokenLimits `cbor:"7,keyasint" json:"limits"`
	NotBefore int64                `cbor:"8,keyasint" json:"not_before_ms"`
	Expires   int64                `cbor:"9,keyasint" json:"expires_ms"`
	Nonce     [12]byte             `cbor:"10,keyasint" json:"-"`
}

const version = 1

// Version is that of the delegations that this package knows.
func Version() uint16 { return version }

// Validate names the first field that is out of bounds.
func (d *Delegation) Validate() error {
	l := &d.Limits
	switch {
	case d.Version != version:
		return fmt.Errorf("version %d, want %d: %w", d.Version, version, ErrForm)
	case d.Subject.IsZero() || d.Audience.IsZero():
		return fmt.Errorf("a link names nobody: %w", ErrForm)
	case len(d.May) < 1 || len(d.May) > len(All()):
		return fmt.Errorf("may: want 1 to %d of submit, observe, operate: %w", len(All()), ErrForm)
	case len(d.Only) > MaxOnly:
		return fmt.Errorf("only: %d workloads, at most %d: %w", len(d.Only), MaxOnly, ErrForm)
	case l.MaxPrice < 0 || l.Credits < 0 || l.CPUs < 0 || l.Memory < 0 || l.Tasks < 0:
		return fmt.Errorf("a limit is negative: %w", ErrForm)
	case d.NotBefore < 0 || d.Expires <= d.NotBefore || d.Expires-d.NotBefore > MaxLifetime.Milliseconds():
		return fmt.Errorf("it ends before it begins, or lasts for more than %d days: %w", MaxLifetime/(24*time.Hour), ErrForm)
	}
	for i, c := range d.May {
		if !slices.Contains(All(), c) || slices.Contains(d.May[:i], c) {
			return fmt.Errorf("may: %.20q: want each of submit, observe, operate once at most: %w", c, ErrForm)
		}
	}
	return nil
}

// Reader decodes canonical encodings and verifies signatures.
type Reader struct {
	Decode func([]byte, any) error
	Verify func(workload.Domain, workload.Signed) error
}

// Grant is a token that verified, apart from its time.
type Grant struct {
	Subject  workload.PeerID
	Audience workload.PeerID // of the last link: who may use it
	Links    []Delegation
	Bounds   []workload.TokenLink // of each link
}

// Open judges a token of a mesh, all but its time. The error names the link that fails.
func Open(chain []workload.Signed, mesh workload.MeshID, r Reader) (*Grant, error) {
	if len(chain) == 0 {
		return nil, fmt.Errorf("token without a link: %w", ErrForm)
	}
	if len(chain) > MaxDepth {
		return nil, fmt.Errorf("token of %d links, at most %d: %w", len(chain), MaxDepth, ErrDepth)
	}
	g := &Grant{}
	for i, s := range chain {
		if err := g.add(s, mesh, r); err != nil {
			return nil, fmt.Errorf("token: link %d of %d, by %s: %w", i+1, len(chain), s.By.Short(), err)
		}
	}
	return g, nil
}

func (g *Grant) add(s workload.Signed, mesh workload.MeshID, r Reader) error {
	var d Delegation
	if len(s.Payload) > MaxPayload {
		return fmt.Errorf("%d bytes, at most %d: %w", len(s.Payload), MaxPayload, ErrForm)
	}
	if err := r.Decode(s.Payload, &d); err != nil {
		return fmt.Errorf("%w: %w", ErrForm, err)
	}
	if err := d.Validate(); err != nil {
		return err
	}
	if d.Mesh != mesh {
		return fmt.Errorf("mesh %.12s, this is mesh %.12s: %w", d.Mesh, mesh, ErrMesh)
	}
	if err := g.follows(s.By, &d); err != nil {
		return err
	}
	if err := r.Verify(workload.DomainToken, s); err != nil {
		return fmt.Errorf("%w: %w", ErrForged, err)
	}
	g.Subject, g.Audience = d.Subject, d.Audience
	g.Links = append(g.Links, d)
	g.Bounds = append(g.Bounds, workload.TokenLink{ID: workload.DigestOf(s.Payload), Limits: d.Limits, Expires: d.Expires, By: s.By})
	return nil
}

// follows reports whether d, signed by a peer, may stand after what g has.
func (g *Grant) follows(by workload.PeerID, d *Delegation) error {
	if len(g.Links) == 0 {
		switch {
		case by != d.Subject:
			return fmt.Errorf("the first link is signed by %s, not by its subject %s: %w", by.Short(), d.Subject.Short(), ErrChain)
		case d.Audience == d.Subject:
			return fmt.Errorf("given to its own subject: %w", ErrLoop)
		}
		return nil
	}
	last := &g.Links[len(g.Links)-1]
	switch {
	case d.Subject != g.Subject:
		return fmt.Errorf("about %s, the token is about %s: %w", d.Subject.Short(), g.Subject.Short(), ErrChain)
	case by != last.Audience:
		return fmt.Errorf("signed by %s, the link before was given to %s: %w", by.Short(), last.Audience.Short(), ErrChain)
	case d.Audience == g.Subject || slices.ContainsFunc(g.Links, func(l Delegation) bool { return l.Audience == d.Audience }):
		return fmt.Errorf("given to %s a second time: %w", d.Audience.Short(), ErrLoop)
	}
	return g.narrows(d)
}

// narrows reports whether d allows no more than every link before it.
func (g *Grant) narrows(d *Delegation) error {
	for i := range g.Links {
		l := &g.Links[i]
		for _, c := range d.May {
			if !slices.Contains(l.May, c) {
				return fmt.Errorf("may %s, link %d may not: %w", c, i+1, ErrWidens)
			}
		}
		for _, id := range d.Only {
			if len(l.Only) > 0 && !slices.Contains(l.Only, id) {
				return fmt.Errorf("workload %s, which link %d does not name: %w", id.Short(), i+1, ErrWidens)
			}
		}
		if name := d.Limits.Within(&l.Limits); name != "" {
			return fmt.Errorf("%s is higher than in link %d: %w", name, i+1, ErrWidens)
		}
		if d.Expires > l.Expires {
			return fmt.Errorf("ends after link %d does: %w", i+1, ErrWidens)
		}
	}
	return nil
}

// Ends returns when the token ends, in ms.
func (g *Grant) Ends() int64 { return g.Links[len(g.Links)-1].Expires }

// May returns what the token allows.
func (g *Grant) May() []Capability { return g.Links[len(g.Links)-1].May }

// Only returns the workloads that it is for; none is all of its subject's.
func (g *Grant) Only() (only []workload.ID) {
	for i := range g.Links {
		if len(g.Links[i].Only) > 0 {
			only = g.Links[i].Only
		}
	}
	return only
}

// Limits returns what all links together bound.
func (g *Grant) Limits() (l workload.TokenLimits) {
	for i := range g.Links {
		o := &g.Links[i].Limits
		l.MaxPrice, l.Credits, l.CPUs = least(l.MaxPrice, o.MaxPrice), least(l.Credits, o.Credits), least(l.CPUs, o.CPUs)
		l.Memory, l.Tasks = least(l.Memory, o.Memory), least(l.Tasks, o.Tasks)
	}
	return l
}

// least is the smaller of two bounds of which 0 is none.
func least(a, b int64) int64 {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

// Allows returns nil when holder may do c at now, in ms, as the token says. The
// workload that it is about is for Covers to judge.
func (g *Grant) Allows(holder workload.PeerID, c Capability, now int64) error {
	if g.Audience != holder {
		return fmt.Errorf("it was given to %s, not to %s: %w", g.Audience.Short(), holder.Short(), ErrNotAllowed)
	}
	if !slices.Contains(g.May(), c) {
		return fmt.Errorf("it is not for %s: %w", c, ErrNotAllowed)
	}
	for i := range g.Links {
		l := &g.Links[i]
		switch {
		case now < l.NotBefore-Skew.Milliseconds():
			return fmt.Errorf("token: link %d begins at %s: %w", i+1, stamp(l.NotBefore), ErrTime)
		case now > l.Expires+Skew.Milliseconds():
			return fmt.Errorf("token: link %d ended at %s: %w", i+1, stamp(l.Expires), ErrTime)
		}
	}
	return nil
}

func stamp(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02 15:04 UTC") }

// Covers reports whether a workload of owner is one that the token is about.
func (g *Grant) Covers(owner workload.PeerID, id workload.ID) bool {
	only := g.Only()
	return owner == g.Subject && (len(only) == 0 || slices.Contains(only, id))
}
