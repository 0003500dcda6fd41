package api

import (
	"context"
	"net/http"
	"strings"

	"github.com/perrin-mesh/perrin/workload"
)

// Account is what the cell's ledger holds of who pays or is paid, in micro-credits.
type Account struct {
	Peer   workload.PeerID `json:"peer"`           // an owner's key, or a node's
	Name   string          `json:"name,omitempty"` // of a node
	Own    bool            `json:"own,omitempty"`  // what is submitted on this node counts for it
	Spent  int64           `json:"spent"`
	Due    int64           `json:"due"` // for results that are not judged yet
	Earned int64           `json:"earned"`
	Limit  int64           `json:"limit"` // of what is spent; -1 is none
}

// Called reports whether a user's word means the account.
func (a *Account) Called(text string) bool {
	return text != "" && (a.Name == text || strings.HasPrefix(a.Peer.String(), text) || strings.HasPrefix(a.Peer.Short(), text))
}

// QuotaChange sets what an account may spend.
type QuotaChange struct {
	Account string `json:"account"` // its key, or the beginning of one that the cell knows
	Limit   int64  `json:"limit"`   // micro-credits; -1 is none
}

// AccountBackend is the part of a Backend that counts credits.
type AccountBackend interface {
	// Accounts lists this node's and its owner's account; on an operator's node all.
	Accounts(ctx context.Context) ([]Account, error)
	// SetQuota needs an operator's key.
	SetQuota(ctx context.Context, c QuotaChange) (*Account, error)
}

func (s *Server) accountRoutes() {
	s.answer("GET /v1/accounts", func(r *http.Request) (any, error) { return s.backend.Accounts(r.Context()) })
	s.answer("POST /v1/quota", func(r *http.Request) (any, error) {
		var c QuotaChange
		if err := readJSON(r, &c); err != nil {
			return nil, err
		}
		return s.backend.SetQuota(r.Context(), c)
	})
}

// Accounts implements Backend.
func (c *Client) Accounts(ctx context.Context) ([]Account, error) {
	list, err := get[[]Account](ctx, c, "/v1/accounts", nil)
	if err != nil {
		return nil, err
	}
	return *list, nil
}

// SetQuota implements Backend.
func (c *Client) SetQuota(ctx context.Context, change QuotaChange) (*Account, error) {
	return post[Account](ctx, c, "/v1/quota", change)
}
