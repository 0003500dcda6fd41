package apitest

import (
	"context"
	"time"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
)

// MakeToken implements api.Backend: the text only looks like a token's.
func (f *Fake) MakeToken(_ context.Context, o api.TokenOrder) (*api.Token, error) {
	if o.To != "cellar" {
		return nil, api.Errorf(api.NotFound, "no node %.80q is known here", o.To)
	}
	return &api.Token{Text: "perrin-token1.AAAA", Subject: workload.PeerID{8}, Audience: workload.PeerID{6}, Name: o.To, May: o.May, Only: o.Only,
		Limits: o.Limits, Expires: Start.Add(time.Duration(o.ForMs) * time.Millisecond), Links: 1}, nil
}

// RevokeToken implements api.Backend: it judges nothing.
func (f *Fake) RevokeToken(_ context.Context, o api.TokenToRevoke) (*api.RevokedLink, error) {
	if o.Link > 1 {
		return nil, api.Errorf(api.Invalid, "link: the token's links are numbered 1 to 1, got %d", o.Link)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	already := f.revoked[o.Token]
	if f.revoked == nil {
		f.revoked = map[string]bool{}
	}
	f.revoked[o.Token] = true
	return &api.RevokedLink{Link: 1, By: workload.PeerID{8}, Holder: workload.PeerID{6}, Time: Start, Ends: Start.Add(time.Hour), Already: already}, nil
}

// CheckToken implements api.Backend.
func (f *Fake) CheckToken(_ context.Context, text string) (*api.CheckedToken, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.revoked[text] {
		return &api.CheckedToken{Revoked: "token: link 1 of 1 was revoked"}, nil
	}
	return &api.CheckedToken{}, nil
}
