package admission

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// Origin is the chain by which the operator that admitted a node certified it first. It
// goes along when another operator renews the node, which stays the first one's: else two
// nodes of one operator would count as two operators' once another had renewed one. What
// it proves has no end, so its times do not count.
type Origin struct {
	Operator workload.Signed `cbor:"1,keyasint"` // the admitting operator's certificate, signed by the root
	Node     workload.Signed `cbor:"2,keyasint"` // the node's, signed by that operator

	Keys []workload.Signed `cbor:"3,keyasint,omitempty" max:"2"` // `Succession` each: from the key in Node to the one that the node has now
}

// maxKeys is how often others than the operator that admitted a node give it a new key,
// before that one has to certify it again.
const maxKeys = 2

// origin returns who admitted the node, by certificates of the bundle that are verified,
// and what proves it. A node certificate that names nobody was made by who admitted it:
// so were all before certificates named anybody.
func (b Bundle) origin(op, node certificate) (by certificate, first *Origin, err error) {
	switch {
	case node.Admitter.IsZero() && b.First != nil:
		return by, nil, fmt.Errorf("it shows who admitted the node, and the certificate names nobody: %w", ErrForged)
	case node.Admitter.IsZero():
		return op, &Origin{Operator: b.Operator, Node: b.Node}, nil
	case b.First == nil:
		return by, nil, fmt.Errorf("it does not show that %s admitted the node: %w", node.Admitter.Short(), ErrForged)
	}
	by, err = open(b.First.Operator, kindOperator, b.Root, b.Mesh())
	if err != nil {
		return by, nil, fmt.Errorf("certificate of the admitting operator: %w", err)
	}
	own, err := open(b.First.Node, kindNode, by.Subject, b.Mesh())
	switch {
	case err != nil:
		return by, nil, fmt.Errorf("first certificate of the node: %w", err)
	case by.Subject != node.Admitter || !own.Admitter.IsZero():
		return by, nil, fmt.Errorf("the first certificate is by another operator than the last says: %w", ErrForged)
	}
	has := own.Subject
	for _, doc := range b.First.Keys {
		s, err := readSuccession(doc, b.Mesh())
		if err != nil || s.Old != has {
			return by, nil, fmt.Errorf("its keys do not follow one another: %w", ErrForged)
		}
		has = s.New
	}
	if has != node.Subject {
		return by, nil, fmt.Errorf("the first certificate is another node's than the last: %w", ErrForged)
	}
	return by, b.First, nil
}

// keysStand judges the keys by which a node stays with who admitted it: an old one that was
// denied, or whose node is known to have another key now, makes no more nodes that count as
// that operator's, with whomever its thief is in league.
func (t *Trust) keysStand(id Identity, now time.Time) error {
	if id.first == nil {
		return nil
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, doc := range id.first.Keys {
		var s Succession
		if err := wire.Unmarshal(doc.Payload, &s); err != nil {
			return fmt.Errorf("succession: %w: %w", ErrForged, err)
		}
		first := t.firstSuccession(s.Old, now)
		switch {
		case first != nil && first.Successor != s.New:
			return fmt.Errorf("node %q (%s): %s took the place of %s: %w", id.Name, id.Peer.Short(), first.Successor.Short(), s.Old.Short(), ErrDenied)
		case first == nil && t.deniedBefore(s.Old, math.MaxInt64, now):
			return fmt.Errorf("node %q (%s) had the key %s, which is denied: %w", id.Name, id.Peer.Short(), s.Old.Short(), ErrDenied)
		}
	}
	return nil
}

// recertify signs a new certificate for a node that stays with who admitted it, for the
// key that it has or, by a succession, another. An operator with a new key takes over what
// it admitted under the one that is removed.
func (i *Issuer) recertify(of Identity, to workload.PeerID, by *workload.Signed, now time.Time) (Bundle, error) {
	if of.first == nil || of.Admitter == i.ID() || i.wasOwn(of) {
		return i.Certify(to, of.Name, now)
	}
	first := *of.first
	if by != nil {
		first.Keys = append(slices.Clone(first.Keys), *by)
	}
	if len(first.Keys) > maxKeys {
		return Bundle{}, fmt.Errorf("others have given it a new key %d times: operator %q, which admitted the node, certifies this one: %w", maxKeys, of.AdmitterName, ErrNotAdmitted)
	}
	cert, err := issueNode(i.key, i.Mesh(), to, of.Name, of.Admitter, now)
	if err != nil {
		return Bundle{}, err
	}
	return Bundle{Root: i.root, Operator: i.cert, Node: cert, First: &first}, nil
}

// wasOwn reports whether this operator admitted a node under an earlier key: one that the
// root has removed, and had certified for the same name.
func (i *Issuer) wasOwn(of Identity) bool {
	op, err := open(i.cert, kindOperator, i.root, i.Mesh())
	return err == nil && i.trust != nil && i.trust.Leaving(of.Admitter) && op.Name == of.AdmitterName
}
