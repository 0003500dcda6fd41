package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
)

// operatorHere returns the issuer of this node, or says that there is none.
func (n *Node) operatorHere() (*admission.Issuer, error) {
	issuer := n.id.issuer.Load()
	if issuer != nil && !n.id.trust.Leaving(issuer.ID()) {
		return issuer, nil
	}
	return nil, &api.Error{Kind: api.Unauthorized, Message: "this node holds no operator key",
		Hint: "type it on an operator's node, which `perrin trust status` lists, or make this one an operator: `perrin operator add " + n.name + "` where the mesh was founded with `perrin init`"}
}

// ensureCharter has the root key name this node's operator, before there is
// anybody else to know it: once, where the mesh was founded.
func (n *Node) ensureCharter() error {
	issuer := n.id.issuer.Load()
	if issuer == nil || n.id.trust.Charter().Seq > 0 {
		return nil
	}
	root, err := admission.LoadKey(n.id.dir, keyRoot)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it is kept elsewhere
	}
	if err != nil {
		return err
	}
	now := time.Now()
	first := admission.Operator{Key: issuer.ID(), Node: n.self, Name: n.name, Since: now.UnixMilli()}
	signed, err := admission.SignCharter(root, admission.Charter{}.With(first, now), now)
	if err != nil {
		return err
	}
	return n.host.Publish(admission.Statements{Charter: &signed})
}

// Trust implements api.Backend.
func (g gateway) Trust(context.Context) (*api.Trust, error) {
	n := g.n
	if err := n.ensureCharter(); err != nil {
		return nil, err
	}
	now, charter := time.Now(), n.id.trust.Charter()
	own, err := n.id.trust.Verify(n.host.Bundle(), n.self, now)
	if err != nil {
		own.Name = n.name
	}
	_, rootErr := admission.LoadKey(n.id.dir, keyRoot)
	out := &api.Trust{
		Mesh: n.host.Mesh(), Root: n.id.bundle.Root, RootHere: rootErr == nil, Charter: charter.Seq,
		Operators: []api.TrustOperator{}, Denied: []api.Denied{},
		Node: api.Certificate{
			Node: n.self, Name: own.Name, Operator: n.operatorNamed(own.Operator, own.OperatorName), Issued: own.Issued,
			Renews: own.NotAfter.Add(-admission.NodeTTL / 2), Ends: own.NotAfter, Grace: own.NotAfter.Add(admission.OfflineGrace),
		},
	}
	for _, o := range charter.Operators {
		_, reached := n.host.Admitted(o.Node)
		out.Operators = append(out.Operators, api.TrustOperator{
			Name: o.Name, Key: o.Key, Node: o.Node, Self: o.Node == n.self, Reached: reached, Time: time.UnixMilli(o.Since),
		})
	}
	for _, r := range charter.Removed {
		out.Removed = append(out.Removed, api.TrustOperator{Name: r.Name, Key: r.Key, Time: time.UnixMilli(r.From)})
	}
	for _, d := range n.id.trust.List(now) {
		out.Denied = append(out.Denied, n.deniedEntry(d))
	}
	if issuer := n.id.issuer.Load(); issuer != nil {
		out.Invited = issuer.Open(now)
	}
	return out, nil
}

func (n *Node) deniedEntry(d admission.DeniedPeer) api.Denied {
	out := api.Denied{Peer: d.Peer, Name: d.Name, By: n.operatorNamed(d.By, d.By.Short()), Seq: d.Seq, Since: time.UnixMilli(d.At), Reason: d.Reason}
	if d.Until != 0 {
		until := time.UnixMilli(d.Until)
		out.Until = &until
	}
	return out
}

// operatorNamed returns what the charter calls an operator's key, or else.
func (n *Node) operatorNamed(key workload.PeerID, otherwise string) string {
	for _, o := range n.id.trust.Charter().Operators {
		if o.Key == key {
			return o.Name
		}
	}
	return otherwise
}

// names returns the names of the nodes that are known here.
func (n *Node) names(ctx context.Context) map[workload.PeerID]string {
	names := map[workload.PeerID]string{n.self: n.name}
	if c := n.currentCell(); c != nil {
		c.Read(func(s *ledger.State) {
			for _, m := range s.Members() {
				names[m.Node] = m.Name
			}
		})
	}
	offers, err := n.offersOfCell(ctx)
	if err != nil {
		n.log.Debug("names of nodes", "err", err)
	}
	for _, o := range offers {
		names[o.Node] = o.Machine.Name
	}
	for _, o := range n.id.trust.Charter().Operators {
		if names[o.Node] == "" {
			names[o.Node] = o.Name
		}
	}
	return names
}

// peerNamed finds the peer that a user names: by a whole identity, which need
// not be known here, by the name or the beginning of the identity of one that is,
// or of one on the deny list.
func (n *Node) peerNamed(ctx context.Context, text string) (workload.PeerID, string, error) {
	names := n.names(ctx)
	if id, err := workload.ParsePeerID(text); err == nil {
		return id, names[id], nil
	}
	for _, d := range n.id.trust.List(time.Now()) {
		if names[d.Peer] == "" {
			names[d.Peer] = d.Name
		}
	}
	var found []workload.PeerID
	for id, name := range names {
		if text != "" && (name == text || strings.HasPrefix(id.Short(), text) || strings.HasPrefix(id.String(), text)) {
			found = append(found, id)
		}
	}
	switch len(found) {
	case 1:
		return found[0], names[found[0]], nil
	case 0:
		return workload.PeerID{}, "", &api.Error{Kind: api.NotFound, Message: fmt.Sprintf("no node %.80q is known here", text),
			Hint: "`perrin nodes` lists them; one that is away can be named by its whole identity, 12D3KooW…"}
	}
	return workload.PeerID{}, "", &api.Error{Kind: api.Ambiguous, Message: fmt.Sprintf("%d nodes are called %.80q", len(found), text),
		Hint: "name it by its identity, as " + found[0].Short()}
}

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
	change := n.addOperator
	if c.Remove {
		change = n.removeOperator
	}
	charter, o, err := change(ctx, c, root)
	if err != nil {
		return nil, err
	}
	signed, err := admission.SignCharter(root, charter, time.Now())
	if err != nil {
		return nil, api.Errorf(api.Refused, "%s", err.Error())
	}
	if err := n.host.Publish(admission.Statements{Charter: &signed}); err != nil {
		return nil, err
	}
	return o, nil
}

// addOperator has the named node make an operator's key, certifies it, and
// returns the charter that names it.
func (n *Node) addOperator(ctx context.Context, c api.OperatorChange, root rootKey) (charter admission.Charter, o *api.TrustOperator, err error) {
	peer, name, err := n.peerNamed(ctx, c.Node)
	if err != nil {
		return charter, nil, err
	}
	if id, ok := n.host.Admitted(peer); ok {
		name = id.Name
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var answer wire.OperatorAnswer
	if err := (caller{n}).Call(ctx, peer, wire.ProtoOperator, &wire.OperatorMsg{Rotate: c.Rotate}, &answer); err != nil {
		return charter, nil, operatorAway(c.Node, err)
	}
	now := time.Now()
	cert, err := admission.IssueOperator(root, answer.Key, name, now)
	if err != nil {
		return charter, nil, api.Errorf(api.Refused, "%s", err.Error())
	}
	if err := (caller{n}).Call(ctx, peer, wire.ProtoOperator, &wire.OperatorMsg{Cert: &cert}, &answer); err != nil {
		return charter, nil, operatorAway(c.Node, err)
	}
	entry := admission.Operator{Key: answer.Key, Node: peer, Name: name, Since: now.UnixMilli()}
	return n.id.trust.Charter().With(entry, now),
		&api.TrustOperator{Name: name, Key: answer.Key, Node: peer, Self: peer == n.self, Reached: true, Time: now}, nil
}

func operatorAway(name string, err error) error {
	return &api.Error{Kind: api.Unavailable, Message: fmt.Sprintf("node %.80q does not become an operator's: %v", name, err),
		Hint: "it has to be up, of this version, and reached from here: `perrin nodes`"}
}

// removeOperator returns the charter without the named operator.
func (n *Node) removeOperator(_ context.Context, c api.OperatorChange, _ rootKey) (charter admission.Charter, o *api.TrustOperator, err error) {
	charter = n.id.trust.Charter()
	var found []admission.Operator
	for _, op := range charter.Operators {
		if c.Node == op.Name || c.Node != "" && (strings.HasPrefix(op.Node.String(), c.Node) || strings.HasPrefix(op.Node.Short(), c.Node) || strings.HasPrefix(op.Key.Short(), c.Node)) {
			found = append(found, op)
		}
	}
	switch {
	case len(found) != 1:
		return charter, nil, &api.Error{Kind: api.NotFound, Message: fmt.Sprintf("%d operators are called %.80q", len(found), c.Node),
			Hint: "`perrin trust status` lists the operators"}
	case len(charter.Operators) == 1:
		return charter, nil, &api.Error{Kind: api.Refused, Message: fmt.Sprintf("%s is the only operator: nobody could admit or renew", found[0].Name),
			Hint: "add another first: `perrin operator add NAME`"}
	}
	from := time.Now()
	if !c.Now {
		from = from.Add(admission.RemovalGrace)
	}
	gone := found[0]
	return charter.Without(gone.Key, from), &api.TrustOperator{Name: gone.Name, Key: gone.Key, Node: gone.Node, Self: gone.Node == n.self, Time: from}, nil
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
	n.id.issuer.Store(issuer)
	n.host.ServeIssuer(issuer, n.contacts)
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

// ChangeDenied implements api.Backend.
func (g gateway) ChangeDenied(ctx context.Context, c api.DenyChange) (*api.Denied, error) {
	n := g.n
	issuer, err := n.operatorHere()
	if err != nil {
		return nil, err
	}
	if err := n.ensureCharter(); err != nil {
		return nil, err
	}
	peer, name, err := n.peerNamed(ctx, c.Peer)
	if err != nil {
		return nil, err
	}
	if err := n.maySend(peer, c); err != nil {
		return nil, err
	}
	now := time.Now()
	d := admission.Denial{Peer: peer, Name: name, Reason: c.Reason, Lift: c.Lift}
	if c.ForMs > 0 {
		d.Until = now.Add(time.Duration(c.ForMs) * time.Millisecond).UnixMilli()
	}
	doc, err := issuer.Deny(n.id.trust, d, now)
	if err != nil {
		return nil, &api.Error{Kind: api.Refused, Message: err.Error(), Hint: admission.Hint(err)}
	}
	if err := n.host.Publish(admission.Statements{Denials: []admission.SignedDenial{doc}}); err != nil {
		return nil, err
	}
	if !c.Lift {
		for _, listed := range n.id.trust.List(now) {
			if listed.Peer == peer {
				out := n.deniedEntry(listed)
				return &out, nil
			}
		}
		return nil, api.Errorf(api.Internal, "the denial of %s does not count", peer.Short())
	}
	return &api.Denied{Peer: peer, Name: name, By: n.operatorNamed(issuer.ID(), n.name), Since: now}, nil
}

// maySend refuses denials that the user would regret.
func (n *Node) maySend(peer workload.PeerID, c api.DenyChange) error {
	view := n.homeView()
	switch {
	case c.Lift:
		return nil
	case peer == n.self:
		return &api.Error{Kind: api.Refused, Message: "a node does not put itself out", Hint: "stop it, or type it on another operator's node"}
	case !c.Force && len(view.Voters) == 1 && isVoter(&view, peer):
		return &api.Error{Kind: api.Refused, Message: "that node is the cell's only voter: without it the cell's workloads are lost",
			Hint: "add nodes until the cell has three voters (`perrin status`), or say --force"}
	}
	return nil
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
