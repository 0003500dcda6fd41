package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/node/attestor"
	"github.com/perrin-mesh/perrin/node/notary"
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
		Rules:     attestor.PolicyDigest(filepath.Join(n.cfg.Data, AttestFolder)),
		Operators: []api.TrustOperator{}, Denied: []api.Denied{},
		Node: api.Certificate{
			Node: n.self, Name: own.Name, Operator: n.operatorNamed(own.Operator, own.OperatorName), Admitter: n.operatorNamed(own.Admitter, own.AdmitterName), Issued: own.Issued,
			Renews: own.NotAfter.Add(-admission.NodeTTL / 2), Ends: own.NotAfter, Grace: own.NotAfter.Add(admission.OfflineGrace),
		},
	}
	out.RulesFolder = filepath.Join(n.cfg.Data, AttestFolder)
	if _, err := attestor.LoadPolicy(out.RulesFolder); err != nil {
		out.RulesWrong = err.Error()
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
	if said := n.id.trust.All(now); said.Charter != nil {
		said.Revocations = nil // receipts do not ask for them
		file := notary.TrustFile{Root: n.id.bundle.Root, Statements: wire.MustMarshal(&said)}
		file.Date(n.id.key, n.host.Bundle().Encode(), now)
		if out.Said, err = file.Encode(); err != nil {
			return nil, err
		}
	}
	if issuer := n.id.issuer.Load(); issuer != nil {
		out.Invited = issuer.OpenInvitations(now)
	}
	return out, nil
}

func (n *Node) deniedEntry(d admission.DeniedPeer) api.Denied {
	out := api.Denied{Peer: d.Peer, Name: d.Name, By: n.operatorNamed(d.By, d.By.Short()), Seq: d.Seq, Since: time.UnixMilli(d.At), Reason: d.Reason}
	if d.Until != 0 {
		until := time.UnixMilli(d.Until)
		out.Until = &until
	}
	if next := n.id.trust.Successor(d.Peer, time.Now()); !next.IsZero() {
		out.Successor = &next
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
// or of one on the deny list. A key that was changed goes by its identity alone: its
// node's name is that of the key which the node has now.
func (n *Node) peerNamed(ctx context.Context, text string) (workload.PeerID, string, error) {
	names := n.names(ctx)
	if id, err := workload.ParsePeerID(text); err == nil {
		return id, names[id], nil
	}
	now := time.Now()
	for _, d := range n.id.trust.List(now) {
		if names[d.Peer] == "" {
			names[d.Peer] = d.Name
		}
	}
	all := make([]called, 0, len(names))
	for id, name := range names {
		if !n.id.trust.Successor(id, now).IsZero() {
			name = ""
		}
		all = append(all, called{id, name})
	}
	found := pick(all, text)
	switch len(found) {
	case 1:
		return found[0].id, names[found[0].id], nil
	case 0:
		return workload.PeerID{}, "", &api.Error{Kind: api.NotFound, Message: fmt.Sprintf("no node %.80q is known here", text),
			Hint: "`perrin nodes` lists them; one that is away can be named by its whole identity, 12D3KooW…"}
	}
	return workload.PeerID{}, "", severalNamed(api.Ambiguous, text, found)
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
	if err := n.mayDeny(peer, c); err != nil {
		return nil, err
	}
	now := time.Now()
	d := admission.Denial{Peer: peer, Name: name, Reason: c.Reason, Lift: c.Lift}
	if c.ForMs > 0 {
		d.Until = now.Add(time.Duration(c.ForMs) * time.Millisecond).UnixMilli()
	}
	doc, err := issuer.Deny(d, now)
	if err != nil {
		return nil, &api.Error{Kind: api.Refused, Message: err.Error(), Hint: admission.Hint(err)}
	}
	if err := n.host.Publish(admission.Statements{Denials: []admission.SignedDenial{doc}}); err != nil {
		return nil, err
	}
	out := &api.Denied{Peer: peer, Name: name, By: n.operatorNamed(issuer.ID(), n.name), Since: now}
	counts := false
	for _, listed := range n.id.trust.List(now) {
		switch {
		case listed.Peer != peer:
		case listed.By == issuer.ID():
			*out, counts = n.deniedEntry(listed), true
		default:
			out.Others = append(out.Others, n.operatorNamed(listed.By, listed.By.Short()))
		}
	}
	if counts == c.Lift {
		return nil, api.Errorf(api.Unavailable, "this operator has said something newer of %s elsewhere; `perrin trust status` shows what counts", peer.Short())
	}
	return out, nil
}

// mayDeny refuses denials that the user would regret.
func (n *Node) mayDeny(peer workload.PeerID, c api.DenyChange) error {
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
