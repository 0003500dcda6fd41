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
