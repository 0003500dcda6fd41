package node

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/node/tenancy"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/rights"
)

// ownTokenFor is how long the token lasts by which the owner's key of this node
// names the node. It is made anew after half of that.
const ownTokenFor = 24 * time.Hour

// ownTokenBackdate is how far the clocks of others may be behind.
const ownTokenBackdate = 2 * time.Hour

// tokenOf returns the token that came with a request, or the node's own.
func (n *Node) tokenOf(ctx context.Context) []workload.Signed {
	if token := api.TokenOf(ctx); len(token) > 0 {
		return token
	}
	return n.ownToken(time.Now())
}

// ownToken is by which the key that signs this node's specs lets the node read
// what was submitted with it, also on another node.
func (n *Node) ownToken(now time.Time) []workload.Signed {
	n.mu.Lock()
	defer n.mu.Unlock()
	if left := n.own.until.Sub(now); left > ownTokenFor/2 && left <= ownTokenFor {
		return n.own.token
	}
	d := rights.Delegation{
		Version: rights.Version(), Mesh: n.host.Mesh(), Subject: idOf(n.id.owner), Audience: n.self,
		May:       []rights.Capability{rights.Observe, rights.Operate},
		NotBefore: now.Add(-ownTokenBackdate).UnixMilli(), Expires: now.Add(ownTokenFor).UnixMilli(),
	}
	_, _ = rand.Read(d.Nonce[:]) // crypto/rand never fails since Go 1.24
	n.own.token = []workload.Signed{n.memo.Sign(workload.DomainToken, wire.MustMarshal(d), n.id.owner)}
	n.own.until = now.Add(ownTokenFor)
	return n.own.token
}

// ownTokens is the node's own token and when it ends.
type ownTokens struct {
	token []workload.Signed
	until time.Time
}

// defaultTokenFor is how long a token lasts for which nobody says it.
const defaultTokenFor = 7 * 24 * time.Hour

// MakeToken implements api.Backend: it makes a token of this node's owner, or hands
// one on that was given to this node.
func (g gateway) MakeToken(ctx context.Context, o api.TokenOrder) (*api.Token, error) {
	n := g.n
	now := time.Now()
	var chain []workload.Signed
	key := n.id.owner
	d := rights.Delegation{Subject: idOf(n.id.owner), May: o.May, Only: o.Only, Limits: o.Limits, NotBefore: now.UnixMilli(), Expires: now.Add(defaultTokenFor).UnixMilli()}
	if o.Of != "" {
		of, err := n.tokenToHandOn(o.Of, now)
		if err != nil {
			return nil, err
		}
		chain, key = of.chain, n.id.key
		d.Subject, d.Expires = of.grant.Subject, of.grant.Ends()
		if len(d.May) == 0 {
			d.May = of.grant.May()
		}
	}
	if o.ForMs > 0 {
		d.Expires = now.UnixMilli() + min(o.ForMs, rights.MaxLifetime.Milliseconds())
	}
	peer, name, err := n.recipient(ctx, o.To)
	if err != nil {
		return nil, err
	}
	d.Version, d.Mesh, d.Audience = rights.Version(), n.host.Mesh(), peer
	_, _ = rand.Read(d.Nonce[:])
	if err := d.Validate(); err != nil {
		return nil, api.Errorf(api.Invalid, "%s", err.Error())
	}
	chain = append(chain, workload.Sign(workload.DomainToken, wire.MustMarshal(d), key))
	grant, err := n.judge().Open(chain)
	if err != nil {
		return nil, &api.Error{Kind: api.Refused, Message: err.Error(), Hint: "a token that is handed on says no more than it did; `perrin token inspect FILE` shows it"}
	}
	return &api.Token{Text: rights.Text(chain), Subject: grant.Subject, Audience: peer, Name: name, May: grant.May(), Only: grant.Only(),
		Limits: grant.Limits(), Expires: time.UnixMilli(grant.Ends()), Links: len(chain)}, nil
}

// handedOn is a token that this node may hand on.
type handedOn struct {
	chain []workload.Signed
	grant *rights.Grant
}

func (n *Node) tokenToHandOn(text string, now time.Time) (handedOn, error) {
	chain, err := rights.Parse(text)
	if err != nil {
		return handedOn{}, api.Errorf(api.Invalid, "token: %s", err.Error())
	}
	grant, err := n.judge().Open(chain)
	if err == nil {
		grant, err = n.judge().Grant(n.self, chain, grant.May()[0], now)
	}
	if err != nil {
		return handedOn{}, &api.Error{Kind: api.Refused, Message: err.Error(), Hint: "a node hands on only what was given to it; its identity is in `perrin trust status`"}
	}
	return handedOn{chain, grant}, nil
}

func (n *Node) judge() tenancy.Judge {
	return tenancy.Judge{Mesh: n.host.Mesh(), Memo: n.memo, Revoked: n.id.trust.Revoked}
}

// recipient finds the node that a token is for. One that is named by anything but
// its whole identity has to be connected, and its certificate has to say the name.
func (n *Node) recipient(ctx context.Context, text string) (workload.PeerID, string, error) {
	peer, name, err := n.peerNamed(ctx, text)
	if err != nil {
		return peer, name, err
	}
	if _, err := workload.ParsePeerID(text); err == nil {
		return peer, name, nil
	}
	if _, ok := n.host.Admitted(peer); !ok {
		return peer, name, &api.Error{Kind: api.Unavailable, Message: "node " + peer.Short() + " is not connected, so its name cannot be proved", Hint: "name it by its identity: " + peer.String()}
	}
	name, err = n.certified(peer, text)
	return peer, name, err
}
