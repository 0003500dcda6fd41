package node

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/rights"
)

// RevokeToken implements api.Backend.
func (g gateway) RevokeToken(_ context.Context, o api.TokenToRevoke) (*api.RevokedLink, error) {
	n := g.n
	chain, grant, err := n.openToken(o.Token)
	if err != nil {
		return nil, err
	}
	at := o.Link
	if at == 0 {
		at = len(chain)
	}
	if at < 1 || at > len(chain) {
		return nil, api.Errorf(api.Invalid, "link: the token's links are numbered 1 to %d, got %d", len(chain), o.Link)
	}
	key := n.issuerOf(chain[:at])
	if key == nil {
		return nil, &api.Error{Kind: api.Unauthorized, Message: fmt.Sprintf("neither this node nor its owner gave link %d, or one before it", at),
			Hint: "revoke on the node that gave it or handed it on; `perrin token inspect FILE` says which"}
	}
	now := time.Now()
	out := &api.RevokedLink{Link: at, By: idOf(key), Holder: grant.Links[at-1].Audience, Time: now, Ends: time.UnixMilli(grant.Links[at-1].Expires)}
	if err := n.id.trust.Revoked(grant.Bounds[:at]); err != nil {
		out.Already = true
		return out, nil
	}
	if now.After(out.Ends.Add(rights.Skew)) {
		return nil, &api.Error{Kind: api.Refused, Message: fmt.Sprintf("link %d ended at %s: there is nothing to revoke", at, out.Ends.UTC().Format("2006-01-02 15:04 UTC"))}
	}
	doc, err := admission.Revoke(key, n.id.key, n.host.Bundle(), chain[:at], now)
	if err == nil {
		err = n.host.Publish(admission.Statements{Revocations: []admission.SignedRevocation{doc}})
	}
	if errors.Is(err, admission.ErrTooMany) {
		return nil, &api.Error{Kind: api.Refused, Message: err.Error(), Hint: "revoke an earlier link (--link 1), which takes the later ones with it, or wait until links end that were revoked"}
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

// CheckToken implements api.Backend.
func (g gateway) CheckToken(_ context.Context, text string) (*api.CheckedToken, error) {
	_, grant, err := g.n.openToken(text)
	if err != nil {
		return nil, err
	}
	out := &api.CheckedToken{}
	if err := g.n.id.trust.Revoked(grant.Bounds); err != nil {
		out.Revoked = err.Error()
	}
	return out, nil
}

// openToken reads and verifies a token of this mesh, but not its time or who holds it.
func (n *Node) openToken(text string) ([]workload.Signed, *rights.Grant, error) {
	chain, err := rights.Parse(text)
	if err != nil {
		return nil, nil, api.Errorf(api.Invalid, "token: %s", err.Error())
	}
	grant, err := n.judge().Open(chain)
	if err != nil {
		return nil, nil, &api.Error{Kind: api.Refused, Message: err.Error(), Hint: "`perrin token inspect FILE` shows it"}
	}
	return chain, grant, nil
}

// issuerOf returns the key of this node or its owner that signed a link, or nil.
func (n *Node) issuerOf(chain []workload.Signed) ed25519.PrivateKey {
	for _, s := range chain {
		for _, key := range []ed25519.PrivateKey{n.id.owner, n.id.key} {
			if s.By == idOf(key) {
				return key
			}
		}
	}
	return nil
}

// stopRevoked has this node, while it leads, end what runs under revoked tokens.
func (n *Node) stopRevoked(ctx context.Context) {
	l := n.currentLeader()
	if l == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	stopped, err := l.StopRevoked(ctx)
	if err != nil {
		n.log.Warn("workloads under a revoked token go on", "err", err)
	}
	if stopped > 0 {
		n.log.Info("workloads stopped, their tokens were revoked", "workloads", stopped)
	}
}
