package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
)

// ChangeOperator implements api.Backend.
func (g gateway) ChangeOperator(ctx context.Context, c api.OperatorChange) (*api.TrustOperator, error) {
	n := g.n
	root, err := admission.LoadKey(n.id.dir, keyRoot)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &api.Error{Kind: api.Unauthorized, Message: "the root key does not lie on this node",
			Hint: "operators are named where the mesh was founded with `perrin init`; a copy of its keys/root in this node's data folder does it too"}
	}
	if err != nil {
		return nil, err
	}
	if got := admission.MeshOf(idOf(root)); got != n.host.Mesh() {
		return nil, api.Errorf(api.Refused, "keys/root on this node is the root of mesh %.12s, this is mesh %.12s", got, n.host.Mesh())
	}
	if err := n.ensureCharter(); err != nil {
		return nil, err
	}
	n.host.AskTrust(ctx) // a copy of the root key may have spoken elsewhere
	if c.Remove {
		return n.removeOperator(c, root)
	}
	return n.addOperator(ctx, c, root)
}

// publishCharter signs and spreads what the root says now, with what this node's operator
// says along with it, and makes sure that it counts.
func (n *Node) publishCharter(root rootKey, charter admission.Charter, along ...admission.SignedDenial) error {
	signed, err := admission.SignCharter(root, charter, time.Now())
	if err != nil {
		return api.Errorf(api.Refused, "%s", err.Error())
	}
	if err := n.host.Publish(admission.Statements{Charter: &signed, Denials: along}); err != nil {
		return err
	}
	if !n.id.trust.Holds(signed) {
		return &api.Error{Kind: api.Unavailable, Message: "the root key has said something else at the same time, on another node",
			Hint: "look at `perrin trust status`, and type it again"}
	}
	return nil
}

// addOperator has the named node make an operator's key, names it in the charter,
// and then gives the node its certificate.
func (n *Node) addOperator(ctx context.Context, c api.OperatorChange, root rootKey) (*api.TrustOperator, error) {
	peer, _, err := n.peerNamed(ctx, c.Node)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var answer wire.OperatorAnswer
	if err := (caller{n}).Call(ctx, peer, wire.ProtoOperator, &wire.OperatorMsg{Rotate: c.Rotate}, &answer); err != nil {
		return nil, operatorAway(c.Node, err)
	}
	name, err := n.certified(peer, c.Node)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	cert, err := admission.IssueOperator(root, answer.Key, name, now)
	if err != nil {
		return nil, api.Errorf(api.Refused, "%s", err.Error())
	}
	charter := n.id.trust.Charter()
	entry, already := operatorEntry(&charter, admission.Operator{Key: answer.Key, Node: peer, Name: name, Since: now.UnixMilli()})
	if !already {
		if err := n.publishCharter(root, charter.With(entry, now)); err != nil {
			return nil, err
		}
	} // one that is named may have missed its certificate
	if err := (caller{n}).Call(ctx, peer, wire.ProtoOperator, &wire.OperatorMsg{Cert: &cert}, &answer); err != nil {
		return nil, &api.Error{Kind: api.Unavailable, Message: fmt.Sprintf("%s is named as an operator, and did not get its certificate: %v", name, err),
			Hint: "type it again"}
	}
	return &api.TrustOperator{Name: name, Key: answer.Key, Node: peer, Self: peer == n.self, Reached: true, Already: already, Time: time.UnixMilli(entry.Since)}, nil
}

// operatorEntry returns the entry of a charter that says what o does but for the time,
// and true, or o.
func operatorEntry(charter *admission.Charter, o admission.Operator) (admission.Operator, bool) {
	for _, old := range charter.Operators {
		if old.Key == o.Key && old.Node == o.Node && old.Name == o.Name {
			return old, true
		}
	}
	return o, false
}

// certified returns the name in a connected node's certificate. Where the user
// named it by a name and not by its identity, this has to be it: what a node says
// of itself elsewhere anybody can say.
func (n *Node) certified(peer workload.PeerID, text string) (string, error) {
	id, ok := n.host.Admitted(peer)
	switch {
	case !ok:
		return "", operatorAway(text, admission.ErrNotAdmitted)
	case id.Name == text || strings.HasPrefix(peer.String(), text) || strings.HasPrefix(peer.Short(), text):
		return id.Name, nil
	}
	return "", &api.Error{Kind: api.Refused, Message: fmt.Sprintf("the node that calls itself %.80q has a certificate for the name %q", text, id.Name),
		Hint: "if it is the one you mean, name it by its identity: " + peer.String()}
}

func operatorAway(name string, err error) error {
	return &api.Error{Kind: api.Unavailable, Message: fmt.Sprintf("node %.80q does not become an operator's: %v", name, err),
		Hint: "it has to be up, of this version, and reached from here: `perrin nodes`"}
}

// removeOperator takes the named operator out of the charter. What it denied this
// node's operator says from now on, unless its key is given up at once.
func (n *Node) removeOperator(c api.OperatorChange, root rootKey) (*api.TrustOperator, error) {
	charter := n.id.trust.Charter()
	gone, err := operatorCalled(&charter, c.Node)
	if err != nil {
		return nil, err
	}
	if len(charter.Operators) == 1 {
		return nil, &api.Error{Kind: api.Refused, Message: fmt.Sprintf("%s is the only operator: nobody could admit or renew", gone.Name),
			Hint: "add another first: `perrin operator add NAME`"}
	}
	now := time.Now()
	from := now
	if !c.Now {
		from = now.Add(admission.RemovalGrace)
	}
	issuer := n.id.issuer.Load()
	heir := !c.Now && issuer != nil && issuer.ID() != gone.Key && !n.id.trust.Leaving(issuer.ID())
	var adopted []admission.SignedDenial
	lapsing := 0
	if heir { // with the charter: no moment is left in which nobody denies them
		if adopted, err = adopts(issuer, gone.Key, now); err != nil {
			return nil, err
		}
	} else {
		lapsing = n.deniedBy(gone.Key, now)
	}
	if err := n.publishCharter(root, charter.Without(gone.Key, from), adopted...); err != nil {
		return nil, err
	}
	if heir { // what it said until it heard of the charter
		if err := n.adoptDenials(issuer, gone.Key); err != nil {
			return nil, err
		}
	}
	return &api.TrustOperator{Name: gone.Name, Key: gone.Key, Node: gone.Node, Self: gone.Node == n.self, Time: from, Lapsing: lapsing}, nil
}

// operatorCalled finds the operator that a user names.
func operatorCalled(charter *admission.Charter, text string) (*admission.Operator, error) {
	var found []*admission.Operator
	for i, op := range charter.Operators {
		if text == op.Name && len(text) <= chancePrefix {
			return &charter.Operators[i], nil
		}
		if text == op.Name || text != "" && (strings.HasPrefix(op.Node.String(), text) || strings.HasPrefix(op.Node.Short(), text) || strings.HasPrefix(op.Key.Short(), text)) {
			found = append(found, &charter.Operators[i])
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, &api.Error{Kind: api.NotFound, Message: fmt.Sprintf("no operator is called %.80q", text), Hint: "`perrin trust status` lists the operators"}
	}
	return nil, &api.Error{Kind: api.Ambiguous, Message: fmt.Sprintf("%d operators are called %.80q", len(found), text), Hint: "name it by its key, as " + found[0].Key.Short()}
}

// adoptDenials has an operator of this node say what another one denies.
func (n *Node) adoptDenials(issuer *admission.Issuer, from workload.PeerID) error {
	docs, err := adopts(issuer, from, time.Now())
	if err != nil || len(docs) == 0 {
		return err
	}
	return n.host.Publish(admission.Statements{Denials: docs})
}

// adopts is what an operator says to deny what another one denies.
func adopts(issuer *admission.Issuer, from workload.PeerID, now time.Time) ([]admission.SignedDenial, error) {
	docs, err := issuer.Adopt(from, now)
	if err != nil {
		return nil, &api.Error{Kind: api.Refused, Message: err.Error(), Hint: admission.Hint(err)}
	}
	return docs, nil
}

// deniedBy counts the peers that an operator puts out.
func (n *Node) deniedBy(operator workload.PeerID, now time.Time) (count int) {
	for _, d := range n.id.trust.List(now) {
		if d.By == operator {
			count++
		}
	}
	return count
}

// handleOperator makes this node an operator's: the root's node asks for a key,
// and comes back with the root's certificate for it. Whoever asks, only what the
// root has signed changes anything.
func (n *Node) handleOperator(_ context.Context, from workload.PeerID, m *wire.OperatorMsg) (*wire.OperatorAnswer, error) {
	n.operatorMu.Lock()
	defer n.operatorMu.Unlock()
	if m.Cert == nil {
		key, err := n.operatorKey(m.Rotate)
		return &wire.OperatorAnswer{Key: key}, err
	}
	issuer, err := n.id.openIssuer(*m.Cert)
	if err != nil {
		return nil, wire.Errorf(wire.Unauthorized, "operator certificate: %s", err)
	}
	if n.id.trust.Leaving(issuer.ID()) {
		return nil, wire.Errorf(wire.Refused, "the root has removed this operator key")
	}
	if err := admission.WriteFile(n.id.dir, fileOperator, wire.MustMarshal(*m.Cert)); err != nil {
		return nil, err
	}
	before := n.id.issuer.Swap(issuer)
	n.host.ServeIssuer(issuer, n.contacts)
	if before != nil && before.ID() != issuer.ID() {
		if err := n.adoptDenials(issuer, before.ID()); err != nil {
			return nil, err
		}
	}
	n.log.Info("this node is an operator's", "by", from.Short(), "key", issuer.ID().Short())
	return &wire.OperatorAnswer{Key: issuer.ID()}, nil
}

// operatorKey returns the key that this node has for an operator, or a new one:
// when it has none, when the root has removed it, and to rotate.
func (n *Node) operatorKey(rotate bool) (workload.PeerID, error) {
	var inUse workload.PeerID
	if issuer := n.id.issuer.Load(); issuer != nil {
		inUse = issuer.ID()
	}
	if !inUse.IsZero() && !rotate && !n.id.trust.Leaving(inUse) {
		return inUse, nil
	}
	for _, name := range []string{keyOperator, keyOperator2} {
		key, err := admission.LoadOrCreateKey(n.id.dir, name)
		if err != nil {
			return workload.PeerID{}, err
		}
		switch id := idOf(key); {
		case id == inUse:
		case !n.id.trust.Leaving(id):
			return id, nil
		default:
			if key, err = admission.NewKey(); err != nil {
				return workload.PeerID{}, err
			}
			return idOf(key), admission.SaveKey(n.id.dir, name, key)
		}
	}
	return workload.PeerID{}, errors.New("both operator keys of this node are in use")
}

// operatorsFirst lists whom to ask for a certificate: this node, the operator
// that made the present one, the others, and then any peer, which may be an
// operator's that is not known here yet.
func (n *Node) operatorsFirst() []workload.PeerID {
	var peers []workload.PeerID
	add := func(p workload.PeerID) {
		if !slices.Contains(peers, p) {
			peers = append(peers, p)
		}
	}
	if issuer := n.id.issuer.Load(); issuer != nil && !n.id.trust.Leaving(issuer.ID()) {
		add(n.self)
	}
	charter := n.id.trust.Charter()
	own := n.host.Bundle().Node.By
	for _, o := range charter.Operators {
		if o.Key == own {
			add(o.Node)
		}
	}
	for _, o := range charter.Operators {
		add(o.Node)
	}
	if len(charter.Operators) == 0 || len(peers) == 0 {
		for _, p := range n.host.Peers() {
			add(p.ID)
		}
	}
	return peers
}
