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
	// RevokeToken takes a link of a token back, for good and everywhere. It needs a key
	// that signed that link or one before it. Doing it twice is no error.
	RevokeToken(ctx context.Context, o TokenToRevoke) (*RevokedLink, error)
	// CheckToken says whether this node has heard that a token was revoked.
	CheckToken(ctx context.Context, text string) (*CheckedToken, error)
}

// TokenToRevoke names a link of a token.
type TokenToRevoke struct {
	Token string `json:"token"`
	Link  int    `json:"link,omitempty"` // from 1; 0 is the last
}

// RevokedLink is a link that counts no more.
type RevokedLink struct {
	Link    int             `json:"link"`
	By      workload.PeerID `json:"by"`     // whose word it is
	Holder  workload.PeerID `json:"holder"` // the node that the link was given to
	Time    time.Time       `json:"time"`
	Ends    time.Time       `json:"ends"` // of the link: then nobody need remember it
	Already bool            `json:"already,omitempty"`
}

// CheckedToken is what a node has heard of a token.
type CheckedToken struct {
	Revoked string `json:"revoked,omitempty"` // which link, by whom and when
}

func (s *Server) tokenRoutes() {
	s.answer("POST /v1/tokens", func(r *http.Request) (any, error) {
		var o TokenOrder
		if err := readJSON(r, &o); err != nil {
			return nil, err
		}
		return s.backend.MakeToken(r.Context(), o)
	})
	s.answer("POST /v1/tokens/revoke", func(r *http.Request) (any, error) {
		var o TokenToRevoke
		if err := readJSON(r, &o); err != nil {
			return nil, err
		}
		return s.backend.RevokeToken(r.Context(), o)
	})
	s.answer("POST /v1/tokens/check", func(r *http.Request) (any, error) {
		var o TokenToRevoke
		if err := readJSON(r, &o); err != nil {
			return nil, err
		}
		return s.backend.CheckToken(r.Context(), o.Token)
	})
}

// MakeToken implements Backend.
func (c *Client) MakeToken(ctx context.Context, o TokenOrder) (*Token, error) {
	return post[Token](ctx, c, "/v1/tokens", o)
}

// RevokeToken implements Backend.
func (c *Client) RevokeToken(ctx context.Context, o TokenToRevoke) (*RevokedLink, error) {
	return post[RevokedLink](ctx, c, "/v1/tokens/revoke", o)
}

// CheckToken implements Backend.
func (c *Client) CheckToken(ctx context.Context, text string) (*CheckedToken, error) {
	return post[CheckedToken](ctx, c, "/v1/tokens/check", TokenToRevoke{Token: text})
}
