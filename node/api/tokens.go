package api

import (
	"context"
	"net/http"
	"time"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/rights"
)

// TokenOrder is what a token is to say. Empty fields of one that hands another on
// (Of) say what that one says.
type TokenOrder struct {
	Of     string               `json:"of,omitempty"` // the text of the token that is handed on; empty makes one of this node's owner
	To     string               `json:"to"`           // a node's name, or its identity
	May    []rights.Capability  `json:"may,omitempty"`
	Only   []workload.ID        `json:"only,omitempty"`
	Limits workload.TokenLimits `json:"limits"`
	ForMs  int64                `json:"for_ms,omitempty"`
}

// Token is a token that was made.
type Token struct {
	Text     string               `json:"token"`
	Subject  workload.PeerID      `json:"subject"` // the owner whose workloads it is about
	Audience workload.PeerID      `json:"audience"`
	Name     string               `json:"name,omitempty"` // of the audience, if it is known here
	May      []rights.Capability  `json:"may"`
	Only     []workload.ID        `json:"only,omitempty"`
	Limits   workload.TokenLimits `json:"limits"`
	Expires  time.Time            `json:"expires"`
	Links    int                  `json:"links"`
}

// TokenBackend is the part of a Backend that hands on what its owner may do.
type TokenBackend interface {
	MakeToken(ctx context.Context, o TokenOrder) (*Token, error)
}

func (s *Server) tokenRoutes() {
	s.answer("POST /v1/tokens", func(r *http.Request) (any, error) {
		var o TokenOrder
		if err := readJSON(r, &o); err != nil {
			return nil, err
		}
		return s.backend.MakeToken(r.Context(), o)
	})
}

// MakeToken implements Backend.
func (c *Client) MakeToken(ctx context.Context, o TokenOrder) (*Token, error) {
	return post[Token](ctx, c, "/v1/tokens", o)
}
